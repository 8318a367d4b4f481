/* SPDX-License-Identifier: MIT */
/* Convolution of whole planes by the Fourier transform of 9x9 or 16x16 pixels (kernels/fft.h),
 * stride 1. With X, W and DY the transforms of the input, of the kernel (tap a at place pad - a)
 * and of the gradient of the output,
 *
 *     Y = sum over C of X * W    DX = sum over OC of DY * conj(W)    DW = sum over images of X * conj(DY)
 *
 * so at each real and each complex point there is one matrix product over the images of a chunk.
 * The first two take the same weights, for they are large: up to 256 values for each kernel. For
 * the same reason DW is summed a block at a time, whose taps are added to those of other chunks.
 *
 * A plane of 14x14 pixels and a kernel of 5x5 take 508 multiplications for each pair of channels
 * where Winograd's tiles take 900 and windows 4900, with the rounding errors of direct sums. */
#include "cpu/conv.h"

#include <string.h>

/* Images that a pass takes together: measured. */
enum {
    PASS_IMAGES = 8
};

static int32_t at_most(int32_t count, int32_t most)
{
    return count < most ? count : most;
}

/* ---- the rule ----------------------------------------------------------------------------- */

static bool side_fits(const struct nin__op *op, int32_t side)
{
    return op->in.h + op->pad <= side && op->in.w + op->pad <= side;
}

/* Behind the side a plane begins again, so that one border of zeros serves both of its ends. */
static int32_t side_of(const struct nin__op *op)
{
    return side_fits(op, 9) ? 9 : 16;
}

bool nin__cpu_fft_fits(const struct nin__op *op)
{
    return nin__cpu_is_mapped(op) && side_fits(op, FFT_MAX_SIDE);
}

/* Products of an image, in any pass. */
static int64_t count_products(const struct nin__op *op)
{
    int32_t side = side_of(op);

    return (nin__cpu_fft_real(side) + 4 * nin__cpu_fft_complex(side)) * (int64_t)op->in.c *
           op->out.c;
}

static struct cpu_work work(const struct cpu_op *cpu)
{
    int64_t products = count_products(cpu->op);

    return (struct cpu_work){products, products, products};
}

int64_t nin__cpu_fft_cost(const struct nin__op *op)
{
    static const int64_t MAP_COST = 10; /* multiplications of a value's transform: measured */

    return count_products(op) + MAP_COST * side_of(op) * side_of(op) * nin__cpu_mapped_channels(op);
}

/* ---- memory ------------------------------------------------------------------------------- */

/* Values of some images at the points: [real point][image][channels], then [complex
 * point][image][parts * channels], each slab a cache line longer, so that a channel's points do not
 * all fall into one set of the cache. Parts are re and im, or re, -im, im and re for `multiply`. */
struct values {
    float *real, *complex;
    ptrdiff_t real_slab, complex_slab;
    int32_t side, images, channels, parts;
};

static ptrdiff_t slab_of(int32_t images, int32_t channels, int32_t parts)
{
    return (ptrdiff_t)images * channels * parts + NIN__ALIGNMENT / (ptrdiff_t)sizeof(float);
}

static struct values lay_values(float *base, const struct nin__op *op, int32_t images,
                                int32_t channels, int32_t parts)
{
    int32_t side = side_of(op);
    ptrdiff_t real = slab_of(images, channels, 1);

    return (struct values){.real = base,
                           .complex = base + nin__cpu_fft_real(side) * real,
                           .real_slab = real,
                           .complex_slab = slab_of(images, channels, parts),
                           .side = side,
                           .images = images,
                           .channels = channels,
                           .parts = parts};
}

static size_t values_floats(const struct nin__op *op, int32_t images, int32_t channels,
                            int32_t parts)
{
    int32_t side = side_of(op);

    return nin__cpu_align_floats(
        (size_t)(nin__cpu_fft_real(side) * slab_of(images, channels, 1) +
                 nin__cpu_fft_complex(side) * slab_of(images, channels, parts)));
}

/* Scratch of a pass forward: x, then a block's products; backward: dy, x, then a block's products
 * or sums. */
static size_t forward_floats(const struct nin__op *op, int32_t images)
{
    return values_floats(op, images, op->in.c, 4) + values_floats(op, images, CPU_BLOCK, 2);
}

