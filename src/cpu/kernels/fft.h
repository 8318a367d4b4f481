/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_FFT_H
#define NIN__CPU_KERNELS_FFT_H

/* The discrete Fourier transform of real planes of 16x16 or 9x9 pixels, a vector of channels at a
 * time.
 *
 * In one dimension real values become X0, with an even side X(side / 2) too, and the pairs Re Xk,
 * Im Xk: a linear map F, made of sums and differences. Its transpose, with twice the weight on what
 * is complex and all divided by the side, is its inverse. In two dimensions F goes along rows and
 * then along columns; where both indices are complex, four real values a, b, c, d (Re Re, Im Re, Re
 * Im, Im Im) hold two complex ones, (a - d) + i (b + c) and (a + d) + i (b - c). */

#include "cpu/kernels.h"
#include "cpu/kernels/product.h"
#include "cpu/kernels/vector.h"

enum {
    FFT_MAX_AREA = FFT_MAX_SIDE * FFT_MAX_SIDE
};

/* cos(2 pi m / 16), cos(2 pi m / 9), sin(2 pi m / 9) */
static const float cosine_16[16] = {
    1,  0.92387953251128675613f,  0.70710678118654752440f,  0.38268343236508977173f,
    0,  -0.38268343236508977173f, -0.70710678118654752440f, -0.92387953251128675613f,
    -1, -0.92387953251128675613f, -0.70710678118654752440f, -0.38268343236508977173f,
    0,  0.38268343236508977173f,  0.70710678118654752440f,  0.92387953251128675613f};
static const float cosine_9[9] = {1,     0.76604444311897803520f,  0.17364817766693034885f,
                                  -0.5f, -0.93969262078590838405f, -0.93969262078590838405f,
                                  -0.5f, 0.17364817766693034885f,  0.76604444311897803520f};
static const float sine_9[9] = {0,
                                0.64278760968653932632f,
                                0.98480775301220805937f,
                                0.86602540378443864676f,
                                0.34202014332566873304f,
                                -0.34202014332566873304f,
                                -0.86602540378443864676f,
                                -0.98480775301220805937f,
                                -0.64278760968653932632f};

/* Of m turns by a part of the side. */
INLINE vector cosine(int32_t m, const int32_t side)
{
    return spread(side == 16 ? cosine_16[m % 16] : cosine_9[m % 9]);
}

INLINE vector sine(int32_t m, const int32_t side)
{
    return spread(side == 16 ? cosine_16[(m + 12) % 16] : sine_9[m % 9]);
}

/* ---- one dimension, 16 elements `step` apart ---------------------------------------------- */

/* x0 a + y0 b */
INLINE vector turn(vector x, const float a, vector y, const float b)
{
    return multiply_add(x, spread(a), y * spread(b));
}

/* X0, X8, X2, X4 and X6 from s[k] = x[k] + x[k + 8]. */
INLINE void fft_even(const vector s[8], vector *o, const int32_t step)
{
    vector a0 = s[0] + s[4], a1 = s[1] + s[5], a2 = s[2] + s[6], a3 = s[3] + s[7];
    vector b0 = s[0] - s[4], b1 = s[1] - s[5], b2 = s[2] - s[6], b3 = s[3] - s[7];
    vector sum = (b1 + b3) * spread(cosine_16[2]), difference = (b1 - b3) * spread(cosine_16[2]);

    o[0] = (a0 + a2) + (a1 + a3);
    o[step] = (a0 + a2) - (a1 + a3);
    o[4 * step] = b0 + difference;
    o[5 * step] = -b2 - sum;
    o[8 * step] = a0 - a2;
    o[9 * step] = a3 - a1;
    o[12 * step] = b0 - difference;
    o[13 * step] = b2 - sum;
}

