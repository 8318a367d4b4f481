/* SPDX-License-Identifier: MIT */
/*
 * exp, log, sin and cos whose bits do not depend on the machine.
 *
 * The C library's own differ in the last bit between processors and versions, and one such bit
 * would give two machines two different networks from one seed. These use + - * / and integer
 * operations only, so they return the same bits wherever double is IEEE 754 binary64, evaluated
 * as such and rounded to nearest. The sources must be compiled without contraction
 * (-ffp-contract=off) and without -ffast-math. Neither errno nor the floating-point flags are
 * part of the contract.
 *
 * An ulp is one unit in the last place of the exact result, 2^-1074 where that is subnormal. The
 * bounds follow from the roundings; in brackets the largest error seen over 10^7 arguments.
 */
#ifndef NIN_CORE_MATH_H
#define NIN_CORE_MATH_H

#include <stdint.h>

/*
 * e to the power x; error below 0.75 ulp (0.63), below 1 ulp where subnormal (0.77).
 * NaN gives NaN, -inf gives 0, +inf gives +inf; too large gives +inf, too small gives 0.
 */
double nin__exp(double x);

/*
 * Natural logarithm of x; error below 0.60 ulp (0.55).
 * NaN and x < 0 give NaN, +0 and -0 give -inf, +inf gives +inf, 1 gives +0.
 */
double nin__log(double x);

/*
 * *s = sin(pi x) and *c = cos(pi x); error of each below 0.95 ulp (0.80) for every finite x:
 * the reduction is exact. Multiples of 1/2 give exact results; a zero sine has the sign of x, a
 * zero cosine is +0 (as in C23). NaN and infinities give NaN for both. s and c are borrowed for
 * the call, neither may be NULL.
 */
void nin__sincospi(double x, double *s, double *c);

/*
 * Index of the first of the largest of count >= 1 numbers. NaN is larger than nothing, but stays
 * when it comes first.
 */
int32_t nin__first_largest(const float *x, int32_t count);

#endif
