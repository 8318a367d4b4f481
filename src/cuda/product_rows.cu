/* SPDX-License-Identifier: MIT */
/* Rows times a matrix: a block makes a tile of the result. cuBLAS needs up to twice as long for
 * matrices with so few columns, and passes of their own for bias, ReLU and gate. */
#include "cuda/product_copies.h"
#include "cuda/vectors.h"

namespace
{

enum {
    WIDTH = DEPTH / 4 /* vectors of DEPTH elements */
};

__device__ float4 zeros()
{
    float4 v = {0.0f, 0.0f, 0.0f, 0.0f};

    return v;
}

/* What a block of windows looks up, once it is there. */
template <int ROWS> struct look_up {
    struct corner corners[ROWS];
    struct tap taps[CUDA_MOST_TAPS];
};

template <int ROWS>
__device__ void fill(struct look_up<ROWS> *look, const struct cuda_rows &a, uint32_t row0)
{
    for (uint32_t row = threadIdx.x; row < ROWS; row += THREADS)
        look->corners[row] = corner_of(pixel_of(a, row0 + row), a.windows);
    for (uint32_t k = threadIdx.x; k < a.depth; k += THREADS)
        look->taps[k] = tap_of(a.windows, k);
    __syncthreads();
}

/* DEPTH elements of ROWS rows, from (row0, k0) on. from: the thread's first of a map */
template <bool FLAT, int ROWS, typename Look>
__device__ void copy_a(float4 (*tile)[WIDTH], const struct cuda_rows &a, const float *from,
                       const Look &look, uint32_t row0, uint32_t k0)
{
    enum {
        APART = THREADS / WIDTH
    };
    uint32_t first = threadIdx.x / WIDTH, vector = threadIdx.x % WIDTH;
    int32_t left = (int32_t)(a.depth - k0 - 4 * vector);

#pragma unroll
    for (uint32_t row = 0; row < ROWS; row += APART) {
        bool there = row0 + first + row < a.count;
        float4 *to = &tile[first + row][vector];

        if constexpr (FLAT)
            copy_four(to, from + (size_t)row * a.row, there ? left : 0, a.fours);
        else
            copy_seen(to, a.windows, look.corners[first + row], look.taps + k0 + 4 * vector,
                      there ? left : 0);
    }
}

/* Which of DEPTH x COLUMNS elements a thread copies first. Of b that is turned, no two of a warp go
 * to one bank. */
struct spot {
    uint32_t k, n;
};

__device__ struct spot spot_of(const struct cuda_rows_product &p)
{
    struct spot along = {threadIdx.x / LANES, 0};
    struct spot turned = {threadIdx.x % 8 + threadIdx.x / 32 % (DEPTH / 8) * 8,
                          threadIdx.x / 8 % 4 + threadIdx.x / (4 * DEPTH) * 4};

    return p.b_column == 1 ? along : turned;
}

/* Of b from (k0, n0) on; from: the thread's first there */
template <int COLUMNS>
__device__ void copy_b(float4 (*tile)[COLUMNS / 4 + 1], const struct cuda_rows_product &p,
                       const float *from, uint32_t k0, uint32_t n0)
{
    enum {
        APART = THREADS / DEPTH
    };
    struct spot spot = spot_of(p);
    bool there = k0 + spot.k < p.a.depth;

    if (p.b_column == 1) {
        copy_row<COLUMNS / 4>(tile[spot.k], from, there ? (int32_t)(p.columns - n0) : 0, p.fours);
        return;
    }
#pragma unroll
    for (uint32_t i = 0; i < COLUMNS; i += APART)
        copy_float((float *)(void *)tile[spot.k] + spot.n + i, from + (size_t)i * p.b_column,
                   there && n0 + spot.n + i < p.columns);
}

__device__ float4 load_four(const float *from, uint32_t count)
{
    float4 v = {count > 0 ? from[0] : 0.0f, count > 1 ? from[1] : 0.0f, count > 2 ? from[2] : 0.0f,
                count > 3 ? from[3] : 0.0f};

    return v;
}

__device__ void store_four(float *to, float4 v, uint32_t count)
{
    if (count > 0)
        to[0] = v.x;
    if (count > 1)
        to[1] = v.y;
    if (count > 2)
        to[2] = v.z;
    if (count > 3)
        to[3] = v.w;
}

/* What follows a sum; a NaN stays, unless its gate is shut. */
__device__ float4 finished(float4 sum, float4 bias, float4 gate, bool relu)
{
    float4 value = nin__cuda_sum_of(sum, bias);

    return nin__cuda_gated(relu ? nin__cuda_rectified(value) : value, gate);
}

/* Rows `apart` from `row` on, and vectors of columns from n on, CT vectors apart: the gates of some
 * rows are read before anything is written, for the compiler cannot know that none is an output. */
template <int TM, int TN, int CT>
__device__ void finish_rows(const struct cuda_rows_product &p, float (*sums)[TN], uint32_t row,
                            uint32_t apart, uint32_t n)
{
    enum {
        TOGETHER = 2 /* as registers allow */
    };
    bool fours = p.columns % 4 == 0;
    float4 bias[TN / 4];

#pragma unroll
    for (int j = 0; j < TN / 4; j++) {
        uint32_t at = n + 4 * CT * j;

        bias[j] =
            p.bias == NULL || at >= p.columns ? zeros() : load_four(p.bias + at, p.columns - at);
    }
#pragma unroll
    for (int first = 0; first < TM; first += TOGETHER) {
        float4 gate[TOGETHER][TN / 4];

#pragma unroll
        for (int i = 0; i < TOGETHER; i++)
#pragma unroll
            for (int j = 0; j < TN / 4; j++) {
                uint32_t at = n + 4 * CT * j, r = row + apart * (first + i);
                const float *from = p.gate + (size_t)r * p.columns + at;
                float4 open = {1.0f, 1.0f, 1.0f, 1.0f};

                gate[i][j] = p.gate == NULL || r >= p.a.count || at >= p.columns ? open
                             : fours ? *(const float4 *)(const void *)from
                                     : load_four(from, p.columns - at);
            }
#pragma unroll
        for (int i = 0; i < TOGETHER; i++)
#pragma unroll
            for (int j = 0; j < TN / 4; j++) {
                uint32_t at = n + 4 * CT * j, r = row + apart * (first + i);
                const float *sum = sums[first + i] + 4 * j;
                float *to = p.c + (size_t)r * p.columns + at;
                float4 v = {sum[0], sum[1], sum[2], sum[3]};

                if (r >= p.a.count || at >= p.columns)
                    continue;
                if (p.add)
                    v = nin__cuda_sum_of(v, fours ? *(const float4 *)(const void *)to
                                                  : load_four(to, p.columns - at));
                v = finished(v, bias[j], gate[i][j], p.relu);
                if (fours)
                    *(float4 *)(void *)to = v;
                else
                    store_four(to, v, p.columns - at);
            }
    }
}

/* blocks: of a point. Threads are CT across and THREADS / CT down. A thread's rows lie THREADS / CT
 * apart, its columns in vectors of four that lie CT vectors apart. */
template <bool FLAT, int TM, int TN, int CT>
__global__ void __launch_bounds__(THREADS, at_once(TM *TN))
    multiply_rows(struct cuda_rows_product p, uint32_t blocks)
{
    enum {
        RT = THREADS / CT,
        ROWS = RT * TM,
        COLUMNS = CT * TN
    };
    __shared__ float4 a_tile[STAGES][ROWS][WIDTH];
    __shared__ float4 b_tile[STAGES][DEPTH][COLUMNS / 4 + 1];
    __shared__ struct look_up<FLAT ? 1 : ROWS> look;
    uint32_t tiles = (p.columns + COLUMNS - 1) / COLUMNS, point = blockIdx.x / blocks;
    uint32_t row0 = blockIdx.x % blocks / tiles * ROWS;
    uint32_t n0 = blockIdx.x % blocks % tiles * COLUMNS;
    uint32_t down = threadIdx.x / CT, across = threadIdx.x % CT;
    float sums[TM][TN] = {};
    const float *from_a, *from_b;
    struct spot spot = spot_of(p);

    p.c += point * p.c_point;
    from_a = p.a.data + point * p.a.point + (size_t)(row0 + threadIdx.x / WIDTH) * p.a.row +
             threadIdx.x % WIDTH * 4;
    from_b =
        p.b + point * p.b_point + (size_t)spot.k * p.b_depth + (size_t)(n0 + spot.n) * p.b_column;
    if constexpr (!FLAT)
        fill(&look, p.a, row0);
    for (uint32_t k0 = 0, turn = 0; k0 < p.a.depth + (STAGES - 1) * DEPTH; k0 += DEPTH, turn++) {
        uint32_t into = turn % STAGES, stage = (turn + 1) % STAGES;

        wait_for_copies(turn);
        if (k0 < p.a.depth) {
            copy_a<FLAT, ROWS>(a_tile[into], p.a, from_a, look, row0, k0);
            copy_b<COLUMNS>(b_tile[into], p, from_b, k0, n0);
            from_a += DEPTH;
            from_b += (size_t)DEPTH * p.b_depth;
        }
        __pipeline_commit();
        if (turn + 1 < STAGES)
            continue;
#pragma unroll 2
        for (uint32_t k = 0; k < WIDTH; k++) {
            float4 a[TM];

#pragma unroll
            for (int i = 0; i < TM; i++)
                a[i] = a_tile[stage][down + RT * i][k];
#pragma unroll
            for (int step = 0; step < 4; step++)
#pragma unroll
                for (int j = 0; j < TN / 4; j++) {
                    float4 b = b_tile[stage][4 * k + step][across + CT * j];

#pragma unroll
                    for (int i = 0; i < TM; i++)
#pragma unroll
                        for (int e = 0; e < 4; e++)
                            sums[i][4 * j + e] = __fmaf_rn(component(a[i], step), component(b, e),
                                                           sums[i][4 * j + e]);
                }
        }
    }
    finish_rows<TM, TN, CT>(p, sums, row0 + down, RT, n0 + 4 * across);
}

/* ---- which tiles ---------------------------------------------------------------------------- */

template <bool FLAT, int TM, int TN, int CT>
nin_status start_product(struct nin__device *device, const struct cuda_rows_product *p)
{
    size_t rows = nin__cuda_tiles_over(p->a.count, THREADS / CT * TM);
    size_t blocks = rows * nin__cuda_tiles_over(p->columns, CT * TN);

    return nin__cuda_launch_threads(device, p->points * blocks, THREADS,
                                    multiply_rows<FLAT, TM, TN, CT>, *p, (uint32_t)blocks);
}

/* A tile of products; together: blocks of it on a multiprocessor of sm_90; load: what one k of an
 * element costs, in multiply-adds, the loads of its operands included. */
struct tile {
    uint32_t rows, columns;
    double together, load;
    nin_status (*start)(struct nin__device *device, const struct cuda_rows_product *product);
};

const struct tile all_tiles[] = {{128, 64, at_once(64), 1.22, start_product<true, 8, 8, 8>},
                                 {256, 48, at_once(96), 1.18, start_product<true, 8, 12, 4>},
                                 {128, 48, at_once(48), 1.29, start_product<true, 4, 12, 4>},
                                 {64, 32, 5.0, 1.44, start_product<true, 4, 4, 8>}};

/* What a product takes, in cycles, beside other tiles. A block needs some 850 cycles to begin and,
 * for what comes behind its sums, as long as 38 more k. Those that run at once wait for one another
 * so that j of them take as long as j + 1.5 would without. (Fitted to what 128 products of the
 * presets took on an H200: 10 % off.) */
double cycles_of(const struct cuda_rows_product *p, const struct tile *tile, int multiprocessors)
{
    double blocks = (double)p->points * nin__cuda_tiles_over(p->a.count, tile->rows) *
                    nin__cuda_tiles_over(p->columns, tile->columns);
    double depth = (double)nin__cuda_tiles_over(p->a.depth, DEPTH) * DEPTH;
    double block = tile->rows * tile->columns * (depth * tile->load + 38.0) / THREADS + 850.0;
    double each = ceil(blocks / multiprocessors), rounds = floor(each / tile->together);
    double rest = each - rounds * tile->together;

    return block * (rounds * (tile->together + 1.5) + (rest > 0.0 ? rest + 1.5 : 0.0));
}

} // namespace

/* Which tile it is changes no bits: each element is the sum over k in order. */
nin_status nin__cuda_multiply_rows(struct nin__device *device, const struct cuda_rows_product *p)
{
    struct cuda_rows_product product = *p;
    const struct tile *best = all_tiles;

    product.fours = p->b_depth % 4 == 0 && p->columns % 4 == 0 && (uintptr_t)p->b % 16 == 0;
    if (!p->a.flat)
        return start_product<false, 4, 12, 8>(device, &product);
    for (const struct tile &tile : all_tiles)
        if (cycles_of(p, &tile, device->multiprocessors) <
            cycles_of(p, best, device->multiprocessors))
            best = &tile;
    return best->start(device, &product);
}
