/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_WINOGRAD_H
#define NIN__CUDA_WINOGRAD_H

/* The linear maps of Winograd's minimal filtering, with the points of src/cpu/kernels/winograd.h:
 * 0, pairs +-p, infinity. That file's maps work on vectors of C, these on a thread's registers;
 * every count is known when they are compiled, so loops are unrolled, arrays become registers, and
 * factors are folded.
 *
 *     data         (side -> side)  B'
 *     evaluate     (n -> side)     the polynomial of n coefficients at the points: G without its scale
 *     interpolate  (side -> n)     A' */

#include "cuda/launch.h"

static __device__ constexpr float nin__cuda_point(int side, int pair)
{
    constexpr float of_six[] = {3.0f / 4, 3.0f / 2}, of_eight[] = {1.0f, 2.0f, 1.0f / 2};

    return side == 6 ? of_six[pair % 2] : of_eight[pair];
}

/* Of G: 1 / product of (point - q) over the other finite points. */
static __device__ constexpr float nin__cuda_point_scale(int side, int i)
{
    constexpr float of_six[] = {64.0f / 81,  -128.0f / 243, -128.0f / 243,
                                32.0f / 243, 32.0f / 243,   1.0f};
    constexpr float of_eight[] = {-1.0f,     -2.0f / 9,  -2.0f / 9,  1.0f / 90,
                                  1.0f / 90, 32.0f / 45, 32.0f / 45, 1.0f};

    return side == 6 ? of_six[i % 6] : of_eight[i];
}

/* v * factor + sum */
static __device__ inline float nin__cuda_scaled_sum(float v, float factor, float sum)
{
    if (factor == 1.0f)
        return sum + v;
    if (factor == -1.0f)
        return sum - v;
    return fmaf(v, factor, sum);
}

/* ---- one dimension -------------------------------------------------------------------------- */

/* Row p of B' has the coefficients of the product of (x - q) over the other finite points. */
static __device__ inline void nin__cuda_data_six(const float *d, float *o)
{
    float even = fmaf(d[2], -9.0f / 4, d[4]), odd = fmaf(d[1], -27.0f / 16, d[3] * (3.0f / 4));

    o[0] = fmaf(d[0], 81.0f / 64, fmaf(d[2], -45.0f / 16, d[4]));
    o[5] = fmaf(d[1], 81.0f / 64, fmaf(d[3], -45.0f / 16, d[5]));
    o[1] = even + odd;
    o[2] = even - odd;
    even = fmaf(d[2], -9.0f / 16, d[4]);
    odd = fmaf(d[1], -27.0f / 32, d[3] * (3.0f / 2));
    o[3] = even + odd;
    o[4] = even - odd;
}

static __device__ inline void nin__cuda_data_eight(const float *d, float *o)
{
    float even = fmaf(d[4], -4.25f, d[2] + d[6]), odd = fmaf(d[3], -4.25f, d[1] + d[5]);

    o[0] = fmaf(d[2] - d[4], 5.25f, d[6] - d[0]);
    o[7] = fmaf(d[3] - d[5], 5.25f, d[7] - d[1]);
    o[1] = even + odd;
    o[2] = even - odd;
    even = fmaf(d[2], 0.25f, fmaf(d[4], -1.25f, d[6]));
    odd = fmaf(d[1], 0.5f, fmaf(d[3], -2.5f, d[5] * 2.0f));
    o[3] = even + odd;
    o[4] = even - odd;
    even = fmaf(d[2], 4.0f, fmaf(d[4], -5.0f, d[6]));
    odd = fmaf(d[1], 2.0f, fmaf(d[3], -2.5f, d[5] * 0.5f));
    o[5] = even + odd;
    o[6] = even - odd;
}

template <int side> __device__ inline void nin__cuda_data(const float *d, float *o)
{
    if (side == 6)
        nin__cuda_data_six(d, o);
    else
        nin__cuda_data_eight(d, o);
}

