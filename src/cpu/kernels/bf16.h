/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_BF16_H
#define NIN__CPU_KERNELS_BF16_H

/* A float rounded to bf16, as the processor's own instructions do it: to nearest, ties to even; what is
 * subnormal becomes 0, NaN stays NaN. */

#include <stdint.h>
#include <string.h>

static inline uint32_t float_bits(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline uint16_t to_bf16(float value)
{
    uint32_t bits = float_bits(value), size = bits & UINT32_C(0x7fffffff);

    if (size < UINT32_C(0x00800000))
        return (uint16_t)((bits >> 16) & 0x8000u);
    if (size > UINT32_C(0x7f800000))
        return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
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
