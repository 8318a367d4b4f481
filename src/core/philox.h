/* SPDX-License-Identifier: MIT */
#ifndef NIN__PHILOX_H
#define NIN__PHILOX_H

/* The rounds of Philox4x32-10, and whole blocks of a dropout mask made by them, to be compiled for
 * one instruction set or another. core/rng.h says what they are for. */

#include <stddef.h>
#include <stdint.h>

/* The multipliers of the rounds, and what is added to the key after each (golden ratio and
 * sqrt(3) - 1, as fractions of 2^32). */
#define MULTIPLIER_0 UINT32_C(0xd2511f53)
#define MULTIPLIER_1 UINT32_C(0xcd9e8d57)
#define KEY_STEP_0 UINT32_C(0x9e3779b9)
#define KEY_STEP_1 UINT32_C(0xbb67ae85)

static inline void nin__philox_round(uint32_t c[4], uint32_t key_0, uint32_t key_1)
{
    const uint64_t product_0 = (uint64_t)c[0] * MULTIPLIER_0;
    const uint64_t product_1 = (uint64_t)c[2] * MULTIPLIER_1;

    c[0] = (uint32_t)(product_1 >> 32) ^ c[1] ^ key_0;
    c[1] = (uint32_t)product_1;
    c[2] = (uint32_t)(product_0 >> 32) ^ c[3] ^ key_1;
    c[3] = (uint32_t)product_0;
}

/* Written out, because gcc vectorises a loop over blocks only if it finds no loop inside. */
static inline void nin__philox_rounds(uint32_t c[4], uint32_t key_0, uint32_t key_1)
{
    nin__philox_round(c, key_0, key_1);
    nin__philox_round(c, key_0 + 1u * KEY_STEP_0, key_1 + 1u * KEY_STEP_1);
    nin__philox_round(c, key_0 + 2u * KEY_STEP_0, key_1 + 2u * KEY_STEP_1);
    nin__philox_round(c, key_0 + 3u * KEY_STEP_0, key_1 + 3u * KEY_STEP_1);
    nin__philox_round(c, key_0 + 4u * KEY_STEP_0, key_1 + 4u * KEY_STEP_1);
    nin__philox_round(c, key_0 + 5u * KEY_STEP_0, key_1 + 5u * KEY_STEP_1);
    nin__philox_round(c, key_0 + 6u * KEY_STEP_0, key_1 + 6u * KEY_STEP_1);
    nin__philox_round(c, key_0 + 7u * KEY_STEP_0, key_1 + 7u * KEY_STEP_1);
    nin__philox_round(c, key_0 + 8u * KEY_STEP_0, key_1 + 8u * KEY_STEP_1);
    nin__philox_round(c, key_0 + 9u * KEY_STEP_0, key_1 + 9u * KEY_STEP_1);
}

/* What all blocks of one mask have in common. */
struct nin__mask {
    uint32_t key[2];
    uint32_t counter[3]; /* position, step low, step high */
    uint32_t threshold;
};

/* keep: 4 * count elements. One plain loop of independent blocks, for the compiler to vectorise. */
static inline void nin__mask_blocks(unsigned char *restrict keep, const struct nin__mask *mask,
                                    size_t block, size_t count)
{
    const struct nin__mask m = *mask;
    const uint32_t first = (uint32_t)block;

    for (size_t i = 0; i < count; i++) {
        uint32_t word[4] = {first + (uint32_t)i, m.counter[0], m.counter[1], m.counter[2]};
        nin__philox_rounds(word, m.key[0], m.key[1]);
        keep[4 * i + 0] = word[0] >= m.threshold;
        keep[4 * i + 1] = word[1] >= m.threshold;
        keep[4 * i + 2] = word[2] >= m.threshold;
        keep[4 * i + 3] = word[3] >= m.threshold;
    }
}

#endif
