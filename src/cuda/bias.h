/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_BIAS_H
#define NIN__CUDA_BIAS_H

/* Biases of rows x channels; where channels come in fours these begin where a float4 may. */

#include "cuda/launch.h"

/* y + bias, or y where that is NULL, and then the ReLU if one is asked for, in place. */
nin_status nin__cuda_add_bias(struct nin__device *device, float *y, const float *bias, size_t rows,
                              size_t channels, bool relu);

/* The bias's gradient from `values`, rows x OC; with y they are gated first, in place. sums: as many floats
 * as nin__cuda_sum_parts(rows) says, times OC */
nin_status nin__cuda_bias_gradient(const struct cuda_call *call, float *values, const float *y,
                                   size_t rows, float *sums);

#endif
