/* SPDX-License-Identifier: MIT */
#ifndef TESTS_CUDA_BF16_H
#define TESTS_CUDA_BF16_H

/* A stand-in for bf16, the upper half of a float; see cuda_runtime.h beside it. */

#include "cuda_runtime.h"

#include <cstring>

struct __nv_bfloat16 {
    unsigned short bits;
};

static inline float __bfloat162float(__nv_bfloat16 value)
{
    uint32_t bits = (uint32_t)value.bits << 16;
    float result;

    memcpy(&result, &bits, sizeof result);
    return result;
}

/* To nearest, of two such to even; every NaN becomes the same one. */
static inline __nv_bfloat16 __float2bfloat16_rn(float value)
{
    __nv_bfloat16 result = {0x7fff};
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    if (value == value)
        result.bits = (unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    return result;
}

#endif
