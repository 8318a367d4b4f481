/* SPDX-License-Identifier: MIT */
/* Convolution by Winograd's minimal filtering (kernels/winograd.h has the maps): F(4x4, 5x5) and
 * F(4x4, 3x3) or F(6x6, 3x3), stride 1; the rule below chooses. With B the map of data, E that of
 * weights and of gradients of the output, and A that of outputs, for tiles of side x side pixels of
 * the input and size x size of the output,
 *
 *     y  = A (sum over C  of B x * E w)        dx the same with dy for x and the kernel turned around
 *     dw = A (sum over tiles of B x * E dy)    size and kernel change places; one A a step
 *
 * so at each of the side x side points there is one matrix product over all tiles of the chunk. */
#include "cpu/conv.h"
#include "cpu/tiles.h"

#include <string.h>

/* What keeps the values of a pass in a cache of the second level: images are taken together up to
 * so many tiles. The weights' tiles are part of the order in which their gradients add up. */
enum {
    DATA_TILES = 16,
    WEIGHT_TILES = 64 /* at least as many */
};

/* Channels whose products are summed by themselves, at most. */
enum {
    SUM_BLOCK = 32
};

/* Floats from point to point: the tiles of one, and a cache line more, so that the points of a tile
 * do not all fall into one set of the cache. */
static ptrdiff_t slab_of(const struct cpu_tiling *t, int32_t channels)
{
    return (ptrdiff_t)t->count * channels + NIN__ALIGNMENT / (ptrdiff_t)sizeof(float);
}

/* ---- maps of a chunk ---------------------------------------------------------------------- */

/* Images of one shape, and a pixel of zeros for what lies outside. */
struct images {
    const float *values, *zeros;
    struct nin__shape plane;
};

/* Where the side x side pixels of a window lie, row by row; zeros outside its rows and columns
 * too. */
static void find_pixels(const float **pixels, const struct images *m, struct cpu_tile window,
                        int32_t side)
{
    for (int32_t r = 0; r < side; r++, pixels += side) {
        int32_t y = window.y + r;
        bool inside = r < window.rows && y >= 0 && y < m->plane.h;
        ptrdiff_t row = inside ? ((ptrdiff_t)window.image * m->plane.h + y) * m->plane.w : 0;

        for (int32_t q = 0; q < side; q++) {
            int32_t x = window.x + q;

            pixels[q] = inside && q < window.columns && x >= 0 && x < m->plane.w
                            ? m->values + (row + x) * m->plane.c
                            : m->zeros;
        }
    }
}

/* v: [point][tile][C], B of the side x side pixels from (y - pad, x - pad) on. */
static void map_data(const struct cpu_kernels *kernels, const struct cpu_tiling *t,
                     const struct images *m, int32_t pad, float *v)
{
    for (int32_t n = 0; n < t->count; n++) {
        struct cpu_tile tile = nin__cpu_find_tile(t, n);
        struct cpu_tile window = {tile.image, tile.y - pad, tile.x - pad, t->side, t->side};
        const float *pixels[WINOGRAD_MAX_POINTS];

        find_pixels(pixels, m, window, t->side);
        kernels->winograd_data(v + (ptrdiff_t)n * m->plane.c, slab_of(t, m->plane.c), pixels,
                               t->side, m->plane.c);
    }
}

/* d: [point][tile][channels], E of the tile's own pixels of channels from `first` on. */
static void map_gradient(const struct cpu_kernels *kernels, const struct cpu_tiling *t,
                         const struct images *m, int32_t first, int32_t channels, float *d)
{
    struct images block = *m;

    block.values += first;
    for (int32_t n = 0; n < t->count; n++) {
        const float *pixels[WINOGRAD_MAX_SIZE * WINOGRAD_MAX_SIZE];

        find_pixels(pixels, &block, nin__cpu_find_tile(t, n), t->down.size);
        kernels->winograd_gradient(d + (ptrdiff_t)n * channels, slab_of(t, channels), pixels,
                                   t->side, t->down.size, channels);
    }
}

