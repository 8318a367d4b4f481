/* SPDX-License-Identifier: MIT */
/* Convolution without a matrix of windows. In NHWC a window is kernel_h runs of kernel_w * C
 * floats, and the windows of a row of pixels lie stride * C apart, so the product
 *
 *     y (pixels x OC) = sum over the runs r of x_r (pixels x kernel_w * C) * w_r (kernel_w * C x OC)
 *
 * reads its left side from the padded input as it lies. A 1x1 convolution and a dense layer have
 * one run over all pixels at once. Backward for the data is, with stride 1, the same with the
 * kernel turned around; with a larger one the gradients of the windows are made and scattered. */
#include "cpu/conv.h"

#include <string.h>

/* ---- shapes ------------------------------------------------------------------------------- */

/* A map with a border of zeros. */
struct frame {
    int32_t h, w, c; /* of the map */
    int32_t pad;
};

static struct frame input_frame(const struct nin__op *op)
{
    return (struct frame){op->in.h, op->in.w, op->in.c, op->pad};
}

/* Around dy, for the turned kernel: kernels are square where they are padded or larger than 1x1. */
static struct frame gradient_frame(const struct nin__op *op)
{
    return (struct frame){op->out.h, op->out.w, op->out.c, op->kernel_h - 1 - op->pad};
}

static size_t frame_floats(struct frame frame)
{
    return (size_t)(frame.h + 2 * frame.pad) * (size_t)(frame.w + 2 * frame.pad) * (size_t)frame.c;
}

static int32_t depth_of(const struct nin__op *op)
{
    return (int32_t)nin__cpu_patch_size(op);
}

/* How a sum is cut, if it is long: a window of 5x5 over 48 channels has 1200 products. */
static int32_t block_of(int32_t depth, int32_t runs)
{
    enum {
        LONG_SUM = 256,
        SUM_BLOCK = 64
    };

    return (int64_t)depth * runs > LONG_SUM ? nin__cpu_even_block(depth, SUM_BLOCK) : 0;
}

/* The form of the weights for dx: the turned kernel, or OC x patch for the gradients of windows. */
static bool is_turned(const struct nin__op *op)
{
    return !nin__cpu_is_flat(op) && op->stride == 1 && op->kernel_h == op->kernel_w;
}

static size_t forward_packed(const struct cpu_op *cpu)
{
    return cpu->kernels->packed_size(depth_of(cpu->op), cpu->op->out.c);
}

static size_t backward_packed(const struct cpu_op *cpu)
{
    const struct nin__op *op = cpu->op;

    if (is_turned(op))
        return cpu->kernels->packed_size(op->kernel_h * op->kernel_w * op->out.c, op->in.c);
    return cpu->kernels->packed_size(op->out.c, depth_of(op));
}

static size_t scratch_floats(const struct cpu_op *cpu)
{
    const struct nin__op *op = cpu->op;
    size_t input, gradient = 0;

    if (nin__cpu_is_flat(op))
        return 0;
    input = op->pad > 0 ? frame_floats(input_frame(op)) : 0;
    if (cpu->wants_dx)
        gradient = is_turned(op) ? frame_floats(gradient_frame(op))
                                 : (size_t)op->out.w * (size_t)depth_of(op);
    return input > gradient ? input : gradient;
}

static void declare(struct cpu_need *need, const struct cpu_op *cpu, int32_t unit)
{
    (void)unit;
    need->form[CPU_FORWARD] = CPU_FORM_PACKED;
    need->form[CPU_BACKWARD] =
        is_turned(cpu->op) ? CPU_FORM_PACKED_TURNED : CPU_FORM_PACKED_WINDOWS;
    need->prepared[CPU_FORWARD] = forward_packed(cpu) * sizeof(float);
    if (cpu->wants_dx)
        need->prepared[CPU_BACKWARD] = backward_packed(cpu) * sizeof(float);
    need->scratch = scratch_floats(cpu) * sizeof(float);
    need->lane = nin__cpu_tap_lane(cpu);
}

/* Rows first ... end - 1 of the framed map, from an image x. Without a border the map is its
 * own. */
static const float *framed(float *target, const float *x, struct frame frame, int32_t first,
                           int32_t end)
{
    size_t side = (size_t)frame.pad * (size_t)frame.c, row = (size_t)frame.w * (size_t)frame.c;

    if (frame.pad == 0)
        return x;
    for (int32_t r = first; r < end; r++) {
        float *to = target + (size_t)r * (row + 2 * side);
        int32_t from = r - frame.pad;

        if (from < 0 || from >= frame.h) {
            memset(to, 0, (row + 2 * side) * sizeof *to);
            continue;
        }
        memset(to, 0, side * sizeof *to);
        memcpy(to + side, x + (size_t)from * row, row * sizeof *to);
        memset(to + side + row, 0, side * sizeof *to);
    }
    return target;
}

