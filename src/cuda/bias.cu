/* SPDX-License-Identifier: MIT */
/* Biases: added to outputs, with the ReLU behind them, and their gradients, with the ReLU's gate
 * before them. Both are one pass over rows x channels, which the device's memory bounds: so where
 * channels come in fours a thread has four of them, which count as one here, and asks for several
 * rows before it waits for the first. */
#include "cuda/bias.h"
#include "cuda/vectors.h"

namespace
{

enum {
    THREAD_ROWS = 8,  /* of a thread that adds a bias, and of one that adds up rows, or more; */
    ADDED = 4,        /* it asks for so many before it waits for the first, */
    SUMMED = 8,       /* or for so many, */
    GATED = 4,        /* or, where each needs a gate, for those of so many */
    MOST_ACROSS = 32, /* channels of a block that adds up rows, */
    MOST_BLOCKS = 512 /* and such blocks: more would not all run at once, and leave more sums */
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
    for (size_t row = thread / channels; row < rows; row += ADDED * (size_t)lanes) {
        T value[ADDED] = {};

#pragma unroll
        for (uint32_t i = 0; i < ADDED; i++)
            if (row + i * (size_t)lanes < rows)
                value[i] = nin__cuda_load(y + (row + i * (size_t)lanes) * channels + channel);
#pragma unroll
        for (uint32_t i = 0; i < ADDED; i++)
            if (row + i * (size_t)lanes < rows) {
                T v = bias == NULL ? value[i] : nin__cuda_sum_of(value[i], added);

                nin__cuda_store(y + (row + i * (size_t)lanes) * channels + channel,
                                relu ? nin__cuda_rectified(v) : v);
            }
    }
}

template <typename Y>
nin_status start(struct nin__device *device, Y *y, const float *bias, size_t rows, size_t channels,
                 bool relu)
{
    size_t lanes = (rows + THREAD_ROWS - 1) / THREAD_ROWS;

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

/* How rows x channels are added up. Blocks have `across` channels, with as many lanes as there are
 * threads for each, of one part of the rows, and the last one that is through with these channels
 * adds up the parts. */
struct grid {
    uint32_t groups, across, lanes; /* of channels; channels of one; threads of a channel */
    uint32_t parts;
};

/* A rule of the shape alone, for it orders sums: more rows are not in fewer parts. */
struct grid grid_of(size_t rows, size_t channels)
{
    struct grid grid;
    size_t most, parts;

    grid.groups = nin__cuda_tiles_over(channels, MOST_ACROSS);
    grid.across = nin__cuda_tiles_over(channels, grid.groups);
    grid.lanes = BLOCK / grid.across;
    parts = (rows + THREAD_ROWS * grid.lanes - 1) / (THREAD_ROWS * grid.lanes);
    most = grid.groups < MOST_BLOCKS ? MOST_BLOCKS / grid.groups : 1;
    grid.parts = (uint32_t)(parts <= 2 ? 1 : parts < most ? parts : most);
    return grid;
}

/* With y, values are gated first, in place. */
template <typename Y> struct rows {
    Y *values;
    const Y *y;
    size_t count, part_rows;
    uint32_t channels;
    struct grid grid;
};

/* Threads of no lane have the number grid.lanes, and no channel. */
struct lane {
    uint32_t part, group, channel, number;
    bool any;
};

__device__ struct lane this_lane(const struct grid &grid, uint32_t channels)
{
    uint32_t group = blockIdx.x % grid.groups, across = threadIdx.x % grid.across;
    struct lane lane = {blockIdx.x / grid.groups, group, group * grid.across + across,
                        threadIdx.x / grid.across, false};

    lane.any = lane.number < grid.lanes && lane.channel < channels;
    return lane;
}

/* Of the lane's rows of the block's part, of which it asks for the next ones together. */
template <int AT_ONCE, bool GATES, typename Y>
__device__ typename cuda_wide<Y>::type sum_of_part(const struct rows<Y> &r, struct lane lane)
{
    typedef typename cuda_wide<Y>::type T;
    uint32_t lanes = r.grid.lanes;
    size_t first = lane.part * r.part_rows;
    size_t end = first + r.part_rows < r.count ? first + r.part_rows : r.count;
    T sum = {};

    for (size_t row = first + lane.number; lane.any && row < end; row += AT_ONCE * lanes) {
        T value[AT_ONCE] = {}, output[AT_ONCE] = {};

#pragma unroll
        for (uint32_t i = 0; i < AT_ONCE; i++)
            if (row + i * lanes < end) {
                size_t at = (row + i * lanes) * r.channels + lane.channel;

                value[i] = nin__cuda_load(r.values + at);
                if (GATES)
                    output[i] = nin__cuda_load(r.y + at);
            }
#pragma unroll
        for (uint32_t i = 0; i < AT_ONCE; i++)
            if (row + i * lanes < end) {
                if (GATES) {
                    value[i] = nin__cuda_gated(value[i], output[i]);
                    nin__cuda_store(r.values + (row + i * lanes) * r.channels + lane.channel,
                                    value[i]);
                }
                sum = nin__cuda_sum_of(sum, value[i]);
            }
    }
    return sum;
}

/* Of the lane's parts, which other blocks have written: not this multiprocessor's cache is
 * asked. */
template <typename T>
__device__ T sum_of_parts(const T *sums, uint32_t channels, const struct grid &grid,
                          struct lane lane)
{
    T sum = {};

    for (uint32_t part = lane.number; lane.any && part < grid.parts; part += SUMMED * grid.lanes) {
        T value[SUMMED] = {};

#pragma unroll
        for (uint32_t i = 0; i < SUMMED; i++)
            if (part + i * grid.lanes < grid.parts)
                value[i] = __ldcg(sums + (size_t)(part + i * grid.lanes) * channels + lane.channel);
#pragma unroll
        for (uint32_t i = 0; i < SUMMED; i++)
            sum = nin__cuda_sum_of(sum, value[i]);
    }
    return sum;
}

/* The lanes' sums of a channel, by halves: lane 0 has it. */
template <typename T>
__device__ T sum_of_lanes(T *sums, T sum, const struct grid &grid, struct lane lane)
{
    sums[threadIdx.x] = sum;
    for (uint32_t left = grid.lanes, half; left > 1; left = half) {
        half = (left + 1) / 2;
        __syncthreads();
        if (lane.number + half < left) {
            sum = nin__cuda_sum_of(sum, sums[threadIdx.x + half * grid.across]);
            sums[threadIdx.x] = sum;
        }
    }
    __syncthreads(); /* before others go on to use them */
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

/* sums: [part][channel]; tickets: one for each group of channels */
template <int AT_ONCE, bool GATES, typename Y, typename T>
__global__ void __launch_bounds__(BLOCK, 4)
    sum_rows(float *target, T *sums, unsigned *tickets, struct rows<Y> r, bool accumulate)
{
    __shared__ T lanes[BLOCK];
    struct lane lane = this_lane(r.grid, r.channels);
    bool mine = lane.number == 0 && lane.any;
    T sum = sum_of_lanes(lanes, sum_of_part<AT_ONCE, GATES>(r, lane), r.grid, lane);

    if (r.grid.parts > 1) {
        if (mine)
            sums[(size_t)lane.part * r.channels + lane.channel] = sum;
        if (!is_last(tickets + lane.group, r.grid.parts))
            return;
        sum = sum_of_lanes(lanes, sum_of_parts(sums, r.channels, r.grid, lane), r.grid, lane);
    }
    if (mine)
        put(target + (size_t)lane.channel * sizeof(T) / sizeof(float), sum, accumulate);
}

template <typename Y>
nin_status start_sums(const struct cuda_call *call, Y *values, const Y *y, size_t count,
                      size_t channels, float *sums)
{
    typedef typename cuda_wide<Y>::type T;
    struct grid grid = grid_of(count, channels);
    struct rows<Y> rows = {
        values, y, count, (count + grid.parts - 1) / grid.parts, (uint32_t)channels, grid
    };

    return nin__cuda_launch_blocks(call->device, (size_t)grid.parts * grid.groups,
                                   y == NULL ? sum_rows<SUMMED, false, Y, T>
                                             : sum_rows<GATED, true, Y, T>,
                                   call->run->gradient + call->op->bias, (T *)(void *)sums,
                                   call->executable->tickets, rows, call->run->accumulate);
}

/* What counts as one. */
size_t vectors_of(size_t channels)
{
    return channels % 4 == 0 ? channels / 4 : channels;
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

size_t nin__cuda_sum_parts(size_t rows, size_t channels)
{
    size_t parts = grid_of(rows, vectors_of(channels)).parts;

    return parts > 1 ? parts : 0;
}

size_t nin__cuda_tickets(const struct nin__op *op)
{
    return grid_of(0, vectors_of((size_t)op->out.c)).groups;
}
