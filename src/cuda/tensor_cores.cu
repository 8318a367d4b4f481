/* SPDX-License-Identifier: MIT */
/* A block makes a tile of the result. It brings some columns, or rows, of both operands into shared
 * memory while its warps multiply those before, each for a part of the tile, as squares of SIDE x
 * SIDE elements. Rows in shared memory are a piece longer than what is in them, so that pieces of a
 * column lie in different banks. */
#include "cuda/tensor_cores.h"
#include "cuda/vectors.h"

#include <cuda_pipeline.h>
#include <mma.h>

namespace
{

/* The device that there is code for has tensor cores for bf16; plans see to it that no other runs
 * these kernels. */
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define HAS_TENSOR_CORES 1
#else
#define HAS_TENSOR_CORES 0
#endif

enum {
    WARP = 32,
    WARPS = 8,
    THREADS = WARPS * WARP,
    SIDE = 16,
    PIECE = 8,         /* bf16 that are copied at once */
    ALIGNMENT = 32,    /* of what a warp loads, in bytes */
    ROWS = 128,        /* of a tile of rows */
    DEPTH = 32,        /* of what comes into shared memory at a time */
    STAGES = 2,        /* what is multiplied, and what comes */
    SUM_STAGES = 3,    /* the same of sums over rows, which go on for longer */
    FEW_BLOCKS = 132,  /* with fewer, tiles are narrower */
    PART_BLOCKS = 132, /* that sums over rows are cut into, or so */
    PART_ROWS = 256    /* of a part at least, for it is written in floats */
};

/* Blocks that a multiprocessor is to have at once, for so many squares of a warp across: 80 or 128
 * registers each. Before sm_90 addresses take more of them. */
constexpr int at_once(int squares)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
    return squares > 2 ? 2 : 3;
#else
    return squares > 3 ? 2 : 3;
#endif
}

/* ---- operands ------------------------------------------------------------------------------- */

#if HAS_TENSOR_CORES

__device__ cuda_bf16 rounded(const struct cuda_matrix &m, size_t at)
{
    return m.narrow ? ((const cuda_bf16 *)m.data)[at]
                    : __float2bfloat16_rn(((const float *)m.data)[at]);
}

__device__ void load_elements(cuda_bf16 *piece, const struct cuda_matrix &m, uint32_t row,
                              uint32_t k)
{
    for (uint32_t e = 0; e < PIECE; e++)
        piece[e] =
            k + e < m.depth ? rounded(m, (size_t)row * m.depth + k + e) : __float2bfloat16_rn(0.0f);
}

/* Taps of a window, of a map that is bf16: one tap is found by division, the others follow it. */
__device__ void load_taps(cuda_bf16 *piece, const struct cuda_matrix &m, uint32_t row, uint32_t k)
{
    const struct windows &w = m.windows;
    uint32_t pixels = (uint32_t)w.out_h * (uint32_t)w.out_w, pixel = row % pixels;
    const cuda_bf16 *image =
        (const cuda_bf16 *)m.data + (size_t)(row / pixels) * nin__cuda_in_size(w);
    int32_t c = (int32_t)k % w.in_c, s = (int32_t)k / w.in_c % w.kernel_w;
    int32_t y =
        (int32_t)(pixel / (uint32_t)w.out_w) * w.stride - w.pad + (int32_t)k / w.in_c / w.kernel_w;
    int32_t x = (int32_t)(pixel % (uint32_t)w.out_w) * w.stride - w.pad;

#pragma unroll
    for (uint32_t e = 0; e < PIECE; e++) {
        bool inside = k + e < m.depth && y >= 0 && y < w.in_h && x + s >= 0 && x + s < w.in_w;

        piece[e] = inside ? image[(y * w.in_w + x + s) * w.in_c + c] : __float2bfloat16_rn(0.0f);
        c = c + 1 < w.in_c ? c + 1 : 0;
        s += c == 0;
        y += s == w.kernel_w;
        s = s == w.kernel_w ? 0 : s;
    }
}