static ptrdiff_t framed_row(struct frame frame)
{
    return (ptrdiff_t)(frame.w + 2 * frame.pad) * frame.c;
}

/* ---- forward ------------------------------------------------------------------------------ */

static void forward_flat(const struct cpu_call *call)
{
    struct cpu_product product = nin__cpu_flat_product(call);

    product.block = block_of(product.depth, 1);
    call->cpu->kernels->multiply(&product);
}

/* Rows of one image: one product for each. */
static void forward_image(const struct cpu_call *call, const float *x, float *y)
{
    const struct nin__op *op = call->op;
    struct frame frame = input_frame(op);
    int32_t top = call->row * op->stride, end = (call->row + call->rows - 1) * op->stride;
    const float *a = framed(call->scratch, x, frame, top, end + op->kernel_h);
    ptrdiff_t a_row = framed_row(frame);
    struct cpu_product product = {.b = call->prepared[CPU_FORWARD],
                                  .bias = nin__cpu_bias(call),
                                  .relu = op->relu,
                                  .rows = op->out.w,
                                  .columns = op->out.c,
                                  .depth = op->kernel_w * op->in.c,
                                  .runs = op->kernel_h,
                                  .block = block_of(op->kernel_w * op->in.c, op->kernel_h),
                                  .a_row = (ptrdiff_t)op->stride * op->in.c,
                                  .a_run = a_row,
                                  .c_row = op->out.c};

    for (int32_t r = 0; r < call->rows; r++) {
        product.a = a + (ptrdiff_t)(call->row + r) * op->stride * a_row;
        product.c = y + (ptrdiff_t)r * op->out.w * op->out.c;
        call->cpu->kernels->multiply(&product);
    }
}

static void forward(const struct cpu_call *call)
{
    const struct nin__op *op = call->op;
    size_t in = nin__shape_size(op->in);
    size_t out = (size_t)call->rows * (size_t)op->out.w * (size_t)op->out.c;

    if (nin__cpu_is_flat(op)) {
        forward_flat(call);
        return;
    }
    for (size_t i = 0; i < (size_t)call->images; i++)
        forward_image(call, call->x + i * in, call->y + i * out);
}

/* ---- backward: weights -------------------------------------------------------------------- */

/* The product whose groups are rows of pixels: each by itself, if they are long. */
static void add_rows(const struct cpu_call *call, const struct cpu_outer *outer)
{
    const struct cpu_kernels *kernels = call->cpu->kernels;
    struct cpu_outer row = *outer;

    if (!nin__cpu_long_row(call->op)) {
        kernels->add_outer(outer);
        return;
    }
    row.groups = 1;
    row.apart = true;
    for (int32_t g = 0; g < outer->groups; g++) {
        row.fresh = outer->fresh && g == 0;
        kernels->add_outer(&row);
        row.a += outer->a_group;
        row.b += outer->b_group;
    }
}

/* dw (patch x OC) += x' * dy */
static void add_flat_weights(const struct cpu_call *call)
{
    const struct nin__op *op = call->op;
    struct cpu_outer outer = {.a = call->x,
                              .b = call->dy,
                              .c = call->lane,
                              .fresh = call->fresh,
                              .groups = 1,
                              .rows = call->images * call->rows * op->out.w,
                              .depth = depth_of(op),
                              .columns = op->out.c,
                              .a_row = depth_of(op),
                              .b_row = op->out.c,
                              .c_row = nin__cpu_padded(call->cpu, op->out.c)};

    if (call->cpu->rowwise) /* the next strip: forward wrote it long ago */
        outer.a_ahead = outer.rows * outer.a_row;
    if (nin__cpu_long_row(op)) {
        outer.groups = call->images * call->rows;
        outer.rows = op->out.w;
        outer.a_group = outer.rows * outer.a_row;
        outer.b_group = outer.rows * outer.b_row;
    }
    add_rows(call, &outer);
}

