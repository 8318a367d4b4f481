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

/* A plane's values: the real ones, then pairs re, im. Rows go down through `values`, row by row. */
struct spectrum {
    vector real[FFT_REAL], complex[FFT_COMPLEX][2];
};

/* Where complex values begin: of the rows X0 and X8, of the columns X0 and X8, of the others. */
enum {
    FFT_ROWS = 0,
    FFT_COLUMNS = 14,
    FFT_BOTH = 28
};

/* From the 16x16 values after F went along rows and columns. */
INLINE void gather_spectrum(struct spectrum *s, const vector *values)
{
    for (int32_t r = 0; r < 2; r++)
        for (int32_t q = 0; q < 2; q++)
            s->real[2 * r + q] = values[r * FFT_SIDE + q];
    for (int32_t r = 0; r < 2; r++)
        for (int32_t k = 0; k < 7; k++) {
            s->complex[FFT_ROWS + 7 * r + k][0] = values[r * FFT_SIDE + 2 + 2 * k];
            s->complex[FFT_ROWS + 7 * r + k][1] = values[r * FFT_SIDE + 3 + 2 * k];
            s->complex[FFT_COLUMNS + 7 * r + k][0] = values[(2 + 2 * k) * FFT_SIDE + r];
            s->complex[FFT_COLUMNS + 7 * r + k][1] = values[(3 + 2 * k) * FFT_SIDE + r];
        }
    for (int32_t j = 0; j < 7; j++)
        for (int32_t k = 0; k < 7; k++) {
            const vector *four = values + (2 + 2 * j) * FFT_SIDE + 2 + 2 * k;
            vector a = four[0], c = four[1], b = four[FFT_SIDE], d = four[FFT_SIDE + 1];
            vector(*two)[2] = &s->complex[FFT_BOTH + 2 * (7 * j + k)];

            two[0][0] = a - d;
            two[0][1] = b + c;
            two[1][0] = a + d;
            two[1][1] = b - c;
        }
}

/* The transpose of gather_spectrum. */
INLINE void scatter_spectrum(vector *values, const struct spectrum *s)
{
    for (int32_t r = 0; r < 2; r++)
        for (int32_t q = 0; q < 2; q++)
            values[r * FFT_SIDE + q] = s->real[2 * r + q];
    for (int32_t r = 0; r < 2; r++)
        for (int32_t k = 0; k < 7; k++) {
            values[r * FFT_SIDE + 2 + 2 * k] = s->complex[FFT_ROWS + 7 * r + k][0];
            values[r * FFT_SIDE + 3 + 2 * k] = s->complex[FFT_ROWS + 7 * r + k][1];
            values[(2 + 2 * k) * FFT_SIDE + r] = s->complex[FFT_COLUMNS + 7 * r + k][0];
            values[(3 + 2 * k) * FFT_SIDE + r] = s->complex[FFT_COLUMNS + 7 * r + k][1];
        }
    for (int32_t j = 0; j < 7; j++)
        for (int32_t k = 0; k < 7; k++) {
            vector *four = values + (2 + 2 * j) * FFT_SIDE + 2 + 2 * k;
            const vector(*two)[2] = &s->complex[FFT_BOTH + 2 * (7 * j + k)];

            four[0] = two[0][0] + two[1][0];
            four[FFT_SIDE + 1] = two[1][0] - two[0][0];
            four[FFT_SIDE] = two[0][1] + two[1][1];
            four[1] = two[0][1] - two[1][1];
        }
}

/* F along the columns of what F along the rows has left. */
INLINE void fft_columns(struct spectrum *s, vector *values)
{
    for (int32_t q = 0; q < FFT_SIDE; q++)
        fft_1d(values + q, FFT_SIDE, values + q, FFT_SIDE);
    gather_spectrum(s, values);
}

