/* SPDX-License-Identifier: MIT */
#include "core/plan.h"

#include "core/descriptor.h"
#include "core/error.h"
#include "core/tensor.h"

#include <stdlib.h>
#include <string.h>

enum {
    DEFAULT_BATCH = 128,
    MAX_BATCH = 1 << 20,
    MAX_SIDE = 1 << 20,
    DEFAULT_LANES = 16,
    MAX_LANES = 64
};
static const uint64_t DEFAULT_LANE_BYTES = (uint64_t)1 << 30;

static const struct nin__backend *backend_of(const nin_plan *plan)
{
    return plan->network->context->backend;
}

/* ---- life --------------------------------------------------------------------------------- */

static nin_status check_range(const char *field, int64_t value, int64_t low, int64_t high)
{
    if (value < low || value > high)
        return nin__fail(NIN_INVALID_ARGUMENT, "plan: %s %lld is outside %lld to %lld", field,
                         (long long)value, (long long)low, (long long)high);
    return NIN_OK;
}

static void set_default(int32_t *field, int32_t value)
{
    if (*field == 0)
        *field = value;
}

static nin_status check_choices(const nin_plan_desc *desc)
{
    if (desc->mode != NIN_INFER && desc->mode != NIN_TRAIN)
        return nin__fail(NIN_INVALID_ARGUMENT, "plan: %d is no nin_mode", (int)desc->mode);
    if (desc->precision < NIN_FP32 || desc->precision > NIN_TF32)
        return nin__fail(NIN_UNSUPPORTED, "plan: this version has no precision %d",
                         (int)desc->precision);
    if (desc->algorithm < NIN_ALGORITHM_AUTO || desc->algorithm > NIN_ALGORITHM_FFT)
        return nin__fail(NIN_UNSUPPORTED, "plan: this version has no algorithm %d",
                         (int)desc->algorithm);
    if (desc->mode == NIN_INFER && desc->input_gradient != 0)
        return nin__fail(NIN_INVALID_ARGUMENT, "plan: only a training plan has an input gradient");
    return NIN_OK;
}

static nin_status check_keep(const nin_plan_desc *desc, nin_network *network)
{
    NIN__TRY(check_range("keep_count", desc->keep_count, 0, desc->keep == NULL ? 0 : INT32_MAX));
    for (int32_t k = 0; k < desc->keep_count; k++) {
        const nin_layer *layer = nin_network_find(network, desc->keep[k]);

        if (layer == NULL)
            return nin__fail(NIN_INVALID_ARGUMENT, "plan: keep[%d]: there is no layer '%.80s'", k,
                             desc->keep[k] == NULL ? "(NULL)" : desc->keep[k]);
        if (layer->class->kind == NIN_LAYER_SOFTMAX_LOSS)
            return nin__fail(NIN_INVALID_ARGUMENT,
                             "plan: keep[%d]: the loss '%s' has no output to keep; see "
                             "nin_plan_log_probabilities",
                             k, layer->name);
    }
    return NIN_OK;
}

/* Reads the caller's descriptor and replaces zeros by what they mean. */
static nin_status read_desc(nin_plan_desc *desc, nin_network *network, const nin_plan_desc *source)
{
    NIN__TRY(NIN__DESC_READ(desc, source, nin_plan_desc));
    set_default(&desc->max_batch, DEFAULT_BATCH);
    set_default(&desc->height, network->input.height);
    set_default(&desc->width, network->input.width);
    set_default(&desc->lanes, DEFAULT_LANES);
    if (desc->lane_bytes == 0)
        desc->lane_bytes = DEFAULT_LANE_BYTES;
    NIN__TRY(check_choices(desc));
    NIN__TRY(check_range("max_batch", desc->max_batch, 1, MAX_BATCH));
    NIN__TRY(check_range("height", desc->height, 1, MAX_SIDE));
    NIN__TRY(check_range("width", desc->width, 1, MAX_SIDE));
    if ((int64_t)desc->height * desc->width >= INT32_MAX / network->input.channels)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "plan: an input of %dx%dx%d has 2^31 elements or more",
                         network->input.channels, desc->height, desc->width);
    NIN__TRY(check_range("lanes", desc->lanes, 1, MAX_LANES));
    NIN__TRY(check_range("input_gradient", desc->input_gradient, 0, 1));
    return check_keep(desc, network);
}

static nin_status compile(nin_plan *plan, const struct nin__compile_options *hidden)
{
    const struct nin__backend *backend = backend_of(plan);
    struct nin__compile_options options = {0};

    if (hidden != NULL)
        options = *hidden;
    options.max_batch = plan->desc.max_batch;
    options.threads = plan->network->context->threads;
    options.lanes = plan->desc.lanes;
    options.lane_bytes = plan->desc.lane_bytes;
    options.precision = plan->desc.precision;
    options.algorithm = plan->desc.algorithm;
    NIN__TRY(backend->compile(&plan->executable, plan->network->context->device, plan->program,
                              &options));
    return nin__prepared_join(&plan->prepared, plan->network, plan->executable);
}