/* The same for the rows of one image, run by run of the window. */
static void add_image_weights(const struct cpu_call *call, const float *x, const float *dy,
                              bool fresh)
{
    const struct nin__op *op = call->op;
    struct frame frame = input_frame(op);
    int32_t top = call->row * op->stride, end = (call->row + call->rows - 1) * op->stride;
    const float *a = framed(call->scratch, x, frame, top, end + op->kernel_h);
    ptrdiff_t a_row = framed_row(frame);
    struct cpu_outer outer = {.b = dy,
                              .fresh = fresh,
                              .groups = call->rows,
                              .rows = op->out.w,
                              .depth = op->kernel_w * op->in.c,
                              .columns = op->out.c,
                              .a_group = op->stride * a_row,
                              .a_row = (ptrdiff_t)op->stride * op->in.c,
                              .b_group = (ptrdiff_t)op->out.w * op->out.c,
                              .b_row = op->out.c,
                              .c_row = nin__cpu_padded(call->cpu, op->out.c)};

    for (int32_t r = 0; r < op->kernel_h; r++) {
        outer.a = a + (top + r) * a_row;
        outer.c = call->lane + (ptrdiff_t)r * outer.depth * outer.c_row;
        add_rows(call, &outer);
    }
}

/* ---- backward: data ----------------------------------------------------------------------- */

static void flat_data(const struct cpu_call *call)
{
    struct cpu_product product = nin__cpu_flat_gradient(call);

    product.block = block_of(product.depth, 1);
    call->cpu->kernels->multiply(&product);
}

/* Stride 1: the turned kernel over dy in its frame. */
static void turned_data(const struct cpu_call *call, const float *x, const float *dy, float *dx)
{
    const struct nin__op *op = call->op;
    struct frame frame = gradient_frame(op);
    const float *a = framed(call->scratch, dy, frame, 0, frame.h + 2 * frame.pad);
    ptrdiff_t a_row = framed_row(frame), row = (ptrdiff_t)op->in.w * op->in.c;
    struct cpu_product product = {.b = call->prepared[CPU_BACKWARD],
                                  .rows = op->in.w,
                                  .columns = op->in.c,
                                  .depth = op->kernel_w * op->out.c,
                                  .runs = op->kernel_h,
                                  .block = block_of(op->kernel_w * op->out.c, op->kernel_h),
                                  .a_row = op->out.c,
                                  .a_run = a_row,
                                  .c_row = op->in.c};

    for (int32_t r = 0; r < op->in.h; r++) {
        product.a = a + r * a_row;
        product.c = dx + r * row;
        product.gate = call->cpu->gate_dx ? x + r * row : NULL;
        call->cpu->kernels->multiply(&product);
    }
}

/* dx += the gradients of the windows of one output row: patches [ox][r][s * C] */
static void scatter_row(const struct nin__op *op, float *dx, const float *patches, int32_t oy)
{
    for (int32_t ox = 0; ox < op->out.w; ox++)
        for (int32_t r = 0; r < op->kernel_h; r++) {
            int32_t row = oy * op->stride - op->pad + r, left = ox * op->stride - op->pad;
            int32_t skip = left < 0 ? -left : 0, end = op->in.w - left;
            const float *run =
                patches + ((ptrdiff_t)ox * op->kernel_h + r) * op->kernel_w * op->in.c;

            if (end > op->kernel_w)
                end = op->kernel_w;
            if (row >= 0 && row < op->in.h && end > skip)
                nin__cpu_add(dx + ((ptrdiff_t)row * op->in.w + left + skip) * op->in.c,
                             run + (ptrdiff_t)skip * op->in.c,
                             (size_t)(end - skip) * (size_t)op->in.c);
        }
}

static void scattered_data(const struct cpu_call *call, const float *x, const float *dy, float *dx)
{
    const struct nin__op *op = call->op;
    size_t size = nin__shape_size(op->in);
    struct cpu_product product = {.b = call->prepared[CPU_BACKWARD],
                                  .c = call->scratch,
                                  .rows = op->out.w,
                                  .columns = depth_of(op),
                                  .depth = op->out.c,
                                  .runs = 1,
                                  .block = block_of(op->out.c, 1),
                                  .a_row = op->out.c,
                                  .c_row = depth_of(op)};

    memset(dx, 0, size * sizeof *dx);
    for (int32_t oy = 0; oy < op->out.h; oy++) {
        product.a = dy + (ptrdiff_t)oy * op->out.w * op->out.c;
        call->cpu->kernels->multiply(&product);
        scatter_row(op, dx, call->scratch, oy);
    }
    if (call->cpu->gate_dx)
        call->cpu->kernels->gate(dx, x, size);
}

