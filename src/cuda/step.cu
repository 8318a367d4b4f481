/* SPDX-License-Identifier: MIT */
/* Training steps without a question in between. A single one: batch up, forward, backward, check,
 * update, losses down, and the host waits. A stretch of them: their batches are gathered from a
 * data set that is resident, or go up while the step before runs; losses come down now and then,
 * and the host waits at the end. The first step of a kind runs call by call, which also loads the
 * kernels; the second is captured as a CUDA graph, which from then on is started by one call.
 * NIN_CUDA_GRAPH=0 leaves it at calls. */
#include "cuda/cuda.h"

#include <stdlib.h>
#include <string.h>

namespace
{

/* What a step is made of. */
struct step {
    struct nin__executable *executable;
    const struct nin__run *run;
    const struct nin__update *update;
    const struct nin__resident *resident; /* NULL: the batch is the host's */
};

uint64_t resident_number(const struct step *step)
{
    return step->resident == NULL ? 0 : nin__cuda_resident_number(step->resident);
}

nin_status start_check(const struct step *step)
{
    return nin__cuda_start_check(step->executable, step->run->gradient,
                                 step->executable->program.parameters, step->run->images.count);
}

nin_status start_single(const struct step *step)
{
    struct nin__executable *executable = step->executable;

    NIN__TRY(nin__cuda_start(executable, step->run));
    NIN__TRY(nin__cuda_clear_check(executable));
    NIN__TRY(start_check(step));
    NIN__TRY(nin__cuda_download_check(executable));
    NIN__TRY(nin__cuda_upload_spans(executable, step->update));
    return nin__cuda_start_update(executable, step->update, true);
}

/* Weights in other forms are made here, not by the core. What has once been found bad stays, so
 * that no later step updates. A step is counted before its update, which is the last call: where
 * that fails, the host counts less. */
nin_status start_resident(const struct step *step)
{
    struct nin__executable *executable = step->executable;
    int32_t images = step->run->images.count;

    NIN__TRY(nin__cuda_prepare(executable, step->run->parameters, step->run->prepared));
    NIN__TRY(nin__cuda_take_batch(executable, step->resident, images, step->update->span_count));
    NIN__TRY(nin__cuda_start_ops(executable, step->run, nin__cuda_source_of(step->resident)));
    NIN__TRY(start_check(step));
    NIN__TRY(nin__cuda_close_step(executable, step->resident, images));
    return nin__cuda_start_update(executable, step->update, true);
}

nin_status start(const struct step *step)
{
    return step->resident == NULL ? start_single(step) : start_resident(step);
}

/* ---- graphs --------------------------------------------------------------------------------- */

bool is_wanted(void)
{
    const char *text = getenv("NIN_CUDA_GRAPH");

    return text == NULL || strcmp(text, "0") != 0;
}

bool fits(const struct cuda_graph *graph, const struct step *step)
{
    return graph->seen && graph->resident == resident_number(step) &&
           graph->parameters == step->run->parameters &&
           graph->momentum == step->update->momentum && graph->images == step->run->images.count &&
           graph->spans == step->update->span_count && graph->dtype == step->run->images.dtype;
}

void forget(struct cuda_graph *graph)
{
    if (graph->graph != NULL)
        nin__cuda_drop(cudaGraphExecDestroy(graph->graph));
    *graph = cuda_graph();
}

/* The step's, or the one that is given up for it: the first, which the second then follows. */
struct cuda_graph *find(const struct step *step, bool *found)
{
    struct cuda_graph *graphs = step->executable->graphs;
    struct cuda_graph *last = &graphs[CUDA_GRAPHS - 1];

