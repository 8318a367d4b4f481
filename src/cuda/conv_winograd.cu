/* SPDX-License-Identifier: MIT */
/* Convolution by Winograd's minimal filtering, stride 1 (winograd.h has the maps, nin/plan.h its
 * errors). With B the map of data, E that of weights and of gradients of the output, and A that of
 * outputs, for tiles of side x side pixels of the input and size x size of the output,
 *
 *     y  = A (sum over C  of B x * E w)        dx the same with dy for x and the kernel turned around
 *     dw = A (sum over tiles of B x * E dy)    size and kernel change places
 *
 * so each of the side x side points has one matrix product over all tiles, as a convolution of 1x1
 * has. Values at points lie as [point][tile][channel]: a thread has one channel of one tile, and
 * its neighbours the next channels.
 *
 * Images go together as far as their points have room. In training B x stays for backward where the
 * whole batch goes together; else it is made again. So it costs some 128 MiB for each layer at
 * most.
 *
 * Errors grow with the length of a sum, and at the points more than over windows: tiles are added
 * up in groups, each a product of its own, and then the groups. So that they are of one length, a
 * few tiles of zeros follow. */
#include "cuda/conv.h"
#include "cuda/product.h"
#include "cuda/tiles.h"
#include "cuda/winograd.h"

/* nvcc does not see those of a template. */
#pragma nv_diag_suppress missing_launch_bounds

namespace
{

/* Errors at points grow with the length of a sum: 4e-6 of a convolution's result for so many
 * terms. */
const uint32_t POINT_DEPTH = 128;

/* ---- maps ----------------------------------------------------------------------------------- */

/* Images of so many channels, and the tiles over them, which begin `pad` outside. Values at a point
 * take `slab` floats; behind those of the images' tiles come zeros. */
struct tiled {
    int32_t h, w, c, pad, images;
    struct map tiles; /* of an image */
    size_t slab;
};

/* A thread's channel c of a tile: where its values are in a slab, its first pixel, which may lie
 * outside, and where the channel begins in the images. */
struct spot {
    size_t place, base;
    int32_t y, x, c;
    bool real, any; /* of an image; of the slab */
};

__device__ struct spot spot_of(const struct tiled &m, int32_t size)
{
    struct image_element at = nin__cuda_element(m.tiles);
    struct place tile = nin__cuda_place(at.element, m.tiles);
    struct spot spot;

    spot.place = (size_t)at.image * m.tiles.size + at.element;
    spot.base = (size_t)at.image * (size_t)m.h * (size_t)m.w * (size_t)m.c + (size_t)tile.channel;
    spot.y = tile.row * size - m.pad;
    spot.x = tile.column * size - m.pad;
    spot.c = tile.channel;
    spot.real = at.image < (uint32_t)m.images;
    spot.any = at.element < m.tiles.size && spot.place < m.slab;
    return spot;
}

/* Whether pixel (r, q) of the tile is one of the image, and where. */
__device__ bool find_pixel(size_t *at, const struct spot &spot, const struct tiled &m, int32_t r,
                           int32_t q)
{
    int32_t y = spot.y + r, x = spot.x + q;

    *at = spot.base + ((uint32_t)y * (uint32_t)m.w + (uint32_t)x) * (uint32_t)m.c;
    return spot.real && y >= 0 && y < m.h && x >= 0 && x < m.w;
}

/* v: [point][tile][c] */
template <int side, int size>
__global__ void __launch_bounds__(BLOCK) map_data(float *v, const float *x, struct tiled m)
{
    struct spot spot = spot_of(m, size);
    float values[side * side];

    if (!spot.any)
        return;
#pragma unroll
    for (int i = 0; i < side * side; i++) {
        size_t from;

        values[i] = find_pixel(&from, spot, m, i / side, i % side) ? x[from] : 0.0f;
    }
    nin__cuda_data_2d<side>(values, values);
#pragma unroll
    for (int i = 0; i < side * side; i++)
        v[(size_t)i * m.slab + spot.place] = values[i];
}

/* d: [point][tile][c], of dy, which is gated by y in place, unless that is NULL. sums: NULL, or
 * [tile][c], of what the tile has */
template <int side, int size>
__global__ void __launch_bounds__(BLOCK)
    map_gradient(float *d, float *sums, float *dy, const float *y, struct tiled m)
{
    struct spot spot = spot_of(m, size);
    float values[size * size], mapped[side * side], sum = 0.0f;
    size_t at;

    if (!spot.any)
        return;
#pragma unroll
    for (int i = 0; i < size * size; i++) {
        bool inside = find_pixel(&at, spot, m, i / size, i % size);
        float value = inside ? dy[at] : 0.0f, gate = inside && y != NULL ? y[at] : 1.0f;

        values[i] = gate > 0.0f ? value : 0.0f;
        sum += values[i];
    }
#pragma unroll
    for (int i = 0; i < size * size; i++) /* when all is read */
        if (find_pixel(&at, spot, m, i / size, i % size) && y != NULL)
            dy[at] = values[i];
    if (sums != NULL && spot.real)
        sums[spot.place] = sum;
    nin__cuda_evaluate_2d<side, size>(mapped, values);
#pragma unroll
    for (int i = 0; i < side * side; i++)
        d[(size_t)i * m.slab + spot.place] = mapped[i];
}

/* y from sums: [point][tile][c]. bias: NULL for none */
template <int side, int size>
__global__ void __launch_bounds__(BLOCK)
    map_output(float *y, const float *sums, const float *bias, bool relu, struct tiled m)
{
    struct spot spot = spot_of(m, size);
    float values[side * side], pixels[size * size], added;

    if (!spot.any)
        return;
    added = bias == NULL ? 0.0f : bias[spot.c];
#pragma unroll
    for (int i = 0; i < side * side; i++)
        values[i] = sums[(size_t)i * m.slab + spot.place];
    nin__cuda_interpolate_2d<side, size>(pixels, values);
#pragma unroll
    for (int i = 0; i < size * size; i++) {
        float value = pixels[i] + added;
        size_t at;

        if (find_pixel(&at, spot, m, i / size, i % size))
            y[at] = relu && value < 0.0f ? 0.0f : value;
    }
}

/* ---- the passes ----------------------------------------------------------------------------- */

/* Some images of a call, and where their values at points are. */
struct pass {
    const struct cuda_call *call;
    struct cuda_part part;
    struct cuda_groups groups;
    float *v;         /* of x */
    float *from, *to; /* of dy or y; of dx */
};

struct pass pass_of(const struct cuda_call *call, struct cuda_part part)
{
    const struct nin__executable *executable = call->executable;
    struct pass pass;

