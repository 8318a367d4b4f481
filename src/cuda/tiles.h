/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_TILES_H
#define NIN__CUDA_TILES_H

/* The tiles of minimal filtering. */

#include "cuda/cuda.h"

static inline size_t nin__cuda_all_tiles(const struct cuda_tiles &tiles, int32_t images)
{
    return (size_t)images * (size_t)tiles.down * (size_t)tiles.across;
}

/* The groups that so many tiles are added up in, and the tiles of one. */
struct cuda_groups {
    size_t count, tiles;
};

struct cuda_groups nin__cuda_groups_of(size_t tiles);

#endif
