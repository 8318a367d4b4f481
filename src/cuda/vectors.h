/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_VECTORS_H
#define NIN__CUDA_VECTORS_H

/* What a thread does with its channels: one, or four in a vector. In memory they are float or, in
 * NIN_BF16, bf16; a thread has them as float. */

#include "cuda/launch.h"

#include <cuda_bf16.h>

/* Kernels are templates of these types, and nvcc does not see a template's launch bounds. */
#pragma nv_diag_suppress missing_launch_bounds

typedef __nv_bfloat16 cuda_bf16;

struct alignas(8) cuda_bf16x4 {
    cuda_bf16 x, y, z, w;
};

/* Four of a kind. */
template <typename T> struct cuda_four;

template <> struct cuda_four<float> {
    typedef float4 type;
};

template <> struct cuda_four<cuda_bf16> {
    typedef cuda_bf16x4 type;
};

/* Maps are aligned so that a vector may begin where channels that come in fours do. */
template <typename T> static inline typename cuda_four<T>::type *nin__cuda_fours_of(T *map)
{
    return (typename cuda_four<T>::type *)(void *)map;
}

template <typename T>
static inline const typename cuda_four<T>::type *nin__cuda_fours_of(const T *map)
{
    return (const typename cuda_four<T>::type *)(const void *)map;
}

static __device__ inline float nin__cuda_load(const float *from)
{
    return *from;
}

static __device__ inline float4 nin__cuda_load(const float4 *from)
{
    return *from;
}

static __device__ inline float nin__cuda_load(const cuda_bf16 *from)
{
    return __bfloat162float(*from);
}

static __device__ inline float4 nin__cuda_load(const cuda_bf16x4 *from)
{
    cuda_bf16x4 v = *from;
    float4 result = {__bfloat162float(v.x), __bfloat162float(v.y), __bfloat162float(v.z),
                     __bfloat162float(v.w)};

    return result;
}

static __device__ inline void nin__cuda_store(float *to, float v)
{
    *to = v;
}

static __device__ inline void nin__cuda_store(float4 *to, float4 v)
{
    *to = v;
}

/* To the nearest, of two such to the even one. */
static __device__ inline void nin__cuda_store(cuda_bf16 *to, float v)
{
    *to = __float2bfloat16_rn(v);
}

static __device__ inline void nin__cuda_store(cuda_bf16x4 *to, float4 v)
{
    cuda_bf16x4 rounded = {__float2bfloat16_rn(v.x), __float2bfloat16_rn(v.y),
                           __float2bfloat16_rn(v.z), __float2bfloat16_rn(v.w)};

    *to = rounded;
}

/* What a thread has of them: float or float4. */
template <typename T> struct cuda_wide {
    typedef decltype(nin__cuda_load((const T *)0)) type;
};

/* Does with an op what is right for the types in which its input and its output are stored: float
 * both, bf16 both, or bf16 and the scores, which are float. */
static inline nin_status nin__cuda_by_type(const struct cuda_call *call,
                                           nin_status (*floats)(const struct cuda_call *),
                                           nin_status (*bf16)(const struct cuda_call *),
                                           nin_status (*scores)(const struct cuda_call *))
{
    if (!call->cuda->narrow_x)
        return floats(call);
    return call->cuda->narrow_y ? bf16(call) : scores(call);
}

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

/* As it would come back from memory where there are such. */
static __device__ inline float nin__cuda_as(const float *, float v)
{
    return v;
}

static __device__ inline float4 nin__cuda_as(const float4 *, float4 v)
{
    return v;
}

static __device__ inline float nin__cuda_as(const cuda_bf16 *, float v)
{
    return __bfloat162float(__float2bfloat16_rn(v));
}

static __device__ inline float4 nin__cuda_as(const cuda_bf16x4 *, float4 v)
{
    const cuda_bf16 *one = NULL;
    float4 result = {nin__cuda_as(one, v.x), nin__cuda_as(one, v.y), nin__cuda_as(one, v.z),
                     nin__cuda_as(one, v.w)};

    return result;
}

/* v, an element of x, with what a convolution left to the pool behind it, unless that is nothing:
 * as if it had been written. */
template <typename X, typename V>
__device__ inline V nin__cuda_finished(const X *x, V v, V bias, bool finish)
{
    return finish ? nin__cuda_as(x, nin__cuda_rectified(nin__cuda_sum_of(v, bias))) : v;
}

/* The arena gives no vector a place that is a multiple of its size. */
static __device__ inline void nin__cuda_load_parameter(float *v, const float *parameters,
                                                       uint32_t channel)
{
    *v = parameters[channel];
}

static __device__ inline void nin__cuda_load_parameter(float4 *v, const float *parameters,
                                                       uint32_t channel)
{
    const float *four = parameters + 4 * (size_t)channel;
    float4 loaded = {four[0], four[1], four[2], four[3]};

    *v = loaded;
}

#endif
