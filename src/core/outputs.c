/* SPDX-License-Identifier: MIT */
/* What can be read from a plan after a run: scores, log-probabilities, classes, kept outputs, and
 * how large they are. */
#include "core/plan.h"

#include "core/error.h"
#include "core/math.h"

#include <string.h>

/* `values` must be what so many images of a run have. */
static nin_status check_values(int32_t images, size_t an_image, size_t values)
{
    if (images == 0)
        return nin__fail(NIN_INVALID_STATE, "the plan has not run yet");
    if (values != an_image * (size_t)images)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "the last run has %zu values (%d images of %zu), not %zu",
                         an_image * (size_t)images, images, an_image, values);
    return NIN_OK;
}

/* Fetches the whole-batch output of an op; values must be exact. Entered by the caller. */
static nin_status fetch(const nin_plan *plan, int32_t op, float *target, size_t values)
{
    NIN__TRY(check_values(plan->images, nin__shape_size(plan->program->ops[op].out), values));
    return plan->network->context->backend->fetch(plan->executable, op, plan->images, target);
}

nin_status nin_plan_scores(const nin_plan *plan, float *target, size_t values)
{
    nin_status status;

    NIN__NEED(plan);
    NIN__NEED(target);
    NIN__TRY(nin__plan_enter(plan));
    status = fetch(plan, plan->program->scores, target, values);
    nin__plan_leave(plan);
    return status;
}

/* x - max - log(sum(exp(x - max))), in double. */
static void log_softmax(float *x, size_t classes)
{
    double largest = x[0], sum = 0.0;

    for (size_t c = 1; c < classes; c++)
        if (x[c] > largest)
            largest = x[c];
    for (size_t c = 0; c < classes; c++)
        sum += nin__exp(x[c] - largest);
    for (size_t c = 0; c < classes; c++)
        x[c] = (float)(x[c] - largest - nin__log(sum));
}

static nin_status check_classes(const nin_plan *plan)
{
    if (plan->scores.h != 1 || plan->scores.w != 1)
        return nin__fail(NIN_INVALID_STATE, "the scores are maps of %dx%d, not one number a class",
                         plan->scores.h, plan->scores.w);
    return NIN_OK;
}

nin_status nin_plan_log_probabilities(const nin_plan *plan, float *target, size_t values)
{
    NIN__NEED(plan);
    NIN__TRY(check_classes(plan));
    NIN__TRY(nin_plan_scores(plan, target, values));
    for (size_t n = 0; n < values; n += (size_t)plan->scores.c)
        log_softmax(target + n, (size_t)plan->scores.c);
    return NIN_OK;
}

nin_status nin_plan_classes(const nin_plan *plan, int32_t *target, size_t values)
{
    nin_status status;

    NIN__NEED(plan);
    NIN__NEED(target);
    NIN__TRY(check_classes(plan));
    NIN__TRY(nin__plan_enter(plan));
    status = check_values(plan->images, 1, values);
    if (status == NIN_OK)
        status =
            fetch(plan, plan->program->scores, plan->score_copy, values * (size_t)plan->scores.c);
    for (size_t n = 0; status == NIN_OK && n < values; n++)
        target[n] =
            nin__first_largest(plan->score_copy + n * (size_t)plan->scores.c, plan->scores.c);
    nin__plan_leave(plan);
    return status;
}

static nin_status find_layer(const nin_layer **out, const nin_plan *plan, const char *name)
{
    const nin_layer *layer = nin_network_find(plan->network, name);

    if (layer == NULL)
        return nin__fail(NIN_INVALID_ARGUMENT, "there is no layer '%.80s'", name);
    *out = layer;
    return NIN_OK;
}

/* A layer that is fused into an op changes no shape, so that op's is the layer's too. */
nin_status nin_plan_shape(int64_t shape[3], const nin_plan *plan, const char *name)
{
    struct nin__shape out;
    const nin_layer *layer = NULL;

    NIN__NEED(shape);
    NIN__NEED(plan);
    out = plan->scores;
    if (name != NULL) {
        NIN__TRY(find_layer(&layer, plan, name));
        out = plan->program->ops[nin__program_find(plan->program, layer->index)].out;
    }
    shape[0] = out.c;
    shape[1] = out.h;
    shape[2] = out.w;
    return NIN_OK;
}

static nin_status find_kept(const nin_plan *plan, const char *name, int32_t *op)
{
    const nin_layer *layer = NULL;

    NIN__TRY(find_layer(&layer, plan, name));
    *op = nin__program_find(plan->program, layer->index);
    if (!plan->program->kept[layer->index])
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "the output of '%s' is not kept: name it in the plan's descriptor", name);
    return NIN_OK;
}

nin_status nin_plan_kept(const nin_plan *plan, const char *layer, float *target, size_t values)
{
    nin_status status;
    int32_t op = 0;

    NIN__NEED(plan);
    NIN__NEED(layer);
    NIN__NEED(target);
    NIN__TRY(find_kept(plan, layer, &op));
    NIN__TRY(nin__plan_enter(plan));
    status = fetch(plan, op, target, values);
    nin__plan_leave(plan);
    return status;
}

static nin_status fetch_input_gradient(const nin_plan *plan, float *target, size_t values)
{
    if (!plan->has_gradient)
        return nin__fail(NIN_INVALID_STATE, "no backward has run yet");
    NIN__TRY(check_values(plan->gradient_images, nin__shape_size(plan->input), values));
    return plan->network->context->backend->fetch_input_gradient(plan->executable,
                                                                 plan->gradient_images, target);
}

nin_status nin_plan_input_gradient(const nin_plan *plan, float *target, size_t values)
{
    nin_status status;

    NIN__NEED(plan);
    NIN__NEED(target);
    if (!plan->program->input_gradient)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "the input's gradient is not kept: set input_gradient in the plan's "
                         "descriptor");
    NIN__TRY(nin__plan_enter(plan));
    status = fetch_input_gradient(plan, target, values);
    nin__plan_leave(plan);
    return status;
}
