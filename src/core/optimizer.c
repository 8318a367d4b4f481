/* SPDX-License-Identifier: MIT */
#include "core/optimizer.h"

#include "core/descriptor.h"
#include "core/error.h"
#include "core/plan.h"
#include "core/tensor.h"

#include <math.h>
#include <stdlib.h>

bool nin__is_rate(double value)
{
    return value >= 0.0 && isfinite((float)value);
}

const char *nin__not_a_rate(double value)
{
    return value < 0.0 ? "negative" : "no finite float";
}

static nin_status read_desc(nin_sgd_desc *desc, const nin_sgd_desc *source)
{
    NIN__TRY(NIN__DESC_READ(desc, source, nin_sgd_desc));
    if (desc->rate == 0.0)
        desc->rate = 0.01;
    if (!nin__is_rate(desc->rate))
        return nin__fail(NIN_INVALID_ARGUMENT, "sgd: rate %g is %s", desc->rate,
                         nin__not_a_rate(desc->rate));
    if (!(desc->momentum >= 0.0 && desc->momentum < 1.0))
        return nin__fail(NIN_INVALID_ARGUMENT, "sgd: momentum %g is outside 0 <= momentum < 1",
                         desc->momentum);
    if (!nin__is_rate(desc->weight_decay))
        return nin__fail(NIN_INVALID_ARGUMENT, "sgd: weight_decay %g is %s", desc->weight_decay,
                         nin__not_a_rate(desc->weight_decay));
    if (desc->nesterov != 0 && (desc->nesterov != 1 || desc->momentum == 0.0))
        return nin__fail(NIN_INVALID_ARGUMENT, "sgd: nesterov %d; 0, or 1 with a momentum",
                         desc->nesterov);
    return NIN_OK;
}

static nin_status allocate(nin_optimizer *optimizer)
{
    nin_network *network = optimizer->network;
    size_t layers = (size_t)network->layer_count;
    void *momentum;

    optimizer->layers = calloc(layers, sizeof *optimizer->layers);
    optimizer->spans = calloc(2 * layers, sizeof *optimizer->spans);
    if (optimizer->layers == NULL || optimizer->spans == NULL)
        return nin__no_memory("an optimizer");
    NIN__TRY(nin__context_allocate(&momentum, network->context,
                                   network->parameter_count * sizeof *optimizer->momentum,
                                   "an optimizer's momentum"));
    optimizer->momentum = momentum;
    for (size_t i = 0; i < layers; i++)
        optimizer->layers[i] = (struct nin__multipliers){{1.0, 1.0}, {1.0, 1.0}};
    return nin__views_create(&optimizer->views, network, optimizer->momentum);
}

nin_status nin_optimizer_create_sgd(nin_optimizer **out, nin_network *network,
                                    const nin_sgd_desc *source)
{
    nin_optimizer *optimizer;
    nin_sgd_desc desc;
    nin_status status;

    NIN__NEED(out);
    NIN__NEED(network);
    NIN__TRY(read_desc(&desc, source));
    optimizer = calloc(1, sizeof *optimizer);
    if (optimizer == NULL)
        return nin__no_memory("an optimizer");
    optimizer->network = nin__network_retain(network);
    optimizer->desc = desc;
    optimizer->rate = desc.rate;
    status = allocate(optimizer);
    if (status != NIN_OK) {
        nin_optimizer_destroy(optimizer);
        return status;
    }
    *out = optimizer;
    return NIN_OK;
}

void nin_optimizer_destroy(nin_optimizer *optimizer)
{
    const nin_context *context;

    if (optimizer == NULL)
        return;
    context = optimizer->network->context;
    nin__context_release(context, optimizer->momentum);
    nin__views_destroy(optimizer->views);
    nin_network_destroy(optimizer->network);
    free(optimizer->layers);
    free(optimizer->spans);
    free(optimizer);
}

double nin_optimizer_rate(const nin_optimizer *optimizer)
{
    return optimizer->rate;
}

nin_status nin_optimizer_set_rate(nin_optimizer *optimizer, double rate)
{
    NIN__NEED(optimizer);
    if (!nin__is_rate(rate))
        return nin__fail(NIN_INVALID_ARGUMENT, "optimizer: rate %g is %s", rate,
                         nin__not_a_rate(rate));
    optimizer->rate = rate;
    return NIN_OK;
}

