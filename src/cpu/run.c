/* SPDX-License-Identifier: MIT */
/* How the CPU walks a program: segment by segment, each depth-first in chunks of images.
 *
 * Forward takes every segment's chunks in any order. Backward begins with the last segment: a chunk goes
 * forward again through its segment, from the whole-batch output at the boundary, then backward to the
 * whole-batch gradient there, while its lane adds parameter gradients up. */
#include "cpu/cpu.h"
#include "cpu/gemm.h"
#include "cpu/lanes.h"
#include "cpu/workers.h"

#include "core/rng.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

/* What the workers of one segment share. */
struct sweep {
    struct nin__executable *executable;
    const struct nin__run *run;
    const struct cpu_segment *segment;
    int32_t units;
    int32_t lanes;
    atomic_int next; /* unit, of a forward sweep */
};

/* A chunk in a worker's hands. */
struct chunk {
    const struct sweep *sweep;
    char *memory; /* the worker's */
    float *lane;
    int32_t first, images;
};

/* ---- one chunk ---------------------------------------------------------------------------- */

static float *output(const struct chunk *chunk, const struct cpu_op *op)
{
    if (op->whole_y != NULL)
        return op->whole_y + (size_t)chunk->first * nin__shape_size(op->op->out);
    return (float *)(void *)(chunk->memory + op->y);
}

static float *gradient(const struct chunk *chunk, const struct cpu_op *op)
{
    if (op->whole_dy != NULL)
        return op->whole_dy + (size_t)chunk->first * nin__shape_size(op->op->out);
    return (float *)(void *)(chunk->memory + op->dy);
}

/* Nobody needs the gradient of the images unless the plan was asked for it. */
static bool wants_input_gradient(const struct nin__executable *executable, int32_t i)
{
    return i > 1 || executable->program.input_gradient;
}

static struct cpu_call describe_call(const struct chunk *chunk, int32_t i)
{
    const struct nin__executable *executable = chunk->sweep->executable;
    const struct cpu_op *op = &executable->ops[i];
    const struct nin__run *run = chunk->sweep->run;
    struct cpu_call call = {
        .op = op->op,
        .run = run,
        .first = chunk->first,
        .images = chunk->images,
        .rows = op->op->out.h,
        .x = i > 0 ? output(chunk, op - 1) : NULL,
        .y = output(chunk, op),
        .saved = chunk->memory + op->saved,
        .scratch = (float *)(void *)(chunk->memory + chunk->sweep->segment->scratch),
        .prepared = (const float *)run->prepared + op->prepared / sizeof(float),
    };

    if (chunk->lane != NULL) {
        call.dy = gradient(chunk, op);
        call.dx = i > 0 && wants_input_gradient(executable, i) ? gradient(chunk, op - 1) : NULL;
        call.lane = chunk->lane + op->lane / sizeof(float);
    }
    return call;
}

static void go_forward(const struct chunk *chunk)
{
    const struct cpu_segment *segment = chunk->sweep->segment;

    for (int32_t i = segment->first; i < segment->end; i++) {
        struct cpu_call call = describe_call(chunk, i);

        chunk->sweep->executable->ops[i].kernel->forward(&call);
    }
}

/* The caller's gradient of the scores, NCHW, becomes that of the chunk, NHWC. */
static void load_score_gradient(const struct chunk *chunk)
{
    const struct nin__executable *executable = chunk->sweep->executable;
    const struct cpu_op *op = &executable->ops[executable->program.scores];
    size_t channels = (size_t)op->op->out.c, pixels = nin__shape_size(op->op->out) / channels;
    const float *source =
        chunk->sweep->run->score_gradient + (size_t)chunk->first * channels * pixels;
    float *target = gradient(chunk, op);

    for (size_t n = 0; n < (size_t)chunk->images; n++)
        for (size_t p = 0; p < pixels; p++)
            for (size_t c = 0; c < channels; c++)
                target[(n * pixels + p) * channels + c] = source[(n * channels + c) * pixels + p];
}

static void go_backward(const struct chunk *chunk)
{
    const struct nin__executable *executable = chunk->sweep->executable;
    const struct cpu_segment *segment = chunk->sweep->segment;
    int32_t last = segment->end - 1;

    if (chunk->sweep->run->score_gradient != NULL) {
        if (last > executable->program.scores)
            last = executable->program.scores; /* the caller's gradient replaces the loss */
        if (last == executable->program.scores && segment->first <= last)
            load_score_gradient(chunk);
    }
    for (int32_t i = last; i >= segment->first; i--) {
        struct cpu_call call = describe_call(chunk, i);

        if (executable->ops[i].kernel->backward != NULL)
            executable->ops[i].kernel->backward(&call);
    }
}

