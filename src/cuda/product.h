/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_PRODUCT_H
#define NIN__CUDA_PRODUCT_H

/* Matrix products by kernels of libnin's own, for matrices of many rows and some hundred columns at
 * most. Several of one kind, at the points of minimal filtering, go together: point by point their
 * matrices, which are maps, lie some floats apart. */

#include "cuda/windows.h"

enum {
    CUDA_MOST_TAPS = 512 /* of a window that is not in memory */
};

/* A matrix of count x depth: of a map, a row for each pixel, or of its windows. */
struct cuda_rows {
    const float *data;
    size_t point; /* floats from point to point */
    struct windows windows;
    uint32_t count, depth;
    uint32_t row; /* floats from row to row of a map */
    bool flat;    /* the map itself: kernels know it as FLAT */
    bool fours;   /* four neighbours in a row, from a multiple of four on, lie where a float4 may */
};

/* c (rows x columns) = a b, element (k, n) of b at b[k * b_depth + n * b_column]; then, each if it
 * is asked for, c += what was there, c += bias, c = max(c, 0) (NaN stays), c = 0 where gate is not
 * positive. */
struct cuda_rows_product {
    struct cuda_rows a;
    uint32_t points, columns;
    const float *b;
    uint32_t b_depth, b_column;
    float *c;
    size_t b_point, c_point;
    const float *bias; /* columns, or NULL */
    const float *gate; /* laid out as c, or NULL */
    bool relu, add;
    bool fours; /* as in cuda_rows, of rows of b: set by nin__cuda_multiply_rows */
};

nin_status nin__cuda_multiply_rows(struct nin__device *device,
                                   const struct cuda_rows_product *product);

/* sums (filters x patch) = dy' x over the rows of each part, whose sums are to be added up.
 * [point][part][filter][patch], and with `bias` behind each part [filter], the sums of dy. */
struct cuda_parts_product {
    struct cuda_rows dy, x;
    uint32_t points;
    struct cuda_cut cut;
    float *sums;
    bool bias;
};

nin_status nin__cuda_multiply_parts(struct nin__device *device,
                                    const struct cuda_parts_product *product);

/* How the rows of one point are cut into parts, for so many sums: a rule of shapes alone, for it
 * orders sums. With fewer rows there are no more parts than most_parts says. */
void nin__cuda_cut_rows(struct cuda_parts_product *product);
uint32_t nin__cuda_most_parts(uint32_t filters, uint32_t patch, bool flat, uint32_t rows);

#endif
