/* SPDX-License-Identifier: MIT */
/* What a warp does with matrices, as strict as a GPU: all threads come to the same call with the
 * same arguments, memory is aligned, and what is multiplied as TF32 has been rounded. Nothing tells
 * a thread that others have written: one may read its share as soon as it is there itself, and what
 * is stored may come late (block.cpp). */
#include "mma.h"

#include "block.h"
#include "watcher.h"

namespace
{

const uintptr_t ALIGNMENT = 32;
const size_t APART = 16; /* bytes, and multiples of them, from row to row */

struct position {
    unsigned row, column;
};

/* Share by share rows follow one another. */
position position_of(unsigned thread, unsigned element, unsigned share, unsigned columns)
{
    unsigned at = thread % STAND_IN_WARP * share + element;

    return {at / columns, at % columns};
}

void check(const void *memory, size_t row_bytes)
{
    if ((uintptr_t)memory % ALIGNMENT != 0)
        stand_in_fail("a warp's matrix that is not aligned to 32 bytes");
    if (row_bytes % APART != 0)
        stand_in_fail("a warp's matrix whose rows are not 16 bytes apart, or a multiple");
}

/* What a thread brings to a product of operands of type T. */
template <typename T> struct product {
    float *d;
    const T *a, *b;
    const float *c;
};

/* What a fragment has of the sums' depth, and how the tensor cores have operands. */
template <typename T> struct kind;

template <> struct kind<__nv_bfloat16> {
    static const unsigned DEPTH = 16;
    static const stand_in_operands OPERANDS = STAND_IN_BF16;
};

template <> struct kind<float> {
    static const unsigned DEPTH = 8;
    static const stand_in_operands OPERANDS = STAND_IN_TF32;
};

float multiplied(__nv_bfloat16 value)
{
    return __bfloat162float(value);
}

float multiplied(float value)
{
    if (std::isfinite(value) && nvcuda::wmma::__float_to_tf32(value) != value)
        stand_in_fail("an operand of a product in TF32 that has not been rounded");
    return value;
}

typedef float matrix[STAND_IN_SIDE][STAND_IN_SIDE];

/* Of a matrix of so many rows. */
template <typename T>
void take(matrix to, unsigned thread, const T *share, unsigned rows, unsigned columns)
{
    unsigned count = rows * columns / STAND_IN_WARP;

    for (unsigned e = 0; e < count; e++) {
        position at = position_of(thread, e, count, columns);

        to[at.row][at.column] = multiplied(share[e]);
    }
}

const unsigned SUMS = STAND_IN_SIDE * STAND_IN_SIDE / STAND_IN_WARP; /* that a thread has */

void give(float *share, unsigned thread, const matrix from)
{
    for (unsigned e = 0; e < SUMS; e++) {
        position at = position_of(thread, e, SUMS, STAND_IN_SIDE);

        share[e] = from[at.row][at.column];
    }
}

void take_sums(matrix to, unsigned thread, const float *share)
{
    for (unsigned e = 0; e < SUMS; e++) {
        position at = position_of(thread, e, SUMS, STAND_IN_SIDE);

        to[at.row][at.column] = share[e];
    }
}

/* Products are exact, sums are rounded one by one. */
template <typename T> void multiply_add(void *const *brought)
{
    const unsigned depth = kind<T>::DEPTH;
    matrix a, b, d;

    for (unsigned t = 0; t < STAND_IN_WARP; t++) {
        const product<T> *p = (const product<T> *)brought[t];

        take(a, t, p->a, STAND_IN_SIDE, depth);
        take(b, t, p->b, depth, STAND_IN_SIDE);
        take_sums(d, t, p->c);
    }
    for (unsigned k = 0; k < depth; k++)
        for (unsigned i = 0; i < STAND_IN_SIDE; i++)
            for (unsigned j = 0; j < STAND_IN_SIDE; j++)
                d[i][j] += a[i][k] * b[k][j];
    for (unsigned t = 0; t < STAND_IN_WARP; t++)
        give(((const product<T> *)brought[t])->d, t, d);
    stand_in_watched_by->multiplies_in_warp(kind<T>::OPERANDS,
                                            STAND_IN_SIDE * STAND_IN_SIDE * depth);
}

template <typename T> void multiply(float *d, const T *a, const T *b, const float *c)
{
    stand_in_call call = {"product", NULL, kind<T>::DEPTH, multiply_add<T>};
    product<T> mine = {d, a, b, c};

    stand_in_meet(call, &mine);
}

template <unsigned COLUMNS, typename T>
void read_share(T *share, const T *from, const stand_in_place &place)
{
    unsigned count = place.rows * COLUMNS / STAND_IN_WARP;

    for (unsigned e = 0; e < count; e++) {
        position at = position_of(threadIdx.x, e, count, COLUMNS);

        share[e] = place.turned ? from[at.column * place.row + at.row]
                                : from[at.row * place.row + at.column];
    }
}

template <typename T> void read(T *share, const T *from, const stand_in_place &place)
{
    if (place.columns == STAND_IN_SIDE)
        read_share<STAND_IN_SIDE>(share, from, place);
    else
        read_share<STAND_IN_SIDE / 2>(share, from, place);
}

template <typename T> void load(T *share, const T *from, const stand_in_place &place)
{
    stand_in_call call = {place.turned ? "load of columns" : "load of rows", from, place.row, NULL};
    bool early = stand_in_random_bit();

    check(from, place.row * sizeof *from);
    if (early)
        read(share, from, place);
    stand_in_meet(call, NULL);
    if (!early)
        read(share, from, place);
}

} // namespace

void stand_in_load(__nv_bfloat16 *share, const __nv_bfloat16 *from, stand_in_place place)
{
    load(share, from, place);
}

void stand_in_load(float *share, const float *from, stand_in_place place)
{
    load(share, from, place);
}

void stand_in_save(float *to, const float *share, unsigned row)
{
    stand_in_call call = {"store", to, row, NULL};

    check(to, row * sizeof *to);
    for (unsigned e = 0; e < SUMS; e++) {
        position at = position_of(threadIdx.x, e, SUMS, STAND_IN_SIDE);

        stand_in_store(to + at.row * row + at.column, share[e]);
    }
    stand_in_meet(call, NULL);
}

void stand_in_multiply_add(float *d, const __nv_bfloat16 *a, const __nv_bfloat16 *b, const float *c)
{
    multiply(d, a, b, c);
}

void stand_in_multiply_add(float *d, const float *a, const float *b, const float *c)
{
    multiply(d, a, b, c);
}
