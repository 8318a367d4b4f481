/* SPDX-License-Identifier: MIT */
/* Biases: added to outputs, with the ReLU behind them, and their gradients, with the ReLU's gate before them. Both
 * are one pass over rows x channels, which the device's memory bounds: so where channels come in fours a
 * thread has four of them, and asks for several rows before it waits for the first. */
#include "cuda/bias.h"
#include "cuda/vectors.h"

namespace
{

enum {
    AT_ONCE = 8,            /* rows of a thread that adds a bias */
    LANES = 16,             /* threads that add up the rows of one channel in a block, */
    ACROSS = BLOCK / LANES, /* and channels of a block */
    UNDER_WAY = 4,          /* rows that a thread asks for before it waits for the first */
    PART_ROWS = 256,        /* of a block */
    SINGLE_ROWS = 1024      /* of a block that there is no other beside */
};

/* ---- forward -------------------------------------------------------------------------------- */

/* A thread has one of `channels` and every lanes-th row: so its bias is read once. y: [row][channel] */
template <typename Y>
__global__ void __launch_bounds__(BLOCK)
    add_bias(Y *y, const float *bias, size_t rows, uint32_t channels, uint32_t lanes, bool relu)
{
    typedef typename cuda_wide<Y>::type T;
    size_t thread = (size_t)blockIdx.x * BLOCK + threadIdx.x;
    uint32_t channel = (uint32_t)(thread % channels);
    T added = {};

    if (thread / channels >= lanes)
        return;
    if (bias != NULL)
        nin__cuda_load_parameter(&added, bias, channel);
    for (size_t row = thread / channels; row < rows; row += lanes) {
        T value = nin__cuda_load(y + row * channels + channel);

        if (bias != NULL)
            value = nin__cuda_sum_of(value, added);
        nin__cuda_store(y + row * channels + channel, relu ? nin__cuda_rectified(value) : value);
    }
}

template <typename Y>
nin_status start(struct nin__device *device, Y *y, const float *bias, size_t rows, size_t channels,
                 bool relu)
{
    size_t lanes = (rows + AT_ONCE - 1) / AT_ONCE;

    return nin__cuda_launch_blocks(device, (lanes * channels + BLOCK - 1) / BLOCK, add_bias<Y>, y,
                                   bias, rows, (uint32_t)channels, (uint32_t)lanes, relu);
}

/* ---- backward ------------------------------------------------------------------------------- */

__device__ void put(float *target, float v, bool accumulate)
{
    *target = accumulate ? *target + v : v;
}

__device__ void put(float *target, float4 v, bool accumulate)
{
    put(target, v.x, accumulate);
    put(target + 1, v.y, accumulate);
    put(target + 2, v.z, accumulate);
    put(target + 3, v.w, accumulate);
}

/* target: [part][channel], of part_rows rows each. A block has ACROSS of `channels`, and LANES threads for each,
 * whose sums it adds up. With y the values are gated first, in place. */
template <typename Y>
__global__ void __launch_bounds__(BLOCK)
    sum_rows(float *target, Y *values, const Y *y, size_t rows, uint32_t channels,
             uint32_t part_rows, bool accumulate)
{
    typedef typename cuda_wide<Y>::type T;
    __shared__ T sums[LANES][ACROSS];
    uint32_t groups = (channels + ACROSS - 1) / ACROSS, part = blockIdx.x / groups;
    uint32_t across = threadIdx.x % ACROSS, lane = threadIdx.x / ACROSS;
    uint32_t channel = blockIdx.x % groups * ACROSS + across;
    size_t first = (size_t)part * part_rows;
    size_t end = first + part_rows < rows ? first + part_rows : rows;
    T sum = {};

    for (size_t row = first + lane; channel < channels && row < end; row += UNDER_WAY * LANES) {
        T value[UNDER_WAY] = {}, output[UNDER_WAY] = {};

#pragma unroll
        for (uint32_t i = 0; i < UNDER_WAY; i++)
            if (row + i * LANES < end) {
                size_t at = (row + i * LANES) * channels + channel;

                value[i] = nin__cuda_load(values + at);
                if (y != NULL)
                    output[i] = nin__cuda_load(y + at);
            }
#pragma unroll
        for (uint32_t i = 0; i < UNDER_WAY; i++)
            if (row + i * LANES < end) {
                if (y != NULL) {
                    value[i] = nin__cuda_gated(value[i], output[i]);
                    nin__cuda_store(values + (row + i * LANES) * channels + channel, value[i]);
                }
                sum = nin__cuda_sum_of(sum, value[i]);
            }
    }
    sums[lane][across] = sum;
    __syncthreads();
    if (lane > 0 || channel >= channels)
        return;
    for (uint32_t i = 1; i < LANES; i++)
        sum = nin__cuda_sum_of(sum, sums[i][across]);
    put(target + ((size_t)part * channels + channel) * sizeof(T) / sizeof(float), sum, accumulate);
}

/* A rule of the number alone, for it orders sums. */
size_t parts_of(size_t rows)
{
    return rows <= SINGLE_ROWS ? 1 : (rows + PART_ROWS - 1) / PART_ROWS;
}

template <typename Y>
nin_status start_sums(struct nin__device *device, float *target, Y *values, const Y *y, size_t rows,
                      size_t channels, bool accumulate)
{
    size_t parts = parts_of(rows), part_rows = (rows + parts - 1) / parts;

    return nin__cuda_launch_blocks(device, parts * ((channels + ACROSS - 1) / ACROSS), sum_rows<Y>,
                                   target, values, y, rows, (uint32_t)channels, (uint32_t)part_rows,
                                   accumulate);
}

template <typename Y>
nin_status add_rows(struct nin__device *device, float *target, Y *values, const Y *y, size_t rows,
                    size_t channels, bool accumulate)
{
    return channels % 4 == 0 ? start_sums(device, target, nin__cuda_fours_of(values),
                                          nin__cuda_fours_of(y), rows, channels / 4, accumulate)
                             : start_sums(device, target, values, y, rows, channels, accumulate);
}

template <typename Y>
nin_status add(struct nin__device *device, Y *y, const float *bias, size_t rows, size_t channels,
               bool relu)
{
    return channels % 4 == 0 ? start(device, nin__cuda_fours_of(y), bias, rows, channels / 4, relu)
                             : start(device, y, bias, rows, channels, relu);
}

/* The first of the parts of sums: those of values that may be bf16; all later ones are float. */
nin_status add_values(const struct cuda_call *call, float *target, const struct cuda_values *v,
                      bool accumulate)
{
    size_t channels = (size_t)call->op->out.c;

    return v->narrow ? add_rows(call->device, target, (cuda_bf16 *)v->values,
                                (const cuda_bf16 *)v->y, v->rows, channels, accumulate)
                     : add_rows(call->device, target, (float *)v->values, (const float *)v->y,
                                v->rows, channels, accumulate);
}

} // namespace

nin_status nin__cuda_add_bias(struct nin__device *device, void *y, bool narrow, const float *bias,
                              size_t rows, size_t channels, bool relu)
{
    return narrow ? add(device, (cuda_bf16 *)y, bias, rows, channels, relu)
                  : add(device, (float *)y, bias, rows, channels, relu);
}

/* Added up in parts, and these in parts, until there is one. */
nin_status nin__cuda_bias_gradient(const struct cuda_call *call, struct cuda_values v, float *sums)
{
    for (size_t parts; (parts = parts_of(v.rows)) > 1;) {
        NIN__TRY(add_values(call, sums, &v, false));
        v = cuda_values{sums, NULL, parts, false};
        sums += parts * (size_t)call->op->out.c;
    }
    return add_values(call, call->run->gradient + call->op->bias, &v, call->run->accumulate);
}

size_t nin__cuda_sum_parts(size_t rows)
{
    size_t sum = 0;

    for (size_t parts; (parts = parts_of(rows)) > 1; rows = parts)
        sum += parts;
    return sum;
}
