/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_H
#define NIN__CPU_KERNELS_H

/* The arithmetic of the CPU backend that is worth a processor's own instructions. One source,
 * kernels.c, is compiled once for each instruction set; the table of the best one that the
 * processor has is picked when a context is made.
 *
 * Matrices are row-major. Every sum has an order that follows from its operation alone, never from
 * how it is cut into tiles, so that any split into ranges gives the same bits; of images too, but
 * for the gradient of weights at the points of a Fourier transform. */

#include "core/philox.h"
#include "core/program.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* c (rows x columns) = the sum over the runs r of a_r (rows x depth) * b_r (depth x columns), where
 * a_r = a + r * a_run: a 1x1 convolution has one run, a window of 5x5 pixels five.
 *
 * Then, each if it is asked for: c += bias, c = max(c, 0) (NaN stays), c = 0 where gate is not
 * positive.
 *
 * b may be packed with more columns than the product takes, which are those from `b_first` on. That
 * is a multiple of CPU_SHARE, and so is `columns`, unless they reach b's end: vectors are stored
 * whole. (Not in bf16.) */
struct cpu_product {
    const float *a;
    const float *b; /* runs * depth rows, packed */
    float *c;
    const float *bias; /* columns, or NULL */
    const float *gate; /* laid out as c, or NULL */
    bool relu;
    int32_t rows, columns, depth, runs;
    int32_t block; /* so many products are summed by themselves, then their sums; 0: all in one */
    int32_t b_first, b_columns;    /* the columns are some of `b_columns`; 0: all that b has */
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
 * a_gm = a + g * a_group + m * a_row, and b likewise: the gradient of weights, summed over pixels
 * in ascending order. */
struct cpu_outer {
    const float *a;
    const float *b;
    float *c;   /* rows of c_row floats */
    bool fresh; /* overwrites c instead */
    bool apart; /* is summed by itself, and then added to c */
    int32_t groups, rows, depth, columns;
    ptrdiff_t a_group, a_row, b_group, b_row, c_row;
    ptrdiff_t a_ahead,
        b_ahead; /* so far behind a and b lies what comes next: to be fetched meanwhile */
};

/* Winograd's minimal filtering works on tiles of side x side pixels of the input, which overlap;
 * each becomes as many values, one for each pair of points, and so do its size x size pixels of
 * output, with size + kernel = side + 1. Values of a point lie in one slab, so that the products
 * over the channels are matrix products. Sides are 6 and 8 for kernels of 3x3, 8 for those of 5x5. */
enum {
    WINOGRAD_MAX_SIDE = 8,
    WINOGRAD_MAX_POINTS = 64,
    WINOGRAD_MAX_SIZE = 6
};

/* y = what the sums of a tile say of its first rows x columns pixels; then as for a product. */
struct cpu_winograd_output {
    const float *m; /* m[k * slab + channel], k the point */
    float *y;
    const float *bias; /* channels, or NULL */
    const float *gate; /* laid out as y, or NULL */
    bool relu;
    int32_t side, size; /* of a whole tile: points, pixels of output */
    int32_t rows, columns, channels;
    ptrdiff_t slab, row, column; /* distances in floats: of points in m, of pixels in y */
};

/* u = the weights at the points, each packed as a product's b: depth x columns. */
struct cpu_winograd_weights {
    float *u;       /* side * side times packed_size */
    const float *w; /* tap k (row by row) from depth i to column n: w[k * tap_step + ...] */
    int32_t side, kernel;
    int32_t depth, columns;
    ptrdiff_t tap_step, depth_step, column_step;
};

/* The Fourier transform of whole planes of at most side x side pixels, sides being 9 and 16:
 * side * side values, which are a few real numbers and many complex ones (the others are their
 * conjugates). A complex product is a real one of twice the depth: where data has the two rows [re
 * | -im] and [im | re] of 2 * channels, and weights have re above im, sums have rows re and im. */
enum {
    FFT_MAX_SIDE = 16,
    FFT_MAX_KERNEL = 5
};

static inline int32_t nin__cpu_fft_real(int32_t side)
{
    return side % 2 == 0 ? 4 : 1;
}

static inline int32_t nin__cpu_fft_complex(int32_t side)
{
    return (side * side - nin__cpu_fft_real(side)) / 2;
}

/* An image's rows x columns pixels x, at `real` and `complex` of each point. */
struct cpu_fft_data {
    float *real;    /* [point * real_slab + channel] */
    float *complex; /* [point * complex_slab + ...]: two rows of 2 * channels */
    const float *x; /* [r * row + q * channels + channel] */
    bool one_row;   /* of a complex point: [re | im] alone, for the two gradients below */
    int32_t side, rows, columns, channels;
    ptrdiff_t real_slab, complex_slab, row;
};

/* y = the first rows x columns pixels of what has these values; then as for a product. */
struct cpu_fft_output {
    const float *real;    /* [point * real_slab + channel] */
    const float *complex; /* [point * complex_slab + ...]: rows re and im */
    float *y;
    const float *bias; /* channels, or NULL */
    const float *gate; /* laid out as y, or NULL */
    bool relu;
    int32_t side, rows, columns, channels;
    ptrdiff_t real_slab, complex_slab, row, column; /* of pixels in y */
};

/* u = the weights at the real points and then at the complex ones, each packed as a product's b:
 * depth x columns, and 2 * depth x columns. Divided by what the transform and its inverse multiply
 * by. */
struct cpu_fft_weights {
    float *u;
    const float *w; /* tap k (row by row) from depth i to column n: w[k + i * depth_step + ...] */
    int32_t side, kernel, pad;
    int32_t depth, columns;
    ptrdiff_t depth_step, column_step;
};

/* Blocks of columns in which weights at points are packed: [block][point][depth x columns]. All but
 * the last have so many columns: measured. Workers that share an image take vectors of a block, of
 * the widest kind. */
enum {
    CPU_BLOCK = 64,
    CPU_SHARE = 16
};

/* c (images x count) = a (images x columns) * conj(b)', the gradient of the data at one point. b
 * (depth x columns) is the weights as forward takes them, of which rows first ... first + count - 1
 * are used; so they need not be there a second time, with rows for columns. */
struct cpu_fft_data_gradient {
    const float *a; /* rows of parts * columns: re, then im */
    const float *b; /* the first block of all points */
    float *c;       /* rows of parts * count */
    bool complex;   /* parts are 2, else 1 */
    int32_t images, columns, depth, first, count;
    int32_t point;     /* of b: in matrices of depth x columns */
    ptrdiff_t b_block; /* distance of blocks */
};

/* Values of images at the points, complex ones as rows [re | im]. */
struct cpu_fft_rows {
    const float *real;    /* [point * real_slab + image * channels + channel] */
    const float *complex; /* [point * complex_slab + (2 * image + part) * channels + channel] */
    ptrdiff_t real_slab, complex_slab;
    int32_t channels; /* of an image: more than are used */
};

/* The gradient of the weights between some channels of x and some filters, whose channels are dy's:
 * at each point sums over the images, x * conj(dy), and the taps that follow, which are added to
 * dw. */
enum {
    CPU_FFT_CHANNELS = 6, /* at most: so that the sums stay in a cache of the second level */
    CPU_FFT_FILTERS = 32,
    CPU_FFT_SUMS = FFT_MAX_SIDE * FFT_MAX_SIDE * CPU_FFT_CHANNELS * CPU_FFT_FILTERS
};

struct cpu_fft_weight_gradient {
    struct cpu_fft_rows x, dy; /* from the first channel and the first filter on */
    float *sums;               /* room for CPU_FFT_SUMS */
    float *dw;  /* tap k of channel c and filter n: dw[k * dw_tap + c * dw_channel + n] */
    bool fresh; /* overwrites dw instead */
    int32_t side, images, channels, filters, kernel, pad;
    ptrdiff_t dw_tap, dw_channel;
};

/* A row of max pooling, and of the dropout behind it. `where` is for backward: each maximum's place
 * in its window, or nowhere if it is dropped, or gated and not positive. */
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