/* X1, X3, X5 and X7 from d[k] = x[k] - x[k + 8]. */
INLINE void fft_odd(const vector d[8], vector *o, const int32_t step)
{
    vector m1 = d[1] - d[7], m2 = d[2] - d[6], m3 = d[3] - d[5];
    vector p1 = d[1] + d[7], p2 = d[2] + d[6], p3 = d[3] + d[5];
    vector e = multiply_add(m2, spread(cosine_16[2]), d[0]),
           f = multiply_add(m2, spread(-cosine_16[2]), d[0]);
    vector g = turn(m1, cosine_16[1], m3, cosine_16[3]),
           h = turn(m1, cosine_16[3], m3, -cosine_16[1]);
    vector u = turn(p1, -cosine_16[3], p3, -cosine_16[1]),
           q = turn(p1, -cosine_16[1], p3, cosine_16[3]);
    vector v = multiply_add(p2, spread(cosine_16[2]), d[4]),
           z = multiply_add(p2, spread(cosine_16[2]), -d[4]);

    o[2 * step] = e + g;
    o[3 * step] = u - v;
    o[6 * step] = f + h;
    o[7 * step] = q - z;
    o[10 * step] = f - h;
    o[11 * step] = q + z;
    o[14 * step] = e - g;
    o[15 * step] = u + v;
}

INLINE void fft_16(const vector *x, const int32_t step, vector *o, const int32_t o_step)
{
    vector s[8], d[8];

#pragma GCC unroll 8
    for (int32_t k = 0; k < 8; k++) {
        s[k] = x[k * step] + x[(k + 8) * step];
        d[k] = x[k * step] - x[(k + 8) * step];
    }
    fft_even(s, o, o_step);
    fft_odd(d, o, o_step);
}

/* The transposes of fft_even and fft_odd. */
INLINE void fft_even_transposed(const vector *x, const int32_t step, vector s[8])
{
    vector sum = x[0] + x[step], difference = x[0] - x[step];
    vector e[4] = {sum + x[8 * step], difference - x[9 * step], sum - x[8 * step],
                   difference + x[9 * step]};
    vector g = (x[4 * step] - x[12 * step]) * spread(cosine_16[2]);
    vector h = (x[5 * step] + x[13 * step]) * spread(cosine_16[2]);
    vector t[4] = {x[4 * step] + x[12 * step], g - h, x[13 * step] - x[5 * step], -g - h};

#pragma GCC unroll 4
    for (int32_t k = 0; k < 4; k++) {
        s[k] = e[k] + t[k];
        s[k + 4] = e[k] - t[k];
    }
}

INLINE void fft_odd_transposed(const vector *x, const int32_t step, vector d[8])
{
    vector a17 = x[2 * step] - x[14 * step], b17 = x[2 * step] + x[14 * step];
    vector a35 = x[6 * step] - x[10 * step], b35 = x[6 * step] + x[10 * step];
    vector u17 = x[3 * step] + x[15 * step], v17 = x[3 * step] - x[15 * step];
    vector u35 = x[7 * step] + x[11 * step], v35 = x[7 * step] - x[11 * step];
    vector c1 = turn(a17, cosine_16[1], a35, cosine_16[3]),
           c3 = turn(a17, cosine_16[3], a35, -cosine_16[1]);
    vector q1 = turn(u17, cosine_16[3], u35, cosine_16[1]),
           q3 = turn(u17, cosine_16[1], u35, -cosine_16[3]);
    vector c2 = (b17 - b35) * spread(cosine_16[2]), q2 = (v17 + v35) * spread(cosine_16[2]);

    d[0] = b17 + b35;
    d[1] = c1 - q1;
    d[2] = c2 - q2;
    d[3] = c3 - q3;
    d[4] = v35 - v17;
    d[5] = -c3 - q3;
    d[6] = -c2 - q2;
    d[7] = -c1 - q1;
}

INLINE void fft_16_transposed(const vector *x, const int32_t step, vector *o, const int32_t o_step)
{
    vector s[8], d[8];

    fft_even_transposed(x, step, s);
    fft_odd_transposed(x, step, d);
#pragma GCC unroll 8
    for (int32_t k = 0; k < 8; k++) {
        o[k * o_step] = s[k] + d[k];
        o[(k + 8) * o_step] = s[k] - d[k];
    }
}

/* ---- 9 elements, and either --------------------------------------------------------------- */

