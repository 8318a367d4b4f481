/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_BF16_H
#define NIN__CPU_KERNELS_BF16_H

/* bf16: the upper half of a float. */

#include <stdint.h>
#include <string.h>

/* As the processor's own instructions round: to nearest, ties to even; what is subnormal becomes 0,
 * NaN stays NaN. */
static inline uint16_t to_bf16(float value)
{
    uint32_t bits, size, rounded;

    memcpy(&bits, &value, sizeof bits);
    size = bits & UINT32_C(0x7fffffff);
    rounded = bits + UINT32_C(0x7fff) + (bits >> 16 & 1);
    rounded = size < UINT32_C(0x00800000) ? bits & UINT32_C(0x80000000) : rounded;
    rounded = size > UINT32_C(0x7f800000) ? bits | UINT32_C(0x00400000) : rounded;
    return (uint16_t)(rounded >> 16);
}

static inline float from_bf16(uint16_t value)
{
    uint32_t bits = (uint32_t)value << 16;
    float wide;

    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

/* The first one lies lower. */
static inline uint32_t pair_bf16(uint16_t first, uint16_t second)
{
    return (uint32_t)second << 16 | first;
}

#endif
