/* SPDX-License-Identifier: MIT */
/* Sums over rows, part by part. A block makes a tile of the sums of one part. It brings some rows
 * of both operands into shared memory while its warps multiply those before, each for a row of
 * squares of SIDE x SIDE sums. */
#include "cuda/operands.h"

namespace
{

enum {
    STAGES = 3,             /* what is multiplied, and what comes: sums over rows go on for long */
    PART_BLOCKS = 264,      /* that sums over rows are cut into, or so, */
    PART_BLOCKS_TAPS = 528, /* and with taps one by one: who looks for these waits more */
    PART_ROWS = 128,        /* of a part at least, for it is written in floats */
    AT_ONCE = 3,            /* blocks that a multiprocessor is to have, with 80 registers each, */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
    AT_ONCE_OF_WINDOWS = 2 /* of which those of windows need more here */
#else
    AT_ONCE_OF_WINDOWS = AT_ONCE
#endif
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

    struct alignas(ALIGNMENT) operands {
        T dy[STAGES][DEPTH][DY_ROW], x[STAGES][DEPTH][X_ROW];
    };
};

#if NIN__HAS_TENSOR_CORES

/* A fragment of dy: its words of filter lane / QUAD, and of that HALF further on, are added up. */
__device__ void add_words(float *sums, const struct fragment &dy, const cuda_bf16 *)
{
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        sums[i % 2] += __uint_as_float(dy.words[i] << 16);
        sums[i % 2] += __uint_as_float(dy.words[i] & 0xffff0000);
    }
}

__device__ void add_words(float *sums, const struct fragment &dy, const float *)
{
#pragma unroll
    for (uint32_t i = 0; i < 4; i++)
        sums[i % 2] += __uint_as_float(dy.words[i]);
}

/* The elements of a square that there are go to rows of so many. */
__device__ void store_square(float *target, uint32_t row, uint32_t rows, uint32_t columns,
                             const struct square &sums)
{
    uint32_t lane = threadIdx.x % WARP;

#pragma unroll
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t down = lane / QUAD + i % 4 / 2 * HALF;
        uint32_t across = lane % QUAD * 2 + i % 2 + i / 4 * HALF;

        if (down < rows && across < columns)
            target[down * row + across] = sums.halves[i / 4][i % 4];
    }
}

/* TAPS elements of DEPTH windows, from `row` on; tap: where this thread's are, the same at each
 * turn */
template <int TAPS, typename T, int ROW>
__device__ void load_windows(T (*tile)[ROW], const struct cuda_matrix &m, uint32_t row,
                             uint32_t end, const struct tap &tap)
{
    typedef struct pieces<T, operand<T>::DEPTH, TAPS> mine;

#pragma unroll
    for (uint32_t i = 0; i < mine::EACH; i++) {
        uint32_t down = mine::row() + i * mine::APART;

        nin__cuda_copy_piece(tile[down] + mine::column(), m.windows,
                             nin__cuda_corner_of<T>(m, row + down, end), tap);
    }
}

#endif

template <typename T, enum cuda_layout LAYOUT, int NT>
__global__ void __launch_bounds__(THREADS, LAYOUT == CUDA_ROWS ? AT_ONCE : AT_ONCE_OF_WINDOWS)
    multiply_parts(struct cuda_tensor_sums o)
{
#if NIN__HAS_TENSOR_CORES
    typedef sum_tile<T, NT> tile;
    __shared__ typename tile::operands operands;
    __shared__ float sums_of_dy[QUAD][tile::FILTERS];
    uint32_t filters = o.dy.depth, patch = o.x.depth;
    uint32_t tiles = (patch + tile::TAPS - 1) / tile::TAPS;
    uint32_t all = (filters + tile::FILTERS - 1) / tile::FILTERS * tiles;
    uint32_t part = blockIdx.x / all, first = part * o.cut.part_rows;
    uint32_t n0 = blockIdx.x % all / tiles * tile::FILTERS;
    uint32_t k0 = blockIdx.x % tiles * tile::TAPS;
    uint32_t end = first + o.cut.part_rows < o.dy.count ? first + o.cut.part_rows : o.dy.count;
    uint32_t chunks = (end - first + tile::DEPTH - 1) / tile::DEPTH, warp = threadIdx.x / WARP;
    uint32_t down = warp / tile::ACROSS * SIDE, across = warp % tile::ACROSS * NT * SIDE;
    uint32_t lane = threadIdx.x % WARP;
    bool adds = k0 + across == 0; /* sums of dy */
    struct square sums[NT] = {};
    float added[2] = {};
    struct tap tap = {};

    if constexpr (LAYOUT == CUDA_VECTORS) {
        tap = nin__cuda_tap_of(o.x, k0 + pieces<T, tile::DEPTH, tile::TAPS>::column());
        nin__cuda_keep(&tap);
    }
    for (uint32_t coming = 0; coming < chunks + STAGES - 1; coming++) {
        uint32_t chunk = coming - (STAGES - 1), stage = chunk % STAGES;

        if (coming >= STAGES - 1) {
            __pipeline_wait_prior(STAGES - 2);
            __syncthreads(); /* this one has come, and all have read the one before it */
        }
        if (coming < chunks) {
            uint32_t row = first + coming * tile::DEPTH, next = coming % STAGES;

            nin__cuda_load_tile<true, tile::DEPTH, tile::FILTERS>(operands.dy[next], o.dy, row, end,
                                                                  n0);
            if constexpr (LAYOUT == CUDA_VECTORS)
                load_windows<tile::TAPS>(operands.x[next], o.x, row, end, tap);
            else
                nin__cuda_load_tile<LAYOUT == CUDA_ROWS, tile::DEPTH, tile::TAPS>(
                    operands.x[next], o.x, row, end, k0);
        }
        __pipeline_commit();
        if (coming < STAGES - 1)
            continue;
#pragma unroll
        for (uint32_t r = 0; r < tile::DEPTH; r += operand<T>::STEP) {
            const T *from = &operands.dy[stage][r][down];
            struct fragment dy;

            nin__cuda_load_fragment<false, false>(&dy, from, tile::DY_ROW);
            if (adds)
                add_words(added, dy, from);
            nin__cuda_round_fragment(&dy, from);
#pragma unroll
            for (int j = 0; j < NT; j++) {
                struct fragment x;

                nin__cuda_load_fragment<true, false>(&x, &operands.x[stage][r][across + j * SIDE],
                                                     tile::X_ROW);
                nin__cuda_round_fragment(&x, from);
                nin__cuda_add_products<T>(&sums[j], dy, x);
            }
        }
    }
    float *result = o.sums + (size_t)part * filters * (patch + 1);
    uint32_t n = n0 + down, rows = n < filters ? filters - n : 0;

#pragma unroll
    for (int j = 0; j < NT; j++) {
        uint32_t k = k0 + across + j * SIDE;

        store_square(result + (size_t)n * patch + k, patch, rows, k < patch ? patch - k : 0,
                     sums[j]);
    }
    if (adds)
#pragma unroll
        for (uint32_t i = 0; i < 2; i++)
            sums_of_dy[lane % QUAD][down + lane / QUAD + i * HALF] = added[i];
    __syncthreads();
    if (k0 == 0 && threadIdx.x < tile::FILTERS && n0 + threadIdx.x < filters) {
        float sum = 0.0f;

        for (uint32_t i = 0; i < QUAD; i++)
            sum += sums_of_dy[i][threadIdx.x];
        result[(size_t)filters * patch + n0 + threadIdx.x] = sum;
    }
#endif
}

