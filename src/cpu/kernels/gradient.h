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

/* sums += columns of a, row by row; `block` rows by themselves, unless it is 0 */
static void add_columns(float *sums, const float *a, int64_t rows, int32_t columns, int64_t block,
                        bool fresh)
{
    const int64_t step = block > 0 ? block : rows;

    for (int32_t n = 0; n < columns; n += WIDTH) {
        int32_t rest = columns - n;
        vector total = fresh ? (vector){0} : load_channels(sums + n, rest);

        for (int64_t first = 0; first < rows; first += step) {
            int64_t end = rows - first < step ? rows : first + step;
            vector sum = block > 0 ? (vector){0} : total;

            for (int64_t m = first; m < end; m++)
                sum += load_channels(a + m * columns + n, rest);
            total = block > 0 ? total + sum : sum;
        }
        store_channels(sums + n, total, rest);
    }
}

#endif
