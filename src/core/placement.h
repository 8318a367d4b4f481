/* SPDX-License-Identifier: MIT */
#ifndef NIN__PLACEMENT_H
#define NIN__PLACEMENT_H

#include <stddef.h>
#include <stdint.h>

/* Lays blocks of memory out in one piece, so that blocks which are never alive at the same time may
 * share bytes. */
struct nin__block {
    size_t bytes;
    int32_t first, last; /* alive from time first to time last, both included */
    size_t offset;       /* out: a multiple of NIN__ALIGNMENT */
};

enum {
    NIN__ALIGNMENT = 64
};

static inline size_t nin__align(size_t bytes)
{
    return (bytes + NIN__ALIGNMENT - 1) / NIN__ALIGNMENT * NIN__ALIGNMENT;
}

/* Places the blocks, largest first, each at the lowest offset where it overlaps no placed block in
 * time and space. Gives the total of bytes, or SIZE_MAX if it does not fit into a size_t. `order`
 * is scratch for 2 * count numbers. */
size_t nin__place(struct nin__block *blocks, int32_t count, int32_t *order);

#endif
