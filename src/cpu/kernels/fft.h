/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_FFT_H
#define NIN__CPU_KERNELS_FFT_H

/* The discrete Fourier transform of real planes of 16x16 pixels, a vector of channels at a time.
 *
 * In one dimension 16 real values become X0, X8 and the pairs Re Xk, Im Xk, k = 1 ... 7: a linear map F, made
 * of the sums and differences of a split by even and odd k. Its transpose, with twice the weight on what
 * is complex and a sixteenth of all, is its inverse. In two dimensions F goes along rows and then along
 * columns; where both indices are complex, four real values a, b, c, d (Re Re, Im Re, Re Im, Im Im) hold two
 * complex ones, (a - d) + i (b + c) and (a + d) + i (b - c). */

#include "cpu/kernels.h"
#include "cpu/kernels/product.h"
#include "cpu/kernels/vector.h"

enum {
    FFT_AREA = FFT_SIDE * FFT_SIDE
};

/* cos(pi / 8), cos(pi / 4), cos(3 pi / 8) */
static const float cos_1 = 0.92387953251128675613f, cos_2 = 0.70710678118654752440f,
                   cos_3 = 0.38268343236508977173f;

/* ---- one dimension: elements `step` apart ------------------------------------------------- */

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
    vector sum = (b1 + b3) * spread(cos_2), difference = (b1 - b3) * spread(cos_2);

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
    vector e = multiply_add(m2, spread(cos_2), d[0]), f = multiply_add(m2, spread(-cos_2), d[0]);
    vector g = turn(m1, cos_1, m3, cos_3), h = turn(m1, cos_3, m3, -cos_1);
    vector u = turn(p1, -cos_3, p3, -cos_1), q = turn(p1, -cos_1, p3, cos_3);
    vector v = multiply_add(p2, spread(cos_2), d[4]), z = multiply_add(p2, spread(cos_2), -d[4]);

    o[2 * step] = e + g;
    o[3 * step] = u - v;
    o[6 * step] = f + h;
    o[7 * step] = q - z;
    o[10 * step] = f - h;
    o[11 * step] = q + z;
    o[14 * step] = e - g;
    o[15 * step] = u + v;
}

INLINE void fft_1d(const vector *x, const int32_t step, vector *o, const int32_t o_step)
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
    vector g = (x[4 * step] - x[12 * step]) * spread(cos_2);
    vector h = (x[5 * step] + x[13 * step]) * spread(cos_2);
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
    vector c1 = turn(a17, cos_1, a35, cos_3), c3 = turn(a17, cos_3, a35, -cos_1);
    vector q1 = turn(u17, cos_3, u35, cos_1), q3 = turn(u17, cos_1, u35, -cos_3);
    vector c2 = (b17 - b35) * spread(cos_2), q2 = (v17 + v35) * spread(cos_2);

    d[0] = b17 + b35;
    d[1] = c1 - q1;
    d[2] = c2 - q2;
    d[3] = c3 - q3;
    d[4] = v35 - v17;
    d[5] = -c3 - q3;
    d[6] = -c2 - q2;
    d[7] = -c1 - q1;
}

INLINE void fft_1d_transposed(const vector *x, const int32_t step, vector *o, const int32_t o_step)
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

/* ---- two dimensions ----------------------------------------------------------------------- */

/* After F along rows, columns come in pairs: X0 and X8, then Re Xk and Im Xk. F along the columns of a pair k
 * = 0 ... 6 makes 16 complex points of them, 16 k and on; along those of the first pair, k = 7, 4 real points
 * and 14 complex ones. So a pair at a time goes between the pixels and the points. */
enum {
    FFT_PAIR_POINTS = 16,
    FFT_REAL_PAIR = 7,
    FFT_REAL_PAIR_POINTS = 14
};

/* Where the columns of a pair begin. */
INLINE int32_t pair_column(int32_t k)
{
    return k == FFT_REAL_PAIR ? 0 : 2 + 2 * k;
}

INLINE int32_t pair_points(int32_t k)
{
    return k == FFT_REAL_PAIR ? FFT_REAL_PAIR_POINTS : FFT_PAIR_POINTS;
}

/* A pair's points; the real ones are those of the first pair. */
struct points_of_pair {
    vector real[FFT_REAL], complex[FFT_PAIR_POINTS][2];
};

INLINE void split_pair(struct points_of_pair *points, const vector re[FFT_SIDE],
                       const vector im[FFT_SIDE])
{
#pragma GCC unroll 2
    for (int32_t r = 0; r < 2; r++) {
        points->complex[r][0] = re[r];
        points->complex[r][1] = im[r];
    }
#pragma GCC unroll 7
    for (int32_t r = 2; r < FFT_SIDE; r += 2) {
        points->complex[r][0] = re[r] - im[r + 1];
        points->complex[r][1] = re[r + 1] + im[r];
        points->complex[r + 1][0] = re[r] + im[r + 1];
        points->complex[r + 1][1] = re[r + 1] - im[r];
    }
}

