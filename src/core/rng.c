/* SPDX-License-Identifier: MIT */
#include "core/rng.h"

#include <assert.h>
#include <math.h>

#include "core/math.h"
#include "core/philox.h"

/* Blocks have 32-bit numbers. */
#define MAX_ELEMENTS (UINT64_C(4) << 32)

void nin__philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]};

    nin__philox_rounds(c, key[0], key[1]);
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

/* keep: count <= 4 - offset elements of one block, from its word offset on. */
static void mask_part(unsigned char *keep, const struct nin__mask *mask, size_t block,
                      size_t offset, size_t count)
{
    uint32_t word[4] = {(uint32_t)block, mask->counter[0], mask->counter[1], mask->counter[2]};

    nin__philox(word, word, mask->key);
    for (size_t i = 0; i < count; i++)
        keep[i] = word[offset + i] >= mask->threshold;
}

static void mask_blocks(unsigned char *keep, const struct nin__mask *mask, size_t block,
                        size_t count)
{
    nin__mask_blocks(keep, mask, block, count);
}

void nin__rng_dropout(unsigned char *keep, size_t first, size_t count, uint32_t threshold,
                      uint32_t seed, uint32_t stream, uint32_t position, int64_t step)
{
    const struct nin__mask mask = nin__mask_of(threshold, seed, stream, position, step);

    nin__rng_mask(keep, first, count, &mask, mask_blocks);
}

struct nin__mask nin__mask_of(uint32_t threshold, uint32_t seed, uint32_t stream, uint32_t position,
                              int64_t step)
{
    return (struct nin__mask){
        {seed, stream}, {position, low_half(step), high_half(step)}, threshold};
}

void nin__rng_mask(unsigned char *keep, size_t first, size_t count, const struct nin__mask *mask,
                   nin__mask_blocks_call *blocks_of)
{
    const size_t offset = first % 4;
    const size_t to_boundary = (4 - offset) % 4;
    const size_t head = to_boundary < count ? to_boundary : count;
    const size_t blocks = (count - head) / 4;
    const size_t tail = (count - head) % 4;
    const size_t block = (first + head) / 4;

    assert(first <= MAX_ELEMENTS && count <= MAX_ELEMENTS - first);
    if (head > 0)
        mask_part(keep, mask, first / 4, offset, head);
    blocks_of(keep + head, mask, block, blocks);
    if (tail > 0)
        mask_part(keep + head + 4 * blocks, mask, block + blocks, 0, tail);
}
