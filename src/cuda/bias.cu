/* SPDX-License-Identifier: MIT */
/* Biases: added to outputs, with the ReLU behind them, and their gradients, with the ReLU's gate before them. Both
 * are one pass over rows x channels, which the device's memory bounds: so where channels come in fours a
 * thread has four of them, and asks for several rows before it waits for the first. */
#include "cuda/bias.h"

namespace
{

enum {
    SUM_ROWS = 64, /* that one thread adds up of a bias's gradient */
    AT_ONCE = 8    /* rows that it has under way */
};

/* A thread's channels: one, or four in a vector. A NaN stays one; a gradient behind it does not pass. */
__device__ float rectified(float v)
{
    return v < 0.0f ? 0.0f : v;
}

__device__ float4 rectified(float4 v)
{
    float4 result = {rectified(v.x), rectified(v.y), rectified(v.z), rectified(v.w)};

    return result;
}

__device__ float gated(float dy, float y)
{
    return y > 0.0f ? dy : 0.0f;
}

__device__ float4 gated(float4 dy, float4 y)
{
    float4 result = {gated(dy.x, y.x), gated(dy.y, y.y), gated(dy.z, y.z), gated(dy.w, y.w)};

    return result;
}

__device__ float sum_of(float a, float b)
{
    return a + b;
}

__device__ float4 sum_of(float4 a, float4 b)
{
    float4 result = {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};

    return result;
}

/* The arena gives no vector a place that is a multiple of its size. */
__device__ void load(float *value, const float *bias, uint32_t channel)
{
    *value = bias[channel];
}

__device__ void load(float4 *value, const float *bias, uint32_t channel)
{
    float4 loaded = {bias[4 * channel], bias[4 * channel + 1], bias[4 * channel + 2],
                     bias[4 * channel + 3]};

    *value = loaded;
}

/* ---- forward -------------------------------------------------------------------------------- */

/* A thread has one of `channels` and every lanes-th row: so its bias is read once. y: [row][channel] */
template <typename T>
__device__ void finish_outputs(T *y, const float *bias, size_t rows, uint32_t channels,
                               uint32_t lanes, bool relu)
{
    size_t thread = (size_t)blockIdx.x * BLOCK + threadIdx.x;
    uint32_t channel = (uint32_t)(thread % channels);
    T added = {};

    if (thread / channels >= lanes)
        return;
    if (bias != NULL)
        load(&added, bias, channel);
    for (size_t row = thread / channels; row < rows; row += lanes) {
        T value = y[row * channels + channel];

        if (bias != NULL)
            value = sum_of(value, added);
        y[row * channels + channel] = relu ? rectified(value) : value;
    }
}

__global__ void __launch_bounds__(BLOCK)
    add_bias(float *y, const float *bias, size_t rows, uint32_t channels, uint32_t lanes, bool relu)
{
    finish_outputs(y, bias, rows, channels, lanes, relu);
}

__global__ void __launch_bounds__(BLOCK)
    add_bias_fours(float4 *y, const float *bias, size_t rows, uint32_t channels, uint32_t lanes,
                   bool relu)
{
    finish_outputs(y, bias, rows, channels, lanes, relu);
}

/* ---- backward ------------------------------------------------------------------------------- */

/* sums: [part][channel], of SUM_ROWS rows each. With y the values are gated first, in place. */
template <typename T>
__device__ void sum_part(T *sums, T *values, const T *y, size_t rows, uint32_t channels)
{
    struct image_element at =
        nin__cuda_element(channels); /* a part is what an image is elsewhere */
    size_t first = (size_t)at.image * SUM_ROWS;
    size_t end = first + SUM_ROWS < rows ? first + SUM_ROWS : rows;
    T sum = {};

    if (at.element >= channels)
        return;
    for (size_t row = first; row < end; row += AT_ONCE) {
        T value[AT_ONCE], output[AT_ONCE];

#pragma unroll
        for (uint32_t i = 0; i < AT_ONCE; i++)
            if (row + i < end) {
                value[i] = values[(row + i) * channels + at.element];
                if (y != NULL)
                    output[i] = y[(row + i) * channels + at.element];
            }
#pragma unroll
        for (uint32_t i = 0; i < AT_ONCE; i++)
            if (row + i < end) {
                if (y != NULL)
                    values[(row + i) * channels + at.element] = value[i] =
                        gated(value[i], output[i]);
                sum = sum_of(sum, value[i]);
            }
    }
    sums[(size_t)at.image * channels + at.element] = sum;
}

__global__ void __launch_bounds__(BLOCK)
    sum_rows(float *sums, float *values, const float *y, size_t rows, uint32_t channels)
{
    sum_part(sums, values, y, rows, channels);
}

__global__ void __launch_bounds__(BLOCK)
    sum_rows_fours(float4 *sums, float4 *values, const float4 *y, size_t rows, uint32_t channels)
{
    sum_part(sums, values, y, rows, channels);
}

__global__ void __launch_bounds__(BLOCK)
    sum_parts(float *gradient, const float *sums, size_t parts, size_t channels, bool accumulate)
{
    FOR_EACH_ELEMENT (c, channels) {
        float sum = 0.0f;

#pragma unroll 8
        for (size_t part = 0; part < parts; part++)
            sum += sums[part * channels + c];
        gradient[c] = accumulate ? gradient[c] + sum : sum;
    }
}

float4 *fours(float *values)
{
    return (float4 *)(void *)values;
}

} // namespace

nin_status nin__cuda_add_bias(struct nin__device *device, float *y, const float *bias, size_t rows,
                              size_t channels, bool relu)
{
    size_t lanes = (rows + AT_ONCE - 1) / AT_ONCE;
    size_t vectors = channels % 4 == 0 ? channels / 4 : channels;
    size_t blocks = (lanes * vectors + BLOCK - 1) / BLOCK;

    if (channels % 4 == 0)
        return nin__cuda_launch_blocks(device, blocks, add_bias_fours, fours(y), bias, rows,
                                       (uint32_t)vectors, (uint32_t)lanes, relu);
    return nin__cuda_launch_blocks(device, blocks, add_bias, y, bias, rows, (uint32_t)vectors,
                                   (uint32_t)lanes, relu);
}

/* Added up in parts, and these in parts, until few are left. */
nin_status nin__cuda_bias_gradient(const struct cuda_call *call, float *values, const float *y,
                                   size_t rows, float *sums)
{
    size_t channels = (size_t)call->op->out.c;

    do {
        size_t parts = (rows + SUM_ROWS - 1) / SUM_ROWS;

        if (channels % 4 == 0)
            NIN__TRY(nin__cuda_launch_images(
                call->device, (int32_t)parts, channels / 4, sum_rows_fours, fours(sums),
                fours(values), (const float4 *)(const void *)y, rows, (uint32_t)(channels / 4)));
        else
            NIN__TRY(nin__cuda_launch_images(call->device, (int32_t)parts, channels, sum_rows, sums,
                                             values, y, rows, (uint32_t)channels));
        values = sums;
        sums += parts * channels;
        rows = parts;
        y = NULL;
    } while (rows > SUM_ROWS);
    return nin__cuda_launch(call->device, channels, sum_parts, call->run->gradient + call->op->bias,
                            (const float *)values, rows, channels, call->run->accumulate);
}

size_t nin__cuda_sum_parts(size_t rows)
{
    size_t parts = 0;

    do {
        rows = (rows + SUM_ROWS - 1) / SUM_ROWS;
        parts += rows;
    } while (rows > SUM_ROWS);
    return parts;
}
