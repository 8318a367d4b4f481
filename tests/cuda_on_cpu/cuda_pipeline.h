/* SPDX-License-Identifier: MIT */
#ifndef TESTS_CUDA_PIPELINE_H
#define TESTS_CUDA_PIPELINE_H

/* Copies into shared memory while a thread goes on: block.cpp makes some of them at once, and the
 * others when the thread waits for them. */

#include "cuda_runtime.h"

void __pipeline_memcpy_async(void *target, const void *source, size_t size, size_t zeros = 0);
void __pipeline_commit(void);
void __pipeline_wait_prior(size_t groups);

#endif