static void backward(const struct cpu_call *call)
{
    const struct nin__op *op = call->op;
    size_t in = nin__shape_size(op->in);
    size_t out = (size_t)call->rows * (size_t)op->out.w * (size_t)op->out.c;

    nin__cpu_begin_backward(call, call->lane + nin__cpu_tap_floats(call->cpu));
    if (nin__cpu_is_flat(op)) {
        add_flat_weights(call);
        if (call->dx != NULL)
            flat_data(call);
        return;
    }
    for (size_t i = 0; i < (size_t)call->images; i++) {
        const float *x = call->x + i * in, *dy = call->dy + i * out;

        add_image_weights(call, x, dy, call->fresh && i == 0);
        if (call->dx != NULL && is_turned(op))
            turned_data(call, x, dy, call->dx + i * in);
        else if (call->dx != NULL)
            scattered_data(call, x, dy, call->dx + i * in);
    }
}

/* ---- prepare ------------------------------------------------------------------------------ */

/* For forward: tap k of C x OC. OIHW has taps 1 apart, channels `area`, filters C * area. */
static void pack_forward(const struct cpu_op *cpu, const float *oihw, float *packed,
                         struct cpu_share share)
{
    const struct nin__op *op = cpu->op;
    int32_t area = op->kernel_h * op->kernel_w, channels = op->in.c;
    size_t first, end;

    nin__cpu_share_range(share, (size_t)channels, 1, &first, &end);
    for (int32_t k = 0; k < area; k++)
        cpu->kernels->pack(&(struct cpu_packing){.packed = packed,
                                                 .source = oihw + k + first * (size_t)area,
                                                 .depth = area * channels,
                                                 .first = k * channels + (int32_t)first,
                                                 .count = (int32_t)(end - first),
                                                 .columns = op->out.c,
                                                 .inner = op->out.c,
                                                 .depth_step = area,
                                                 .inner_step = (ptrdiff_t)area * channels});
}

/* The turned kernel: tap area - 1 - k of OC x C. */
static void pack_turned(const struct cpu_op *cpu, const float *oihw, float *packed,
                        struct cpu_share share)
{
    const struct nin__op *op = cpu->op;
    int32_t area = op->kernel_h * op->kernel_w, channels = op->in.c;
    size_t first, end;

    nin__cpu_share_range(share, (size_t)op->out.c, 1, &first, &end);
    for (int32_t k = 0; k < area; k++)
        cpu->kernels->pack(
            &(struct cpu_packing){.packed = packed,
                                  .source = oihw + k + first * (size_t)(area * channels),
                                  .depth = area * op->out.c,
                                  .first = (area - 1 - k) * op->out.c + (int32_t)first,
                                  .count = (int32_t)(end - first),
                                  .columns = channels,
                                  .inner = channels,
                                  .depth_step = (ptrdiff_t)area * channels,
                                  .inner_step = area});
}

/* OC x (taps x C): the gradients of whole windows. */
static void pack_windows(const struct cpu_op *cpu, const float *oihw, float *packed,
                         struct cpu_share share)
{
    const struct nin__op *op = cpu->op;
    ptrdiff_t area = (ptrdiff_t)op->kernel_h * op->kernel_w, channels = op->in.c;
    size_t first, end;

    nin__cpu_share_range(share, (size_t)op->out.c, 1, &first, &end);
    cpu->kernels->pack(&(struct cpu_packing){.packed = packed,
                                             .source = oihw + (ptrdiff_t)first * area * channels,
                                             .depth = op->out.c,
                                             .first = (int32_t)first,
                                             .count = (int32_t)(end - first),
                                             .columns = depth_of(op),
                                             .inner = op->in.c,
                                             .depth_step = area * channels,
                                             .inner_step = area,
                                             .outer_step = 1});
}

static void prepare(const struct cpu_op *cpu, enum cpu_pass pass, const float *parameters,
                    float *prepared, struct cpu_share share)
{
    const float *oihw = parameters + cpu->op->weight;

    if (pass == CPU_FORWARD)
        pack_forward(cpu, oihw, prepared, share);
    else if (is_turned(cpu->op))
        pack_turned(cpu, oihw, prepared, share);
    else
        pack_windows(cpu, oihw, prepared, share);
}

const struct cpu_algorithm nin__cpu_conv_direct = {.name = "direct",
                                                   .gates = true,
                                                   .declare = declare,
                                                   .prepare = prepare,
                                                   .forward = forward,
                                                   .backward = backward,
                                                   .finish = nin__cpu_finish_taps};