    pass.call = call;
    pass.part = part;
    pass.groups = nin__cuda_groups_of(nin__cuda_all_tiles(call->cuda->tiling.y, part.images));
    pass.v = call->cuda->saved_per_image == 0
                 ? (float *)executable->scratch.patches
                 : (float *)(void *)(executable->memory + call->cuda->saved);
    pass.from = (float *)executable->scratch.points;
    pass.to = (float *)executable->scratch.patches;
    return pass;
}

/* The part's images of a map, under tiles that begin `pad` outside; tiles: with those of zeros */
struct tiled tiled_of(const struct pass *pass, struct nin__shape shape, int32_t pad,
                      struct cuda_tiles over, size_t tiles)
{
    struct tiled m = {shape.h,
                      shape.w,
                      shape.c,
                      pad,
                      pass->part.images,
                      nin__cuda_map(over.down, over.across, shape.c),
                      tiles * (size_t)shape.c};

    return m;
}

/* For y and dw: tiles of the output, and of the input under them. */
struct tiled tiled_x(const struct pass *pass)
{
    return tiled_of(pass, pass->call->op->in, pass->call->op->pad, pass->call->cuda->tiling.y,
                    pass->groups.count * pass->groups.tiles);
}

struct tiled tiled_y(const struct pass *pass)
{
    return tiled_of(pass, pass->call->op->out, 0, pass->call->cuda->tiling.y,
                    pass->groups.count * pass->groups.tiles);
}

/* For dx: tiles of the input, and of the output under them. */
struct tiled tiled_dx(const struct pass *pass)
{
    const struct cuda_tiles &tiles = pass->call->cuda->tiling.dx;

    return tiled_of(pass, pass->call->op->in, 0, tiles,
                    nin__cuda_all_tiles(tiles, pass->part.images));
}

struct tiled tiled_dy(const struct pass *pass)
{
    const struct cuda_tiles &tiles = pass->call->cuda->tiling.dx;
    const struct nin__op *op = pass->call->op;

