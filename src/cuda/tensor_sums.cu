/* SPDX-License-Identifier: MIT */
/* Sums over rows, part by part. A block makes a tile of the sums of one part. It brings some rows of
 * both operands into shared memory while its warps multiply those before, each for a row of squares
 * of SIDE x SIDE sums. */
#include "cuda/operands.h"

namespace
{

enum {
    STAGES = 3, /* what is multiplied, and what comes: sums over rows go on for long */
    RESULT_ROW = SIDE + 8
};

/* Of FILTERS x TAPS sums; each warp has NT squares. */
template <typename T, int NT> struct sum_tile {
    enum {
        DEPTH = operand<T>::DEPTH,
        ACROSS = 2,
        FILTERS = WARPS / ACROSS * SIDE,
        TAPS = ACROSS * NT * SIDE,
        DY_ROW = FILTERS + operand<T>::ACROSS,
        X_ROW = TAPS + operand<T>::ACROSS
    };

    union alignas(ALIGNMENT) room {
        struct {
            T dy[STAGES][DEPTH][DY_ROW], x[STAGES][DEPTH][X_ROW];
        } operands;
        float results[WARPS][SIDE][RESULT_ROW];
    };
};

/* How rows are cut into parts. */
template <typename T> struct cutting;

template <> struct cutting<cuda_bf16> {
    enum {
        BLOCKS = 132,            /* that all parts have together, or so */
        BLOCKS_OF_WINDOWS = 528, /* which who looks for waits more */
        ROWS = 256               /* of a part at least, for it is written in floats */
    };
};

template <> struct cutting<float> {
    enum {
        BLOCKS = 264,
        BLOCKS_OF_WINDOWS = 528,
        ROWS = 128
    };
};

#if NIN__HAS_TENSOR_CORES

__device__ void fill_with_ones(right<cuda_bf16, along_rows> &ones)
{
    nvcuda::wmma::fill_fragment(ones, __float2bfloat16_rn(1.0f));
}

__device__ void fill_with_ones(right<float, along_rows> &ones)
{
    nvcuda::wmma::fill_fragment(ones, 1.0f);
}

/* A fragment of dy; if `adds`, its columns' sums are added to all columns of `added`. */
__device__ void load_dy(left<cuda_bf16, along_columns> &dy, const cuda_bf16 *from, unsigned row,
                        bool adds, square<cuda_bf16> &added,
                        const right<cuda_bf16, along_rows> &ones)
{
    nvcuda::wmma::load_matrix_sync(dy, from, row);
    if (adds)
        nvcuda::wmma::mma_sync(added, dy, ones, added);
}

/* The bias's gradient is no product: what rounding takes away is added, too. */
__device__ void load_dy(left<float, along_columns> &dy, const float *from, unsigned row, bool adds,
                        square<float> &added, const right<float, along_rows> &ones)
{
    left<float, along_columns> rest;

    nvcuda::wmma::load_matrix_sync(rest, from, row);
#pragma unroll
    for (int i = 0; i < dy.num_elements; i++)
        dy.x[i] = nin__cuda_rounded_to_tf32(rest.x[i]);
    if (!adds)
        return;
#pragma unroll
    for (int i = 0; i < dy.num_elements; i++)
        rest.x[i] = nin__cuda_rounded_to_tf32(rest.x[i] - dy.x[i]);
    nvcuda::wmma::mma_sync(added, dy, ones, added);
    nvcuda::wmma::mma_sync(added, rest, ones, added);
}

/* Of a square the elements that there are go to rows of so many; of the sums of dy, which have but
 * one for a row, all columns are the same. */
template <typename Square>
__device__ void store_square(float *target, uint32_t row, uint32_t rows, uint32_t columns,
                             float (*results)[RESULT_ROW], const Square &sums)
{
    nvcuda::wmma::store_matrix_sync(results[0], sums, RESULT_ROW, nvcuda::wmma::mem_row_major);
    __syncwarp();
#pragma unroll
    for (uint32_t i = threadIdx.x % WARP; i < SIDE * SIDE; i += WARP)
        if (i / SIDE < rows && i % SIDE < columns)
            target[i / SIDE * row + i % SIDE] = results[i / SIDE][i % SIDE];
    __syncwarp();
}

#endif

template <typename T, bool FLAT, int NT>
__global__ void __launch_bounds__(THREADS, 2) multiply_parts(struct cuda_tensor_sums o)
{
#if NIN__HAS_TENSOR_CORES
    typedef sum_tile<T, NT> tile;
    __shared__ typename tile::room room;
    uint32_t filters = o.dy.depth, patch = o.x.depth;
    uint32_t tiles = (patch + tile::TAPS - 1) / tile::TAPS;
    uint32_t all = (filters + tile::FILTERS - 1) / tile::FILTERS * tiles;
    uint32_t part = blockIdx.x / all, first = part * o.cut.part_rows;
    uint32_t n0 = blockIdx.x % all / tiles * tile::FILTERS;
    uint32_t k0 = blockIdx.x % tiles * tile::TAPS;
    uint32_t end = first + o.cut.part_rows < o.dy.count ? first + o.cut.part_rows : o.dy.count;
    uint32_t chunks = (end - first + tile::DEPTH - 1) / tile::DEPTH, warp = threadIdx.x / WARP;
    uint32_t down = warp / tile::ACROSS * SIDE, across = warp % tile::ACROSS * NT * SIDE;
    bool adds = k0 + across == 0; /* sums of dy */
    right<T, along_rows> ones;
    square<T> sums[NT], added;

    fill_with_ones(ones);
    nvcuda::wmma::fill_fragment(added, 0.0f);
#pragma unroll
    for (int j = 0; j < NT; j++)
        nvcuda::wmma::fill_fragment(sums[j], 0.0f);
    for (uint32_t coming = 0; coming < chunks + STAGES - 1; coming++) {
        uint32_t chunk = coming - (STAGES - 1), stage = chunk % STAGES;

        if (coming >= STAGES - 1) {
            __pipeline_wait_prior(STAGES - 2);
            __syncthreads(); /* this one has come, and all have read the one before it */
        }
        if (coming < chunks) {
            uint32_t row = first + coming * tile::DEPTH;

            nin__cuda_load_tile<true, tile::DEPTH, tile::FILTERS>(room.operands.dy[coming % STAGES],
                                                                  o.dy, row, end, n0);
            nin__cuda_load_tile<FLAT, tile::DEPTH, tile::TAPS>(room.operands.x[coming % STAGES],
                                                               o.x, row, end, k0);
        }
        __pipeline_commit();
        if (coming < STAGES - 1)
            continue;
#pragma unroll
        for (uint32_t r = 0; r < tile::DEPTH; r += operand<T>::STEP) {
            left<T, along_columns> a;

            load_dy(a, &room.operands.dy[stage][r][down], tile::DY_ROW, adds, added, ones);
#pragma unroll
            for (int j = 0; j < NT; j++) {
                right<T, along_rows> b;

                nin__cuda_load_fragment(b, &room.operands.x[stage][r][across + j * SIDE],
                                        tile::X_ROW);
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

/* ---- which tiles, and parts ----------------------------------------------------------------- */

uint32_t filters_of_tile(void)
{
    return sum_tile<float, 1>::FILTERS;
}

uint32_t choose_taps(uint32_t patch, bool flat)
{
    const uint32_t widths[] = {32, 96, 64, 128};

    return nin__cuda_choose_width(widths, flat ? 4 : 2, patch, filters_of_tile());
}

uint32_t sum_tiles(uint32_t filters, uint32_t patch, bool flat)
{
    return nin__cuda_tiles_over(filters, filters_of_tile()) *
           nin__cuda_tiles_over(patch, choose_taps(patch, flat));
}

template <typename T, bool FLAT, int NT>
nin_status start_sums(struct nin__device *device, const struct cuda_tensor_sums *o)
{
    size_t blocks = (size_t)o->cut.parts * sum_tiles(o->dy.depth, o->x.depth, FLAT);

    return nin__cuda_launch_threads(device, blocks, THREADS, multiply_parts<T, FLAT, NT>, *o);
}

template <typename T> nin_status start(struct nin__device *device, const struct cuda_tensor_sums *o)
{
    bool flat = o->x.flat;

    switch (choose_taps(o->x.depth, flat)) {
    case 32:
        return flat ? start_sums<T, true, 1>(device, o) : start_sums<T, false, 1>(device, o);
    case 64:
        return start_sums<T, true, 2>(device, o);
    case 96:
        return flat ? start_sums<T, true, 3>(device, o) : start_sums<T, false, 3>(device, o);
    default:
        return start_sums<T, true, 4>(device, o);
    }
}

template <typename T>
uint32_t most_parts(uint32_t filters, uint32_t patch, bool flat, uint32_t rows)
{
    uint32_t blocks = flat ? cutting<T>::BLOCKS : cutting<T>::BLOCKS_OF_WINDOWS;
    uint32_t wanted = nin__cuda_tiles_over(blocks, sum_tiles(filters, patch, flat));
    uint32_t possible = nin__cuda_tiles_over(rows, cutting<T>::ROWS);

    return wanted < possible ? wanted : possible;
}

} // namespace

nin_status nin__cuda_tensor_sums(struct nin__device *device, const struct cuda_tensor_sums *o)
{
    return o->x.narrow ? start<cuda_bf16>(device, o) : start<float>(device, o);
}

uint32_t nin__cuda_most_tensor_parts(uint32_t filters, uint32_t patch, bool flat, bool narrow,
                                     uint32_t rows)
{
    return narrow ? most_parts<cuda_bf16>(filters, patch, flat, rows)
                  : most_parts<float>(filters, patch, flat, rows);
}

void nin__cuda_cut_tensor_sums(struct cuda_tensor_sums *o)
{
    uint32_t most =
        nin__cuda_most_tensor_parts(o->dy.depth, o->x.depth, o->x.flat, o->x.narrow, o->dy.count);
    uint32_t wide = operand<float>::DEPTH, narrow = operand<cuda_bf16>::DEPTH;

    o->cut = nin__cuda_cut(o->dy.count, most, o->x.narrow ? narrow : wide);
}
