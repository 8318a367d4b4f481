/* SPDX-License-Identifier: MIT */
/* What a warp does with matrices, no less strict than a GPU: all threads come to a call of one kind,
 * memory is aligned and the block's own, and what is multiplied as TF32 has been rounded. Nothing tells a thread that others have
 * written: a row may be read as soon as the thread that says where it is has come. */
#include "cuda/ptx.h"

#include "block.h"
#include "queue.h"
#include "watcher.h"

namespace
{

enum {
    SIDE = 8,        /* of a matrix that is loaded, */
    ROW_BYTES = 16,  /* whose rows are as long */
    ROWS = 16,       /* of an operand a, of sums, */
    WORDS = 8,       /* and of a row of a, or a column of b */
    MOST_DEPTH = 16, /* elements of these */
    QUAD = 4         /* lanes that have a row */
};

/* What a thread brings to a load. */
struct row {
    uint32_t *words;
    const void *memory;
    bool early;
    unsigned char bytes[ROW_BYTES];
};

void read(row *r)
{
    memcpy(r->bytes, r->memory, ROW_BYTES);
}

const row *rows_of_matrix(void *const *brought, unsigned matrix, unsigned i)
{
    return (const row *)brought[SIDE * matrix + i];
}

void read_late(void *const *brought)
{
    for (unsigned lane = 0; lane < STAND_IN_WARP; lane++)
        if (!((row *)brought[lane])->early)
            read((row *)brought[lane]);
}

void load_matrices(void *const *brought)
{
    read_late(brought);
    for (unsigned lane = 0; lane < STAND_IN_WARP; lane++)
        for (unsigned m = 0; m < STAND_IN_WARP / SIDE; m++)
            memcpy(((row *)brought[lane])->words + m,
                   rows_of_matrix(brought, m, lane / QUAD)->bytes + lane % QUAD * sizeof(uint32_t),
                   sizeof(uint32_t));
}

void load_transposed(void *const *brought)
{
    read_late(brought);
    for (unsigned lane = 0; lane < STAND_IN_WARP; lane++)
        for (unsigned m = 0; m < STAND_IN_WARP / SIDE; m++)
            for (unsigned i = 0; i < 2; i++)
                memcpy((uint16_t *)(((row *)brought[lane])->words + m) + i,
                       rows_of_matrix(brought, m, lane % QUAD * 2 + i)->bytes +
                           lane / QUAD * sizeof(uint16_t),
                       sizeof(uint16_t));
}

void load(stand_in_call call, uint32_t *words, const void *memory)
{
    row mine = {words, memory, stand_in_random_bit(), {}};

    if ((uintptr_t)memory % ROW_BYTES != 0)
        stand_in_fail("a row of a matrix that is not aligned to 16 bytes");
    if (stand_in_owns(memory, 1))
        stand_in_fail("a row of a matrix that is not in shared memory");
    if (mine.early)
        read(&mine);
    stand_in_meet(call, &mine);
}

/* What a thread brings to a product. */
struct product {
    float *sums;
    const uint32_t *a;
    uint32_t b[2];
};

/* A row of an operand, as it is multiplied. */
struct operand_row {
    float values[MOST_DEPTH];
};

/* Elements of a word; how the tensor cores have them. */
template <typename T> struct kind;

template <> struct kind<cuda_bf16> {
    static const unsigned ELEMENTS = 2;
    static const stand_in_operands OPERANDS = STAND_IN_BF16;
};

template <> struct kind<float> {
    static const unsigned ELEMENTS = 1;
    static const stand_in_operands OPERANDS = STAND_IN_TF32;
};

float multiplied(cuda_bf16 value)
{
    return __bfloat162float(value);
}

float multiplied(float value)
{
    if (std::isfinite(value) && nin__cuda_rounded_to_tf32(value) != value)
        stand_in_fail("an operand of a product in TF32 that has not been rounded");
    return value;
}

template <typename T> void take(operand_row *to, unsigned word, uint32_t bits)
{
    T elements[kind<T>::ELEMENTS];

    memcpy(elements, &bits, sizeof bits);
    for (unsigned e = 0; e < kind<T>::ELEMENTS; e++)
        to->values[word * kind<T>::ELEMENTS + e] = multiplied(elements[e]);
}

template <typename T> void take_operands(operand_row *a, operand_row *b, void *const *brought)
{
    for (unsigned lane = 0; lane < STAND_IN_WARP; lane++) {
        const product *p = (const product *)brought[lane];

        for (unsigned i = 0; i < 4; i++)
            take<T>(&a[lane / QUAD + i % 2 * SIDE], lane % QUAD + i / 2 * QUAD, p->a[i]);
        for (unsigned i = 0; i < 2; i++)
            take<T>(&b[lane / QUAD], lane % QUAD + i * QUAD, p->b[i]);
    }
}

/* Products are exact, sums are rounded one by one. */
template <typename T> void multiply_add(void *const *brought)
{
    const unsigned depth = WORDS * kind<T>::ELEMENTS;
    operand_row a[ROWS], b[SIDE];

    take_operands<T>(a, b, brought);
    for (unsigned lane = 0; lane < STAND_IN_WARP; lane++)
        for (unsigned i = 0; i < 4; i++) {
            const operand_row &row = a[lane / QUAD + i / 2 * SIDE];
            const operand_row &column = b[lane % QUAD * 2 + i % 2];
            float *sum = ((const product *)brought[lane])->sums + i;

            for (unsigned k = 0; k < depth; k++)
                *sum += row.values[k] * column.values[k];
        }
    stand_in_watched_by->multiplies_in_warp(kind<T>::OPERANDS, ROWS * SIDE * depth);
}

template <typename T> void meet(float *sums, const uint32_t *a, uint32_t b0, uint32_t b1)
{
    product mine = {sums, a, {b0, b1}};

    stand_in_meet(multiply_add<T>, &mine);
}

} // namespace

/* Every NaN becomes the same one. */
float nin__cuda_rounded_to_tf32(float v)
{
    uint32_t bits = __float_as_uint(v);

    if (v != v)
        return __uint_as_float(0x7fffffff);
    return std::isinf(v) ? v : __uint_as_float((bits + 0x1000) & ~(uint32_t)0x1fff);
}

void nin__cuda_load_matrices(uint32_t *words, const void *row)
{
    load(load_matrices, words, row);
}

void nin__cuda_load_transposed(uint32_t *words, const void *row)
{
    load(load_transposed, words, row);
}

template <>
void nin__cuda_multiply_add<cuda_bf16>(float *sums, const uint32_t *a, uint32_t b0, uint32_t b1)
{
    meet<cuda_bf16>(sums, a, b0, b1);
}

template <>
void nin__cuda_multiply_add<float>(float *sums, const uint32_t *a, uint32_t b0, uint32_t b1)
{
    meet<float>(sums, a, b0, b1);
}
