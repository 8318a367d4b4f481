/* SPDX-License-Identifier: MIT */
/* Inverted dropout with counter-based masks, which backward reads again. */
#include "cpu/cpu.h"

#include "core/rng.h"

static void declare(struct cpu_need *need, const struct nin__op *op, int32_t unit)
{
    (void)unit;
    need->saved_per_image = nin__shape_size(op->out); /* one byte an element */
}

static void forward(const struct cpu_call *call)
{
    const struct nin__op *op = call->op;
    size_t size = nin__shape_size(op->out), row = (size_t)op->out.w * (size_t)op->out.c;
    size_t first = (size_t)call->row * row, count = (size_t)call->rows * row;

    for (int32_t i = call->image; i < call->image + call->images; i++) {
        size_t from = (size_t)i * size + first;
        unsigned char *keep = (unsigned char *)call->saved + from;
        uint32_t position = call->run->first_position + (uint32_t)(call->first + i);

        nin__rng_dropout(keep, first, count, op->threshold, call->run->seed, op->stream, position,
                         call->run->step);
        for (size_t k = 0; k < count; k++)
            call->y[from + k] = keep[k] ? call->x[from + k] * op->keep_scale : 0.0f;
    }
}

static void backward(const struct cpu_call *call)
{
    size_t size = nin__shape_size(call->op->out);
    size_t from = (size_t)call->image * size, end = from + (size_t)call->images * size;
    const unsigned char *keep = call->saved;

    for (size_t k = from; call->dx != NULL && k < end; k++)
        call->dx[k] = keep[k] ? call->dy[k] * call->op->keep_scale : 0.0f;
}

const struct cpu_kernel nin__cpu_dropout_kernel = {
    .name = "philox", .declare = declare, .forward = forward, .backward = backward};