static size_t backward_floats(const struct nin__op *op, int32_t images)
{
    size_t products = values_floats(op, images, CPU_BLOCK, 2);

    return values_floats(op, images, op->out.c, 2) + values_floats(op, images, op->in.c, 2) +
           (products > CPU_FFT_SUMS ? products : CPU_FFT_SUMS);
}

/* Floats of weights at the points: complex ones have re above im. */
static size_t points_of(const struct nin__op *op)
{
    return (size_t)side_of(op) * (size_t)side_of(op);
}

static void declare(struct cpu_need *need, const struct cpu_op *cpu, int32_t unit)
{
    const struct nin__op *op = cpu->op;
    int32_t images = at_most(unit, PASS_IMAGES);
    size_t forth = forward_floats(op, images), back = cpu->train ? backward_floats(op, images) : 0;

    need->scratch = (forth > back ? forth : back) * sizeof(float);
    need->lane = nin__cpu_tap_lane(cpu);
    need->form[CPU_FORWARD] = CPU_FORM_FOURIER;
    need->prepared[CPU_FORWARD] =
        nin__cpu_blocked_floats(cpu, points_of(op), op->in.c, op->out.c) * sizeof(float);
}

/* ---- maps --------------------------------------------------------------------------------- */

static void map_data(const struct cpu_kernels *kernels, const struct values *v, const float *x,
                     struct nin__shape plane)
{
    for (int32_t n = 0; n < v->images; n++)
        kernels->fft_data(&(struct cpu_fft_data){
            .real = v->real + (ptrdiff_t)n * plane.c,
            .complex = v->complex + (ptrdiff_t)n * v->parts * plane.c,
            .x = x + (size_t)n * nin__shape_size(plane),
            .one_row = v->parts == 2,
            .side = v->side,
            .rows = plane.h,
            .columns = plane.w,
            .channels = plane.c,
            .real_slab = v->real_slab,
            .complex_slab = v->complex_slab,
            .row = (ptrdiff_t)plane.w * plane.c,
        });
}

/* Columns first ... of the output, from their products. */
static void map_outputs(const struct cpu_kernels *kernels, const struct values *v,
                        const struct cpu_outputs *o, int32_t first)
{
    struct cpu_fft_output out = {.bias = o->bias == NULL ? NULL : o->bias + first,
                                 .relu = o->relu,
                                 .side = v->side,
                                 .rows = o->plane.h,
                                 .columns = o->plane.w,
                                 .channels = v->channels,
                                 .real_slab = v->real_slab,
                                 .complex_slab = v->complex_slab,
                                 .row = (ptrdiff_t)o->plane.w * o->plane.c,
                                 .column = o->plane.c};

    for (int32_t n = 0; n < v->images; n++) {
        size_t at = (size_t)n * nin__shape_size(o->plane) + (size_t)first;

        out.real = v->real + (ptrdiff_t)n * v->channels;
        out.complex = v->complex + (ptrdiff_t)n * 2 * v->channels;
        out.y = o->y + at;
        out.gate = o->gate == NULL ? NULL : o->gate + at;
        kernels->fft_output(&out);
    }
}

/* Images first ... of a call, as many as go together. */
struct pass {
    int32_t first, images;
};

static bool next_pass(struct pass *pass, const struct cpu_call *call)
{
    pass->first += pass->images;
    pass->images = at_most(call->images - pass->first, PASS_IMAGES);
    return pass->images > 0;
}

/* ---- forward and backward ----------------------------------------------------------------- */

/* At each point: products (rows x columns) = data (rows x depth) * weights, a block's; complex ones
 * have twice the rows and twice the depth. */
static void multiply_forward(const struct cpu_kernels *kernels, const struct values *data,
                             const float *weights, struct cpu_columns columns,
                             const struct values *products)
{
    size_t packed = kernels->packed_size(data->channels, columns.in_block);
    struct cpu_product product = {.rows = data->images,
                                  .columns = columns.count,
                                  .depth = data->channels,
                                  .runs = 1,
                                  .b_first = columns.first - columns.block,
                                  .b_columns = columns.in_block,
                                  .a_row = data->channels,
                                  .c_row = products->channels,
                                  .b_ahead = (ptrdiff_t)packed};

    for (int32_t p = 0; p < nin__cpu_fft_real(data->side); p++, weights += packed) {
        product.a = data->real + p * data->real_slab;
        product.b = weights;
        product.c = products->real + p * products->real_slab;
        kernels->multiply(&product);
    }
    product.rows *= 2;
    product.depth *= 2;
    product.a_row *= 2;
    product.b_ahead *= 2;
    for (int32_t p = 0; p < nin__cpu_fft_complex(data->side); p++, weights += 2 * packed) {
        product.a = data->complex + p * data->complex_slab;
        product.b = weights;
        product.c = products->complex + p * products->complex_slab;
        kernels->multiply(&product);
    }
}

