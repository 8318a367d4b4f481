/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_WINOGRAD_H
#define NIN__CPU_KERNELS_WINOGRAD_H

/* The three linear maps of Winograd's minimal filtering (Winograd 1980; Lavin and Gray 2015), in
 * one dimension and in two, for `side` points: 0, pairs +-p, infinity. They serve every F(m, r)
 * with m + r = side + 1:
 *
 *     data      (side -> side)  what B' does, the same for all of them
 *     evaluate  (m or r -> side)  the polynomial of so many coefficients at the points: G without its scale
 *     interpolate (side -> m or r)  what A' does
 *
 * Each works on whole vectors of channels. The last point, infinity, feeds the last row of
 * interpolate only. */

#include "cpu/kernels.h"
#include "cpu/kernels/product.h"
#include "cpu/kernels/vector.h"

/* Points in the order 0, +p[0], -p[0], +p[1], ... infinity. Of fractions with exact maps these let
 * rounding errors grow least: six points to 1e-6 of the result, eight to 4e-6. */
struct points {
    int32_t pairs;
    float p[3];
    float
        scale[WINOGRAD_MAX_SIDE]; /* of G: 1 / product of (point - q) over the other finite ones */
};

static const struct points points_of[WINOGRAD_MAX_SIDE + 1] = {
    [6] = {.pairs = 2,
           .p = {3.0f / 4, 3.0f / 2},
           .scale = {64.0f / 81, -128.0f / 243, -128.0f / 243, 32.0f / 243, 32.0f / 243, 1}},
    [8] = {.pairs = 3,
           .p = {1, 2, 1.0f / 2},
           .scale = {-1, -2.0f / 9, -2.0f / 9, 1.0f / 90, 1.0f / 90, 32.0f / 45, 32.0f / 45, 1}},
};

/* ---- one dimension: elements `step` apart, `side` points ---------------------------------- */

/* v * factor + sum. Additions have units of their own beside those of multiply-adds. */
INLINE vector scaled_sum(vector v, const float factor, vector sum)
{
    if (factor == 1.0f)
        return sum + v;
    if (factor == -1.0f)
        return sum - v;
    return multiply_add(v, spread(factor), sum);
}

/* Row p of B' has the coefficients of the product of (x - q) over the other finite points. */
INLINE void data_six(const vector *d, const int32_t step, vector *o, const int32_t o_step)
{
    vector d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], even, odd;

    o[0] = multiply_add(d[0], spread(81.0f / 64), multiply_add(d2, spread(-45.0f / 16), d4));
    o[5 * o_step] =
        multiply_add(d1, spread(81.0f / 64), multiply_add(d3, spread(-45.0f / 16), d[5 * step]));
    even = multiply_add(d2, spread(-9.0f / 4), d4);
    odd = multiply_add(d1, spread(-27.0f / 16), d3 * spread(3.0f / 4));
    o[o_step] = even + odd;
    o[2 * o_step] = even - odd;
    even = multiply_add(d2, spread(-9.0f / 16), d4);
    odd = multiply_add(d1, spread(-27.0f / 32), d3 * spread(3.0f / 2));
    o[3 * o_step] = even + odd;
    o[4 * o_step] = even - odd;
}

INLINE void data_eight(const vector *d, const int32_t step, vector *o, const int32_t o_step)
{
    vector d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
    vector d6 = d[6 * step], even, odd;

    o[0] = multiply_add(d2 - d4, spread(5.25f), d6 - d[0]);
    o[7 * o_step] = multiply_add(d3 - d5, spread(5.25f), d[7 * step] - d1);
    even = multiply_add(d4, spread(-4.25f), d2 + d6);
    odd = multiply_add(d3, spread(-4.25f), d1 + d5);
    o[o_step] = even + odd;
    o[2 * o_step] = even - odd;
    even = multiply_add(d2, spread(0.25f), multiply_add(d4, spread(-1.25f), d6));
    odd = multiply_add(d1, spread(0.5f), multiply_add(d3, spread(-2.5f), d5 * spread(2.0f)));
    o[3 * o_step] = even + odd;
    o[4 * o_step] = even - odd;
    even = multiply_add(d2, spread(4.0f), multiply_add(d4, spread(-5.0f), d6));
    odd = multiply_add(d1, spread(2.0f), multiply_add(d3, spread(-2.5f), d5 * spread(0.5f)));
    o[5 * o_step] = even + odd;
    o[6 * o_step] = even - odd;
}

INLINE void data_1d(const vector *d, const int32_t step, const int32_t side, vector *o,
                    const int32_t o_step)
{
    if (side == 6)
        data_six(d, step, o, o_step);
    else
        data_eight(d, step, o, o_step);
}

