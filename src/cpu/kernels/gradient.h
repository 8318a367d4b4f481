/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_GRADIENT_H
#define NIN__CPU_KERNELS_GRADIENT_H

/* What backward does to the gradient of an output before it is multiplied. */

#include "cpu/kernels/vector.h"

#include <stdbool.h>
#include <stddef.h>

static void gate(float *values, const float *gates, size_t count)
{
    size_t k = 0;

    for (; k + WIDTH <= count; k += WIDTH)
        store(values + k, pass(load(gates + k), load(values + k)));
    for (; k < count; k++)
        values[k] = gates[k] > 0.0f ? values[k] : 0.0f;
}

/* sums += columns of a, row by row */
static void add_columns(float *sums, const float *a, int64_t rows, int32_t columns, bool fresh)
{
    int32_t whole = columns / WIDTH * WIDTH;

    for (int32_t n = 0; n < whole; n += WIDTH) {
        vector sum = fresh ? (vector){0} : load(sums + n);

        for (int64_t m = 0; m < rows; m++)
            sum += load(a + m * columns + n);
        store(sums + n, sum);
    }
    for (int32_t n = whole; n < columns; n++) {
        float sum = fresh ? 0.0f : sums[n];

        for (int64_t m = 0; m < rows; m++)
            sum += a[m * columns + n];
        sums[n] = sum;
    }
}

#endif
