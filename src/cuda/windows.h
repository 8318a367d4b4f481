/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_WINDOWS_H
#define NIN__CUDA_WINDOWS_H

/* The windows of a convolution or a pool, as kernels need them; of a pool in_c is all channels. */

#include "cuda/launch.h"
#include "cuda/places.h"

struct windows {
    int32_t in_h, in_w, in_c, out_h, out_w;
    int32_t kernel_h, kernel_w, stride, pad;
    struct divisor by_stride;
};

static inline struct windows nin__cuda_windows_of(const struct nin__op *op)
{
    struct windows w = {
        op->in.h,     op->in.w,     op->in.c,   op->out.h, op->out.w,
        op->kernel_h, op->kernel_w, op->stride, op->pad,   nin__cuda_divisor((uint32_t)op->stride)};

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
    int32_t passed = i + w.pad - kernel + w.stride; /* by windows that end before i */
    int32_t first = (int32_t)nin__cuda_quotient(passed < 0 ? 0 : (uint32_t)passed, w.by_stride);
    int32_t end = (int32_t)nin__cuda_quotient((uint32_t)(i + w.pad), w.by_stride) + 1;
    struct extent extent = {first, end < outputs ? end : outputs};

    return extent;
}

/* Elements of an image of the input. */
static __device__ inline uint32_t nin__cuda_in_size(const struct windows &w)
{
    return (uint32_t)w.in_h * (uint32_t)w.in_w * (uint32_t)w.in_c;
}

#endif
