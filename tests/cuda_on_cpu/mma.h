/* SPDX-License-Identifier: MIT */
#ifndef TESTS_MMA_H
#define TESTS_MMA_H

/* A stand-in for what the tensor cores do for a warp: products of a 16 x K matrix and a K x 16 one,
 * with sums in float; of bf16 K is 16, of TF32, which are floats in memory, 8. Which elements of a
 * fragment a thread has is nobody's business, so there is no way to them, but for those of TF32:
 * whoever has loaded them has to round them, each by itself. See mma.cpp. */

#include "cuda_bf16.h"

enum {
    STAND_IN_SIDE = 16,
    STAND_IN_LANES = 32
};

/* What a thread has of a matrix. */
template <typename T, int ROWS, int COLUMNS> struct stand_in_share {
    enum {
        rows = ROWS,
        columns = COLUMNS,
        num_elements = ROWS * COLUMNS / STAND_IN_LANES
    };
    T x[num_elements];
};

/* A matrix of which elements are loaded, `row` apart in memory from row to row; turned: from column
 * to column. */
struct stand_in_place {
    unsigned rows, columns, row;
    bool turned;
};

void stand_in_load(__nv_bfloat16 *share, const __nv_bfloat16 *from, stand_in_place place);
void stand_in_load(float *share, const float *from, stand_in_place place);
void stand_in_save(float *to, const float *share, unsigned row);
void stand_in_multiply_add(float *d, const __nv_bfloat16 *a, const __nv_bfloat16 *b,
                           const float *c);
void stand_in_multiply_add(float *d, const float *a, const float *b, const float *c);

namespace nvcuda
{
namespace wmma
{

struct row_major;
struct col_major;
struct matrix_a;
struct matrix_b;
struct accumulator;

namespace precision
{
struct tf32;
}

enum layout_t {
    mem_row_major
};

template <typename Use, int M, int N, int K, typename T, typename Layout = void> class fragment;

/* Members that nobody else should know. */
struct stand_in_access;

template <int K> class fragment<accumulator, 16, 16, K, float>
{
    friend struct stand_in_access;
    stand_in_share<float, 16, 16> share;
};

template <typename Use, typename Layout> class fragment<Use, 16, 16, 16, __nv_bfloat16, Layout>
{
    friend struct stand_in_access;
    stand_in_share<__nv_bfloat16, 16, 16> share;
};

template <typename Layout>
class fragment<matrix_a, 16, 16, 8, precision::tf32, Layout> : public stand_in_share<float, 16, 8>
{
};

template <typename Layout>
class fragment<matrix_b, 16, 16, 8, precision::tf32, Layout> : public stand_in_share<float, 8, 16>
{
};

struct stand_in_access {
    template <typename Fragment> static auto of(Fragment &fragment) -> decltype(&fragment.share)
    {
        return &fragment.share;
    }

    template <typename T, int ROWS, int COLUMNS>
    static stand_in_share<T, ROWS, COLUMNS> *of(stand_in_share<T, ROWS, COLUMNS> &share)
    {
        return &share;
    }

    template <typename T, int ROWS, int COLUMNS>
    static const stand_in_share<T, ROWS, COLUMNS> *of(const stand_in_share<T, ROWS, COLUMNS> &share)
    {
        return &share;
    }
};

static inline bool stand_in_is_turned(row_major *)
{
    return false;
}

static inline bool stand_in_is_turned(col_major *)
{
    return true;
}

/* To nearest, of two such away from zero; every NaN becomes the same one. */
static inline float __float_to_tf32(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    if (value != value)
        bits = 0x7fffffff;
    else if ((bits & 0x7f800000) != 0x7f800000)
        bits = (bits + 0x1000) & ~(uint32_t)0x1fff;
    memcpy(&value, &bits, sizeof value);
    return value;
}

template <typename Fragment, typename T> void fill_fragment(Fragment &to, T value)
{
    for (auto &element : stand_in_access::of(to)->x)
        element = value;
}

template <typename Use, int K, typename T, typename E, typename Layout>
void load_matrix_sync(fragment<Use, 16, 16, K, T, Layout> &to, const E *from, unsigned row)
{
    auto *share = stand_in_access::of(to);
    stand_in_place place = {(unsigned)share->rows, (unsigned)share->columns, row,
                            stand_in_is_turned((Layout *)NULL)};

    stand_in_load(share->x, from, place);
}

template <int K>
void store_matrix_sync(float *to, const fragment<accumulator, 16, 16, K, float> &from, unsigned row,
                       layout_t)
{
    stand_in_save(to, stand_in_access::of(from)->x, row);
}

template <int K, typename T, typename LayoutA, typename LayoutB>
void mma_sync(fragment<accumulator, 16, 16, K, float> &d,
              const fragment<matrix_a, 16, 16, K, T, LayoutA> &a,
              const fragment<matrix_b, 16, 16, K, T, LayoutB> &b,
              const fragment<accumulator, 16, 16, K, float> &c)
{
    stand_in_multiply_add(stand_in_access::of(d)->x, stand_in_access::of(a)->x,
                          stand_in_access::of(b)->x, stand_in_access::of(c)->x);
}

} // namespace wmma
} // namespace nvcuda

#endif