/* ---- which tiles, and parts ----------------------------------------------------------------- */

uint32_t filters_of_tile(void)
{
    return sum_tile<float, 1>::FILTERS;
}

uint32_t choose_taps(uint32_t patch, enum cuda_layout layout)
{
    const uint32_t widths[] = {32, 96, 64, 128}, some[] = {32, 96}, wide[] = {64, 128};

    switch (layout) {
    case CUDA_TAPS:
        return nin__cuda_choose_width(some, 2, patch, filters_of_tile());
    case CUDA_VECTORS:
        return nin__cuda_choose_width(wide, 2, patch, filters_of_tile());
    default:
        return nin__cuda_choose_width(widths, 4, patch, filters_of_tile());
    }
}

uint32_t sum_tiles(uint32_t filters, uint32_t patch, enum cuda_layout layout)
{
    return nin__cuda_tiles_over(filters, filters_of_tile()) *
           nin__cuda_tiles_over(patch, choose_taps(patch, layout));
}

template <typename T, enum cuda_layout LAYOUT, int NT>
nin_status start_sums(struct nin__device *device, const struct cuda_tensor_sums *o)
{
    size_t blocks = (size_t)o->cut.parts * sum_tiles(o->dy.depth, o->x.depth, LAYOUT);

    return nin__cuda_launch_threads(device, blocks, THREADS, multiply_parts<T, LAYOUT, NT>, *o);
}

template <typename T>
nin_status start_rows(struct nin__device *device, const struct cuda_tensor_sums *o)
{
    switch (choose_taps(o->x.depth, CUDA_ROWS)) {
    case 32:
        return start_sums<T, CUDA_ROWS, 1>(device, o);
    case 64:
        return start_sums<T, CUDA_ROWS, 2>(device, o);
    case 96:
        return start_sums<T, CUDA_ROWS, 3>(device, o);
    default:
        return start_sums<T, CUDA_ROWS, 4>(device, o);
    }
}

template <typename T> nin_status start(struct nin__device *device, const struct cuda_tensor_sums *o)
{
    switch (o->x.layout) {
    case CUDA_TAPS:
        return choose_taps(o->x.depth, CUDA_TAPS) == 32 ? start_sums<T, CUDA_TAPS, 1>(device, o)
                                                        : start_sums<T, CUDA_TAPS, 3>(device, o);
    case CUDA_VECTORS:
        return choose_taps(o->x.depth, CUDA_VECTORS) == 64
                   ? start_sums<T, CUDA_VECTORS, 2>(device, o)
                   : start_sums<T, CUDA_VECTORS, 4>(device, o);
    default:
        return start_rows<T>(device, o);
    }
}

} // namespace

nin_status nin__cuda_tensor_sums(struct nin__device *device, const struct cuda_tensor_sums *o)
{
    return o->x.narrow ? start<cuda_bf16>(device, o) : start<float>(device, o);
}

uint32_t nin__cuda_most_tensor_parts(uint32_t filters, uint32_t patch, enum cuda_layout layout,
                                     uint32_t rows)
{
    uint32_t blocks = layout == CUDA_TAPS ? PART_BLOCKS_TAPS : PART_BLOCKS;
    uint32_t wanted = nin__cuda_tiles_over(blocks, sum_tiles(filters, patch, layout));
    uint32_t possible = nin__cuda_tiles_over(rows, PART_ROWS);

    return wanted < possible ? wanted : possible;
}

void nin__cuda_cut_tensor_sums(struct cuda_tensor_sums *o)
{
    uint32_t most = nin__cuda_most_tensor_parts(o->dy.depth, o->x.depth, o->x.layout, o->dy.count);
    uint32_t wide = operand<float>::DEPTH, narrow = operand<cuda_bf16>::DEPTH;

    o->cut = nin__cuda_cut(o->dy.count, most, o->x.narrow ? narrow : wide);
}