    /* v[k * slab + channel] = the values of a tile, from its pixels, row by row, of so many
     * channels. */
    void (*winograd_data)(float *v, ptrdiff_t slab, const float *const *pixels, int32_t side,
                          int32_t channels);

    /* The same for the size x size pixels of a gradient of the output. */
    void (*winograd_gradient)(float *d, ptrdiff_t slab, const float *const *pixels, int32_t side,
                              int32_t size, int32_t channels);
    void (*winograd_output)(const struct cpu_winograd_output *output);

    /* Rows first ... end - 1 of the depth. */
    void (*winograd_weights)(const struct cpu_winograd_weights *weights, int32_t first,
                             int32_t end);

    /* dw[tap * width + i] of `columns` columns, at most width, from sums[k * slab + i]. */
    void (*winograd_weight_gradient)(float *dw, const float *sums, ptrdiff_t slab, int32_t side,
                                     int32_t kernel, int32_t columns);

    void (*fft_data)(const struct cpu_fft_data *data);
    void (*fft_output)(const struct cpu_fft_output *output);
    void (*fft_data_gradient)(const struct cpu_fft_data_gradient *gradient);
    void (*fft_weight_gradient)(const struct cpu_fft_weight_gradient *gradient);

    /* Rows first ... end - 1 of the depth. */
    void (*fft_weights)(const struct cpu_fft_weights *weights, int32_t first, int32_t end);

