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

#endif