/* ---- what a worker does ------------------------------------------------------------------- */

static struct chunk take_chunk(const struct sweep *sweep, int32_t worker, int32_t unit)
{
    int32_t first = unit * sweep->segment->unit;
    int32_t rest = sweep->run->images.count - first;

    return (struct chunk){
        .sweep = sweep,
        .memory =
            sweep->executable->worker_memory + (size_t)worker * sweep->executable->worker_bytes,
        .first = first,
        .images = rest < sweep->segment->unit ? rest : sweep->segment->unit,
    };
}

/* For tests: a worker that is late at random shows an order that depends on time. */
static void be_late(const struct sweep *sweep, int32_t worker, int32_t unit)
{
    const uint32_t counter[4] = {(uint32_t)unit, (uint32_t)worker, (uint32_t)sweep->run->step, 0};
    const uint32_t key[2] = {sweep->executable->options.jitter, 0};
    struct timespec pause = {0};
    uint32_t random[4];

    if (sweep->executable->options.jitter == 0)
        return;
    nin__philox(random, counter, key);
    pause.tv_nsec = (long)(random[0] % 2000000u);
    nanosleep(&pause, NULL);
}

static void sweep_forward(void *argument, int32_t worker)
{
    struct sweep *sweep = argument;
    int32_t unit;

    while ((unit = atomic_fetch_add(&sweep->next, 1)) < sweep->units) {
        struct chunk chunk = take_chunk(sweep, worker, unit);

        be_late(sweep, worker, unit);
        go_forward(&chunk);
    }
}

static void sweep_backward(void *argument, int32_t worker)
{
    struct sweep *sweep = argument;
    struct cpu_lanes *lanes = sweep->executable->lanes;
    float *sums = NULL;
    int32_t lane;

    while ((lane = nin__cpu_lanes_take(lanes, &sums)) >= 0) {
        for (int32_t unit = lane; unit < sweep->units; unit += sweep->lanes) {
            struct chunk chunk = take_chunk(sweep, worker, unit);

            chunk.lane = sums;
            be_late(sweep, worker, unit);
            go_forward(&chunk);
            go_backward(&chunk);
        }
        nin__cpu_lanes_fold(lanes, lane, sums);
    }
}

/* ---- segments ----------------------------------------------------------------------------- */

static struct sweep describe_sweep(struct nin__executable *executable, const struct nin__run *run,
                                   int32_t s)
{
    const struct cpu_segment *segment = &executable->segments[s];
    struct sweep sweep = {.executable = executable, .run = run, .segment = segment};

    sweep.units = (run->images.count + segment->unit - 1) / segment->unit;
    sweep.lanes = sweep.units < segment->max_lanes ? sweep.units : segment->max_lanes;
    atomic_init(&sweep.next, 0);
    return sweep;
}

static void run_forward(struct nin__executable *executable, const struct nin__run *run, int32_t s)
{
    struct sweep sweep = describe_sweep(executable, run, s);

    nin__cpu_workers_run(executable->workers, sweep_forward, &sweep);
}

static void run_backward(struct nin__executable *executable, const struct nin__run *run, int32_t s)
{
    struct sweep sweep = describe_sweep(executable, run, s);

    nin__cpu_lanes_begin(executable->lanes, sweep.lanes, sweep.segment->lane_bytes / sizeof(float));
    nin__cpu_workers_run(executable->workers, sweep_backward, &sweep);
    for (int32_t i = sweep.segment->first; i < sweep.segment->end; i++) {
        const struct cpu_op *op = &executable->ops[i];

        if (op->kernel->finish != NULL)
            op->kernel->finish(op->op,
                               nin__cpu_lanes_total(executable->lanes) + op->lane / sizeof(float),
                               run->gradient, run->accumulate);
    }
}

nin_status nin__cpu_run(struct nin__executable *executable, const struct nin__run *run)
{
    /* The last segment's forward pass is part of its backward pass. */
    int32_t forward = executable->segment_count - (run->backward ? 1 : 0);

    nin__cpu_gemm_begin();
    for (int32_t s = 0; s < forward; s++)
        run_forward(executable, run, s);
    for (int32_t s = executable->segment_count - 1; run->backward && s >= 0; s--)
        run_backward(executable, run, s);
    nin__cpu_gemm_end();
    return NIN_OK;
}