/* Columns first ... first + columns - 1 of y from m: [point][tile][columns]. */
static void map_outputs(const struct cpu_kernels *kernels, const struct cpu_tiling *t,
                        const float *m, const struct cpu_outputs *o, int32_t first, int32_t columns)
{
    struct cpu_winograd_output out = {.bias = o->bias == NULL ? NULL : o->bias + first,
                                      .relu = o->relu,
                                      .side = t->side,
                                      .size = t->down.size,
                                      .channels = columns,
                                      .slab = slab_of(t, columns),
                                      .row = (ptrdiff_t)o->plane.w * o->plane.c,
                                      .column = o->plane.c};

    for (int32_t n = 0; n < t->count; n++) {
        struct cpu_tile tile = nin__cpu_find_tile(t, n);
        ptrdiff_t at =
            (((ptrdiff_t)tile.image * o->plane.h + tile.y) * o->plane.w + tile.x) * o->plane.c +
            first;

        out.m = m + (ptrdiff_t)n * columns;
        out.y = o->y + at;
        out.gate = o->gate == NULL ? NULL : o->gate + at;
        out.rows = o->plane.h - tile.y < tile.rows ? o->plane.h - tile.y : tile.rows;
        out.columns = o->plane.w - tile.x < tile.columns ? o->plane.w - tile.x : tile.columns;
        kernels->winograd_output(&out);
    }
}

/* ---- the rule ----------------------------------------------------------------------------- */

/* Where a side has one pixel most taps meet nothing but zeros, and the error of leaving them out by
 * additions is up to 8e-6 of what is left. */
bool nin__cpu_winograd_fits(const struct nin__op *op)
{
    return nin__cpu_is_mapped(op) && op->in.h > 1 && op->in.w > 1;
}

/* Multiplications of one image's forward pass with tiles of a side, and what the maps cost beside
 * them: measured, as much as MAP_COST multiplications for each channel of a point of a tile. */
static int64_t cost(const struct nin__op *op, int32_t side)
{
    static const int64_t MAP_COST = 5;
    struct cpu_tiling t = nin__cpu_tile_images(op->out.h, op->out.w, op->kernel_h, side, 1);

    return nin__cpu_count_points(&t) * op->in.c * op->out.c +
           MAP_COST * side * side * t.count * nin__cpu_mapped_channels(op);
}

static int32_t side_of(const struct nin__op *op)
{
    return op->kernel_h == 3 && cost(op, 6) < cost(op, 8) ? 6 : 8;
}

int64_t nin__cpu_winograd_cost(const struct nin__op *op)
{
    return cost(op, side_of(op));
}

/* ---- shapes ------------------------------------------------------------------------------- */

static size_t points_of(const struct nin__op *op)
{
    return (size_t)side_of(op) * (size_t)side_of(op);
}

/* A pass's tiles, of the outputs, or of the inputs, which the gradient of the data covers. */
static struct cpu_tiling tile_plane(const struct nin__op *op, struct nin__shape plane,
                                    int32_t images)
{
    return nin__cpu_tile_images(plane.h, plane.w, op->kernel_h, side_of(op), images);
}

static struct cpu_work work(const struct cpu_op *cpu)
{
    const struct nin__op *op = cpu->op;
    struct cpu_tiling out = tile_plane(op, op->out, 1), in = tile_plane(op, op->in, 1);
    int64_t size = (int64_t)op->in.c * op->out.c, forward = size * nin__cpu_count_points(&out);

    return (struct cpu_work){forward, forward, size * nin__cpu_count_points(&in)};
}

/* Sums of a lane: [point][C][OC padded], then db. */
static size_t sum_floats(const struct cpu_op *cpu)
{
    return points_of(cpu->op) * (size_t)cpu->op->in.c *
           (size_t)nin__cpu_padded(cpu, cpu->op->out.c);
}

/* How many images go through a pass together. */
static int32_t images_together(const struct nin__op *op, int32_t most)
{
    int32_t tiles = tile_plane(op, op->out, 1).count;

    return tiles < most ? most / tiles : 1;
}

/* Scratch: a pixel of zeros, data at the points, and products or gradients at the points. */
struct scratch {
    size_t data, products, floats; /* where they begin; all */
};

static size_t largest(size_t a, size_t b)
{
    return a > b ? a : b;
}

static struct scratch lay_scratch(const struct cpu_op *cpu, int32_t images)
{
    const struct nin__op *op = cpu->op;
    int32_t together = images_together(op, cpu->train ? WEIGHT_TILES : DATA_TILES);
    struct cpu_tiling out = tile_plane(op, op->out, together < images ? together : images);
    struct cpu_tiling in = tile_plane(op, op->in, together < images ? together : images);
    size_t zeros =
        largest((size_t)nin__cpu_padded(cpu, op->in.c), (size_t)nin__cpu_padded(cpu, op->out.c));
    size_t data = (size_t)slab_of(&out, op->in.c);
    size_t products = largest((size_t)slab_of(&in, CPU_BLOCK), (size_t)slab_of(&out, CPU_BLOCK));
    struct scratch s;

