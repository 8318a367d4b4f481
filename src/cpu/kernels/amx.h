/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_AMX_H
#define NIN__CPU_KERNELS_AMX_H

/* Products in bf16 by AMX. A tile is 16 rows of 64 bytes; one instruction adds to 16 x 16 floats
 * the product of 16 rows of 16 pairs of bf16 and 16 rows of pairs in 16 columns. Operands are laid
 * out as whole tiles, zeros where a matrix ends, and four tiles of sums are made at a time, from
 * two of a and two of b.
 *
 * With PARTS 2 an operand is high + low, each a bf16, and sums are of
 * high * high + high * low + low * high: what is left out is 2^-16 of a product or less.
 *
 * Tests run this anywhere, with a stand-in for the tile intrinsics and, where there is no AVX-512
 * either, lines.h in plain C. */

#include "cpu/kernels.h"
#include "cpu/kernels/lines.h"

enum {
    PARTS = NIN__KERNELS_PARTS,
    SIDE = 16,            /* of a tile: rows, and 32-bit words of a row */
    SPAN = 2 * SIDE,      /* numbers of a row of pairs; rows and columns of four tiles of sums */
    TILE = SIDE * SIDE,   /* words */
    BLOCK = PARTS * TILE, /* words of an operand's tiles for SPAN numbers: high, low */
    OUTER_BLOCKS = 8      /* of an outer product's rows that are laid out at once */
};

static int32_t count_of(int32_t numbers, int32_t size)
{
    return (numbers + size - 1) / size;
}

/* The compiler does not know that the intrinsics read and write memory. */
static inline void memory_is_touched(void)
{
    __asm__ volatile("" ::: "memory");
}

static uint16_t part_of(float value, int32_t part)
{
    uint16_t high = to_bf16(value);

    return part == 0 ? high : to_bf16(value - from_bf16(high));
}

/* ---- four tiles of sums ------------------------------------------------------------------- */

/* Sums of SPAN x SPAN, or less: rows of `row` floats at c. a and b: tiles of their first SIDE rows
 * or columns, block after block, and those of the others, which `below` and `beside` say are
 * there. */
struct square {
    const uint32_t *a[2], *b[2];
    float *c;
    ptrdiff_t row;
    int32_t blocks;
    bool fresh, below, beside;
};

/* All eight tiles are whole. */
static const struct {
    uint8_t palette, start, zero[14];
    uint16_t bytes[16]; /* of a row */
    uint8_t rows[16];
} whole_tiles = {.palette = 1,
                 .bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                 .rows = {SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE}};

/* Sums lie in tiles 0 and 1, below them 2 and 3. */
static void load_sums(const struct square *s)
{
    const long bytes = (long)s->row * 4;
    const float *second = s->c + SIDE * s->row;

    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    if (s->fresh)
        return;
    _tile_loadd(0, s->c, bytes);
    if (s->beside)
        _tile_loadd(1, s->c + SIDE, bytes);
    if (s->below)
        _tile_loadd(2, second, bytes);
    if (s->below && s->beside)
        _tile_loadd(3, second + SIDE, bytes);
}

static void store_sums(const struct square *s)
{
    const long bytes = (long)s->row * 4;
    float *second = s->c + SIDE * s->row;

    _tile_stored(0, s->c, bytes);
    if (s->beside)
        _tile_stored(1, s->c + SIDE, bytes);
    if (s->below)
        _tile_stored(2, second, bytes);
    if (s->below && s->beside)
        _tile_stored(3, second + SIDE, bytes);
}

