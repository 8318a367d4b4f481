/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_FFT_WEIGHT_GRADIENT_H
#define NIN__CPU_KERNELS_FFT_WEIGHT_GRADIENT_H

/* The gradient of the weights by Fourier transforms. Sums at 256 values take ten times the memory
 * of the taps of a 5x5 kernel, so a block of them is made for some images, in a cache of the second
 * level, and its taps are what lasts. */

#include "cpu/kernels.h"
#include "cpu/kernels/fft.h"
#include "cpu/kernels/vector.h"

/* Vectors of filters of a tile of sums, CPU_FFT_CHANNELS of re and of im each: as many as the
 * registers hold. */
enum {
    SUM_VECTORS = WIDTH == 16 ? 2 : 1
};

/* ---- sums over images --------------------------------------------------------------------- */

/* A point: x and dy of the first image, distances of images and from re to im. */
struct sum_tile {
    const float *x, *dy;
    float *sums; /* [row][part][CPU_FFT_FILTERS] */
    ptrdiff_t x_image, x_im, dy_image, dy_im;
    int32_t images, part; /* part: columns of the one vector, 0: all are whole */
};

/* sums = x * conj(dy), image by image. */
INLINE void sum_tile(const struct sum_tile *tile, const int32_t rows, const int32_t vectors,
                     const int32_t parts)
{
    const float *x = tile->x, *dy = tile->dy;
    vector re[CPU_FFT_CHANNELS][SUM_VECTORS] = {{{0}}}, im[CPU_FFT_CHANNELS][SUM_VECTORS] = {{{0}}};

    for (int32_t n = 0; n < tile->images; n++, x += tile->x_image, dy += tile->dy_image) {
        vector dy_re[SUM_VECTORS], dy_im[SUM_VECTORS];

#pragma GCC unroll 2
        for (int32_t j = 0; j < vectors; j++) {
            dy_re[j] = load_columns(dy, j, tile->part);
            dy_im[j] = parts == 2 ? load_columns(dy + tile->dy_im, j, tile->part) : dy_re[j];
        }
#pragma GCC unroll 6
        for (int32_t i = 0; i < rows; i++) {
            vector x_re = spread(x[i]), x_im = parts == 2 ? spread(x[tile->x_im + i]) : x_re;

#pragma GCC unroll 2
            for (int32_t j = 0; j < vectors; j++) {
                re[i][j] = multiply_add(x_re, dy_re[j], re[i][j]);
                if (parts == 1)
                    continue;
                im[i][j] = subtract_product(x_re, dy_im[j], im[i][j]);
                re[i][j] = multiply_add(x_im, dy_im[j], re[i][j]);
                im[i][j] = multiply_add(x_im, dy_re[j], im[i][j]);
            }
        }
    }
#pragma GCC unroll 6
    for (int32_t i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int32_t j = 0; j < vectors; j++) {
            float *sums = tile->sums + parts * i * CPU_FFT_FILTERS + j * WIDTH;

            store(sums, re[i][j]);
            if (parts == 2)
                store(sums + CPU_FFT_FILTERS, im[i][j]);
        }
}

INLINE void sum_rows(const struct sum_tile *tile, int32_t rows, const int32_t vectors,
                     const int32_t parts)
{
    struct sum_tile row = *tile;

    if (rows == CPU_FFT_CHANNELS) {
        sum_tile(tile, CPU_FFT_CHANNELS, vectors, parts);
        return;
    }
    for (int32_t i = 0; i < rows; i++) {
        sum_tile(&row, 1, vectors, parts);
        row.x++;
        row.sums += parts * CPU_FFT_FILTERS;
    }
}

/* All columns of a point. */
INLINE void sum_point(struct sum_tile tile, int32_t rows, int32_t columns, const int32_t parts)
{
    int32_t n = 0;

    for (; n + SUM_VECTORS * WIDTH <= columns; n += SUM_VECTORS * WIDTH) {
        sum_rows(&tile, rows, SUM_VECTORS, parts);
        tile.dy += SUM_VECTORS * WIDTH;
        tile.sums += SUM_VECTORS * WIDTH;
    }
    for (; n < columns; n += WIDTH) {
        tile.part = columns - n < WIDTH ? columns - n : 0;
        sum_rows(&tile, rows, 1, parts);
        tile.dy += WIDTH;
        tile.sums += WIDTH;
    }
}