static nin_status allocate_gradient(nin_plan *plan)
{
    nin_network *network = plan->network;
    void *gradient;

    if (!plan->program->train)
        return NIN_OK;
    NIN__TRY(nin__context_allocate(&gradient, network->context,
                                   network->parameter_count * sizeof *plan->gradient,
                                   "a gradient"));
    plan->gradient = gradient;
    return nin__views_create(&plan->views, network, plan->gradient);
}

static nin_status make(nin_plan *plan, const nin_plan_desc *desc,
                       const struct nin__compile_options *hidden)
{
    NIN__TRY(nin__program_create(&plan->program, plan->network, desc));
    plan->input = plan->program->ops[0].out;
    plan->scores = plan->program->ops[plan->program->scores].out;
    plan->losses = calloc((size_t)desc->max_batch, sizeof *plan->losses);
    plan->marks = calloc((size_t)desc->max_batch, sizeof *plan->marks);
    plan->score_copy =
        calloc(nin__shape_size(plan->scores) * (size_t)desc->max_batch, sizeof *plan->score_copy);
    if (plan->losses == NULL || plan->marks == NULL || plan->score_copy == NULL)
        return nin__fail(NIN_OUT_OF_MEMORY,
                         "no memory for the scores of %d images, %zu floats each", desc->max_batch,
                         nin__shape_size(plan->scores));
    NIN__TRY(compile(plan, hidden));
    return allocate_gradient(plan);
}

nin_status nin__plan_create(nin_plan **out, nin_network *network, const nin_plan_desc *source,
                            const struct nin__compile_options *hidden)
{
    nin_plan_desc desc;
    nin_status status;
    nin_plan *plan;

    NIN__TRY(read_desc(&desc, network, source));
    plan = calloc(1, sizeof *plan);
    if (plan == NULL)
        return nin__no_memory("a plan");
    plan->network = nin__network_retain(network);
    plan->desc = desc;
    plan->desc.keep = NULL; /* the caller's; the program knows what is kept */
    atomic_flag_clear(&plan->busy);
    status = make(plan, &desc, hidden);
    if (status != NIN_OK) {
        nin_plan_destroy(plan);
        return status;
    }
    *out = plan;
    return NIN_OK;
}

nin_status nin_plan_create(nin_plan **out, nin_network *network, const nin_plan_desc *desc)
{
    NIN__NEED(out);
    NIN__NEED(network);
    return nin__plan_create(out, network, desc, NULL);
}

void nin_plan_destroy(nin_plan *plan)
{
    if (plan == NULL)
        return;
    nin__prepared_leave(&plan->prepared, plan->network);
    if (plan->executable != NULL)
        backend_of(plan)->discard(plan->executable);
    nin__context_release(plan->network->context, plan->gradient);
    nin__views_destroy(plan->views);
    nin__program_destroy(plan->program);
    nin_network_destroy(plan->network);
    free(plan->score_copy);
    free(plan->losses);
    free(plan->marks);
    free(plan);
}

void nin__plan_rest(nin_plan *plan)
{
    if (atomic_flag_test_and_set(&plan->busy))
        return;
    backend_of(plan)->rest(plan->executable);
    nin__plan_leave(plan);
}

size_t nin_plan_describe(const nin_plan *plan, char *text, size_t size)
{
    const struct nin__backend *backend = backend_of(plan);
    bool measure = !backend->measured(plan->executable) &&
                   !atomic_flag_test_and_set(&((nin_plan *)plan)->busy);
    size_t length = backend->describe(plan->executable, measure, text, size);

    if (measure)
        nin__plan_leave(plan);
    return length;
}

uint64_t nin_plan_bytes(const nin_plan *plan)
{
    uint64_t gradient = plan->gradient == NULL ? 0 : plan->network->parameter_count * sizeof(float);

    return backend_of(plan)->bytes(plan->executable) + gradient +
           (uint64_t)plan->desc.max_batch *
               (sizeof *plan->losses + sizeof *plan->marks +
                nin__shape_size(plan->scores) * sizeof *plan->score_copy);
}

nin_status nin_plan_gradient(nin_tensor **out, nin_plan *plan, const nin_layer *layer,
                             nin_parameter which)
{
    NIN__NEED(out);
    NIN__NEED(plan);
    if (plan->gradient == NULL)
        return nin__fail(NIN_INVALID_STATE, "an inference plan has no gradient");
    return nin__views_find(out, plan->views, layer, which);
}
