/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_WINOGRAD_H
#define NIN__CPU_KERNELS_WINOGRAD_H

/* The three linear maps of Winograd's minimal filtering with the eight points 0, 1, -1, 2, -2, 1/2,
 * -1/2, infinity (Winograd 1980; Lavin and Gray 2015), in one dimension and in two. They serve every
 * F(m, r) with m + r = 9:
 *
 *     data      (8 -> 8)  what B' does, the same for all of them
 *     evaluate  (n -> 8)  the polynomial of n coefficients at the points: G without its scale s
 *     interpolate (8 -> m)  what A' does
 *
 * Each works on whole vectors of channels. Point 7, infinity, feeds the last row of interpolate only. */

#include "cpu/kernels.h"
#include "cpu/kernels/product.h"
#include "cpu/kernels/vector.h"

/* s(p) of G, for each point: 1 / product of (p - q) over the other finite points, signs as in B'. */
static const float point_scale[WINOGRAD_SIDE] = {1.0f,      -2.0f / 9,  -2.0f / 9,  1.0f / 90,
                                                 1.0f / 90, 32.0f / 45, 32.0f / 45, 1.0f};

/* ---- one dimension: elements `step` apart ------------------------------------------------- */

INLINE void data_1d(const vector *d, const int32_t step, vector *o, const int32_t o_step)
{
    const vector half = spread(0.5f), two = spread(2.0f), quarter = spread(0.25f);
    vector d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step];
    vector d5 = d[5 * step], d6 = d[6 * step], d7 = d[7 * step], even, odd;

    o[0] = multiply_add(d4 - d2, spread(5.25f), d0 - d6);
    o[7 * o_step] = multiply_add(d3 - d5, spread(5.25f), d7 - d1);
    even = multiply_add(d4, spread(-4.25f), d2 + d6);
    odd = multiply_add(d3, spread(-4.25f), d1 + d5);
    o[o_step] = even + odd;
    o[2 * o_step] = even - odd;
    even = multiply_add(d2, quarter, multiply_add(d4, spread(-1.25f), d6));
    odd = multiply_add(d1, half, multiply_add(d3, spread(-2.5f), d5 * two));
    o[3 * o_step] = even + odd;
    o[4 * o_step] = even - odd;
    even = multiply_add(d2, spread(4.0f), multiply_add(d4, spread(-5.0f), d6));
    odd = multiply_add(d1, two, multiply_add(d3, spread(-2.5f), d5 * half));
    o[5 * o_step] = even + odd;
    o[6 * o_step] = even - odd;
}

/* w[0] + w[2] p^2 + w[4] p^4 (first 0), or w[1] + w[3] p^2 + w[5] p^4 (first 1), with q = p^2 */
INLINE vector every_other(const vector *w, const int32_t step, const int32_t n, const int32_t first,
                          const float q)
{
    const int32_t last = first + (n - 1 - first) / 2 * 2;
    vector sum = w[last * step];

#pragma GCC unroll 3
    for (int32_t i = last - 2; i >= first; i -= 2)
        sum = q == 1.0f ? sum + w[i * step] : multiply_add(sum, spread(q), w[i * step]);
    return sum;
}

INLINE void evaluate_1d(const vector *w, const int32_t step, const int32_t n, vector *o,
                        const int32_t o_step)
{
    static const float points[3] = {1.0f, 2.0f, 0.5f};

    o[0] = w[0];
    o[7 * o_step] = w[(n - 1) * step];
#pragma GCC unroll 3
    for (int32_t k = 0; k < 3; k++) {
        const float p = points[k];
        vector even = every_other(w, step, n, 0, p * p), odd = every_other(w, step, n, 1, p * p);

        o[(2 * k + 1) * o_step] = multiply_add(odd, spread(p), even);
        o[(2 * k + 2) * o_step] = multiply_add(odd, spread(-p), even);
    }
}

/* Output j is the sum over the seven points of p^j times the element, and the last one has infinity. */
INLINE void interpolate_1d(const vector *m, const int32_t step, const int32_t n, vector *o,
                           const int32_t o_step)
{
    vector sums[3] = {m[step] + m[2 * step], m[3 * step] + m[4 * step], m[5 * step] + m[6 * step]};
    vector differences[3] = {m[step] - m[2 * step], m[3 * step] - m[4 * step],
                             m[5 * step] - m[6 * step]};

#pragma GCC unroll 6
    for (int32_t j = 0; j < n; j++) {
        const vector *pairs = j % 2 == 0 ? sums : differences;
        vector sum = pairs[0];

        sum = multiply_add(pairs[1], spread((float)(1 << j)), sum);
        sum = multiply_add(pairs[2], spread(1.0f / (float)(1 << j)), sum);
        if (j == 0)
            sum += m[0];
        if (j == n - 1)
            sum += m[7 * step];
        o[j * o_step] = sum;
    }
}

