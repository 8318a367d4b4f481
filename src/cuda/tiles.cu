/* SPDX-License-Identifier: MIT */
/* Which tiles minimal filtering takes, if any, and what goes together. All of it follows from
 * shapes. */
#include "cuda/tiles.h"

namespace
{

/* What goes together, if it is no single image. */
enum {
    POINT_FLOATS = 1 << 25, /* 128 MiB of the input at points, and of the output */
    PART_TILES = 1 << 17    /* of either */
};

enum {
    GROUP_TILES = 256, /* of a sum over tiles, at most */
    FLOP_A_BYTE = 12   /* that a GPU does while it moves one: an H100, an A100 */
};

struct cuda_tiles tiles_over(struct nin__shape shape, int32_t size)
{
    struct cuda_tiles tiles = {(shape.h + size - 1) / size, (shape.w + size - 1) / size};

    return tiles;
}

struct cuda_tiling tiling_of(const struct nin__op *op, int32_t side)
{
    struct cuda_tiling tiling = {};

    tiling.side = side;
    tiling.size = side + 1 - op->kernel_h;
    tiling.y = tiles_over(op->out, tiling.size);
    tiling.dx = tiles_over(op->in, tiling.size);
    return tiling;
}

/* Forward, an image: multiplications and additions, and what is written and read besides x and
 * y. */
double winograd_cost(const struct nin__op *op, const struct cuda_tiling *t)
{
    return (double)t->side * t->side * t->y.down * t->y.across *
           (2.0 * op->in.c * op->out.c +
            FLOP_A_BYTE * 2.0 * sizeof(float) * (op->in.c + op->out.c));
}

double gemm_cost(const struct nin__op *op)
{
    return (double)op->out.h * op->out.w * (double)nin__cuda_patch(op) *
           (2.0 * op->out.c + FLOP_A_BYTE * 2.0 * sizeof(float));
}

int64_t count_tiles(struct nin__shape shape, int32_t size)
{
    struct cuda_tiles tiles = tiles_over(shape, size);

    return (int64_t)tiles.down * tiles.across;
}

/* Kernels count the elements of an image in 32 bits. No tile is smaller than 4x4. A side of one
 * pixel: as in src/cpu/conv_winograd.c. */
bool fits(const struct nin__op *op)
{
    int64_t widest = op->in.c > op->out.c ? op->in.c : op->out.c;
    int64_t in = count_tiles(op->in, 4), out = count_tiles(op->out, 4), tiles = in > out ? in : out;

    return op->kernel_h == op->kernel_w && (op->kernel_h == 5 || op->kernel_h == 3) &&
           op->stride == 1 && op->pad < op->kernel_h && op->in.h > 1 && op->in.w > 1 &&
           !nin__cuda_is_flat(op) && tiles <= PART_TILES && tiles * widest <= INT32_MAX;
}

} // namespace

struct cuda_groups nin__cuda_groups_of(size_t tiles)
{
    struct cuda_groups groups;

    groups.count = (tiles + GROUP_TILES - 1) / GROUP_TILES;
    groups.tiles = (tiles + groups.count - 1) / groups.count;
    return groups;
}

/* Of the tiles that fit the ones that cost least; none where products over windows cost less,
 * unless minimal filtering is asked for. */
struct cuda_tiling nin__cuda_choose_tiling(const struct nin__op *op, nin_algorithm algorithm)
{
    struct cuda_tiling none = {}, best, six;

    if ((algorithm != NIN_ALGORITHM_AUTO && algorithm != NIN_ALGORITHM_WINOGRAD) || !fits(op))
        return none;
    best = tiling_of(op, 8);
    six = tiling_of(op, 6);
    if (op->kernel_h == 3 && winograd_cost(op, &six) < winograd_cost(op, &best))
        best = six;
    if (algorithm == NIN_ALGORITHM_AUTO && winograd_cost(op, &best) >= gemm_cost(op))
        return none;
    return best;
}

int32_t nin__cuda_tile_images(const struct cuda_op *cuda, int32_t batch)
{
    const struct cuda_tiling &t = cuda->tiling;
    int64_t widest = cuda->op->in.c > cuda->op->out.c ? cuda->op->in.c : cuda->op->out.c;
    int64_t y = (int64_t)t.y.down * t.y.across, dx = (int64_t)t.dx.down * t.dx.across;
    int64_t tiles = y > dx ? y : dx, room = POINT_FLOATS / (tiles * widest * t.side * t.side);
    int64_t most = PART_TILES / tiles < room ? PART_TILES / tiles : room;

    return most < 1 ? 1 : most < batch ? (int32_t)most : batch;
}

struct cuda_point_needs nin__cuda_point_needs(const struct cuda_op *cuda, int32_t batch)
{
    const struct cuda_tiling &t = cuda->tiling;
    int32_t images = nin__cuda_tile_images(cuda, batch);
    struct cuda_groups groups = nin__cuda_groups_of(nin__cuda_all_tiles(t.y, images));
    size_t points = (size_t)t.side * (size_t)t.side, dx = nin__cuda_all_tiles(t.dx, images);
    size_t in = (size_t)cuda->op->in.c, out = (size_t)cuda->op->out.c;
    size_t y = groups.count * groups.tiles, rows = nin__cuda_all_tiles(t.y, batch);
    struct cuda_point_needs needs;

    needs.weights = points * in * out;
    needs.x = points * y * in;
    needs.y = points * (y > dx ? y : dx) * out;
    needs.dx = points * dx * in;
    needs.products = needs.weights * groups.count;
    needs.sums = (rows + nin__cuda_sum_parts(rows, out)) * out;
    return needs;
}
