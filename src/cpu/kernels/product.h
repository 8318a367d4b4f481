/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_PRODUCT_H
#define NIN__CPU_KERNELS_PRODUCT_H

/* Matrix products by tiles that stay in registers: `rows` x `vectors` sums, for each k of which
 * `vectors` loads and `rows` broadcasts feed rows * vectors multiply-adds. Each sum starts at 0 (or
 * at what it is added to) and takes its products one by one in ascending k, or block by block, so a
 * tile's shape tells nothing in the result.
 *
 * Columns are cut into panels of at most MAX_VECTORS vectors, as even as possible; what is left
 * beyond whole vectors is a panel of its own, of one vector in part. */

#include "cpu/kernels.h"
#include "cpu/kernels/vector.h"

/* The largest tile for each number of vectors: as many sums as the registers hold beside one row of
 * b and a broadcast. */
#if defined(__AVX512F__)
enum {
    MAX_ROWS = 14,
    MAX_VECTORS = 4
};
static const int32_t tile_rows[MAX_VECTORS + 1] = {0, 14, 12, 8, 6};
#else
enum {
    MAX_ROWS = 12,
    MAX_VECTORS = 2
};
static const int32_t tile_rows[MAX_VECTORS + 1] = {0, 12, 6};
#endif

enum {
    DEPTH_STEP = 512
};

struct panel {
    int32_t first;   /* column */
    int32_t vectors; /* that it holds */
    int32_t part;    /* 0: all are whole; else columns in its one vector */
};

/* The panel that begins at a column. */
INLINE struct panel panel_at(int32_t first, int32_t columns)
{
    int32_t vectors = columns / WIDTH, done = first / WIDTH;
    int32_t panels = (vectors + MAX_VECTORS - 1) / MAX_VECTORS;
    int32_t small = panels > 0 ? vectors / panels : 0, large = panels > 0 ? vectors % panels : 0;

    if (done == vectors)
        return (struct panel){first, 1, columns % WIDTH};
    return (struct panel){first, done < large * (small + 1) ? small + 1 : small, 0};
}

/* ---- packing ------------------------------------------------------------------------------ */

static int32_t padded(int32_t columns)
{
    return (columns + WIDTH - 1) / WIDTH * WIDTH;
}

static size_t packed_size(int32_t depth, int32_t columns)
{
    return (size_t)depth * (size_t)padded(columns);
}

/* packed: for each panel [depth][vectors * WIDTH], zeros behind the last column */
static inline void pack(const struct cpu_packing *p)
{
    struct panel panel;

    for (int32_t at = 0; at < p->columns; at += panel.vectors * WIDTH) {
        int32_t width;

        panel = panel_at(at, p->columns);
        width = panel.vectors * WIDTH;
        for (int32_t k = 0; k < p->count; k++) {
            float *row = p->packed + (ptrdiff_t)at * p->depth + (ptrdiff_t)(p->first + k) * width;
            const float *from = p->source + k * p->depth_step;

            for (int32_t n = at; n < at + width; n++)
                row[n - at] =
                    n < p->columns
                        ? from[n % p->inner * p->inner_step + n / p->inner * p->outer_step]
                        : 0.0f;
        }
    }
}

/* ---- c = a * b ---------------------------------------------------------------------------- */

/* One tile: a at its first row, b, bias, c and gate at its first column. */
struct tile {
    const struct cpu_product *product;
    const float *a, *b, *bias, *gate;
    float *c;
    ptrdiff_t b_row, b_ahead;
    int32_t part, depth;
    bool more, last; /* go on from what is in c; the sum is complete */
};

INLINE vector load_columns(const float *from, int32_t j, int32_t part)
{
    return part > 0 ? load_part(from, part) : load(from + j * WIDTH);
}

/* What follows the sum, each step for the whole tile, so that it stays in registers. */
INLINE void finish_tile(const struct tile *tile, vector sums[MAX_ROWS][MAX_VECTORS],
                        const int32_t rows, const int32_t vectors, const int32_t part)
{
    const ptrdiff_t c_row = tile->product->c_row;

    if (tile->last && tile->bias != NULL)
#pragma GCC unroll 4
        for (int32_t j = 0; j < vectors; j++) {
            vector bias = load_columns(tile->bias, j, part);

#pragma GCC unroll 14
            for (int32_t i = 0; i < rows; i++)
                sums[i][j] += bias;
        }
    if (tile->last && tile->product->relu)
#pragma GCC unroll 14
        for (int32_t i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int32_t j = 0; j < vectors; j++)
                sums[i][j] = rectify(sums[i][j]);
    if (tile->last && tile->gate != NULL)
#pragma GCC unroll 14
        for (int32_t i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int32_t j = 0; j < vectors; j++)
                sums[i][j] = pass(load_columns(tile->gate + i * c_row, j, part), sums[i][j]);
#pragma GCC unroll 14
    for (int32_t i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int32_t j = 0; j < vectors; j++)
            if (part > 0)
                store_part(tile->c + i * c_row, sums[i][j], part);
            else
                store(tile->c + i * c_row + j * WIDTH, sums[i][j]);
}

