/* SPDX-License-Identifier: MIT */
/* What a plan does with a batch: forward, backward, step, evaluation. Each checks its arguments,
 * enters the plan, shares or holds the network, runs the program, and sums up. */
#include "core/plan.h"

#include "core/descriptor.h"
#include "core/error.h"
#include "core/optimizer.h"
#include "core/tensor.h"

#include <math.h>
#include <string.h>

nin_status nin__plan_enter(const nin_plan *plan)
{
    if (atomic_flag_test_and_set(&((nin_plan *)plan)->busy))
        return nin__fail(NIN_BUSY, "the plan is being used by another thread");
    return NIN_OK;
}

void nin__plan_leave(const nin_plan *plan)
{
    atomic_flag_clear(&((nin_plan *)plan)->busy);
}

static nin_status read_tensor(struct nin__images *images, const nin_plan *plan,
                              const nin_tensor *tensor)
{
    const nin_tensor_info *info = &tensor->info;
    const int64_t *shape = info->shape;

    if (info->rank != 4 || shape[1] != plan->input.c || shape[2] != plan->input.h ||
        shape[3] != plan->input.w)
        return nin__fail(NIN_INVALID_ARGUMENT, "batch: the tensor is not N x %d x %d x %d",
                         plan->input.c, plan->input.h, plan->input.w);
    if (shape[0] > plan->desc.max_batch)
        return nin__fail(NIN_INVALID_ARGUMENT, "batch: %lld images, the plan takes 1 to %d",
                         (long long)shape[0], plan->desc.max_batch);
    if (info->device_type != 1) /* DLPack's kDLCPU */
        return nin__fail(NIN_UNSUPPORTED, "batch: the tensor is not in host memory");
    images->base = info->data;
    images->dtype = info->dtype;
    images->count = (int32_t)shape[0];
    return NIN_OK;
}

static nin_status read_images(struct nin__images *images, const nin_plan *plan,
                              const nin_batch_desc *desc)
{
    if (desc->tensor != NULL) {
        if (desc->images != NULL || desc->count != 0)
            return nin__fail(NIN_INVALID_ARGUMENT, "batch: images and a tensor, one too many");
        return read_tensor(images, plan, desc->tensor);
    }
    if (desc->images == NULL)
        return nin__fail(NIN_INVALID_ARGUMENT, "batch: neither images nor a tensor");
    if (desc->count < 1 || desc->count > plan->desc.max_batch)
        return nin__fail(NIN_INVALID_ARGUMENT, "batch: %d images, the plan takes 1 to %d",
                         desc->count, plan->desc.max_batch);
    if (desc->dtype == NIN_F32 && (uintptr_t)desc->images % _Alignof(float) != 0)
        return nin__fail(NIN_INVALID_ARGUMENT, "batch: the images are not aligned as floats are");
    images->base = desc->images;
    images->dtype = desc->dtype;
    images->count = desc->count;
    return NIN_OK;
}

static nin_status read_batch(struct nin__run *run, const nin_plan *plan,
                             const nin_batch_desc *source)
{
    nin_batch_desc desc;

    if (source == NULL)
        return nin__fail(NIN_INVALID_ARGUMENT, "batch: the descriptor is NULL");
    NIN__TRY(NIN__DESC_READ(&desc, source, nin_batch_desc));
    memset(run, 0, sizeof *run);
    NIN__TRY(read_images(&run->images, plan, &desc));
    if (run->images.dtype != NIN_F32 && run->images.dtype != NIN_U8)
        return nin__fail(NIN_INVALID_ARGUMENT, "batch: images of dtype %d; NIN_F32 or NIN_U8",
                         (int)run->images.dtype);
    if (desc.step < 0)
        return nin__fail(NIN_INVALID_ARGUMENT, "batch: step %lld is negative",
                         (long long)desc.step);
    if (desc.first_position < 0 || desc.first_position > UINT32_MAX - (int64_t)run->images.count)
        return nin__fail(NIN_INVALID_ARGUMENT, "batch: first_position %lld is outside 0 to %lld",
                         (long long)desc.first_position, (long long)UINT32_MAX - run->images.count);
    run->step = desc.step;
    run->first_position = (uint32_t)desc.first_position;
    run->seed = plan->network->context->seed;
    return NIN_OK;
}

