/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_TENSOR_CORES_H
#define NIN__CUDA_TENSOR_CORES_H

/* Matrix products by the tensor cores, of bf16 or TF32 with sums in float, by kernels of libnin's
 * own: for matrices of many rows and some hundred columns, which the device's memory bounds, or
 * would if windows were there. So whatever is to be done with a result is done before it is
 * written. */

#include "cuda/windows.h"

/* How a matrix lies in memory; kernels know it as LAYOUT. */
enum cuda_layout {
    CUDA_ROWS,   /* as it is */
    CUDA_TAPS,   /* as the windows of a map, whose elements are looked for one by one, */
    CUDA_VECTORS /* or 16 bytes at once: the channels of a pixel are as many vectors */
};

/* A matrix of count x depth: of a map, a row for each pixel, of weights, or of a map's windows.
 * Weights are narrow in NIN_BF16, and so are maps but for scores, which are rounded when they are
 * multiplied; in NIN_TF32 nothing is narrow, and maps are rounded so. */
struct cuda_matrix {
    const void *data;
    uint32_t count, depth;
    bool narrow; /* bf16, not float */
    enum cuda_layout layout;
    struct windows windows;
    struct divisor by_pixels, by_width, by_channels, by_kernel_w; /* CUDA_VECTORS: of windows */
};

/* c (rows x columns) = a b, or a b' where b is transposed; then its rows may be longer than a's. b
 * is of weights, which have been rounded; for windows it is transposed. Then, each if it is asked
 * for, c += bias, c = max(c, 0) (NaN stays), c = 0 where gate is not positive. */
struct cuda_tensor_product {
    struct cuda_matrix a, b;
    bool transposed;
    void *c;
    bool narrow;       /* c is bf16, not float */
    const float *bias; /* columns, or NULL */
    const void *gate;  /* as b, laid out as c, in rows that are a multiple of 16 bytes, or NULL */
    bool relu;
};

nin_status nin__cuda_tensor_product(struct nin__device *device,
                                    const struct cuda_tensor_product *product);

/* sums (filters x patch) = dy' x over the rows of each part, and behind them [filter] the sums of
 * dy, as it is multiplied in bf16: to be added up. [part][filter][patch], [filter] */
struct cuda_tensor_sums {
    struct cuda_matrix dy, x;
    struct cuda_cut cut;
    float *sums;
};

nin_status nin__cuda_tensor_sums(struct nin__device *device, const struct cuda_tensor_sums *sums);

/* How rows are cut into parts: a rule of shapes alone, for it orders sums. With fewer rows there
 * are no more parts than most_tensor_parts says. */
void nin__cuda_cut_tensor_sums(struct cuda_tensor_sums *sums);
uint32_t nin__cuda_most_tensor_parts(uint32_t filters, uint32_t patch, enum cuda_layout layout,
                                     uint32_t rows);

#endif
