/* SPDX-License-Identifier: MIT */
#include "cpu/tiles.h"

static struct cpu_cut cut(int32_t n, int32_t size)
{
    int32_t tiles = (n + size - 1) / size, spare = tiles * size - n;

    return (struct cpu_cut){
        .size = size, .full = spare < tiles ? tiles - spare : 0, .tiles = tiles};
}

/* Where tile i begins. */
static int32_t tile_start(struct cpu_cut cut, int32_t i)
{
    return i <= cut.full ? i * cut.size : cut.full * cut.size + (i - cut.full) * (cut.size - 1);
}

struct cpu_tiling nin__cpu_tile_images(int32_t h, int32_t w, int32_t kernel, int32_t side,
                                       int32_t images)
{
    struct cpu_tiling t = {.down = cut(h, side + 1 - kernel),
                           .across = cut(w, side + 1 - kernel),
                           .side = side,
                           .images = images};
    int32_t short_full = images * (t.down.tiles - t.down.full) * t.across.full;
    int32_t full_full = images * t.down.full * t.across.full;
    int32_t full_short = images * t.down.full * (t.across.tiles - t.across.full);

    t.count = images * t.down.tiles * t.across.tiles;
    t.full_across[0] = 0;
    t.full_across[1] = short_full + full_full;
    t.full_down[0] = t.full[0] = short_full;
    t.full[1] = short_full + full_full;
    t.full_down[1] = t.full[1] + full_short;
    return t;
}

void nin__cpu_tiles_of_point(const struct cpu_tiling *t, int32_t point, int32_t *first,
                             int32_t *count)
{
    const int32_t all[2] = {0, t->count}, infinity = t->side - 1;
    bool down = point / t->side == infinity, across = point % t->side == infinity;
    const int32_t *range = down && across ? t->full
                           : down         ? t->full_down
                           : across       ? t->full_across
                                          : all;

    *first = range[0];
    *count = range[1] - range[0];
}

/* Tiles of one kind, from `first` on in the order of points: down and across from i0 and j0 on. */
struct kind {
    int32_t i0, i1, j0, j1;
};

static struct kind tile_kind(const struct cpu_tiling *t, int32_t k)
{
    const struct cpu_cut *d = &t->down, *a = &t->across;
    const struct kind kinds[4] = {{d->full, d->tiles, 0, a->full},
                                  {0, d->full, 0, a->full},
                                  {0, d->full, a->full, a->tiles},
                                  {d->full, d->tiles, a->full, a->tiles}};

    return kinds[k];
}

static struct cpu_tile tile_at(const struct cpu_tiling *t, struct kind kind, int32_t n)
{
    int32_t across = kind.j1 - kind.j0, area = (kind.i1 - kind.i0) * across;
    int32_t i = kind.i0 + n % area / across, j = kind.j0 + n % across;

    return (struct cpu_tile){.image = n / area,
                             .y = tile_start(t->down, i),
                             .x = tile_start(t->across, j),
                             .rows = t->down.size - (i >= t->down.full),
                             .columns = t->across.size - (j >= t->across.full)};
}

struct cpu_tile nin__cpu_find_tile(const struct cpu_tiling *t, int32_t index)
{
    int32_t n = index;

    for (int32_t k = 0; k < 4; k++) {
        struct kind kind = tile_kind(t, k);
        int32_t count = t->images * (kind.i1 - kind.i0) * (kind.j1 - kind.j0);

        if (n < count)
            return tile_at(t, kind, n);
        n -= count;
    }
    return (struct cpu_tile){0};
}

/* Along a side short tiles do without infinity. */
static int64_t points_along(struct cpu_cut cut, int32_t side)
{
    return (int64_t)cut.tiles * side - (cut.tiles - cut.full);
}

int64_t nin__cpu_count_points(const struct cpu_tiling *t)
{
    return points_along(t->down, t->side) * points_along(t->across, t->side);
}
