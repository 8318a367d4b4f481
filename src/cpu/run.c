/* SPDX-License-Identifier: MIT */
/* How the CPU walks a program: segment by segment, each depth-first in chunks of images.
 *
 * Forward takes every segment's chunks in any order. Backward begins with the last segment: a chunk
 * goes forward again through its segment, from the whole-batch output at the boundary, then
 * backward to the whole-batch gradient there, while its lane adds parameter gradients up. */
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
    char *memory; /* the worker's own: scratch, strips */
    char *images; /* where outputs of whole images lie: the same, unless workers share the chunk */
    float *lane;
    bool fresh;           /* the lane's first: it holds nothing yet */
    int32_t first, count; /* images of the batch */
};

/* ---- one chunk ---------------------------------------------------------------------------- */

static float *output(const struct chunk *chunk, const struct cpu_op *op)
{
    if (op->whole_y != NULL)
        return op->whole_y + (size_t)chunk->first * nin__shape_size(op->op->out);
    return (float *)(void *)((op->y_strip ? chunk->memory : chunk->images) + op->y);
}

static float *gradient(const struct chunk *chunk, const struct cpu_op *op)
{
    if (op->whole_dy != NULL)
        return op->whole_dy + (size_t)chunk->first * nin__shape_size(op->op->out);
    return (float *)(void *)(chunk->memory + op->dy);
}

/* A range of a chunk: whole images, or rows of one. */
struct range {
    int32_t image, images, row, rows;
};

static struct range whole_chunk(const struct chunk *chunk, const struct cpu_op *op)
{
    return (struct range){.images = chunk->count, .rows = op->op->out.h};
}

/* Where a range begins in a buffer of whole images, or of one strip. */
static float *at_range(float *buffer, struct nin__shape shape, struct range range, bool strip)
{
    size_t row = (size_t)range.image * (size_t)shape.h + (size_t)range.row;

    return buffer == NULL || strip ? buffer : buffer + row * (size_t)shape.w * (size_t)shape.c;
}

/* What is saved of an image is saved row by row. */
static void *saved_at_range(const struct chunk *chunk, const struct cpu_op *op, struct range range)
{
    size_t height = (size_t)op->op->out.h, row = op->need.saved_per_image / height;

    return chunk->images + op->saved + ((size_t)range.image * height + (size_t)range.row) * row;
}

static void describe_input(struct cpu_call *call, const struct chunk *chunk,
                           const struct cpu_op *op, struct range range)
{
    const struct cpu_op *above = op - 1;

    if (!op->rowwise)
        range.row = 0;
    call->x = at_range(output(chunk, above), op->op->in, range, above->y_strip);
    if (chunk->lane != NULL && op->wants_dx)
        call->dx = at_range(gradient(chunk, above), op->op->in, range, above->dy_strip);
}

static const float *prepared(const struct nin__run *run, const struct cpu_op *op,
                             enum cpu_pass pass)
{
    return op->form[pass] < 0 ? NULL : run->prepared[op->form[pass]];
}

static struct cpu_call describe_call(const struct chunk *chunk, int32_t i, enum cpu_pass pass,
                                     struct range range)
{
    const struct nin__run *run = chunk->sweep->run;
    const struct cpu_op *op = &chunk->sweep->executable->ops[i];
    struct cpu_call call = {
        .cpu = op,
        .op = op->op,
        .run = run,
        .first = chunk->first + range.image,
        .images = range.images,
        .row = range.row,
        .rows = range.rows,
        .y = at_range(output(chunk, op), op->op->out, range, op->y_strip),
        .saved = saved_at_range(chunk, op, range),
        .scratch = (float *)(void *)(chunk->memory + op->scratch[pass]),
        .prepared = {prepared(run, op, CPU_FORWARD), prepared(run, op, CPU_BACKWARD)},
        .share = {0, 1},
    };

    if (i > 0)
        describe_input(&call, chunk, op, range);
    if (chunk->lane != NULL) {
        call.dy = at_range(gradient(chunk, op), op->op->out, range, op->dy_strip);
        call.lane = chunk->lane + op->lane / sizeof(float);
        call.fresh = chunk->fresh && range.image == 0 && range.row == 0;
    }
    return call;
}

/* Rows of a chunk, counted through its images, that are still to be taken in strips. */
struct strips {
    int32_t next, end;
    int32_t height;       /* of an image */
    int32_t rows, images; /* of a strip at most; several images with all of their rows only */
};

static struct strips group_strips(const struct chunk *chunk, const struct cpu_group *group)
{
    int32_t height = chunk->sweep->executable->ops[group->first].op->out.h;

    return (struct strips){.end = group->rows > 0 ? chunk->count * height : 0,
                           .height = height,
                           .rows = group->rows,
                           .images = group->images};
}

static int32_t at_most(int32_t count, int32_t most)
{
    return count < most ? count : most;
}