/* w[first] + w[first + 2] q + w[first + 4] q^2 of n coefficients, q a point's square */
INLINE vector every_other(const vector *w, const int32_t step, const int32_t n, const int32_t first,
                          const float q)
{
    const int32_t last = first + (n - 1 - first) / 2 * 2;
    vector sum = w[last * step];

#pragma GCC unroll 3
    for (int32_t i = last - 2; i >= first; i -= 2)
        sum = scaled_sum(sum, q, w[i * step]);
    return sum;
}

INLINE void evaluate_1d(const vector *w, const int32_t step, const int32_t n, const int32_t side,
                        vector *o, const int32_t o_step)
{
    const struct points *points = &points_of[side];

    o[0] = w[0];
#pragma GCC unroll 3
    for (int32_t i = 0; i < points->pairs; i++) {
        const float p = points->p[i];
        vector even = every_other(w, step, n, 0, p * p), odd = every_other(w, step, n, 1, p * p);

        o[(2 * i + 1) * o_step] = scaled_sum(odd, p, even);
        o[(2 * i + 2) * o_step] = scaled_sum(odd, -p, even);
    }
    o[(side - 1) * o_step] = w[(n - 1) * step];
}

/* Output j is the sum over the finite points of p^j times the element, and the last one has
 * infinity. */
INLINE void interpolate_1d(const vector *m, const int32_t step, const int32_t n, const int32_t side,
                           vector *o, const int32_t o_step)
{
    const struct points *points = &points_of[side];
    float powers[3] = {1.0f, 1.0f, 1.0f};

#pragma GCC unroll 6
    for (int32_t j = 0; j < n; j++) {
        vector sum;

#pragma GCC unroll 3
        for (int32_t i = 0; i < points->pairs; i++) {
            const vector *pair = m + (2 * i + 1) * step;
            vector term = j % 2 == 0 ? pair[0] + pair[step] : pair[0] - pair[step];

            sum = i == 0 ? term * spread(powers[i]) : scaled_sum(term, powers[i], sum);
            powers[i] *= points->p[i];
        }
        if (j == 0)
            sum += m[0];
        if (j == n - 1)
            sum += m[(side - 1) * step];
        o[j * o_step] = sum;
    }
}

/* ---- two dimensions ----------------------------------------------------------------------- */

/* v[k * slab + c], k the points row by row, from the side x side pixels */
INLINE void data_2d(float *v, ptrdiff_t slab, const float *const *pixels, const int32_t side,
                    int32_t channels)
{
    for (int32_t c = 0; c < channels; c += WIDTH) {
        vector columns[WINOGRAD_MAX_POINTS], column[WINOGRAD_MAX_SIDE], row[WINOGRAD_MAX_SIDE];

        for (int32_t q = 0; q < side; q++) {
            for (int32_t r = 0; r < side; r++)
                column[r] = load_channels(pixels[r * side + q] + c, channels - c);
            data_1d(column, 1, side, columns + q, side);
        }
        for (int32_t r = 0; r < side; r++) {
            data_1d(columns + r * side, 1, side, row, 1);
            for (int32_t q = 0; q < side; q++)
                store_channels(v + (r * side + q) * slab + c, row[q], channels - c);
        }
    }
}

static void winograd_data(float *v, ptrdiff_t slab, const float *const *pixels, int32_t side,
                          int32_t channels)
{
    if (side == 6)
        data_2d(v, slab, pixels, 6, channels);
    else
        data_2d(v, slab, pixels, 8, channels);
}

/* d[k * slab + c] from n x n pixels */
INLINE void evaluate_2d(float *d, ptrdiff_t slab, const float *const *pixels, const int32_t n,
                        const int32_t side, int32_t channels)
{
    for (int32_t c = 0; c < channels; c += WIDTH) {
        vector columns[WINOGRAD_MAX_SIDE * WINOGRAD_MAX_SIZE], column[WINOGRAD_MAX_SIZE];
        vector row[WINOGRAD_MAX_SIDE];

        for (int32_t q = 0; q < n; q++) {
            for (int32_t r = 0; r < n; r++)
                column[r] = load_channels(pixels[r * n + q] + c, channels - c);
            evaluate_1d(column, 1, n, side, columns + q, n);
        }
        for (int32_t r = 0; r < side; r++) {
            evaluate_1d(columns + r * n, 1, n, side, row, 1);
            for (int32_t q = 0; q < side; q++)
                store_channels(d + (r * side + q) * slab + c, row[q], channels - c);
        }
    }
}

static void winograd_gradient(float *d, ptrdiff_t slab, const float *const *pixels, int32_t side,
                              int32_t size, int32_t channels)
{
    if (side == 6)
        evaluate_2d(d, slab, pixels, 4, 6, channels);
    else if (size == 4)
        evaluate_2d(d, slab, pixels, 4, 8, channels);
    else
        evaluate_2d(d, slab, pixels, 6, 8, channels);
}

