/* SPDX-License-Identifier: MIT */
#include "core/placement.h"

#include <stdbool.h>

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

static bool live_together(const struct nin__block *a, const struct nin__block *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* The lowest offset where a block overlaps none of the placed ones, which are in the order of their
 * offsets. */
static size_t lowest_offset(const struct nin__block *blocks, const int32_t *by_offset,
                            int32_t placed, const struct nin__block *block)
{
    size_t offset = 0;

    for (int32_t i = 0; i < placed; i++) {
        const struct nin__block *other = &blocks[by_offset[i]];

        if (other->offset >= offset + block->bytes)
            break; /* it and all behind it begin above */
        if (live_together(block, other) && other->offset + other->bytes > offset)
            offset = nin__align(other->offset + other->bytes);
    }
    return offset;
}

static void insert_by_offset(const struct nin__block *blocks, int32_t *by_offset, int32_t placed,
                             int32_t added)
{
    int32_t i = placed;

    for (; i > 0 && blocks[by_offset[i - 1]].offset > blocks[added].offset; i--)
        by_offset[i] = by_offset[i - 1];
    by_offset[i] = added;
}

size_t nin__place(struct nin__block *blocks, int32_t count, int32_t *order)
{
    int32_t *by_offset = order + count;
    size_t total = 0, sum = 0;

    for (int32_t i = 0; i < count; i++) {
        if (blocks[i].bytes > SIZE_MAX / 4 || sum > SIZE_MAX / 4)
            return SIZE_MAX;
        sum += blocks[i].bytes + NIN__ALIGNMENT;
    }
    sort_by_size(blocks, count, order);
    for (int32_t i = 0; i < count; i++) {
        struct nin__block *block = &blocks[order[i]];

        block->offset = lowest_offset(blocks, by_offset, i, block);
        insert_by_offset(blocks, by_offset, i, order[i]);
        if (block->offset + block->bytes > total)
            total = block->offset + block->bytes;
    }
    return nin__align(total);
}