/* Rows and columns of a matrix, from (row0, k0) on, into shared memory; zeros from row `end` on,
 * and behind its columns. What is in pieces comes while the thread goes on. */
template <bool FLAT, int HEIGHT, int WIDTH>
__device__ void load_tile(cuda_bf16 (*tile)[WIDTH + PIECE], const struct cuda_matrix &m,
                          uint32_t row0, uint32_t end, uint32_t k0)
{
    bool pieces = FLAT && m.narrow && m.depth % PIECE == 0;

#pragma unroll 2
    for (uint32_t i = threadIdx.x; i < HEIGHT * WIDTH / PIECE; i += THREADS) {
        uint32_t row = row0 + i / (WIDTH / PIECE), k = k0 + i % (WIDTH / PIECE) * PIECE;
        cuda_bf16 *target = tile[i / (WIDTH / PIECE)] + i % (WIDTH / PIECE) * PIECE;
        bool there = row < end && k < m.depth;
        size_t from = there ? (size_t)row * m.depth + k : 0, bytes = PIECE * sizeof *target;

        if (pieces || !there)
            __pipeline_memcpy_async(target, (const cuda_bf16 *)m.data + from, bytes,
                                    there ? 0 : bytes);
        else if (FLAT)
            load_elements(target, m, row, k);
        else
            load_taps(target, m, row, k);
    }
}

typedef nvcuda::wmma::fragment<nvcuda::wmma::accumulator, SIDE, SIDE, SIDE, float> square;

template <typename Layout>
using left = nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, SIDE, SIDE, SIDE, cuda_bf16, Layout>;

template <typename Layout>
using right = nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, SIDE, SIDE, SIDE, cuda_bf16, Layout>;

#endif

/* ---- rows times a matrix -------------------------------------------------------------------- */

/* Tiles that WARPS / ACROSS x ACROSS warps make, each of them DOWN x NT squares. */
template <bool TURNED, int ACROSS, int NT> struct row_tile {
    enum {
        DOWN = ROWS * ACROSS / WARPS / SIDE,
        COLUMNS = ACROSS * NT * SIDE,
        B_HEIGHT = TURNED ? COLUMNS : DEPTH,
        B_WIDTH = TURNED ? DEPTH : COLUMNS
    };

    /* What a block has in shared memory: first operands and then, warp by warp, results. */
    union alignas(ALIGNMENT) room {
        struct {
            cuda_bf16 a[STAGES][ROWS][DEPTH + PIECE], b[STAGES][B_HEIGHT][B_WIDTH + PIECE];
        } operands;
        float results[WARPS][SIDE][NT * SIDE + PIECE];
    };
};

#if HAS_TENSOR_CORES

template <bool TURNED> struct layout_of {
    typedef nvcuda::wmma::row_major b;
};

template <> struct layout_of<true> {
    typedef nvcuda::wmma::col_major b;
};

/* PIECE elements of a result. */
union piece {
    float4 whole;
    cuda_bf16 elements[PIECE];
};

template <int COLUMNS>
__device__ void load_bias(float *bias, const struct cuda_tensor_product &p, uint32_t n0,
                          uint32_t columns)
{
    for (uint32_t i = threadIdx.x; i < COLUMNS; i += THREADS)
        bias[i] = p.bias != NULL && n0 + i < columns ? p.bias[n0 + i] : 0.0f;
}

/* The first `count` of PIECE values in a row of so many columns. */
__device__ void store_piece(const struct cuda_tensor_product &p, uint32_t columns, size_t at,
                            uint32_t count, const float *values)
{
    union piece rounded;

#pragma unroll
    for (uint32_t e = 0; e < PIECE; e++)
        rounded.elements[e] = __float2bfloat16_rn(values[e]);
    if (p.narrow && columns % PIECE == 0) {
        *(float4 *)(void *)((cuda_bf16 *)p.c + at) = rounded.whole;
        return;
    }
#pragma unroll
    for (uint32_t e = 0; e < PIECE; e++)
        if (e < count && p.narrow)
            ((cuda_bf16 *)p.c)[at + e] = rounded.elements[e];
        else if (e < count)
            ((float *)p.c)[at + e] = values[e];
}