/* ---- two dimensions ----------------------------------------------------------------------- */

INLINE vector load_channels(const float *from, int32_t channels)
{
    return channels >= WIDTH ? load(from) : load_part(from, channels);
}

INLINE void store_channels(float *to, vector v, int32_t channels)
{
    if (channels >= WIDTH)
        store(to, v);
    else
        store_part(to, v, channels);
}

/* v[k * slab + c], k the 64 points row by row, from the 8x8 pixels */
static void winograd_data(float *v, ptrdiff_t slab, const float *const pixels[WINOGRAD_POINTS],
                          int32_t channels)
{
    for (int32_t c = 0; c < channels; c += WIDTH) {
        vector columns[WINOGRAD_POINTS], column[WINOGRAD_SIDE], row[WINOGRAD_SIDE];

        for (int32_t q = 0; q < WINOGRAD_SIDE; q++) {
            for (int32_t r = 0; r < WINOGRAD_SIDE; r++)
                column[r] = load_channels(pixels[r * WINOGRAD_SIDE + q] + c, channels - c);
            data_1d(column, 1, columns + q, WINOGRAD_SIDE);
        }
        for (int32_t r = 0; r < WINOGRAD_SIDE; r++) {
            data_1d(columns + r * WINOGRAD_SIDE, 1, row, 1);
            for (int32_t q = 0; q < WINOGRAD_SIDE; q++)
                store_channels(v + (r * WINOGRAD_SIDE + q) * slab + c, row[q], channels - c);
        }
    }
}

/* d[k * slab + c] from n x n pixels */
INLINE void evaluate_2d(float *d, ptrdiff_t slab, const float *const *pixels, const int32_t n,
                        int32_t channels)
{
    for (int32_t c = 0; c < channels; c += WIDTH) {
        vector columns[WINOGRAD_SIDE * 6], column[6], row[WINOGRAD_SIDE];

        for (int32_t q = 0; q < n; q++) {
            for (int32_t r = 0; r < n; r++)
                column[r] = load_channels(pixels[r * n + q] + c, channels - c);
            evaluate_1d(column, 1, n, columns + q, n);
        }
        for (int32_t r = 0; r < WINOGRAD_SIDE; r++) {
            evaluate_1d(columns + r * n, 1, n, row, 1);
            for (int32_t q = 0; q < WINOGRAD_SIDE; q++)
                store_channels(d + (r * WINOGRAD_SIDE + q) * slab + c, row[q], channels - c);
        }
    }
}

static void winograd_gradient(float *d, ptrdiff_t slab, const float *const *pixels, int32_t n,
                              int32_t channels)
{
    if (n == 4)
        evaluate_2d(d, slab, pixels, 4, channels);
    else
        evaluate_2d(d, slab, pixels, 6, channels);
}

/* The n x n values of one vector of channels. */
INLINE void interpolate_2d(vector *o, const float *m, ptrdiff_t slab, const int32_t n,
                           int32_t channels)
{
    vector columns[6 * WINOGRAD_SIDE], column[WINOGRAD_SIDE];

    for (int32_t q = 0; q < WINOGRAD_SIDE; q++) {
        for (int32_t r = 0; r < WINOGRAD_SIDE; r++)
            column[r] = load_channels(m + (r * WINOGRAD_SIDE + q) * slab, channels);
        interpolate_1d(column, 1, n, columns + q, WINOGRAD_SIDE);
    }
    for (int32_t r = 0; r < n; r++)
        interpolate_1d(columns + r * WINOGRAD_SIDE, 1, n, o + r * n, 1);
}

