/* SPDX-License-Identifier: MIT */
/* A block makes a tile of the result. It brings DEPTH columns, or rows, of both operands into
 * shared memory while it multiplies the DEPTH before; each thread has sums of TM x TN elements in
 * registers, so that one load there serves several of its multiply-adds. cuBLAS needs up to twice
 * as long for matrices with so few columns, and passes of their own for bias, ReLU and gate. */
#include "cuda/product.h"
#include "cuda/vectors.h"

#include <cuda_pipeline.h>

/* nvcc does not see those of a template. */
#pragma nv_diag_suppress missing_launch_bounds

namespace
{

/* Blocks that a multiprocessor is to have at once, for so many sums of a thread: 168 or 128
 * registers each. */
constexpr int at_once(int sums)
{
    return sums > 64 ? 3 : 4;
}

enum {
    THREADS = 128,    /* of a block */
    DEPTH = 16,       /* of what comes into shared memory at a time */
    STAGES = 2,       /* what is multiplied, and what comes */
    FEW_BLOCKS = 384, /* with fewer, tiles are cut in two */
    PART_BLOCKS = 264 /* of the largest tiles, that sums over rows are cut into, or so */
};

__device__ float4 zeros()
{
    float4 v = {0.0f, 0.0f, 0.0f, 0.0f};

    return v;
}

/* Where a window begins, in its image. */
struct corner {
    const float *image;
    int32_t y, x;
};

__device__ struct corner corner_of(const struct cuda_rows &a, uint32_t row)
{
    const struct windows &w = a.windows;
    uint32_t pixels = (uint32_t)w.out_h * (uint32_t)w.out_w, pixel = row % pixels;
    struct corner corner = {a.data + (size_t)(row / pixels) * nin__cuda_in_size(w),
                            (int32_t)(pixel / (uint32_t)w.out_w) * w.stride - w.pad,
                            (int32_t)(pixel % (uint32_t)w.out_w) * w.stride - w.pad};

    return corner;
}

/* An element of a window. */
struct tap {
    int32_t r, s, c;
    bool there;
};

__device__ struct tap tap_of(const struct cuda_rows &a, uint32_t k)
{
    uint32_t channels = (uint32_t)a.windows.in_c, width = (uint32_t)a.windows.kernel_w;
    struct tap tap = {(int32_t)(k / channels / width), (int32_t)(k / channels % width),
                      (int32_t)(k % channels), k < a.depth};

    return tap;
}

__device__ float seen(const struct windows &w, const struct corner &at, const struct tap &tap)
{
    int32_t y = at.y + tap.r, x = at.x + tap.s;
    bool inside = tap.there && y >= 0 && y < w.in_h && x >= 0 && x < w.in_w;

    return inside ? at.image[(y * w.in_w + x) * w.in_c + tap.c] : 0.0f;
}

__device__ float element(const struct cuda_rows &a, uint32_t row, uint32_t k)
{
    return k < a.depth ? a.data[(size_t)row * a.row + k] : 0.0f;
}

/* WIDTH vectors of `rows` rows into shared memory, from element k0 on; zeros behind the last row
 * and the last element. What is copied as it is comes while the thread goes on. */
template <bool FLAT, int WIDTH>
__device__ void load_tile(float4 (*tile)[WIDTH + 1], uint32_t rows, const struct cuda_rows &a,
                          uint32_t row0, uint32_t end, uint32_t k0)
{
    struct tap taps[4];

    if (!FLAT)
#pragma unroll
        for (uint32_t e = 0; e < 4; e++)
            taps[e] = tap_of(a, k0 + threadIdx.x % WIDTH * 4 + e);
#pragma unroll 2 /* more would only keep more addresses */
    for (uint32_t i = threadIdx.x; i < rows * WIDTH; i += THREADS) {
        uint32_t row = row0 + i / WIDTH, k = k0 + i % WIDTH * 4;
        float4 *target = &tile[i / WIDTH][i % WIDTH], v = zeros();

        if (FLAT && a.fours) {
            bool there = row < end && k < a.depth;

            __pipeline_memcpy_async(target, a.data + (there ? (size_t)row * a.row + k : 0),
                                    sizeof *target, there ? 0 : sizeof *target);
            continue;
        }
        if (row < end && FLAT) {
            v.x = element(a, row, k);
            v.y = element(a, row, k + 1);
            v.z = element(a, row, k + 2);
            v.w = element(a, row, k + 3);
        } else if (row < end) {
            struct corner at = corner_of(a, row);

            if (THREADS % WIDTH != 0) /* else the thread's elements are the same in each row */
#pragma unroll
                for (uint32_t e = 0; e < 4; e++)
                    taps[e] = tap_of(a, k + e);
            v.x = seen(a.windows, at, taps[0]);
            v.y = seen(a.windows, at, taps[1]);
            v.z = seen(a.windows, at, taps[2]);
            v.w = seen(a.windows, at, taps[3]);
        }
        *target = v;
    }
}

/* `i` is known when this is compiled, and so is the component. */
__device__ float component(const float4 &v, int i)
{
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* ---- rows times a matrix -------------------------------------------------------------------- */

/* Of DEPTH x COLUMNS elements: neighbours in memory go to neighbouring threads, but no two of a
 * warp to one bank. */
template <int COLUMNS>
__device__ void load_b(float4 (*tile)[COLUMNS / 4 + 1], const struct cuda_rows_product &p,
                       uint32_t k0, uint32_t n0)
{
#pragma unroll 2
    for (uint32_t i = threadIdx.x; i < DEPTH * COLUMNS; i += THREADS) {
        bool along = p.b_column == 1;
        uint32_t k = along ? i / COLUMNS : i % 8 + i / 32 % (DEPTH / 8) * 8;
        uint32_t n = along ? i % COLUMNS : i / 8 % 4 + i / (4 * DEPTH) * 4;
        bool there = k0 + k < p.a.depth && n0 + n < p.columns;
        size_t from = (size_t)(k0 + k) * p.b_depth + (size_t)(n0 + n) * p.b_column;

        __pipeline_memcpy_async((float *)(void *)tile[k] + n, p.b + (there ? from : 0),
                                sizeof(float), there ? 0 : sizeof(float));
    }
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

/* Rows `apart` from `row` on, and vectors of columns from n on, CT vectors apart: for some rows
 * everything is read before anything is written, for the compiler cannot know that no gate is an
 * output. */
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
                    v = nin__cuda_sum_of(v, load_four(to, p.columns - at));
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
    __shared__ float4 a_tile[STAGES][ROWS][DEPTH / 4 + 1];
    __shared__ float4 b_tile[STAGES][DEPTH][COLUMNS / 4 + 1];
    uint32_t tiles = (p.columns + COLUMNS - 1) / COLUMNS, point = blockIdx.x / blocks;
    uint32_t row0 = blockIdx.x % blocks / tiles * ROWS;
    uint32_t n0 = blockIdx.x % blocks % tiles * COLUMNS;
    uint32_t down = threadIdx.x / CT, across = threadIdx.x % CT;
    float sums[TM][TN] = {};

    p.a.data += point * p.a.point;
    p.b += point * p.b_point;
    p.c += point * p.c_point;
    for (uint32_t k0 = 0, stage = 0; k0 < p.a.depth + DEPTH; k0 += DEPTH, stage ^= 1) {
        if (k0 < p.a.depth) {
            load_tile<FLAT, DEPTH / 4>(a_tile[stage], ROWS, p.a, row0, p.a.count, k0);
            load_b<COLUMNS>(b_tile[stage], p, k0, n0);
        }
        __pipeline_commit();
        if (k0 == 0)
            continue;
        __pipeline_wait_prior(1);
        __syncthreads();
#pragma unroll
        for (uint32_t k = 0; k < DEPTH / 4; k++) {
            float4 a[TM];

#pragma unroll
            for (int i = 0; i < TM; i++)
                a[i] = a_tile[stage ^ 1][down + RT * i][k];
#pragma unroll
            for (int step = 0; step < 4; step++)
#pragma unroll
                for (int j = 0; j < TN / 4; j++) {
                    float4 b = b_tile[stage ^ 1][4 * k + step][across + CT * j];

#pragma unroll
                    for (int i = 0; i < TM; i++)
#pragma unroll
                        for (int e = 0; e < 4; e++)
                            sums[i][4 * j + e] = __fmaf_rn(component(a[i], step), component(b, e),
                                                           sums[i][4 * j + e]);
                }
        }
        __syncthreads(); /* all have read what the next copies overwrite */
    }
    finish_rows<TM, TN, CT>(p, sums, row0 + down, RT, n0 + 4 * across);
}

/* ---- sums over pixels ----------------------------------------------------------------------- */

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
    __shared__ float4 dy_tile[STAGES][DEPTH][FILTERS / 4 + 1];
    __shared__ float4 x_tile[STAGES][DEPTH][TAPS / 4 + 1];
    uint32_t filters = o.dy.depth, patch = o.x.depth;
    uint32_t tiles = (patch + TAPS - 1) / TAPS, all = (filters + FILTERS - 1) / FILTERS * tiles;
    uint32_t tile = blockIdx.x % all, part = blockIdx.x / all % o.cut.parts;
    uint32_t point = blockIdx.x / all / o.cut.parts;
    uint32_t n0 = tile / tiles * FILTERS, k0 = tile % tiles * TAPS;
    uint32_t first = part * o.cut.part_rows, down = threadIdx.x / CT, across = threadIdx.x % CT;
    uint32_t end = first + o.cut.part_rows < o.dy.count ? first + o.cut.part_rows : o.dy.count;
    float *result = o.sums + ((size_t)point * o.cut.parts + part) *
                                 ((size_t)filters * patch + (o.bias ? filters : 0));
    float sums[TM][TN] = {}, bias = 0.0f;

    o.dy.data += point * o.dy.point;
    o.x.data += point * o.x.point;
    for (uint32_t row = first, stage = 0; row < end + DEPTH; row += DEPTH, stage ^= 1) {
        if (row < end) {
            load_tile<true, FILTERS / 4>(dy_tile[stage], DEPTH, o.dy, row, end, n0);
            load_tile<FLAT, TAPS / 4>(x_tile[stage], DEPTH, o.x, row, end, k0);
        }
        __pipeline_commit();
        if (row == first)
            continue;
        __pipeline_wait_prior(1);
        __syncthreads();
        if (o.bias && k0 == 0 && threadIdx.x < FILTERS)
#pragma unroll
            for (uint32_t r = 0; r < DEPTH; r++)
                bias += ((const float *)(const void *)dy_tile[stage ^ 1][r])[threadIdx.x];
#pragma unroll 4
        for (uint32_t r = 0; r < DEPTH; r++) {
            float4 a[TM / 4];

#pragma unroll
            for (int i = 0; i < TM / 4; i++)
                a[i] = dy_tile[stage ^ 1][r][down + RT * i];
#pragma unroll
            for (int j = 0; j < TN / 4; j++) {
                float4 b = x_tile[stage ^ 1][r][across + CT * j];

#pragma unroll
                for (int i = 0; i < TM; i++)
#pragma unroll
                    for (int e = 0; e < 4; e++)
                        sums[i][4 * j + e] = __fmaf_rn(component(a[i / 4], i % 4), component(b, e),
                                                       sums[i][4 * j + e]);
            }
        }
        __syncthreads();
    }
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

/* Columns of a tile, and what its products cost beside those of the widest: it loads more often. */
struct width {
    uint32_t columns;
    double cost;
};

/* The cheapest for so many columns. */
uint32_t choose_width(const struct width *widths, int count, uint32_t columns)
{
    uint32_t best = widths[0].columns;
    double least = INFINITY;

    for (int i = 0; i < count; i++) {
        double cost =
            widths[i].cost * widths[i].columns * nin__cuda_tiles_over(columns, widths[i].columns);

        if (cost < least) {
            least = cost;
            best = widths[i].columns;
        }
    }
    return best;
}

template <bool FLAT, int TM, int TN, int CT>
nin_status start_product(struct nin__device *device, const struct cuda_rows_product *p)
{
    size_t rows = nin__cuda_tiles_over(p->a.count, THREADS / CT * TM);
    size_t blocks = rows * nin__cuda_tiles_over(p->columns, CT * TN);

    return nin__cuda_launch_threads(device, p->points * blocks, THREADS,
                                    multiply_rows<FLAT, TM, TN, CT>, *p, (uint32_t)blocks);
}

/* Tiles of 256 or 128 rows, or half of them where there would be too few blocks. Windows are short,
 * so what they waste in the widest tiles is little. */
template <int TM>
nin_status start_width(struct nin__device *device, const struct cuda_rows_product *p)
{
    const struct width widths[] = {{96, 1.0}, {64, 1.1}, {48, 1.05}, {32, 1.3}};

    if (!p->a.flat)
        return start_product<false, TM, 12, 8>(device, p);
    switch (choose_width(widths, 4, p->columns)) {
    case 96:
        return start_product<true, TM, 12, 8>(device, p);
    case 64:
        return start_product<true, TM, 8, 8>(device, p);
    case 48:
        return start_product<true, TM, 12, 4>(device, p);
    default:
        return start_product<true, TM, 4, 8>(device, p);
    }
}

/* Filters of a tile of sums, which go with so many elements of the patch: see
 * nin__cuda_multiply_parts. */
struct outer_tile {
    uint32_t filters, taps;
};

struct outer_tile choose_tile(uint32_t filters, uint32_t patch, bool flat)
{
    const struct outer_tile tiles[] = {{64, 96}, {64, 32}, {64, 64}, {96, 128}, {128, 48}};
    int count = flat ? 5 : 2; /* the others are for maps only */
    struct outer_tile best = tiles[0];
    double least = INFINITY;

    for (int i = 0; i < count; i++) {
        struct outer_tile t = tiles[i];
        double cost = (1.0 + 16.0 / t.taps) * t.filters * nin__cuda_tiles_over(filters, t.filters) *
                      t.taps * nin__cuda_tiles_over(patch, t.taps);

        if (cost < least) {
            least = cost;
            best = t;
        }
    }
    return best;
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

nin_status nin__cuda_multiply_rows(struct nin__device *device, const struct cuda_rows_product *p)
{
    size_t blocks = (size_t)nin__cuda_tiles_over(p->a.count, 128) *
                    nin__cuda_tiles_over(p->columns, 64) * p->points;

    return blocks < FEW_BLOCKS ? start_width<4>(device, p) : start_width<8>(device, p);
}

nin_status nin__cuda_multiply_parts(struct nin__device *device, const struct cuda_parts_product *o)
{
    switch (choose_tile(o->dy.depth, o->x.depth, o->x.flat).taps) {
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
                         : start_tile<false, 4, 4, 8>(device, o);
    }
}

uint32_t nin__cuda_most_parts(uint32_t filters, uint32_t patch, bool flat, uint32_t rows)
{
    struct outer_tile tile = choose_tile(filters, patch, flat);
    uint32_t tiles =
        nin__cuda_tiles_over(filters, tile.filters) * nin__cuda_tiles_over(patch, tile.taps);
    uint32_t blocks = tile.taps > 32 ? PART_BLOCKS : 4 * PART_BLOCKS; /* small tiles wait more */
    uint32_t wanted = nin__cuda_tiles_over(blocks, tiles);
    uint32_t possible = nin__cuda_tiles_over(rows, DEPTH);

    return wanted < possible ? wanted : possible;
}

void nin__cuda_cut_rows(struct cuda_parts_product *o)
{
    uint32_t most = nin__cuda_most_parts(o->dy.depth, o->x.depth, o->x.flat, o->dy.count);

    o->cut = nin__cuda_cut(o->dy.count, most, DEPTH);
}