INLINE void fft_9(const vector *x, const int32_t step, vector *o, const int32_t o_step)
{
    vector sum[5], difference[5];

#pragma GCC unroll 4
    for (int32_t k = 1; k < 5; k++) {
        sum[k] = x[k * step] + x[(9 - k) * step];
        difference[k] = x[k * step] - x[(9 - k) * step];
    }
    o[0] = x[0] + ((sum[1] + sum[2]) + (sum[3] + sum[4]));
#pragma GCC unroll 4
    for (int32_t k = 1; k < 5; k++) {
        vector re = x[0], im = {0};

#pragma GCC unroll 4
        for (int32_t n = 1; n < 5; n++) {
            re = multiply_add(sum[n], cosine(k * n, 9), re);
            im = subtract_product(difference[n], sine(k * n, 9), im);
        }
        o[(2 * k - 1) * o_step] = re;
        o[2 * k * o_step] = im;
    }
}

/* Elements s and side - s of F' x are even + odd and even - odd. */
INLINE void fft_halves(vector *even, vector *odd, const vector *x, const int32_t step, int32_t s,
                       const int32_t side)
{
    const int32_t real = side % 2 == 0 ? 2 : 1;

    *even = real == 1 ? x[0] : s % 2 == 0 ? x[0] + x[step] : x[0] - x[step];
    *odd = (vector){0};
#pragma GCC unroll 7
    for (int32_t k = 1; k <= (side - 1) / 2; k++) {
        const vector *pair = x + (real + 2 * (k - 1)) * step;

        *even = multiply_add(cosine(k * s, side), pair[0], *even);
        *odd = subtract_product(sine(k * s, side), pair[step], *odd);
    }
}

INLINE void fft_9_transposed(const vector *x, const int32_t step, vector *o, const int32_t o_step)
{
    o[0] = x[0] + ((x[step] + x[3 * step]) + (x[5 * step] + x[7 * step]));
#pragma GCC unroll 4
    for (int32_t s = 1; s < 5; s++) {
        vector even, odd;

        fft_halves(&even, &odd, x, step, s, 9);
        o[s * o_step] = even + odd;
        o[(9 - s) * o_step] = even - odd;
    }
}

INLINE void fft_1d(const vector *x, const int32_t step, vector *o, const int32_t o_step,
                   const int32_t side)
{
    if (side == 16)
        fft_16(x, step, o, o_step);
    else
        fft_9(x, step, o, o_step);
}

INLINE void fft_1d_transposed(const vector *x, const int32_t step, vector *o, const int32_t o_step,
                              const int32_t side)
{
    if (side == 16)
        fft_16_transposed(x, step, o, o_step);
    else
        fft_9_transposed(x, step, o, o_step);
}

/* ---- two dimensions ----------------------------------------------------------------------- */

/* After F along rows, the columns Re Xk and Im Xk make a pair, which F along columns turns into
 * `side` complex points, the first pair into the first ones; X0 and X8 are a last pair, of real and
 * of complex points, or X0 is all of it. So a pair at a time goes between the pixels and the
 * points. */
INLINE int32_t fft_lead(const int32_t side)
{
    return side % 2 == 0 ? 2 : 1; /* real elements of one dimension */
}

INLINE int32_t fft_pairs(const int32_t side)
{
    return (side - 1) / 2; /* without the last one */
}

INLINE int32_t pair_column(int32_t k, const int32_t side)
{
    return k == fft_pairs(side) ? 0 : fft_lead(side) + 2 * k;
}

INLINE int32_t pair_points(int32_t k, const int32_t side)
{
    return k == fft_pairs(side) ? fft_lead(side) * fft_pairs(side) : side;
}

/* A pair's points; the real ones are those of the last pair. */
struct points_of_pair {
    vector real[4], complex[FFT_MAX_SIDE][2];
};

INLINE void split_pair(struct points_of_pair *points, const vector *re, const vector *im,
                       const int32_t side)
{
#pragma GCC unroll 2
    for (int32_t r = 0; r < fft_lead(side); r++) {
        points->complex[r][0] = re[r];
        points->complex[r][1] = im[r];
    }
#pragma GCC unroll 7
    for (int32_t r = fft_lead(side); r < side; r += 2) {
        points->complex[r][0] = re[r] - im[r + 1];
        points->complex[r][1] = re[r + 1] + im[r];
        points->complex[r + 1][0] = re[r] + im[r + 1];
        points->complex[r + 1][1] = re[r + 1] - im[r];
    }
}

