/* SPDX-License-Identifier: MIT */
#ifndef TESTS_INTERPOSE_H
#define TESTS_INTERPOSE_H

/* The test program's own malloc and its family, mmap and pthread_create: they count what the whole
 * process asks for, and fail when a test wants them to. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether calls come here at all. Not under a sanitizer or valgrind, which have their own malloc,
 * nor with a C library other than glibc. */
bool interpose_works(void);

struct interpose_counts {
    int64_t calls;  /* of the malloc family, also free */
    int64_t blocks; /* that are allocated now */
    int64_t bytes;  /* in these blocks */
};

/* Of all threads together. */
struct interpose_counts interpose_counts(void);

/* From now on, on this thread, call number n (from 0) of malloc and its family, mmap and
 * pthread_create fails; with `onwards` so does each one after it. What OpenBLAS and jansson call is
 * neither counted nor failed: the one never returns from a failure, the other ends the process. */
void interpose_fail(int64_t n, bool onwards);

/* Ends that, and gives how many calls have failed. */
int64_t interpose_stop(void);

#endif