    void (*max_pool_row)(const struct cpu_pooling *pooling, int32_t row);

    /* Backward, an image: dx is overwritten. */
    void (*max_unpool)(const struct nin__op *op, const float *dy, const uint16_t *where, float *dx);

    /* Dropout: whole blocks of a mask (core/rng.h); y = x * scale where keep is 1, else 0. */
    void (*mask_blocks)(unsigned char *keep, const struct nin__mask *mask, size_t block,
                        size_t count);
    void (*drop)(float *y, const float *x, const unsigned char *keep, float scale, size_t count);

    /* values = 0 where gate is not positive. */
    void (*gate)(float *values, const float *gate, size_t count);

    /* sums (columns) += each column of a (rows x columns), `block` rows by themselves unless it is 0;
     * `fresh` overwrites. */
    void (*add_columns)(float *sums, const float *a, int64_t rows, int32_t columns, int64_t block,
                        bool fresh);

    /* Multiply-adds that wait for nothing but their units: their number, in proportion to `rounds`.
     * What comes of them goes to sums (width). */
    int64_t (*saturate)(float *sums, int32_t rounds);
};

/* Products whose operands are rounded to bf16, to nearest with ties to even (what is subnormal
 * becomes 0), or are sums of two such numbers; sums are fp32. Operands and results lie in memory as
 * fp32, but for a packed b. A table for each instruction set and precision.
 *
 * A sum takes k, or the rows of a group, in pairs or in blocks of 32 from the first one on; what is
 * missing in the last counts as 0. No pair reaches from one group into the next, so here too any
 * split of a product's rows, or of groups, gives the same bits. */
struct cpu_bf16_kernels {
    const char *name; /* of the instruction set */

    /* Bytes of a packed b. pack takes an even number of rows at an even place, unless they are the
     * last ones. */
    size_t (*packed_bytes)(int32_t depth, int32_t columns);
    void (*pack)(const struct cpu_packing *packing);

    /* For either of these; it and a packed b begin at a multiple of NIN__ALIGNMENT. */
    size_t (*scratch_bytes)(int32_t depth, int32_t columns);
    void (*multiply)(const struct cpu_product *product, void *scratch); /* of one run */
    void (*add_outer)(const struct cpu_outer *outer, void *scratch);
};

/* Tables: the first one runs everywhere. */
extern const struct cpu_kernels nin__cpu_kernels_baseline;
extern const struct cpu_kernels nin__cpu_kernels_avx2;
extern const struct cpu_kernels nin__cpu_kernels_avx512;
extern const struct cpu_bf16_kernels nin__cpu_bf16_avx512;
extern const struct cpu_bf16_kernels nin__cpu_bf16_amx;
extern const struct cpu_bf16_kernels nin__cpu_bf16x3_amx;

#endif
