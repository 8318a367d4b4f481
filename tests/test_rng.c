/* SPDX-License-Identifier: MIT */
#include "core/rng.h"

#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

Suite *rng_suite(void);

static uint32_t float_bits(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static void check_philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0,
                         uint32_t k1, const uint32_t want[4])
{
    const uint32_t counter[4] = {c0, c1, c2, c3};
    const uint32_t key[2] = {k0, k1};
    uint32_t out[4] = {c0, c1, c2, c3};

    nin__philox(out, counter, key);
    ck_assert_mem_eq(out, want, sizeof out);
    memcpy(out, counter, sizeof out); /* in place */
    nin__philox(out, out, key);
    ck_assert_mem_eq(out, want, sizeof out);
}

/* The known answers of Random123, the authors' own implementation. */
START_TEST(philox_known_answers)
{
    const uint32_t f = UINT32_C(0xffffffff);
    const uint32_t zeros[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    const uint32_t ones[4] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
    const uint32_t pi[4] = {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1};

    check_philox(0, 0, 0, 0, 0, 0, zeros);
    check_philox(f, f, f, f, f, f, ones);
    check_philox(0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, pi);
}
END_TEST

/* ---- distributions --------------------------------------------------------------------------- */

#define SAMPLES 400000

/* Mean of x^power. */
static double moment(const float *x, size_t count, int power)
{
    double sum = 0.0;

    for (size_t i = 0; i < count; i++) {
        double term = 1.0;
        for (int p = 0; p < power; p++)
            term *= x[i];
        sum += term;
    }
    return sum / (double)count;
}

/* Mean of x[i] x[i + lag]. */
static double correlation(const float *x, size_t count, size_t lag)
{
    double sum = 0.0;

    for (size_t i = 0; i + lag < count; i++)
        sum += (double)x[i] * x[i + lag];
    return sum / (double)(count - lag);
}

static float *new_floats(size_t count)
{
    float *x = malloc(count * sizeof *x);

    ck_assert_ptr_nonnull(x);
    return x;
}

/* The tolerances are four standard errors; the sample is fixed, so the tests never waver. */
START_TEST(uniform_has_the_moments_of_uniform)
{
    float *x = new_floats(SAMPLES);
    const double bound = 0.25, error = 4.0 / sqrt(SAMPLES);
    float low = 0.0f, high = 0.0f;

    nin__rng_uniform(x, SAMPLES, bound, 7, 0);
    for (size_t i = 0; i < SAMPLES; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    ck_assert(low >= -0.25f && low < -0.2499f);
    ck_assert(high <= 0.25f && high > 0.2499f);

    const double b2 = bound * bound, b4 = b2 * b2;
    ck_assert_double_eq_tol(moment(x, SAMPLES, 1), 0.0, error * bound / sqrt(3.0));
    ck_assert_double_eq_tol(moment(x, SAMPLES, 2), b2 / 3.0, error * b2 * sqrt(4.0 / 45.0));
    ck_assert_double_eq_tol(moment(x, SAMPLES, 4), b4 / 5.0, error * b4 * sqrt(16.0 / 225.0));
    for (size_t lag = 1; lag <= 8; lag++)
        ck_assert_double_eq_tol(correlation(x, SAMPLES, lag), 0.0, error * b2 / 3.0);
    free(x);
}
END_TEST

START_TEST(normal_has_the_moments_of_normal)
{
    float *x = new_floats(SAMPLES);
    const double std = 0.05, error = 4.0 / sqrt(SAMPLES);
    const double s2 = std * std, s4 = s2 * s2;
    size_t within_one = 0, beyond_three = 0, beyond_all = 0;

    nin__rng_normal(x, SAMPLES, std, 7, 0);
    for (size_t i = 0; i < SAMPLES; i++) {
        beyond_all += fabsf(x[i]) > 6.8f * 0.05f;
        within_one += fabsf(x[i]) < 0.05f;
        beyond_three += fabsf(x[i]) > 0.15f;
    }
    ck_assert_uint_eq(beyond_all, 0);
    ck_assert_double_eq_tol((double)within_one / SAMPLES, 0.6826895, error * 0.4654);
    ck_assert_double_eq_tol((double)beyond_three / SAMPLES, 0.0026998, error * 0.0519);

    ck_assert_double_eq_tol(moment(x, SAMPLES, 1), 0.0, error * std);
    ck_assert_double_eq_tol(moment(x, SAMPLES, 2), s2, error * s2 * sqrt(2.0));
    ck_assert_double_eq_tol(moment(x, SAMPLES, 3), 0.0, error * s2 * std * sqrt(15.0));
    ck_assert_double_eq_tol(moment(x, SAMPLES, 4), 3.0 * s4, error * s4 * sqrt(96.0));
    for (size_t lag = 1; lag <= 8; lag++)
        ck_assert_double_eq_tol(correlation(x, SAMPLES, lag), 0.0, error * s2);
    free(x);
}
END_TEST

typedef void fill_function(float *out, size_t count, double scale, uint32_t seed, uint32_t tensor);

static void check_prefixes(fill_function *fill)
{
    float whole[23], part[23];

    fill(whole, 23, 0.5, 1, 2);
    for (size_t count = 0; count <= 23; count++) {
        memset(part, 0, sizeof part);
        fill(part, count, 0.5, 1, 2);
        ck_assert_mem_eq(part, whole, count * sizeof *part);
        for (size_t i = count; i < 23; i++)
            ck_assert_uint_eq(float_bits(part[i]), 0);
    }
    fill(part, 23, 0.5, 2, 2);
    ck_assert_mem_ne(part, whole, sizeof part);
    fill(part, 23, 0.5, 1, 3);
    ck_assert_mem_ne(part, whole, sizeof part);
}

START_TEST(a_longer_tensor_begins_like_a_shorter_one)
{
    check_prefixes(nin__rng_uniform);
    check_prefixes(nin__rng_normal);
}
END_TEST

/* Computed independently, with 200 bits of precision. */
START_TEST(pinned_weights)
{
    const uint32_t uniform[6] = {0x3d25b1e4, 0x3d456b5c, 0x3c740c11,
                                 0x3baa8c7b, 0x3d5cd47b, 0x3da48b28};
    const uint32_t normal[8] = {0xbb1be012, 0xbd2be9da, 0xbd54c1c3, 0xbc0c6809,
                                0x3cf1b4f8, 0xbcaba7cc, 0x3c91c307, 0xbd32af4b};
    float x[8];

    nin__rng_uniform(x, 6, 0.1, 42, 3);
    for (int i = 0; i < 6; i++)
        ck_assert_uint_eq(float_bits(x[i]), uniform[i]);
    nin__rng_normal(x, 8, 0.05, 42, 3);
    for (int i = 0; i < 8; i++)
        ck_assert_uint_eq(float_bits(x[i]), normal[i]);
}
END_TEST

/* ---- shuffle --------------------------------------------------------------------------------- */

static void check_permutation(const int32_t *index, int32_t count)
{
    unsigned char *seen = calloc((size_t)count, 1);

    ck_assert_ptr_nonnull(seen);
    for (int32_t i = 0; i < count; i++) {
        ck_assert(index[i] >= 0 && index[i] < count);
        ck_assert(!seen[index[i]]);
        seen[index[i]] = 1;
    }
    free(seen);
}

START_TEST(shuffle_is_a_permutation)
{
    int32_t index[1000];

    nin__rng_shuffle(index, 0, 1, 0);
    for (int32_t count = 1; count <= 1000; count += count < 40 ? 1 : 60) {
        nin__rng_shuffle(index, count, 1, 0);
        check_permutation(index, count);
    }
}
END_TEST

START_TEST(shuffle_differs_by_seed_and_epoch)
{
    const int64_t epoch[5] = {0, 1, 2, INT64_C(1) << 32, -1};
    int32_t index[5][200], other[200];

    for (int e = 0; e < 5; e++) {
        nin__rng_shuffle(index[e], 200, 1, epoch[e]);
        nin__rng_shuffle(other, 200, 1, epoch[e]);
        ck_assert_mem_eq(index[e], other, sizeof other);
        nin__rng_shuffle(other, 200, 2, epoch[e]);
        ck_assert_mem_ne(index[e], other, sizeof other);
        for (int before = 0; before < e; before++)
            ck_assert_mem_ne(index[e], index[before], sizeof other);
    }
}
END_TEST

START_TEST(pinned_shuffles)
{
    const int32_t first[10] = {610, 628, 111, 911, 249, 567, 57, 200, 563, 413};
    const int32_t late[10] = {254, 429, 199, 733, 574, 940, 514, 14, 70, 590};
    int32_t index[1000];

    nin__rng_shuffle(index, 1000, 42, 0);
    ck_assert_mem_eq(index, first, sizeof first);
    nin__rng_shuffle(index, 1000, 42, INT64_C(1) << 32);
    ck_assert_mem_eq(index, late, sizeof late);
}
END_TEST

/* All 24 orders of four, equally often: chi-squared with 23 degrees of freedom is beyond 50 once
 * in a thousand. */
START_TEST(shuffle_is_uniform)
{
    int times[256] = {0}, orders = 0;
    double chi = 0.0;

    for (int64_t epoch = 0; epoch < 24000; epoch++) {
        int32_t index[4];
        nin__rng_shuffle(index, 4, 3, epoch);
        times[index[0] * 64 + index[1] * 16 + index[2] * 4 + index[3]]++;
    }
    for (int order = 0; order < 256; order++) {
        if (times[order] == 0) /* not a permutation */
            continue;
        orders++;
        chi += (times[order] - 1000.0) * (times[order] - 1000.0) / 1000.0;
    }
    ck_assert_int_eq(orders, 24);
    ck_assert_double_lt(chi, 50.0);
}
END_TEST

/* Draws a place below n in the plain way: those whose low half is below 2^32 mod n are too many. */
static uint32_t draw_reference(uint32_t n, uint32_t epoch, int *rejected)
{
    const uint64_t words = UINT64_C(1) << 32;
    const uint32_t key[2] = {42, NIN__STREAM_SHUFFLE};
    uint32_t counter[4] = {n - 1, 0, epoch, 0}, word[4];

    nin__philox(word, counter, key);
    while ((uint64_t)word[0] * n % words < words % n) {
        ++*rejected;
        counter[1]++;
        nin__philox(word, counter, key);
    }
    return (uint32_t)((uint64_t)word[0] * n / words);
}

static void check_shuffle(uint32_t epoch, int want_rejected)
{
    static int32_t index[5000], want[5000];
    int rejected = 0;

    for (int32_t i = 0; i < 5000; i++)
        want[i] = i;
    for (uint32_t i = 4999; i > 0; i--) {
        const uint32_t j = draw_reference(i + 1, epoch, &rejected);
        const int32_t moved = want[i];
        want[i] = want[j];
        want[j] = moved;
    }
    nin__rng_shuffle(index, 5000, 42, epoch);
    ck_assert_int_eq(rejected, want_rejected);
    ck_assert_mem_eq(index, want, sizeof want);
}

/* Rejected draws are rare, and so are those that need the division to be accepted. These epochs
 * of seed 42 were searched for: 7 has one of the former, 42 one of the latter. */
START_TEST(shuffle_rejects_biased_draws)
{
    check_shuffle(0, 0);
    check_shuffle(7, 1);
    check_shuffle(42, 0);
}
END_TEST

/* ---- dropout --------------------------------------------------------------------------------- */

#define MASK 300

static const uint32_t half_dropped = UINT32_C(0x80000000);

/* One element at a time, straight from the definition. */
static void mask_reference(unsigned char *keep, size_t first, size_t count, uint32_t threshold,
                           uint32_t stream, uint32_t position, int64_t step)
{
    const uint32_t key[2] = {9, stream};

    for (size_t j = 0; j < count; j++) {
        const size_t element = first + j;
        const uint32_t counter[4] = {(uint32_t)(element / 4), position, (uint32_t)step,
                                     (uint32_t)((uint64_t)step >> 32)};
        uint32_t word[4];
        nin__philox(word, counter, key);
        keep[j] = word[element % 4] >= threshold;
    }
}

START_TEST(dropout_is_philox)
{
    const int64_t step = INT64_C(0x123456789a);
    unsigned char keep[MASK], want[MASK];

    mask_reference(want, 0, MASK, half_dropped, NIN__STREAM_DROPOUT + 2, 77, step);
    nin__rng_dropout(keep, 0, MASK, half_dropped, 9, NIN__STREAM_DROPOUT + 2, 77, step);
    ck_assert_mem_eq(keep, want, MASK);

    const size_t far = (size_t)UINT32_C(0xfffffff0) - 6;
    mask_reference(want, far, MASK, half_dropped, NIN__STREAM_DROPOUT, 0, 0);
    nin__rng_dropout(keep, far, MASK, half_dropped, 9, NIN__STREAM_DROPOUT, 0, 0);
    ck_assert_mem_eq(keep, want, MASK);
}
END_TEST

/* Every slice of a short mask; the guards show that nothing else is written. */
START_TEST(dropout_is_the_same_in_slices)
{
    unsigned char whole[MASK], part[MASK + 2], wrong = 0;

    nin__rng_dropout(whole, 0, MASK, half_dropped, 9, NIN__STREAM_DROPOUT, 5, 6);
    for (size_t first = 0; first < 12; first++)
        for (size_t count = 0; count <= MASK - first; count++) {
            memset(part, 9, sizeof part);
            nin__rng_dropout(part + 1, first, count, half_dropped, 9, NIN__STREAM_DROPOUT, 5, 6);
            wrong |= memcmp(part + 1, whole + first, count) != 0;
            wrong |= part[0] != 9 || part[count + 1] != 9;
        }
    ck_assert_uint_eq(wrong, 0);
}
END_TEST

START_TEST(dropout_depends_on_all_its_arguments)
{
    unsigned char keep[MASK], other[MASK];

    nin__rng_dropout(keep, 0, MASK, half_dropped, 9, NIN__STREAM_DROPOUT, 5, 6);
    nin__rng_dropout(other, 0, MASK, half_dropped, 8, NIN__STREAM_DROPOUT, 5, 6);
    ck_assert_mem_ne(keep, other, MASK);
    nin__rng_dropout(other, 0, MASK, half_dropped, 9, NIN__STREAM_DROPOUT + 1, 5, 6);
    ck_assert_mem_ne(keep, other, MASK);
    nin__rng_dropout(other, 0, MASK, half_dropped, 9, NIN__STREAM_DROPOUT, 4, 6);
    ck_assert_mem_ne(keep, other, MASK);
    nin__rng_dropout(other, 0, MASK, half_dropped, 9, NIN__STREAM_DROPOUT, 5, 7);
    ck_assert_mem_ne(keep, other, MASK);
    nin__rng_dropout(other, 0, MASK, half_dropped, 9, NIN__STREAM_DROPOUT, 5,
                     6 + (INT64_C(1) << 32));
    ck_assert_mem_ne(keep, other, MASK);
}
END_TEST

static double kept_fraction(uint32_t threshold)
{
    unsigned char *keep = malloc(SAMPLES);
    size_t kept = 0;

    ck_assert_ptr_nonnull(keep);
    nin__rng_dropout(keep, 0, SAMPLES, threshold, 1, NIN__STREAM_DROPOUT, 0, 0);
    for (size_t i = 0; i < SAMPLES; i++)
        kept += keep[i];
    free(keep);
    return (double)kept / SAMPLES;
}

START_TEST(dropout_keeps_what_the_threshold_says)
{
    const double error = 4.0 * 0.5 / sqrt(SAMPLES);

    ck_assert_double_eq(kept_fraction(0), 1.0);
    ck_assert_double_eq_tol(kept_fraction(UINT32_C(0x40000000)), 0.75, error);
    ck_assert_double_eq_tol(kept_fraction(half_dropped), 0.5, error);
    ck_assert_double_eq_tol(kept_fraction(UINT32_C(0xe6666666)), 0.1, error);
    ck_assert_double_lt(kept_fraction(UINT32_C(0xffffffff)), 1e-5);
}
END_TEST

/* An element whose word is the threshold is kept, in a whole block and in a part of one. */
START_TEST(dropout_keeps_the_threshold_itself)
{
    const uint32_t counter[4] = {1, 5, 6, 0};
    const uint32_t key[2] = {9, NIN__STREAM_DROPOUT};
    unsigned char keep[64];
    uint32_t word[4];

    nin__philox(word, counter, key);
    for (size_t i = 0; i < 4; i++) {
        nin__rng_dropout(keep, 0, 64, word[i], 9, NIN__STREAM_DROPOUT, 5, 6);
        ck_assert_uint_eq(keep[4 + i], 1);
        nin__rng_dropout(keep, 4 + i, 1, word[i], 9, NIN__STREAM_DROPOUT, 5, 6);
        ck_assert_uint_eq(keep[0], 1);
        nin__rng_dropout(keep, 0, 64, word[i] + 1, 9, NIN__STREAM_DROPOUT, 5, 6);
        ck_assert_uint_eq(keep[4 + i], 0);
    }
}
END_TEST

START_TEST(pinned_mask)
{
    const unsigned char want[24] = {0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 1,
                                    1, 0, 0, 1, 0, 1, 1, 1, 1, 0, 1, 0};
    unsigned char keep[24];

    nin__rng_dropout(keep, 0, 24, half_dropped, 42, NIN__STREAM_DROPOUT, 3, 1000);
    ck_assert_mem_eq(keep, want, sizeof want);
}
END_TEST

Suite *rng_suite(void)
{
    Suite *suite = suite_create("rng");
    TCase *values = tcase_create("values");
    TCase *shuffle = tcase_create("shuffle");
    TCase *dropout = tcase_create("dropout");

    tcase_add_test(values, philox_known_answers);
    tcase_add_test(values, uniform_has_the_moments_of_uniform);
    tcase_add_test(values, normal_has_the_moments_of_normal);
    tcase_add_test(values, a_longer_tensor_begins_like_a_shorter_one);
    tcase_add_test(values, pinned_weights);
    tcase_add_test(shuffle, shuffle_is_a_permutation);
    tcase_add_test(shuffle, shuffle_differs_by_seed_and_epoch);
    tcase_add_test(shuffle, pinned_shuffles);
    tcase_add_test(shuffle, shuffle_is_uniform);
    tcase_add_test(shuffle, shuffle_rejects_biased_draws);
    tcase_add_test(dropout, dropout_is_philox);
    tcase_add_test(dropout, dropout_is_the_same_in_slices);
    tcase_add_test(dropout, dropout_depends_on_all_its_arguments);
    tcase_add_test(dropout, dropout_keeps_what_the_threshold_says);
    tcase_add_test(dropout, dropout_keeps_the_threshold_itself);
    tcase_add_test(dropout, pinned_mask);
    suite_add_tcase(suite, values);
    suite_add_tcase(suite, shuffle);
    suite_add_tcase(suite, dropout);
    return suite;
}
