/* SPDX-License-Identifier: MIT */
/* How a run walks the program: the whole batch forward op by op, and backward again. All is started
 * on the device's stream, in order; the host waits once, at the end. */
#include "cuda/cuda.h"

#include <string.h>

namespace
{

/* ---- up and down ---------------------------------------------------------------------------- */

void stage_images(struct nin__executable *executable, const struct nin__images *images)
{
    size_t element = images->dtype == NIN_U8 ? 1 : sizeof(float);

    nin__cuda_gather(executable->staging.images, images,
                     nin__shape_size(executable->program.ops[0].out) * element);
}

nin_status upload_batch(struct nin__executable *executable, const struct nin__run *run)
{
    const struct cuda_staging *staging = &executable->staging;
    struct nin__device *device = executable->device;
    size_t images = (size_t)run->images.count, image, scores;

    image = nin__shape_size(executable->program.ops[0].out);
    scores = nin__shape_size(executable->program.ops[executable->program.scores].out);
    NIN__TRY(nin__cuda_upload(device, executable->images, staging->images,
                              images * image * (run->images.dtype == NIN_U8 ? 1 : sizeof(float)),
                              "images to the device"));
    NIN__TRY(nin__cuda_upload(device, executable->numbers, staging->numbers,
                              sizeof *staging->numbers, "a step's numbers to the device"));
    if (run->labels != NULL)
        NIN__TRY(nin__cuda_upload(device, executable->labels, staging->labels,
                                  images * sizeof *staging->labels, "labels to the device"));
    if (run->score_gradient != NULL)
        NIN__TRY(nin__cuda_upload(device, executable->score_gradient, run->score_gradient,
                                  images * scores * sizeof(float), "a gradient to the device"));
    return NIN_OK;
}

bool has_losses(const struct nin__executable *executable, const struct nin__run *run)
{
    return run->labels != NULL && executable->program.loss;
}

nin_status download_losses(struct nin__executable *executable, const struct nin__run *run)
{
    const struct cuda_staging *staging = &executable->staging;
    size_t images = (size_t)run->images.count;

    if (!has_losses(executable, run))
        return NIN_OK;
    NIN__TRY(nin__cuda_download(executable->device, staging->losses, executable->losses,
                                images * sizeof *staging->losses, "losses from the device"));
    return nin__cuda_download(executable->device, staging->marks, executable->marks, images,
                              "marks from the device");
}

/* ---- the ops -------------------------------------------------------------------------------- */

struct cuda_call describe(const struct nin__executable *executable, const struct nin__run *run,
                          struct cuda_source source, int32_t i)
{
    const struct cuda_op *cuda = &executable->ops[i];
    struct cuda_call call = {};

    call.device = executable->device;
    call.executable = executable;
    call.cuda = cuda;
    call.op = cuda->op;
    call.run = run;
    call.source = source;
    call.images = run->images.count;
    call.y = executable->memory + cuda->y;
    if (i > 0)
        call.x = executable->memory + cuda[-1].y;
    if (cuda->op->kind == NIN__OP_CONV)
        call.weights =
            cuda->form < 0 ? run->parameters + cuda->op->weight : run->prepared[cuda->form];
    if (cuda->turned >= 0)
        call.turned = run->prepared[cuda->turned];
    return call;
}

/* The loss does the pool before it, if it can: forward and, in the same go, backward. */
bool is_classified(const struct nin__executable *executable, const struct nin__run *run, int32_t i)
{
    return i + 1 < executable->program.count && nin__cuda_classifies(&executable->ops[i + 1], run);
}

nin_status go_forward(const struct nin__executable *executable, const struct nin__run *run,
                      struct cuda_source source)
{
    for (int32_t i = 0; i < executable->program.count; i++) {
        struct cuda_call call = describe(executable, run, source, i);

        if (!is_classified(executable, run, i))
            NIN__TRY(call.cuda->forward(&call));
    }
    return NIN_OK;
}

/* Above the first parameters nobody wants a gradient, unless the caller does. */
int32_t first_with_gradient(const struct nin__program *program)
{
    int32_t i = 0;

    while (!program->input_gradient && i < program->count && program->ops[i].kind != NIN__OP_CONV)
        i++;
    return i;
}

/* The op that backward begins with: the loss, or the one whose gradient the caller gives. */
nin_status begin_backward(const struct nin__executable *executable, const struct nin__run *run,
                          int32_t *last)
{
    const struct nin__program *program = &executable->program;

    *last = run->score_gradient != NULL ? program->scores : program->count - 1;
    if (run->score_gradient == NULL)
        return NIN_OK;
    return nin__cuda_to_nhwc(executable->device, program->ops[*last].out, run->images.count,
                             executable->score_gradient,
                             (float *)(void *)(executable->memory + executable->ops[*last].dy));
}

nin_status go_backward(const struct nin__executable *executable, const struct nin__run *run,
                       struct cuda_source source)
{
    int32_t first = first_with_gradient(&executable->program), last;

