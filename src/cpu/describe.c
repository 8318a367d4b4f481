/* SPDX-License-Identifier: MIT */
/* An executable as text, for people. */
#include "cpu/conv.h"
#include "cpu/peak.h"
#include "cpu/windows.h"

#include "core/text.h"

/* ---- work --------------------------------------------------------------------------------- */

/* Taps inside the map of all windows along a side. */
static int64_t count_taps(const struct nin__op *op, int32_t windows, int32_t kernel, int32_t size)
{
    int64_t taps = 0;

    for (int32_t o = 0; o < windows; o++) {
        struct cpu_extent seen = nin__cpu_window(o, kernel, op, size);

        taps += seen.end > seen.first ? seen.end - seen.first : 0;
    }
    return taps;
}

/* Every weight with every pixel that it meets; both gradients are sums of as many products. */
static struct cpu_work direct_work(const struct nin__op *op)
{
    int64_t down = count_taps(op, op->out.h, op->kernel_h, op->in.h);
    int64_t across = count_taps(op, op->out.w, op->kernel_w, op->in.w);
    int64_t count = down * across * op->in.c * op->out.c;

    return (struct cpu_work){count, count, count};
}

/* Of an op as it is run: without the passes that it does not take. */
static struct cpu_work work_of(const struct cpu_op *op, bool train)
{
    struct cpu_work work = {0};

    if (op->algorithm->work != NULL)
        work = op->algorithm->work(op);
    else if (op->op->kind == NIN__OP_CONV)
        work = direct_work(op->op);
    if (op->again)
        work.weights += work.forward;
    if (!op->wants_dx)
        work.data = 0;
    if (!train)
        work.weights = 0;
    return work;
}

static struct cpu_work work_of_all(const struct nin__executable *executable)
{
    struct cpu_work sum = {0};

    for (int32_t s = 0; s < executable->segment_count; s++) {
        /* backward begins with the last segment's forward pass, and goes forward again in the
         * others */
        bool again = executable->program.train && s < executable->segment_count - 1;

        for (int32_t i = executable->segments[s].first; i < executable->segments[s].end; i++) {
            struct cpu_work work = work_of(&executable->ops[i], executable->program.train);

            sum.forward += work.forward;
            sum.weights += work.weights + (again ? work.forward : 0);
            sum.data += work.data;
        }
    }
    return sum;
}

/* The peak is 0 if it is not known. */
static void add_work(struct nin__text *text, struct cpu_work work, bool train, double peak)
{
    int64_t backward = work.weights + work.data;

    nin__text_add(text, "; multiply-adds an image: %lld forward", (long long)work.forward);
    if (train)
        nin__text_add(text, ", %lld backward", (long long)backward);
    if (peak > 0.0)
        nin__text_add(text, ", %.2f us at the peak",
                      1e6 * (double)(work.forward + backward) / peak);
}

/* ---- text --------------------------------------------------------------------------------- */

static void add_op(struct nin__text *text, const struct cpu_op *op, bool train, double peak)
{
    struct cpu_work work = work_of(op, train);
    const struct nin__op *o = op->op;
    size_t bytes = nin__shape_size(o->out) * sizeof(float);

    nin__text_add(text, "  %-12s %-12s %-8s %4dx%dx%d -> %dx%dx%d", o->name, nin__op_name(o->kind),
                  op->algorithm->name, o->in.c, o->in.h, o->in.w, o->out.c, o->out.h, o->out.w);
    if (o->kernel_h > 0)
        nin__text_add(text, ", %dx%d/%d pad %d", o->kernel_h, o->kernel_w, o->stride, o->pad);
    if (o->relu)
        nin__text_add(text, ", relu");
    if (o->drop)
        nin__text_add(text, ", dropout");
    nin__text_add(text,
                  "; %zu bytes an image, %zu saved, %zu scratch, %zu prepared, %zu in a lane%s",
                  bytes, op->need.saved_per_image, op->need.scratch,
                  op->need.prepared[CPU_FORWARD] + op->need.prepared[CPU_BACKWARD], op->need.lane,
                  op->whole_y != NULL ? "; whole batch" : "");
    if (work.forward > 0)
        add_work(text, work, train, peak);
    nin__text_add(text, "\n");
}

static void add_plan(struct nin__text *text, const struct nin__executable *executable, double peak)
{
    bool train = executable->program.train;

    nin__text_add(text, "%s, batch %d, %s, %d worker%s of %zu bytes", train ? "train" : "infer",
                  executable->options.max_batch, nin__cpu_kernels_name(&executable->ops[0]),
                  executable->options.threads, executable->options.threads == 1 ? "" : "s",
                  executable->worker_bytes);
    add_work(text, work_of_all(executable), train, peak);
    if (peak > 0.0)
        nin__text_add(text, " of %.1f GFLOP/s", 2e-9 * peak);
    nin__text_add(text, "\n");
}

size_t nin__cpu_describe(struct nin__executable *executable, bool measure, char *start, size_t size)
{
    struct nin__text text = {start, start == NULL ? 0 : size, 0};
    double peak;

    if (measure)
        atomic_store(&executable->peak, (long long)nin__cpu_measure_peak(
                                            executable->workers, executable->ops[0].kernels));
    peak = (double)atomic_load(&executable->peak);

    add_plan(&text, executable, peak);
    for (int32_t s = 0; s < executable->segment_count; s++) {
        const struct cpu_segment *segment = &executable->segments[s];

        nin__text_add(&text,
                      "segment %d: units of %d images, %zu bytes a chunk, %zu bytes a lane\n", s,
                      segment->unit, segment->memory, segment->lane_bytes);
        for (int32_t i = segment->first; i < segment->end; i++)
            add_op(&text, &executable->ops[i], executable->program.train, peak);
    }
    return text.length;
}

/* Each segment by the layer that it begins with: its unit and its lanes; and whether products are
 * rounded before they are added, which sets AVX2 and AVX-512 apart from the baseline. */
size_t nin__cpu_order_of_sums(const struct nin__executable *executable, int32_t batch, char *start,
                              size_t size)
{
    struct nin__text text = {start, start == NULL ? 0 : size, 0};

    for (int32_t s = 0; s < executable->segment_count; s++) {
        const struct cpu_segment *segment = &executable->segments[s];
        int32_t unit = segment->unit < batch ? segment->unit : batch;

        nin__text_add(&text, "%s%s: units of %d in %d lanes", s == 0 ? "" : "; ",
                      executable->program.ops[segment->first].name, unit, segment->max_lanes);
    }
    if (executable->options.algorithm != NIN_ALGORITHM_GEMM) /* OpenBLAS does not say */
        nin__text_add(&text, "; products %s",
                      executable->ops[0].kernels->fused ? "fused" : "rounded");
    if (executable->ops[0].bf16 != NULL)
        nin__text_add(&text, "; bf16 by %s", executable->ops[0].bf16->name);
    return text.length;
}