/* Sums that wait in memory while the next block's begin at 0. */
struct aside {
    vector sums[MAX_ROWS][MAX_VECTORS];
    bool any;
};

INLINE void add_aside(const struct aside *aside, vector sums[MAX_ROWS][MAX_VECTORS],
                      const int32_t rows, const int32_t vectors)
{
    if (aside->any)
#pragma GCC unroll 14
        for (int32_t i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int32_t j = 0; j < vectors; j++)
                sums[i][j] = aside->sums[i][j] + sums[i][j];
}

INLINE void put_aside(struct aside *aside, vector sums[MAX_ROWS][MAX_VECTORS], const int32_t rows,
                      const int32_t vectors)
{
    add_aside(aside, sums, rows, vectors);
    aside->any = true;
#pragma GCC unroll 14
    for (int32_t i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int32_t j = 0; j < vectors; j++) {
            aside->sums[i][j] = sums[i][j];
            sums[i][j] = (vector){0};
        }
}

INLINE void multiply_tile(const struct tile *tile, const int32_t rows, const int32_t vectors)
{
    const struct cpu_product *p = tile->product;
    const ptrdiff_t a_row = p->a_row, b_row = tile->b_row, ahead = tile->b_ahead;
    const int32_t block = p->block > 0 ? p->block : tile->depth;
    const float *b = tile->b;
    vector sums[MAX_ROWS][MAX_VECTORS];
    struct aside aside;

    if (rows > tile_rows[vectors]) /* none of ours: nothing is compiled for it */
        return;
    aside.any = false;
#pragma GCC unroll 14
    for (int32_t i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int32_t j = 0; j < vectors; j++)
            sums[i][j] = (vector){0};
    if (tile->more)
#pragma GCC unroll 14
        for (int32_t i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int32_t j = 0; j < vectors; j++)
                sums[i][j] = load_columns(tile->c + i * p->c_row, j, vectors == 1 ? tile->part : 0);
    if (tile->more && p->block > 0)
        put_aside(&aside, sums, rows, vectors);
    for (int32_t r = 0; r < p->runs; r++) {
        const float *a = tile->a + r * p->a_run, *end = a + tile->depth;

        do {
            const float *stop = end - a > block ? a + block : end;

            do {
                vector row[MAX_VECTORS];

#pragma GCC unroll 4
                for (int32_t j = 0; j < vectors; j++) {
                    row[j] = load(b + j * WIDTH);
                    __builtin_prefetch(b + ahead + j * WIDTH, 0, 3);
                }
#pragma GCC unroll 14
                for (int32_t i = 0; i < rows; i++) {
                    vector factor = spread(a[i * a_row]);

#pragma GCC unroll 4
                    for (int32_t j = 0; j < vectors; j++)
                        sums[i][j] = multiply_add(factor, row[j], sums[i][j]);
                }
                b += b_row;
            } while (++a < stop);
            if (a < end)
                put_aside(&aside, sums, rows, vectors);
        } while (a < end);
    }
    add_aside(&aside, sums, rows, vectors);
    if (vectors == 1 && tile->part > 0)
        finish_tile(tile, sums, rows, vectors, tile->part);
    else
        finish_tile(tile, sums, rows, vectors, 0);
}

INLINE void multiply_rows(const struct tile *tile, int32_t rows, const int32_t vectors)
{
    switch (rows) {
    case 1:
        multiply_tile(tile, 1, vectors);
        break;
    case 2:
        multiply_tile(tile, 2, vectors);
        break;
    case 3:
        multiply_tile(tile, 3, vectors);
        break;
    case 4:
        multiply_tile(tile, 4, vectors);
        break;
    case 5:
        multiply_tile(tile, 5, vectors);
        break;
    case 6:
        multiply_tile(tile, 6, vectors);
        break;
    case 7:
        multiply_tile(tile, 7, vectors);
        break;
    case 8:
        multiply_tile(tile, 8, vectors);
        break;
    case 9:
        multiply_tile(tile, 9, vectors);
        break;
    case 10:
        multiply_tile(tile, 10, vectors);
        break;
    case 11:
        multiply_tile(tile, 11, vectors);
        break;
    case 12:
        multiply_tile(tile, 12, vectors);
        break;
    case 13:
        multiply_tile(tile, 13, vectors);
        break;
    case 14:
        multiply_tile(tile, 14, vectors);
        break;
    default:
        break;
    }
}

