/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_VECTOR_H
#define NIN__CPU_KERNELS_VECTOR_H

/* A vector of floats as wide as the instruction set that this file is compiled for, in the
 * compiler's vector extension: + - * work on it. Intrinsics stand in this file, in lines.h and,
 * those of tiles, in amx.h. */

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
enum {
    WIDTH = 16
};
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
enum {
    WIDTH = 8
};
#else
enum {
    WIDTH = 4
};
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float vector __attribute__((vector_size(4 * WIDTH)));
typedef int32_t mask __attribute__((vector_size(4 * WIDTH)));
typedef float unaligned_vector __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

INLINE vector load(const float *from)
{
    return *(const unaligned_vector *)from;
}

INLINE void store(float *to, vector v)
{
    *(unaligned_vector *)to = v;
}

/* The first `count` elements, at least 1 and at most WIDTH - 1 (with AVX-512 WIDTH); the others are
 * 0 and are not touched. */
#if defined(__AVX512F__)
INLINE __mmask16 first_lanes(int32_t count)
{
    return (__mmask16)((1u << count) - 1u);
}

INLINE vector load_part(const float *from, int32_t count)
{
    return (vector)_mm512_maskz_loadu_ps(first_lanes(count), from);
}

INLINE void store_part(float *to, vector v, int32_t count)
{
    _mm512_mask_storeu_ps(to, first_lanes(count), (__m512)v);
}
#elif defined(__AVX2__) && defined(__FMA__)
INLINE __m256i first_lanes(int32_t count)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE vector load_part(const float *from, int32_t count)
{
    return (vector)_mm256_maskload_ps(from, first_lanes(count));
}

INLINE void store_part(float *to, vector v, int32_t count)
{
    _mm256_maskstore_ps(to, first_lanes(count), (__m256)v);
}
#else
INLINE vector load_part(const float *from, int32_t count)
{
    vector v = {0};

    memcpy(&v, from, (size_t)count * sizeof(float));
    return v;
}

INLINE void store_part(float *to, vector v, int32_t count)
{
    memcpy(to, &v, (size_t)count * sizeof(float));
}
#endif

/* Channels that are left: a whole vector of them, or as many as there are. */
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

INLINE vector spread(float value)
{
#if defined(__AVX512F__)
    return (vector)_mm512_set1_ps(value);
#elif defined(__AVX2__) && defined(__FMA__)
    return (vector)_mm256_set1_ps(value);
#else
    return (vector){value, value, value, value};
#endif
}

/* Element i: the sum of the elements of v[i], halves first. */
#if defined(__AVX512F__)
INLINE vector sum_elements(const vector v[WIDTH])
{
    __m512 halves[8], quarters[4], pairs[2];

#pragma GCC unroll 8
    for (int32_t i = 0; i < 8; i++) { /* of v[i] and v[i + 4] in each eight */
        __m512 a = (__m512)v[i / 4 * 8 + i % 4], b = (__m512)v[i / 4 * 8 + i % 4 + 4];

        halves[i] =
            _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    }
#pragma GCC unroll 4
    for (int32_t i = 0; i < 4; i++)
        quarters[i] = _mm512_add_ps(_mm512_shuffle_f32x4(halves[i], halves[i + 4], 0x88),
                                    _mm512_shuffle_f32x4(halves[i], halves[i + 4], 0xdd));
#pragma GCC unroll 2
    for (int32_t i = 0; i < 2; i++)
        pairs[i] = _mm512_add_ps(_mm512_shuffle_ps(quarters[2 * i], quarters[2 * i + 1], 0x44),
                                 _mm512_shuffle_ps(quarters[2 * i], quarters[2 * i + 1], 0xee));
    return (vector)_mm512_add_ps(_mm512_shuffle_ps(pairs[0], pairs[1], 0x88),
                                 _mm512_shuffle_ps(pairs[0], pairs[1], 0xdd));
}
#elif defined(__AVX2__) && defined(__FMA__)
INLINE vector sum_elements(const vector v[WIDTH])
{
    __m256 halves[4], pairs[2];

#pragma GCC unroll 4
    for (int32_t i = 0; i < 4; i++)
        halves[i] = _mm256_add_ps(_mm256_permute2f128_ps((__m256)v[i], (__m256)v[i + 4], 0x20),
                                  _mm256_permute2f128_ps((__m256)v[i], (__m256)v[i + 4], 0x31));
#pragma GCC unroll 2
    for (int32_t i = 0; i < 2; i++)
        pairs[i] = _mm256_add_ps(_mm256_shuffle_ps(halves[2 * i], halves[2 * i + 1], 0x44),
                                 _mm256_shuffle_ps(halves[2 * i], halves[2 * i + 1], 0xee));
    return (vector)_mm256_add_ps(_mm256_shuffle_ps(pairs[0], pairs[1], 0x88),
                                 _mm256_shuffle_ps(pairs[0], pairs[1], 0xdd));
}
#else
INLINE vector sum_elements(const vector v[WIDTH])
{
    vector sums;

    for (int32_t i = 0; i < WIDTH; i++)
        sums[i] = (v[i][0] + v[i][2]) + (v[i][1] + v[i][3]);
    return sums;
}
#endif

