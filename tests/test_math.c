/* SPDX-License-Identifier: MIT */
/*
 * Two questions: are the values right (against the C library in long double), and are they the
 * same bits everywhere (pinned values, and one checksum over many)?
 */
#include "core/math.h"

#include <check.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

Suite *math_suite(void);

#define DRAWS 100000

static uint64_t bits_of(double x)
{
    uint64_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Splitmix64: not our own generator, which is built on what is tested here. */
static uint64_t next_word(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* In [low, high). */
static double next_between(uint64_t *state, double low, double high)
{
    return low + (high - low) * ((double)(next_word(state) >> 11) * 0x1p-53);
}

/* False where long double is double, which includes valgrind: then there is nothing to compare
 * with. Asked at run time, because valgrind does not change the macros. */
static int long_double_is_wider(void)
{
    volatile long double one = 1.0L;
    volatile long double sum = one + 0x1p-60L;

    return sum != one;
}

/* |got - want| in units in the last place of want. */
static double error_in_ulp(double got, long double want)
{
    int exponent;

    if (want == 0.0L)
        return got == 0.0 ? 0.0 : HUGE_VAL;
    (void)frexpl(want, &exponent);
    exponent = exponent - 53 < -1074 ? -1074 : exponent - 53;
    return (double)ldexpl(fabsl(got - want), -exponent);
}

/* Larger of the two, and a NaN once there is one. */
static double worse(double worst, double error)
{
    return error <= worst ? worst : error;
}

static double exp_error(uint64_t seed, double low, double high)
{
    double worst = 0.0;

    for (int i = 0; i < DRAWS; i++) {
        const double x = next_between(&seed, low, high);
        worst = worse(worst, error_in_ulp(nin__exp(x), expl((long double)x)));
    }
    return worst;
}

START_TEST(exp_is_near_long_double)
{
    if (!long_double_is_wider())
        return;
    ck_assert_double_lt(exp_error(1, -708.0, 709.7), 0.75);
    ck_assert_double_lt(exp_error(2, -1.0, 1.0), 0.75);
    ck_assert_double_lt(exp_error(3, -0x1p-20, 0x1p-20), 0.75);
    ck_assert_double_lt(exp_error(4, -745.1, -708.4), 1.0);
}
END_TEST

START_TEST(exp_of_special_values)
{
    ck_assert_double_eq(nin__exp(0.0), 1.0);
    ck_assert_double_eq(nin__exp(-0.0), 1.0);
    ck_assert_double_eq(nin__exp(DBL_MIN), 1.0);
    ck_assert(isnan(nin__exp(NAN)));
    ck_assert_double_eq(nin__exp(INFINITY), INFINITY);
    ck_assert_double_eq(nin__exp(DBL_MAX), INFINITY);
    ck_assert_uint_eq(bits_of(nin__exp(-INFINITY)), 0);
    ck_assert_uint_eq(bits_of(nin__exp(-DBL_MAX)), 0);

    /* the last that is finite, the first that is not; the last that is not zero, the first so */
    ck_assert_double_lt(nin__exp(0x1.62e42fefa39efp+9), INFINITY);
    ck_assert_double_eq(nin__exp(0x1.62e42fefa39f0p+9), INFINITY);
    ck_assert_uint_eq(bits_of(nin__exp(-0x1.74910d52d3051p+9)), 1);
    ck_assert_uint_eq(bits_of(nin__exp(-0x1.74910d52d3052p+9)), 0);
}
END_TEST

static double log_error(uint64_t seed, double low, double high, int scale)
{
    double worst = 0.0;

    for (int i = 0; i < DRAWS; i++) {
        const double x = ldexp(next_between(&seed, low, high), scale);
        worst = worse(worst, error_in_ulp(nin__log(x), logl((long double)x)));
    }
    return worst;
}

START_TEST(log_is_near_long_double)
{
    if (!long_double_is_wider())
        return;
    ck_assert_double_lt(log_error(1, 0x1p-33, 1.0, 0), 0.6);
    ck_assert_double_lt(log_error(2, 0.5, 2.0, 0), 0.6);
    ck_assert_double_lt(log_error(3, 0.99, 1.01, 0), 0.6);
    ck_assert_double_lt(log_error(4, 1.0 - 0x1p-30, 1.0 + 0x1p-30, 0), 0.6);
    ck_assert_double_lt(log_error(5, 0.7, 0.71, 0), 0.6); /* where the exponent changes */
    ck_assert_double_lt(log_error(6, 1.41, 1.42, 0), 0.6);
    ck_assert_double_lt(log_error(9, 2.0, 2.0 + 0x1p-18, 0), 0.6); /* k ln2 and little more */
    ck_assert_double_lt(log_error(7, 0.5, 1.0, 1024), 0.6);
    ck_assert_double_lt(log_error(8, 0.5, 1.0, -1040), 0.6);
}
END_TEST

/* The neighbours of 1, where a logarithm that forms 1 + something has lost all its bits. */
START_TEST(log_of_the_neighbours_of_one)
{
    double worst = 0.0;

    if (!long_double_is_wider())
        return;
    for (int i = 1; i <= 1000; i++) {
        const double above = 1.0 + i * DBL_EPSILON;
        const double below = 1.0 - i * DBL_EPSILON / 2.0;
        worst = worse(worst, error_in_ulp(nin__log(above), logl((long double)above)));
        worst = worse(worst, error_in_ulp(nin__log(below), logl((long double)below)));
    }
    ck_assert_double_lt(worst, 0.6);
}
END_TEST

START_TEST(log_of_special_values)
{
    ck_assert_uint_eq(bits_of(nin__log(1.0)), 0);
    ck_assert_double_eq(nin__log(0.0), -INFINITY);
    ck_assert_double_eq(nin__log(-0.0), -INFINITY);
    ck_assert_double_eq(nin__log(INFINITY), INFINITY);
    ck_assert(isnan(nin__log(NAN)));
    ck_assert(isnan(nin__log(-1.0)));
    ck_assert(isnan(nin__log(-0x1p-1074)));
    ck_assert(isnan(nin__log(-INFINITY)));
    for (int k = -1074; k <= 1023; k++)
        ck_assert_double_eq_tol(nin__log(ldexp(1.0, k)) / 0x1.62e42fefa39efp-1, k, 1e-12);
}
END_TEST

/* Reduces in long double, where a remainder by 2 and a subtraction of n / 2 are exact too. */
static void sincospi_reference(double x, long double *s, long double *c)
{
    const long double pi = 3.14159265358979323846264338327950288L;
    const long double y = fmodl((long double)x, 2.0L);
    const int n = (int)floorl(2.0L * y + 0.5L);
    const long double t = pi * (y - 0.5L * n);
    const long double sine[4] = {sinl(t), cosl(t), -sinl(t), -cosl(t)};

    *s = sine[n & 3];
    *c = sine[(n + 1) & 3];
}

static double sincospi_error(uint64_t seed, double low, double high, int scale)
{
    double worst = 0.0;

    for (int i = 0; i < DRAWS; i++) {
        const double x = ldexp(next_between(&seed, low, high), scale);
        long double want_s, want_c;
        double s, c;
        nin__sincospi(x, &s, &c);
        sincospi_reference(x, &want_s, &want_c);
        worst = worse(worst, error_in_ulp(s, want_s));
        worst = worse(worst, error_in_ulp(c, want_c));
    }
    return worst;
}

START_TEST(sincospi_is_near_long_double)
{
    if (!long_double_is_wider())
        return;
    ck_assert_double_lt(sincospi_error(1, -2.0, 2.0, 0), 0.95);
    ck_assert_double_lt(sincospi_error(2, 0.2499, 0.2501, 0), 0.95);
    ck_assert_double_lt(sincospi_error(3, 0.5 - 0x1p-20, 0.5 + 0x1p-20, 0), 0.95);
    ck_assert_double_lt(sincospi_error(4, -1e6, 1e6, 0), 0.95);
    ck_assert_double_lt(sincospi_error(5, -1.0, 1.0, 50), 0.95);
    ck_assert_double_lt(sincospi_error(6, -1.0, 1.0, 55), 0.95);
    ck_assert_double_lt(sincospi_error(7, -1.0, 1.0, -498), 0.95);
    ck_assert_double_lt(sincospi_error(8, -1.0, 1.0, -1022), 0.95);
}
END_TEST

static void check_sincospi(double x, double want_s, double want_c)
{
    double s, c;

    nin__sincospi(x, &s, &c);
    ck_assert_msg(bits_of(s) == bits_of(want_s), "sin(pi %a) = %a, not %a", x, s, want_s);
    ck_assert_msg(bits_of(c) == bits_of(want_c), "cos(pi %a) = %a, not %a", x, c, want_c);
}

START_TEST(sincospi_is_exact_at_halves)
{
    check_sincospi(0.0, 0.0, 1.0);
    check_sincospi(-0.0, -0.0, 1.0);
    for (int i = 0; i < 40; i += 4) {
        const double x = 0.5 * i;
        check_sincospi(x + 0.5, 1.0, 0.0);
        check_sincospi(x + 1.0, 0.0, -1.0);
        check_sincospi(x + 1.5, -1.0, 0.0);
        check_sincospi(x + 2.0, 0.0, 1.0);
        check_sincospi(-x - 0.5, -1.0, 0.0);
        check_sincospi(-x - 1.0, -0.0, -1.0);
        check_sincospi(-x - 1.5, 1.0, 0.0);
        check_sincospi(-x - 2.0, -0.0, 1.0);
    }
}
END_TEST

START_TEST(sincospi_of_large_values)
{
    check_sincospi(0x1p51 + 0.5, 1.0, 0.0);
    check_sincospi(0x1p52 - 0.5, -1.0, 0.0);
    check_sincospi(0x1p52 + 1.0, 0.0, -1.0);
    check_sincospi(0x1p53 - 1.0, 0.0, -1.0);
    check_sincospi(1.0 - 0x1p53, -0.0, -1.0);
    check_sincospi(0x1p53, 0.0, 1.0);
    check_sincospi(0x1p53 + 2.0, 0.0, 1.0);
    check_sincospi(-DBL_MAX, -0.0, 1.0);
}
END_TEST

START_TEST(sincospi_of_values_not_finite)
{
    const double x[3] = {NAN, INFINITY, -INFINITY};

    for (int i = 0; i < 3; i++) {
        double s = 0.0, c = 0.0;
        nin__sincospi(x[i], &s, &c);
        ck_assert(isnan(s));
        ck_assert(isnan(c));
    }
}
END_TEST

/* The expected bits were computed with 200 bits of precision and rounded once, so they hold for
 * any implementation this good at these points. */
START_TEST(pinned_values)
{
    double s, c;

    ck_assert_uint_eq(bits_of(nin__exp(1.0)), UINT64_C(0x4005bf0a8b145769));
    ck_assert_uint_eq(bits_of(nin__exp(-1.0)), UINT64_C(0x3fd78b56362cef38));
    ck_assert_uint_eq(bits_of(nin__exp(10.0)), UINT64_C(0x40d5829dcf950560));
    ck_assert_uint_eq(bits_of(nin__exp(-700.25)), UINT64_C(0x00caf5fe9a485c8e));
    ck_assert_uint_eq(bits_of(nin__exp(709.0)), UINT64_C(0x7fdd422d2be5dc9b));

    ck_assert_uint_eq(bits_of(nin__log(2.0)), UINT64_C(0x3fe62e42fefa39ef));
    ck_assert_uint_eq(bits_of(nin__log(0.1)), UINT64_C(0xc0026bb1bbb55515));
    ck_assert_uint_eq(bits_of(nin__log(0.75)), UINT64_C(0xbfd269621134db92));
    ck_assert_uint_eq(bits_of(nin__log(0x1p-1074)), UINT64_C(0xc0874385446d71c3));
    ck_assert_uint_eq(bits_of(nin__log(0x1p-33)), UINT64_C(0xc036dfb516f20bbf));

    nin__sincospi(0.1, &s, &c);
    ck_assert_uint_eq(bits_of(s), UINT64_C(0x3fd3c6ef372fe950));
    ck_assert_uint_eq(bits_of(c), UINT64_C(0x3fee6f0e134454ff));
    nin__sincospi(-0.6, &s, &c);
    ck_assert_uint_eq(bits_of(s), UINT64_C(0xbfee6f0e13445500));
    ck_assert_uint_eq(bits_of(c), UINT64_C(0xbfd3c6ef372fe94e));
}
END_TEST

static uint64_t mix(uint64_t sum, double x)
{
    return (sum ^ bits_of(x)) * UINT64_C(1099511628211);
}

/* One changed bit in 10^5 values shows here: a contracted multiply-add, an excess precision, a
 * reordered sum. If it fails, every network trained from a seed has changed. */
START_TEST(pinned_checksums)
{
    uint64_t seed = 1, exp_sum = 0, log_sum = 0, sin_sum = 0, cos_sum = 0;

    for (int i = 0; i < DRAWS; i++) {
        double s, c;
        nin__sincospi(next_between(&seed, -50.0, 50.0), &s, &c);
        sin_sum = mix(sin_sum, s);
        cos_sum = mix(cos_sum, c);
        exp_sum = mix(exp_sum, nin__exp(next_between(&seed, -750.0, 750.0)));
        log_sum = mix(log_sum, nin__log(next_between(&seed, 0.0, 2.0)));
    }
    ck_assert_uint_eq(exp_sum, UINT64_C(0xbecc34f0b9c48c21));
    ck_assert_uint_eq(log_sum, UINT64_C(0xda0d805041a7ffab));
    ck_assert_uint_eq(sin_sum, UINT64_C(0xb8786ffcf7e30860));
    ck_assert_uint_eq(cos_sum, UINT64_C(0xed99a3be4fe03f2a));
}
END_TEST

Suite *math_suite(void)
{
    Suite *suite = suite_create("math");
    TCase *values = tcase_create("values");
    TCase *bits = tcase_create("bits");

    tcase_add_test(values, exp_is_near_long_double);
    tcase_add_test(values, exp_of_special_values);
    tcase_add_test(values, log_is_near_long_double);
    tcase_add_test(values, log_of_the_neighbours_of_one);
    tcase_add_test(values, log_of_special_values);
    tcase_add_test(values, sincospi_is_near_long_double);
    tcase_add_test(values, sincospi_is_exact_at_halves);
    tcase_add_test(values, sincospi_of_large_values);
    tcase_add_test(values, sincospi_of_values_not_finite);
    tcase_add_test(bits, pinned_values);
    tcase_add_test(bits, pinned_checksums);
    suite_add_tcase(suite, values);
    suite_add_tcase(suite, bits);
    return suite;
}
