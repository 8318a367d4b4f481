/* SPDX-License-Identifier: MIT */
/* Sums over pixels: a block makes a tile of the filters and the patch, over one part of the rows. */
#include "cuda/product_copies.h"

namespace
{

enum {
    PART_BLOCKS = 264 /* of the largest tiles, that sums over rows are cut into, or so */
};

/* What LANES threads copy next: rows of maps, and of windows a pixel. */
struct outer_rows {
    const float *dy, *x;
    struct pixel pixel;
};

template <bool FLAT>
__device__ struct outer_rows outer_rows_of(const struct cuda_parts_product &o, uint32_t first,
                                           uint32_t k0)
{
    uint32_t row = first + threadIdx.x / LANES;
    struct outer_rows rows = {o.dy.data + (size_t)row * o.dy.row, NULL, {}};

    if (FLAT)
        rows.x = o.x.data + (size_t)row * o.x.row + k0;
    else
        rows.pixel = pixel_of(o.x, row);
    return rows;
}

/* DEPTH rows of both operands from row0 on, as far as they are before `end`; *rows goes on. */
template <bool FLAT, int FILTERS, int TAPS>
__device__ void copy_outer(float4 (*dy_tile)[FILTERS / 4], float4 (*x_tile)[TAPS / 4],
                           const struct cuda_parts_product &o, struct outer_rows *rows,
                           const struct tap *taps, uint32_t row0, uint32_t end, uint32_t n0,
                           uint32_t k0)
{
    uint32_t line = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    bool there = row0 + line < end;
    int32_t filters = there ? (int32_t)(o.dy.depth - n0) : 0;
    int32_t patch = there ? (int32_t)(o.x.depth - k0) : 0;

    copy_row<FILTERS / 4>(dy_tile[line], rows->dy, filters, o.dy.fours);
    if constexpr (FLAT) {
        copy_row<TAPS / 4>(x_tile[line], rows->x, patch, o.x.fours);
        rows->x += (size_t)DEPTH * o.x.row;
    } else {
        struct corner at = corner_of(rows->pixel, o.x.windows);

#pragma unroll
        for (uint32_t v = lane; v < TAPS / 4; v += LANES)
            copy_seen(&x_tile[line][v], o.x.windows, at, taps + 4 * v, patch - (int32_t)(4 * v));
        advance(&rows->pixel, o.x.windows);
    }
    rows->dy += (size_t)DEPTH * o.dy.row;
}

/* A tile of THREADS / CT * TM filters and CT * TN elements of the patch, over one part. */
template <bool FLAT, int TM, int TN, int CT>
__global__ void __launch_bounds__(THREADS, at_once(TM *TN))
    multiply_parts(struct cuda_parts_product o)
{
    enum {
        RT = THREADS / CT,
        FILTERS = RT * TM,
        TAPS = CT * TN
    };
    __shared__ float4 dy_tile[STAGES][DEPTH][FILTERS / 4];
    __shared__ float4 x_tile[STAGES][DEPTH][TAPS / 4];
    __shared__ struct tap taps[FLAT ? 1 : TAPS];
    uint32_t filters = o.dy.depth, patch = o.x.depth;
    uint32_t tiles = (patch + TAPS - 1) / TAPS, all = (filters + FILTERS - 1) / FILTERS * tiles;
    uint32_t tile = blockIdx.x % all, part = blockIdx.x / all % o.cut.parts;
    uint32_t point = blockIdx.x / all / o.cut.parts;
    uint32_t n0 = tile / tiles * FILTERS, k0 = tile % tiles * TAPS;
    uint32_t first = part * o.cut.part_rows, down = threadIdx.x / CT, across = threadIdx.x % CT;
    uint32_t end = first + o.cut.part_rows < o.dy.count ? first + o.cut.part_rows : o.dy.count;
    float sums[TM][TN] = {}, bias = 0.0f, *result;
    struct outer_rows rows;

    o.dy.data += point * o.dy.point + n0;
    o.x.data += point * o.x.point;
    rows = outer_rows_of<FLAT>(o, first, k0);
    if constexpr (!FLAT) {
        if (threadIdx.x < TAPS)
            taps[threadIdx.x] = tap_of(o.x.windows, k0 + threadIdx.x);
        __syncthreads();
    }
    for (uint32_t row = first, turn = 0; row < end + (STAGES - 1) * DEPTH; row += DEPTH, turn++) {
        uint32_t into = turn % STAGES, stage = (turn + 1) % STAGES;

        wait_for_copies(turn);
        if (row < end)
            copy_outer<FLAT, FILTERS, TAPS>(dy_tile[into], x_tile[into], o, &rows, taps, row, end,
                                            n0, k0);
        __pipeline_commit();
        if (turn + 1 < STAGES)
            continue;
        if (o.bias && k0 == 0 && threadIdx.x < FILTERS)
#pragma unroll
            for (uint32_t r = 0; r < DEPTH; r++)
                bias += ((const float *)(const void *)dy_tile[stage][r])[threadIdx.x];
#pragma unroll 2
        for (uint32_t r = 0; r < DEPTH; r++) {
            float4 a[TM / 4];

#pragma unroll
            for (int i = 0; i < TM / 4; i++)
                a[i] = dy_tile[stage][r][down + RT * i];
#pragma unroll
            for (int j = 0; j < TN / 4; j++) {
                float4 b = x_tile[stage][r][across + CT * j];

#pragma unroll
                for (int i = 0; i < TM; i++)
#pragma unroll
                    for (int e = 0; e < 4; e++)
                        sums[i][4 * j + e] = __fmaf_rn(component(a[i / 4], i % 4), component(b, e),
                                                       sums[i][4 * j + e]);
            }
        }
    }
    result = o.sums + ((size_t)point * o.cut.parts + part) *
                          ((size_t)filters * patch + (o.bias ? filters : 0));
#pragma unroll
    for (int i = 0; i < TM; i++)
#pragma unroll
        for (int j = 0; j < TN; j++) {
            uint32_t n = n0 + 4 * (down + RT * (i / 4)) + i % 4;
            uint32_t k = k0 + 4 * (across + CT * (j / 4)) + j % 4;

            if (n < filters && k < patch)
                result[(size_t)n * patch + k] = sums[i][j];
        }
    if (o.bias && k0 == 0 && threadIdx.x < FILTERS && n0 + threadIdx.x < filters)
        result[(size_t)filters * patch + n0 + threadIdx.x] = bias;
}

/* ---- which tiles ---------------------------------------------------------------------------- */

/* Filters of a tile of sums, which go with so many elements of the patch: see
 * nin__cuda_multiply_parts. */
struct outer_tile {
    uint32_t filters, taps;
};

struct outer_tile choose_tile(uint32_t filters, uint32_t patch, bool flat)
{
    const struct outer_tile of_maps[] = {{64, 96}, {64, 32}, {64, 64}, {96, 128}, {128, 48}};
    const struct outer_tile of_windows[] = {{64, 96}, {128, 32}};
    struct outer_tile best = of_maps[0];
    double least = INFINITY;

