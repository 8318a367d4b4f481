/* SPDX-License-Identifier: MIT */
/* A ReLU that stands alone: y = x < 0 ? 0 : x, so that NaN stays NaN. */
#include "cpu/cpu.h"

static void forward(const struct cpu_call *call)
{
    size_t row = (size_t)call->op->out.w * (size_t)call->op->out.c;

    for (int32_t i = call->image; i < call->image + call->images; i++) {
        size_t from = ((size_t)i * (size_t)call->op->out.h + (size_t)call->row) * row;

        for (size_t k = from; k < from + (size_t)call->rows * row; k++)
            call->y[k] = call->x[k] < 0.0f ? 0.0f : call->x[k];
    }
}

static void backward(const struct cpu_call *call)
{
    size_t size = nin__shape_size(call->op->out);
    size_t from = (size_t)call->image * size, end = from + (size_t)call->images * size;

    for (size_t k = from; call->dx != NULL && k < end; k++)
        call->dx[k] = call->y[k] > 0.0f ? call->dy[k] : 0.0f;
}

const struct cpu_kernel nin__cpu_relu_kernel = {
    .name = "plain", .forward = forward, .backward = backward};
