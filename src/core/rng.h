/* SPDX-License-Identifier: MIT */
/*
 * Random numbers as a function, not a sequence: Philox4x32-10 (Salmon, Moraes, Dror and Shaw,
 * "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 *
 * A block of four 32-bit words is computed from a counter and a key that say what it is for:
 *
 *     key      (seed, stream)
 *     counter  (element / 4, position, step low, step high)
 *
 * where element is the index within one image in NHWC order, position the place of the image in
 * the whole batch and step the training step; word e % 4 of the block belongs to element e. There
 * is no state to keep, and the bits depend on neither chunk, padding, backend nor number of
 * machines. Initial weights and shuffles use the counter as their functions below say.
 *
 * Everything here returns the same bits on every machine (see core/math.h). Pointers are borrowed
 * for the call.
 */
#ifndef NIN_CORE_RNG_H
#define NIN_CORE_RNG_H

#include <stddef.h>
#include <stdint.h>

/* The second word of every key. The numbers are part of what a seed means: append, never change. */
enum nin__stream {
    NIN__STREAM_INIT = 0,
    NIN__STREAM_SHUFFLE = 1,
    NIN__STREAM_AUGMENT = 2,
    NIN__STREAM_DROPOUT = 256 /* dropout layer k uses NIN__STREAM_DROPOUT + k */
};

/* The block for this counter and key. out may be counter. */
void nin__philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

/*
 * Fills out with count values of U(-bound, bound); none is larger than (float)bound. Element i is
 * from word i % 4 of counter (i / 4, tensor, 0, 0), so a longer tensor begins like a shorter one.
 * At most 2^34 elements. tensor is the index of the parameter in its network.
 */
void nin__rng_uniform(float *out, size_t count, double bound, uint32_t seed, uint32_t tensor);

/*
 * The same for N(0, std^2), by Box and Muller: words 0 and 1 of a block give its elements 0 (the
 * cosine) and 1 (the sine), words 2 and 3 its elements 2 and 3. None is further out than 6.8 std.
 */
void nin__rng_normal(float *out, size_t count, double std, uint32_t seed, uint32_t tensor);

/*
 * Fills index with a permutation of 0 .. count - 1, all equally likely (as far as 32 bits of seed
 * and the epoch reach). The element that goes to place i is drawn from counter (i, retry, epoch
 * low, epoch high), where retry counts the draws rejected for being biased.
 */
void nin__rng_shuffle(int32_t *index, int32_t count, uint32_t seed, int64_t epoch);

/*
 * keep[j] = 1 if the word of element first + j is at least threshold, else 0, for j < count: an
 * element is dropped with probability threshold / 2^32. stream is NIN__STREAM_DROPOUT + layer.
 * first + count is at most 2^34. Any slicing gives the same mask; slices that start and end at
 * multiples of 4 are the cheap ones.
 */
void nin__rng_dropout(unsigned char *keep, size_t first, size_t count, uint32_t threshold,
                      uint32_t seed, uint32_t stream, uint32_t position, int64_t step);

/*
 * The same in two steps, for whoever has its own way of making whole blocks: keep gets 4 * count
 * elements, from the block of that number on.
 */
struct nin__mask;
typedef void nin__mask_blocks_call(unsigned char *keep, const struct nin__mask *mask, size_t block,
                                   size_t count);

struct nin__mask nin__mask_of(uint32_t threshold, uint32_t seed, uint32_t stream, uint32_t position,
                              int64_t step);
void nin__rng_mask(unsigned char *keep, size_t first, size_t count, const struct nin__mask *mask,
                   nin__mask_blocks_call *blocks_of);

#endif
