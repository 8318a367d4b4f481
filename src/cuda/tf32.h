/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_TF32_H
#define NIN__CUDA_TF32_H

#include <mma.h>

/* The device that there is code for has tensor cores for bf16 and TF32; plans see to it that no
 * other runs kernels that need them. */
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define NIN__HAS_TENSOR_CORES 1
#else
#define NIN__HAS_TENSOR_CORES 0
#endif

/* To 11 significant bits, to nearest and of two such away from zero: what tensor cores do with
 * floats that have more is not said. */
static __device__ inline float nin__cuda_rounded_to_tf32(float v)
{
#if NIN__HAS_TENSOR_CORES
    return nvcuda::wmma::__float_to_tf32(v);
#else
    return v;
#endif
}

#endif
