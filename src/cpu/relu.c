/* SPDX-License-Identifier: MIT */
/* A ReLU that stands alone: y = x < 0 ? 0 : x, so that NaN stays NaN. */
#include "cpu/cpu.h"

static void forward(const struct cpu_call *call)
{
    size_t row = (size_t)call->op->out.w * (size_t)call->op->out.c;
    size_t count = (size_t)call->images * (size_t)call->rows * row;
    const float *x = call->x + (size_t)call->row * row; /* a range of rows: x is at its image */

    for (size_t k = 0; k < count; k++)
        call->y[k] = x[k] < 0.0f ? 0.0f : x[k];
}

static void backward(const struct cpu_call *call)
{
    size_t count = (size_t)call->images * nin__shape_size(call->op->out);

    for (size_t k = 0; call->dx != NULL && k < count; k++)
        call->dx[k] = call->y[k] > 0.0f ? call->dy[k] : 0.0f;
}

const struct cpu_algorithm nin__cpu_relu = {
    .name = "plain", .forgets = true, .forward = forward, .backward = backward};
