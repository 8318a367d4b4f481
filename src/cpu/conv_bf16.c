/* SPDX-License-Identifier: MIT */
/* Convolution with a 1x1 kernel in bf16: the products of conv_direct.c for such a kernel, with
 * operands rounded to bf16 and sums in fp32. Weights are rounded where they are packed, once per
 * version of the parameters, activations and gradients strip by strip where they are multiplied;
 * the bias and its gradient stay fp32.
 *
 *     y = x w        (pixels x OC)
 *     dx = dy w'     (pixels x C)
 *     dw = x' dy     (C x OC), summed over pairs of neighbours in a row of pixels; the last of an odd row has
 *                    a zero beside it, so that the pairs do not depend on where strips and images end */
#include "cpu/conv.h"

static void declare(struct cpu_need *need, const struct cpu_op *cpu, int32_t unit)
{
    const struct nin__op *op = cpu->op;
    size_t forward = cpu->bf16->scratch_bytes(op->in.c, op->out.c);
    size_t backward = cpu->bf16->scratch_bytes(op->out.c, op->in.c);

    (void)unit;
    need->form[CPU_FORWARD] = CPU_FORM_BF16;
    need->form[CPU_BACKWARD] = CPU_FORM_BF16_TURNED;
    need->prepared[CPU_FORWARD] = cpu->bf16->packed_bytes(op->in.c, op->out.c);
    if (cpu->wants_dx)
        need->prepared[CPU_BACKWARD] = cpu->bf16->packed_bytes(op->out.c, op->in.c);
    need->scratch = forward > backward ? forward : backward;
    need->lane = nin__cpu_tap_lane(cpu);
}

/* Weights are OC x C. */
static void prepare(const struct cpu_op *cpu, enum cpu_pass pass, const float *parameters,
                    float *prepared, struct cpu_share share)
{
    const struct nin__op *op = cpu->op;
    bool turned = pass == CPU_BACKWARD;
    int32_t depth = turned ? op->out.c : op->in.c, columns = turned ? op->in.c : op->out.c;
    ptrdiff_t depth_step = turned ? op->in.c : 1, column_step = turned ? 1 : op->in.c;
    size_t first, end;

    nin__cpu_share_range(share, (size_t)depth, 2, &first, &end);
    cpu->bf16->pack(
        &(struct cpu_packing){.packed = prepared,
                              .source = parameters + op->weight + (ptrdiff_t)first * depth_step,
                              .depth = depth,
                              .first = (int32_t)first,
                              .count = (int32_t)(end - first),
                              .columns = columns,
                              .inner = columns,
                              .depth_step = depth_step,
                              .inner_step = column_step});
}

static void forward(const struct cpu_call *call)
{
    struct cpu_product product = nin__cpu_flat_product(call);

    call->cpu->bf16->multiply(&product, call->scratch);
}

static void add_weights(const struct cpu_call *call)
{
    const struct nin__op *op = call->op;
    struct cpu_outer outer = {.a = call->x,
                              .b = call->dy,
                              .c = call->lane,
                              .fresh = call->fresh,
                              .groups = call->images * call->rows,
                              .rows = op->out.w,
                              .depth = op->in.c,
                              .columns = op->out.c,
                              .a_group = (ptrdiff_t)op->out.w * op->in.c,
                              .a_row = op->in.c,
                              .b_group = (ptrdiff_t)op->out.w * op->out.c,
                              .b_row = op->out.c,
                              .c_row = nin__cpu_padded(call->cpu, op->out.c)};

    outer.a_ahead = outer.groups * outer.a_group; /* the next strip: forward wrote it long ago */
    call->cpu->bf16->add_outer(&outer, call->scratch);
}

static void set_data(const struct cpu_call *call)
{
    struct cpu_product product = nin__cpu_flat_gradient(call);

    call->cpu->bf16->multiply(&product, call->scratch);
}

static void backward(const struct cpu_call *call)
{
    nin__cpu_begin_backward(call, call->lane + nin__cpu_tap_floats(call->cpu));
    add_weights(call);
    if (call->dx != NULL)
        set_data(call);
}

const struct cpu_algorithm nin__cpu_conv_bf16 = {.name = "bf16",
                                                 .gates = true,
                                                 .declare = declare,
                                                 .prepare = prepare,
                                                 .forward = forward,
                                                 .backward = backward,
                                                 .finish = nin__cpu_finish_taps};
