/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_PTX_H
#define NIN__CUDA_PTX_H

/* What a warp does as one with its tensor cores. C++ has words for it, but those (nvcuda::wmma)
 * load a matrix from shared memory as if it were anywhere, element by element, and do not say which
 * elements a thread has. So there is PTX here, and nowhere else; and what else C++ cannot say. */

#include "cuda/vectors.h"

/* The device that there is code for has tensor cores for bf16 and TF32; plans see to it that no
 * other runs kernels that need them. */
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define NIN__HAS_TENSOR_CORES 1
#else
#define NIN__HAS_TENSOR_CORES 0
#endif

/* What has been computed stays in registers: before a loop, where nvcc would compute it again at
 * each turn. */
static __device__ inline void nin__cuda_keep(int32_t *value)
{
    asm volatile("" : "+r"(*value));
}

template <typename T> __device__ void nin__cuda_keep(const T **pointer)
{
    asm volatile("" : "+l"(*pointer));
}

/* To 11 significant bits, to nearest and of two such away from zero. */
static __device__ inline float nin__cuda_rounded_to_tf32(float v)
{
#if NIN__HAS_TENSOR_CORES
    uint32_t bits;

    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(v));
    return __uint_as_float(bits);
#else
    return v;
#endif
}

#if NIN__HAS_TENSOR_CORES

/* Four matrices of eight rows of 16 bytes, in shared memory: lane 8 i + j says where row j of
 * matrix i is. It gets of each matrix word l % 4 of row l / 4, where l is the lane. */
static __device__ inline void nin__cuda_load_matrices(uint32_t *words, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

/* The same, but of each matrix of 8 x 8 bf16 columns 2 (l % 4) and the next of row l / 4 when it
 * has been transposed. */
static __device__ inline void nin__cuda_load_transposed(uint32_t *words, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

/* sums (16 x 8) += a b. a has 16 rows of 32 bytes, b eight columns: 16 bf16, or eight floats that
 * have been rounded to TF32. Lane l has of a word l % 4 of rows l / 4 and l / 4 + 8, and then words
 * l % 4 + 4 of these; of column l / 4 of b words l % 4 and l % 4 + 4; and of row l / 4 of the sums
 * columns 2 (l % 4) and the next, and then of row l / 4 + 8. */
template <typename T>
__device__ void nin__cuda_multiply_add(float *sums, const uint32_t *a, uint32_t b0, uint32_t b1);

template <>
__device__ inline void nin__cuda_multiply_add<cuda_bf16>(float *sums, const uint32_t *a,
                                                         uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <>
__device__ inline void nin__cuda_multiply_add<float>(float *sums, const uint32_t *a, uint32_t b0,
                                                     uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#endif

#endif
