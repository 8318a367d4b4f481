/* SPDX-License-Identifier: MIT */
#ifndef TESTS_STAND_IN_H
#define TESTS_STAND_IN_H

/* What tests say to the stand-in. They find the functions in the module by dlsym. */

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The n-th call from now on, counted from 1, of a function that can fail does so; 0: none. What is
 * done at once is the same each time from here, so whoever asks whether something is done makes the
 * same calls up to that one. Gives how many have been counted since it was last called. */
int stand_in_fail(int n);

/* What cudaPeekAtLastError would tell the application on this thread, and an error of the
 * application's own. */
int stand_in_last_error(void);
void stand_in_set_last_error(int error);

/* Every later run of the queue ends with an error that CUDA does not recover from. */
void stand_in_break(void);

/* Calls that have waited for a stream, and for an event; copies to memory of the host's that is not
 * pinned are among the former. */
int stand_in_waits(void);
int stand_in_event_waits(void);

/* Bytes of devices' memory that somebody has asked for. */
size_t stand_in_fetched(void);

/* Bytes of devices' memory that somebody has. */
size_t stand_in_taken(void);

/* The application resets device 0, which must not be used just then. */
void stand_in_reset(void);

/* A stream of the application's: of the device whose context is current; captured in the mode that
 * forbids most; whether that has come to a good end. */
void *stand_in_stream_create(void);
void stand_in_stream_destroy(void *stream);
int stand_in_stream_calls(void *stream); /* that have put work into it */
void stand_in_stream_capture(void *stream);
int stand_in_stream_captured(void *stream);

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
