/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_PHILOX_H
#define NIN__CUDA_PHILOX_H

/* Dropout's random words on the device: the bits of core/rng.h, whose comment says what key and
 * counter are. */

#include "cuda/launch.h"

/* What is the same in each step. */
struct cuda_mask {
    const struct cuda_numbers *numbers; /* the device's */
    uint32_t stream, threshold;
    float scale;
};

static inline struct cuda_mask nin__cuda_mask_of(const struct cuda_call *call)
{
    struct cuda_mask mask = {call->executable->numbers, call->op->stream, call->op->threshold,
                             call->op->keep_scale};

    return mask;
}

/* Words 4 * block ... 4 * block + 3 of an image. */
static __device__ inline void nin__cuda_philox(uint32_t word[4], const struct cuda_mask &mask,
                                               uint32_t block, uint32_t image)
{
    const struct cuda_numbers numbers = *mask.numbers;
    uint32_t key_0 = numbers.seed, key_1 = mask.stream;

    word[0] = block;
    word[1] = numbers.first_position + image;
    word[2] = numbers.step[0];
    word[3] = numbers.step[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t product_0 = (uint64_t)word[0] * UINT32_C(0xd2511f53);
        const uint64_t product_1 = (uint64_t)word[2] * UINT32_C(0xcd9e8d57);

        word[0] = (uint32_t)(product_1 >> 32) ^ word[1] ^ key_0;
        word[1] = (uint32_t)product_1;
        word[2] = (uint32_t)(product_0 >> 32) ^ word[3] ^ key_1;
        word[3] = (uint32_t)product_0;
        key_0 += UINT32_C(0x9e3779b9);
        key_1 += UINT32_C(0xbb67ae85);
    }
}

/* How many blocks of four elements an image has. */
static inline __host__ __device__ uint32_t nin__cuda_fours(uint32_t size)
{
    return (size + 3) / 4;
}

#endif