/* SIDE rows of a warp, from (row, n) on. */
template <int NT>
__device__ void finish_rows(const struct cuda_tensor_product &p, uint32_t columns,
                            const float (*results)[NT * SIDE + PIECE], const float *bias,
                            uint32_t row, uint32_t n)
{
    const uint32_t pieces = NT * SIDE / PIECE;
    union piece gates[NT] = {};

#pragma unroll
    for (uint32_t t = 0; t < NT; t++) {
        uint32_t i = threadIdx.x % WARP + t * WARP, r = row + i / pieces;
        uint32_t c = n + i % pieces * PIECE;

        if (p.gate != NULL && r < p.a.count && c < columns)
            gates[t].whole = *(const float4 *)(const void *)((const cuda_bf16 *)p.gate +
                                                             (size_t)r * columns + c);
    }
#pragma unroll
    for (uint32_t t = 0; t < NT; t++) {
        uint32_t i = threadIdx.x % WARP + t * WARP, in = i % pieces * PIECE;
        uint32_t r = row + i / pieces, left = n + in < columns ? columns - n - in : 0;
        float values[PIECE];

        if (r >= p.a.count || left == 0)
            continue;
#pragma unroll
        for (uint32_t e = 0; e < PIECE; e++) {
            float v = results[i / pieces][in + e] + bias[in + e];

            v = p.relu ? nin__cuda_rectified(v) : v;
            values[e] =
                p.gate == NULL ? v : nin__cuda_gated(v, __bfloat162float(gates[t].elements[e]));
        }
        store_piece(p, columns, (size_t)r * columns + n + in, left, values);
    }
}

/* Adds the products of what is in one stage: of `depth` columns, or DEPTH. a, b: where the warp's
 * part begins. */
template <bool TURNED, int DOWN, int NT, int B_ROW>
__device__ void multiply_stage(square (*sums)[NT], const cuda_bf16 *a, const cuda_bf16 *b,
                               uint32_t depth)
{
#pragma unroll
    for (uint32_t k = 0; k < DEPTH; k += SIDE) {
        left<nvcuda::wmma::row_major> rows[DOWN];

        if (k >= depth)
            break;
#pragma unroll
        for (int i = 0; i < DOWN; i++)
            nvcuda::wmma::load_matrix_sync(rows[i], a + i * SIDE * (DEPTH + PIECE) + k,
                                           DEPTH + PIECE);
#pragma unroll
        for (int j = 0; j < NT; j++) {
            right<typename layout_of<TURNED>::b> columns;

            nvcuda::wmma::load_matrix_sync(
                columns, b + (TURNED ? j * SIDE * B_ROW + k : k * B_ROW + j * SIDE), B_ROW);
#pragma unroll
            for (int i = 0; i < DOWN; i++)
                nvcuda::wmma::mma_sync(sums[i][j], rows[i], columns, sums[i][j]);
        }
    }
}

#endif