INLINE void output_2d(const struct cpu_winograd_output *out, const int32_t n)
{
    for (int32_t c = 0; c < out->channels; c += WIDTH) {
        int32_t rest = out->channels - c;
        vector values[36], bias = {0};

        interpolate_2d(values, out->m + c, out->slab, n, rest);
        if (out->bias != NULL)
            bias = load_channels(out->bias + c, rest);
        for (int32_t r = 0; r < out->rows; r++)
            for (int32_t q = 0; q < out->columns; q++) {
                ptrdiff_t at = r * out->row + q * out->column + c;
                vector v = values[r * n + q] + bias;

                if (out->relu)
                    v = rectify(v);
                if (out->gate != NULL)
                    v = pass(load_channels(out->gate + at, rest), v);
                store_channels(out->y + at, v, rest);
            }
    }
}

static void winograd_output(const struct cpu_winograd_output *out)
{
    if (out->size == 4)
        output_2d(out, 4);
    else
        output_2d(out, 6);
}

/* ---- weights ------------------------------------------------------------------------------ */

/* One vector of columns of u, for one k: 64 points of the r x r kernel. */
INLINE void weights_2d(float *u, ptrdiff_t slab, const float *w, ptrdiff_t tap, ptrdiff_t column,
                       int32_t columns, const int32_t n)
{
    vector taps[25], rows[WINOGRAD_SIDE * 5], row[WINOGRAD_SIDE];
    float gathered[WIDTH];

    for (int32_t k = 0; k < n * n; k++) {
        for (int32_t i = 0; i < WIDTH; i++)
            gathered[i] = i < columns ? w[k * tap + i * column] : 0.0f;
        taps[k] = load(gathered);
    }
    for (int32_t q = 0; q < n; q++)
        evaluate_1d(taps + q, n, n, rows + q, n);
    for (int32_t r = 0; r < WINOGRAD_SIDE; r++) {
        evaluate_1d(rows + r * n, 1, n, row, 1);
        for (int32_t q = 0; q < WINOGRAD_SIDE; q++)
            store(u + (r * WINOGRAD_SIDE + q) * slab,
                  row[q] * spread(point_scale[r] * point_scale[q]));
    }
}

static void winograd_weights(const struct cpu_winograd_weights *w, int32_t first, int32_t end)
{
    ptrdiff_t slab = (ptrdiff_t)packed_size(w->depth, w->columns);
    struct panel panel;

    for (int32_t at = 0; at < w->columns; at += panel.vectors * WIDTH) {
        panel = panel_at(at, w->columns);
        for (int32_t k = first; k < end; k++)
            for (int32_t j = 0; j < panel.vectors; j++) {
                int32_t n = at + j * WIDTH;
                float *u =
                    w->u + (ptrdiff_t)at * w->depth + ((ptrdiff_t)k * panel.vectors + j) * WIDTH;
                const float *from = w->w + k * w->depth_step + n * w->column_step;

                if (w->kernel == 5)
                    weights_2d(u, slab, from, w->tap_step, w->column_step, w->columns - n, 5);
                else
                    weights_2d(u, slab, from, w->tap_step, w->column_step, w->columns - n, 3);
            }
    }
}

/* dw[r * kernel + q] of one vector of channels from its 64 sums */
INLINE void gradient_2d(float *dw, const float *sums, ptrdiff_t slab, const int32_t n,
                        int32_t channels)
{
    vector scaled[WINOGRAD_POINTS], columns[5 * WINOGRAD_SIDE], row[5];

    for (int32_t r = 0; r < WINOGRAD_SIDE; r++)
        for (int32_t q = 0; q < WINOGRAD_SIDE; q++)
            scaled[r * WINOGRAD_SIDE + q] =
                load_channels(sums + (r * WINOGRAD_SIDE + q) * slab, channels) *
                spread(point_scale[r] * point_scale[q]);
    for (int32_t q = 0; q < WINOGRAD_SIDE; q++)
        interpolate_1d(scaled + q, WINOGRAD_SIDE, n, columns + q, WINOGRAD_SIDE);
    for (int32_t r = 0; r < n; r++) {
        interpolate_1d(columns + r * WINOGRAD_SIDE, 1, n, row, 1);
        for (int32_t q = 0; q < n; q++)
            store(dw + (r * n + q) * WIDTH, row[q]);
    }
}

/* dw[tap][WIDTH], taps of one vector of `channels` channels at most WIDTH */
static void winograd_weight_gradient(float *dw, const float *sums, ptrdiff_t slab, int32_t kernel,
                                     int32_t channels)
{
    if (kernel == 5)
        gradient_2d(dw, sums, slab, 5, channels);
    else
        gradient_2d(dw, sums, slab, 3, channels);
}

#endif
