/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_OPERANDS_H
#define NIN__CUDA_OPERANDS_H

/* Operands of products by the tensor cores: how a block brings tiles of them into shared memory,
 * and how a warp takes its part of a tile, as fragments. In NIN_BF16 they are bf16 there, in
 * NIN_TF32 floats, which are rounded when they are fragments. */

#include "cuda/ptx.h"
#include "cuda/tensor_cores.h"

#include <cuda_pipeline.h>

enum {
    WARP = 32,
    WARPS = 8,
    THREADS = WARPS * WARP,
    SIDE = 16, /* of a square of sums, of which a warp has some */
    HALF = SIDE / 2,
    QUAD = 4,      /* lanes that have a row, or a column */
    ALIGNMENT = 16 /* of rows in shared memory, in bytes */
};

/* Of operands that are a T in shared memory. Rows are longer there than what is in them, so that
 * what a warp loads at once lies in different banks; by how much depends on whether the depth, over
 * which sums go, lies along a row or across rows. */
template <typename T> struct operand;

template <> struct operand<cuda_bf16> {
    enum {
        PIECE = 8,  /* elements that are copied at once: 16 bytes */
        STEP = 16,  /* of a fragment's depth, */
        DEPTH = 32, /* and of what comes into shared memory at a time */
        ALONG = 8,
        ACROSS = 8
    };
};

template <> struct operand<float> {
    enum {
        PIECE = 4,
        STEP = 8,
        DEPTH = 16,
        ALONG = 4,
        ACROSS = 8
    };
};

/* Whether what is bf16 in memory, or float, is a T there. */
template <typename T> static __device__ inline bool nin__cuda_is_stored_as(bool narrow)
{
    return sizeof(T) == sizeof(float) || narrow;
}

#if NIN__HAS_TENSOR_CORES

/* ---- tiles in shared memory ----------------------------------------------------------------- */

static __device__ inline void nin__cuda_bring(cuda_bf16 *target, const cuda_bf16 *from, bool there)
{
    *target = there ? *from : __float2bfloat16_rn(0.0f);
}

/* It comes while the thread goes on. */
static __device__ inline void nin__cuda_bring(float *target, const float *from, bool there)
{
    __pipeline_memcpy_async(target, from, sizeof *target, there ? 0 : sizeof *target);
}

static __device__ inline cuda_bf16 nin__cuda_narrowed(const struct cuda_matrix &m, size_t at)
{
    return m.narrow ? ((const cuda_bf16 *)m.data)[at]
                    : __float2bfloat16_rn(((const float *)m.data)[at]);
}

static __device__ inline void nin__cuda_load_elements(cuda_bf16 *piece, const struct cuda_matrix &m,
                                                      uint32_t row, uint32_t k)
{
    for (uint32_t e = 0; e < operand<cuda_bf16>::PIECE; e++)
        piece[e] = k + e < m.depth ? nin__cuda_narrowed(m, (size_t)row * m.depth + k + e)
                                   : __float2bfloat16_rn(0.0f);
}

static __device__ inline void nin__cuda_load_elements(float *piece, const struct cuda_matrix &m,
                                                      uint32_t row, uint32_t k)
{
    const float *from = (const float *)m.data + (size_t)row * m.depth;

#pragma unroll
    for (uint32_t e = 0; e < operand<float>::PIECE; e++) {
        bool there = k + e < m.depth;

        nin__cuda_bring(piece + e, from + (there ? k + e : 0), there);
    }
}

/* Taps of a window, of a map that is stored as T: one tap is found by division, the others follow
 * it. */
template <typename T>
__device__ void nin__cuda_load_taps(T *piece, const struct cuda_matrix &m, uint32_t row, uint32_t k)
{
    const struct windows &w = m.windows;
    uint32_t pixels = (uint32_t)w.out_h * (uint32_t)w.out_w, pixel = row % pixels;
    const T *image = (const T *)m.data + (size_t)(row / pixels) * nin__cuda_in_size(w);
    int32_t c = (int32_t)k % w.in_c, s = (int32_t)k / w.in_c % w.kernel_w;
    int32_t y =
        (int32_t)(pixel / (uint32_t)w.out_w) * w.stride - w.pad + (int32_t)k / w.in_c / w.kernel_w;
    int32_t x = (int32_t)(pixel % (uint32_t)w.out_w) * w.stride - w.pad;

#pragma unroll
    for (uint32_t e = 0; e < operand<T>::PIECE; e++) {
        bool inside = k + e < m.depth && y >= 0 && y < w.in_h && x + s >= 0 && x + s < w.in_w;

        nin__cuda_bring(piece + e, image + (inside ? (y * w.in_w + x + s) * w.in_c + c : 0),
                        inside);
        c = c + 1 < w.in_c ? c + 1 : 0;
        s += c == 0;
        y += s == w.kernel_w;
        s = s == w.kernel_w ? 0 : s;
    }
}