/* a * b + c, in one rounding where the instruction set can. In the kernels of bf16 an element of a
 * and b is a pair of such numbers, and both their products are added. */
INLINE vector multiply_add(vector a, vector b, vector c)
{
#if defined(NIN__KERNELS_AVX512_BF16)
    return (vector)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
#elif defined(__AVX512F__)
    return (vector)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__) && defined(__FMA__)
    return (vector)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

/* c - a * b, likewise. */
INLINE vector subtract_product(vector a, vector b, vector c)
{
#if defined(__AVX512F__)
    return (vector)_mm512_fnmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__) && defined(__FMA__)
    return (vector)_mm256_fnmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return c - a * b;
#endif
}

#if defined(__AVX512BF16__)
/* Floats rounded to pairs of bf16: of neighbours, the first eight pairs from `low`. */
INLINE vector pair_neighbours(vector low, vector high)
{
    return (vector)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
}

/* Of elements of two vectors. */
INLINE vector pair_elements(vector even, vector odd)
{
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);

    return (vector)_mm512_permutexvar_epi16(
        order, (__m512i)_mm512_cvtne2ps_pbh((__m512)odd, (__m512)even));
}
#endif

/* Where v is to take the place of what is largest so far: it is larger, or not a number. */
#if defined(__AVX512F__)
typedef __mmask16 lanes;

INLINE lanes positive(vector v)
{
    return _mm512_cmp_ps_mask((__m512)v, _mm512_setzero_ps(), _CMP_GT_OQ);
}

/* where the mark is 1 */
INLINE lanes marked(const unsigned char *marks)
{
    __m128i bytes = _mm_loadu_si128((const __m128i_u *)marks);

    return _mm_test_epi8_mask(bytes, bytes);
}

INLINE lanes takes_over(vector v, vector largest)
{
    return (lanes)(_mm512_cmp_ps_mask((__m512)v, (__m512)largest, _CMP_GT_OQ) |
                   _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q));
}

INLINE vector choose(lanes where, vector yes, vector no)
{
    return (vector)_mm512_mask_mov_ps((__m512)no, where, (__m512)yes);
}

INLINE mask choose_place(lanes where, int32_t yes, mask no)
{
    return (mask)_mm512_mask_set1_epi32((__m512i)no, where, yes);
}
#else
typedef mask lanes;

INLINE lanes positive(vector v)
{
    return v > (vector){0};
}

INLINE lanes marked(const unsigned char *marks)
{
    typedef signed char unaligned_marks __attribute__((vector_size(WIDTH), aligned(1), may_alias));

    return -__builtin_convertvector(*(const unaligned_marks *)marks, mask);
}

INLINE lanes takes_over(vector v, vector largest)
{
    return (v > largest) | (v != v);
}

INLINE vector choose(lanes where, vector yes, vector no)
{
    return (vector)(((mask)yes & where) | ((mask)no & ~where));
}

INLINE mask choose_place(lanes where, int32_t yes, mask no)
{
    return (((mask){0} + yes) & where) | (no & ~where);
}
#endif

typedef uint16_t shorts __attribute__((vector_size(2 * WIDTH)));
typedef uint16_t unaligned_shorts __attribute__((vector_size(2 * WIDTH), aligned(2), may_alias));

INLINE shorts load_places(const uint16_t *from)
{
    return *(const unaligned_shorts *)from;
}

/* v in the elements whose place is the given one, else 0. */
INLINE vector at_place(shorts at, uint16_t place, vector v)
{
#if defined(__AVX512F__)
    return (vector)_mm512_maskz_mov_ps(
        _mm256_cmpeq_epi16_mask((__m256i)at, _mm256_set1_epi16((int16_t)place)), (__m512)v);
#else
    return (vector)((mask)v & __builtin_convertvector(at == place, mask));
#endif
}

/* v in the elements whose mark is 1, else 0 */
INLINE vector keep_marked(const unsigned char *marks, vector v)
{
    return choose(marked(marks), v, (vector){0});
}

INLINE void store_places(uint16_t *to, mask at)
{
    *(unaligned_shorts *)to = __builtin_convertvector(at, unaligned_shorts);
}

/* max(v, 0); NaN stays: the instruction gives its second operand if one is not a number */
INLINE vector rectify(vector v)
{
#if defined(__AVX512F__)
    return (vector)_mm512_max_ps(_mm512_setzero_ps(), (__m512)v);
#elif defined(__AVX2__) && defined(__FMA__)
    return (vector)_mm256_max_ps(_mm256_setzero_ps(), (__m256)v);
#else
    return (vector)((mask)v & ~(v < (vector){0}));
#endif
}

/* v where gate is positive, else 0 */
INLINE vector pass(vector gate, vector v)
{
    return choose(positive(gate), v, (vector){0});
}

#endif