static nin_status check_labels(const nin_plan *plan, const int32_t *labels, int32_t count)
{
    if (!plan->program->loss)
        return nin__fail(NIN_INVALID_STATE, "labels need a softmax loss, and the network has none");
    if ((uintptr_t)labels % _Alignof(int32_t) != 0)
        return nin__fail(NIN_INVALID_ARGUMENT, "the labels are not aligned as int32_t are");
    for (int32_t n = 0; n < count; n++)
        if (labels[n] < 0 || labels[n] >= plan->scores.c)
            return nin__fail(NIN_INVALID_ARGUMENT,
                             "label %d of image %d of the batch is outside 0 to %d", labels[n], n,
                             plan->scores.c - 1);
    return NIN_OK;
}

/* What a run needs of the plan. The caller has entered the plan, and shares or holds the
 * network. */
static nin_status begin(nin_plan *plan, struct nin__run *run)
{
    plan->images = 0;
    plan->has_gradient = run->backward ? false : plan->has_gradient;
    NIN__TRY(nin__prepared_use(&plan->prepared, plan->network, plan->executable));
    run->parameters = plan->network->parameters;
    run->prepared = plan->prepared.memory;
    run->gradient = plan->gradient;
    run->losses = plan->losses;
    run->marks = plan->marks;
    return NIN_OK;
}

/* Its outputs can be read. */
static void end(nin_plan *plan, const struct nin__run *run)
{
    plan->images = run->images.count;
    plan->run_version = atomic_load(&plan->network->version);
    if (run->backward) {
        plan->has_gradient = true;
        plan->gradient_images = run->images.count;
    }
}

static nin_status execute(nin_plan *plan, struct nin__run *run)
{
    NIN__TRY(begin(plan, run));
    NIN__TRY(plan->network->context->backend->run(plan->executable, run));
    end(plan, run);
    return NIN_OK;
}

void nin__sum_up(nin_result *result, const double *losses, const uint8_t *marks, int32_t count)
{
    double loss = 0.0;

    memset(result, 0, sizeof *result);
    result->struct_size = sizeof *result;
    for (int32_t n = 0; n < count; n++) {
        loss += losses[n];
        result->correct += (marks[n] & NIN__CORRECT) != 0;
        result->flat += (marks[n] & NIN__FLAT) != 0;
    }
    result->count = count;
    if (count > 0)
        result->loss = loss / count;
}

static void sum_up(nin_result *result, const nin_plan *plan, const struct nin__run *run)
{
    nin__sum_up(result, plan->losses, plan->marks, run->labels == NULL ? 0 : run->images.count);
}

static nin_status check_loss(const nin_result *result, int64_t step)
{
    if (!isfinite(result->loss))
        return nin__fail(NIN_NOT_FINITE, "the loss of step %lld is %s", (long long)step,
                         isnan(result->loss) ? "NaN" : "infinite");
    return NIN_OK;
}

nin_status nin_plan_forward(nin_plan *plan, const nin_batch_desc *batch)
{
    struct nin__run run;
    nin_status status;

    NIN__NEED(plan);
    NIN__TRY(read_batch(&run, plan, batch));
    NIN__TRY(nin__plan_enter(plan));
    status = nin__network_share(plan->network);
    if (status == NIN_OK) {
        status = execute(plan, &run);
        nin__network_unshare(plan->network);
    }
    if (status == NIN_OK)
        plan->run = run;
    nin__plan_leave(plan);
    return status;
}

