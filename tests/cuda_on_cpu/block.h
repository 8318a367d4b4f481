/* SPDX-License-Identifier: MIT */
#ifndef TESTS_BLOCK_H
#define TESTS_BLOCK_H

#include "cuda_runtime.h"

/* Runs `thread` as each of a block's threads, in an order that the seed picks; blockIdx and gridDim
 * are set. */
void stand_in_run_block(unsigned threads, const std::function<void()> &thread, uint32_t seed);

enum {
    STAND_IN_WARP = 32
};

/* What a warp does as one: all its threads have to come to it with the same of these. */
struct stand_in_call {
    const char *name;
    const void *memory;
    size_t number;
    void (*together)(void *const *brought); /* done once, with what each has brought; or NULL */
};

/* Goes on when all have come. */
void stand_in_meet(const stand_in_call &call, void *mine);

/* A store that others of the warp see when all have been at a barrier, or earlier. */
void stand_in_store(float *target, float value);

/* What differs from block to block. */
bool stand_in_random_bit(void);

[[noreturn]] void stand_in_fail(const char *what);

#endif