template <bool FLAT, bool TURNED, int ACROSS, int NT>
__global__ void __launch_bounds__(THREADS, at_once(NT))
    multiply_rows(struct cuda_tensor_product p, uint32_t columns, uint32_t tiles)
{
#if HAS_TENSOR_CORES
    typedef row_tile<TURNED, ACROSS, NT> tile;
    __shared__ typename tile::room room;
    __shared__ float bias[tile::COLUMNS];
    uint32_t row0 = blockIdx.x / tiles * ROWS, n0 = blockIdx.x % tiles * tile::COLUMNS;
    uint32_t warp = threadIdx.x / WARP, down = warp / ACROSS * tile::DOWN * SIDE;
    uint32_t across = warp % ACROSS * NT * SIDE;
    float(*results)[NT * SIDE + PIECE] = room.results[warp];
    square sums[tile::DOWN][NT];

#pragma unroll
    for (int i = 0; i < tile::DOWN; i++)
#pragma unroll
        for (int j = 0; j < NT; j++)
            nvcuda::wmma::fill_fragment(sums[i][j], 0.0f);
    load_bias<tile::COLUMNS>(bias, p, n0, columns);
    for (uint32_t k0 = 0, stage = 0; k0 < p.a.depth + DEPTH; k0 += DEPTH, stage ^= 1) {
        if (k0 < p.a.depth) {
            load_tile<FLAT, ROWS, DEPTH>(room.operands.a[stage], p.a, row0, p.a.count, k0);
            load_tile<true, tile::B_HEIGHT, tile::B_WIDTH>(
                room.operands.b[stage], p.b, TURNED ? n0 : k0, p.b.count, TURNED ? k0 : n0);
        }
        __pipeline_commit();
        if (k0 == 0)
            continue;
        __pipeline_wait_prior(1);
        __syncthreads();
        multiply_stage<TURNED, tile::DOWN, NT, tile::B_WIDTH + PIECE>(
            sums, room.operands.a[stage ^ 1][down],
            &room.operands.b[stage ^ 1][TURNED ? across : 0][TURNED ? 0 : across],
            p.a.depth - (k0 - DEPTH));
        __syncthreads(); /* all have read what comes next overwrites */
    }
#pragma unroll
    for (int i = 0; i < tile::DOWN; i++) {
#pragma unroll
        for (int j = 0; j < NT; j++)
            nvcuda::wmma::store_matrix_sync(&results[0][j * SIDE], sums[i][j], NT * SIDE + PIECE,
                                            nvcuda::wmma::mem_row_major);
        __syncwarp();
        finish_rows<NT>(p, columns, results, bias + across, row0 + down + i * SIDE, n0 + across);
        __syncwarp();
    }
#endif
}

/* ---- sums over rows ------------------------------------------------------------------------- */

/* Of FILTERS x TAPS sums; each warp has a row of NT squares. */
template <int NT> struct sum_tile {
    enum {
        ACROSS = 2,
        FILTERS = WARPS / ACROSS * SIDE,
        TAPS = ACROSS * NT * SIDE
    };

    union alignas(ALIGNMENT) room {
        struct {
            cuda_bf16 dy[SUM_STAGES][DEPTH][FILTERS + PIECE], x[SUM_STAGES][DEPTH][TAPS + PIECE];
        } operands;
        float results[WARPS][SIDE][SIDE + PIECE];
    };
};

#if HAS_TENSOR_CORES

/* Of a square the elements that there are go to rows of so many; of the sums of dy, which have but
 * one for a row, all columns are the same. */
__device__ void store_square(float *target, uint32_t row, uint32_t rows, uint32_t columns,
                             float (*results)[SIDE + PIECE], const square &sums)
{
    nvcuda::wmma::store_matrix_sync(results[0], sums, SIDE + PIECE, nvcuda::wmma::mem_row_major);
    __syncwarp();
#pragma unroll
    for (uint32_t i = threadIdx.x % WARP; i < SIDE * SIDE; i += WARP)
        if (i / SIDE < rows && i % SIDE < columns)
            target[i / SIDE * row + i % SIDE] = results[i / SIDE][i % SIDE];
    __syncwarp();
}

#endif

