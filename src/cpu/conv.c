/* SPDX-License-Identifier: MIT */
/* What the algorithms of a convolution share: where outputs go, how backward begins, how a lane of
 * taps ends, and the products of a flat one. */
#include "cpu/conv.h"

struct cpu_outputs nin__cpu_outputs(const struct cpu_call *call)
{
    return (struct cpu_outputs){
        .y = call->y, .bias = nin__cpu_bias(call), .relu = call->op->relu, .plane = call->op->out};
}

struct cpu_outputs nin__cpu_data_outputs(const struct cpu_call *call)
{
    return (struct cpu_outputs){
        .y = call->dx, .gate = call->cpu->gate_dx ? call->x : NULL, .plane = call->op->in};
}

void nin__cpu_begin_backward(const struct cpu_call *call, float *db)
{
    const struct nin__op *op = call->op;
    int64_t pixels = (int64_t)call->images * call->rows * op->out.w;

    if (op->relu && !call->cpu->gated)
        call->cpu->kernels->gate(call->dy, call->y, (size_t)pixels * (size_t)op->out.c);
    if (op->bias != NIN__NO_PARAMETER)
        nin__cpu_add_bias_gradient(call, db, call->dy, pixels, call->fresh);
}

void nin__cpu_add_bias_gradient(const struct cpu_call *call, float *db, const float *dy,
                                int64_t pixels, bool fresh)
{
    const struct nin__op *op = call->op;
    int64_t block = nin__cpu_long_row(op) ? op->out.w : 0;

    call->cpu->kernels->add_columns(db, dy, pixels, op->out.c, block, fresh);
}

void nin__cpu_finish_taps(const struct cpu_op *cpu, const float *lane, float *gradient,
                          bool accumulate, struct cpu_share share)
{
    const struct nin__op *op = cpu->op;
    size_t area = (size_t)op->kernel_h * (size_t)op->kernel_w, channels = (size_t)op->in.c;
    size_t row = (size_t)nin__cpu_padded(cpu, cpu->op->out.c), first, end;
    const float *db = lane + nin__cpu_tap_floats(cpu);

    nin__cpu_share_range(share, (size_t)op->out.c, 1, &first, &end);
    for (size_t o = first; o < end; o++) {
        float *dw = gradient + op->weight + o * channels * area;

        for (size_t c = 0; c < channels; c++)
            for (size_t k = 0; k < area; k++)
                nin__cpu_put(&dw[c * area + k], lane[(k * channels + c) * row + o], accumulate);
        if (op->bias != NIN__NO_PARAMETER)
            nin__cpu_put(&gradient[op->bias + o], db[o], accumulate);
    }
}

struct cpu_product nin__cpu_flat_product(const struct cpu_call *call)
{
    const struct nin__op *op = call->op;

    return (struct cpu_product){.a = call->x,
                                .b = call->prepared[CPU_FORWARD],
                                .c = call->y,
                                .bias = nin__cpu_bias(call),
                                .relu = op->relu,
                                .rows = call->images * call->rows * op->out.w,
                                .columns = op->out.c,
                                .depth = (int32_t)nin__cpu_patch_size(op),
                                .runs = 1,
                                .a_row = (int32_t)nin__cpu_patch_size(op),
                                .c_row = op->out.c};
}

struct cpu_product nin__cpu_flat_gradient(const struct cpu_call *call)
{
    const struct nin__op *op = call->op;

    return (struct cpu_product){.a = call->dy,
                                .b = call->prepared[CPU_BACKWARD],
                                .c = call->dx,
                                .gate = call->cpu->gate_dx ? call->x : NULL,
                                .rows = call->images * call->rows * op->out.w,
                                .columns = (int32_t)nin__cpu_patch_size(op),
                                .depth = op->out.c,
                                .runs = 1,
                                .a_row = op->out.c,
                                .c_row = (int32_t)nin__cpu_patch_size(op)};
}
