/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_H
#define NIN__CPU_KERNELS_H

/* The arithmetic of the CPU backend that is worth a processor's own instructions. One source,
 * kernels.c, is compiled once for each instruction set; the table of the best one that the processor
 * has is picked when a context is made.
 *
 * Matrices are row-major. Every sum has an order that follows from its operation alone, never from how
 * it is cut into tiles, so that any split into ranges gives the same bits. */

#include "core/philox.h"
#include "core/program.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* c (rows x columns) = the sum over the runs r of a_r (rows x depth) * b_r (depth x columns), where
 * a_r = a + r * a_run: a 1x1 convolution has one run, a window of 5x5 pixels five.
 *
 * Then, each if it is asked for: c += bias, c = max(c, 0) (NaN stays), c = 0 where gate is not
 * positive. */
struct cpu_product {
    const float *a;
    const float *b; /* runs * depth rows, packed */
    float *c;
    const float *bias; /* columns, or NULL */
    const float *gate; /* laid out as c, or NULL */
    bool relu;
    int32_t rows, columns, depth, runs;
    ptrdiff_t a_row, a_run, c_row; /* distances in floats */
    ptrdiff_t b_ahead; /* so far behind b lies what comes next: to be fetched meanwhile */
};

/* Writes rows first ... first + count - 1 of a packed b: element (first + k, n) is
 * source[k * depth_step + n % inner * inner_step + n / inner * outer_step]. */
struct cpu_packing {
    float *packed;
    const float *source;
    int32_t depth, first, count; /* rows of b, and those to be written */
    int32_t columns, inner;
    ptrdiff_t depth_step, inner_step, outer_step;
};

/* c (depth x columns) += sum over groups and rows of a_gm' (depth) * b_gm (columns), where
 * a_gm = a + g * a_group + m * a_row, and b likewise: the gradient of weights, summed over pixels in
 * ascending order. `fresh` overwrites c instead. */
struct cpu_outer {
    const float *a;
    const float *b;
    float *c; /* rows of c_row floats */
    bool fresh;
    int32_t groups, rows, depth, columns;
    ptrdiff_t a_group, a_row, b_group, b_row, c_row;
    ptrdiff_t a_ahead,
        b_ahead; /* so far behind a and b lies what comes next: to be fetched meanwhile */
};

/* Winograd's minimal filtering works on tiles of 8x8 pixels of the input, which overlap; each becomes
 * 64 values, one for each pair of points, and so do its size x size pixels of output, size = 9 - kernel.
 * Values of a point lie in one slab, so that the products over the channels are matrix products. */
enum {
    WINOGRAD_SIDE = 8,
    WINOGRAD_POINTS = 64
};

/* y = what the 64 sums of a tile say of its first rows x columns pixels; then as for a product. */
struct cpu_winograd_output {
    const float *m; /* m[k * slab + channel], k the point */
    float *y;
    const float *bias; /* channels, or NULL */
    const float *gate; /* laid out as y, or NULL */
    bool relu;
    int32_t size; /* 4 or 6: of a whole tile of output */
    int32_t rows, columns, channels;
    ptrdiff_t slab, row, column; /* distances in floats: of points in m, of pixels in y */
};

/* u = the weights at the 64 points, each packed as a product's b: depth x columns. */
struct cpu_winograd_weights {
    float *u;       /* 64 times packed_size */
    const float *w; /* tap k (row by row) from depth i to column n: w[k * tap_step + ...] */
    int32_t kernel; /* 5 or 3 */
    int32_t depth, columns;
    ptrdiff_t tap_step, depth_step, column_step;
};

/* A row of max pooling, and of the dropout behind it. `where` is for backward: each maximum's place in its
 * window, or nowhere if it is dropped, or gated and not positive. */
struct cpu_pooling {
    const struct nin__op *op;
    const float *x;            /* an image */
    float *y;                  /* the row */
    uint16_t *where;           /* likewise, or NULL */
    const unsigned char *keep; /* likewise: 1 where y stays; or NULL */
    bool gates;
};

struct cpu_kernels {
    const char *name; /* of the instruction set: "avx512" */
    bool fused;       /* a product and its addition are rounded once */
    int32_t width;    /* floats of a vector */

    /* b of a product is packed in panels of columns; so many floats for `depth` rows. */
    size_t (*packed_size)(int32_t depth, int32_t columns);
    void (*pack)(const struct cpu_packing *packing);

    void (*multiply)(const struct cpu_product *product);
    void (*add_outer)(const struct cpu_outer *outer);

    /* v[k * slab + channel] = the 64 values of a tile, from its pixels, row by row, of so many channels. */
    void (*winograd_data)(float *v, ptrdiff_t slab, const float *const pixels[WINOGRAD_POINTS],
                          int32_t channels);

    /* The same for the size x size pixels of a gradient of the output. */
    void (*winograd_gradient)(float *d, ptrdiff_t slab, const float *const *pixels, int32_t size,
                              int32_t channels);
    void (*winograd_output)(const struct cpu_winograd_output *output);

    /* Rows first ... end - 1 of the depth. */
    void (*winograd_weights)(const struct cpu_winograd_weights *weights, int32_t first,
                             int32_t end);

    /* dw[tap * width + i] of `columns` columns, at most width, from sums[k * slab + i]. */
    void (*winograd_weight_gradient)(float *dw, const float *sums, ptrdiff_t slab, int32_t kernel,
                                     int32_t columns);

    void (*max_pool_row)(const struct cpu_pooling *pooling, int32_t row);

    /* Backward, an image: dx is overwritten. */
    void (*max_unpool)(const struct nin__op *op, const float *dy, const uint16_t *where, float *dx);

    /* Dropout: whole blocks of a mask (core/rng.h); y = x * scale where keep is 1, else 0. */
    void (*mask_blocks)(unsigned char *keep, const struct nin__mask *mask, size_t block,
                        size_t count);
    void (*drop)(float *y, const float *x, const unsigned char *keep, float scale, size_t count);

    /* values = 0 where gate is not positive. */
    void (*gate)(float *values, const float *gate, size_t count);

    /* sums (columns) += each column of a (rows x columns); `fresh` overwrites. */
    void (*add_columns)(float *sums, const float *a, int64_t rows, int32_t columns, bool fresh);

    /* Multiply-adds that wait for nothing but their units: their number, in proportion to `rounds`. What
     * comes of them goes to sums (width). */
    int64_t (*saturate)(float *sums, int32_t rounds);
};

/* Tables: the first one runs everywhere. */
extern const struct cpu_kernels nin__cpu_kernels_baseline;
extern const struct cpu_kernels nin__cpu_kernels_avx2;
extern const struct cpu_kernels nin__cpu_kernels_avx512;

#endif