    return tiled_of(pass, op->out, op->kernel_h - 1 - op->pad, tiles,
                    nin__cuda_all_tiles(tiles, pass->part.images));
}

/* Where the part's first image is in a batch. */
size_t first_of(const struct pass *pass, struct nin__shape shape)
{
    return (size_t)pass->part.first * nin__shape_size(shape);
}

/* A thread for each channel of each tile, also of those of zeros. */
template <typename... Parameters, typename... Arguments>
nin_status launch_tiles(const struct pass *pass, const struct tiled &m,
                        void (*kernel)(Parameters...), Arguments... arguments)
{
    size_t images = (m.slab + m.tiles.size - 1) / m.tiles.size;

    return nin__cuda_launch_images(pass->call->device, (int32_t)images, m.tiles.size, kernel,
                                   arguments..., m);
}

/* Terms of a sum that are added up at once, of `count`: errors grow with them. Parts of nearly one
 * length, which begin where vectors do. */
uint32_t depth_of(uint32_t count)
{
    uint32_t parts = (count + POINT_DEPTH - 1) / POINT_DEPTH;

    return ((count + parts - 1) / parts + 3) / 4 * 4;
}

uint32_t points_of(const struct pass *pass)
{
    return (uint32_t)pass->call->cuda->tiling.side * (uint32_t)pass->call->cuda->tiling.side;
}

/* values: [point][row][depth] */
struct cuda_rows values_of(const float *values, size_t rows, int32_t depth)
{
    struct cuda_rows r = {};

