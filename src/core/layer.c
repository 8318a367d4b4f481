/* SPDX-License-Identifier: MIT */
#include "layers/layer.h"

#include "core/descriptor.h"
#include "core/error.h"
#include "core/network.h"

const char *nin_layer_name(const nin_layer *layer)
{
    return layer->name;
}

nin_layer_kind nin_layer_get_kind(const nin_layer *layer)
{
    return layer->class->kind;
}

static void write_shape(int64_t target[3], struct nin__shape shape)
{
    target[0] = shape.c;
    target[1] = shape.h;
    target[2] = shape.w;
}

nin_status nin_layer_describe(nin_layer_info *out, const nin_layer *layer)
{
    nin_layer_info info = {.struct_size = sizeof info};

    NIN__NEED(layer);
    info.name = layer->name;
    info.kind = layer->class->kind;
    write_shape(info.input, layer->in);
    write_shape(info.output, layer->out);
    if (layer->class->weight_shape != NULL)
        layer->class->weight_shape(layer, info.weight_shape);
    info.weight_count = (int64_t)layer->weight_count;
    info.bias_count = (int64_t)layer->bias_count;
    return NIN__INFO_WRITE(out, &info, nin_layer_info);
}

nin_status nin__layer_span(const struct nin_layer *layer, nin_parameter which, size_t *first,
                           size_t *count)
{
    if (which != NIN_WEIGHT && which != NIN_BIAS)
        return nin__fail(NIN_INVALID_ARGUMENT, "%s '%s': %d is no nin_parameter",
                         layer->class->name, layer->name, (int)which);
    *first = which == NIN_WEIGHT ? layer->weight : layer->bias;
    *count = which == NIN_WEIGHT ? layer->weight_count : layer->bias_count;
    if (*count == 0)
        return nin__fail(NIN_INVALID_ARGUMENT, "%s '%s' has no %s", layer->class->name, layer->name,
                         which == NIN_WEIGHT ? "weights" : "biases");
    return NIN_OK;
}

static nin_status checked_span(const struct nin_layer *layer, nin_parameter which, size_t given,
                               size_t *first)
{
    size_t count = 0;

    NIN__TRY(nin__layer_span(layer, which, first, &count));
    if (given != count)
        return nin__fail(NIN_INVALID_ARGUMENT, "%s '%s' has %zu %s, not %zu", layer->class->name,
                         layer->name, count, which == NIN_WEIGHT ? "weights" : "biases", given);
    return NIN_OK;
}

nin_status nin_layer_read(const nin_layer *layer, nin_parameter which, float *target, size_t count)
{
    const nin_context *context;
    nin_status status;
    size_t first = 0;

    NIN__NEED(layer);
    NIN__NEED(target);
    NIN__TRY(checked_span(layer, which, count, &first));
    NIN__TRY(nin__network_share(layer->network));
    context = layer->network->context;
    status = context->backend->download(context->device, target, layer->network->parameters + first,
                                        count * sizeof *target);
    nin__network_unshare(layer->network);
    return status;
}

nin_status nin_layer_write(nin_layer *layer, nin_parameter which, const float *source, size_t count)
{
    const nin_context *context;
    nin_status status;
    size_t first = 0;

    NIN__NEED(layer);
    NIN__NEED(source);
    NIN__TRY(checked_span(layer, which, count, &first));
    NIN__TRY(nin__network_hold(layer->network));
    context = layer->network->context;
    status = context->backend->upload(context->device, layer->network->parameters + first, source,
                                      count * sizeof *source);
    if (status == NIN_OK)
        nin__network_changed(layer->network);
    nin__network_unhold(layer->network);
    return status;
}
