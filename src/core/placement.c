/* SPDX-License-Identifier: MIT */
#include "core/placement.h"

#include <stdbool.h>

static size_t align(size_t bytes)
{
    return (bytes + NIN__ALIGNMENT - 1) / NIN__ALIGNMENT * NIN__ALIGNMENT;
}

/* Insertion sort, stable: a program has tens of blocks, and the layout must not depend on a libc's
 * qsort. */
static void sort_by_size(const struct nin__block *blocks, int32_t count, int32_t *order)
{
    for (int32_t i = 0; i < count; i++) {
        int32_t j = i;

        for (; j > 0 && blocks[order[j - 1]].bytes < blocks[i].bytes; j--)
            order[j] = order[j - 1];
        order[j] = i;
    }
}

/* Whether two blocks live at the same time and `offset` for the first would make them overlap. */
static bool collide(const struct nin__block *block, size_t offset, const struct nin__block *placed)
{
    return block->first <= placed->last && placed->first <= block->last &&
           offset < placed->offset + placed->bytes && placed->offset < offset + block->bytes;
}

/* The lowest offset where a block collides with none of the first `placed` blocks in order. */
static size_t lowest_offset(const struct nin__block *blocks, const int32_t *order, int32_t placed,
                            const struct nin__block *block)
{
    size_t offset = 0;

    for (int32_t i = 0; i < placed; i++) {
        const struct nin__block *other = &blocks[order[i]];

        if (collide(block, offset, other)) {
            offset = align(other->offset + other->bytes);
            i = -1; /* moved up: look at all of them again */
        }
    }
    return offset;
}

size_t nin__place(struct nin__block *blocks, int32_t count, int32_t *order)
{
    size_t total = 0, sum = 0;

    for (int32_t i = 0; i < count; i++) {
        if (blocks[i].bytes > SIZE_MAX / 4 || sum > SIZE_MAX / 4)
            return SIZE_MAX;
        sum += blocks[i].bytes + NIN__ALIGNMENT;
    }
    sort_by_size(blocks, count, order);
    for (int32_t i = 0; i < count; i++) {
        struct nin__block *block = &blocks[order[i]];

        block->offset = lowest_offset(blocks, order, i, block);
        if (block->offset + block->bytes > total)
            total = block->offset + block->bytes;
    }
    return align(total);
}
