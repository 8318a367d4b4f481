/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_TILES_H
#define NIN__CPU_TILES_H

/* How Winograd's algorithm covers the outputs of some images with tiles of size x size, where
 * size = side + 1 - kernel: of `side` points the last one is infinity.
 *
 * A side that size does not divide is covered by full tiles and by short ones of size - 1. The last
 * output of a tile is all that needs the point at infinity: short tiles leave it out. A point's
 * tiles lie side by side because they come in this order: short above, full across; full; full
 * above, short across; short. */

#include "cpu/kernels.h"

/* How a side of n pixels is cut. */
struct cpu_cut {
    int32_t size, full, tiles; /* of a full tile; how many are full; all */
};

/* The tiles of some images, and the range of them that each kind of point sees. */
struct cpu_tiling {
    struct cpu_cut down, across;
    int32_t side; /* points of a tile, down and across */
    int32_t images, count;
    int32_t full_across[2], full_down[2], full[2]; /* first, end */
};

struct cpu_tile {
    int32_t image, y, x;   /* first row and column of the output */
    int32_t rows, columns; /* of the output, size or less; at an edge they may end outside */
};

struct cpu_tiling nin__cpu_tile_images(int32_t h, int32_t w, int32_t kernel, int32_t side,
                                       int32_t images);

/* The tile of an index, 0 to count - 1. */
struct cpu_tile nin__cpu_find_tile(const struct cpu_tiling *tiling, int32_t index);

/* Tiles that take part at a point. */
void nin__cpu_tiles_of_point(const struct cpu_tiling *tiling, int32_t point, int32_t *first,
                             int32_t *count);

/* Points of all tiles of an image: a product of C x OC each. */
int64_t nin__cpu_count_points(const struct cpu_tiling *tiling);

#endif