    *found = true;
    for (int i = 0; i < CUDA_GRAPHS; i++)
        if (fits(&graphs[i], step))
            return &graphs[i];
    *found = false;
    forget(&graphs[0]);
    memmove(graphs, graphs + 1, (CUDA_GRAPHS - 1) * sizeof *graphs);
    *last = cuda_graph();
    last->resident = resident_number(step);
    last->parameters = step->run->parameters;
    last->momentum = step->update->momentum;
    last->images = step->run->images.count;
    last->spans = step->update->span_count;
    last->dtype = step->run->images.dtype;
    return last;
}

/* Also after a failure inside the capture has to be ended; what it gives then is of no use. */
nin_status capture_on_own(struct cuda_graph *graph, const struct step *step)
{
    struct nin__device *device = step->executable->device;
    cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal;
    cudaGraph_t captured = NULL;
    nin_status status;
    cudaError_t end;

    NIN__TRY(nin__cuda_check(
        device, cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal),
        "the capture of a step"));
    device->capturing = true;
    (void)cudaThreadExchangeStreamCaptureMode(
        &mode); /* so that CUDA objects to what may not be in it */
    status = start(step);
    (void)cudaThreadExchangeStreamCaptureMode(&mode);
    device->capturing = false;
    end = cudaStreamEndCapture(device->stream, &captured);
    if (status == NIN_OK)
        status = nin__cuda_check(device, end, "the capture of a step");
    else
        nin__cuda_drop(end);
    if (status == NIN_OK)
        status = nin__cuda_check(device, cudaGraphInstantiate(&graph->graph, captured, 0),
                                 "the graph of a step");
    if (captured != NULL)
        nin__cuda_drop(cudaGraphDestroy(captured));
    return status;
}

nin_status capture(struct cuda_graph *graph, const struct step *step)
{
    struct nin__device *device = step->executable->device;
    cudaStream_t stream = device->stream;
    nin_status status;

    if (stream == device->own)
        return capture_on_own(graph, step);
    status = nin__cuda_use_stream(device, device->own);
    if (status == NIN_OK)
        status = capture_on_own(graph, step);
    if (nin__cuda_use_stream(device, stream) != NIN_OK)
        return nin__cuda_kill(device, "cuda: cuBLAS does not go back to the caller's stream; the "
                                      "context can no longer be used");
    return status;
}

/* Where no graph can be made, call by call: a graph is faster, and nothing else. */
nin_status launch(struct cuda_graph *graph, const struct step *step)
{
    struct nin__device *device = step->executable->device;

    if (graph->graph == NULL && !graph->failed && capture(graph, step) != NIN_OK) {
        NIN__TRY(nin__cuda_alive(device));
        graph->failed = true;
    }
    if (graph->failed)
        return start(step);
    return nin__cuda_check(device, cudaGraphLaunch(graph->graph, device->stream),
                           "the start of a step");
}

nin_status go(const struct step *step)
{
    bool found;
    struct cuda_graph *graph = find(step, &found);

    NIN__TRY(found && is_wanted() ? launch(graph, step) : start(step));
    graph->seen = true; /* its kernels are loaded */
    return NIN_OK;
}

/* ---- stretches ------------------------------------------------------------------------------ */

nin_status begin(struct nin__executable *executable, const struct nin__stretch *stretch)
{
    struct cuda_scope scope(executable->device);

    NIN__TRY(scope.status);
    nin__cuda_stage_numbers(executable, &stretch->run);
    nin__cuda_stage_update(executable, &stretch->update);
    *executable->staging.bad = cuda_bad{~0ull, ~0ull};
    NIN__TRY(nin__cuda_begin_stretch(stretch, executable->device));
    NIN__TRY(nin__cuda_upload(executable->device, executable->numbers, executable->staging.numbers,
                              sizeof *executable->numbers, "a step's numbers to the device"));
    NIN__TRY(nin__cuda_upload_spans(executable, &stretch->update));
    return nin__cuda_clear_check(executable);
}

/* Whether something bad has come down. It may still be on its way: then some steps more change
 * nothing. */
bool looks_bad(const struct nin__executable *executable)
{
    const volatile struct cuda_bad *bad = executable->staging.bad;

    return bad->gradient != ~0ull || bad->loss != ~0ull;
}

/* Enters the device for each step alone: other threads come in between. */
nin_status take_step(const struct step *step, int64_t number)
{
    struct nin__device *device = step->executable->device;
    struct cuda_scope scope(device);

    NIN__TRY(scope.status);
    NIN__TRY(nin__cuda_feed_batch(step->resident, device, &step->run->images, number));
    return go(step);
}

