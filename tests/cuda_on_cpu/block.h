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

/* What a warp does as one when all its threads have come to it, with what each has brought. */
typedef void (*stand_in_call)(void *const *brought);

/* Goes on when all have come. */
void stand_in_meet(stand_in_call call, void *mine);

/* What differs from block to block. */
bool stand_in_random_bit(void);

[[noreturn]] void stand_in_fail(const char *what);

#endif
