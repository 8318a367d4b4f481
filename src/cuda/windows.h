/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_WINDOWS_H
#define NIN__CUDA_WINDOWS_H

/* The windows of a convolution or a pool, as kernels need them; of a pool in_c is all channels. */

#include "cuda/launch.h"

struct windows {
    int32_t in_h, in_w, in_c, out_h, out_w;
    int32_t kernel_h, kernel_w, stride, pad;
};

static inline struct windows nin__cuda_windows_of(const struct nin__op *op)
{
    struct windows w = {op->in.h,     op->in.w,     op->in.c,   op->out.h, op->out.w,
                        op->kernel_h, op->kernel_w, op->stride, op->pad};

    return w;
}

/* Rows or columns, from first to before end. */
struct extent {
    int32_t first, end;
};

/* Those of the output whose windows see input i. */
static __device__ inline struct extent nin__cuda_viewers(int32_t i, int32_t kernel, int32_t outputs,
                                                         const struct windows &w)
{
    int32_t first = i + w.pad - kernel + 1, last = (i + w.pad) / w.stride;
    struct extent extent = {first <= 0 ? 0 : (first + w.stride - 1) / w.stride,
                            last < outputs ? last + 1 : outputs};

    return extent;
}

/* Where tap `tap` of the window at pixel `pixel` lies in its image; false where it looks out of the
 * map. */
static __device__ inline bool nin__cuda_find_tap(uint32_t *from, uint32_t pixel, uint32_t tap,
                                                 const struct windows &w)
{
    uint32_t rs = tap / (uint32_t)w.in_c, c = tap % (uint32_t)w.in_c;
    int32_t iy = (int32_t)(pixel / (uint32_t)w.out_w) * w.stride - w.pad +
                 (int32_t)(rs / (uint32_t)w.kernel_w);
    int32_t ix = (int32_t)(pixel % (uint32_t)w.out_w) * w.stride - w.pad +
                 (int32_t)(rs % (uint32_t)w.kernel_w);

    *from = ((uint32_t)iy * (uint32_t)w.in_w + (uint32_t)ix) * (uint32_t)w.in_c + c;
    return iy >= 0 && iy < w.in_h && ix >= 0 && ix < w.in_w;
}

/* Elements of an image of the input. */
static __device__ inline uint32_t nin__cuda_in_size(const struct windows &w)
{
    return (uint32_t)w.in_h * (uint32_t)w.in_w * (uint32_t)w.in_c;
}

#endif