static void sum_points(const struct cpu_fft_weight_gradient *g)
{
    struct sum_tile tile = {
        .sums = g->sums, .x_image = g->x.channels, .dy_image = g->dy.channels, .images = g->images};
    const ptrdiff_t size = CPU_FFT_CHANNELS * CPU_FFT_FILTERS;

    for (int32_t p = 0; p < nin__cpu_fft_real(g->side); p++, tile.sums += size) {
        tile.x = g->x.real + p * g->x.real_slab;
        tile.dy = g->dy.real + p * g->dy.real_slab;
        sum_point(tile, g->channels, g->filters, 1);
    }
    tile.x_im = tile.x_image;
    tile.dy_im = tile.dy_image;
    tile.x_image *= 2;
    tile.dy_image *= 2;
    for (int32_t p = 0; p < nin__cpu_fft_complex(g->side); p++, tile.sums += 2 * size) {
        tile.x = g->x.complex + p * g->x.complex_slab;
        tile.dy = g->dy.complex + p * g->dy.complex_slab;
        sum_point(tile, g->channels, g->filters, 2);
    }
}

/* ---- taps --------------------------------------------------------------------------------- */

/* taps[k * step] = element k - pad of F' x: few of them. */
INLINE void few_elements(const vector *x, vector *taps, const int32_t step, int32_t kernel,
                         int32_t pad, const int32_t side)
{
    int32_t above = kernel - 1 - pad;

#pragma GCC unroll 5
    for (int32_t s = 0; s < FFT_MAX_KERNEL; s++) {
        vector even, odd;

        if (s > above && s > pad)
            break;
        fft_halves(&even, &odd, x, 1, s, side);
        if (s <= above)
            taps[(pad + s) * step] = even + odd;
        if (s <= pad)
            taps[(pad - s) * step] = even - odd;
    }
}

/* The points of pair k of a row and of a vector of columns. */
INLINE void load_sums(struct points_of_pair *points, const float *sums, const int32_t k,
                      int32_t row, int32_t column, const int32_t side)
{
    const float scale = 1.0f / (float)(side * side);
    const ptrdiff_t size = CPU_FFT_CHANNELS * CPU_FFT_FILTERS;
    const float *real = sums + row * CPU_FFT_FILTERS + column;
    const float *complex =
        sums + (nin__cpu_fft_real(side) + 2 * side * k) * size + 2 * row * CPU_FFT_FILTERS + column;

    for (int32_t p = 0; k == fft_pairs(side) && p < nin__cpu_fft_real(side); p++)
        points->real[p] = load(real + p * size) * spread(scale);
    for (int32_t p = 0; p < pair_points(k, side); p++) {
        const float *sum = complex + 2 * p * size;

        points->complex[p][0] = load(sum) * spread(2.0f * scale);
        points->complex[p][1] = load(sum + CPU_FFT_FILTERS) * spread(2.0f * scale);
    }
}

/* Of each row of taps, the columns of pair k. */
INLINE void few_rows(vector rows[FFT_MAX_KERNEL][FFT_MAX_SIDE],
                     const struct cpu_fft_weight_gradient *g, const int32_t k, int32_t row,
                     int32_t column, const int32_t side)
{
    struct points_of_pair points;
    vector columns[2][FFT_MAX_SIDE];
    int32_t count;

    load_sums(&points, g->sums, k, row, column, side);
    count = join_points(columns, &points, k, side);
#pragma GCC unroll 2
    for (int32_t q = 0; q < count; q++)
        few_elements(columns[q], &rows[0][pair_column(k, side) + q], FFT_MAX_SIDE, g->kernel,
                     g->pad, side);
}

/* Those of a row and of a vector of columns. */
INLINE void add_taps(const struct cpu_fft_weight_gradient *g, int32_t row, int32_t column,
                     const int32_t side)
{
    float *dw = g->dw + row * g->dw_channel + column;
    vector rows[FFT_MAX_KERNEL][FFT_MAX_SIDE];
    int32_t rest = g->filters - column;

    for (int32_t t = 0; t < g->kernel * g->kernel; t++)
        __builtin_prefetch(dw + t * g->dw_tap, 1, 3);
    for (int32_t k = 0; k < fft_pairs(side); k++)
        few_rows(rows, g, k, row, column, side);
    few_rows(rows, g, fft_pairs(side), row, column, side);
    for (int32_t a = 0; a < g->kernel; a++) {
        vector taps[FFT_MAX_KERNEL];

        few_elements(rows[a], taps, 1, g->kernel, g->pad, side);
        for (int32_t b = 0; b < g->kernel; b++, dw += g->dw_tap)
            store_channels(dw, g->fresh ? taps[b] : load_channels(dw, rest) + taps[b], rest);
    }
}

static void fft_weight_gradient(const struct cpu_fft_weight_gradient *g)
{
    sum_points(g);
    for (int32_t i = 0; i < g->channels; i++)
        for (int32_t n = 0; n < g->filters; n += WIDTH)
            if (g->side == 16)
                add_taps(g, i, n, 16);
            else
                add_taps(g, i, n, 9);
}

#endif