static void multiply_vectors(const struct tile *tile, int32_t rows, int32_t vectors)
{
    switch (vectors) {
    case 1:
        multiply_rows(tile, rows, 1);
        break;
    case 2:
        multiply_rows(tile, rows, 2);
        break;
#if defined(__AVX512F__)
    case 3:
        multiply_rows(tile, rows, 3);
        break;
    case 4:
        multiply_rows(tile, rows, 4);
        break;
#endif
    default:
        break;
    }
}

/* What a product takes of a panel: vectors first ... end - 1, or none. */
struct slice {
    int32_t first, end;
};

static struct slice slice_of(const struct cpu_product *p, struct panel panel)
{
    int32_t first = (p->b_first - panel.first) / WIDTH;
    int32_t end = (p->b_first + p->columns - panel.first + WIDTH - 1) / WIDTH;

    return (struct slice){first > 0 ? first : 0, end < panel.vectors ? end : panel.vectors};
}

/* Rows of the product for a panel's slice, or for `depth` rows of it from `first` on. */
static void multiply_panel(const struct cpu_product *p, struct panel panel, struct slice slice,
                           int32_t first, int32_t depth)
{
    int32_t vectors = slice.end - slice.first, b_row = panel.vectors * WIDTH;
    int32_t tiles = (p->rows + tile_rows[vectors] - 1) / tile_rows[vectors];
    int32_t column = panel.first + slice.first * WIDTH - p->b_first;
    struct tile tile = {.product = p,
                        .b = p->b + (ptrdiff_t)panel.first * p->runs * p->depth +
                             (ptrdiff_t)first * b_row + slice.first * WIDTH,
                        .b_row = b_row,
                        .bias = p->bias == NULL ? NULL : p->bias + column,
                        .part = panel.part,
                        .depth = depth,
                        .more = first > 0,
                        .last = first + depth == p->depth};

    for (int32_t t = 0, row = 0; t < tiles; t++) {
        int32_t rows = (p->rows - row + tiles - t - 1) / (tiles - t); /* even shares */

        tile.a = p->a + row * p->a_row + first;
        tile.b_ahead = t == 0 ? p->b_ahead : 0;
        tile.c = p->c + row * p->c_row + column;
        tile.gate = p->gate == NULL ? NULL : p->gate + row * p->c_row + column;
        multiply_vectors(&tile, rows, vectors);
        row += rows;
    }
}

/* A deep product goes down its panel in steps, so that a step's part of it stays in the cache from
 * tile to tile; sums wait in c meanwhile, and keep their order. */
static void multiply(const struct cpu_product *p)
{
    int32_t columns = p->b_columns > 0 ? p->b_columns : p->columns;
    struct panel panel;

    for (int32_t at = 0; at < columns; at += panel.vectors * WIDTH) {
        int32_t whole = p->block > 0 ? DEPTH_STEP / p->block * p->block : DEPTH_STEP;
        int32_t step = p->runs == 1 ? whole : p->depth;
        struct slice slice;

        panel = panel_at(at, columns);
        slice = slice_of(p, panel);
        for (int32_t first = 0; slice.first < slice.end && first < p->depth; first += step)
            multiply_panel(p, panel, slice, first,
                           p->depth - first < step ? p->depth - first : step);
    }
}

/* ---- c += a' * b -------------------------------------------------------------------------- */

/* One tile of c: a at its first column, which is c's row; b at its first column. */
struct outer_tile {
    const struct cpu_outer *outer;
    const float *a, *b;
    float *c;
    int32_t part;
};