/* Column q of the last pair. */
INLINE void split_real(struct points_of_pair *points, const vector *x, const int32_t q,
                       const int32_t side)
{
#pragma GCC unroll 2
    for (int32_t r = 0; r < fft_lead(side); r++)
        points->real[fft_lead(side) * r + q] = x[r];
#pragma GCC unroll 7
    for (int32_t k = 0; k < fft_pairs(side); k++) {
        points->complex[fft_pairs(side) * q + k][0] = x[fft_lead(side) + 2 * k];
        points->complex[fft_pairs(side) * q + k][1] = x[fft_lead(side) + 2 * k + 1];
    }
}

/* The transposes of these. */
INLINE void join_pair(vector *re, vector *im, const struct points_of_pair *points,
                      const int32_t side)
{
#pragma GCC unroll 2
    for (int32_t r = 0; r < fft_lead(side); r++) {
        re[r] = points->complex[r][0];
        im[r] = points->complex[r][1];
    }
#pragma GCC unroll 7
    for (int32_t r = fft_lead(side); r < side; r += 2) {
        re[r] = points->complex[r][0] + points->complex[r + 1][0];
        im[r + 1] = points->complex[r + 1][0] - points->complex[r][0];
        re[r + 1] = points->complex[r][1] + points->complex[r + 1][1];
        im[r] = points->complex[r][1] - points->complex[r + 1][1];
    }
}

INLINE void join_real(vector *x, const struct points_of_pair *points, const int32_t q,
                      const int32_t side)
{
#pragma GCC unroll 2
    for (int32_t r = 0; r < fft_lead(side); r++)
        x[r] = points->real[fft_lead(side) * r + q];
#pragma GCC unroll 7
    for (int32_t k = 0; k < fft_pairs(side); k++) {
        x[fft_lead(side) + 2 * k] = points->complex[fft_pairs(side) * q + k][0];
        x[fft_lead(side) + 2 * k + 1] = points->complex[fft_pairs(side) * q + k][1];
    }
}

/* The points of pair k, from rows that F went along. */
INLINE void fft_pair(struct points_of_pair *points, const vector *rows, const int32_t k,
                     const int32_t side)
{
    vector column[2][FFT_MAX_SIDE];
    const int32_t columns = k == fft_pairs(side) ? fft_lead(side) : 2;

#pragma GCC unroll 2
    for (int32_t q = 0; q < columns; q++)
        fft_1d(rows + pair_column(k, side) + q, side, column[q], 1, side);
    if (k < fft_pairs(side))
        split_pair(points, column[0], column[1], side);
    else
#pragma GCC unroll 2
        for (int32_t q = 0; q < columns; q++)
            split_real(points, column[q], q, side);
}

/* Its columns, before F' along them; how many. */
INLINE int32_t join_points(vector column[2][FFT_MAX_SIDE], const struct points_of_pair *points,
                           const int32_t k, const int32_t side)
{
    if (k < fft_pairs(side)) {
        join_pair(column[0], column[1], points, side);
        return 2;
    }
#pragma GCC unroll 2
    for (int32_t q = 0; q < fft_lead(side); q++)
        join_real(column[q], points, q, side);
    return fft_lead(side);
}

/* ---- data and outputs --------------------------------------------------------------------- */

INLINE void store_data(const struct cpu_fft_data *data, const struct points_of_pair *points,
                       const int32_t k, int32_t c, int32_t rest, const int32_t side)
{
    const ptrdiff_t channels = data->channels;
    float *to = data->complex + side * k * data->complex_slab + c;

    for (int32_t p = 0; k == fft_pairs(side) && p < nin__cpu_fft_real(side); p++)
        store_channels(data->real + p * data->real_slab + c, points->real[p], rest);
    for (int32_t p = 0; p < pair_points(k, side); p++, to += data->complex_slab) {
        vector re = points->complex[p][0], im = points->complex[p][1];

        store_channels(to, re, rest);
        store_channels(to + channels, data->one_row ? im : -im, rest);
        if (data->one_row)
            continue;
        store_channels(to + 2 * channels, im, rest);
        store_channels(to + 3 * channels, re, rest);
    }
}

