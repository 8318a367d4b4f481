/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_PAIRS_H
#define NIN__CPU_KERNELS_PAIRS_H

/* Products in bf16 for processors that multiply pairs of it (AVX512_BF16). A pair is as wide as a
 * float, so the tiles of product.h do this too: its `depth`, and the rows of its outer product,
 * then count pairs, and its multiply_add adds both products of one. What is left to do here is to
 * round operands into pairs, a block at a time, which stays in the cache of the first level. */

#include "cpu/kernels/bf16.h"
#include "cpu/kernels/product.h"

enum {
    BLOCK_ROWS = 112, /* of a product */
    BLOCK_PAIRS = 56  /* of an outer product's rows */
};

static int32_t pairs_of(int32_t count)
{
    return (count + 1) / 2;
}

/* ---- packing ------------------------------------------------------------------------------ */

static size_t packed_bytes(int32_t depth, int32_t columns)
{
    return packed_size(pairs_of(depth), columns) * sizeof(float);
}

/* Element n of the row of b that `from` points to. */
static uint16_t packed_element(const struct cpu_packing *p, const float *from, int32_t n)
{
    return to_bf16(from[n % p->inner * p->inner_step + n / p->inner * p->outer_step]);
}

/* One row of a panel: pairs of the elements of rows k and k + 1 of b, zeros behind the last
 * column. */
static void pack_pair(uint32_t *row, const struct cpu_packing *p, int32_t k, int32_t at,
                      int32_t width)
{
    const float *from = p->source + k * p->depth_step;

    for (int32_t n = at; n < at + width; n++) {
        bool there = n < p->columns, both = there && k + 1 < p->count;

        row[n - at] = pair_bf16(there ? packed_element(p, from, n) : 0,
                                both ? packed_element(p, from + p->depth_step, n) : 0);
    }
}

/* As product.h's panels, of pairs. */
static void pack_pairs(const struct cpu_packing *p)
{
    uint32_t *packed = (uint32_t *)(void *)p->packed;
    struct panel panel;

    for (int32_t at = 0; at < p->columns; at += panel.vectors * WIDTH) {
        int32_t width;

        panel = panel_at(at, p->columns);
        width = panel.vectors * WIDTH;
        for (int32_t k = 0; k < p->count; k += 2)
            pack_pair(packed + (ptrdiff_t)at * pairs_of(p->depth) +
                          (ptrdiff_t)((p->first + k) / 2) * width,
                      p, k, at, width);
    }
}

/* ---- c = a * b ---------------------------------------------------------------------------- */

/* A row of a as pairs of neighbours; the last of an odd number has a 0 beside it. */
static void pair_row(float *to, const float *from, int32_t count)
{
    int32_t k = 0;

    for (; k + 2 * WIDTH <= count; k += 2 * WIDTH, to += WIDTH)
        store(to, pair_neighbours(load(from + k), load(from + k + WIDTH)));
    if (k < count) {
        int32_t low = count - k < WIDTH ? count - k : WIDTH, high = count - k - low;
        vector second = high > 0 ? load_part(from + k + WIDTH, high) : (vector){0};

        store_part(to, pair_neighbours(load_part(from + k, low), second), pairs_of(count - k));
    }
}

static void multiply_pairs(const struct cpu_product *p, void *scratch)
{
    struct cpu_product block = *p;
    float *pairs = scratch;

    block.a = pairs;
    block.depth = pairs_of(p->depth);
    block.a_row = block.depth;
    for (int32_t row = 0; row < p->rows; row += block.rows) {
        block.rows = p->rows - row < BLOCK_ROWS ? p->rows - row : BLOCK_ROWS;
        for (int32_t i = 0; i < block.rows; i++)
            pair_row(pairs + i * block.a_row, p->a + (row + i) * p->a_row, p->depth);
        block.c = p->c + row * p->c_row;
        block.gate = p->gate == NULL ? NULL : p->gate + row * p->c_row;
        multiply(&block);
    }
}

/* ---- c += a' * b -------------------------------------------------------------------------- */

/* Two rows as pairs of the elements that lie below each other; `odd` NULL for a row of zeros. What
 * lies so far ahead of them is fetched meanwhile. */
static void pair_rows(float *to, const float *even, const float *odd, int32_t count,
                      ptrdiff_t ahead)
{
    int32_t k = 0;

    for (; k + WIDTH <= count; k += WIDTH) {
        store(to + k, pair_elements(load(even + k), odd == NULL ? (vector){0} : load(odd + k)));
        __builtin_prefetch(even + k + ahead, 0, 2);
        __builtin_prefetch((odd == NULL ? even : odd) + k + ahead, 0, 2);
    }
    if (k < count)
        store_part(to + k,
                   pair_elements(load_part(even + k, count - k),
                                 odd == NULL ? (vector){0} : load_part(odd + k, count - k)),
                   count - k);
}

static void outer_pairs(const struct cpu_outer *o, void *scratch)
{
    float *a = scratch, *b = a + BLOCK_PAIRS * (ptrdiff_t)o->depth;
    struct cpu_outer block = {.a = a,
                              .b = b,
                              .c = o->c,
                              .fresh = o->fresh,
                              .groups = 1,
                              .depth = o->depth,
                              .columns = o->columns,
                              .a_row = o->depth,
                              .b_row = o->columns,
                              .c_row = o->c_row};

    for (int32_t g = 0; g < o->groups; g++)
        for (int32_t m = 0; m < o->rows; m += 2) {
            const float *x = o->a + g * o->a_group + m * o->a_row;
            const float *y = o->b + g * o->b_group + m * o->b_row;
            bool both = m + 1 < o->rows, last = g + 1 == o->groups && m + 2 >= o->rows;

            pair_rows(a + block.rows * block.a_row, x, both ? x + o->a_row : NULL, o->depth,
                      o->a_ahead);
            pair_rows(b + block.rows * block.b_row, y, both ? y + o->b_row : NULL, o->columns,
                      o->b_ahead);
            if (++block.rows < BLOCK_PAIRS && !last)
                continue;
            add_outer(&block);
            block.rows = 0;
            block.fresh = false;
        }
}

static size_t scratch_bytes(int32_t depth, int32_t columns)
{
    size_t product = BLOCK_ROWS * (size_t)pairs_of(depth);
    size_t outer = BLOCK_PAIRS * ((size_t)depth + (size_t)columns);

    return (product > outer ? product : outer) * sizeof(float);
}

#endif
