/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_FFT_DATA_GRADIENT_H
#define NIN__CPU_KERNELS_FFT_DATA_GRADIENT_H

/* The gradient of the data at a point of a Fourier transform, from weights packed for the forward
 * pass. There a vector holds columns, and here columns are summed over: columns 0, 16, ... to a sum
 * of their own, columns 1, 17, ... to another, and in the end these sixteen are added up, in the
 * same order with AVX2 and AVX-512. A tile has as many vectors of sums as make one vector of
 * results. */

#include "cpu/kernels.h"
#include "cpu/kernels/product.h"
#include "cpu/kernels/vector.h"

enum {
    TILE_IMAGES = 2,
    TURNS = 16 / WIDTH /* for sixteen sums of each result */
};

/* The panels of a block of columns. */
struct panels {
    struct panel panel[CPU_BLOCK / WIDTH + 1];
    int32_t count;
};

static struct panels panels_of(int32_t columns)
{
    struct panels panels = {.count = 0};

    for (int32_t at = 0; at < columns; panels.count++) {
        panels.panel[panels.count] = panel_at(at, columns);
        at += panels.panel[panels.count].vectors * WIDTH;
    }
    return panels;
}

/* Sums of some images, from a, with some rows of b, from row k: WIDTH of them and no more. */
struct gradient_tile {
    const struct cpu_fft_data_gradient *gradient;
    const struct panels *whole, *last; /* blocks */
    const float *a;
    float *c;
    int32_t k;
};

/* Where the next vector of columns lies. */
struct gradient_columns {
    const float *a, *b;
    ptrdiff_t a_image, a_im, b_row, b_im, b_ahead;
    int32_t part;
};

/* Sum [image][part][row] += a vector of columns of a's part times that of b's row. */
INLINE void add_columns_of(vector sums[WIDTH], const struct gradient_columns *at,
                           const int32_t images, const int32_t rows, const int32_t parts)
{
    vector re[TILE_IMAGES], im[TILE_IMAGES];

#pragma GCC unroll 2
    for (int32_t n = 0; n < images; n++) {
        re[n] = load_columns(at->a + n * at->a_image, 0, at->part);
        im[n] = parts == 2 ? load_columns(at->a + n * at->a_image + at->a_im, 0, at->part) : re[n];
    }
#pragma GCC unroll 8
    for (int32_t i = 0; i < rows; i++) {
        vector w = load(at->b + i * at->b_row);

        __builtin_prefetch(at->b + i * at->b_row + at->b_ahead, 0, 3);
#pragma GCC unroll 2
        for (int32_t n = 0; n < images; n++) {
            vector *sum = &sums[n * parts * rows + i];

            sum[0] = multiply_add(re[n], w, sum[0]);
            if (parts == 2)
                sum[rows] = multiply_add(im[n], w, sum[rows]);
        }
    }
    if (parts == 2)
#pragma GCC unroll 8
        for (int32_t i = 0; i < rows; i++) {
            vector w = load(at->b + at->b_im + i * at->b_row);

            __builtin_prefetch(at->b + at->b_im + i * at->b_row + at->b_ahead, 0, 3);
#pragma GCC unroll 2
            for (int32_t n = 0; n < images; n++) {
                vector *sum = &sums[n * parts * rows + i];

                sum[0] = multiply_add(im[n], w, sum[0]);
                sum[rows] = subtract_product(re[n], w, sum[rows]);
            }
        }
}

/* One vector of each result's sixteen sums. */
INLINE void take_turn(vector sums[WIDTH], const struct gradient_tile *tile, int32_t turn,
                      const int32_t images, const int32_t rows, const int32_t parts)
{
    const struct cpu_fft_data_gradient *g = tile->gradient;
    struct gradient_columns at = {.a_image = (ptrdiff_t)parts * g->columns, .a_im = g->columns};

    for (int32_t n = 0; n < g->columns; n += CPU_BLOCK) {
        bool last = g->columns - n < CPU_BLOCK;
        const struct panels *panels = last ? tile->last : tile->whole;
        ptrdiff_t size = (ptrdiff_t)packed_size(g->depth, last ? g->columns - n : CPU_BLOCK);
        const float *b = g->b + n / CPU_BLOCK * g->b_block + g->point * size;

        at.b_ahead = parts * size;
        for (int32_t p = 0; p < panels->count; p++) {
            struct panel panel = panels->panel[p];
            int32_t j = (turn - panel.first / WIDTH) & (TURNS - 1); /* panels begin at any vector */

            at.b_row = panel.vectors * WIDTH;
            at.b_im = g->depth * at.b_row;
            at.part = panel.part;
            at.a = tile->a + n + panel.first + j * WIDTH;
            at.b = b + parts * panel.first * (ptrdiff_t)g->depth + tile->k * at.b_row + j * WIDTH;
            for (; j < panel.vectors; j += TURNS, at.a += 16, at.b += 16)
                add_columns_of(sums, &at, images, rows, parts);
        }
    }
}

INLINE void gradient_tile(const struct gradient_tile *tile, const int32_t images,
                          const int32_t rows, const int32_t parts)
{
    vector total[WIDTH] = {{0}};
    float values[WIDTH];

    for (int32_t turn = 0; turn < TURNS; turn++) {
        vector sums[WIDTH] = {{0}};

        take_turn(sums, tile, turn, images, rows, parts);
#pragma GCC unroll 16
        for (int32_t i = 0; i < WIDTH; i++)
            total[i] += sums[i];
    }
    store(values, sum_elements(total));
#pragma GCC unroll 4
    for (int32_t n = 0; n < images * parts; n++)
        memcpy(tile->c + n * tile->gradient->count, values + n * rows,
               (size_t)rows * sizeof(float));
}

INLINE void gradient_images(const struct gradient_tile *tile, const int32_t rows,
                            const int32_t parts)
{
    const struct cpu_fft_data_gradient *g = tile->gradient;
    struct gradient_tile some = *tile;
    int32_t n = 0;

    for (; n + TILE_IMAGES <= g->images; n += TILE_IMAGES) {
        gradient_tile(&some, TILE_IMAGES, rows, parts);
        some.a += (ptrdiff_t)TILE_IMAGES * parts * g->columns;
        some.c += (ptrdiff_t)TILE_IMAGES * parts * g->count;
    }
    if (n < g->images) /* one is left of two */
        gradient_tile(&some, 1, rows, parts);
}

INLINE void gradient_tiles(const struct cpu_fft_data_gradient *g, const int32_t parts)
{
    const int32_t rows = WIDTH / TILE_IMAGES / parts;
    const struct panels whole = panels_of(CPU_BLOCK), last = panels_of(g->columns % CPU_BLOCK);
    struct gradient_tile tile = {.gradient = g, .whole = &whole, .last = &last, .a = g->a};

    for (int32_t k = 0, step; k < g->count; k += step) {
        step = k + rows <= g->count ? rows : 1;
        tile.c = g->c + k;
        tile.k = g->first + k;
        if (step == 1)
            gradient_images(&tile, 1, parts);
        else
            gradient_images(&tile, rows, parts);
    }
}

static void fft_data_gradient(const struct cpu_fft_data_gradient *g)
{
    if (g->complex)
        gradient_tiles(g, 2);
    else
        gradient_tiles(g, 1);
}

#endif
