/* SPDX-License-Identifier: MIT */
/* Biases: added to outputs, with the ReLU behind them, and their gradients, with the ReLU's gate
 * before them. Both are one pass over rows x channels, which the device's memory bounds: so where
 * channels come in fours a thread has four of them, and asks for several rows before it waits for
 * the first. */
#include "cuda/bias.h"
#include "cuda/vectors.h"

namespace
{

enum {
    AT_ONCE = 8,            /* rows of a thread that adds a bias */
    LANES = 16,             /* threads that add up the rows of one channel in a block, */
    ACROSS = BLOCK / LANES, /* and channels of a block */
    UNDER_WAY = 4,          /* rows that a thread asks for before it waits for the first */
    PART_ROWS = 256,        /* of a block, or more, */
    MOST_PARTS = 1024,      /* for there are no more blocks of the same channels; */
    SINGLE_ROWS = 1024      /* of a block that there is no other beside */
};

/* ---- forward -------------------------------------------------------------------------------- */

/* A thread has one of `channels` and every lanes-th row: so its bias is read once. y:
 * [row][channel] */
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

/* What is added up: rows x channels; with y it is gated first, in place. Blocks have some channels
 * of a part of the rows each, and the last one that is through with these channels adds up the
 * parts. */
template <typename Y> struct rows {
    Y *values;
    const Y *y;
    size_t count;
    uint32_t channels, parts, part_rows;
};

/* A block has ACROSS channels, and LANES threads for each. */
struct lane {
    uint32_t part, group, channel, number;
};

__device__ struct lane this_lane(uint32_t channels)
{
    uint32_t groups = (channels + ACROSS - 1) / ACROSS, group = blockIdx.x % groups;
    struct lane lane = {blockIdx.x / groups, group, group * ACROSS + threadIdx.x % ACROSS,
                        threadIdx.x / ACROSS};

    return lane;
}

/* Of every LANES-th row of the block's part. */
template <typename Y>
__device__ typename cuda_wide<Y>::type sum_of_part(const struct rows<Y> &r, struct lane lane)
{
    typedef typename cuda_wide<Y>::type T;
    size_t first = (size_t)lane.part * r.part_rows;
    size_t end = first + r.part_rows < r.count ? first + r.part_rows : r.count;
    T sum = {};

    for (size_t row = first + lane.number; lane.channel < r.channels && row < end;
         row += UNDER_WAY * LANES) {
        T value[UNDER_WAY] = {}, output[UNDER_WAY] = {};

#pragma unroll
        for (uint32_t i = 0; i < UNDER_WAY; i++)
            if (row + i * LANES < end) {
                size_t at = (row + i * LANES) * r.channels + lane.channel;

                value[i] = nin__cuda_load(r.values + at);
                if (r.y != NULL)
                    output[i] = nin__cuda_load(r.y + at);
            }
#pragma unroll
        for (uint32_t i = 0; i < UNDER_WAY; i++)
            if (row + i * LANES < end) {
                if (r.y != NULL) {
                    value[i] = nin__cuda_gated(value[i], output[i]);
                    nin__cuda_store(r.values + (row + i * LANES) * r.channels + lane.channel,
                                    value[i]);
                }
                sum = nin__cuda_sum_of(sum, value[i]);
            }
    }
    return sum;
}

/* Of every LANES-th part, which other blocks have written: not this multiprocessor's cache is
 * asked. */
template <typename T>
__device__ T sum_of_parts(const T *sums, uint32_t channels, uint32_t parts, struct lane lane)
{
    T sum = {};

    for (uint32_t part = lane.number; lane.channel < channels && part < parts;
         part += UNDER_WAY * LANES) {
        T value[UNDER_WAY] = {};

#pragma unroll
        for (uint32_t i = 0; i < UNDER_WAY; i++)
            if (part + i * LANES < parts)
                value[i] = __ldcg(sums + (size_t)(part + i * LANES) * channels + lane.channel);
#pragma unroll
        for (uint32_t i = 0; i < UNDER_WAY; i++)
            if (part + i * LANES < parts)
                sum = nin__cuda_sum_of(sum, value[i]);
    }
    return sum;
}

/* The lanes' sums of a channel, in order: lane 0 has it. */
template <typename T> __device__ T sum_of_lanes(T (*lanes)[ACROSS], T sum, struct lane lane)
{
    uint32_t across = threadIdx.x % ACROSS;

    lanes[lane.number][across] = sum;
    __syncthreads();
    for (uint32_t i = 1; lane.number == 0 && i < LANES; i++)
        sum = nin__cuda_sum_of(sum, lanes[i][across]);
    return sum;
}

/* Whether all other blocks of these channels have written their sums. The ticket is then 0 again,
 * for the next. */
__device__ bool is_last(unsigned *ticket, uint32_t parts)
{
    __shared__ bool last;

    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0)
        last = atomicInc(ticket, parts - 1) == parts - 1;
    __syncthreads();
    __threadfence();
    return last;
}