    for (int i = 0; i < (flat ? 5 : 2); i++) {
        struct outer_tile t = flat ? of_maps[i] : of_windows[i];
        double cost = (1.0 + 16.0 / t.taps) * t.filters * nin__cuda_tiles_over(filters, t.filters) *
                      t.taps * nin__cuda_tiles_over(patch, t.taps);

        if (cost < least) {
            least = cost;
            best = t;
        }
    }
    return best;
}

uint32_t tiles_of(struct outer_tile tile, uint32_t filters, uint32_t patch)
{
    return nin__cuda_tiles_over(filters, tile.filters) * nin__cuda_tiles_over(patch, tile.taps);
}

template <bool FLAT, int TM, int TN, int CT>
nin_status start_tile(struct nin__device *device, const struct cuda_parts_product *o)
{
    size_t tiles = (size_t)nin__cuda_tiles_over(o->dy.depth, THREADS / CT * TM) *
                   nin__cuda_tiles_over(o->x.depth, CT * TN);

    return nin__cuda_launch_threads(device, tiles * o->cut.parts * o->points, THREADS,
                                    multiply_parts<FLAT, TM, TN, CT>, *o);
}

} // namespace

/* Where parts are given, and so few that multiprocessors would wait, tiles are small. */
nin_status nin__cuda_multiply_parts(struct nin__device *device, const struct cuda_parts_product *o)
{
    struct outer_tile tile = choose_tile(o->dy.depth, o->x.depth, o->x.flat);
    size_t blocks = (size_t)o->points * o->cut.parts * tiles_of(tile, o->dy.depth, o->x.depth);

    if (o->points > 1 && blocks < PART_BLOCKS)
        return start_tile<true, 4, 4, 8>(device, o);
    switch (tile.taps) {
    case 128:
        return start_tile<true, 12, 8, 16>(device, o);
    case 96:
        return o->x.flat ? start_tile<true, 4, 12, 8>(device, o)
                         : start_tile<false, 4, 12, 8>(device, o);
    case 64:
        return start_tile<true, 4, 8, 8>(device, o);
    case 48:
        return start_tile<true, 4, 12, 4>(device, o);
    default:
        return o->x.flat ? start_tile<true, 4, 4, 8>(device, o)
                         : start_tile<false, 8, 4, 8>(device, o);
    }
}

uint32_t nin__cuda_most_parts(uint32_t filters, uint32_t patch, bool flat, uint32_t rows)
{
    struct outer_tile tile = choose_tile(filters, patch, flat);
    uint32_t tiles = tiles_of(tile, filters, patch);
    uint32_t smaller = tile.taps > 32 ? 1 : 256 / tile.filters; /* small tiles wait more */
    uint32_t blocks = smaller * PART_BLOCKS;
    uint32_t wanted = nin__cuda_tiles_over(blocks, tiles);
    uint32_t possible = nin__cuda_tiles_over(rows, DEPTH);

    return wanted < possible ? wanted : possible;
}

void nin__cuda_cut_rows(struct cuda_parts_product *o)
{
    uint32_t most = nin__cuda_most_parts(o->dy.depth, o->x.depth, o->x.flat, o->dy.count);

    o->cut = nin__cuda_cut(o->dy.count, most, DEPTH);
}