static nin_status read_backward(struct nin__run *run, const nin_plan *plan,
                                const nin_backward_desc *source)
{
    nin_backward_desc desc;

    if (source == NULL)
        return nin__fail(NIN_INVALID_ARGUMENT, "backward: the descriptor is NULL");
    NIN__TRY(NIN__DESC_READ(&desc, source, nin_backward_desc));
    if ((desc.labels == NULL) == (desc.score_gradient == NULL))
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "backward: needs labels or a score gradient, one of the two");
    if (desc.labels != NULL)
        NIN__TRY(check_labels(plan, desc.labels, run->images.count));
    if (desc.accumulate != 0 && desc.accumulate != 1)
        return nin__fail(NIN_INVALID_ARGUMENT, "backward: accumulate %d; 0 or 1", desc.accumulate);
    if (desc.reserved != 0)
        return nin__fail(NIN_INVALID_ARGUMENT, "backward: reserved %d; it must be 0",
                         desc.reserved);
    if (desc.accumulate && !plan->has_gradient)
        return nin__fail(NIN_INVALID_STATE, "backward: there is no gradient to add to yet");
    run->labels = desc.labels;
    run->score_gradient = desc.score_gradient;
    run->accumulate = desc.accumulate != 0;
    run->backward = true;
    return NIN_OK;
}

static nin_status check_forward(const nin_plan *plan)
{
    if (!plan->program->train)
        return nin__fail(NIN_INVALID_STATE, "backward: this is an inference plan");
    if (plan->run.images.base == NULL || plan->images == 0)
        return nin__fail(NIN_INVALID_STATE, "backward: no forward has run before it");
    if (plan->run_version != atomic_load(&plan->network->version))
        return nin__fail(NIN_INVALID_STATE, "backward: parameters have changed since forward");
    return NIN_OK;
}

/* The caller has entered the plan and shares the network. */
static nin_status backward(nin_result *result, nin_plan *plan, const nin_backward_desc *desc)
{
    struct nin__run run = plan->run;
    nin_status status;

    NIN__TRY(check_forward(plan));
    NIN__TRY(read_backward(&run, plan, desc));
    status = execute(plan, &run);
    if (status == NIN_OK) {
        sum_up(result, plan, &run);
        status = check_loss(result, run.step);
    }
    if (status != NIN_OK)
        plan->has_gradient = false;
    return status;
}

nin_status nin_plan_backward(nin_result *out, nin_plan *plan, const nin_backward_desc *desc)
{
    nin_result result;
    nin_status status;

    NIN__NEED(plan);
    if (out != NULL)
        NIN__TRY(NIN__INFO_CHECK(out, nin_result));
    NIN__TRY(nin__plan_enter(plan));
    status = nin__network_share(plan->network);
    if (status == NIN_OK) {
        status = backward(&result, plan, desc);
        nin__network_unshare(plan->network);
    }
    nin__plan_leave(plan);
    if (status == NIN_OK && out != NULL)
        status = NIN__INFO_WRITE(out, &result, nin_result);
    return status;
}

static nin_status step_in_parts(nin_result *result, nin_plan *plan, nin_optimizer *optimizer,
                                struct nin__run *run)
{
    NIN__TRY(execute(plan, run));
    sum_up(result, plan, run);
    NIN__TRY(check_loss(result, run->step));
    return nin__optimizer_apply(optimizer, plan);
}

/* By a backend that does all of it before it answers. */
static nin_status step_at_once(nin_result *result, nin_plan *plan, nin_optimizer *optimizer,
                               struct nin__run *run)
{
    struct nin__update update;
    nin_status status;
    size_t bad;

    NIN__TRY(begin(plan, run));
    NIN__TRY(nin__optimizer_describe(&update, optimizer, plan));
    status = plan->network->context->backend->step(plan->executable, run, &update, &bad);
    if (status == NIN_OK)
        end(plan, run);
    nin__network_changed(plan->network); /* it may fail when the update is done */
    NIN__TRY(status);
    sum_up(result, plan, run);
    NIN__TRY(check_loss(result, run->step));
    return nin__optimizer_judge(optimizer, plan, bad);
}

static nin_status step_holding(nin_result *result, nin_plan *plan, nin_optimizer *optimizer,
                               struct nin__run *run)
{
    bool at_once = plan->network->context->backend->step != NULL;
    nin_status status = at_once ? step_at_once(result, plan, optimizer, run)
                                : step_in_parts(result, plan, optimizer, run);

    if (status != NIN_OK)
        plan->has_gradient = false;
    return status;
}

