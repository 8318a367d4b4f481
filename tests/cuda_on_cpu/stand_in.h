/* SPDX-License-Identifier: MIT */
#ifndef TESTS_STAND_IN_H
#define TESTS_STAND_IN_H

/* What tests say to the stand-in. They find the functions in the module by dlsym. */

#ifdef __cplusplus
extern "C" {
#endif

/* The n-th call from now on, counted from 1, of a function that can fail does so; 0: none. Gives how many have
 * been counted since it was last called. */
int stand_in_fail(int n);

/* Every later run of the queue ends with an error that CUDA does not recover from. */
void stand_in_break(void);

/* Pieces of memory of devices and of pinned memory, streams and handles that there are. */
int stand_in_alive(void);

/* Graphs that have been launched. */
int stand_in_graphs(void);

/* Products of cublasLt that have been asked for. */
int stand_in_matmuls(void);

/* The context that is current on this thread, NULL for none. */
void *stand_in_current(void);
void stand_in_push(void *context);

#ifdef __cplusplus
}
#endif
#endif
