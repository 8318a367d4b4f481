/* SPDX-License-Identifier: MIT */
#ifndef TESTS_BLOCK_H
#define TESTS_BLOCK_H

#include "cuda_runtime.h"

/* Runs `thread` as each of a block's threads, in an order that the seed picks; blockIdx and gridDim are set. */
void stand_in_run_block(unsigned threads, const std::function<void()> &thread, uint32_t seed);

#endif