nin_status nin_optimizer_set_multipliers(nin_optimizer *optimizer, const nin_layer *layer,
                                         nin_parameter which, double rate, double decay)
{
    size_t first, count;

    NIN__NEED(optimizer);
    NIN__NEED(layer);
    if (layer->network != optimizer->network)
        return nin__fail(NIN_INVALID_ARGUMENT, "layer '%s' belongs to another network",
                         layer->name);
    NIN__TRY(nin__layer_span(layer, which, &first, &count));
    if (!nin__is_rate(rate) || !nin__is_rate(decay))
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "layer '%s': multipliers %g and %g; finite and not negative", layer->name,
                         rate, decay);
    optimizer->layers[layer->index].rate[which] = rate;
    optimizer->layers[layer->index].decay[which] = decay;
    return NIN_OK;
}

nin_status nin_optimizer_momentum(nin_tensor **out, nin_optimizer *optimizer,
                                  const nin_layer *layer, nin_parameter which)
{
    NIN__NEED(out);
    NIN__NEED(optimizer);
    return nin__views_find(out, optimizer->views, layer, which);
}

/* ---- update ------------------------------------------------------------------------------- */

static void add_span(nin_optimizer *optimizer, int32_t *count, const struct nin_layer *layer,
                     nin_parameter which)
{
    const struct nin__multipliers *multipliers = &optimizer->layers[layer->index];
    struct nin__update_span *span = &optimizer->spans[*count];

    span->first = which == NIN_WEIGHT ? layer->weight : layer->bias;
    span->count = which == NIN_WEIGHT ? layer->weight_count : layer->bias_count;
    span->rate = (float)(optimizer->rate * multipliers->rate[which]);
    span->decay = (float)(optimizer->desc.weight_decay * multipliers->decay[which]);
    if (span->count > 0)
        ++*count;
}

static const char *owner_name(const nin_network *network, size_t element)
{
    for (int32_t i = 0; i < network->layer_count; i++) {
        const struct nin_layer *layer = &network->layers[i];

        if (element < layer->bias + layer->bias_count)
            return layer->name;
    }
    return "";
}

nin_status nin__optimizer_judge(const nin_optimizer *optimizer, const nin_plan *plan, size_t bad)
{
    const nin_network *network = optimizer->network;

    if (bad < network->parameter_count)
        return nin__fail(NIN_NOT_FINITE, "step %lld: the gradient of layer '%s' is not finite",
                         (long long)plan->run.step, owner_name(network, bad));
    return NIN_OK;
}

nin_status nin__optimizer_describe(struct nin__update *out, nin_optimizer *optimizer,
                                   const nin_plan *plan)
{
    nin_network *network = optimizer->network;
    struct nin__update update = {
        .parameters = network->parameters,
        .momentum = optimizer->momentum,
        .gradient = plan->gradient,
        .spans = optimizer->spans,
        .momentum_factor = (float)optimizer->desc.momentum,
        .nesterov = optimizer->desc.nesterov != 0,
    };

    for (int32_t i = 0; i < network->layer_count; i++) {
        add_span(optimizer, &update.span_count, &network->layers[i], NIN_WEIGHT);
        add_span(optimizer, &update.span_count, &network->layers[i], NIN_BIAS);
    }
    for (int32_t i = 0; i < update.span_count; i++)
        if (!isfinite(update.spans[i].rate) || !isfinite(update.spans[i].decay))
            return nin__fail(NIN_INVALID_ARGUMENT,
                             "layer '%s': rate or decay times its multiplier is no finite float",
                             owner_name(network, update.spans[i].first));
    *out = update;
    return NIN_OK;
}

nin_status nin__optimizer_apply(nin_optimizer *optimizer, nin_plan *plan)
{
    nin_network *network = optimizer->network;
    const struct nin__backend *backend = network->context->backend;
    struct nin__update update;
    size_t bad;

    NIN__TRY(
        backend->check_finite(plan->executable, plan->gradient, network->parameter_count, &bad));
    NIN__TRY(nin__optimizer_judge(optimizer, plan, bad));
    NIN__TRY(nin__optimizer_describe(&update, optimizer, plan));
    NIN__TRY(backend->update(plan->executable, &update));
    nin__network_changed(network);
    return NIN_OK;
}

nin_status nin_optimizer_update(nin_optimizer *optimizer, nin_plan *plan)
{
    nin_status status;

    NIN__NEED(optimizer);
    NIN__NEED(plan);
    if (optimizer->network != plan->network)
        return nin__fail(NIN_INVALID_ARGUMENT, "update: plan and optimizer are of two networks");
    NIN__TRY(nin__plan_enter(plan));
    if (!plan->has_gradient)
        status = nin__fail(NIN_INVALID_STATE, "update: the plan has no gradient");
    else
        status = nin__network_hold(plan->network);
    if (status == NIN_OK) {
        status = nin__optimizer_apply(optimizer, plan);
        nin__network_unhold(plan->network);
    }
    nin__plan_leave(plan);
    return status;
}
