/* SPDX-License-Identifier: MIT */
/*
 * Where the formulas come from. All are Taylor series on a reduced range; none is a fitted
 * polynomial, so each coefficient can be checked by eye.
 *
 *   exp      Cody and Waite's reduction: x = k ln2 + r with |r| <= ln2 / 2, where ln2 is a short
 *            head, exact when multiplied by k, and a tail. Then 2^k e^r.
 *   log      x = 2^k m with m in [sqrt(1/2), sqrt(2)], s = (m - 1) / (m + 1), then
 *            log x = k ln2 + 2 atanh(s) = k ln2 + 2 (s + s^3 / 3 + s^5 / 5 + ...).
 *   sincospi |x| = n / 2 + r with |r| <= 1/4, exact, then sin and cos of t = pi r.
 *
 * The error stays near half an ulp because the leading term is carried as a head plus a tail
 * (Dekker's splitting): only the small rest of each series is rounded as it is summed.
 */
#include "core/math.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if FLT_EVAL_METHOD != 0 || DBL_MANT_DIG != 53 || defined __FAST_MATH__
#error "core/math.c needs plain IEEE doubles (on 32-bit x86: -msse2 -mfpmath=sse; no -ffast-math)"
#endif

#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

/* The fields of a binary64. */
#define FRACTION_BITS 52
#define FRACTION_MASK ((UINT64_C(1) << FRACTION_BITS) - 1)
#define EXPONENT_BIAS 1023

/* ln 2 = head + tail. The head has 42 bits, so its product with any exponent (11 bits) is exact. */
static const double ln2_head = 0x1.62e42fefa38p-1;
static const double ln2_tail = 0x1.ef35793c7673p-45;

/* pi = head + tail. The head has 26 bits, so its product with another 26-bit head is exact. */
static const double pi_head = 0x1.921fb5p+1;
static const double pi_tail = 0x1.110b4611a6263p-25;

/* Lowest power first, without the leading terms that the functions write out. */

/* r^2/2! + r^3/3! + ... */
static const double exp_series[] = {
    1.0 / 2.0,         1.0 / 6.0,          1.0 / 24.0,          1.0 / 120.0,     1.0 / 720.0,
    1.0 / 5040.0,      1.0 / 40320.0,      1.0 / 362880.0,      1.0 / 3628800.0, 1.0 / 39916800.0,
    1.0 / 479001600.0, 1.0 / 6227020800.0, 1.0 / 87178291200.0,
};

/* 2 s^3/3 + 2 s^5/5 + ... */
static const double log_series[] = {
    2.0 / 3.0,  2.0 / 5.0,  2.0 / 7.0,  2.0 / 9.0,  2.0 / 11.0,
    2.0 / 13.0, 2.0 / 15.0, 2.0 / 17.0, 2.0 / 19.0, 2.0 / 21.0,
};

/* -t^3/3! + t^5/5! - ... */
static const double sin_series[] = {
    -1.0 / 6.0,        1.0 / 120.0,        -1.0 / 5040.0,          1.0 / 362880.0,
    -1.0 / 39916800.0, 1.0 / 6227020800.0, -1.0 / 1307674368000.0, 1.0 / 355687428096000.0,
};

/* t^4/4! - t^6/6! + ... */
static const double cos_series[] = {
    1.0 / 24.0,        -1.0 / 720.0,         1.0 / 40320.0,          -1.0 / 3628800.0,
    1.0 / 479001600.0, -1.0 / 87178291200.0, 1.0 / 20922789888000.0, -1.0 / 6402373705728000.0,
};

