/* SPDX-License-Identifier: MIT */
/* Max and average pooling over NHWC maps; inner loops run over the channels of one pixel. */
#include "cpu/cpu.h"
#include "cpu/windows.h"

#include <string.h>

/* ---- max ---------------------------------------------------------------------------------- */

static void declare_max(struct cpu_need *need, const struct cpu_op *cpu, int32_t unit)
{
    size_t out = nin__shape_size(cpu->op->out);

    (void)unit;
    if (cpu->wants_dx)
        need->saved_per_image = out * sizeof(uint16_t);
    if (cpu->op->drop)
        need->scratch = out; /* the mask of an image */
}

/* What goes backward is settled here: places say where no gradient goes, so that backward reads
 * neither x nor the mask again. */
static void forward_max(const struct cpu_call *call)
{
    const struct nin__op *op = call->op;
    size_t in = nin__shape_size(op->in), row = (size_t)op->out.w * (size_t)op->out.c, at = 0;
    unsigned char *keep = op->drop ? (unsigned char *)call->scratch : NULL;
    uint16_t *where = call->cpu->wants_dx ? call->saved : NULL;

    for (int32_t i = 0; i < call->images; i++) {
        if (keep != NULL)
            nin__cpu_draw_mask(keep, call, i);
        for (int32_t h = 0; h < call->rows; h++, at += row)
            call->cpu->kernels->max_pool_row(
                &(struct cpu_pooling){.op = op,
                                      .x = call->x + (size_t)i * in,
                                      .y = call->y + at,
                                      .where = where == NULL ? NULL : where + at,
                                      .keep = keep == NULL ? NULL : keep + (size_t)h * row,
                                      .gates = call->cpu->gate_dx},
                call->row + h);
    }
}

static void backward_max(const struct cpu_call *call)
{
    const struct nin__op *op = call->op;
    size_t in = nin__shape_size(op->in), out = nin__shape_size(op->out);

    for (size_t i = 0; call->dx != NULL && i < (size_t)call->images; i++)
        call->cpu->kernels->max_unpool(op, call->dy + i * out,
                                       (const uint16_t *)call->saved + i * out, call->dx + i * in);
}

const struct cpu_algorithm nin__cpu_max_pool = {.name = "plain",
                                                .gates = true,
                                                .forgets = true,
                                                .declare = declare_max,
                                                .forward = forward_max,
                                                .backward = backward_max};

/* ---- average ------------------------------------------------------------------------------ */

/* What the window's sum is divided by: its area inside the map, or inside the padded map. */
static float divisor(const struct nin__op *op, int32_t h, int32_t w, struct cpu_extent rows,
                     struct cpu_extent columns)
{
    int32_t bottom = h * op->stride - op->pad + op->kernel_h;
    int32_t right = w * op->stride - op->pad + op->kernel_w;
    int32_t height = op->kernel_h, width = op->kernel_w;

    if (op->exclude_padding)
        return (float)((rows.end - rows.first) * (columns.end - columns.first));
    if (bottom > op->in.h + op->pad)
        height -= bottom - op->in.h - op->pad;
    if (right > op->in.w + op->pad)
        width -= right - op->in.w - op->pad;
    return (float)(height * width);
}

static void average_pixel(const struct nin__op *op, const float *x, float *y, int32_t h, int32_t w)
{
    struct cpu_extent rows = nin__cpu_window(h, op->kernel_h, op, op->in.h);
    struct cpu_extent columns = nin__cpu_window(w, op->kernel_w, op, op->in.w);
    float n = divisor(op, h, w, rows, columns);
    int32_t channels = op->in.c;

    memset(y, 0, (size_t)channels * sizeof *y);
    for (int32_t r = rows.first; r < rows.end; r++)
        for (int32_t s = columns.first; s < columns.end; s++) {
            const float *pixel = x + ((size_t)r * (size_t)op->in.w + (size_t)s) * (size_t)channels;

            for (int32_t c = 0; c < channels; c++)
                y[c] += pixel[c];
        }
    for (int32_t c = 0; c < channels; c++)
        y[c] /= n;
}

static void forward_average(const struct cpu_call *call)
{
    const struct nin__op *op = call->op;
    size_t in_size = nin__shape_size(op->in), channels = (size_t)op->out.c, at = 0;

    for (int32_t i = 0; i < call->images; i++)
        for (int32_t h = call->row; h < call->row + call->rows; h++)
            for (int32_t w = 0; w < op->out.w; w++, at += channels)
                average_pixel(op, call->x + (size_t)i * in_size, call->y + at, h, w);
}

static void spread_pixel(const struct nin__op *op, float *dx, const float *dy, int32_t h, int32_t w)
{
    struct cpu_extent rows = nin__cpu_window(h, op->kernel_h, op, op->in.h);
    struct cpu_extent columns = nin__cpu_window(w, op->kernel_w, op, op->in.w);
    float n = divisor(op, h, w, rows, columns);
    int32_t channels = op->in.c;

    for (int32_t r = rows.first; r < rows.end; r++)
        for (int32_t s = columns.first; s < columns.end; s++) {
            float *pixel = dx + ((size_t)r * (size_t)op->in.w + (size_t)s) * (size_t)channels;

            for (int32_t c = 0; c < channels; c++)
                pixel[c] += dy[c] / n;
        }
}

static void backward_average(const struct cpu_call *call)
{
    const struct nin__op *op = call->op;
    size_t in_size = nin__shape_size(op->in), channels = (size_t)op->out.c, at = 0;

    if (call->dx == NULL)
        return;
    memset(call->dx, 0, (size_t)call->images * in_size * sizeof *call->dx);
    for (int32_t i = 0; i < call->images; i++)
        for (int32_t h = 0; h < op->out.h; h++)
            for (int32_t w = 0; w < op->out.w; w++, at += channels)
                spread_pixel(op, call->dx + (size_t)i * in_size, call->dy + at, h, w);
}

const struct cpu_algorithm nin__cpu_average_pool = {
    .name = "plain", .forgets = true, .forward = forward_average, .backward = backward_average};