template <bool FLAT, int NT>
__global__ void __launch_bounds__(THREADS, 2) multiply_parts(struct cuda_tensor_sums o)
{
#if HAS_TENSOR_CORES
    typedef sum_tile<NT> tile;
    __shared__ typename tile::room room;
    uint32_t filters = o.dy.depth, patch = o.x.depth;
    uint32_t tiles = (patch + tile::TAPS - 1) / tile::TAPS;
    uint32_t all = (filters + tile::FILTERS - 1) / tile::FILTERS * tiles;
    uint32_t part = blockIdx.x / all, first = part * o.cut.part_rows;
    uint32_t n0 = blockIdx.x % all / tiles * tile::FILTERS;
    uint32_t k0 = blockIdx.x % tiles * tile::TAPS;
    uint32_t end = first + o.cut.part_rows < o.dy.count ? first + o.cut.part_rows : o.dy.count;
    uint32_t chunks = (end - first + DEPTH - 1) / DEPTH, warp = threadIdx.x / WARP;
    uint32_t down = warp / tile::ACROSS * SIDE, across = warp % tile::ACROSS * NT * SIDE;
    bool adds = k0 + across == 0; /* sums of dy */
    right<nvcuda::wmma::row_major> ones;
    square sums[NT], added;

    nvcuda::wmma::fill_fragment(ones, __float2bfloat16_rn(1.0f));
    nvcuda::wmma::fill_fragment(added, 0.0f);
#pragma unroll
    for (int j = 0; j < NT; j++)
        nvcuda::wmma::fill_fragment(sums[j], 0.0f);
    for (uint32_t coming = 0; coming < chunks + SUM_STAGES - 1; coming++) {
        uint32_t chunk = coming - (SUM_STAGES - 1), stage = chunk % SUM_STAGES;

        if (coming >= SUM_STAGES - 1) {
            __pipeline_wait_prior(SUM_STAGES - 2);
            __syncthreads(); /* this one has come, and all have read the one before it */
        }
        if (coming < chunks) {
            uint32_t row = first + coming * DEPTH;

            load_tile<true, DEPTH, tile::FILTERS>(room.operands.dy[coming % SUM_STAGES], o.dy, row,
                                                  end, n0);
            load_tile<FLAT, DEPTH, tile::TAPS>(room.operands.x[coming % SUM_STAGES], o.x, row, end,
                                               k0);
        }
        __pipeline_commit();
        if (coming < SUM_STAGES - 1)
            continue;
#pragma unroll
        for (uint32_t r = 0; r < DEPTH; r += SIDE) {
            left<nvcuda::wmma::col_major> a;

            nvcuda::wmma::load_matrix_sync(a, &room.operands.dy[stage][r][down],
                                           tile::FILTERS + PIECE);
            if (adds)
                nvcuda::wmma::mma_sync(added, a, ones, added);
#pragma unroll
            for (int j = 0; j < NT; j++) {
                right<nvcuda::wmma::row_major> b;

                nvcuda::wmma::load_matrix_sync(b, &room.operands.x[stage][r][across + j * SIDE],
                                               tile::TAPS + PIECE);
                nvcuda::wmma::mma_sync(sums[j], a, b, sums[j]);
            }
        }
    }
    __syncthreads();
    float *result = o.sums + (size_t)part * filters * (patch + 1);
    uint32_t n = n0 + down, rows = n < filters ? filters - n : 0;

#pragma unroll
    for (int j = 0; j < NT; j++) {
        uint32_t k = k0 + across + j * SIDE;

        store_square(result + (size_t)n * patch + k, patch, rows, k < patch ? patch - k : 0,
                     room.results[warp], sums[j]);
    }
    if (adds)
        store_square(result + (size_t)filters * patch + n, 1, rows, 1, room.results[warp], added);
#endif
}

/* ---- which tiles ---------------------------------------------------------------------------- */

/* Of tiles of these widths that which has the least to do; `again`: what each tile does besides,
 * for its other operand, in columns. */
uint32_t choose_width(const uint32_t *widths, int count, uint32_t columns, uint32_t again)
{
    uint32_t best = widths[0];

    for (int i = 1; i < count; i++)
        if (nin__cuda_tiles_over(columns, widths[i]) * (widths[i] + again) <
            nin__cuda_tiles_over(columns, best) * (best + again))
            best = widths[i];
    return best;
}

template <bool FLAT, bool TURNED, int ACROSS, int NT>
nin_status start_rows(struct nin__device *device, const struct cuda_tensor_product *p,
                      uint32_t columns)
{
    uint32_t tiles = nin__cuda_tiles_over(columns, row_tile<TURNED, ACROSS, NT>::COLUMNS);

    return nin__cuda_launch_threads(device, (size_t)nin__cuda_tiles_over(p->a.count, ROWS) * tiles,
                                    THREADS, multiply_rows<FLAT, TURNED, ACROSS, NT>, *p, columns,
                                    tiles);
}

