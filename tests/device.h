/* SPDX-License-Identifier: MIT */
#ifndef TESTS_DEVICE_H
#define TESTS_DEVICE_H

/* The device that tests run on: the CPU, or with NIN_TEST_DEVICE=cuda what the CUDA module has. */

#include <nin/nin.h>

#include <stdbool.h>

/* To be called first: without a device of its own a context takes the one that is tested. False,
 * with a line on stderr, if there is none. */
bool device_choose(void);
bool device_is_cuda(void);

/* Whether the device has the algorithm; those of the CPU are tested there. */
bool device_has(nin_algorithm algorithm);

/* The folder `modules/name` beside the test program. */
const char *folder_of(const char *name);

/* The module there is the one that is opened; before the first look at the devices, for a process
 * opens a module once. Or the stand-in's, unless the machine's own is what is tested. */
void use_module(const char *name);
void use_a_device_module(void);

/* *function: the one of that name in a library that is open. */
void find_in(void *library, void *function, const char *name);

/* A function of the stand-in, see cuda_on_cpu/stand_in.h; and how much it says is alive. */
void find_function(void *function, const char *name);
int alive(void);

#endif
