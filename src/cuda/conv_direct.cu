/* SPDX-License-Identifier: MIT */
/* Convolution in one kernel a pass, without windows in memory: a 1x1 convolution, and the first layer, whose
 * windows are short. With K = kernel_h * kernel_w * C and a row for each pixel of the output,
 *
 *     y  = act(x' w' + b)      (pixels x OC), x' the windows, pixels x K
 *     dx = dy w                (pixels x C), 0 where x is not positive, if a ReLU made it; of a longer window
 *                              as conv_gemm.cu has it
 *     dw = dy' x'              (OC x K), and db the sums of dy, in parts of some pixels, which are added up
 *
 * A block makes a tile of the result. It brings DEPTH columns, or rows, of both operands into shared memory while
 * it multiplies the DEPTH before; each thread has sums of TM x TN elements in registers, so that one load there
 * serves several of its multiply-adds. cuBLAS needs twice as long for matrices with so few columns, and passes of their own for
 * bias, ReLU and gate. */
#include "cuda/conv.h"

#include <cuda_pipeline.h>

/* nvcc does not see those of a template. */
#pragma nv_diag_suppress missing_launch_bounds

namespace
{

enum {
    THREADS = 128,      /* of a block */
    BLOCKS_AT_ONCE = 3, /* of a multiprocessor, which leaves a thread 168 registers */
    DEPTH = 16,         /* of what comes into shared memory at a time */
    STAGES = 2,         /* what is multiplied, and what comes */
    FEW_BLOCKS = 384,   /* with fewer, tiles are cut in two */
    PART_BLOCKS = 264,  /* of the largest tiles, that sums over pixels are cut into, or so */
    FINISH_LANES = 16,  /* threads that add up the parts of one element */
    FINISH_ELEMENTS = BLOCK / FINISH_LANES,
    MOST_TAPS = 512,  /* of a window that is not in memory, */
    MOST_CHANNELS = 4 /* where channels are so few that none is read in vectors anyway */
};

/* A matrix of rows x depth: of a map, row for pixel, or of its windows. */
struct rows {
    const float *data;
    struct windows windows;
    uint32_t count, depth;
    bool flat;  /* the map itself: kernels know it as FLAT */
    bool fours; /* four neighbours in a row, from a multiple of four on, lie where a float4 may */
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

__device__ struct corner corner_of(const struct rows &a, uint32_t row)
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

__device__ struct tap tap_of(const struct rows &a, uint32_t k)
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

__device__ float element(const struct rows &a, uint32_t row, uint32_t k)
{
    return k < a.depth ? a.data[(size_t)row * a.depth + k] : 0.0f;
}

/* WIDTH vectors of `rows` rows into shared memory, from element k0 on; zeros behind the last row and the last
 * element. What is copied as it is comes while the thread goes on. */
template <bool FLAT, int WIDTH>
__device__ void load_tile(float4 (*tile)[WIDTH + 1], uint32_t rows, const struct rows &a,
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

            __pipeline_memcpy_async(target, a.data + (there ? (size_t)row * a.depth + k : 0),
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

/* c (rows x columns) = a b, element (k, n) of b at b[k * b_depth + n * b_column]; then what follows. */
struct product {
    struct rows a;
    const float *b;
    uint32_t b_depth, b_column;
    float *c;
    uint32_t columns;
    const float *bias; /* columns, or NULL */
    const float *gate; /* laid out as c, or NULL */
    bool relu;
};

/* Of DEPTH x COLUMNS elements: neighbours in memory go to neighbouring threads, but no two of a warp to one
 * bank. */
template <int COLUMNS>
__device__ void load_b(float4 (*tile)[COLUMNS / 4 + 1], const struct product &p, uint32_t k0,
                       uint32_t n0)
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
__device__ float finished(float sum, float bias, float gate, bool relu)
{
    float value = sum + bias;

    value = relu && value < 0.0f ? 0.0f : value;
    return gate > 0.0f ? value : 0.0f;
}

/* Rows `apart` from `row` on, and vectors of columns from n on, CT vectors apart: for some rows everything is read
 * before anything is written, for the compiler cannot know that no gate is an output. */
template <int TM, int TN, int CT>
__device__ void finish_rows(const struct product &p, float (*sums)[TN], uint32_t row,
                            uint32_t apart, uint32_t n)
{
    enum {
        TOGETHER = TN > 8 ? 2 : 4 /* as registers allow */
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
                float4 v = {finished(sum[0], bias[j].x, gate[i][j].x, p.relu),
                            finished(sum[1], bias[j].y, gate[i][j].y, p.relu),
                            finished(sum[2], bias[j].z, gate[i][j].z, p.relu),
                            finished(sum[3], bias[j].w, gate[i][j].w, p.relu)};

                if (r >= p.a.count || at >= p.columns)
                    continue;
                if (fours)
                    *(float4 *)(void *)to = v;
                else
                    store_four(to, v, p.columns - at);
            }
    }
}

/* Threads are CT across and THREADS / CT down. A thread's rows lie THREADS / CT apart, its columns in vectors of
 * four that lie CT vectors apart. */
template <bool FLAT, int TM, int TN, int CT>
__global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE) multiply_rows(struct product p)
{
    enum {
        RT = THREADS / CT,
        ROWS = RT * TM,
        COLUMNS = CT * TN
    };
    __shared__ float4 a_tile[STAGES][ROWS][DEPTH / 4 + 1];
    __shared__ float4 b_tile[STAGES][DEPTH][COLUMNS / 4 + 1];
    uint32_t tiles = (p.columns + COLUMNS - 1) / COLUMNS;
    uint32_t row0 = blockIdx.x / tiles * ROWS, n0 = blockIdx.x % tiles * COLUMNS;
    uint32_t down = threadIdx.x / CT, across = threadIdx.x % CT;
    float sums[TM][TN] = {};

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

/* sums: [part][filter][patch], and behind these [filter] of the bias; each part has so many rows. */
struct outer {
    struct rows dy, x;
    float *sums;
    uint32_t part_rows;
};

/* A tile of THREADS / CT * TM filters and CT * TN elements of the patch, over one part. */
template <bool FLAT, int TM, int TN, int CT>
__global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE) multiply_parts(struct outer o)
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
    uint32_t tile = blockIdx.x % all, part = blockIdx.x / all;
    uint32_t n0 = tile / tiles * FILTERS, k0 = tile % tiles * TAPS;
    uint32_t first = part * o.part_rows, down = threadIdx.x / CT, across = threadIdx.x % CT;
    uint32_t end = first + o.part_rows < o.dy.count ? first + o.part_rows : o.dy.count;
    float *result = o.sums + (size_t)part * ((size_t)filters * patch + filters);
    float sums[TM][TN] = {}, bias = 0.0f;

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
        if (k0 == 0 && threadIdx.x < FILTERS)
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
    if (k0 == 0 && threadIdx.x < FILTERS && n0 + threadIdx.x < filters)
        result[(size_t)filters * patch + n0 + threadIdx.x] = bias;
}

/* The gradients: of weights in the arena's order, OIHW, and of the bias, unless it is NULL. */
struct gradients {
    float *weights, *bias;
    uint32_t filters, channels, taps;
    bool accumulate;
};

/* Where element e of [filter][tap][channel], and then [filter], goes; NULL: nowhere. */
__device__ float *target_of(const struct gradients &g, uint32_t e)
{
    uint32_t patch = g.taps * g.channels, filter = e / patch, in = e % patch;

    if (filter < g.filters)
        return g.weights + (size_t)filter * patch + in % g.channels * g.taps + in / g.channels;
    return g.bias == NULL ? NULL : g.bias + (e - g.filters * patch);
}

/* FINISH_LANES threads for an element, each of which adds every so-manieth part. */
__global__ void __launch_bounds__(BLOCK)
    finish_parts(struct gradients g, const float *sums, uint32_t parts)
{
    __shared__ float lanes[FINISH_LANES][FINISH_ELEMENTS];
    uint32_t in = threadIdx.x % FINISH_ELEMENTS, lane = threadIdx.x / FINISH_ELEMENTS;
    uint32_t count = g.filters * (g.taps * g.channels + 1), e = blockIdx.x * FINISH_ELEMENTS + in;
    float sum = 0.0f;

    if (e < count)
#pragma unroll 8
        for (uint32_t part = lane; part < parts; part += FINISH_LANES)
            sum += sums[(size_t)part * count + e];
    lanes[lane][in] = sum;
    __syncthreads();
    if (lane == 0 && e < count) {
        float *target = target_of(g, e);

        for (uint32_t i = 1; i < FINISH_LANES; i++)
            sum += lanes[i][in];
        if (target != NULL)
            *target = g.accumulate ? *target + sum : sum;
    }
}

/* ---- which tiles ---------------------------------------------------------------------------- */

uint32_t tiles_over(size_t size, size_t tile)
{
    return (uint32_t)((size + tile - 1) / tile);
}

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
        double cost = widths[i].cost * widths[i].columns * tiles_over(columns, widths[i].columns);

