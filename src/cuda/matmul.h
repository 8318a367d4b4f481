/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_MATMUL_H
#define NIN__CUDA_MATMUL_H

/* Products by cublasLt, which adds a bias where it writes the result. */

#include "cuda/cuda.h"

/* A product in cublasLt's words. They are values: nothing is allocated for them. */
struct cuda_matmul_terms {
    cublasLtMatmulDescOpaque_t operation;
    cublasLtMatrixLayoutOpaque_t w, x, y;
};

cublasStatus_t nin__cuda_describe_matmul(struct cuda_matmul_terms *terms,
                                         const struct cuda_product *product);

/* What an algorithm may need, with so many bytes of workspace. */
cublasStatus_t nin__cuda_describe_preference(cublasLtMatmulPreferenceOpaque_t *preference,
                                             size_t workspace);

/* y = x * w' + bias, or *done = false: cublasLt does not do this one. */
nin_status nin__cuda_matmul(struct nin__device *device, const struct cuda_product *product,
                            bool *done);

#endif