    if (cpu->wants_dx)
        data = largest(data, (size_t)slab_of(&in, op->out.c));
    s.data = nin__cpu_align_floats(zeros);
    s.products = s.data + nin__cpu_align_floats(points_of(op) * data);
    s.floats = s.products + points_of(op) * products;
    return s;
}

static void declare(struct cpu_need *need, const struct cpu_op *cpu, int32_t unit)
{
    const struct nin__op *op = cpu->op;

    need->scratch = lay_scratch(cpu, unit).floats * sizeof(float);
    need->lane = (sum_floats(cpu) + (size_t)nin__cpu_padded(cpu, op->out.c)) * sizeof(float);
    need->form[CPU_FORWARD] = CPU_FORM_WINOGRAD;
    need->form[CPU_BACKWARD] = CPU_FORM_WINOGRAD_TURNED;
    need->prepared[CPU_FORWARD] =
        nin__cpu_blocked_floats(cpu, points_of(op), op->in.c, op->out.c) * sizeof(float);
    if (cpu->wants_dx)
        need->prepared[CPU_BACKWARD] =
            nin__cpu_blocked_floats(cpu, points_of(op), op->out.c, op->in.c) * sizeof(float);
}

static const float *clear_zeros(const struct cpu_call *call)
{
    return memset(call->scratch, 0, lay_scratch(call->cpu, call->images).data * sizeof(float));
}

/* ---- forward and data --------------------------------------------------------------------- */

/* At each point: products [tile][columns] = data [tile][depth] * weights, the block's. */
static void multiply_points(const struct cpu_kernels *kernels, const struct cpu_tiling *t,
                            const float *data, const float *weights, float *products, int32_t depth,
                            struct cpu_columns columns)
{
    size_t packed = kernels->packed_size(depth, columns.in_block);
    struct cpu_product product = {.columns = columns.count,
                                  .depth = depth,
                                  .runs = 1,
                                  .block = nin__cpu_even_block(depth, SUM_BLOCK),
                                  .b_first = columns.first - columns.block,
                                  .b_columns = columns.in_block,
                                  .a_row = depth,
                                  .c_row = columns.count,
                                  .b_ahead = (ptrdiff_t)packed};

    for (int32_t k = 0; k < t->side * t->side; k++) {
        int32_t first;

        nin__cpu_tiles_of_point(t, k, &first, &product.rows);
        product.a = data + k * slab_of(t, depth) + (ptrdiff_t)first * depth;
        product.b = weights + (size_t)k * packed;
        product.c = products + k * slab_of(t, columns.count) + (ptrdiff_t)first * columns.count;
        kernels->multiply(&product);
    }
}

/* One convolution of a chunk: x with its pad to o, which tiles t cover; weights in blocks of
 * columns. */
static void convolve(const struct cpu_call *call, const struct images *x, int32_t pad,
                     const float *weights, const struct cpu_tiling *t, const struct cpu_outputs *o)
{
    const struct cpu_kernels *kernels = call->cpu->kernels;
    struct scratch s = lay_scratch(call->cpu, call->images);
    float *data = call->scratch + s.data, *products = call->scratch + s.products;
    size_t block = nin__cpu_block_floats(call->cpu, points_of(call->op), x->plane.c, CPU_BLOCK);
    size_t first, end;

    nin__cpu_share_range(call->share, (size_t)o->plane.c, CPU_SHARE, &first, &end);
    if (first == end)
        return;
    map_data(kernels, t, x, pad, data);
    for (int32_t n = (int32_t)first; n < (int32_t)end;) {
        struct cpu_columns columns = nin__cpu_columns_of(n, (int32_t)end, o->plane.c);

        multiply_points(kernels, t, data, weights + (size_t)(columns.block / CPU_BLOCK) * block,
                        products, x->plane.c, columns);
        map_outputs(kernels, t, products, o, n, columns.count);
        n += columns.count;
    }
}