        if (cost < least) {
            least = cost;
            best = widths[i].columns;
        }
    }
    return best;
}

template <bool FLAT, int TM, int TN, int CT>
nin_status start_product(struct nin__device *device, const struct product *p)
{
    size_t rows = tiles_over(p->a.count, THREADS / CT * TM);

    return nin__cuda_launch_threads(device, rows * tiles_over(p->columns, CT * TN), THREADS,
                                    multiply_rows<FLAT, TM, TN, CT>, *p);
}

/* Tiles of 256 or 128 rows, or half of them where there would be too few blocks. Windows are short, so what they
 * waste in the widest tiles is little. */
template <int TM> nin_status start_width(struct nin__device *device, const struct product *p)
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

nin_status multiply(struct nin__device *device, const struct product *p)
{
    size_t blocks = (size_t)tiles_over(p->a.count, 128) * tiles_over(p->columns, 64);

    return blocks < FEW_BLOCKS ? start_width<4>(device, p) : start_width<8>(device, p);
}

/* ---- the passes ----------------------------------------------------------------------------- */

struct rows rows_of(const struct cuda_call *call, const float *map, struct nin__shape shape)
{
    struct rows rows = {};

    rows.data = map;
    rows.count = (uint32_t)call->images * (uint32_t)shape.h * (uint32_t)shape.w;
    rows.depth = (uint32_t)shape.c;
    rows.flat = true;
    rows.fours = shape.c % 4 == 0;
    return rows;
}