size_t images_of(const struct nin__stretch *stretch, int64_t steps)
{
    int64_t most = steps * stretch->batch, count = stretch->run.images.count;

    return (size_t)(most < count ? most : count);
}

/* What is bad and what is new of the results come down, and what has come of them is handed out,
 * without a wait. What fails here is found by the next step. */
void look(struct nin__executable *executable, const struct nin__stretch *stretch, int64_t started)
{
    struct cuda_results *results = nin__cuda_results_of(stretch->resident);
    {
        struct cuda_scope scope(executable->device);

        if (scope.status != NIN_OK)
            return;
        (void)nin__cuda_download_check(executable);
        (void)nin__cuda_look_for_results(results, executable->device, images_of(stretch, started));
    }
    (void)nin__cuda_hand_out(results, stretch);
}

/* Gives how many steps have been started. After the last there is no look: it is the end's. */
nin_status take_steps(int64_t *started, struct nin__executable *executable,
                      const struct nin__stretch *stretch)
{
    const int64_t steps = nin__stretch_steps(stretch);
    struct nin__run run = stretch->run;
    struct step step = {executable, &run, &stretch->update, stretch->resident};

    *started = 0;
    while (*started < steps && !looks_bad(executable)) {
        int64_t first = *started * stretch->batch, left = stretch->run.images.count - first;

        run.images.index = stretch->run.images.index + first;
        run.images.count = left < stretch->batch ? (int32_t)left : stretch->batch;
        NIN__TRY(take_step(&step, *started));
        if (++*started % stretch->look == 0 && *started < steps)
            look(executable, stretch, *started);
    }
    return NIN_OK;
}

/* Waits also after a failure: what has been started still reads and writes the host's memory. Steps
 * whose results do not come have changed the parameters all the same, and nobody knows how many
 * they are. */
nin_status end(struct nin__executable *executable, const struct nin__stretch *stretch,
               int64_t started)
{
    struct cuda_results *results = nin__cuda_results_of(stretch->resident);
    struct cuda_scope scope(executable->device);
    nin_status status, waited;

    NIN__TRY(scope.status);
    status = nin__cuda_fetch_results(results, executable->device, images_of(stretch, started));
    waited = nin__cuda_wait(executable->device);
    if (started > 0 && (status != NIN_OK || waited != NIN_OK))
        return nin__cuda_kill(executable->device,
                              "cuda: not all results of %lld steps have come; the "
                              "context can no longer be used",
                              (long long)started);
    return status == NIN_OK ? waited : status;
}

} // namespace

nin_status nin__cuda_steps(struct nin__executable *executable, const struct nin__stretch *stretch,
                           int64_t *done)
{
    struct cuda_results *results = nin__cuda_results_of(stretch->resident);
    int64_t started = 0;
    nin_status status, ended;

    nin__cuda_begin_results(results);
    status = begin(executable, stretch);
    if (status == NIN_OK)
        status = take_steps(&started, executable, stretch);
    ended = end(executable, stretch, started);
    nin__cuda_end_results(results, ended == NIN_OK);
    *done = nin__cuda_hand_out(results, stretch);
    return status == NIN_OK ? ended : status;
}

nin_status nin__cuda_step(struct nin__executable *executable, const struct nin__run *run,
                          const struct nin__update *update, size_t *bad)
{
    struct step step = {executable, run, update, NULL};
    struct cuda_scope scope(executable->device);
    nin_status status, end;

    NIN__TRY(scope.status);
    nin__cuda_stage(executable, run);
    nin__cuda_stage_update(executable, update);
    status = go(&step);
    end = nin__cuda_wait(executable->device); /* also then: the staging is being read and written */
    NIN__TRY(status);
    if (end != NIN_OK) /* the parameters may be those before the step or those after it */
        return nin__cuda_kill(executable->device, "cuda: the result of a step did not come; the "
                                                  "context can no longer be used");
    nin__cuda_unstage(executable, run);
    *bad = executable->staging.bad->gradient == ~0ull ? executable->program.parameters
                                                      : (size_t)executable->staging.bad->gradient;
    return NIN_OK;
}
