/* SPDX-License-Identifier: MIT */
/* Rows times a matrix. A block makes a tile of the result. It brings some columns of both operands
 * into shared memory while its warps multiply those before, each for a part of the tile, as squares
 * of SIDE x SIDE elements. */
#include "cuda/operands.h"

namespace
{

enum {
    ROWS = 128,      /* of a tile */
    STAGES = 2,      /* what is multiplied, and what comes */
    FEW_BLOCKS = 132 /* with fewer, tiles are narrower */
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

/* Tiles that WARPS / ACROSS x ACROSS warps make, each of them DOWN x NT squares. */
template <typename T, bool TURNED, int ACROSS, int NT> struct row_tile {
    enum {
        DEPTH = operand<T>::DEPTH,
        DOWN = ROWS * ACROSS / WARPS / SIDE,
        COLUMNS = ACROSS * NT * SIDE,
        A_ROW = DEPTH + operand<T>::ALONG,
        B_HEIGHT = TURNED ? COLUMNS : DEPTH,
        B_WIDTH = TURNED ? DEPTH : COLUMNS,
        B_ROW = B_WIDTH + (TURNED ? operand<T>::ALONG : operand<T>::ACROSS),
        RESULT_ROW = NT * SIDE + 8 /* so that squares lie in different banks */
    };

    /* What a block has in shared memory: first operands and then, warp by warp, results. */
    union alignas(ALIGNMENT) room {
        struct {
            T a[STAGES][ROWS][A_ROW], b[STAGES][B_HEIGHT][B_ROW];
        } operands;
        float results[WARPS][SIDE][RESULT_ROW];
    };
};

#if NIN__HAS_TENSOR_CORES

template <bool TURNED> struct layout_of {
    typedef along_rows b;
};

template <> struct layout_of<true> {
    typedef along_columns b;
};

/* As many elements of a result as are stored at once. */
template <typename T> union piece {
    float4 whole;
    T elements[operand<T>::PIECE];
};

template <int COLUMNS>
__device__ void load_bias(float *bias, const struct cuda_tensor_product &p, uint32_t n0,
                          uint32_t columns)
{
    for (uint32_t i = threadIdx.x; i < COLUMNS; i += THREADS)
        bias[i] = p.bias != NULL && n0 + i < columns ? p.bias[n0 + i] : 0.0f;
}

/* The first `count` values of a piece in a row of so many columns. */
template <typename T>
__device__ void store_piece(const struct cuda_tensor_product &p, uint32_t columns, size_t at,
                            uint32_t count, const float *values)
{
    const uint32_t all = operand<T>::PIECE;
    bool stored = nin__cuda_is_stored_as<T>(p.narrow);
    union piece<T> rounded;

#pragma unroll
    for (uint32_t e = 0; e < all; e++)
        nin__cuda_store(rounded.elements + e, values[e]);
    if (stored && columns % all == 0) {
        *(float4 *)(void *)((T *)p.c + at) = rounded.whole;
        return;
    }
#pragma unroll
    for (uint32_t e = 0; e < all; e++)
        if (e < count && stored)
            ((T *)p.c)[at + e] = rounded.elements[e];
        else if (e < count)
            ((float *)p.c)[at + e] = values[e];
}

/* SIDE rows of a warp, from (row, n) on: for some pieces all gates are read before anything is
 * written, for the compiler cannot know that none is an output. */
template <typename T, int NT, int ROW>
__device__ void finish_rows(const struct cuda_tensor_product &p, uint32_t columns,
                            const float (*results)[ROW], const float *bias, uint32_t row,
                            uint32_t n)
{
    const uint32_t size = operand<T>::PIECE, pieces = NT * SIDE / size;

#pragma unroll
    for (uint32_t first = 0; first < SIDE * pieces; first += NT * WARP) {
        union piece<T> gates[NT] = {
        };

#pragma unroll
        for (uint32_t t = 0; t < NT; t++) {
            uint32_t i = first + threadIdx.x % WARP + t * WARP, r = row + i / pieces;
            uint32_t c = n + i % pieces * size;

            if (p.gate != NULL && r < p.a.count && c < columns)
                gates[t].whole =
                    *(const float4 *)(const void *)((const T *)p.gate + (size_t)r * columns + c);
        }
#pragma unroll
        for (uint32_t t = 0; t < NT; t++) {
            uint32_t i = first + threadIdx.x % WARP + t * WARP, in = i % pieces * size;
            uint32_t r = row + i / pieces, rest = n + in < columns ? columns - n - in : 0;
            float values[size];

            if (r >= p.a.count || rest == 0)
                continue;
#pragma unroll
            for (uint32_t e = 0; e < size; e++) {
                float v = results[i / pieces][in + e] + bias[in + e];

                v = p.relu ? nin__cuda_rectified(v) : v;
                values[e] =
                    p.gate == NULL ? v : nin__cuda_gated(v, nin__cuda_load(gates[t].elements + e));
            }
            store_piece<T>(p, columns, (size_t)r * columns + n + in, rest, values);
        }
    }
}

/* Adds the products of what is in one stage, if that is no more than `depth` columns. a, b: where
 * the warp's part begins. b has been rounded. */
template <bool TURNED, int DOWN, int NT, int A_ROW, int B_ROW, typename T>
__device__ void multiply_stage(square<T> (*sums)[NT], const T *a, const T *b, uint32_t depth)
{
    const uint32_t step = operand<T>::STEP;

#pragma unroll
    for (uint32_t k = 0; k < operand<T>::DEPTH; k += step) {
        left<T, along_rows> rows[DOWN];

        if (k >= depth)
            break;
#pragma unroll
        for (int i = 0; i < DOWN; i++)
            nin__cuda_load_fragment(rows[i], a + i * SIDE * A_ROW + k, A_ROW);
#pragma unroll
        for (int j = 0; j < NT; j++) {
            right<T, typename layout_of<TURNED>::b> columns;

            nvcuda::wmma::load_matrix_sync(
                columns, b + (TURNED ? j * SIDE * B_ROW + k : k * B_ROW + j * SIDE), B_ROW);
#pragma unroll
            for (int i = 0; i < DOWN; i++)
                nvcuda::wmma::mma_sync(sums[i][j], rows[i], columns, sums[i][j]);
        }
    }
}

#endif

template <typename T, bool FLAT, bool TURNED, int ACROSS, int NT>
__global__ void __launch_bounds__(THREADS, at_once(NT))
    multiply_rows(struct cuda_tensor_product p, uint32_t columns, uint32_t tiles)
{
#if NIN__HAS_TENSOR_CORES
    typedef row_tile<T, TURNED, ACROSS, NT> tile;
    __shared__ typename tile::room room;
    __shared__ float bias[tile::COLUMNS];
    uint32_t row0 = blockIdx.x / tiles * ROWS, n0 = blockIdx.x % tiles * tile::COLUMNS;
    uint32_t warp = threadIdx.x / WARP, down = warp / ACROSS * tile::DOWN * SIDE;
    uint32_t across = warp % ACROSS * NT * SIDE;
    float(*results)[tile::RESULT_ROW] = room.results[warp];
    square<T> sums[tile::DOWN][NT];

#pragma unroll
    for (int i = 0; i < tile::DOWN; i++)
#pragma unroll
        for (int j = 0; j < NT; j++)
            nvcuda::wmma::fill_fragment(sums[i][j], 0.0f);
    load_bias<tile::COLUMNS>(bias, p, n0, columns);
    for (uint32_t k0 = 0, stage = 0; k0 < p.a.depth + tile::DEPTH; k0 += tile::DEPTH, stage ^= 1) {
        if (k0 < p.a.depth) {
            nin__cuda_load_tile<FLAT, ROWS, tile::DEPTH>(room.operands.a[stage], p.a, row0,
                                                         p.a.count, k0);
            nin__cuda_load_tile<true, tile::B_HEIGHT, tile::B_WIDTH>(
                room.operands.b[stage], p.b, TURNED ? n0 : k0, p.b.count, TURNED ? k0 : n0);
        }
        __pipeline_commit();
        if (k0 == 0)
            continue;
        __pipeline_wait_prior(1);
        __syncthreads();
        multiply_stage<TURNED, tile::DOWN, NT, tile::A_ROW, tile::B_ROW, T>(
            sums, room.operands.a[stage ^ 1][down],
            &room.operands.b[stage ^ 1][TURNED ? across : 0][TURNED ? 0 : across],
            p.a.depth - (k0 - tile::DEPTH));
        __syncthreads(); /* all have read what comes next overwrites */
    }
#pragma unroll
    for (int i = 0; i < tile::DOWN; i++) {
#pragma unroll
        for (int j = 0; j < NT; j++)
            nvcuda::wmma::store_matrix_sync(&results[0][j * SIDE], sums[i][j], tile::RESULT_ROW,
                                            nvcuda::wmma::mem_row_major);
        __syncwarp();
        finish_rows<T, NT>(p, columns, results, bias + across, row0 + down + i * SIDE, n0 + across);
        __syncwarp();
    }
#endif
}

/* ---- which tiles ---------------------------------------------------------------------------- */

template <typename T, bool FLAT, bool TURNED, int ACROSS, int NT>
nin_status start_rows(struct nin__device *device, const struct cuda_tensor_product *p,
                      uint32_t columns)
{
    uint32_t tiles = nin__cuda_tiles_over(columns, row_tile<T, TURNED, ACROSS, NT>::COLUMNS);

    return nin__cuda_launch_threads(device, (size_t)nin__cuda_tiles_over(p->a.count, ROWS) * tiles,
                                    THREADS, multiply_rows<T, FLAT, TURNED, ACROSS, NT>, *p,
                                    columns, tiles);
}

template <typename T, bool TURNED>
nin_status start_product(struct nin__device *device, const struct cuda_tensor_product *p,
                         uint32_t columns)
{
    const uint32_t widths[] = {16, 48, 64, 96, 128};
    int count = nin__cuda_tiles_over(p->a.count, ROWS) < FEW_BLOCKS ? 3 : 5;

    switch (nin__cuda_choose_width(widths, count, columns, 32)) {
    case 16:
        return start_rows<T, true, TURNED, 1, 1>(device, p, columns);
    case 48:
        return start_rows<T, true, TURNED, 1, 3>(device, p, columns);
    case 64:
        return start_rows<T, true, TURNED, 2, 2>(device, p, columns);
    case 96:
        return start_rows<T, true, TURNED, 2, 3>(device, p, columns);
    default:
        return start_rows<T, true, TURNED, 2, 4>(device, p, columns);
    }
}

/* Of windows, which each tile looks for again. */
template <typename T>
nin_status start_windows(struct nin__device *device, const struct cuda_tensor_product *p,
                         uint32_t columns)
{
    return columns > 48 ? start_rows<T, false, true, 2, 3>(device, p, columns)
                        : start_rows<T, false, true, 1, 3>(device, p, columns);
}

template <typename T>
nin_status start(struct nin__device *device, const struct cuda_tensor_product *p)
{
    if (!p->a.flat)
        return start_windows<T>(device, p, p->b.count);
    return p->turned ? start_product<T, true>(device, p, p->b.count)
                     : start_product<T, false>(device, p, p->b.depth);
}

} // namespace

nin_status nin__cuda_tensor_product(struct nin__device *device, const struct cuda_tensor_product *p)
{
    return p->b.narrow ? start<cuda_bf16>(device, p) : start<float>(device, p);
}