/* w[first] + w[first + 2] q + w[first + 4] q^2 of n coefficients, q a point's square */
template <int n>
__device__ inline float nin__cuda_every_other(const float *w, const int first, const float q)
{
    const int last = first + (n - 1 - first) / 2 * 2;
    float sum = w[last];

#pragma unroll
    for (int i = last - 2; i >= first; i -= 2)
        sum = nin__cuda_scaled_sum(sum, q, w[i]);
    return sum;
}

template <int side, int n> __device__ inline void nin__cuda_evaluate(const float *w, float *o)
{
    o[0] = w[0];
#pragma unroll
    for (int i = 0; i < (side - 2) / 2; i++) {
        const float p = nin__cuda_point(side, i);
        float even = nin__cuda_every_other<n>(w, 0, p * p);
        float odd = nin__cuda_every_other<n>(w, 1, p * p);

        o[2 * i + 1] = nin__cuda_scaled_sum(odd, p, even);
        o[2 * i + 2] = nin__cuda_scaled_sum(odd, -p, even);
    }
    o[side - 1] = w[n - 1];
}

/* Output j is the sum over the finite points of p^j times the element, and the last one has
 * infinity. */
template <int side, int n> __device__ inline void nin__cuda_interpolate(const float *m, float *o)
{
    float powers[3] = {1.0f, 1.0f, 1.0f};

#pragma unroll
    for (int j = 0; j < n; j++) {
        float sum = 0.0f;

#pragma unroll
        for (int i = 0; i < (side - 2) / 2; i++) {
            float a = m[2 * i + 1], b = m[2 * i + 2], term = j % 2 == 0 ? a + b : a - b;

            sum = i == 0 ? term * powers[i] : nin__cuda_scaled_sum(term, powers[i], sum);
            powers[i] *= nin__cuda_point(side, i);
        }
        o[j] = sum + (j == 0 ? m[0] : 0.0f) + (j == n - 1 ? m[side - 1] : 0.0f);
    }
}

/* ---- two dimensions ------------------------------------------------------------------------- */

/* o: side x side, of the same of d, column by column and then row by row */
template <int side> __device__ inline void nin__cuda_data_2d(float *o, const float *d)
{
    float column[side], mapped[side];

#pragma unroll
    for (int q = 0; q < side; q++) {
#pragma unroll
        for (int r = 0; r < side; r++)
            column[r] = d[r * side + q];
        nin__cuda_data<side>(column, mapped);
#pragma unroll
        for (int r = 0; r < side; r++)
            o[r * side + q] = mapped[r];
    }
#pragma unroll
    for (int r = 0; r < side; r++) {
        nin__cuda_data<side>(o + r * side, mapped);
#pragma unroll
        for (int q = 0; q < side; q++)
            o[r * side + q] = mapped[q];
    }
}

/* o: side x side, of n x n coefficients */
template <int side, int n> __device__ inline void nin__cuda_evaluate_2d(float *o, const float *w)
{
    float column[n], mapped[side], columns[side * n];

#pragma unroll
    for (int q = 0; q < n; q++) {
#pragma unroll
        for (int r = 0; r < n; r++)
            column[r] = w[r * n + q];
        nin__cuda_evaluate<side, n>(column, mapped);
#pragma unroll
        for (int r = 0; r < side; r++)
            columns[r * n + q] = mapped[r];
    }
#pragma unroll
    for (int r = 0; r < side; r++)
        nin__cuda_evaluate<side, n>(columns + r * n, o + r * side);
}

/* o: n x n, of side x side values */
template <int side, int n> __device__ inline void nin__cuda_interpolate_2d(float *o, const float *m)
{
    float column[side], mapped[n], columns[n * side];

#pragma unroll
    for (int q = 0; q < side; q++) {
#pragma unroll
        for (int r = 0; r < side; r++)
            column[r] = m[r * side + q];
        nin__cuda_interpolate<side, n>(column, mapped);
#pragma unroll
        for (int r = 0; r < n; r++)
            columns[r * side + q] = mapped[r];
    }
#pragma unroll
    for (int r = 0; r < n; r++)
        nin__cuda_interpolate<side, n>(columns + r * side, o + r * n);
}

#endif