    r.data = values;
    r.point = rows * (size_t)depth;
    r.count = (uint32_t)rows;
    r.depth = r.row = (uint32_t)depth;
    r.flat = true;
    r.fours = depth % 4 == 0;
    return r;
}

/* p->c = p->a p->b at each point, [point][row][column], added up in parts of the depth. */
nin_status multiply(const struct pass *pass, struct cuda_rows_product *p)
{
    uint32_t depth = depth_of(p->a.depth), left = p->a.depth;

    p->points = points_of(pass);
    p->b_point = (size_t)p->a.depth * p->columns;
    p->c_point = (size_t)p->a.count * p->columns;
    for (; left > 0; left -= p->a.depth) {
        p->a.depth = left < depth ? left : depth;
        NIN__TRY(nin__cuda_multiply_rows(pass->call->device, p));
        p->a.data += p->a.depth;
        p->b += (size_t)p->a.depth * p->b_depth;
        p->add = true;
    }
    return NIN_OK;
}

template <int side, int size> nin_status go_forward(const struct pass *pass)
{
    const struct cuda_call *call = pass->call;
    struct cuda_rows_product product = {};

    product.a = values_of(pass->v, pass->groups.count * pass->groups.tiles, call->op->in.c);
    product.b = (const float *)call->weights;
    product.b_depth = 1;
    product.b_column = (uint32_t)call->op->in.c;
    product.c = pass->from;
    product.columns = (uint32_t)call->op->out.c;
    NIN__TRY(launch_tiles(pass, tiled_x(pass), map_data<side, size>, pass->v,
                          (const float *)call->x + first_of(pass, call->op->in)));
    NIN__TRY(multiply(pass, &product));
    return launch_tiles(pass, tiled_y(pass), map_output<side, size>,
                        (float *)call->y + first_of(pass, call->op->out), (const float *)pass->from,
                        nin__cuda_bias(call), call->op->relu);
}

/* E dy and, from it and B x, the gradient of the weights. */
template <int side, int size> nin_status add_weights(const struct pass *pass)
{
    const struct cuda_call *call = pass->call;
    const struct nin__op *op = call->op;
    const struct nin__executable *executable = call->executable;
    struct cuda_parts_product product = {};
    size_t out = first_of(pass, op->out);
    float *sums =
        op->bias == NIN__NO_PARAMETER
            ? NULL
            : executable->scratch.sums +
                  nin__cuda_all_tiles(call->cuda->tiling.y, pass->part.first) * (size_t)op->out.c;

    product.points = points_of(pass) * (uint32_t)pass->groups.count; /* a group is one, too */
    product.cut.parts = 1;
    product.cut.part_rows = (uint32_t)pass->groups.tiles;
    product.x = values_of(pass->v, pass->groups.tiles, op->in.c);
    product.dy = values_of(pass->from, pass->groups.tiles, op->out.c);
    product.sums = executable->scratch.products;
    NIN__TRY(launch_tiles(pass, tiled_y(pass), map_gradient<side, size>, pass->from, sums,
                          (float *)call->dy + out,
                          op->relu && !call->gated ? (const float *)call->y + out : NULL));
    NIN__TRY(nin__cuda_multiply_parts(call->device, &product));
    return nin__cuda_winograd_finish_weights(call, pass->groups.count,
                                             call->run->accumulate || pass->part.first > 0);
}

/* As forward, with dy, which has been gated. */
template <int side, int size> nin_status go_down(const struct pass *pass)
{
    const struct cuda_call *call = pass->call;
    struct cuda_rows_product product = {};

    product.a = values_of(pass->from, nin__cuda_all_tiles(call->cuda->tiling.dx, pass->part.images),
                          call->op->out.c);
    product.b = (const float *)call->turned;
    product.b_depth = (uint32_t)call->op->in.c;
    product.b_column = 1;
    product.c = pass->to;
    product.columns = (uint32_t)call->op->in.c;
    NIN__TRY(launch_tiles(pass, tiled_dy(pass), map_data<side, size>, pass->from,
                          (const float *)call->dy + first_of(pass, call->op->out)));
    NIN__TRY(multiply(pass, &product));
    return launch_tiles(pass, tiled_dx(pass), map_output<side, size>,
                        (float *)call->dx + first_of(pass, call->op->in), (const float *)pass->to,
                        (const float *)NULL, false);
}

template <int side, int size> nin_status go_back(const struct pass *pass)
{
    const struct cuda_call *call = pass->call;

    if (call->cuda->saved_per_image == 0)
        NIN__TRY(launch_tiles(pass, tiled_x(pass), map_data<side, size>, pass->v,
                              (const float *)call->x + first_of(pass, call->op->in)));
    NIN__TRY((add_weights<side, size>(pass)));
    return call->dx == NULL ? NIN_OK : go_down<side, size>(pass);
}

/* The tiles' sums of dy become the bias's gradient. */
nin_status finish_bias(const struct cuda_call *call)
{
    size_t rows = nin__cuda_all_tiles(call->cuda->tiling.y, call->images);
    float *sums = call->executable->scratch.sums;

    if (call->op->bias == NIN__NO_PARAMETER)
        return NIN_OK;
    return nin__cuda_bias_gradient(call, cuda_values{sums, NULL, rows, false},
                                   sums + rows * (size_t)call->op->out.c);
}

/* What is done with the tiles of some size. */
struct kind {
    int32_t side, kernel;
    nin_status (*forward)(const struct pass *pass);
    nin_status (*backward)(const struct pass *pass);
};

const struct kind kinds[] = {
    {8, 5, go_forward<8, 4>, go_back<8, 4>},
    {8, 3, go_forward<8, 6>, go_back<8, 6>},
    {6, 3, go_forward<6, 4>, go_back<6, 4>},
};

const struct kind *kind_of(const struct cuda_op *cuda)
{
    const struct kind *kind = kinds;

    while (kind->side != cuda->tiling.side || kind->kernel != cuda->op->kernel_h)
        kind++;
    return kind;
}

} // namespace

nin_status nin__cuda_winograd_conv(const struct cuda_call *call)
{
    int32_t most = nin__cuda_tile_images(call->cuda, call->images);
    struct cuda_part part = {0, 0};

    while (nin__cuda_next_part(&part, call, most)) {
        struct pass pass = pass_of(call, part);

        NIN__TRY(kind_of(call->cuda)->forward(&pass));
    }
    return NIN_OK;
}

nin_status nin__cuda_winograd_conv_backward(const struct cuda_call *call)
{
    int32_t most = nin__cuda_tile_images(call->cuda, call->images);
    struct cuda_part part = {0, 0};

    while (nin__cuda_next_part(&part, call, most)) {
        struct pass pass = pass_of(call, part);

        NIN__TRY(kind_of(call->cuda)->backward(&pass));
    }
    return finish_bias(call);
}
