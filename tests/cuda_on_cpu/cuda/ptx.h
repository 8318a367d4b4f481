/* SPDX-License-Identifier: MIT */
#ifndef TESTS_PTX_H
#define TESTS_PTX_H

/* A stand-in for src/cuda/ptx.h, which says what these do; see ptx.cpp. */

#include "cuda/vectors.h"

#define NIN__HAS_TENSOR_CORES 1

static inline void nin__cuda_keep(int32_t *)
{
}

template <typename T> void nin__cuda_keep(const T **)
{
}

float nin__cuda_rounded_to_tf32(float v);
void nin__cuda_load_matrices(uint32_t *words, const void *row);
void nin__cuda_load_transposed(uint32_t *words, const void *row);

template <typename T>
void nin__cuda_multiply_add(float *sums, const uint32_t *a, uint32_t b0, uint32_t b1);

#endif