/* sums: [part][channel]; tickets: one for each ACROSS channels */
template <typename Y, typename T>
__global__ void __launch_bounds__(BLOCK)
    sum_rows(float *target, T *sums, unsigned *tickets, struct rows<Y> r, bool accumulate)
{
    __shared__ T lanes[LANES][ACROSS];
    struct lane lane = this_lane(r.channels);
    bool mine = lane.number == 0 && lane.channel < r.channels;
    T sum = sum_of_lanes(lanes, sum_of_part(r, lane), lane);

    if (r.parts > 1) {
        if (mine)
            sums[(size_t)lane.part * r.channels + lane.channel] = sum;
        if (!is_last(tickets + lane.group, r.parts))
            return;
        sum = sum_of_lanes(lanes, sum_of_parts(sums, r.channels, r.parts, lane), lane);
    }
    if (mine)
        put(target + (size_t)lane.channel * sizeof(T) / sizeof(float), sum, accumulate);
}

/* A rule of the number alone, for it orders sums. */
size_t parts_of(size_t rows)
{
    size_t parts = rows <= SINGLE_ROWS ? 1 : (rows + PART_ROWS - 1) / PART_ROWS;

    return parts < (size_t)MOST_PARTS ? parts : (size_t)MOST_PARTS;
}

template <typename Y>
nin_status start_sums(const struct cuda_call *call, Y *values, const Y *y, size_t count,
                      size_t channels, float *sums)
{
    typedef typename cuda_wide<Y>::type T;
    size_t parts = parts_of(count), groups = (channels + ACROSS - 1) / ACROSS;
    struct rows<Y> rows = {
        values, y, count, (uint32_t)channels, (uint32_t)parts,
            (uint32_t)((count + parts - 1) / parts)
    };

    return nin__cuda_launch_blocks(call->device, parts * groups, sum_rows<Y, T>,
                                   call->run->gradient + call->op->bias, (T *)(void *)sums,
                                   call->executable->tickets, rows, call->run->accumulate);
}

template <typename Y>
nin_status add_rows(const struct cuda_call *call, Y *values, const Y *y, size_t rows, float *sums)
{
    size_t channels = (size_t)call->op->out.c;

    return channels % 4 == 0 ? start_sums(call, nin__cuda_fours_of(values), nin__cuda_fours_of(y),
                                          rows, channels / 4, sums)
                             : start_sums(call, values, y, rows, channels, sums);
}

template <typename Y>
nin_status add(struct nin__device *device, Y *y, const float *bias, size_t rows, size_t channels,
               bool relu)
{
    return channels % 4 == 0 ? start(device, nin__cuda_fours_of(y), bias, rows, channels / 4, relu)
                             : start(device, y, bias, rows, channels, relu);
}

} // namespace

nin_status nin__cuda_add_bias(struct nin__device *device, void *y, bool narrow, const float *bias,
                              size_t rows, size_t channels, bool relu)
{
    return narrow ? add(device, (cuda_bf16 *)y, bias, rows, channels, relu)
                  : add(device, (float *)y, bias, rows, channels, relu);
}

nin_status nin__cuda_bias_gradient(const struct cuda_call *call, struct cuda_values v, float *sums)
{
    return v.narrow ? add_rows(call, (cuda_bf16 *)v.values, (const cuda_bf16 *)v.y, v.rows, sums)
                    : add_rows(call, (float *)v.values, (const float *)v.y, v.rows, sums);
}

size_t nin__cuda_sum_parts(size_t rows)
{
    size_t parts = parts_of(rows);

    return parts > 1 ? parts : 0;
}

size_t nin__cuda_tickets(const struct nin__op *op)
{
    return ((size_t)op->out.c + ACROSS - 1) / ACROSS;
}
