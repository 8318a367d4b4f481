/* SPDX-License-Identifier: MIT */
#include "core/rng.h"

#include <assert.h>
#include <math.h>

#include "core/math.h"

/* The multipliers of the rounds, and what is added to the key after each (golden ratio and
 * sqrt(3) - 1, as fractions of 2^32). */
#define MULTIPLIER_0 UINT32_C(0xd2511f53)
#define MULTIPLIER_1 UINT32_C(0xcd9e8d57)
#define KEY_STEP_0 UINT32_C(0x9e3779b9)
#define KEY_STEP_1 UINT32_C(0xbb67ae85)

/* Blocks have 32-bit numbers. */
#define MAX_ELEMENTS (UINT64_C(4) << 32)

static inline void philox_round(uint32_t c[4], uint32_t key_0, uint32_t key_1)
{
    const uint64_t product_0 = (uint64_t)c[0] * MULTIPLIER_0;
    const uint64_t product_1 = (uint64_t)c[2] * MULTIPLIER_1;

    c[0] = (uint32_t)(product_1 >> 32) ^ c[1] ^ key_0;
    c[1] = (uint32_t)product_1;
    c[2] = (uint32_t)(product_0 >> 32) ^ c[3] ^ key_1;
    c[3] = (uint32_t)product_0;
}

/* Written out, because gcc vectorises a loop over blocks only if it finds no loop inside. */
static inline void philox_rounds(uint32_t c[4], uint32_t key_0, uint32_t key_1)
{
    philox_round(c, key_0, key_1);
    philox_round(c, key_0 + 1u * KEY_STEP_0, key_1 + 1u * KEY_STEP_1);
    philox_round(c, key_0 + 2u * KEY_STEP_0, key_1 + 2u * KEY_STEP_1);
    philox_round(c, key_0 + 3u * KEY_STEP_0, key_1 + 3u * KEY_STEP_1);
    philox_round(c, key_0 + 4u * KEY_STEP_0, key_1 + 4u * KEY_STEP_1);
    philox_round(c, key_0 + 5u * KEY_STEP_0, key_1 + 5u * KEY_STEP_1);
    philox_round(c, key_0 + 6u * KEY_STEP_0, key_1 + 6u * KEY_STEP_1);
    philox_round(c, key_0 + 7u * KEY_STEP_0, key_1 + 7u * KEY_STEP_1);
    philox_round(c, key_0 + 8u * KEY_STEP_0, key_1 + 8u * KEY_STEP_1);
    philox_round(c, key_0 + 9u * KEY_STEP_0, key_1 + 9u * KEY_STEP_1);
}

void nin__philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]};

    philox_rounds(c, key[0], key[1]);
    for (int i = 0; i < 4; i++)
        out[i] = c[i];
}

static uint32_t low_half(int64_t x)
{
    return (uint32_t)x;
}

static uint32_t high_half(int64_t x)
{
    return (uint32_t)((uint64_t)x >> 32);
}

/* The middle of the w-th of 2^32 equal parts of (0, 1): never 0, never 1, and exact. */
static double unit_interval(uint32_t w)
{
    return (w + 0.5) * 0x1p-32;
}

static void init_block(uint32_t out[4], size_t block, uint32_t seed, uint32_t tensor)
{
    const uint32_t counter[4] = {(uint32_t)block, tensor, 0, 0};
    const uint32_t key[2] = {seed, NIN__STREAM_INIT};

    nin__philox(out, counter, key);
}

void nin__rng_uniform(float *out, size_t count, double bound, uint32_t seed, uint32_t tensor)
{
    uint32_t word[4] = {0};

    assert(count <= MAX_ELEMENTS);
    for (size_t i = 0; i < count; i++) {
        if (i % 4 == 0)
            init_block(word, i / 4, seed, tensor);
        out[i] = (float)(bound * (2.0 * unit_interval(word[i % 4]) - 1.0));
    }
}

/* Two independent values of N(0, 1) from two words. */
static void normal_pair(double out[2], uint32_t w0, uint32_t w1)
{
    const double radius = sqrt(-2.0 * nin__log(unit_interval(w0)));
    double s, c;

    nin__sincospi(2.0 * unit_interval(w1), &s, &c);
    out[0] = radius * c;
    out[1] = radius * s;
}