static bool next_strip(struct range *strip, struct strips *strips)
{
    int32_t rest = strips->end - strips->next;

    if (rest <= 0)
        return false;
    *strip = (struct range){
        .image = strips->next / strips->height, .images = 1, .row = strips->next % strips->height};
    strip->rows = at_most(at_most(strips->height - strip->row, strips->rows), rest);
    if (strip->rows == strips->height)
        strip->images = at_most(rest / strips->height, strips->images);
    strips->next += strip->images * strip->rows;
    return true;
}

static void op_forward(const struct chunk *chunk, int32_t i, struct range range)
{
    struct cpu_call call = describe_call(chunk, i, CPU_FORWARD, range);

    call.cpu->algorithm->forward(&call);
}

/* A worker's share of a chunk's rows: it need not end where a strip would, for no row needs another
 * of its group. */
static void share_rows(struct strips *strips, struct cpu_share share)
{
    size_t first, end;

    nin__cpu_share_range(share, (size_t)strips->end, 1, &first, &end);
    strips->next = (int32_t)first;
    strips->end = (int32_t)end;
}

/* An op that is in no group of strips: of its channels, or of its rows. */
static void op_share(const struct chunk *chunk, int32_t i, struct cpu_share share)
{
    const struct cpu_op *op = &chunk->sweep->executable->ops[i];
    struct cpu_call call = describe_call(chunk, i, CPU_FORWARD, whole_chunk(chunk, op));
    struct strips strips = {.end = chunk->count * op->op->out.h,
                            .height = op->op->out.h,
                            .rows = op->op->out.h,
                            .images = chunk->count};
    struct range range;

    if (op->algorithm->whole) {
        call.share = share;
        op->algorithm->forward(&call);
        return;
    }
    share_rows(&strips, share);
    while (next_strip(&range, &strips))
        op_forward(chunk, i, range);
}

static void group_share(const struct chunk *chunk, const struct cpu_group *group,
                        struct cpu_share share)
{
    struct strips strips = group_strips(chunk, group); /* none, if it takes whole images */
    struct range strip;

    if (group->rows == 0)
        op_share(chunk, group->first, share);
    share_rows(&strips, share);
    while (next_strip(&strip, &strips))
        for (int32_t i = group->first; i < group->end; i++)
            op_forward(chunk, i, strip);
}

static void go_forward(const struct chunk *chunk)
{
    const struct cpu_segment *segment = chunk->sweep->segment;

    for (int32_t g = segment->first_group; g < segment->end_group; g++)
        group_share(chunk, &chunk->sweep->executable->groups[g], (struct cpu_share){0, 1});
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

    for (size_t n = 0; n < (size_t)chunk->count; n++)
        for (size_t p = 0; p < pixels; p++)
            for (size_t c = 0; c < channels; c++)
                target[(n * pixels + p) * channels + c] = source[(n * channels + c) * pixels + p];
}

/* Forward at the time of the backward pass, whose scratch is free. */
static void op_again(const struct chunk *chunk, int32_t i, struct range range)
{
    struct cpu_call call = describe_call(chunk, i, CPU_BACKWARD, range);

    call.cpu->algorithm->forward(&call);
}

static void op_backward(const struct chunk *chunk, int32_t i, struct range range)
{
    struct cpu_call call = describe_call(chunk, i, CPU_BACKWARD, range);

    if (call.cpu->algorithm->backward != NULL)
        call.cpu->algorithm->backward(&call);
}

/* The last op of a segment whose gradient there is: the caller's replaces the loss. */
static int32_t last_with_gradient(const struct chunk *chunk)
{
    const struct nin__program *program = &chunk->sweep->executable->program;
    int32_t last = chunk->sweep->segment->end - 1;

    return chunk->sweep->run->score_gradient != NULL && last > program->scores ? program->scores
                                                                               : last;
}

static void group_backward(const struct chunk *chunk, const struct cpu_group *group, int32_t last)
{
    const struct nin__executable *executable = chunk->sweep->executable;
    const struct cpu_op *first = &executable->ops[group->first];
    int32_t end = group->end - 1 < last ? group->end - 1 : last;
    struct strips strips = group_strips(chunk, group);
    struct range strip;

    while (next_strip(&strip, &strips)) {
        if (first->again)
            op_again(chunk, group->first, strip);
        for (int32_t i = end; i > group->first || (i == group->first && first->strips); i--)
            op_backward(chunk, i, strip);
    }
    if (!first->strips && end >= group->first)
        op_backward(chunk, group->first, whole_chunk(chunk, first));
}

static void go_backward(const struct chunk *chunk)
{
    const struct cpu_segment *segment = chunk->sweep->segment;
    const struct nin__executable *executable = chunk->sweep->executable;
    int32_t last = last_with_gradient(chunk);

    if (chunk->sweep->run->score_gradient != NULL && last == executable->program.scores &&
        segment->first <= last)
        load_score_gradient(chunk);
    for (int32_t g = segment->end_group - 1; g >= segment->first_group; g--)
        group_backward(chunk, &executable->groups[g], last);
}

/* ---- what a worker does ------------------------------------------------------------------- */

