/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_LOSS_H
#define NIN__CUDA_LOSS_H

/* What of an image's scores the kernels of the loss share. */

#include "cuda/launch.h"

/* The first of the largest; NaN is larger than nothing, but stays when it comes first. */
static __device__ inline int32_t nin__cuda_first_largest(const float *scores, int32_t classes)
{
    int32_t best = 0;

    for (int32_t c = 1; c < classes; c++)
        if (scores[c] > scores[best])
            best = c;
    return best;
}

/* sum: of exp(score - scores[best]) over the classes */
static __device__ inline double nin__cuda_loss_of(const float *scores, int32_t best, int32_t label,
                                                  double sum)
{
    return log(sum) - ((double)scores[label] - (double)scores[best]);
}

/* An image whose loss is NaN is not correct: of its scores none is the largest, whichever is
 * found. */
static __device__ inline uint8_t nin__cuda_mark_of(const float *scores, int32_t classes,
                                                   int32_t best, int32_t label, double loss)
{
    bool flat = true;

    for (int32_t c = 1; c < classes; c++)
        flat = flat && scores[c] == scores[0];
    return (uint8_t)((best == label && loss == loss ? NIN__CORRECT : 0) | (flat ? NIN__FLAT : 0));
}

#endif