template <bool TURNED>
nin_status start_product(struct nin__device *device, const struct cuda_tensor_product *p,
                         uint32_t columns)
{
    const uint32_t widths[] = {16, 48, 64, 96, 128};
    int count = nin__cuda_tiles_over(p->a.count, ROWS) < FEW_BLOCKS ? 3 : 5;

    switch (choose_width(widths, count, columns, DEPTH)) {
    case 16:
        return start_rows<true, TURNED, 1, 1>(device, p, columns);
    case 48:
        return start_rows<true, TURNED, 1, 3>(device, p, columns);
    case 64:
        return start_rows<true, TURNED, 2, 2>(device, p, columns);
    case 96:
        return start_rows<true, TURNED, 2, 3>(device, p, columns);
    default:
        return start_rows<true, TURNED, 2, 4>(device, p, columns);
    }
}

/* Of windows, which each tile looks for again. */
nin_status start_windows(struct nin__device *device, const struct cuda_tensor_product *p,
                         uint32_t columns)
{
    return columns > 48 ? start_rows<false, true, 2, 3>(device, p, columns)
                        : start_rows<false, true, 1, 3>(device, p, columns);
}

uint32_t choose_taps(uint32_t patch, bool flat)
{
    const uint32_t widths[] = {32, 96, 64, 128};

    return choose_width(widths, flat ? 4 : 2, patch, sum_tile<1>::FILTERS);
}

uint32_t sum_tiles(uint32_t filters, uint32_t patch, bool flat)
{
    return nin__cuda_tiles_over(filters, sum_tile<1>::FILTERS) *
           nin__cuda_tiles_over(patch, choose_taps(patch, flat));
}

template <bool FLAT, int NT>
nin_status start_sums(struct nin__device *device, const struct cuda_tensor_sums *o)
{
    size_t blocks = (size_t)o->cut.parts * sum_tiles(o->dy.depth, o->x.depth, FLAT);

    return nin__cuda_launch_threads(device, blocks, THREADS, multiply_parts<FLAT, NT>, *o);
}

} // namespace

nin_status nin__cuda_tensor_product(struct nin__device *device, const struct cuda_tensor_product *p)
{
    if (!p->a.flat)
        return start_windows(device, p, p->b.count);
    return p->turned ? start_product<true>(device, p, p->b.count)
                     : start_product<false>(device, p, p->b.depth);
}

nin_status nin__cuda_tensor_sums(struct nin__device *device, const struct cuda_tensor_sums *o)
{
    switch (choose_taps(o->x.depth, o->x.flat)) {
    case 32:
        return o->x.flat ? start_sums<true, 1>(device, o) : start_sums<false, 1>(device, o);
    case 64:
        return start_sums<true, 2>(device, o);
    case 96:
        return o->x.flat ? start_sums<true, 3>(device, o) : start_sums<false, 3>(device, o);
    default:
        return start_sums<true, 4>(device, o);
    }
}

uint32_t nin__cuda_most_tensor_parts(uint32_t filters, uint32_t patch, bool flat, uint32_t rows)
{
    uint32_t blocks = flat ? PART_BLOCKS : 4 * PART_BLOCKS; /* who looks for windows waits more */
    uint32_t wanted = nin__cuda_tiles_over(blocks, sum_tiles(filters, patch, flat));
    uint32_t possible = nin__cuda_tiles_over(rows, PART_ROWS);

    return wanted < possible ? wanted : possible;
}

void nin__cuda_cut_tensor_sums(struct cuda_tensor_sums *o)
{
    uint32_t most = nin__cuda_most_tensor_parts(o->dy.depth, o->x.depth, o->x.flat, o->dy.count);

    o->cut = nin__cuda_cut(o->dy.count, most, DEPTH);
}