static void add_square(const struct square *s)
{
    memory_is_touched();
    load_sums(s);
    for (int32_t k = 0; k < s->blocks; k++)
        for (int32_t turn = 0; turn < 2 * PARTS - 1; turn++) {
            ptrdiff_t a = k * BLOCK + (turn == 2 ? TILE : 0);
            ptrdiff_t b = k * BLOCK + (turn == 1 ? TILE : 0);

            _tile_loadd(4, s->a[0] + a, 64);
            _tile_loadd(6, s->b[0] + b, 64);
            _tile_dpbf16ps(0, 4, 6);
            if (s->beside) {
                _tile_loadd(7, s->b[1] + b, 64);
                _tile_dpbf16ps(1, 4, 7);
            }
            if (s->below) {
                _tile_loadd(5, s->a[1] + a, 64);
                _tile_dpbf16ps(2, 5, 6);
            }
            if (s->below && s->beside)
                _tile_dpbf16ps(3, 5, 7);
        }
    store_sums(s);
    memory_is_touched();
}

/* ---- packing ------------------------------------------------------------------------------ */

/* packed: [panel of SIDE columns][block of SPAN rows][part][pair of rows][column] */
static size_t packed_bytes(int32_t depth, int32_t columns)
{
    return (size_t)count_of(columns, SIDE) * (size_t)count_of(depth, SPAN) * BLOCK *
           sizeof(uint32_t);
}

/* Element (k, n) of what is to be packed; 0 where there is none. */
static float packing_element(const struct cpu_packing *p, int32_t k, int32_t n)
{
    if (k >= p->count || n >= p->columns)
        return 0.0f;
    return p
        ->source[k * p->depth_step + n % p->inner * p->inner_step + n / p->inner * p->outer_step];
}

/* The last rows bring the zeros behind them. */
static void pack(const struct cpu_packing *p)
{
    int32_t blocks = count_of(p->depth, SPAN), panels = count_of(p->columns, SIDE);
    int32_t end = p->first + p->count == p->depth ? blocks * SPAN - p->first : p->count;
    uint32_t *packed = (uint32_t *)(void *)p->packed;

    for (int32_t panel = 0; p->count > 0 && panel < panels; panel++)
        for (int32_t k = 0; k < end; k += 2) {
            int32_t block = panel * blocks + (p->first + k) / SPAN;
            int32_t row = (p->first + k) % SPAN / 2;

            for (int32_t i = 0; i < PARTS * SIDE; i++) {
                int32_t n = panel * SIDE + i % SIDE, part = i / SIDE;
                float first = packing_element(p, k, n), second = packing_element(p, k + 1, n);

                packed[(ptrdiff_t)block * BLOCK + part * TILE + row * SIDE + i % SIDE] =
                    pair_bf16(part_of(first, part), part_of(second, part));
            }
        }
}

/* ---- c = a * b ---------------------------------------------------------------------------- */

/* SPAN numbers of a row of a, of which so many are there, as a row of a tile and of those of other
 * parts. */
static void lay_row(uint32_t *tile, const float *from, int32_t count)
{
    line low = load_line(from, count), high = load_line(from + LINE, count - LINE);

    store_pairs(tile, pair_neighbours(low, high));
    if (PARTS == 2)
        store_pairs(tile + TILE, pair_neighbours(rest_of(low), rest_of(high)));
}

/* Rows of a, at most SPAN, as [tile of rows][block][part][row][pair]. */
static void lay_rows(uint32_t *tiles, const struct cpu_product *p, int32_t first, int32_t rows)
{
    int32_t blocks = count_of(p->depth, SPAN);

    for (int32_t i = 0; i < count_of(rows, SIDE) * SIDE; i++) {
        uint32_t *row = tiles + i / SIDE * blocks * (ptrdiff_t)BLOCK + i % SIDE * SIDE;
        const float *from = p->a + (i < rows ? first + i : 0) * p->a_row;
        int32_t depth = i < rows ? p->depth : 0;

        for (int32_t k = 0; k < blocks; k++)
            lay_row(row + k * BLOCK, from + k * SPAN, depth - k * SPAN);
    }
}