/* The next pass of a call, from one of no images at its beginning on; false behind the last. */
static bool next_pass(struct cpu_call *pass, const struct cpu_call *call, int32_t tiles)
{
    size_t in = (size_t)pass->images * nin__shape_size(call->op->in);
    size_t out = (size_t)pass->images * nin__shape_size(call->op->out);
    int32_t rest = call->first + call->images - pass->first - pass->images;
    int32_t images = images_together(call->op, tiles);

    pass->first += pass->images;
    pass->x += in;
    pass->dx = call->dx == NULL ? NULL : pass->dx + in;
    pass->y += out;
    pass->dy = call->dy == NULL ? NULL : pass->dy + out;
    pass->fresh = call->fresh && pass->first == call->first;
    pass->images = rest < images ? rest : images;
    return rest > 0;
}

static void forward_pass(const struct cpu_call *call)
{
    const struct nin__op *op = call->op;
    struct images x = {call->x, clear_zeros(call), op->in};
    struct cpu_outputs y = nin__cpu_outputs(call);
    struct cpu_tiling t = tile_plane(op, op->out, call->images);

    convolve(call, &x, op->pad, call->prepared[CPU_FORWARD], &t, &y);
}

static void forward(const struct cpu_call *call)
{
    struct cpu_call pass = *call;

    pass.images = 0;
    while (next_pass(&pass, call, DATA_TILES))
        forward_pass(&pass);
}

/* ---- backward ----------------------------------------------------------------------------- */

/* All rows of a sum, in blocks: a lane may have thousands of tiles. None make a fresh sum 0. */
static void add_tiles(const struct cpu_kernels *kernels, const struct cpu_outer *sum)
{
    struct cpu_outer block = *sum;

    block.apart = true;
    for (int32_t row = 0; row == 0 || row < sum->rows; row += WEIGHT_TILES) {
        block.rows = sum->rows - row < WEIGHT_TILES ? sum->rows - row : WEIGHT_TILES;
        block.a = sum->a + row * sum->a_row;
        block.b = sum->b + row * sum->b_row;
        block.fresh = sum->fresh && row == 0;
        kernels->add_outer(&block);
    }
}

/* At each point: sums (C x OC) += data (tiles x C)' * gradients (tiles x OC), a block of columns of
 * OC at a time. */
static void add_weights(const struct cpu_call *call, const struct images *x,
                        const struct images *dy)
{
    const struct cpu_kernels *kernels = call->cpu->kernels;
    struct cpu_tiling t = tile_plane(call->op, call->op->out, call->images);
    struct scratch s = lay_scratch(call->cpu, call->images);
    float *data = call->scratch + s.data, *gradients = call->scratch + s.products;
    struct cpu_outer outer = {.fresh = call->fresh,
                              .groups = 1,
                              .depth = x->plane.c,
                              .a_row = x->plane.c,
                              .c_row = nin__cpu_padded(call->cpu, dy->plane.c),
                              .a_ahead = slab_of(&t, x->plane.c)};

    map_data(kernels, &t, x, call->op->pad, data);
    for (int32_t n = 0; n < dy->plane.c; n += CPU_BLOCK) {
        outer.columns = nin__cpu_block_of(n, dy->plane.c);
        outer.b_row = outer.columns;
        outer.b_ahead = slab_of(&t, outer.columns);
        map_gradient(kernels, &t, dy, n, outer.columns, gradients);
        for (int32_t k = 0; k < t.side * t.side; k++) {
            int32_t first;

            nin__cpu_tiles_of_point(&t, k, &first, &outer.rows);
            outer.a = data + k * slab_of(&t, x->plane.c) + (ptrdiff_t)first * x->plane.c;
            outer.b = gradients + k * slab_of(&t, outer.columns) + (ptrdiff_t)first * outer.columns;
            outer.c = call->lane + (ptrdiff_t)k * x->plane.c * outer.c_row + n;
            add_tiles(kernels, &outer);
        }
    }
}

static void weights_pass(const struct cpu_call *call)
{
    const struct nin__op *op = call->op;
    const float *zeros = clear_zeros(call);
    struct images x = {call->x, zeros, op->in};
    struct images dy = {call->dy, zeros, op->out};

    add_weights(call, &x, &dy);
}

static void data_pass(const struct cpu_call *call)
{
    const struct nin__op *op = call->op;
    const float *zeros = clear_zeros(call);
    struct images dy = {call->dy, zeros, op->out};
    struct cpu_outputs dx = nin__cpu_data_outputs(call);
    struct cpu_tiling t = tile_plane(op, op->in, call->images);

    convolve(call, &dy, op->kernel_h - 1 - op->pad, call->prepared[CPU_BACKWARD], &t, &dx);
}