/* Some images' outputs, a block of channels at a time. */
static void convolve(const struct cpu_call *call, struct pass pass)
{
    const struct nin__op *op = call->op;
    const struct cpu_kernels *kernels = call->cpu->kernels;
    const float *weights = call->prepared[CPU_FORWARD];
    struct values data = lay_values(call->scratch, op, pass.images, op->in.c, 4);
    float *room = call->scratch + values_floats(op, pass.images, op->in.c, 4);
    struct cpu_outputs y = nin__cpu_outputs(call);
    size_t block = nin__cpu_block_floats(call->cpu, points_of(op), op->in.c, CPU_BLOCK);
    size_t first, end;

    nin__cpu_share_range(call->share, (size_t)op->out.c, CPU_SHARE, &first, &end);
    if (first == end)
        return;
    y.y += (size_t)pass.first * nin__shape_size(op->out);
    map_data(kernels, &data, call->x + (size_t)pass.first * nin__shape_size(op->in), op->in);
    for (int32_t n = (int32_t)first; n < (int32_t)end;) {
        struct cpu_columns columns = nin__cpu_columns_of(n, (int32_t)end, op->out.c);
        struct values products = lay_values(room, op, pass.images, columns.count, 2);

        multiply_forward(kernels, &data, weights + (size_t)(columns.block / CPU_BLOCK) * block,
                         columns, &products);
        map_outputs(kernels, &products, &y, n);
        n += columns.count;
    }
}

/* At each point: products = data * conj(weights)', for channels first ... of the input. */
static void multiply_backward(const struct cpu_call *call, const struct values *data, int32_t first,
                              const struct values *products)
{
    const struct nin__op *op = call->op;
    const struct cpu_kernels *kernels = call->cpu->kernels;
    struct cpu_fft_data_gradient gradient = {
        .b = call->prepared[CPU_FORWARD],
        .images = data->images,
        .columns = op->out.c,
        .depth = op->in.c,
        .first = first,
        .count = products->channels,
        .b_block = (ptrdiff_t)nin__cpu_block_floats(call->cpu, points_of(op), op->in.c, CPU_BLOCK)};

    for (int32_t p = 0; p < nin__cpu_fft_real(data->side); p++) {
        gradient.a = data->real + p * data->real_slab;
        gradient.c = products->real + p * products->real_slab;
        gradient.point = p;
        kernels->fft_data_gradient(&gradient);
    }
    gradient.complex = true;
    for (int32_t p = 0; p < nin__cpu_fft_complex(data->side); p++) {
        gradient.a = data->complex + p * data->complex_slab;
        gradient.c = products->complex + p * products->complex_slab;
        gradient.point = nin__cpu_fft_real(data->side) + 2 * p;
        kernels->fft_data_gradient(&gradient);
    }
}

/* The gradient of some images' data, likewise. */
static void add_data(const struct cpu_call *call, struct pass pass, const struct values *dy,
                     float *room)
{
    const struct nin__op *op = call->op;
    size_t in = (size_t)pass.first * nin__shape_size(op->in);
    struct cpu_outputs dx = nin__cpu_data_outputs(call);

    dx.y += in;
    dx.gate = dx.gate == NULL ? NULL : dx.gate + in;
    for (int32_t n = 0; n < op->in.c; n += CPU_BLOCK) {
        struct values products =
            lay_values(room, op, pass.images, nin__cpu_block_of(n, op->in.c), 2);

        multiply_backward(call, dy, n, &products);
        map_outputs(call->cpu->kernels, &products, &dx, n);
    }
}