/* What follows the sums of some rows and at most LINE columns. */
static void finish_columns(const struct cpu_product *p, const float *sums, int32_t row,
                           int32_t rows, int32_t at)
{
    const int32_t columns = p->columns - at;
    ptrdiff_t place = row * p->c_row + at;
    line bias = load_line(p->bias == NULL ? sums : p->bias + at, p->bias == NULL ? 0 : columns);

    for (int32_t i = 0; i < rows; i++, place += p->c_row) {
        line values = add_lines(load_line(sums + i * SPAN, LINE), bias);

        if (p->relu)
            values = rectify(values);
        if (p->gate != NULL)
            values = pass(load_line(p->gate + place, columns), values);
        store_line(p->c + place, values, columns);
    }
}

static void finish_square(const struct cpu_product *p, const float *sums, int32_t row, int32_t rows,
                          int32_t at)
{
    finish_columns(p, sums, row, rows, at);
    if (at + LINE < p->columns)
        finish_columns(p, sums + LINE, row, rows, at + LINE);
}

static void multiply(const struct cpu_product *p, void *scratch)
{
    const uint32_t *a = scratch, *b = (const uint32_t *)(const void *)p->b;
    ptrdiff_t step = (ptrdiff_t)count_of(p->depth, SPAN) * BLOCK; /* from panel to panel */
    _Alignas(64) float sums[SPAN * SPAN];
    struct square square = {.a = {a, a + step},
                            .c = sums,
                            .row = SPAN,
                            .blocks = count_of(p->depth, SPAN),
                            .fresh = true};

    _tile_loadconfig(&whole_tiles);
    for (int32_t row = 0; row < p->rows; row += SPAN) {
        int32_t rows = p->rows - row < SPAN ? p->rows - row : SPAN;

        lay_rows(scratch, p, row, rows);
        square.below = rows > SIDE;
        for (int32_t at = 0; at < p->columns; at += SPAN) {
            int32_t columns = p->columns - at < SPAN ? p->columns - at : SPAN;

            square.b[0] = b + at / SIDE * step;
            square.b[1] = square.b[0] + step;
            square.beside = columns > SIDE;
            add_square(&square);
            finish_square(p, sums, row, rows, at);
        }
    }
    _tile_release();
}

/* ---- c += a' * b -------------------------------------------------------------------------- */

/* A block of rows of a group, at most SPAN. */
struct rows {
    const float *first;
    ptrdiff_t step;
    int32_t count;
};

/* Two rows of LINE columns from column `at` on; zeros where there is nothing. */
struct two_rows {
    line even, odd;
};

static struct two_rows rows_of_pair(const struct rows *rows, int32_t pair, int32_t at,
                                    int32_t columns)
{
    const float *from = rows->first + 2 * pair * rows->step + at;
    int32_t there = 2 * pair < rows->count ? columns - at : 0;

    return (struct two_rows){
        load_line(from, there),
        load_line(from + rows->step, 2 * pair + 1 < rows->count ? columns - at : 0)};
}

static pairs part_of_pair(struct two_rows two, int32_t part)
{
    return part == 0 ? pair_elements(two.even, two.odd)
                     : pair_elements(rest_of(two.even), rest_of(two.odd));
}

/* A block of rows of b as [part][pair][column], panel after panel, which lie `step` words apart. */
static void lay_columns(uint32_t *tiles, ptrdiff_t step, const struct rows *rows, int32_t columns)
{
    for (int32_t pair = 0; pair < SIDE; pair++)
        for (int32_t panel = 0; panel < count_of(columns, SIDE); panel++) {
            struct two_rows two = rows_of_pair(rows, pair, panel * SIDE, columns);
            uint32_t *row = tiles + panel * step + pair * SIDE;

            for (int32_t part = 0; part < PARTS; part++)
                store_pairs(row + part * TILE, part_of_pair(two, part));
        }
}

/* The same of a, turned: [part][column][pair]. */
static void lay_turned(uint32_t *tiles, ptrdiff_t step, const struct rows *rows, int32_t columns)
{
    pairs tile[SIDE];

    for (int32_t panel = 0; panel < count_of(columns, SIDE); panel++)
        for (int32_t part = 0; part < PARTS; part++) {
            for (int32_t pair = 0; pair < SIDE; pair++)
                tile[pair] = part_of_pair(rows_of_pair(rows, pair, panel * SIDE, columns), part);
            store_turned(tiles + panel * step + part * TILE, tile);
        }
}

