/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_WINDOWS_H
#define NIN__CPU_WINDOWS_H

/* The windows of a pool. */

#include "core/program.h"

/* Rows or columns, from first to before end. */
struct cpu_extent {
    int32_t first, end;
};

/* Those of the input that output o sees. */
static inline struct cpu_extent nin__cpu_window(int32_t o, int32_t kernel, const struct nin__op *op,
                                                int32_t size)
{
    int32_t first = o * op->stride - op->pad, end = first + kernel;

    return (struct cpu_extent){first < 0 ? 0 : first, end > size ? size : end};
}

/* Those of the output whose windows see row or column i of the input. */
static inline struct cpu_extent nin__cpu_seen_by(int32_t i, int32_t kernel,
                                                 const struct nin__op *op, int32_t size)
{
    int32_t last = (i + op->pad) / op->stride, before = i + op->pad - kernel;

    return (struct cpu_extent){before < 0 ? 0 : before / op->stride + 1,
                               last >= size ? size : last + 1};
}

#endif
