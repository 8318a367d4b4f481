/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_CONV_H
#define NIN__CPU_CONV_H

/* What the algorithms of a convolution share. */

#include "cpu/cpu.h"

/* Elements of the input under one window. */
static inline int64_t nin__cpu_patch_size(const struct nin__op *op)
{
    return (int64_t)op->kernel_h * op->kernel_w * op->in.c;
}

/* A pixel of the output needs the same pixel of the input only. */
static inline bool nin__cpu_is_pointwise(const struct nin__op *op)
{
    return op->kernel_h == 1 && op->kernel_w == 1 && op->stride == 1 && op->pad == 0;
}

/* The input lies as a matrix of windows already: a 1x1 convolution, a dense layer. */
static inline bool nin__cpu_is_flat(const struct nin__op *op)
{
    bool whole_map = op->kernel_h == op->in.h && op->kernel_w == op->in.w && op->pad == 0;

    return whole_map || nin__cpu_is_pointwise(op);
}

static inline void nin__cpu_put(float *target, float value, bool accumulate)
{
    *target = accumulate ? *target + value : value;
}

/* dy becomes 0 where the ReLU was, unless the op below has seen to it; then its sums over the pixels are
 * added to db. */
void nin__cpu_finish_gradient(const struct cpu_call *call, float *db);

/* Whether Winograd's algorithm can do an op, and whether it is worth it: a rule of shapes alone. */
bool nin__cpu_winograd_fits(const struct nin__op *op);
bool nin__cpu_winograd_pays(const struct nin__op *op);

#endif
