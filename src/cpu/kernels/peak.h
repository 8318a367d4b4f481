/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_PEAK_H
#define NIN__CPU_KERNELS_PEAK_H

/* Multiply-adds that wait for nothing but the units that do them. */

#include "cpu/kernels/vector.h"

enum {
    CHAINS =
        14 /* of dependent ones: more than latency times units; with two constants, 16 registers */
};

/* Each sum becomes sum / 2 + 1, over and over, from 3 or more towards 2. */
static int64_t saturate(float *sums, int32_t rounds)
{
    const vector half = spread(0.5f), one = spread(1.0f);
    vector chains[CHAINS], all = {0};

#pragma GCC unroll 14
    for (int32_t i = 0; i < CHAINS; i++)
        chains[i] = spread((float)(i + 3));
    for (int32_t r = 0; r < rounds; r++)
#pragma GCC unroll 14
        for (int32_t i = 0; i < CHAINS; i++)
            chains[i] = multiply_add(chains[i], half, one);
#pragma GCC unroll 14
    for (int32_t i = 0; i < CHAINS; i++)
        all += chains[i];
    store(sums, all);
    return (int64_t)WIDTH * CHAINS * rounds;
}

#endif