INLINE void split_real_pair(struct points_of_pair *points, const vector x0[FFT_SIDE],
                            const vector x8[FFT_SIDE])
{
#pragma GCC unroll 2
    for (int32_t r = 0; r < 2; r++) {
        points->real[2 * r] = x0[r];
        points->real[2 * r + 1] = x8[r];
    }
#pragma GCC unroll 7
    for (int32_t r = 2; r < FFT_SIDE; r += 2)
#pragma GCC unroll 2
        for (int32_t part = 0; part < 2; part++) {
            points->complex[r / 2 - 1][part] = x0[r + part];
            points->complex[r / 2 + 6][part] = x8[r + part];
        }
}

/* The transposes of these. */
INLINE void join_pair(vector re[FFT_SIDE], vector im[FFT_SIDE], const struct points_of_pair *points)
{
#pragma GCC unroll 2
    for (int32_t r = 0; r < 2; r++) {
        re[r] = points->complex[r][0];
        im[r] = points->complex[r][1];
    }
#pragma GCC unroll 7
    for (int32_t r = 2; r < FFT_SIDE; r += 2) {
        re[r] = points->complex[r][0] + points->complex[r + 1][0];
        im[r + 1] = points->complex[r + 1][0] - points->complex[r][0];
        re[r + 1] = points->complex[r][1] + points->complex[r + 1][1];
        im[r] = points->complex[r][1] - points->complex[r + 1][1];
    }
}

INLINE void join_real_pair(vector x0[FFT_SIDE], vector x8[FFT_SIDE],
                           const struct points_of_pair *points)
{
#pragma GCC unroll 2
    for (int32_t r = 0; r < 2; r++) {
        x0[r] = points->real[2 * r];
        x8[r] = points->real[2 * r + 1];
    }
#pragma GCC unroll 7
    for (int32_t r = 2; r < FFT_SIDE; r += 2)
#pragma GCC unroll 2
        for (int32_t part = 0; part < 2; part++) {
            x0[r + part] = points->complex[r / 2 - 1][part];
            x8[r + part] = points->complex[r / 2 + 6][part];
        }
}

/* F along the columns of pair k of rows that F went along. */
INLINE void fft_pair(struct points_of_pair *points, const vector *rows, const int32_t k)
{
    vector a[FFT_SIDE], b[FFT_SIDE];

    fft_1d(rows + pair_column(k), FFT_SIDE, a, 1);
    fft_1d(rows + pair_column(k) + 1, FFT_SIDE, b, 1);
    if (k == FFT_REAL_PAIR)
        split_real_pair(points, a, b);
    else
        split_pair(points, a, b);
}

INLINE void join_points(vector a[FFT_SIDE], vector b[FFT_SIDE], const struct points_of_pair *points,
                        const int32_t k)
{
    if (k == FFT_REAL_PAIR)
        join_real_pair(a, b, points);
    else
        join_pair(a, b, points);
}

/* ---- data and outputs --------------------------------------------------------------------- */

INLINE void store_data(const struct cpu_fft_data *data, const struct points_of_pair *points,
                       const int32_t k, int32_t c, int32_t rest)
{
    const ptrdiff_t channels = data->channels;
    float *to = data->complex + FFT_PAIR_POINTS * k * data->complex_slab + c;

    for (int32_t p = 0; k == FFT_REAL_PAIR && p < FFT_REAL; p++)
        store_channels(data->real + p * data->real_slab + c, points->real[p], rest);
    for (int32_t p = 0; p < pair_points(k); p++, to += data->complex_slab) {
        vector re = points->complex[p][0], im = points->complex[p][1];

        store_channels(to, re, rest);
        store_channels(to + channels, data->one_row ? im : -im, rest);
        if (data->one_row)
            continue;
        store_channels(to + 2 * channels, im, rest);
        store_channels(to + 3 * channels, re, rest);
    }
}

/* The first `rows` rows of a plane, of which rows x columns pixels may differ from 0. */
static void fft_data(const struct cpu_fft_data *data)
{
    for (int32_t c = 0; c < data->channels; c += WIDTH) {
        vector rows[FFT_AREA];
        struct points_of_pair points;
        int32_t rest = data->channels - c;

        for (int32_t r = 0; r < FFT_SIDE; r++) {
            vector row[FFT_SIDE] = {{0}};

            for (int32_t q = 0; r < data->rows && q < data->columns; q++)
                row[q] = load_channels(data->x + r * data->row + q * data->channels + c, rest);
            fft_1d(row, 1, rows + r * FFT_SIDE, 1);
        }
        for (int32_t k = 0; k < FFT_REAL_PAIR; k++) {
            fft_pair(&points, rows, k);
            store_data(data, &points, k, c, rest);
        }
        fft_pair(&points, rows, FFT_REAL_PAIR);
        store_data(data, &points, FFT_REAL_PAIR, c, rest);
    }
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
                          const int32_t k, int32_t c, int32_t rest)
{
    const float *from = out->complex + FFT_PAIR_POINTS * k * out->complex_slab + c;

    for (int32_t p = 0; k == FFT_REAL_PAIR && p < FFT_REAL; p++)
        points->real[p] = load_channels(out->real + p * out->real_slab + c, rest);
    for (int32_t p = 0; p < pair_points(k); p++, from += out->complex_slab) {
        points->complex[p][0] = load_channels(from, rest);
        points->complex[p][1] = load_channels(from + out->channels, rest);
    }
}

