/* SPDX-License-Identifier: MIT */
/* Times each op of a preset's training program alone, from inside the library: one worker, on the
 * images of one chunk over and over, in the strips that the program would use. A line an op for
 * people, its share of all and milliseconds a batch on one thread; the last line is JSON. "weights"
 * is backward without a gradient of the data, "data" what that costs beside it; GFLOP/s count
 * direct convolution with its padding. --steps: repetitions, of which 64 at most are made. */
#include "measure.h"

#include "core/plan.h"
#include "cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An op's memory, for the images of a chunk. */
struct bench {
    const struct cpu_op *op;
    struct nin__run run;
    int32_t unit;
    size_t in, out; /* floats of an image */
    float *x, *y, *dy, *dx, *lane, *scratch, *prepared[CPU_PASSES];
    char *saved;
};

static float *new_floats(size_t count)
{
    float *values = aligned_alloc(NIN__ALIGNMENT, nin__align((count + 1) * sizeof *values));

    for (size_t i = 0; values != NULL && i < count; i++)
        values[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    return values;
}

static int make_bench(struct bench *b, const struct cpu_op *op, int32_t unit,
                      const struct nin__run *run)
{
    size_t images = (size_t)unit;

    *b = (struct bench){.op = op, .run = *run, .unit = unit};
    b->in = nin__shape_size(op->op->in);
    b->out = nin__shape_size(op->op->out);
    b->x = new_floats(b->in * images);
    b->y = new_floats(b->out * images);
    b->dy = new_floats(b->out * images);
    b->dx = new_floats(b->in * images);
    b->lane = new_floats(op->need.lane / sizeof(float));
    b->scratch = new_floats(op->need.scratch / sizeof(float));
    for (int32_t pass = 0; pass < CPU_PASSES; pass++)
        b->prepared[pass] = new_floats(op->need.prepared[pass] / sizeof(float));
    b->saved = calloc(op->need.saved_per_image * images + 1, 1);
    return b->x && b->y && b->dy && b->dx && b->lane && b->scratch && b->prepared[CPU_FORWARD] &&
           b->prepared[CPU_BACKWARD] && b->saved;
}

static void free_bench(struct bench *b)
{
    free(b->x);
    free(b->y);
    free(b->dy);
    free(b->dx);
    free(b->lane);
    free(b->scratch);
    free(b->prepared[CPU_FORWARD]);
    free(b->prepared[CPU_BACKWARD]);
    free(b->saved);
}

enum phase {
    FORWARD,
    WEIGHTS,
    BOTH
};

/* Rows of one image from `row` on, or whole images. */
static void run_range(struct bench *b, enum phase phase, int32_t image, int32_t images, int32_t row,
                      int32_t rows)
{
    const struct nin__op *op = b->op->op;
    size_t above = (size_t)row * (size_t)op->out.w, at = (size_t)image;
    size_t in_row = b->op->rowwise ? above * (size_t)op->in.c : 0;
    struct cpu_call call = {.cpu = b->op,
                            .op = op,
                            .run = &b->run,
                            .first = image,
                            .images = images,
                            .row = row,
                            .rows = rows,
                            .x = b->x + at * b->in + in_row,
                            .y = b->y + at * b->out + above * (size_t)op->out.c,
                            .dy = b->dy + at * b->out + above * (size_t)op->out.c,
                            .dx = phase == BOTH ? b->dx + at * b->in + in_row : NULL,
                            .saved = b->saved,
                            .scratch = b->scratch,
                            .prepared = {b->prepared[CPU_FORWARD], b->prepared[CPU_BACKWARD]},
                            .lane = b->lane,
                            .share = {0, 1}};

    if (phase == FORWARD)
        b->op->algorithm->forward(&call);
    else if (b->op->algorithm->backward != NULL)
        b->op->algorithm->backward(&call);
}

static void run_chunk(struct bench *b, enum phase phase, const struct cpu_group *group)
{
    int32_t height = b->op->op->out.h;
    bool strips = group->rows > 0 && (phase == FORWARD || b->op->strips);

    for (int32_t i = 0; strips && i < b->unit; i += group->images)
        for (int32_t row = 0; row < height; row += group->rows)
            run_range(b, phase, i, b->unit - i < group->images ? b->unit - i : group->images, row,
                      height - row < group->rows ? height - row : group->rows);
    if (!strips)
        run_range(b, phase, 0, b->unit, 0, height);
}

/* The median of a phase, in ms a batch: of the last chunk only the images that the batch has. */
static double time_phase(struct bench *b, enum phase phase, const struct cpu_group *group,
                         const struct bench_options *options)
{
    enum {
        MOST = 64
    };
    int32_t chunks = (options->batch + b->unit - 1) / b->unit;
    int32_t count = options->repetitions < MOST ? options->repetitions : MOST;
    double times[MOST];

    run_chunk(b, phase, group);
    for (int32_t i = 0; i < count; i++) {
        double start = bench_now_ms();

        for (int32_t n = 0; n < chunks; n++)
            run_chunk(b, phase, group);
        times[i] = bench_now_ms() - start;
    }
    return bench_median(times, count) * options->batch / ((double)chunks * b->unit);
}

/* What an op takes, in ms a batch, and what direct convolution would multiply in each phase. `data`
 * is what the gradient of the data costs beside the weights'. */
struct timing {
    const struct cpu_op *op;
    double forward, weights, data;
    double gflop;
    size_t bytes; /* of a chunk: input, output and prepared weights */
};

static double all_of(const struct timing *t)
{
    return t->forward + t->weights + t->data;
}

static int measure(struct timing *t, const struct cpu_op *op, const struct cpu_group *group,
                   int32_t unit, const struct nin__run *run, const struct bench_options *options)
{
    const struct nin__op *o = op->op;
    double taps = o->kind == NIN__OP_CONV ? (double)o->kernel_h * o->kernel_w * o->in.c : 0.0;
    struct bench b;
    int made = make_bench(&b, op, unit, run);

    *t = (struct timing){.op = op};
    if (made) {
        t->forward = time_phase(&b, FORWARD, group, options);
        t->weights = time_phase(&b, WEIGHTS, group, options);
        if (op->wants_dx)
            t->data = time_phase(&b, BOTH, group, options) - t->weights;
        t->gflop = 2e-9 * taps * (double)nin__shape_size(o->out) * options->batch;
        t->bytes = (b.in + b.out) * (size_t)unit * sizeof(float) + op->need.prepared[CPU_FORWARD] +
                   op->need.prepared[CPU_BACKWARD];
    }
    free_bench(&b);
    return made;
}

static int measure_all(struct timing *timings, const nin_plan *plan,
                       const struct bench_batch *batch, const struct bench_options *options)
{
    const struct nin__executable *executable = plan->executable;
    const struct cpu_group *group = executable->groups;
    struct nin__run run = {.images = {batch->images, NULL, NIN_U8, options->batch},
                           .labels = batch->labels,
                           .parameters = plan->network->parameters,
                           .losses = plan->losses,
                           .marks = plan->marks};

    for (int32_t s = 0; s < executable->segment_count; s++)
        for (int32_t i = executable->segments[s].first; i < executable->segments[s].end; i++) {
            while (group->end <= i)
                group++;
            if (!measure(&timings[i], &executable->ops[i], group, executable->segments[s].unit,
                         &run, options))
                return 0;
        }
    return 1;
}

/* ---- printing ------------------------------------------------------------------------------ */

static void print_phase(const char *name, double ms, double gflop)
{
    if (gflop > 0.0 && ms > 0.0)
        printf("  %s %7.2f ms %6.1f GFLOP/s", name, ms, 1e3 * gflop / ms);
    else
        printf("  %s %7.2f ms               ", name, ms);
}

static void print_line(const struct timing *t, double all)
{
    const struct nin__op *o = t->op->op;

    printf("%-8s %-12s %-9s %5.1f %%", o->name, nin__op_name(o->kind), t->op->algorithm->name,
           100.0 * all_of(t) / all);
    print_phase("forward", t->forward, t->gflop);
    print_phase("weights", t->weights, t->gflop);
    print_phase("data", t->data, t->op->wants_dx ? t->gflop : 0.0);
    printf("  %6zu kB a chunk\n", t->bytes / 1024);
}

static struct timing sum_of(const struct timing *timings, int32_t count)
{
    struct timing sum = {0};

    for (int32_t i = 0; i < count; i++) {
        sum.forward += timings[i].forward;
        sum.weights += timings[i].weights;
        sum.data += timings[i].data;
    }
    return sum;
}

static void print_json(const struct timing *timings, int32_t count, const struct timing *sum,
                       const struct bench_options *options)
{
    bench_print_head("layers", options, 1, bench_peak_gflops(1));
    printf(", \"instructions\": \"%s\", \"forward_ms\": %.2f, \"weights_ms\": %.2f, "
           "\"data_ms\": %.2f, \"ops\": [",
           nin__cpu_kernels_name(timings[0].op), sum->forward, sum->weights, sum->data);
    for (int32_t i = 0; i < count; i++) {
        const struct timing *t = &timings[i];

        printf("%s{\"op\": \"%s\", \"algorithm\": \"%s\", \"forward_ms\": %.3f, "
               "\"weights_ms\": %.3f, \"data_ms\": %.3f, \"share\": %.4f, \"gflop\": %.4f, "
               "\"bytes\": %zu}",
               i > 0 ? ", " : "", t->op->op->name, t->op->algorithm->name, t->forward, t->weights,
               t->data, all_of(t) / all_of(sum), t->gflop, t->bytes);
    }
    printf("]}\n");
}

static void print_all(const struct timing *timings, int32_t count,
                      const struct bench_options *options)
{
    struct timing sum = sum_of(timings, count);

    for (int32_t i = 0; i < count; i++)
        print_line(&timings[i], all_of(&sum));
    print_json(timings, count, &sum, options);
}

static nin_status report(const nin_plan *plan, const struct bench_options *options)
{
    int32_t count = plan->executable->program.count;
    struct timing *timings = calloc((size_t)count, sizeof *timings);
    struct bench_batch batch = {0};
    nin_status status = NIN_OUT_OF_MEMORY;

    if (timings != NULL && bench_make_batch(&batch, plan->network, options->batch) &&
        measure_all(timings, plan, &batch, options)) {
        print_all(timings, count, options);
        status = NIN_OK;
    }
    bench_free_batch(&batch);
    free(timings);
    return status;
}

/* One op on one worker is all that this can measure. */
static int understand(struct bench_options *options, int argc, char **argv)
{
    if (!bench_parse(options, argc, argv))
        return 0;
    if (options->device == NIN_DEVICE_CPU && options->threads <= 1)
        return 1;
    fprintf(stderr, "%s: ops are timed on one thread of a CPU\n", argv[0]);
    return 0;
}

int main(int argc, char **argv)
{
    struct bench_options options = {.preset = "mnist", .batch = 128, .repetitions = 9};
    nin_context *context = NULL;
    nin_network *network = NULL;
    nin_plan *plan = NULL;
    nin_status status;

    if (!understand(&options, argc, argv))
        return 2;
    status = nin_context_create(&context,
                                NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CPU, .threads = 1));
    if (status == NIN_OK)
        status = nin_network_create_preset(&network, context, options.preset);
    if (status == NIN_OK)
        status = nin_plan_create(
            &plan, network,
            NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = options.batch,
                     .precision = options.precision, .algorithm = options.algorithm));
    if (status == NIN_OK)
        status = report(plan, &options);
    bench_complain(status);
    nin_plan_destroy(plan);
    nin_network_destroy(network);
    nin_context_destroy(context);
    return status == NIN_OK ? 0 : 1;
}