/* Of a plane's rows x columns pixels; those around them are 0. */
INLINE void data_of_side(const struct cpu_fft_data *data, const int32_t side)
{
    for (int32_t c = 0; c < data->channels; c += WIDTH) {
        vector rows[FFT_MAX_AREA];
        struct points_of_pair points;
        int32_t rest = data->channels - c;

        for (int32_t r = 0; r < data->rows; r++) {
            vector row[FFT_MAX_SIDE] = {{0}};

            for (int32_t q = 0; q < data->columns; q++)
                row[q] = load_channels(data->x + r * data->row + q * data->channels + c, rest);
            fft_1d(row, 1, rows + r * side, 1, side);
        }
        for (int32_t i = data->rows * side; i < side * side; i++)
            rows[i] = (vector){0};
        for (int32_t k = 0; k < fft_pairs(side); k++) {
            fft_pair(&points, rows, k, side);
            store_data(data, &points, k, c, rest, side);
        }
        fft_pair(&points, rows, fft_pairs(side), side);
        store_data(data, &points, fft_pairs(side), c, rest, side);
    }
}

static void fft_data(const struct cpu_fft_data *data)
{
    if (data->side == 16)
        data_of_side(data, 16);
    else
        data_of_side(data, 9);
}

INLINE void fft_finish_pixel(const struct cpu_fft_output *out, vector v, vector bias, ptrdiff_t at,
                             int32_t rest)
{
    v += bias;
    if (out->relu)
        v = rectify(v);
    if (out->gate != NULL)
        v = pass(load_channels(out->gate + at, rest), v);
    store_channels(out->y + at, v, rest);
}

INLINE void load_products(struct points_of_pair *points, const struct cpu_fft_output *out,
                          const int32_t k, int32_t c, int32_t rest, const int32_t side)
{
    const float *from = out->complex + side * k * out->complex_slab + c;

    for (int32_t p = 0; k == fft_pairs(side) && p < nin__cpu_fft_real(side); p++)
        points->real[p] = load_channels(out->real + p * out->real_slab + c, rest);
    for (int32_t p = 0; p < pair_points(k, side); p++, from += out->complex_slab) {
        points->complex[p][0] = load_channels(from, rest);
        points->complex[p][1] = load_channels(from + out->channels, rest);
    }
}

/* Columns of pair k of all rows. */
INLINE void inverse_pair(vector *rows, const struct cpu_fft_output *out, const int32_t k, int32_t c,
                         int32_t rest, const int32_t side)
{
    struct points_of_pair points;
    vector column[2][FFT_MAX_SIDE];
    int32_t columns;

    load_products(&points, out, k, c, rest, side);
    columns = join_points(column, &points, k, side);
#pragma GCC unroll 2
    for (int32_t q = 0; q < columns; q++)
        fft_1d_transposed(column[q], 1, rows + pair_column(k, side) + q, side, side);
}

INLINE void output_of_side(const struct cpu_fft_output *out, const int32_t side)
{
    for (int32_t c = 0; c < out->channels; c += WIDTH) {
        vector rows[FFT_MAX_AREA], bias = {0};
        int32_t rest = out->channels - c;

        if (out->bias != NULL)
            bias = load_channels(out->bias + c, rest);
        for (int32_t k = 0; k < fft_pairs(side); k++)
            inverse_pair(rows, out, k, c, rest, side);
        inverse_pair(rows, out, fft_pairs(side), c, rest, side);
        for (int32_t r = 0; r < out->rows; r++) {
            vector row[FFT_MAX_SIDE];

            fft_1d_transposed(rows + r * side, 1, row, 1, side);
            for (int32_t q = 0; q < out->columns; q++)
                fft_finish_pixel(out, row[q], bias, r * out->row + q * out->column + c, rest);
        }
    }
}

static void fft_output(const struct cpu_fft_output *out)
{
    if (out->side == 16)
        output_of_side(out, 16);
    else
        output_of_side(out, 9);
}

#endif