/* The n x n values of one vector of channels. */
INLINE void interpolate_2d(vector *o, const float *m, ptrdiff_t slab, const int32_t n,
                           const int32_t side, int32_t channels)
{
    vector columns[WINOGRAD_MAX_SIZE * WINOGRAD_MAX_SIDE], column[WINOGRAD_MAX_SIDE];

    for (int32_t q = 0; q < side; q++) {
        for (int32_t r = 0; r < side; r++)
            column[r] = load_channels(m + (r * side + q) * slab, channels);
        interpolate_1d(column, 1, n, side, columns + q, side);
    }
    for (int32_t r = 0; r < n; r++)
        interpolate_1d(columns + r * side, 1, n, side, o + r * n, 1);
}

INLINE void output_2d(const struct cpu_winograd_output *out, const int32_t n, const int32_t side)
{
    for (int32_t c = 0; c < out->channels; c += WIDTH) {
        int32_t rest = out->channels - c;
        vector values[WINOGRAD_MAX_SIZE * WINOGRAD_MAX_SIZE], bias = {0};

        interpolate_2d(values, out->m + c, out->slab, n, side, rest);
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
    if (out->side == 6)
        output_2d(out, 4, 6);
    else if (out->size == 4)
        output_2d(out, 4, 8);
    else
        output_2d(out, 6, 8);
}

/* ---- weights ------------------------------------------------------------------------------ */

/* One vector of columns of u, for one k: the points of the n x n kernel. */
INLINE void weights_2d(float *u, ptrdiff_t slab, const float *w, ptrdiff_t tap, ptrdiff_t column,
                       int32_t columns, const int32_t n, const int32_t side)
{
    const float *scale = points_of[side].scale;
    vector taps[25], rows[WINOGRAD_MAX_SIDE * 5], row[WINOGRAD_MAX_SIDE];
    float gathered[WIDTH];

    for (int32_t k = 0; k < n * n; k++) {
        for (int32_t i = 0; i < WIDTH; i++)
            gathered[i] = i < columns ? w[k * tap + i * column] : 0.0f;
        taps[k] = load(gathered);
    }
    for (int32_t q = 0; q < n; q++)
        evaluate_1d(taps + q, n, n, side, rows + q, n);
    for (int32_t r = 0; r < side; r++) {
        evaluate_1d(rows + r * n, 1, n, side, row, 1);
        for (int32_t q = 0; q < side; q++)
            store(u + (r * side + q) * slab, row[q] * spread(scale[r] * scale[q]));
    }
}

static void winograd_vector(float *u, ptrdiff_t slab, const struct cpu_winograd_weights *w,
                            const float *from, int32_t columns)
{
    if (w->side == 6)
        weights_2d(u, slab, from, w->tap_step, w->column_step, columns, 3, 6);
    else if (w->kernel == 5)
        weights_2d(u, slab, from, w->tap_step, w->column_step, columns, 5, 8);
    else
        weights_2d(u, slab, from, w->tap_step, w->column_step, columns, 3, 8);
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

                winograd_vector(
                    w->u + (ptrdiff_t)at * w->depth + ((ptrdiff_t)k * panel.vectors + j) * WIDTH,
                    slab, w, w->w + k * w->depth_step + n * w->column_step, w->columns - n);
            }
    }
}

/* dw[r * n + q] of one vector of channels from its sums */
INLINE void gradient_2d(float *dw, const float *sums, ptrdiff_t slab, const int32_t n,
                        const int32_t side, int32_t channels)
{
    const float *scale = points_of[side].scale;
    vector scaled[WINOGRAD_MAX_POINTS], columns[5 * WINOGRAD_MAX_SIDE], row[5];

    for (int32_t r = 0; r < side; r++)
        for (int32_t q = 0; q < side; q++)
            scaled[r * side + q] =
                load_channels(sums + (r * side + q) * slab, channels) * spread(scale[r] * scale[q]);
    for (int32_t q = 0; q < side; q++)
        interpolate_1d(scaled + q, side, n, side, columns + q, side);
    for (int32_t r = 0; r < n; r++) {
        interpolate_1d(columns + r * side, 1, n, side, row, 1);
        for (int32_t q = 0; q < n; q++)
            store(dw + (r * n + q) * WIDTH, row[q]);
    }
}

/* dw[tap][WIDTH], taps of one vector of `channels` channels at most WIDTH */
static void winograd_weight_gradient(float *dw, const float *sums, ptrdiff_t slab, int32_t side,
                                     int32_t kernel, int32_t channels)
{
    if (side == 6)
        gradient_2d(dw, sums, slab, 3, 6, channels);
    else if (kernel == 5)
        gradient_2d(dw, sums, slab, 5, 8, channels);
    else
        gradient_2d(dw, sums, slab, 3, 8, channels);
}

#endif