/* WIDTH columns of HEIGHT rows of a matrix, from (row0, k0) on, into shared memory; zeros from row
 * `end` on, and behind its columns. What is in pieces comes while the thread goes on; where there
 * is none, it may point anywhere. */
template <bool FLAT, int HEIGHT, int WIDTH, typename T, int ROW>
__device__ void nin__cuda_load_tile(T (*tile)[ROW], const struct cuda_matrix &m, uint32_t row0,
                                    uint32_t end, uint32_t k0)
{
    enum {
        PIECE = operand<T>::PIECE,
        PIECES = WIDTH / PIECE, /* of a row */
        ALL = HEIGHT * PIECES
    };
    bool whole = FLAT && nin__cuda_is_stored_as<T>(m.narrow) && m.depth % PIECE == 0;
    const size_t bytes = PIECE * sizeof **tile;

    if (whole) {
#pragma unroll
        for (uint32_t first = 0; first < ALL; first += THREADS) {
            uint32_t i = first + threadIdx.x, in = i % PIECES * PIECE, row = row0 + i / PIECES;
            const T *from = (const T *)m.data + (size_t)row * m.depth + (k0 + in);

            if (ALL % THREADS == 0 || i < ALL)
                __pipeline_memcpy_async(tile[i / PIECES] + in, from, bytes,
                                        row < end && k0 + in < m.depth ? 0 : bytes);
        }
        return;
    }
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < ALL; i += THREADS) {
        uint32_t row = row0 + i / PIECES, k = k0 + i % PIECES * PIECE;
        T *target = tile[i / PIECES] + i % PIECES * PIECE;

        if (row >= end || k >= m.depth)
            __pipeline_memcpy_async(target, (const T *)m.data, bytes, bytes);
        else if (FLAT)
            nin__cuda_load_elements(target, m, row, k);
        else
            nin__cuda_load_taps(target, m, row, k);
    }
}

/* ---- tiles of CUDA_VECTORS ------------------------------------------------------------------ */

/* Where a window begins, which may be outside of its image. */
template <typename T> struct corner {
    const T *first;
    int32_t y, x;
};

/* A piece of a window, which is of one tap: how far behind the window's first element. */
struct tap {
    int32_t offset, r, s;
};

/* From row `end` on windows see nothing, wherever they seem to begin. */
template <typename T>
__device__ corner<T> nin__cuda_corner_of(const struct cuda_matrix &m, uint32_t row, uint32_t end)
{
    const struct windows &w = m.windows;
    uint32_t image = nin__cuda_quotient(row, m.by_pixels);
    uint32_t pixel = row - image * m.by_pixels.value;
    uint32_t out_y = nin__cuda_quotient(pixel, m.by_width);
    uint32_t out_x = pixel - out_y * m.by_width.value;
    int32_t y = (int32_t)out_y * w.stride - w.pad, x = (int32_t)out_x * w.stride - w.pad;
    struct corner<T> corner = {
        (const T *)m.data + (size_t)image *nin__cuda_in_size(w) +
            (ptrdiff_t)(y *w.in_w + x) * w.in_c,
            row < end ? y : w.in_h, x
    };

    return corner;
}

/* Behind a window's elements nothing is seen: none begins further up than `pad`, which is not
 * negative. */
static __device__ inline struct tap nin__cuda_tap_of(const struct cuda_matrix &m, uint32_t k)
{
    const struct windows &w = m.windows;
    uint32_t rs = nin__cuda_quotient(k, m.by_channels), r = nin__cuda_quotient(rs, m.by_kernel_w);
    int32_t s = (int32_t)(rs - r * m.by_kernel_w.value);
    struct tap tap = {((int32_t)r * w.in_w + s) * w.in_c + (int32_t)(k - rs * m.by_channels.value),
                      k < m.depth ? (int32_t)r : w.in_h + w.pad, s};

    return tap;
}

template <typename T> __device__ void nin__cuda_keep(struct corner<T> *corner)
{
    nin__cuda_keep(&corner->first);
    nin__cuda_keep(&corner->y);
    nin__cuda_keep(&corner->x);
}

static __device__ inline void nin__cuda_keep(struct tap *tap)
{
    nin__cuda_keep(&tap->offset);
    nin__cuda_keep(&tap->r);
    nin__cuda_keep(&tap->s);
}

