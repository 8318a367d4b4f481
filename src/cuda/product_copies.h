/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_PRODUCT_COPIES_H
#define NIN__CUDA_PRODUCT_COPIES_H

/* What the blocks of both kinds of products have in common: how their operands come into shared
 * memory. DEPTH columns, or rows, of both come while the block multiplies the DEPTH before; what a
 * thread copies lies where it did the last time, but DEPTH further, so that there is little to
 * compute for it. Each thread has sums of TM x TN elements in registers, so that one load from
 * shared memory serves several of its multiply-adds. */

#include "cuda/product.h"

#include <cuda_pipeline.h>

/* nvcc does not see those of a template. */
#pragma nv_diag_suppress missing_launch_bounds

namespace
{

enum {
    THREADS = 128,          /* of a block */
    DEPTH = 16,             /* of what comes into shared memory at a time */
    STAGES = 2,             /* what is multiplied, and what comes */
    LANES = THREADS / DEPTH /* threads for a row, where DEPTH rows come */
};

/* Blocks that a multiprocessor is to have at once, for so many sums of a thread: 168 or 128
 * registers each. Before sm_90, addresses take some more; where sm_90 shares the front end of sm_80
 * (see Makefile), it counts as that. */
constexpr int at_once(int sums)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
    return sums > 48 ? 3 : 4;
#else
    return sums > 64 ? 3 : 4;
#endif
}

/* `i` is known when this is compiled, and so is the component. */
__device__ inline float component(const float4 &v, int i)
{
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

__device__ inline void copy_float(float *to, const float *from, bool there)
{
    __pipeline_memcpy_async(to, from, sizeof *to, there ? 0 : sizeof *to);
}

/* At each turn a thread copies for STAGES - 1 turns later. When this returns, all that is
 * multiplied now is there, and all threads have multiplied what the next copies overwrite. */
__device__ inline void wait_for_copies(uint32_t turn)
{
    if (turn + 1 < STAGES)
        return;
    __pipeline_wait_prior(STAGES - 2);
    __syncthreads();
}

/* Of the next floats, of which `left` are there, and zeros; fours: left is a multiple of four, and
 * they lie where a float4 may. */
__device__ inline void copy_four(float4 *to, const float *from, int32_t left, bool fours)
{
    if (fours)
        __pipeline_memcpy_async(to, from, sizeof *to, left > 0 ? 0 : sizeof *to);
    else
#pragma unroll
        for (int e = 0; e < 4; e++)
            copy_float((float *)(void *)to + e, from + e, e < left);
}

/* Into a row of DEPTH, LANES threads: every LANES-th of its vectors. left: of the row */
template <int VECTORS>
__device__ inline void copy_row(float4 *row, const float *from, int32_t left, bool fours)
{
    uint32_t lane = threadIdx.x % LANES;

#pragma unroll
    for (uint32_t v = 0; v < VECTORS; v += LANES)
        if (VECTORS % LANES == 0 || v + lane < VECTORS)
            copy_four(row + v + lane, from + 4 * (v + lane), left - (int32_t)(4 * (v + lane)),
                      fours);
}

/* An element of a window: from its first on, and its row and column. */
struct alignas(8) tap {
    int32_t offset;
    int16_t r, s;
};

/* Where a window begins, which may be outside of its image. */
struct alignas(16) corner {
    const float *first;
    int32_t y, x;
};

__device__ inline struct tap tap_of(const struct windows &w, uint32_t k)
{
    uint32_t channels = (uint32_t)w.in_c, width = (uint32_t)w.kernel_w, rs = k / channels;
    struct tap tap;

    tap.r = (int16_t)(rs / width);
    tap.s = (int16_t)(rs % width);
    tap.offset = (tap.r * w.in_w + tap.s) * w.in_c + (int32_t)(k % channels);
    return tap;
}

/* Pixel (y, x) of an image of the output. */
struct pixel {
    const float *image;
    int32_t y, x;
};

__device__ inline struct pixel pixel_of(const struct cuda_rows &a, uint32_t row)
{
    const struct windows &w = a.windows;
    uint32_t pixels = (uint32_t)w.out_h * (uint32_t)w.out_w, in = row % pixels;
    struct pixel pixel = {a.data + (size_t)(row / pixels) * nin__cuda_in_size(w),
                          (int32_t)(in / (uint32_t)w.out_w), (int32_t)(in % (uint32_t)w.out_w)};

    return pixel;
}

/* DEPTH pixels on */
__device__ inline void advance(struct pixel *pixel, const struct windows &w)
{
    for (pixel->x += DEPTH; pixel->x >= w.out_w; pixel->x -= w.out_w)
        if (++pixel->y == w.out_h) {
            pixel->y = 0;
            pixel->image += nin__cuda_in_size(w);
        }
}

__device__ inline struct corner corner_of(const struct pixel &pixel, const struct windows &w)
{
    int32_t y = pixel.y * w.stride - w.pad, x = pixel.x * w.stride - w.pad;
    struct corner corner = {pixel.image + (ptrdiff_t)(y * w.in_w + x) * w.in_c, y, x};

    return corner;
}

/* Four taps, of which `left` are there. */
__device__ inline void copy_seen(float4 *to, const struct windows &w, const struct corner &at,
                                 const struct tap *taps, int32_t left)
{
#pragma unroll
    for (int e = 0; e < 4; e++) {
        struct tap tap = taps[e];
        bool inside = e < left && (uint32_t)(at.y + tap.r) < (uint32_t)w.in_h &&
                      (uint32_t)(at.x + tap.s) < (uint32_t)w.in_w;

        copy_float((float *)(void *)to + e, at.first + tap.offset, inside);
    }
}

} // namespace

#endif
