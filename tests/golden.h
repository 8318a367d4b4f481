/* SPDX-License-Identifier: MIT */
#ifndef GOLDEN_H
#define GOLDEN_H

/* Reads the golden files: arrays under names, as tests/golden/make.py has written them. The head of
 * that script says what each file holds. */

#include <stddef.h>
#include <stdint.h>

#define GOLDEN_MAX_RANK 8

/* Types of the data. */
enum {
    GOLDEN_F32 = 1,
    GOLDEN_I32 = 2,
    GOLDEN_F64 = 3
};

typedef struct golden golden;

typedef struct {
    uint32_t dtype;
    uint32_t rank;
    uint64_t dims[GOLDEN_MAX_RANK]; /* 1 behind the rank */
    size_t count;                   /* the product of dims */
    const void *data;               /* count values in C order, in this machine's byte order */
} golden_array;

/* Reads a whole file. The result is owned by the caller; NULL if the file can't be read, is damaged
 * or too large, or if there is no memory. */
golden *golden_open(const char *path);

/* The array of that name, borrowed until golden_close; NULL if there is none, or no golden. */
const golden_array *golden_find(const golden *file, const char *name);

/* Frees everything. NULL is fine. */
void golden_close(golden *file);

/* Fills out with count values in [-bound, bound] that follow from their position and the tensor's
 * number alone, the same bits as fill() of make.py. */
void golden_fill(float *out, size_t count, uint32_t tensor, double bound);

#endif
