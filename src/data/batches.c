/* SPDX-License-Identifier: MIT */
#include "data/dataset.h"

#include <assert.h>

/* ceil(a / b) for a >= 1, b >= 1, without the sum that could overflow. */
static int64_t divide_up(int64_t a, int64_t b)
{
    return (a - 1) / b + 1;
}

struct nin__batches nin__batches(int64_t count, int64_t batch)
{
    assert(count >= 1 && batch >= 1);
    /* torch.chunk may give fewer pieces than it is asked for, but not here: size <= batch, so
     * that it takes at least ceil(count / batch) pieces to hold everything. */
    const int64_t pieces = divide_up(count, batch);

    return (struct nin__batches){.pieces = pieces, .size = divide_up(count, pieces)};
}

void nin__batch_range(struct nin__batches batches, int64_t count, int64_t piece, int64_t *first,
                      int32_t *images)
{
    assert(piece >= 0 && piece < batches.pieces);
    const int64_t begin = piece * batches.size;
    const int64_t left = count - begin;

    *first = begin;
    *images = (int32_t)(left < batches.size ? left : batches.size);
}
