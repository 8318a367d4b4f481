/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_LINES_H
#define NIN__CPU_KERNELS_LINES_H

/* Sixteen floats, and sixteen pairs of bf16, which both fill a row of a tile of AMX: a processor that has tiles
 * has AVX-512 with bf16 too. In plain C the same, for tests on a stand-in for tiles. */

#include "cpu/kernels/bf16.h"

#include <stddef.h>

enum {
    LINE = 16
};

#if !defined(NIN__TILES_STAND_IN)
#include <immintrin.h>

typedef __m512 line;
typedef __m512i pairs;

/* The first `count` floats, zeros behind them; what is behind them is not touched. */
static inline __mmask16 first_of_line(int32_t count)
{
    return count >= LINE ? (__mmask16)0xffff
           : count <= 0  ? (__mmask16)0
                         : (__mmask16)((1u << count) - 1u);
}

static inline line load_line(const float *from, int32_t count)
{
    return _mm512_maskz_loadu_ps(first_of_line(count), from);
}

static inline void store_line(float *to, line values, int32_t count)
{
    _mm512_mask_storeu_ps(to, first_of_line(count), values);
}

static inline void store_pairs(uint32_t *to, pairs values)
{
    _mm512_store_si512(to, values);
}

/* Floats rounded to pairs of bf16: of neighbours, the first eight pairs from `low`. */
static inline pairs pair_neighbours(line low, line high)
{
    return (pairs)_mm512_cvtne2ps_pbh(high, low);
}

/* Of elements of two lines, those of `even` lower. */
static inline pairs pair_elements(line even, line odd)
{
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);

    return _mm512_permutexvar_epi16(order, (pairs)_mm512_cvtne2ps_pbh(odd, even));
}

/* What rounding to bf16 leaves of a value. */
static inline line rest_of(line values)
{
    __m512i rounded = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(values));

    return values - (line)_mm512_slli_epi32(rounded, 16);
}

/* Rows become columns, to[n * LINE + i] = element n of rows[i]: words of rows that lie 1, 2, 4 and 8 apart change
 * places. */
static inline void store_turned(uint32_t *to, const pairs rows[LINE])
{
    __m512i ones[LINE], twos[LINE], fours[LINE];

#pragma GCC unroll 8
    for (int32_t i = 0; i < LINE; i += 2) {
        ones[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        ones[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 4
    for (int32_t i = 0; i < LINE; i += 4) {
        twos[i] = _mm512_unpacklo_epi64(ones[i], ones[i + 2]);
        twos[i + 1] = _mm512_unpackhi_epi64(ones[i], ones[i + 2]);
        twos[i + 2] = _mm512_unpacklo_epi64(ones[i + 1], ones[i + 3]);
        twos[i + 3] = _mm512_unpackhi_epi64(ones[i + 1], ones[i + 3]);
    }
    /* twos[4 * g + j]: in each quarter q word j of ... of the rows 4 * g ... 4 * g + 3 */
#pragma GCC unroll 4
    for (int32_t j = 0; j < 4; j++) {
        fours[j] = _mm512_shuffle_i32x4(twos[j], twos[4 + j], 0x88);
        fours[4 + j] = _mm512_shuffle_i32x4(twos[j], twos[4 + j], 0xdd);
        fours[8 + j] = _mm512_shuffle_i32x4(twos[8 + j], twos[12 + j], 0x88);
        fours[12 + j] = _mm512_shuffle_i32x4(twos[8 + j], twos[12 + j], 0xdd);
    }
#pragma GCC unroll 4
    for (int32_t j = 0; j < 4; j++) {
        store_pairs(to + j * LINE, _mm512_shuffle_i32x4(fours[j], fours[8 + j], 0x88));
        store_pairs(to + (8 + j) * LINE, _mm512_shuffle_i32x4(fours[j], fours[8 + j], 0xdd));
        store_pairs(to + (4 + j) * LINE, _mm512_shuffle_i32x4(fours[4 + j], fours[12 + j], 0x88));
        store_pairs(to + (12 + j) * LINE, _mm512_shuffle_i32x4(fours[4 + j], fours[12 + j], 0xdd));
    }
}

static inline line add_lines(line a, line b)
{
    return a + b;
}

/* max(v, 0); NaN stays: the instruction gives its second operand if one is not a number */
static inline line rectify_line(line values)
{
    return _mm512_max_ps(_mm512_setzero_ps(), values);
}

/* values where gate is positive, else 0 */
static inline line pass_line(line gate, line values)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(gate, _mm512_setzero_ps(), _CMP_GT_OQ), values);
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

static inline line rectify_line(line values)
{
    for (int32_t i = 0; i < LINE; i++)
        values.at[i] = values.at[i] < 0.0f ? 0.0f : values.at[i];
    return values;
}

static inline line pass_line(line gate, line values)
{
    for (int32_t i = 0; i < LINE; i++)
        values.at[i] = gate.at[i] > 0.0f ? values.at[i] : 0.0f;
    return values;
}
#endif

#endif