struct rows windows_of(const struct cuda_call *call)
{
    const struct nin__op *op = call->op;
    struct rows rows = rows_of(call, call->x, op->in);

    if (nin__cuda_is_pointwise(op))
        return rows;
    rows.windows = nin__cuda_windows_of(op);
    rows.count = (uint32_t)call->images * (uint32_t)op->out.h * (uint32_t)op->out.w;
    rows.depth = (uint32_t)nin__cuda_patch(op);
    rows.flat = rows.fours = false;
    return rows;
}

/* Filters of a tile of sums, which go with so many elements of the patch: see start_parts. */
struct outer_tile {
    uint32_t filters, taps;
};

struct outer_tile choose_tile(const struct nin__op *op)
{
    const struct outer_tile tiles[] = {{64, 96}, {64, 32}, {64, 64}, {96, 128}};
    int count = nin__cuda_is_pointwise(op) ? 4 : 2; /* the others are for maps only */
    struct outer_tile best = tiles[0];
    double least = INFINITY;

    for (int i = 0; i < count; i++) {
        struct outer_tile t = tiles[i];
        double cost = (1.0 + 16.0 / t.taps) * t.filters * tiles_over((size_t)op->out.c, t.filters) *
                      t.taps * tiles_over(nin__cuda_patch(op), t.taps);

        if (cost < least) {
            least = cost;
            best = t;
        }
    }
    return best;
}

uint32_t most_parts(const struct nin__op *op, uint32_t rows)
{
    struct outer_tile tile = choose_tile(op);
    uint32_t tiles =
        tiles_over((size_t)op->out.c, tile.filters) * tiles_over(nin__cuda_patch(op), tile.taps);
    uint32_t blocks = tile.taps > 32 ? PART_BLOCKS : 4 * PART_BLOCKS; /* small tiles wait more */
    uint32_t wanted = tiles_over(blocks, tiles), possible = tiles_over(rows, DEPTH);

    return wanted < possible ? wanted : possible;
}

/* How pixels are cut: a rule of shapes alone, for it orders sums. */
struct parts {
    uint32_t count, rows;
};

struct parts cut(const struct nin__op *op, int32_t images)
{
    uint32_t rows = (uint32_t)images * (uint32_t)op->out.h * (uint32_t)op->out.w;
    uint32_t wanted = most_parts(op, rows);
    struct parts parts;

    parts.rows = tiles_over(tiles_over(rows, wanted), DEPTH) * DEPTH;
    parts.count = tiles_over(rows, parts.rows);
    return parts;
}

