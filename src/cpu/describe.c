/* SPDX-License-Identifier: MIT */
/* An executable as text, for people. */
#include "cpu/cpu.h"

#include <stdarg.h>
#include <stdio.h>

/* Text that is counted in full and kept as far as it fits. */
struct text {
    char *start;
    size_t size, length;
};

static void add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct text *text, const char *format, ...)
{
    size_t room = text->length < text->size ? text->size - text->length : 0;
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(room > 0 ? text->start + text->length : NULL, room, format, arguments);
    va_end(arguments);
    text->length += length > 0 ? (size_t)length : 0;
}

static void add_op(struct text *text, const struct cpu_op *op)
{
    const struct nin__op *o = op->op;
    size_t bytes = nin__shape_size(o->out) * sizeof(float);

    add(text, "  %-12s %-12s %-8s %4dx%dx%d -> %dx%dx%d", o->name, nin__op_name(o->kind),
        op->algorithm->name, o->in.c, o->in.h, o->in.w, o->out.c, o->out.h, o->out.w);
    if (o->kernel_h > 0)
        add(text, ", %dx%d/%d pad %d", o->kernel_h, o->kernel_w, o->stride, o->pad);
    if (o->relu)
        add(text, ", relu");
    add(text, "; %zu bytes an image, %zu saved, %zu scratch, %zu prepared, %zu in a lane%s\n",
        bytes, op->need.saved_per_image, op->need.scratch,
        op->need.prepared[CPU_FORWARD] + op->need.prepared[CPU_BACKWARD], op->need.lane,
        op->whole_y != NULL ? "; whole batch" : "");
}

size_t nin__cpu_describe(const struct nin__executable *executable, char *start, size_t size)
{
    struct text text = {start, start == NULL ? 0 : size, 0};

    add(&text, "%s, batch %d, %s, %d workers of %zu bytes\n",
        executable->program.train ? "train" : "infer", executable->options.max_batch,
        executable->ops[0].kernels->name, executable->options.threads, executable->worker_bytes);
    for (int32_t s = 0; s < executable->segment_count; s++) {
        const struct cpu_segment *segment = &executable->segments[s];

        add(&text, "segment %d: units of %d images, %zu bytes a chunk, %zu bytes a lane\n", s,
            segment->unit, segment->memory, segment->lane_bytes);
        for (int32_t i = segment->first; i < segment->end; i++)
            add_op(&text, &executable->ops[i]);
    }
    return text.length;
}

/* Each segment by the layer that it begins with: its unit and its lanes; and whether products are rounded
 * before they are added, which sets AVX2 and AVX-512 apart from the baseline. */
size_t nin__cpu_order_of_sums(const struct nin__executable *executable, int32_t batch, char *start,
                              size_t size)
{
    struct text text = {start, start == NULL ? 0 : size, 0};

    for (int32_t s = 0; s < executable->segment_count; s++) {
        const struct cpu_segment *segment = &executable->segments[s];
        int32_t unit = segment->unit < batch ? segment->unit : batch;

        add(&text, "%s%s: units of %d in %d lanes", s == 0 ? "" : "; ",
            executable->program.ops[segment->first].name, unit, segment->max_lanes);
    }
    if (executable->options.algorithm != NIN_ALGORITHM_GEMM) /* OpenBLAS does not say */
        add(&text, "; products %s", executable->ops[0].kernels->fused ? "fused" : "rounded");
    return text.length;
}