static struct cpu_fft_rows rows_from(const struct values *v, int32_t channel)
{
    return (struct cpu_fft_rows){.real = v->real + channel,
                                 .complex = v->complex + channel,
                                 .real_slab = v->real_slab,
                                 .complex_slab = v->complex_slab,
                                 .channels = v->channels};
}

/* The taps' gradients that come of some images, a block of channels and filters at a time. */
static void add_weights(const struct cpu_call *call, struct pass pass, const struct values *x,
                        const struct values *dy, float *room)
{
    const struct nin__op *op = call->op;
    ptrdiff_t row = nin__cpu_padded(call->cpu, op->out.c);
    struct cpu_fft_weight_gradient g = {.sums = room,
                                        .fresh = call->fresh && pass.first == 0,
                                        .side = x->side,
                                        .images = pass.images,
                                        .kernel = op->kernel_h,
                                        .pad = op->pad,
                                        .dw_tap = op->in.c * row,
                                        .dw_channel = row};

    for (int32_t n = 0; n < op->out.c; n += CPU_FFT_FILTERS)
        for (int32_t c = 0; c < op->in.c; c += CPU_FFT_CHANNELS) {
            g.x = rows_from(x, c);
            g.dy = rows_from(dy, n);
            g.channels = at_most(op->in.c - c, CPU_FFT_CHANNELS);
            g.filters = at_most(op->out.c - n, CPU_FFT_FILTERS);
            g.dw = call->lane + c * row + n;
            call->cpu->kernels->fft_weight_gradient(&g);
        }
}

static void backward_pass(const struct cpu_call *call, struct pass pass)
{
    const struct nin__op *op = call->op;
    const struct cpu_kernels *kernels = call->cpu->kernels;
    float *x_room = call->scratch + values_floats(op, pass.images, op->out.c, 2);
    float *room = x_room + values_floats(op, pass.images, op->in.c, 2);
    struct values dy = lay_values(call->scratch, op, pass.images, op->out.c, 2);
    struct values x = lay_values(x_room, op, pass.images, op->in.c, 2);

    map_data(kernels, &dy, call->dy + (size_t)pass.first * nin__shape_size(op->out), op->out);
    map_data(kernels, &x, call->x + (size_t)pass.first * nin__shape_size(op->in), op->in);
    add_weights(call, pass, &x, &dy, room);
    if (call->dx != NULL)
        add_data(call, pass, &dy, room);
}

static void forward(const struct cpu_call *call)
{
    struct pass pass = {0};

    while (next_pass(&pass, call))
        convolve(call, pass);
}

static void backward(const struct cpu_call *call)
{
    struct pass pass = {0};

    nin__cpu_begin_backward(call, call->lane + nin__cpu_tap_floats(call->cpu));
    while (next_pass(&pass, call))
        backward_pass(call, pass);
}

/* ---- prepare ------------------------------------------------------------------------------ */

static void prepare(const struct cpu_op *cpu, enum cpu_pass pass, const float *parameters,
                    float *prepared, struct cpu_share share)
{
    const struct nin__op *op = cpu->op;
    ptrdiff_t area = (ptrdiff_t)op->kernel_h * op->kernel_w;
    struct cpu_fft_weights weights = {.u = prepared,
                                      .w = parameters + op->weight,
                                      .side = side_of(op),
                                      .kernel = op->kernel_h,
                                      .pad = op->pad,
                                      .depth = op->in.c,
                                      .depth_step = area,
                                      .column_step = area * op->in.c};
    size_t first, end;

    (void)pass; /* backward has no weights of its own */
    nin__cpu_share_range(share, (size_t)op->in.c, 1, &first, &end);
    for (int32_t n = 0; n < op->out.c; n += CPU_BLOCK) {
        weights.columns = nin__cpu_block_of(n, op->out.c);
        cpu->kernels->fft_weights(&weights, (int32_t)first, (int32_t)end);
        weights.w += weights.columns * weights.column_step;
        weights.u += nin__cpu_block_floats(cpu, points_of(op), op->in.c, weights.columns);
    }
}

const struct cpu_algorithm nin__cpu_conv_fft = {.name = "fft",
                                                .gates = true,
                                                .whole = true,
                                                .declare = declare,
                                                .prepare = prepare,
                                                .forward = forward,
                                                .backward = backward,
                                                .finish = nin__cpu_finish_taps,
                                                .work = work};