template <bool FLAT, int TM, int TN, int CT>
nin_status start_tile(const struct cuda_call *call, const struct outer *o, uint32_t parts)
{
    size_t tiles =
        (size_t)tiles_over(o->dy.depth, THREADS / CT * TM) * tiles_over(o->x.depth, CT * TN);

    return nin__cuda_launch_threads(call->device, tiles * parts, THREADS,
                                    multiply_parts<FLAT, TM, TN, CT>, *o);
}

nin_status start_parts(const struct cuda_call *call, const struct outer *o, uint32_t parts)
{
    switch (choose_tile(call->op).taps) {
    case 128:
        return start_tile<true, 12, 8, 16>(call, o, parts);
    case 96:
        return o->x.flat ? start_tile<true, 4, 12, 8>(call, o, parts)
                         : start_tile<false, 4, 12, 8>(call, o, parts);
    case 64:
        return start_tile<true, 4, 8, 8>(call, o, parts);
    default:
        return o->x.flat ? start_tile<true, 4, 4, 8>(call, o, parts)
                         : start_tile<false, 4, 4, 8>(call, o, parts);
    }
}

nin_status finish(const struct cuda_call *call, uint32_t parts)
{
    const struct nin__op *op = call->op;
    struct gradients g = {};

    g.weights = call->run->gradient + op->weight;
    g.bias = op->bias == NIN__NO_PARAMETER ? NULL : call->run->gradient + op->bias;
    g.filters = (uint32_t)op->out.c;
    g.channels = (uint32_t)op->in.c;
    g.taps = (uint32_t)op->kernel_h * (uint32_t)op->kernel_w;
    g.accumulate = call->run->accumulate;
    return nin__cuda_launch_blocks(
        call->device, tiles_over(g.filters * (nin__cuda_patch(op) + 1), FINISH_ELEMENTS),
        finish_parts, g, (const float *)call->executable->scratch.sums, parts);
}

nin_status add_weights(const struct cuda_call *call)
{
    struct parts parts = cut(call->op, call->images);
    struct outer o = {};

    o.dy = rows_of(call, call->dy, call->op->out);
    o.x = windows_of(call);
    o.sums = call->executable->scratch.sums;
    o.part_rows = parts.rows;
    NIN__TRY(start_parts(call, &o, parts.count));
    return finish(call, parts.count);
}

nin_status set_data(const struct cuda_call *call)
{
    struct product p = {};

    p.a = rows_of(call, call->dy, call->op->out);
    p.b = call->weights;
    p.b_depth = (uint32_t)call->op->in.c;
    p.b_column = 1;
    p.c = call->dx;
    p.columns = (uint32_t)call->op->in.c;
    p.gate = call->gate ? call->x : NULL;
    return multiply(call->device, &p);
}

} // namespace

/* Rows are counted in 32 bits. */
bool nin__cuda_direct_fits(const struct nin__op *op, int32_t batch)
{
    int64_t rows = (int64_t)batch * op->out.h * op->out.w;

    if (rows > INT32_MAX)
        return false;
    return nin__cuda_is_pointwise(op) ||
           (op->in.c <= MOST_CHANNELS && nin__cuda_patch(op) <= MOST_TAPS);
}

size_t nin__cuda_direct_sums(const struct nin__op *op, int32_t batch)
{
    uint32_t rows = (uint32_t)batch * (uint32_t)op->out.h * (uint32_t)op->out.w;

    return (size_t)most_parts(op, rows) * (size_t)op->out.c * (nin__cuda_patch(op) + 1);
}

nin_status nin__cuda_direct_conv(const struct cuda_call *call)
{
    struct product p = {};

    p.a = windows_of(call);
    p.b = call->weights;
    p.b_depth = 1;
    p.b_column = p.a.depth;
    p.c = call->y;
    p.columns = (uint32_t)call->op->out.c;
    p.bias = nin__cuda_bias(call);
    p.relu = call->op->relu;
    return multiply(call->device, &p);
}

nin_status nin__cuda_direct_conv_backward(const struct cuda_call *call)
{
    NIN__TRY(nin__cuda_gate(call));
    NIN__TRY(add_weights(call));
    if (call->dx == NULL)
        return NIN_OK;
    return nin__cuda_is_pointwise(call->op) ? set_data(call) : nin__cuda_gemm_data_of(call);
}
