/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_BIAS_H
#define NIN__CUDA_BIAS_H

/* Biases of rows x channels; where channels come in fours these begin where a vector may. */

#include "cuda/launch.h"

/* y + bias, or y where that is NULL, and then the ReLU if one is asked for, in place; narrow: y is
 * bf16 */
nin_status nin__cuda_add_bias(struct nin__device *device, void *y, bool narrow, const float *bias,
                              size_t rows, size_t channels, bool relu);

/* What is added up over its rows. */
struct cuda_values {
    void *values;  /* rows x OC */
    const void *y; /* as values: these are gated first, in place; or NULL */
    size_t rows;
    bool narrow; /* both are bf16, not float */
};

/* The bias's gradient. sums: as many floats as nin__cuda_sum_parts(rows, OC) says, times OC */
nin_status nin__cuda_bias_gradient(const struct cuda_call *call, struct cuda_values values,
                                   float *sums);

#endif