/* The first `rows` rows of a plane, of which rows x columns pixels may differ from 0. */
static void fft_data(const struct cpu_fft_data *data)
{
    const ptrdiff_t channels = data->channels;

    for (int32_t c = 0; c < data->channels; c += WIDTH) {
        vector values[FFT_AREA] = {{0}};
        int32_t rest = data->channels - c;
        struct spectrum s;

        for (int32_t r = 0; r < data->rows; r++) {
            vector row[FFT_SIDE] = {{0}};

            for (int32_t q = 0; q < data->columns; q++)
                row[q] = load_channels(data->x + r * data->row + q * channels + c, rest);
            fft_1d(row, 1, values + r * FFT_SIDE, 1);
        }
        fft_columns(&s, values);
        for (int32_t p = 0; p < FFT_REAL; p++)
            store_channels(data->real + p * data->real_slab + c, s.real[p], rest);
        for (int32_t p = 0; p < FFT_COMPLEX; p++) {
            float *to = data->complex + p * data->complex_slab + c;

            store_channels(to, s.complex[p][0], rest);
            store_channels(to + channels, data->one_row ? s.complex[p][1] : -s.complex[p][1], rest);
            if (data->one_row)
                continue;
            store_channels(to + 2 * channels, s.complex[p][1], rest);
            store_channels(to + 3 * channels, s.complex[p][0], rest);
        }
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

static void fft_output(const struct cpu_fft_output *out)
{
    for (int32_t c = 0; c < out->channels; c += WIDTH) {
        vector values[FFT_AREA], bias = {0};
        int32_t rest = out->channels - c;
        struct spectrum s;

        if (out->bias != NULL)
            bias = load_channels(out->bias + c, rest);
        for (int32_t p = 0; p < FFT_REAL; p++)
            s.real[p] = load_channels(out->real + p * out->real_slab + c, rest);
        for (int32_t p = 0; p < FFT_COMPLEX; p++) {
            const float *from = out->complex + p * out->complex_slab + c;

            s.complex[p][0] = load_channels(from, rest);
            s.complex[p][1] = load_channels(from + out->channels, rest);
        }
        scatter_spectrum(values, &s);
        for (int32_t q = 0; q < FFT_SIDE; q++)
            fft_1d_transposed(values + q, FFT_SIDE, values + q, FFT_SIDE);
        for (int32_t r = 0; r < out->rows; r++) {
            vector row[FFT_SIDE];

            fft_1d_transposed(values + r * FFT_SIDE, 1, row, 1);
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

/* Of one vector of columns of one row of depth. */
INLINE void fft_taps(struct spectrum *s, const struct cpu_fft_weights *w, const float *from,
                     int32_t columns)
{
    vector values[FFT_AREA] = {{0}};

    for (int32_t a = 0; a < w->kernel; a++) {
        vector row[FFT_SIDE] = {{0}};

        for (int32_t b = 0; b < w->kernel; b++) {
            float gathered[WIDTH];

            for (int32_t i = 0; i < WIDTH; i++)
                gathered[i] = i < columns ? from[a * w->kernel + b + i * w->column_step] : 0.0f;
            row[tap_place(b, w->pad)] = load(gathered);
        }
        fft_1d(row, 1, values + tap_place(a, w->pad) * FFT_SIDE, 1);
    }
    fft_columns(s, values);
}

static void fft_weights(const struct cpu_fft_weights *w, int32_t first, int32_t end)
{
    const vector one = spread(1.0f / FFT_AREA), two = spread(2.0f / FFT_AREA);
    const ptrdiff_t depth = w->depth, real = (ptrdiff_t)packed_size(w->depth, w->columns);
    struct panel panel;

    for (int32_t at = 0; at < w->columns; at += panel.vectors * WIDTH) {
        panel = panel_at(at, w->columns);
        for (int32_t k = first; k < end; k++)
            for (int32_t j = 0; j < panel.vectors; j++) {
                ptrdiff_t row = panel.vectors * WIDTH, n = at + j * WIDTH;
                float *u = w->u + at * depth + k * row + j * WIDTH;
                float *v = w->u + FFT_REAL * real + 2 * at * depth + k * row + j * WIDTH;
                struct spectrum s;

                fft_taps(&s, w, w->w + k * w->depth_step + n * w->column_step,
                         w->columns - (int32_t)n);
                for (int32_t p = 0; p < FFT_REAL; p++)
                    store(u + p * real, s.real[p] * one);
                for (int32_t p = 0; p < FFT_COMPLEX; p++) {
                    store(v + 2 * p * real, s.complex[p][0] * two);
                    store(v + 2 * p * real + depth * row, s.complex[p][1] * two);
                }
            }
    }
}

#endif
