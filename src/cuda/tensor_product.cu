/* SPDX-License-Identifier: MIT */
/* Rows times a matrix. A block makes a tile of the result. It brings some columns of both operands
 * into shared memory while its warps multiply those before, each for a part of the tile, as squares
 * of SIDE x SIDE elements. */
#include "cuda/operands.h"

namespace
{

enum {
    ROWS = 128,        /* of a tile */
    SHARED = 47 << 10, /* bytes that operands have at most */
    FEW_BLOCKS = 132   /* with fewer, tiles are narrower */
};

/* Blocks that a multiprocessor is to have at once: three, with 80 registers a thread, where a warp
 * has few squares across, else two, with 128. Elsewhere than on sm_90 addresses take more of them,
 * of taps one by one above all. */
enum {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
    FEW_SQUARES = 2,
    TAPS_AT_ONCE = 2
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
    FEW_SQUARES = 3,
    TAPS_AT_ONCE = 2
#else
    FEW_SQUARES = 3,
    TAPS_AT_ONCE = 3
#endif
};

constexpr int at_once(enum cuda_layout layout, int squares)
{
    return layout == CUDA_TAPS ? TAPS_AT_ONCE : squares > FEW_SQUARES ? 2 : 3;
}

/* Tiles that WARPS / ACROSS x ACROSS warps make, each of them DOWN x NT squares. */
template <typename T, bool TRANSPOSED, int ACROSS, int NT> struct row_tile {
    enum {
        DEPTH = operand<T>::DEPTH,
        DOWN = ROWS * ACROSS / WARPS / SIDE,
        COLUMNS = ACROSS * NT * SIDE,
        A_ROW = DEPTH + operand<T>::ALONG,
        B_HEIGHT = TRANSPOSED ? COLUMNS : DEPTH,
        B_WIDTH = TRANSPOSED ? DEPTH : COLUMNS,
        B_ROW = B_WIDTH + (TRANSPOSED ? operand<T>::ALONG : operand<T>::ACROSS),
        STAGE = (ROWS * A_ROW + B_HEIGHT * B_ROW) * sizeof(T),
        STAGES = 3 * STAGE > SHARED ? 2 : 3 /* what is multiplied, and what comes */
    };

    struct alignas(ALIGNMENT) operands {
        T a[STAGES][ROWS][A_ROW], b[STAGES][B_HEIGHT][B_ROW];
    };
};

#if NIN__HAS_TENSOR_CORES

/* Neighbours in a row. */
template <typename C> struct alignas(2 * sizeof(C)) pair {
    C x, y;
};

template <int COLUMNS>
__device__ void load_bias(float *bias, const struct cuda_tensor_product &p, uint32_t n0,
                          uint32_t columns)
{
    for (uint32_t i = threadIdx.x; i < COLUMNS; i += THREADS)
        bias[i] = p.bias != NULL && n0 + i < columns ? p.bias[n0 + i] : 0.0f;
}

/* The first two columns, or the one that there is, of `count` that are left in a row. */
template <typename C>
__device__ void store_pair(C *to, uint32_t columns, uint32_t count, float x, float y)
{
    struct pair<C> stored;

    nin__cuda_store(&stored.x, x);
    nin__cuda_store(&stored.y, y);
    if (columns % 2 == 0) {
        *(struct pair<C> *)(void *)to = stored;
        return;
    }
    to[0] = stored.x;
    if (count > 1)
        to[1] = stored.y;
}

template <typename T>
__device__ void store(const struct cuda_tensor_product &p, uint32_t columns, size_t at,
                      uint32_t count, float x, float y)
{
    if (nin__cuda_is_stored_as<T>(p.narrow))
        store_pair((T *)p.c + at, columns, count, x, y);
    else
        store_pair((float *)p.c + at, columns, count, x, y);
}

__device__ float finished(const struct cuda_tensor_product &p, float sum, float bias, float gate)
{
    float v = sum + bias;

    return nin__cuda_gated(p.relu ? nin__cuda_rectified(v) : v, gate);
}

/* A row of squares, from column n on: this thread's part of row `row`, which is in their upper
 * half, or the lower one. All gates are read before anything is written, for the compiler cannot
 * know that none is an output. */
template <typename T, int NT>
__device__ void finish_row(const struct cuda_tensor_product &p, uint32_t columns,
                           const struct square *sums, bool lower, const float *bias, uint32_t row,
                           uint32_t n)
{
    uint32_t first = threadIdx.x % QUAD * 2;
    struct pair<float> gates[NT][2];

#pragma unroll
    for (uint32_t i = 0; i < 2 * NT; i++) {
        uint32_t c = n + i * HALF + first;
        struct pair<float> &gate = gates[i / 2][i % 2];

        gate.x = gate.y = 1.0f;
        if (p.gate != NULL && c < columns) {
            struct pair<T> from =
                *(const struct pair<T> *)(const void *)((const T *)p.gate + (size_t)row * columns +
                                                        c);

            gate.x = nin__cuda_load(&from.x);
            gate.y = nin__cuda_load(&from.y);
        }
    }
#pragma unroll
    for (uint32_t i = 0; i < 2 * NT; i++) {
        uint32_t in = i * HALF + first, c = n + in;
        const float *sum = sums[i / 2].halves[i % 2] + (lower ? 2 : 0);
        struct pair<float> gate = gates[i / 2][i % 2];

        if (c < columns)
            store<T>(p, columns, (size_t)row * columns + c, columns - c,
                     finished(p, sum[0], bias[in], gate.x),
                     finished(p, sum[1], bias[in + 1], gate.y));
    }
}

/* Adds the products of one stage, whose columns from `depth` on are zeros and left out, step by
 * step. a, b: where the warp's part begins. b has been rounded. */
template <bool TRANSPOSED, int DOWN, int NT, int A_ROW, int B_ROW, typename T>
__device__ void multiply_stage(struct square (*sums)[NT], const T *a, const T *b, uint32_t depth)
{
    const uint32_t step = operand<T>::STEP;

#pragma unroll
    for (uint32_t k = 0; k < operand<T>::DEPTH; k += step) {
        struct fragment rows[DOWN];

        if (k >= depth)
            break;
#pragma unroll
        for (int i = 0; i < DOWN; i++) {
            nin__cuda_load_fragment<false, true>(&rows[i], a + i * SIDE * A_ROW + k, A_ROW);
            nin__cuda_round_fragment(&rows[i], a);
        }
#pragma unroll
        for (int j = 0; j < NT; j++) {
            struct fragment columns;

            nin__cuda_load_fragment<true, TRANSPOSED>(
                &columns, b + (TRANSPOSED ? j * SIDE * B_ROW + k : k * B_ROW + j * SIDE), B_ROW);
#pragma unroll
            for (int i = 0; i < DOWN; i++)
                nin__cuda_add_products<T>(&sums[i][j], rows[i], columns);
        }
    }
}

/* The windows of which this thread copies pieces, from row0 on: the same at each turn. */
template <int EACH, typename T>
__device__ void find_corners(struct corner<T> (&corners)[EACH], const struct cuda_matrix &m,
                             uint32_t row0)
{
    typedef struct pieces<T, ROWS, operand<T>::DEPTH> mine;

#pragma unroll
    for (uint32_t i = 0; i < EACH; i++) {
        corners[i] = nin__cuda_corner_of<T>(m, row0 + mine::row() + i * mine::APART, m.count);
        nin__cuda_keep(&corners[i]);
    }
}

/* DEPTH elements of ROWS windows, from k0 on. */
template <int EACH, typename T, int ROW>
__device__ void load_windows(T (*tile)[ROW], const struct cuda_matrix &m,
                             const struct corner<T> (&corners)[EACH], uint32_t k0)
{
    typedef struct pieces<T, ROWS, operand<T>::DEPTH> mine;
    struct tap tap = nin__cuda_tap_of(m, k0 + mine::column());

#pragma unroll
    for (uint32_t i = 0; i < EACH; i++)
        nin__cuda_copy_piece(tile[mine::row() + i * mine::APART] + mine::column(), m.windows,
                             corners[i], tap);
}

#endif

template <typename T, enum cuda_layout LAYOUT, bool TRANSPOSED, int ACROSS, int NT>
__global__ void __launch_bounds__(THREADS, at_once(LAYOUT, NT))
    multiply_rows(struct cuda_tensor_product p, uint32_t columns, uint32_t tiles)
{
#if NIN__HAS_TENSOR_CORES
    typedef row_tile<T, TRANSPOSED, ACROSS, NT> tile;
    __shared__ typename tile::operands operands;
    __shared__ float bias[tile::COLUMNS];
    uint32_t row0 = blockIdx.x / tiles * ROWS, n0 = blockIdx.x % tiles * tile::COLUMNS;
    uint32_t warp = threadIdx.x / WARP, down = warp / ACROSS * tile::DOWN * SIDE;
    uint32_t across = warp % ACROSS * NT * SIDE;
    uint32_t chunks = (p.a.depth + tile::DEPTH - 1) / tile::DEPTH;
    struct square sums[tile::DOWN][NT] = {};
    struct corner<T> corners[pieces<T, ROWS, tile::DEPTH>::EACH];

    if constexpr (LAYOUT == CUDA_VECTORS)
        find_corners(corners, p.a, row0);
    load_bias<tile::COLUMNS>(bias, p, n0, columns);
    for (uint32_t coming = 0; coming < chunks + tile::STAGES - 1; coming++) {
        uint32_t chunk = coming - (tile::STAGES - 1), stage = chunk % tile::STAGES;

        if (coming < chunks) {
            uint32_t k0 = coming * tile::DEPTH, next = coming % tile::STAGES;

            if constexpr (LAYOUT == CUDA_VECTORS)
                load_windows(operands.a[next], p.a, corners, k0);
            else
                nin__cuda_load_tile<LAYOUT == CUDA_ROWS, ROWS, tile::DEPTH>(operands.a[next], p.a,
                                                                            row0, p.a.count, k0);
            nin__cuda_load_tile<true, tile::B_HEIGHT, tile::B_WIDTH>(
                operands.b[next], p.b, TRANSPOSED ? n0 : k0, p.b.count, TRANSPOSED ? k0 : n0);
        }
        __pipeline_commit();
        if (coming < tile::STAGES - 1)
            continue;
        __pipeline_wait_prior(tile::STAGES - 1);
        __syncthreads();
        multiply_stage<TRANSPOSED, tile::DOWN, NT, tile::A_ROW, tile::B_ROW, T>(
            sums, operands.a[stage][down],
            &operands.b[stage][TRANSPOSED ? across : 0][TRANSPOSED ? 0 : across],
            p.a.depth - chunk * tile::DEPTH);
        __syncthreads(); /* all have read what comes next overwrites */
    }
#pragma unroll
    for (uint32_t i = 0; i < 2 * tile::DOWN; i++) {
        uint32_t row = row0 + down + i * HALF + threadIdx.x % WARP / QUAD;

        if (row < p.a.count)
            finish_row<T, NT>(p, columns, sums[i / 2], i % 2 == 1, bias + across, row, n0 + across);
    }
#endif
}

/* ---- which tiles ---------------------------------------------------------------------------- */

template <typename T, enum cuda_layout LAYOUT, bool TRANSPOSED, int ACROSS, int NT>
nin_status start_rows(struct nin__device *device, const struct cuda_tensor_product *p,
                      uint32_t columns)
{
    uint32_t tiles = nin__cuda_tiles_over(columns, row_tile<T, TRANSPOSED, ACROSS, NT>::COLUMNS);

    return nin__cuda_launch_threads(device, (size_t)nin__cuda_tiles_over(p->a.count, ROWS) * tiles,
                                    THREADS, multiply_rows<T, LAYOUT, TRANSPOSED, ACROSS, NT>, *p,
                                    columns, tiles);
}

/* Tiles of 48 columns or more. */
template <typename T, enum cuda_layout LAYOUT, bool TRANSPOSED>
nin_status start_width(struct nin__device *device, const struct cuda_tensor_product *p,
                       uint32_t columns, uint32_t width)
{
    switch (width) {
    case 48:
        return start_rows<T, LAYOUT, TRANSPOSED, 1, 3>(device, p, columns);
    case 64:
        return start_rows<T, LAYOUT, TRANSPOSED, 2, 2>(device, p, columns);
    case 96:
        return start_rows<T, LAYOUT, TRANSPOSED, 2, 3>(device, p, columns);
    default:
        return start_rows<T, LAYOUT, TRANSPOSED, 2, 4>(device, p, columns);
    }
}

template <typename T, bool TRANSPOSED>
nin_status start_product(struct nin__device *device, const struct cuda_tensor_product *p,
                         uint32_t columns)
{
    const uint32_t widths[] = {16, 48, 64, 96, 128};
    int count = nin__cuda_tiles_over(p->a.count, ROWS) < FEW_BLOCKS ? 3 : 5;
    uint32_t width = nin__cuda_choose_width(widths, count, columns, 32);

    return width == 16 ? start_rows<T, CUDA_ROWS, TRANSPOSED, 1, 1>(device, p, columns)
                       : start_width<T, CUDA_ROWS, TRANSPOSED>(device, p, columns, width);
}

/* Of windows, which each tile looks for again. */
template <typename T>
nin_status start_taps(struct nin__device *device, const struct cuda_tensor_product *p,
                      uint32_t columns)
{
    return columns > 48 ? start_rows<T, CUDA_TAPS, true, 2, 3>(device, p, columns)
                        : start_rows<T, CUDA_TAPS, true, 1, 3>(device, p, columns);
}

/* Finding windows is as much work again as other rows are. No tile is so wide that there would be
 * few blocks. */
template <typename T>
nin_status start_vectors(struct nin__device *device, const struct cuda_tensor_product *p,
                         uint32_t columns)
{
    const uint32_t widths[] = {32, 48, 64, 96, 128}, down = nin__cuda_tiles_over(p->a.count, ROWS);
    uint32_t width;
    int count = 1;

    while (count < 5 && down * nin__cuda_tiles_over(columns, widths[count]) >= FEW_BLOCKS)
        count++;
    width = nin__cuda_choose_width(widths, count, columns, 64);
    return width == 32 ? start_rows<T, CUDA_VECTORS, true, 1, 2>(device, p, columns)
                       : start_width<T, CUDA_VECTORS, true>(device, p, columns, width);
}

template <typename T>
nin_status start(struct nin__device *device, const struct cuda_tensor_product *p)
{
    switch (p->a.layout) {
    case CUDA_TAPS:
        return start_taps<T>(device, p, p->b.count);
    case CUDA_VECTORS:
        return start_vectors<T>(device, p, p->b.count);
    default:
        return p->transposed ? start_product<T, true>(device, p, p->b.count)
                             : start_product<T, false>(device, p, p->b.depth);
    }
}

} // namespace

nin_status nin__cuda_tensor_product(struct nin__device *device, const struct cuda_tensor_product *p)
{
    return p->b.narrow ? start<cuda_bf16>(device, p) : start<float>(device, p);
}
