/* SPDX-License-Identifier: MIT */
/* What a warp does with matrices, as strict as a GPU: all threads come to the same call with the
 * same arguments, and memory is aligned. Nothing tells a thread that others have written: one may
 * read its share as soon as it is there itself, and what is stored may come late (block.cpp). */
#include "mma.h"

#include "block.h"
#include "watcher.h"

namespace
{

const uintptr_t ALIGNMENT = 32;

/* Share by share rows follow one another. */
struct place {
    unsigned row, column;
};

place place_of(unsigned thread, unsigned element)
{
    unsigned at = thread % STAND_IN_WARP * STAND_IN_SHARE + element;

    return {at / STAND_IN_SIDE, at % STAND_IN_SIDE};
}

void check(const void *memory, unsigned row, unsigned multiple)
{
    if ((uintptr_t)memory % ALIGNMENT != 0)
        stand_in_fail("a warp's matrix that is not aligned to 32 bytes");
    if (row % multiple != 0)
        stand_in_fail("a warp's matrix whose rows are not 16 bytes apart, or a multiple");
}

/* What a thread brings to a product. */
struct product {
    float *d;
    const __nv_bfloat16 *a, *b;
    const float *c;
};

typedef float matrix[STAND_IN_SIDE][STAND_IN_SIDE];

float wide(float value)
{
    return value;
}

float wide(__nv_bfloat16 value)
{
    return __bfloat162float(value);
}

template <typename T> void take(matrix to, unsigned thread, const T *share)
{
    for (unsigned e = 0; e < STAND_IN_SHARE; e++) {
        place at = place_of(thread, e);

        to[at.row][at.column] = wide(share[e]);
    }
}

/* Products are exact, sums are rounded one by one. */
void multiply_add(void *const *brought)
{
    matrix a, b, d;

    for (unsigned t = 0; t < STAND_IN_WARP; t++) {
        const product *p = (const product *)brought[t];

        take(a, t, p->a);
        take(b, t, p->b);
        take(d, t, p->c);
    }
    for (unsigned k = 0; k < STAND_IN_SIDE; k++)
        for (unsigned i = 0; i < STAND_IN_SIDE; i++)
            for (unsigned j = 0; j < STAND_IN_SIDE; j++)
                d[i][j] += a[i][k] * b[k][j];
    for (unsigned t = 0; t < STAND_IN_WARP; t++)
        for (unsigned e = 0; e < STAND_IN_SHARE; e++) {
            place at = place_of(t, e);

            ((const product *)brought[t])->d[e] = d[at.row][at.column];
        }
    stand_in_watched_by->multiplies_in_warp(STAND_IN_BF16,
                                            STAND_IN_SIDE * STAND_IN_SIDE * STAND_IN_SIDE);
}

void read(stand_in_share<__nv_bfloat16> *share, const __nv_bfloat16 *from, unsigned row,
          bool turned)
{
    for (unsigned e = 0; e < STAND_IN_SHARE; e++) {
        place at = place_of(threadIdx.x, e);

        share->elements[e] =
            turned ? from[at.column * row + at.row] : from[at.row * row + at.column];
    }
}

} // namespace

void stand_in_load(stand_in_share<__nv_bfloat16> *share, const __nv_bfloat16 *from, unsigned row,
                   bool turned)
{
    stand_in_call call = {turned ? "load of columns" : "load of rows", from, row, NULL};
    bool early = stand_in_random_bit();

    check(from, row, 8);
    if (early)
        read(share, from, row, turned);
    stand_in_meet(call, NULL);
    if (!early)
        read(share, from, row, turned);
}

void stand_in_save(float *to, const stand_in_share<float> &share, unsigned row)
{
    stand_in_call call = {"store", to, row, NULL};

    check(to, row, 4);
    for (unsigned e = 0; e < STAND_IN_SHARE; e++) {
        place at = place_of(threadIdx.x, e);

        stand_in_store(to + at.row * row + at.column, share.elements[e]);
    }
    stand_in_meet(call, NULL);
}

void stand_in_multiply_add(stand_in_share<float> *d, const stand_in_share<__nv_bfloat16> &a,
                           const stand_in_share<__nv_bfloat16> &b, const stand_in_share<float> &c)
{
    stand_in_call call = {"product", NULL, 0, multiply_add};
    product mine = {d->elements, a.elements, b.elements, c.elements};

    stand_in_meet(call, &mine);
}
