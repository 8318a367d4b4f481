/* SPDX-License-Identifier: MIT */
/* Inverted dropout with counter-based masks, which backward reads again. */
#include "cpu/cpu.h"

#include "core/rng.h"

static void declare(struct cpu_need *need, const struct cpu_op *cpu, int32_t unit)
{
    (void)unit;
    need->saved_per_image = nin__shape_size(cpu->op->out); /* one byte an element */
}

void nin__cpu_draw_mask(unsigned char *keep, const struct cpu_call *call, int32_t i)
{
    const struct nin__op *op = call->op;
    size_t row = (size_t)op->out.w * (size_t)op->out.c;
    uint32_t position = call->run->first_position + (uint32_t)(call->first + i);
    struct nin__mask mask =
        nin__mask_of(op->threshold, call->run->seed, op->stream, position, call->run->step);

    nin__rng_mask(keep, (size_t)call->row * row, (size_t)call->rows * row, &mask,
                  call->cpu->kernels->mask_blocks);
}

static void forward(const struct cpu_call *call)
{
    const struct nin__op *op = call->op;
    size_t row = (size_t)op->out.w * (size_t)op->out.c, count = (size_t)call->rows * row;
    const float *x = call->x + (size_t)call->row * row; /* a range of rows: x is at its image */

    for (int32_t i = 0; i < call->images; i++) {
        size_t from = (size_t)i * count;
        unsigned char *keep = (unsigned char *)call->saved + from;

        nin__cpu_draw_mask(keep, call, i);
        call->cpu->kernels->drop(call->y + from, x + from, keep, op->keep_scale, count);
    }
}

static void backward(const struct cpu_call *call)
{
    size_t count = (size_t)call->images * nin__shape_size(call->op->out);

    if (call->dx != NULL)
        call->cpu->kernels->drop(call->dx, call->dy, call->saved, call->op->keep_scale, count);
}

const struct cpu_algorithm nin__cpu_dropout = {.name = "philox",
                                               .forgets = true,
                                               .declare = declare,
                                               .forward = forward,
                                               .backward = backward};
