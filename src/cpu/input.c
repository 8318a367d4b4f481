/* SPDX-License-Identifier: MIT */
/* The program's first op: gathers images, scales stored pixels, turns NCHW into NHWC. */
#include "cpu/cpu.h"

/* One channel's plane becomes every c-th element. */
static void spread_floats(float *y, const float *plane, size_t pixels, size_t channels)
{
    for (size_t p = 0; p < pixels; p++)
        y[p * channels] = plane[p];
}

static void spread_bytes(float *y, const unsigned char *plane, size_t pixels, size_t channels,
                         float scale, float shift)
{
    for (size_t p = 0; p < pixels; p++)
        y[p * channels] = (float)plane[p] * scale + shift;
}

static void forward(const struct cpu_call *call)
{
    const struct nin__images *images = &call->run->images;
    const struct nin__op *op = call->op;
    size_t channels = (size_t)op->out.c, width = (size_t)op->out.w;
    size_t plane = (size_t)op->out.h * width, size = plane * channels;
    size_t from = (size_t)call->row * width, pixels = (size_t)call->rows * width;

    for (int32_t i = 0; i < call->images; i++) {
        int32_t n = call->first + i;
        size_t start = (size_t)(images->index != NULL ? images->index[n] : n) * size + from;
        float *y = call->y + (size_t)i * pixels * channels; /* [pixel][channel] */

        for (size_t c = 0; c < channels; c++)
            if (images->dtype == NIN_U8)
                spread_bytes(y + c, (const unsigned char *)images->base + start + c * plane, pixels,
                             channels, op->scale, op->shift);
            else
                spread_floats(y + c, (const float *)images->base + start + c * plane, pixels,
                              channels);
    }
}

const struct cpu_algorithm nin__cpu_input = {.name = "gather", .forward = forward};
