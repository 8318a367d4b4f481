/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_LINES_H
#define NIN__CPU_KERNELS_LINES_H

/* Sixteen floats, and sixteen pairs of bf16, which both fill a row of a tile of AMX: a processor
 * that has tiles has AVX-512 with bf16 too. In plain C the same, for tests on processors that have
 * neither. */

#include "cpu/kernels/bf16.h"

#include <assert.h>
#include <stddef.h>

enum {
    LINE = 16
};

#if defined(__AVX512BF16__)
#include "cpu/kernels/vector.h"

typedef vector line;
typedef vector pairs;

/* The first `count` floats, zeros behind them; what is behind them is not touched. */
INLINE __mmask16 first_of_line(int32_t count)
{
    return (__mmask16)(count >= LINE ? 0xffff : count <= 0 ? 0 : first_lanes(count));
}

INLINE line load_line(const float *from, int32_t count)
{
    return (line)_mm512_maskz_loadu_ps(first_of_line(count), from);
}

INLINE void store_line(float *to, line values, int32_t count)
{
    _mm512_mask_storeu_ps(to, first_of_line(count), (__m512)values);
}

/* to: a row of a tile, which begins at a multiple of its size */
INLINE void store_pairs(uint32_t *to, pairs values)
{
    _mm512_store_si512(to, (__m512i)values);
}

/* What rounding to bf16 leaves of a value. */
INLINE line rest_of(line values)
{
    __m512i rounded = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)values));

    return values - (line)_mm512_slli_epi32(rounded, 16);
}

/* Rows become columns, to[n * LINE + i] = element n of rows[i]: words of rows that lie 1, 2, 4 and
 * 8 apart change places. */
INLINE void store_turned(uint32_t *to, const pairs rows[LINE])
{
    __m512i ones[LINE], twos[LINE], fours[LINE];

#pragma GCC unroll 8
    for (int32_t i = 0; i < LINE; i += 2) {
        ones[i] = _mm512_unpacklo_epi32((__m512i)rows[i], (__m512i)rows[i + 1]);
        ones[i + 1] = _mm512_unpackhi_epi32((__m512i)rows[i], (__m512i)rows[i + 1]);
    }
#pragma GCC unroll 4
    for (int32_t i = 0; i < LINE; i += 4) {
        twos[i] = _mm512_unpacklo_epi64(ones[i], ones[i + 2]);
        twos[i + 1] = _mm512_unpackhi_epi64(ones[i], ones[i + 2]);
        twos[i + 2] = _mm512_unpacklo_epi64(ones[i + 1], ones[i + 3]);
        twos[i + 3] = _mm512_unpackhi_epi64(ones[i + 1], ones[i + 3]);
    }
    /* quarter q of twos[4 * g + j] is word 4 * q + j of the rows 4 * g ... 4 * g + 3 */
#pragma GCC unroll 4
    for (int32_t j = 0; j < 4; j++) {
        fours[j] = _mm512_shuffle_i32x4(twos[j], twos[4 + j], 0x88);
        fours[4 + j] = _mm512_shuffle_i32x4(twos[j], twos[4 + j], 0xdd);
        fours[8 + j] = _mm512_shuffle_i32x4(twos[8 + j], twos[12 + j], 0x88);
        fours[12 + j] = _mm512_shuffle_i32x4(twos[8 + j], twos[12 + j], 0xdd);
    }
#pragma GCC unroll 4
    for (int32_t j = 0; j < 4; j++) {
        __m512i *column = (__m512i *)(void *)to + j;

        column[0] = _mm512_shuffle_i32x4(fours[j], fours[8 + j], 0x88);
        column[4] = _mm512_shuffle_i32x4(fours[4 + j], fours[12 + j], 0x88);
        column[8] = _mm512_shuffle_i32x4(fours[j], fours[8 + j], 0xdd);
        column[12] = _mm512_shuffle_i32x4(fours[4 + j], fours[12 + j], 0xdd);
    }
}

INLINE line add_lines(line a, line b)
{
    return a + b;
}
#else
typedef struct {
    float at[LINE];
} line;

typedef struct {
    uint32_t at[LINE];
} pairs;

static inline line load_line(const float *from, int32_t count)
{
    line values = {{0.0f}};

    for (int32_t i = 0; i < LINE && i < count; i++)
        values.at[i] = from[i];
    return values;
}

static inline void store_line(float *to, line values, int32_t count)
{
    for (int32_t i = 0; i < LINE && i < count; i++)
        to[i] = values.at[i];
}

static inline void store_pairs(uint32_t *to, pairs values)
{
    assert((uintptr_t)to % sizeof values.at == 0);
    memcpy(to, values.at, sizeof values.at);
}

static inline pairs pair_neighbours(line low, line high)
{
    pairs p;

    for (int32_t i = 0; i < LINE; i++) {
        const float *from = i < LINE / 2 ? low.at + 2 * i : high.at + 2 * i - LINE;

        p.at[i] = pair_bf16(to_bf16(from[0]), to_bf16(from[1]));
    }
    return p;
}

static inline pairs pair_elements(line even, line odd)
{
    pairs p;

    for (int32_t i = 0; i < LINE; i++)
        p.at[i] = pair_bf16(to_bf16(even.at[i]), to_bf16(odd.at[i]));
    return p;
}

static inline line rest_of(line values)
{
    for (int32_t i = 0; i < LINE; i++)
        values.at[i] -= from_bf16(to_bf16(values.at[i]));
    return values;
}

static inline void store_turned(uint32_t *to, const pairs rows[LINE])
{
    for (int32_t n = 0; n < LINE; n++)
        for (int32_t i = 0; i < LINE; i++)
            to[n * LINE + i] = rows[i].at[n];
}

static inline line add_lines(line a, line b)
{
    for (int32_t i = 0; i < LINE; i++)
        a.at[i] += b.at[i];
    return a;
}

/* max(v, 0); NaN stays */
static inline line rectify(line values)
{
    for (int32_t i = 0; i < LINE; i++)
        values.at[i] = values.at[i] < 0.0f ? 0.0f : values.at[i];
    return values;
}

/* values where gate is positive, else 0 */
static inline line pass(line gate, line values)
{
    for (int32_t i = 0; i < LINE; i++)
        values.at[i] = gate.at[i] > 0.0f ? values.at[i] : 0.0f;
    return values;
}
#endif

#endif