static void copy_rows(float *to, ptrdiff_t to_row, const float *from, ptrdiff_t from_row,
                      int32_t rows, int32_t columns)
{
    for (int32_t i = 0; i < rows; i++)
        memcpy(to + i * to_row, from + i * from_row, (size_t)columns * sizeof *to);
}

/* Adds to rows of c from `row` on and columns from `at` on. Where c ends within a tile of sums,
 * sums are made beside it. */
static void add_outer_square(const struct cpu_outer *o, struct square *s, int32_t row, int32_t at)
{
    int32_t rows = o->depth - row < SPAN ? o->depth - row : SPAN;
    int32_t columns = count_of(o->columns - at < SPAN ? o->columns - at : SPAN, SIDE) * SIDE;
    _Alignas(64) float sums[SPAN * SPAN];
    float *c = o->c + row * o->c_row + at;
    bool whole = rows % SIDE == 0;

    s->below = rows > SIDE;
    s->beside = columns > SIDE;
    s->c = whole ? c : sums;
    s->row = whole ? o->c_row : SPAN;
    if (!whole) {
        memset(sums, 0, sizeof sums);
        if (!s->fresh)
            copy_rows(sums, SPAN, c, o->c_row, rows, columns);
    }
    add_square(s);
    if (!whole)
        copy_rows(c, o->c_row, sums, SPAN, rows, columns);
}

/* All of c, from so many blocks that are laid out: panel after panel, OUTER_BLOCKS blocks each. */
static void add_blocks(const struct cpu_outer *o, const uint32_t *a, const uint32_t *b,
                       int32_t blocks, bool fresh)
{
    const ptrdiff_t step = OUTER_BLOCKS * BLOCK;
    struct square square = {.blocks = blocks, .fresh = fresh};

    for (int32_t row = 0; row < o->depth; row += SPAN)
        for (int32_t at = 0; at < o->columns; at += SPAN) {
            square.a[0] = a + row / SIDE * step;
            square.a[1] = square.a[0] + step;
            square.b[0] = b + at / SIDE * step;
            square.b[1] = square.b[0] + step;
            add_outer_square(o, &square, row, at);
        }
}

static void add_outer(const struct cpu_outer *o, void *scratch)
{
    const ptrdiff_t step = OUTER_BLOCKS * BLOCK;
    uint32_t *a = scratch, *b = a + count_of(o->depth, SIDE) * step;
    int32_t blocks = 0;
    bool fresh = o->fresh;

    _tile_loadconfig(&whole_tiles);
    for (int32_t g = 0; g < o->groups; g++)
        for (int32_t m = 0; m < o->rows; m += SPAN) {
            int32_t count = o->rows - m < SPAN ? o->rows - m : SPAN;
            struct rows x = {o->a + g * o->a_group + m * o->a_row, o->a_row, count};
            struct rows y = {o->b + g * o->b_group + m * o->b_row, o->b_row, count};

            lay_turned(a + blocks * BLOCK, step, &x, o->depth);
            lay_columns(b + blocks * BLOCK, step, &y, o->columns);
            if (++blocks < OUTER_BLOCKS && (g + 1 < o->groups || m + SPAN < o->rows))
                continue;
            add_blocks(o, a, b, blocks, fresh);
            blocks = 0;
            fresh = false;
        }
    _tile_release();
}

static size_t scratch_bytes(int32_t depth, int32_t columns)
{
    size_t product = 2 * (size_t)count_of(depth, SPAN);
    size_t outer = OUTER_BLOCKS * (size_t)(count_of(depth, SIDE) + count_of(columns, SIDE));

    return (product > outer ? product : outer) * BLOCK * sizeof(uint32_t);
}

#endif
