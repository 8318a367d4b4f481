/* SPDX-License-Identifier: MIT */
#ifndef TESTS_DEVICE_H
#define TESTS_DEVICE_H

/* The device that tests run on: the CPU, or with NIN_TEST_DEVICE=cuda what the CUDA module has. */

#include <nin/nin.h>

#include <stdbool.h>

/* To be called first: without a device of its own a context takes the one that is tested. False, with a line on
 * stderr, if there is none. */
bool device_choose(void);
bool device_is_cuda(void);

/* Whether the device has the algorithm; those of the CPU are tested there. */
bool device_has(nin_algorithm algorithm);

#endif
