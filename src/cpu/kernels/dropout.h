/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_DROPOUT_H
#define NIN__CPU_KERNELS_DROPOUT_H

#include "core/philox.h"
#include "cpu/kernels/vector.h"

static void mask_blocks(unsigned char *keep, const struct nin__mask *of, size_t block, size_t count)
{
    nin__mask_blocks(keep, of, block, count);
}

/* y = x * scale where keep is 1, else 0 */
static void drop(float *y, const float *x, const unsigned char *keep, float scale, size_t count)
{
    size_t k = 0;

    for (; k + WIDTH <= count; k += WIDTH)
        store(y + k, keep_marked(keep + k, load(x + k) * spread(scale)));
    for (; k < count; k++)
        y[k] = keep[k] != 0 ? x[k] * scale : 0.0f;
}

#endif
