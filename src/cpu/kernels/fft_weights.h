/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_FFT_WEIGHTS_H
#define NIN__CPU_KERNELS_FFT_WEIGHTS_H

/* Kernels at the points of a Fourier transform, packed for products. */

#include "cpu/kernels.h"
#include "cpu/kernels/fft.h"
#include "cpu/kernels/product.h"
#include "cpu/kernels/vector.h"

/* Tap a of a kernel stands where x[i - place] meets it: y[i] is the sum of w[a] x[i + a - pad]. */
INLINE int32_t tap_place(int32_t a, int32_t pad, const int32_t side)
{
    return (pad - a + side) % side;
}

/* Rows that F went along, of one vector of columns of one row of depth. */
INLINE void fft_taps(vector *rows, const struct cpu_fft_weights *w, const float *from,
                     int32_t columns, const int32_t side)
{
    memset(rows, 0, (size_t)(side * side) * sizeof *rows);
    for (int32_t a = 0; a < w->kernel; a++) {
        vector row[FFT_MAX_SIDE] = {{0}};

        for (int32_t b = 0; b < w->kernel; b++) {
            float gathered[WIDTH];

            for (int32_t i = 0; i < WIDTH; i++)
                gathered[i] = i < columns ? from[a * w->kernel + b + i * w->column_step] : 0.0f;
            row[tap_place(b, w->pad, side)] = load(gathered);
        }
        fft_1d(row, 1, rows + tap_place(a, w->pad, side) * side, 1, side);
    }
}

/* The points of pair k: u at the real ones, `size` apart, v at the complex ones, im so far behind
 * re. */
INLINE void store_weights(float *u, float *v, ptrdiff_t size, ptrdiff_t im, const vector *rows,
                          const int32_t k, const int32_t side)
{
    const float scale = 1.0f / (float)(side * side);
    struct points_of_pair points;

    fft_pair(&points, rows, k, side);
    for (int32_t p = 0; k == fft_pairs(side) && p < nin__cpu_fft_real(side); p++)
        store(u + p * size, points.real[p] * spread(scale));
    v += side * k * 2 * size;
    for (int32_t p = 0; p < pair_points(k, side); p++, v += 2 * size) {
        store(v, points.complex[p][0] * spread(2.0f * scale));
        store(v + im, points.complex[p][1] * spread(2.0f * scale));
    }
}

INLINE void weights_of_side(const struct cpu_fft_weights *w, int32_t first, int32_t end,
                            const int32_t side)
{
    const ptrdiff_t depth = w->depth, size = (ptrdiff_t)packed_size(w->depth, w->columns);
    struct panel panel;

    for (int32_t at = 0; at < w->columns; at += panel.vectors * WIDTH) {
        panel = panel_at(at, w->columns);
        for (int32_t i = first; i < end; i++)
            for (int32_t j = 0; j < panel.vectors; j++) {
                ptrdiff_t row = panel.vectors * WIDTH, n = at + j * WIDTH;
                float *u = w->u + at * depth + i * row + j * WIDTH;
                float *v =
                    w->u + nin__cpu_fft_real(side) * size + 2 * at * depth + i * row + j * WIDTH;
                vector rows[FFT_MAX_AREA];

                fft_taps(rows, w, w->w + i * w->depth_step + n * w->column_step,
                         w->columns - (int32_t)n, side);
                for (int32_t k = 0; k < fft_pairs(side); k++)
                    store_weights(u, v, size, depth * row, rows, k, side);
                store_weights(u, v, size, depth * row, rows, fft_pairs(side), side);
            }
    }
}

static void fft_weights(const struct cpu_fft_weights *w, int32_t first, int32_t end)
{
    if (w->side == 16)
        weights_of_side(w, first, end, 16);
    else
        weights_of_side(w, first, end, 9);
}

#endif