static void backward(const struct cpu_call *call)
{
    struct cpu_call pass = *call;

    nin__cpu_begin_backward(call, call->lane + sum_floats(call->cpu));
    pass.images = 0;
    while (next_pass(&pass, call, WEIGHT_TILES))
        weights_pass(&pass);
    pass = *call;
    pass.images = 0;
    while (call->dx != NULL && next_pass(&pass, call, DATA_TILES))
        data_pass(&pass);
}

/* ---- prepare and finish ------------------------------------------------------------------- */

/* Block by block; rows of the depth are shared out. */
static void prepare_blocks(const struct cpu_op *cpu, struct cpu_winograd_weights weights,
                           struct cpu_share share)
{
    struct cpu_winograd_weights block = weights;
    size_t first, end;

    nin__cpu_share_range(share, (size_t)weights.depth, 1, &first, &end);
    for (int32_t n = 0; n < weights.columns; n += CPU_BLOCK) {
        block.w = weights.w + n * weights.column_step;
        block.columns = nin__cpu_block_of(n, weights.columns);
        cpu->kernels->winograd_weights(&block, (int32_t)first, (int32_t)end);
        block.u += weights.side * weights.side *
                   (ptrdiff_t)cpu->kernels->packed_size(block.depth, block.columns);
    }
}

static void prepare(const struct cpu_op *cpu, enum cpu_pass pass, const float *parameters,
                    float *prepared, struct cpu_share share)
{
    const struct nin__op *op = cpu->op;
    const float *oihw = parameters + op->weight;
    int32_t area = op->kernel_h * op->kernel_w;
    ptrdiff_t filter = (ptrdiff_t)area * op->in.c;
    bool turned = pass == CPU_BACKWARD; /* the taps backwards: the kernel turned around */
    struct cpu_winograd_weights weights = {.u = prepared,
                                           .w = turned ? oihw + area - 1 : oihw,
                                           .side = side_of(op),
                                           .kernel = op->kernel_h,
                                           .depth = turned ? op->out.c : op->in.c,
                                           .columns = turned ? op->in.c : op->out.c,
                                           .tap_step = turned ? -1 : 1,
                                           .depth_step = turned ? filter : area,
                                           .column_step = turned ? area : filter};

    prepare_blocks(cpu, weights, share);
}

/* The gradient of filters first ... first + columns - 1 for one channel. */
static void finish_filters(const struct cpu_op *cpu, const float *sums, float *gradient,
                           bool accumulate, size_t channel, size_t first, size_t columns)
{
    const struct nin__op *op = cpu->op;
    size_t area = (size_t)op->kernel_h * (size_t)op->kernel_w, channels = (size_t)op->in.c;
    ptrdiff_t row = nin__cpu_padded(cpu, op->out.c), width = cpu->kernels->width;
    float dw[25 * 16]; /* [tap][width], for the largest of both */

    cpu->kernels->winograd_weight_gradient(dw, sums + (ptrdiff_t)channel * row + (ptrdiff_t)first,
                                           (ptrdiff_t)channels * row, side_of(op), op->kernel_h,
                                           (int32_t)columns);
    for (size_t i = 0; i < columns; i++)
        for (size_t k = 0; k < area; k++)
            nin__cpu_put(&gradient[op->weight + ((first + i) * channels + channel) * area + k],
                         dw[k * (size_t)width + i], accumulate);
}

static void finish(const struct cpu_op *cpu, const float *lane, float *gradient, bool accumulate,
                   struct cpu_share share)
{
    const struct nin__op *op = cpu->op;
    size_t width = (size_t)cpu->kernels->width, filters = (size_t)op->out.c, first, end;
    const float *db = lane + sum_floats(cpu);

    nin__cpu_share_range(share, filters, width, &first, &end);
    for (size_t o = first; o < end; o += width)
        for (size_t c = 0; c < (size_t)op->in.c; c++)
            finish_filters(cpu, lane, gradient, accumulate, c, o,
                           end - o < width ? end - o : width);
    for (size_t o = first; op->bias != NIN__NO_PARAMETER && o < end; o++)
        nin__cpu_put(&gradient[op->bias + o], db[o], accumulate);
}

const struct cpu_algorithm nin__cpu_conv_winograd = {.name = "winograd",
                                                     .gates = true,
                                                     .whole = true,
                                                     .declare = declare,
                                                     .prepare = prepare,
                                                     .forward = forward,
                                                     .backward = backward,
                                                     .finish = finish,
                                                     .work = work};