nin_status nin__plan_step(nin_result *out, nin_plan *plan, nin_optimizer *optimizer,
                          const struct nin__run *batch)
{
    struct nin__run run = *batch;
    nin_status status;

    if (!plan->program->train)
        return nin__fail(NIN_INVALID_STATE, "step: this is an inference plan");
    if (optimizer->network != plan->network)
        return nin__fail(NIN_INVALID_ARGUMENT, "step: plan and optimizer are of two networks");
    NIN__TRY(check_labels(plan, run.labels, run.images.count));
    run.backward = true;
    NIN__TRY(nin__plan_enter(plan));
    status = nin__network_hold(plan->network);
    if (status == NIN_OK) {
        plan->run = run;
        plan->run.images.base = NULL; /* no forward that a backward could go on from */
        status = step_holding(out, plan, optimizer, &run);
        nin__network_unhold(plan->network);
    }
    nin__plan_leave(plan);
    return status;
}

static int32_t last_of(const struct nin__stretch *stretch)
{
    return (stretch->run.images.count - 1) % stretch->batch + 1;
}

static nin_status steps_holding(int64_t *done, nin_plan *plan, nin_optimizer *optimizer,
                                struct nin__stretch *stretch)
{
    const struct nin__backend *backend = plan->network->context->backend;
    struct nin__run last = stretch->run;
    nin_status status;

    NIN__TRY(begin(plan, &stretch->run));
    NIN__TRY(nin__optimizer_describe(&stretch->update, optimizer, plan));
    status = backend->steps(plan->executable, stretch, done);
    last.images.count = last_of(stretch);
    if (*done == nin__stretch_steps(stretch))
        end(plan, &last);
    nin__network_changed(plan->network); /* it may fail when some steps are done */
    return status;
}

nin_status nin__plan_steps(int64_t *done, nin_plan *plan, nin_optimizer *optimizer,
                           struct nin__stretch *stretch)
{
    nin_status status;

    *done = 0;
    stretch->run.backward = true;
    NIN__TRY(nin__plan_enter(plan));
    status = nin__network_hold(plan->network);
    if (status == NIN_OK) {
        plan->run = stretch->run;
        plan->run.images.base = NULL;
        status = steps_holding(done, plan, optimizer, stretch);
        nin__network_unhold(plan->network);
    }
    nin__plan_leave(plan);
    return status;
}

nin_status nin__plan_evaluate(nin_result *out, nin_plan *plan, const struct nin__run *batch)
{
    struct nin__run run = *batch;
    nin_status status;

    if (plan->program->train)
        return nin__fail(NIN_INVALID_STATE, "evaluate: this is a training plan; dropout is on");
    NIN__TRY(check_labels(plan, run.labels, run.images.count));
    NIN__TRY(nin__plan_enter(plan));
    status = nin__network_share(plan->network);
    if (status == NIN_OK) {
        status = execute(plan, &run);
        nin__network_unshare(plan->network);
    }
    if (status == NIN_OK)
        sum_up(out, plan, &run);
    nin__plan_leave(plan);
    return status;
}

nin_status nin_plan_step(nin_result *out, nin_plan *plan, nin_optimizer *optimizer,
                         const nin_batch_desc *batch, const int32_t *labels)
{
    struct nin__run run;
    nin_result result;

    NIN__NEED(plan);
    NIN__NEED(optimizer);
    NIN__NEED(labels);
    if (out != NULL)
        NIN__TRY(NIN__INFO_CHECK(out, nin_result));
    NIN__TRY(read_batch(&run, plan, batch));
    run.labels = labels;
    NIN__TRY(nin__plan_step(&result, plan, optimizer, &run));
    return out == NULL ? NIN_OK : NIN__INFO_WRITE(out, &result, nin_result);
}

nin_status nin_plan_evaluate(nin_result *out, nin_plan *plan, const nin_batch_desc *batch,
                             const int32_t *labels)
{
    struct nin__run run;
    nin_result result;

    NIN__NEED(plan);
    NIN__NEED(labels);
    if (out != NULL)
        NIN__TRY(NIN__INFO_CHECK(out, nin_result));
    NIN__TRY(read_batch(&run, plan, batch));
    run.labels = labels;
    NIN__TRY(nin__plan_evaluate(&result, plan, &run));
    return out == NULL ? NIN_OK : NIN__INFO_WRITE(out, &result, nin_result);
}