/* What is outside of the image is 0. */
template <typename T>
__device__ void nin__cuda_copy_piece(T *target, const struct windows &w, const struct corner<T> &at,
                                     const struct tap &tap)
{
    const size_t bytes = operand<T>::PIECE * sizeof *target;
    bool inside =
        (uint32_t)(at.y + tap.r) < (uint32_t)w.in_h && (uint32_t)(at.x + tap.s) < (uint32_t)w.in_w;

    __pipeline_memcpy_async(target, at.first + tap.offset, bytes, inside ? 0 : bytes);
}

/* Which pieces of a tile of HEIGHT x WIDTH a thread copies: EACH of them in one column, APART rows
 * from one another. */
template <typename T, int HEIGHT, int WIDTH> struct pieces {
    enum {
        PIECES = WIDTH / operand<T>::PIECE, /* of a row */
        APART = THREADS / PIECES,
        EACH = HEIGHT / APART
    };
    static_assert(EACH * APART == HEIGHT, "each thread copies as much");

    static __device__ uint32_t row()
    {
        return threadIdx.x / PIECES;
    }

    static __device__ uint32_t column()
    {
        return threadIdx.x % PIECES * operand<T>::PIECE;
    }
};

/* ---- fragments ------------------------------------------------------------------------------ */

/* What a thread has of SIDE rows of a left operand, or columns of a right one, of STEP elements. It
 * is in quarters: the first HALF of the rows, or the other one, and of the depth likewise. */
struct fragment {
    uint32_t words[4];
};

struct quarter {
    uint32_t row, depth; /* 0 or 1 */
};

/* In the order in which words are multiplied. */
template <bool RIGHT> static __device__ inline struct quarter nin__cuda_quarter(uint32_t i)
{
    struct quarter left = {i % 2, i / 2}, right = {i / 2, i % 2};

    return RIGHT ? right : left;
}

template <bool RIGHT>
__device__ void nin__cuda_load_across(struct fragment *f, const cuda_bf16 *from, uint32_t row)
{
    uint32_t lane = threadIdx.x % WARP;
    struct quarter q = nin__cuda_quarter<RIGHT>(lane / HALF);

    nin__cuda_load_transposed(f->words, from + (lane % HALF + q.depth * HALF) * row + q.row * HALF);
}

template <bool RIGHT>
__device__ void nin__cuda_load_across(struct fragment *f, const float *from, uint32_t row)
{
    uint32_t lane = threadIdx.x % WARP;

#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        struct quarter q = nin__cuda_quarter<RIGHT>(i);

        f->words[i] = __float_as_uint(from[(lane % QUAD + q.depth * operand<float>::PIECE) * row +
                                           lane / QUAD + q.row * HALF]);
    }
}

/* The depth lies along rows in shared memory, which are `row` elements apart, or across them. */
template <bool RIGHT, bool ALONG, typename T>
__device__ void nin__cuda_load_fragment(struct fragment *f, const T *from, uint32_t row)
{
    uint32_t lane = threadIdx.x % WARP;
    struct quarter q = nin__cuda_quarter<RIGHT>(lane / HALF);

    if (ALONG)
        nin__cuda_load_matrices(f->words, from + (lane % HALF + q.row * HALF) * row +
                                              q.depth * operand<T>::PIECE);
    else
        nin__cuda_load_across<RIGHT>(f, from, row);
}

static __device__ inline void nin__cuda_round_fragment(struct fragment *, const cuda_bf16 *)
{
}

static __device__ inline void nin__cuda_round_fragment(struct fragment *f, const float *)
{
#pragma unroll
    for (uint32_t i = 0; i < 4; i++)
        f->words[i] = __float_as_uint(nin__cuda_rounded_to_tf32(__uint_as_float(f->words[i])));
}

/* SIDE x SIDE sums, half by half: of rows lane / QUAD and HALF further down two columns each, from
 * 2 (lane % QUAD) on. */
struct square {
    float halves[2][4];
};

/* += the rows of a times the columns of b */
template <typename T>
__device__ void nin__cuda_add_products(struct square *sums, const struct fragment &a,
                                       const struct fragment &b)
{
    nin__cuda_multiply_add<T>(sums->halves[0], a.words, b.words[0], b.words[1]);
    nin__cuda_multiply_add<T>(sums->halves[1], a.words, b.words[2], b.words[3]);
}

#endif

/* Of tiles of these widths that which has the least to do; `again`: what each tile does besides,
 * for its other operand, in columns. */
static inline uint32_t nin__cuda_choose_width(const uint32_t *widths, int count, uint32_t columns,
                                              uint32_t again)
{
    uint32_t best = widths[0];

    for (int i = 1; i < count; i++)
        if (nin__cuda_tiles_over(columns, widths[i]) * (widths[i] + again) <
            nin__cuda_tiles_over(columns, best) * (best + again))
            best = widths[i];
    return best;
}

#endif