void nin__rng_normal(float *out, size_t count, double std, uint32_t seed, uint32_t tensor)
{
    uint32_t word[4] = {0};
    double pair[2] = {0};

    assert(count <= MAX_ELEMENTS);
    for (size_t i = 0; i < count; i++) {
        if (i % 4 == 0)
            init_block(word, i / 4, seed, tensor);
        if (i % 2 == 0)
            normal_pair(pair, word[i % 4], word[i % 4 + 1]);
        out[i] = (float)(std * pair[i % 2]);
    }
}

/*
 * A number below n, each equally likely (Lemire, "Fast random integer generation in an interval",
 * 2019): the high half of word * n, unless the low half falls among the 2^32 mod n products that
 * some numbers have in excess. That remainder costs a division and is below n, so the cheap test
 * comes first.
 */
static uint32_t draw_below(uint32_t n, uint32_t seed, int64_t epoch)
{
    const uint32_t key[2] = {seed, NIN__STREAM_SHUFFLE};

    for (uint32_t retry = 0;; retry++) {
        uint32_t word[4] = {n - 1, retry, low_half(epoch), high_half(epoch)};
        nin__philox(word, word, key);
        const uint64_t product = (uint64_t)word[0] * n;
        const uint32_t low = (uint32_t)product;
        if (low >= n || low >= (0u - n) % n)
            return (uint32_t)(product >> 32);
    }
}

void nin__rng_shuffle(int32_t *index, int32_t count, uint32_t seed, int64_t epoch)
{
    for (int32_t i = 0; i < count; i++)
        index[i] = i;
    for (int32_t i = count - 1; i > 0; i--) {
        const uint32_t j = draw_below((uint32_t)i + 1, seed, epoch);
        const int32_t moved = index[i];
        index[i] = index[j];
        index[j] = moved;
    }
}

/* What all blocks of one mask have in common. */
struct mask {
    uint32_t key[2];
    uint32_t counter[3]; /* position, step low, step high */
    uint32_t threshold;
};

/* keep: count <= 4 - offset elements of one block, from its word offset on. */
static void mask_part(unsigned char *keep, const struct mask *mask, size_t block, size_t offset,
                      size_t count)
{
    uint32_t word[4] = {(uint32_t)block, mask->counter[0], mask->counter[1], mask->counter[2]};

    nin__philox(word, word, mask->key);
    for (size_t i = 0; i < count; i++)
        keep[i] = word[offset + i] >= mask->threshold;
}

/* keep: 4 * count elements. One plain loop of independent blocks, for the compiler to vectorise. */
static void mask_blocks(unsigned char *restrict keep, const struct mask *mask, size_t block,
                        size_t count)
{
    const struct mask m = *mask;
    const uint32_t first = (uint32_t)block;

    for (size_t i = 0; i < count; i++) {
        uint32_t word[4] = {first + (uint32_t)i, m.counter[0], m.counter[1], m.counter[2]};
        philox_rounds(word, m.key[0], m.key[1]);
        keep[4 * i + 0] = word[0] >= m.threshold;
        keep[4 * i + 1] = word[1] >= m.threshold;
        keep[4 * i + 2] = word[2] >= m.threshold;
        keep[4 * i + 3] = word[3] >= m.threshold;
    }
}

void nin__rng_dropout(unsigned char *keep, size_t first, size_t count, uint32_t threshold,
                      uint32_t seed, uint32_t stream, uint32_t position, int64_t step)
{
    const struct mask mask = {
        {seed, stream}, {position, low_half(step), high_half(step)}, threshold};
    const size_t offset = first % 4;
    const size_t to_boundary = (4 - offset) % 4;
    const size_t head = to_boundary < count ? to_boundary : count;
    const size_t blocks = (count - head) / 4;
    const size_t tail = (count - head) % 4;
    const size_t block = (first + head) / 4;

    assert(first <= MAX_ELEMENTS && count <= MAX_ELEMENTS - first);
    if (head > 0)
        mask_part(keep, &mask, first / 4, offset, head);
    mask_blocks(keep + head, &mask, block, blocks);
    if (tail > 0)
        mask_part(keep + head + 4 * blocks, &mask, block + blocks, 0, tail);
}
