/* SPDX-License-Identifier: MIT */
#ifndef TESTS_MMA_H
#define TESTS_MMA_H

/* A stand-in for what the tensor cores do for a warp: products of 16 x 16 matrices of bf16, with
 * sums in float. Which elements of a fragment a thread has is nobody's business, so there is no way
 * to them; see mma.cpp. */

#include "cuda_bf16.h"

enum {
    STAND_IN_SIDE = 16,
    STAND_IN_SHARE = STAND_IN_SIDE * STAND_IN_SIDE / 32 /* elements that a thread has */
};

/* A thread's share of a matrix. */
template <typename T> struct stand_in_share {
    T elements[STAND_IN_SHARE];
};

void stand_in_load(stand_in_share<__nv_bfloat16> *share, const __nv_bfloat16 *from, unsigned row,
                   bool turned);
void stand_in_save(float *to, const stand_in_share<float> &share, unsigned row);
void stand_in_multiply_add(stand_in_share<float> *d, const stand_in_share<__nv_bfloat16> &a,
                           const stand_in_share<__nv_bfloat16> &b, const stand_in_share<float> &c);

namespace nvcuda
{
namespace wmma
{

struct row_major;
struct col_major;
struct matrix_a;
struct matrix_b;
struct accumulator;

enum layout_t {
    mem_row_major
};

template <typename Use, int M, int N, int K, typename T, typename Layout = void> class fragment;

/* Members that nobody else should know. */
struct stand_in_access;

template <> class fragment<accumulator, 16, 16, 16, float>
{
    friend struct stand_in_access;
    stand_in_share<float> share;
};

template <typename Use, typename Layout> class fragment<Use, 16, 16, 16, __nv_bfloat16, Layout>
{
    friend struct stand_in_access;
    stand_in_share<__nv_bfloat16> share;
};

struct stand_in_access {
    template <typename Fragment> static auto of(Fragment &fragment) -> decltype(&fragment.share)
    {
        return &fragment.share;
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

static inline void fill_fragment(fragment<accumulator, 16, 16, 16, float> &to, float value)
{
    for (float &element : stand_in_access::of(to)->elements)
        element = value;
}

template <typename Use, typename Layout>
void fill_fragment(fragment<Use, 16, 16, 16, __nv_bfloat16, Layout> &to, __nv_bfloat16 value)
{
    for (__nv_bfloat16 &element : stand_in_access::of(to)->elements)
        element = value;
}

template <typename Use, typename Layout>
void load_matrix_sync(fragment<Use, 16, 16, 16, __nv_bfloat16, Layout> &to,
                      const __nv_bfloat16 *from, unsigned row)
{
    stand_in_load(stand_in_access::of(to), from, row, stand_in_is_turned((Layout *)NULL));
}

static inline void store_matrix_sync(float *to,
                                     const fragment<accumulator, 16, 16, 16, float> &from,
                                     unsigned row, layout_t)
{
    stand_in_save(to, *stand_in_access::of(from), row);
}

template <typename LayoutA, typename LayoutB>
void mma_sync(fragment<accumulator, 16, 16, 16, float> &d,
              const fragment<matrix_a, 16, 16, 16, __nv_bfloat16, LayoutA> &a,
              const fragment<matrix_b, 16, 16, 16, __nv_bfloat16, LayoutB> &b,
              const fragment<accumulator, 16, 16, 16, float> &c)
{
    stand_in_multiply_add(stand_in_access::of(d), *stand_in_access::of(a), *stand_in_access::of(b),
                          *stand_in_access::of(c));
}

} // namespace wmma
} // namespace nvcuda

#endif
