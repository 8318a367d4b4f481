/* SPDX-License-Identifier: MIT */
/* How a program is cut: into segments, these into groups, and a batch into units. The order of
 * additions follows from all of these but the groups, so they follow from shapes and the constants
 * below, never from this machine. */
#include "cpu/conv.h"

/* A segment ends before its weights would pass this: a worker streams them once a chunk. */
static const size_t SEGMENT_WEIGHT_BYTES = (size_t)4 << 20;

/* Weights of one pixel's matrix above this are a dense layer's, which stands alone. */
static const size_t DENSE_WEIGHT_BYTES = (size_t)256 << 10;

/* A unit has at least this many pixels in its smallest convolution, so that a product reuses
 * weights often, as long as its activations stay below the limit. */
enum {
    UNIT_PIXELS = 384,
    MAX_UNIT = 64
};
static const size_t UNIT_BYTES = (size_t)32 << 20;

/* Pixels of a strip: all that a group makes of one fits a cache of the second level. */
enum {
    STRIP_PIXELS = 112
};

/* An output whose values take no more multiplications than this is made again in the backward pass:
 * that takes no more time than to write it to memory and to read it again. */
enum {
    CHEAP_PATCH = 32
};

/* ---- segments ----------------------------------------------------------------------------- */

static size_t weight_bytes(const struct nin__op *op)
{
    if (op->kind != NIN__OP_CONV)
        return 0;
    return (size_t)op->out.c * (size_t)op->in.c * (size_t)op->kernel_h * (size_t)op->kernel_w *
           sizeof(float);
}

static bool is_dense(const struct nin__op *op)
{
    return op->out.h * op->out.w == 1 && weight_bytes(op) > DENSE_WEIGHT_BYTES;
}

/* The op before op i, not counting ReLUs: whether one is fused or stands alone, because somebody
 * keeps what is before it, must not move a boundary or change a unit, and with them the bits. */
static const struct nin__op *before_relus(const struct nin__op *ops, int32_t i)
{
    do
        i--;
    while (i > 0 && ops[i].kind == NIN__OP_RELU);
    return &ops[i];
}

/* Whether a segment that holds weights of so many bytes ends before op i. The input stays with the
 * op that reads it, the loss with the op whose scores it reads. */
static bool is_boundary(const struct nin__executable *executable, int32_t i, size_t weights)
{
    const struct nin__op *ops = executable->program.ops;

    if (i <= 1)
        return i == 1 && executable->options.boundaries;
    if (executable->options.boundaries)
        return true;
    if (ops[i].kind == NIN__OP_LOSS || ops[i].kind == NIN__OP_RELU)
        return false;
    if (is_dense(&ops[i]) || is_dense(before_relus(ops, i)))
        return true;
    return weights > 0 && weights + weight_bytes(&ops[i]) > SEGMENT_WEIGHT_BYTES;
}

static int32_t choose_unit(const struct nin__executable *executable,
                           const struct cpu_segment *segment)
{
    int64_t pixels = UNIT_PIXELS;
    size_t bytes = 1;
    int32_t unit = 1;

    if (executable->options.unit > 0)
        return executable->options.unit;
    for (int32_t i = segment->first; i < segment->end; i++) {
        const struct nin__op *op = &executable->program.ops[i];
        int64_t here = (int64_t)op->out.h * op->out.w;

        if (op->kind != NIN__OP_RELU) /* fused or not, see before_relus */
            bytes += nin__shape_size(op->out) * sizeof(float);
        if (op->drop) /* likewise: a dropout that stands alone counts */
            bytes += nin__shape_size(op->out) * sizeof(float);
        if (op->kind == NIN__OP_CONV && here < pixels)
            pixels = here;
    }
    while (unit * pixels < UNIT_PIXELS && unit < MAX_UNIT && 2 * (size_t)unit * bytes < UNIT_BYTES)
        unit *= 2;
    return unit;
}

void nin__cpu_cut_segments(struct nin__executable *executable)
{
    size_t weights = 0;

    for (int32_t i = 0; i < executable->program.count; i++) {
        if (i == 0 || is_boundary(executable, i, weights)) {
            executable->segments[executable->segment_count++].first = i;
            weights = 0;
        }
        weights += weight_bytes(&executable->program.ops[i]);
        executable->segments[executable->segment_count - 1].end = i + 1;
    }
    for (int32_t s = 0; s < executable->segment_count; s++) {
        struct cpu_segment *segment = &executable->segments[s];

        segment->unit = choose_unit(executable, segment);
        if (segment->unit > executable->options.max_batch)
            segment->unit = executable->options.max_batch;
    }
}

/* ---- groups ------------------------------------------------------------------------------- */

/* Cuts a map into strips as near to STRIP_PIXELS as they come, or puts several small maps into
 * one. */
static void choose_strip(struct cpu_group *group, const struct nin__op *op)
{
    int64_t pixels = (int64_t)op->out.h * op->out.w;
    int32_t strips = (int32_t)((pixels + STRIP_PIXELS / 2) / STRIP_PIXELS);

    group->images = 1;
    group->rows = op->out.h;
    if (strips > 1)
        group->rows = (op->out.h + strips - 1) / strips;
    else if (2 * pixels <= STRIP_PIXELS)
        group->images = (int32_t)(STRIP_PIXELS / pixels);
}

/* Whether op i goes on in the group of the op before it: an output that the whole batch keeps ends
 * one. */
static bool joins_group(const struct nin__executable *executable, int32_t i, int32_t first)
{
    const struct cpu_op *op = &executable->ops[i], *before = &executable->ops[i - 1];

    return i > first && op->rowwise && before->op->kind == NIN__OP_CONV &&
           !before->algorithm->whole && before->whole_y == NULL;
}

/* Whether the backward pass makes the output of a group's first op again, strip by strip. */
static bool is_made_again(const struct cpu_op *op)
{
    return op->train && op->strips && op->whole_y == NULL &&
           nin__cpu_patch_size(op->op) <= CHEAP_PATCH;
}

void nin__cpu_cut_groups(struct nin__executable *executable)
{
    for (int32_t s = 0; s < executable->segment_count; s++) {
        struct cpu_segment *segment = &executable->segments[s];

        segment->first_group = executable->group_count;
        for (int32_t i = segment->first; i < segment->end; i++) {
            if (!joins_group(executable, i, segment->first))
                executable->groups[executable->group_count++].first = i;
            executable->groups[executable->group_count - 1].end = i + 1;
        }
        segment->end_group = executable->group_count;
    }
    for (int32_t g = 0; g < executable->group_count; g++) {
        struct cpu_group *group = &executable->groups[g];

        if (group->end - group->first > 1)
            choose_strip(group, executable->ops[group->first].op);
        for (int32_t i = group->first; group->rows > 0 && i < group->end; i++) {
            struct cpu_op *op = &executable->ops[i];
            bool last = i == group->end - 1;

            op->strips = i > group->first || op->rowwise || !op->wants_dx;
            op->again = i == group->first && !last && is_made_again(op);
            op->y_strip = !last && (!op->train || op->again);
            op->dy_strip = !last && op->strips;
        }
    }
}