INLINE void outer_tile(const struct outer_tile *tile, const int32_t rows, const int32_t vectors,
                       const bool part)
{
    const struct cpu_outer *o = tile->outer;
    vector sums[MAX_ROWS][MAX_VECTORS];

    if (rows > tile_rows[vectors])
        return;
#pragma GCC unroll 14
    for (int32_t i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int32_t j = 0; j < vectors; j++)
            sums[i][j] = (vector){0};
    if (!o->fresh && !o->apart)
#pragma GCC unroll 14
        for (int32_t i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int32_t j = 0; j < vectors; j++)
                sums[i][j] = load(tile->c + i * o->c_row + j * WIDTH);
#pragma GCC unroll 14
    for (int32_t i = 0; i < rows; i++) /* the tile below */
#pragma GCC unroll 4
        for (int32_t j = 0; j < vectors; j++)
            __builtin_prefetch(tile->c + (rows + i) * o->c_row + j * WIDTH, 1, 3);
    for (int32_t g = 0; g < o->groups; g++) {
        const float *a = tile->a + g * o->a_group, *b = tile->b + g * o->b_group;

        for (int32_t m = 0; m < o->rows; m++, a += o->a_row, b += o->b_row) {
            vector row[MAX_VECTORS];

#pragma GCC unroll 4
            for (int32_t j = 0; j < vectors; j++) {
                row[j] = part ? load_part(b, tile->part) : load(b + j * WIDTH);
                __builtin_prefetch(b + o->b_ahead + j * WIDTH, 0, 3);
            }
            __builtin_prefetch(a + o->a_ahead, 0, 3);
#pragma GCC unroll 14
            for (int32_t i = 0; i < rows; i++) {
                vector factor = spread(a[i]);

#pragma GCC unroll 4
                for (int32_t j = 0; j < vectors; j++)
                    sums[i][j] = multiply_add(factor, row[j], sums[i][j]);
            }
        }
    }
    if (!o->fresh && o->apart)
#pragma GCC unroll 14
        for (int32_t i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int32_t j = 0; j < vectors; j++)
                sums[i][j] = load(tile->c + i * o->c_row + j * WIDTH) + sums[i][j];
#pragma GCC unroll 14
    for (int32_t i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int32_t j = 0; j < vectors; j++)
            store(tile->c + i * o->c_row + j * WIDTH, sums[i][j]);
}

INLINE void outer_rows(const struct outer_tile *tile, int32_t rows, const int32_t vectors,
                       const bool part)
{
    switch (rows) {
    case 1:
        outer_tile(tile, 1, vectors, part);
        break;
    case 2:
        outer_tile(tile, 2, vectors, part);
        break;
    case 3:
        outer_tile(tile, 3, vectors, part);
        break;
    case 4:
        outer_tile(tile, 4, vectors, part);
        break;
    case 5:
        outer_tile(tile, 5, vectors, part);
        break;
    case 6:
        outer_tile(tile, 6, vectors, part);
        break;
    case 7:
        outer_tile(tile, 7, vectors, part);
        break;
    case 8:
        outer_tile(tile, 8, vectors, part);
        break;
    case 9:
        outer_tile(tile, 9, vectors, part);
        break;
    case 10:
        outer_tile(tile, 10, vectors, part);
        break;
    case 11:
        outer_tile(tile, 11, vectors, part);
        break;
    case 12:
        outer_tile(tile, 12, vectors, part);
        break;
    case 13:
        outer_tile(tile, 13, vectors, part);
        break;
    case 14:
        outer_tile(tile, 14, vectors, part);
        break;
    default:
        break;
    }
}

static void outer_vectors(const struct outer_tile *tile, int32_t rows, int32_t vectors)
{
    if (tile->part > 0) {
        outer_rows(tile, rows, 1, true);
        return;
    }
    switch (vectors) {
    case 1:
        outer_rows(tile, rows, 1, false);
        break;
    case 2:
        outer_rows(tile, rows, 2, false);
        break;
#if defined(__AVX512F__)
    case 3:
        outer_rows(tile, rows, 3, false);
        break;
    case 4:
        outer_rows(tile, rows, 4, false);
        break;
#endif
    default:
        break;
    }
}

static void outer_panel(const struct cpu_outer *o, struct panel panel)
{
    int32_t tiles = (o->depth + tile_rows[panel.vectors] - 1) / tile_rows[panel.vectors];
    struct outer_tile tile = {.outer = o, .b = o->b + panel.first, .part = panel.part};

    for (int32_t t = 0, row = 0; t < tiles; t++) {
        int32_t rows = (o->depth - row + tiles - t - 1) / (tiles - t);

        tile.a = o->a + row;
        tile.c = o->c + row * o->c_row + panel.first;
        outer_vectors(&tile, rows, panel.vectors);
        row += rows;
    }
}

static void add_outer(const struct cpu_outer *o)
{
    struct panel panel;

    for (int32_t at = 0; at < o->columns; at += panel.vectors * WIDTH) {
        panel = panel_at(at, o->columns);
        outer_panel(o, panel);
    }
}

#endif
