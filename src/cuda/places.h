/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_PLACES_H
#define NIN__CUDA_PLACES_H

/* Where in a map an element lies. That takes divisions, which a GPU has no instruction for: by
 * numbers that the host knows they are multiplications. */

#include "cuda/launch.h"

/* A number, 1 or more, that numbers below 2^31 are divided by. */
struct divisor {
    uint32_t value, factor, shift;
};

/* factor / 2^(31 + shift) is 1 / value and less than 2^-31 / value more, for value is no more than
 * 2^shift: below 2^31 that never reaches the next quotient. */
static inline struct divisor nin__cuda_divisor(uint32_t value)
{
    struct divisor d = {value, 0, 0};

    while (d.shift < 31 && (uint32_t)1 << d.shift < value)
        d.shift++;
    d.factor = (uint32_t)((((uint64_t)1 << (31 + d.shift)) + value - 1) / value);
    return d;
}

static __device__ inline uint32_t nin__cuda_quotient(uint32_t n, const struct divisor &d)
{
    return (uint32_t)((uint64_t)(2 * n) * d.factor >> 32) >> d.shift;
}

/* The elements of an image that threads have, [row][column][channel]: fewer than 2^31. */
struct map {
    uint32_t size;
    struct divisor blocks, width, channels;
};

static inline struct map nin__cuda_map(int32_t rows, int32_t width, int32_t channels)
{
    uint32_t size = (uint32_t)rows * (uint32_t)width * (uint32_t)channels;
    struct map map = {size, nin__cuda_divisor(nin__cuda_blocks_of(size)),
                      nin__cuda_divisor((uint32_t)width), nin__cuda_divisor((uint32_t)channels)};

    return map;
}

/* This thread's image, and its element, which may lie behind the last. */
static __device__ inline struct image_element nin__cuda_element(const struct map &map)
{
    uint32_t image = nin__cuda_quotient(blockIdx.x, map.blocks);
    struct image_element at = {image,
                               (blockIdx.x - image * map.blocks.value) * BLOCK + threadIdx.x};

    return at;
}

struct place {
    int32_t row, column, channel;
};

static __device__ inline struct place nin__cuda_place(uint32_t element, const struct map &map)
{
    uint32_t pixel = nin__cuda_quotient(element, map.channels);
    uint32_t row = nin__cuda_quotient(pixel, map.width);
    struct place place = {(int32_t)row, (int32_t)(pixel - row * map.width.value),
                          (int32_t)(element - pixel * map.channels.value)};

    return place;
}

#endif