static struct chunk take_chunk(const struct sweep *sweep, int32_t worker, int32_t unit)
{
    int32_t first = unit * sweep->segment->unit;
    int32_t rest = sweep->run->images.count - first;
    char *memory =
        sweep->executable->worker_memory + (size_t)worker * sweep->executable->worker_bytes;

    return (struct chunk){
        .sweep = sweep,
        .memory = memory,
        .images = memory,
        .first = first,
        .count = rest < sweep->segment->unit ? rest : sweep->segment->unit,
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

/* ---- one chunk, all workers --------------------------------------------------------------- */

/* With two workers for each chunk or more, all workers take each chunk, group by group. (With fewer
 * the chunks are more even than shares of them, and nobody waits between groups.) */
static void sweep_together(void *argument, int32_t worker)
{
    struct sweep *sweep = argument;
    const struct nin__executable *executable = sweep->executable;
    struct cpu_share share = {worker, nin__cpu_workers_count(executable->workers)};

    for (int32_t unit = 0; unit < sweep->units; unit++) {
        struct chunk chunk = take_chunk(sweep, worker, unit);

        be_late(sweep, worker, unit);
        chunk.images = executable->worker_memory; /* the first worker's */
        for (int32_t g = sweep->segment->first_group; g < sweep->segment->end_group; g++) {
            group_share(&chunk, &executable->groups[g], share);
            nin__cpu_workers_meet(executable->workers);
        }
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
            chunk.fresh = unit == lane;
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
    bool together =
        2 * sweep.units <= nin__cpu_workers_count(executable->workers) &&
        executable->options.algorithm != NIN_ALGORITHM_GEMM; /* bits follow its shapes */

    executable->shared_chunks += together ? sweep.units : 0;
    nin__cpu_workers_run(executable->workers, together ? sweep_together : sweep_forward, &sweep);
}

/* What is done once for all chunks, in shares. */
struct chore {
    const struct nin__executable *executable;
    const struct nin__run *run; /* of finish */
    const float *parameters;    /* of prepare */
    void *const *targets;       /* of prepare */
    int32_t first, end;         /* ops */
};

static struct cpu_share share_of(const struct chore *chore, int32_t worker)
{
    return (struct cpu_share){worker, nin__cpu_workers_count(chore->executable->workers)};
}

static void finish_share(void *argument, int32_t worker)
{
    const struct chore *chore = argument;
    const float *total = nin__cpu_lanes_total(chore->executable->lanes);

    for (int32_t i = chore->first; i < chore->end; i++) {
        const struct cpu_op *op = &chore->executable->ops[i];

        if (op->algorithm->finish != NULL)
            op->algorithm->finish(op, total + op->lane / sizeof(float), chore->run->gradient,
                                  chore->run->accumulate, share_of(chore, worker));
    }
}

static void run_backward(struct nin__executable *executable, const struct nin__run *run, int32_t s)
{
    struct sweep sweep = describe_sweep(executable, run, s);
    struct chore finish = {.executable = executable,
                           .run = run,
                           .first = sweep.segment->first,
                           .end = sweep.segment->end};

    nin__cpu_lanes_begin(executable->lanes, sweep.lanes, sweep.segment->lane_bytes / sizeof(float));
    nin__cpu_workers_run(executable->workers, sweep_backward, &sweep);
    nin__cpu_workers_run(executable->workers, finish_share, &finish);
}

static void prepare_share(void *argument, int32_t worker)
{
    const struct chore *chore = argument;

    for (int32_t i = 0; i < chore->end; i++)
        for (int32_t pass = 0; pass < CPU_PASSES; pass++) {
            const struct cpu_op *op = &chore->executable->ops[i];
            float *target = op->form[pass] < 0 ? NULL : chore->targets[op->form[pass]];

            if (target != NULL)
                op->algorithm->prepare(op, (enum cpu_pass)pass, chore->parameters, target,
                                       share_of(chore, worker));
        }
}

nin_status nin__cpu_prepare(struct nin__executable *executable, const float *parameters,
                            void *const *targets)
{
    struct chore chore = {.executable = executable,
                          .parameters = parameters,
                          .targets = targets,
                          .end = executable->program.count};

    nin__cpu_workers_run(executable->workers, prepare_share, &chore);
    return NIN_OK;
}

nin_status nin__cpu_run(struct nin__executable *executable, const struct nin__run *run)
{
    /* The last segment's forward pass is part of its backward pass. */
    int32_t forward = executable->segment_count - (run->backward ? 1 : 0);
    bool blas = executable->options.algorithm == NIN_ALGORITHM_GEMM;
    int threads = blas ? nin__cpu_gemm_begin() : 0;

    for (int32_t s = 0; s < forward; s++)
        run_forward(executable, run, s);
    for (int32_t s = executable->segment_count - 1; run->backward && s >= 0; s--)
        run_backward(executable, run, s);
    if (blas)
        nin__cpu_gemm_end(threads);
    return NIN_OK;
}