static uint64_t to_bits(double x)
{
    uint64_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static double from_bits(uint64_t bits)
{
    double x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

/* 2 to the power k, for the k of normal numbers: -1022 <= k <= 1023. */
static double power_of_two(int k)
{
    return from_bits((uint64_t)(k + EXPONENT_BIAS) << FRACTION_BITS);
}

/* The leading 26 bits of x, towards zero: the product of two heads is exact, and so is x - head. */
static double head(double x)
{
    return from_bits(to_bits(x) & ~UINT64_C(0x7ffffff));
}

/* c[0] + c[1] x + c[2] x^2 + ... */
static double polynomial(const double *c, int count, double x)
{
    double sum = c[count - 1];

    for (int i = count - 2; i >= 0; i--)
        sum = sum * x + c[i];
    return sum;
}

double nin__exp(double x)
{
    if (x < -746.0)
        return 0.0;
    if (!(x <= 710.0))
        return x > 710.0 ? INFINITY : NAN;

    const int k = (int)(x * 0x1.71547652b82fep+0 + (x < 0.0 ? -0.5 : 0.5)); /* x / ln 2 */
    const double r_head = x - k * ln2_head;
    const double r_tail = k * ln2_tail;
    const double r = r_head - r_tail;
    const double r_rest = (r_head - r) - r_tail;

    /* e^(r + rest) = (1 + r) + series + rest e^r, and 1 + r = sum + lost, exactly. */
    const double sum = 1.0 + r;
    const double lost = (1.0 - sum) + r;
    const double series = r * r * polynomial(exp_series, COUNT(exp_series), r);
    const double y = sum + (lost + (series + r_rest * sum));

    /* In two steps, since 2^k alone may be out of range. The first is exact, so that only the
     * second rounds, and only where the result is subnormal or overflows. */
    const int half = k / 2;
    return y * power_of_two(half) * power_of_two(k - half);
}

/* log of 2^k m for m in [sqrt(1/2), sqrt(2)]. */
static double log_of_parts(int k, double m)
{
    /* s = f / d = s_head + s_tail: what the division leaves is found with exact products. */
    const double f = m - 1.0;
    const double d = 2.0 + f;
    const double d_head = head(d);
    const double d_tail = (2.0 - d_head) + f;
    const double s = f / d;
    const double s_head = head(s);
    const double s_tail = ((f - s_head * d_head) - s_head * d_tail) / d;

    const double z = s * s;
    const double series = s * z * polynomial(log_series, COUNT(log_series), z);

    /* k ln2_head is zero or the larger of the two, so that sum + lost is exact. */
    const double a = k * ln2_head;
    const double b = 2.0 * s_head;
    const double sum = a + b;
    const double lost = (a - sum) + b;
    return sum + (lost + (k * ln2_tail + (2.0 * s_tail + series)));
}

double nin__log(double x)
{
    int scale = 0;

    if (!(x > 0.0))
        return x < 0.0 || x != x ? NAN : -INFINITY;
    if (x > DBL_MAX)
        return x;
    if (x < DBL_MIN) { /* subnormal: give it a full fraction first */
        x *= 0x1p54;
        scale = -54;
    }

    const uint64_t bits = to_bits(x);
    int k = (int)(bits >> FRACTION_BITS) - EXPONENT_BIAS + scale;
    double m = from_bits((bits & FRACTION_MASK) | to_bits(1.0));
    if (m > 0x1.6a09e667f3bcdp+0) { /* sqrt(2) */
        m *= 0.5;
        k++;
    }
    return log_of_parts(k, m);
}

/* sin(pi r) and cos(pi r) for 2^-500 <= |r| <= 1/4. */
static void sincos_of_parts(double r, double *s, double *c)
{
    /* pi r = t + t_rest = t_head + t_tail, the head short enough to be squared exactly. */
    const double r_head = head(r);
    const double product = pi_head * r_head;
    const double rest = pi_head * (r - r_head) + pi_tail * r;
    const double t = product + rest;
    const double t_rest = (product - t) + rest;
    const double t_head = head(t);
    const double t_tail = (t - t_head) + t_rest;
    const double z = t * t;

    /* cos(pi r) = 1 - t_head^2 / 2 - cross + series, and 1 - t_head^2 / 2 = sum + lost, exactly. */
    const double square = 0.5 * t_head * t_head;
    const double sum = 1.0 - square;
    const double lost = (1.0 - sum) - square;
    const double cross = t_tail * (t_head + 0.5 * t_tail);
    *c = sum + ((lost - cross) + z * z * polynomial(cos_series, COUNT(cos_series), z));

    /* sin(pi r) = t + series + t_rest cos t, and sum is near enough to cos t. */
    *s = t + (t_rest * sum + t * z * polynomial(sin_series, COUNT(sin_series), z));
}

/* The same for the r so small that sin t = t and cos t = 1: scaled up, because the products of
 * heads and tails would be subnormal, hence not exact. */
static void sincos_of_tiny(double r, double *s, double *c)
{
    const double big = r * 0x1p500;
    const double big_head = head(big);

    *s = (pi_head * big_head + (pi_head * (big - big_head) + pi_tail * big)) * 0x1p-500;
    *c = 1.0;
}

void nin__sincospi(double x, double *s, double *c)
{
    const double size = x < 0.0 ? -x : x;
    double sine, cosine;

    if (!(size <= DBL_MAX)) {
        *s = *c = NAN;
        return;
    }

    /* size = n / 2 + r with |r| <= 1/4. From 2^53 on every double is an even number. */
    const double reduced = size < 0x1p53 ? size : 0.0;
    int64_t n = (int64_t)(2.0 * reduced);
    double r = reduced - 0.5 * (double)n;
    if (r > 0.25) {
        r -= 0.5;
        n++;
    }
    if (r < 0x1p-500 && r > -0x1p-500)
        sincos_of_tiny(r, &sine, &cosine);
    else
        sincos_of_parts(r, &sine, &cosine);

    /* A quarter turn takes (cos, sin) to (-sin, cos). Sine is odd; adding 0 turns -0 into +0. */
    const double sign = n & 2 ? -1.0 : 1.0;
    const double turned = (x < 0.0 ? -sign : sign) * (n & 1 ? cosine : sine);
    *s = turned == 0.0 ? copysign(0.0, x) : turned;
    *c = sign * (n & 1 ? -sine : cosine) + 0.0;
}

int32_t nin__first_largest(const float *x, int32_t count)
{
    int32_t best = 0;

    for (int32_t i = 1; i < count; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}