/* Columns of pair k of all rows. */
INLINE void inverse_pair(vector *rows, const struct cpu_fft_output *out, const int32_t k, int32_t c,
                         int32_t rest)
{
    struct points_of_pair points;
    vector a[FFT_SIDE], b[FFT_SIDE];

    load_products(&points, out, k, c, rest);
    join_points(a, b, &points, k);
    fft_1d_transposed(a, 1, rows + pair_column(k), FFT_SIDE);
    fft_1d_transposed(b, 1, rows + pair_column(k) + 1, FFT_SIDE);
}

static void fft_output(const struct cpu_fft_output *out)
{
    for (int32_t c = 0; c < out->channels; c += WIDTH) {
        vector rows[FFT_AREA], bias = {0};
        int32_t rest = out->channels - c;

        if (out->bias != NULL)
            bias = load_channels(out->bias + c, rest);
        for (int32_t k = 0; k < FFT_REAL_PAIR; k++)
            inverse_pair(rows, out, k, c, rest);
        inverse_pair(rows, out, FFT_REAL_PAIR, c, rest);
        for (int32_t r = 0; r < out->rows; r++) {
            vector row[FFT_SIDE];

            fft_1d_transposed(rows + r * FFT_SIDE, 1, row, 1);
            for (int32_t q = 0; q < out->columns; q++)
                fft_finish_pixel(out, row[q], bias, r * out->row + q * out->column + c, rest);
        }
    }
}

/* ---- weights ------------------------------------------------------------------------------ */

/* Tap a of a kernel stands where x[i - place] meets it: y[i] is the sum of w[a] x[i + a - pad]. */
INLINE int32_t tap_place(int32_t a, int32_t pad)
{
    return (pad - a + FFT_SIDE) % FFT_SIDE;
}

/* Rows that F went along, of one vector of columns of one row of depth. */
INLINE void fft_taps(vector *rows, const struct cpu_fft_weights *w, const float *from,
                     int32_t columns)
{
    memset(rows, 0, FFT_AREA * sizeof *rows);
    for (int32_t a = 0; a < w->kernel; a++) {
        vector row[FFT_SIDE] = {{0}};

        for (int32_t b = 0; b < w->kernel; b++) {
            float gathered[WIDTH];

            for (int32_t i = 0; i < WIDTH; i++)
                gathered[i] = i < columns ? from[a * w->kernel + b + i * w->column_step] : 0.0f;
            row[tap_place(b, w->pad)] = load(gathered);
        }
        fft_1d(row, 1, rows + tap_place(a, w->pad) * FFT_SIDE, 1);
    }
}

/* The points of pair k, from point to point `real` floats, or twice as many; im is `im` behind re. */
INLINE void store_weights(float *u, const vector *rows, const int32_t k, ptrdiff_t real, float *v,
                          ptrdiff_t im)
{
    const vector one = spread(1.0f / FFT_AREA), two = spread(2.0f / FFT_AREA);
    struct points_of_pair points;

    fft_pair(&points, rows, k);
    for (int32_t p = 0; k == FFT_REAL_PAIR && p < FFT_REAL; p++)
        store(u + p * real, points.real[p] * one);
    v += FFT_PAIR_POINTS * k * 2 * real;
    for (int32_t p = 0; p < pair_points(k); p++, v += 2 * real) {
        store(v, points.complex[p][0] * two);
        store(v + im, points.complex[p][1] * two);
    }
}

static void fft_weights(const struct cpu_fft_weights *w, int32_t first, int32_t end)
{
    const ptrdiff_t depth = w->depth, real = (ptrdiff_t)packed_size(w->depth, w->columns);
    struct panel panel;

    for (int32_t at = 0; at < w->columns; at += panel.vectors * WIDTH) {
        panel = panel_at(at, w->columns);
        for (int32_t i = first; i < end; i++)
            for (int32_t j = 0; j < panel.vectors; j++) {
                ptrdiff_t row = panel.vectors * WIDTH, n = at + j * WIDTH;
                float *u = w->u + at * depth + i * row + j * WIDTH;
                float *v = w->u + FFT_REAL * real + 2 * at * depth + i * row + j * WIDTH;
                vector rows[FFT_AREA];

                fft_taps(rows, w, w->w + i * w->depth_step + n * w->column_step,
                         w->columns - (int32_t)n);
                for (int32_t k = 0; k < FFT_REAL_PAIR; k++)
                    store_weights(u, rows, k, real, v, depth * row);
                store_weights(u, rows, FFT_REAL_PAIR, real, v, depth * row);
            }
    }
}

#endif
