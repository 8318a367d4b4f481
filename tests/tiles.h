/* SPDX-License-Identifier: MIT */
#ifndef TESTS_TILES_H
#define TESTS_TILES_H

/* A stand-in for the tile intrinsics of AMX, in plain C, so that src/cpu/kernels/amx.h runs on any
 * processor and under any sanitizer. What the processor would fault on, a test fails on. */

#include "cpu/kernels.h"
#include "cpu/kernels/lines.h" /* which may declare the real ones */

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static struct {
    bool configured;
    struct {
        int rows, bytes; /* of a row */
        unsigned char data[16][64];
    } tiles[8];
} unit;

static inline void stand_in_loadconfig(const void *config)
{
    const unsigned char *bytes = config; /* palette, start, 14 of 0, 16 widths, 16 heights */

    ck_assert_msg(bytes[0] == 1 && bytes[1] == 0, "palette %d", bytes[0]);
    for (int i = 2; i < 16; i++)
        ck_assert_int_eq(bytes[i], 0);
    memset(&unit, 0, sizeof unit);
    unit.configured = true;
    for (int t = 0; t < 8; t++) {
        unit.tiles[t].bytes = bytes[16 + 2 * t] | bytes[17 + 2 * t] << 8;
        unit.tiles[t].rows = bytes[48 + t];
        ck_assert(unit.tiles[t].bytes <= 64 && unit.tiles[t].rows <= 16);
    }
}

static inline void stand_in_release(void)
{
    memset(&unit, 0, sizeof unit);
}

static inline void stand_in_zero(int tile)
{
    ck_assert(unit.configured);
    memset(unit.tiles[tile].data, 0, sizeof unit.tiles[tile].data);
}

static inline void stand_in_loadd(int tile, const void *from, long stride)
{
    ck_assert(unit.configured);
    for (int r = 0; r < unit.tiles[tile].rows; r++)
        memcpy(unit.tiles[tile].data[r], (const char *)from + r * stride,
               (size_t)unit.tiles[tile].bytes);
}

static inline void stand_in_stored(int tile, void *to, long stride)
{
    ck_assert(unit.configured);
    for (int r = 0; r < unit.tiles[tile].rows; r++)
        memcpy((char *)to + r * stride, unit.tiles[tile].data[r], (size_t)unit.tiles[tile].bytes);
}

/* Number i of a row of bf16. */
static inline float tile_number(int tile, int row, int i)
{
    uint16_t half;
    uint32_t bits;
    float number;

    memcpy(&half, unit.tiles[tile].data[row] + 2 * i, sizeof half);
    bits = (uint32_t)half << 16;
    memcpy(&number, &bits, sizeof number);
    return number;
}

/* As Intel's manual has it: first numbers of pairs and second ones are added up apart. */
static inline void stand_in_dpbf16ps(int c, int a, int b)
{
    ck_assert(unit.configured && unit.tiles[a].bytes == 4 * unit.tiles[b].rows);
    for (int m = 0; m < unit.tiles[c].rows; m++)
        for (int n = 0; n < unit.tiles[c].bytes / 4; n++) {
            float sums[2] = {0.0f, 0.0f}, sum;

            for (int k = 0; k < unit.tiles[a].bytes / 2; k++)
                sums[k % 2] += tile_number(a, m, k) * tile_number(b, k / 2, 2 * n + k % 2);
            memcpy(&sum, unit.tiles[c].data[m] + 4 * n, sizeof sum);
            sum += sums[0] + sums[1];
            memcpy(unit.tiles[c].data[m] + 4 * n, &sum, sizeof sum);
        }
}

/* Not the real ones, whatever they are here. */
#undef _tile_loadconfig
#define _tile_loadconfig stand_in_loadconfig
#undef _tile_release
#define _tile_release stand_in_release
#undef _tile_zero
#define _tile_zero stand_in_zero
#undef _tile_loadd
#define _tile_loadd stand_in_loadd
#undef _tile_stored
#define _tile_stored stand_in_stored
#undef _tile_dpbf16ps
#define _tile_dpbf16ps stand_in_dpbf16ps

#endif
