/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_VECTORS_H
#define NIN__CUDA_VECTORS_H

/* What a thread does with its channels: one, or four in a vector. */

#include "cuda/launch.h"

/* max(v, 0); a NaN stays one */
static __device__ inline float nin__cuda_rectified(float v)
{
    return v < 0.0f ? 0.0f : v;
}

static __device__ inline float4 nin__cuda_rectified(float4 v)
{
    float4 result = {nin__cuda_rectified(v.x), nin__cuda_rectified(v.y), nin__cuda_rectified(v.z),
                     nin__cuda_rectified(v.w)};

    return result;
}

/* v where the gate is positive, else 0: behind a NaN no gradient passes */
static __device__ inline float nin__cuda_gated(float v, float gate)
{
    return gate > 0.0f ? v : 0.0f;
}

static __device__ inline float4 nin__cuda_gated(float4 v, float4 gate)
{
    float4 result = {nin__cuda_gated(v.x, gate.x), nin__cuda_gated(v.y, gate.y),
                     nin__cuda_gated(v.z, gate.z), nin__cuda_gated(v.w, gate.w)};

    return result;
}

static __device__ inline float nin__cuda_sum_of(float a, float b)
{
    return a + b;
}

static __device__ inline float4 nin__cuda_sum_of(float4 a, float4 b)
{
    float4 result = {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};

    return result;
}

#endif
