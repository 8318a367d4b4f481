/* SPDX-License-Identifier: MIT */
/* A training step without a question in between: batch up, forward, backward, check, update, losses down. The
 * first one of a kind runs call by call, which also loads the kernels; the second is captured as a CUDA graph,
 * which from then on is started by one call. NIN_CUDA_GRAPH=0 leaves it at calls. */
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
};

nin_status start(const struct step *step)
{
    NIN__TRY(nin__cuda_start(step->executable, step->run));
    NIN__TRY(nin__cuda_start_check(step->executable, step->run->gradient,
                                   step->executable->program.parameters, step->run->images.count));
    return nin__cuda_start_update(step->executable, step->update, true);
}

/* ---- graphs --------------------------------------------------------------------------------- */

bool is_wanted(void)
{
    const char *text = getenv("NIN_CUDA_GRAPH");

    return text == NULL || strcmp(text, "0") != 0;
}

bool fits(const struct cuda_graph *graph, const struct step *step)
{
    return graph->seen && graph->parameters == step->run->parameters &&
           graph->momentum == step->update->momentum && graph->images == step->run->images.count &&
           graph->spans == step->update->span_count && graph->dtype == step->run->images.dtype;
}

void forget(struct cuda_graph *graph)
{
    if (graph->graph != NULL)
        (void)cudaGraphExecDestroy(graph->graph);
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
    last->parameters = step->run->parameters;
    last->momentum = step->update->momentum;
    last->images = step->run->images.count;
    last->spans = step->update->span_count;
    last->dtype = step->run->images.dtype;
    return last;
}

/* Also after a failure inside the capture has to be ended; what it gives then is of no use. */
nin_status capture(struct cuda_graph *graph, const struct step *step)
{
    struct nin__device *device = step->executable->device;
    cudaGraph_t captured = NULL;
    nin_status status;
    cudaError_t end;

    NIN__TRY(nin__cuda_check(
        device, cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal),
        "the capture of a step"));
    device->capturing = true;
    status = start(step);
    device->capturing = false;
    end = cudaStreamEndCapture(device->stream, &captured);
    if (status == NIN_OK)
        status = nin__cuda_check(device, end, "the capture of a step");
    if (status == NIN_OK)
        status = nin__cuda_check(device, cudaGraphInstantiate(&graph->graph, captured, 0),
                                 "the graph of a step");
    if (captured != NULL)
        (void)cudaGraphDestroy(captured);
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

/* Waits also after a failure: what has been started still reads and writes the host's memory. */
nin_status go(struct cuda_graph *graph, const struct step *step, bool as_graph)
{
    nin_status status = as_graph ? launch(graph, step) : start(step);
    nin_status end = nin__cuda_wait(step->executable->device);

    return status == NIN_OK ? end : status;
}

} // namespace

nin_status nin__cuda_step(struct nin__executable *executable, const struct nin__run *run,
                          const struct nin__update *update, size_t *bad)
{
    struct step step = {executable, run, update};
    struct cuda_scope scope(executable->device);
    struct cuda_graph *graph;
    bool found;

    NIN__TRY(scope.status);
    nin__cuda_stage(executable, run);
    nin__cuda_stage_update(executable, update);
    graph = find(&step, &found);
    NIN__TRY(go(graph, &step, found && is_wanted()));
    graph->seen = true; /* its kernels are loaded */
    nin__cuda_unstage(executable, run);
    *bad = executable->staging.bad->gradient == ~0ull ? executable->program.parameters
                                                      : (size_t)executable->staging.bad->gradient;
    return NIN_OK;
}