    NIN__TRY(begin_backward(executable, run, &last));
    for (int32_t i = last; i > 0 && i >= first; i--) {
        struct cuda_call call = describe(executable, run, source, i);

        if (nin__cuda_classifies(call.cuda, run) || is_classified(executable, run, i))
            continue;
        call.dy = executable->memory + call.cuda->dy;
        call.gated = i < last && nin__cuda_wants_gate(call.cuda) && call.cuda[1].gates;
        if (i - 1 >= first)
            call.dx = executable->memory + call.cuda[-1].dy;
        call.gate = call.dx != NULL && nin__cuda_wants_gate(call.cuda - 1) && call.cuda->gates;
        NIN__TRY(call.cuda->backward(&call));
    }
    return NIN_OK;
}

/* An op's output or its gradient, for the caller. */
nin_status fetch(struct nin__executable *executable, const struct cuda_op *cuda, size_t place,
                 int32_t images, float *target)
{
    struct nin__shape shape = cuda->op->out;
    struct cuda_scope scope(executable->device);

    NIN__TRY(scope.status);
    NIN__TRY(nin__cuda_to_nchw(executable->device, shape, images, executable->memory + place,
                               cuda->narrow_y, executable->transposed));
    NIN__TRY(nin__cuda_download(executable->device, target, executable->transposed,
                                (size_t)images * nin__shape_size(shape) * sizeof *target,
                                "an output from the device"));
    return nin__cuda_wait(executable->device);
}

} // namespace

nin_status nin__cuda_upload(struct nin__device *device, void *target, const void *source,
                            size_t bytes, const char *what)
{
    return nin__cuda_check(
        device, cudaMemcpyAsync(target, source, bytes, cudaMemcpyHostToDevice, device->stream),
        what);
}

nin_status nin__cuda_download(struct nin__device *device, void *target, const void *source,
                              size_t bytes, const char *what)
{
    return nin__cuda_check(
        device, cudaMemcpyAsync(target, source, bytes, cudaMemcpyDeviceToHost, device->stream),
        what);
}

void nin__cuda_gather(char *target, const struct nin__images *images, size_t bytes)
{
    for (int32_t n = 0; n < images->count; n++) {
        size_t image = (size_t)(images->index != NULL ? images->index[n] : n);

        memcpy(target + (size_t)n * bytes, (const char *)images->base + image * bytes, bytes);
    }
}

/* The last run has waited, so nobody reads the staging. */
void nin__cuda_stage(struct nin__executable *executable, const struct nin__run *run)
{
    stage_images(executable, &run->images);
    if (run->labels != NULL)
        memcpy(executable->staging.labels, run->labels,
               (size_t)run->images.count * sizeof *run->labels);
    nin__cuda_stage_numbers(executable, run);
}

void nin__cuda_stage_numbers(struct nin__executable *executable, const struct nin__run *run)
{
    struct cuda_numbers *numbers = executable->staging.numbers;

    numbers->seed = run->seed;
    numbers->first_position = run->first_position;
    numbers->step[0] = (uint32_t)run->step;
    numbers->step[1] = (uint32_t)((uint64_t)run->step >> 32);
}

nin_status nin__cuda_start_ops(struct nin__executable *executable, const struct nin__run *run,
                               struct cuda_source source)
{
    NIN__TRY(go_forward(executable, run, source));
    return run->backward ? go_backward(executable, run, source) : NIN_OK;
}

nin_status nin__cuda_start(struct nin__executable *executable, const struct nin__run *run)
{
    struct cuda_source source = {executable->images, NULL};

    NIN__TRY(upload_batch(executable, run));
    NIN__TRY(nin__cuda_start_ops(executable, run, source));
    return download_losses(executable, run);
}

void nin__cuda_unstage(const struct nin__executable *executable, const struct nin__run *run)
{
    size_t images = (size_t)run->images.count;

    if (!has_losses(executable, run))
        return;
    memcpy(run->losses, executable->staging.losses, images * sizeof *run->losses);
    memcpy(run->marks, executable->staging.marks, images * sizeof *run->marks);
}

nin_status nin__cuda_run(struct nin__executable *executable, const struct nin__run *run)
{
    struct cuda_scope scope(executable->device);
    nin_status status, end;

    NIN__TRY(scope.status);
    nin__cuda_stage(executable, run);
    status = nin__cuda_start(executable, run);
    end =
        nin__cuda_wait(executable->device); /* also then: what has been started uses the staging */
    NIN__TRY(status);
    NIN__TRY(end);
    nin__cuda_unstage(executable, run);
    return NIN_OK;
}

nin_status nin__cuda_fetch(struct nin__executable *executable, int32_t op, int32_t images,
                           float *target)
{
    return fetch(executable, &executable->ops[op], executable->ops[op].y, images, target);
}

nin_status nin__cuda_fetch_input_gradient(struct nin__executable *executable, int32_t images,
                                          float *target)
{
    return fetch(executable, &executable->ops[0], executable->ops[0].dy, images, target);
}
