/* SPDX-License-Identifier: MIT */
#include <nin/builder.h>

#include "core/descriptor.h"
#include "core/error.h"
#include "core/network.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Far above any real network, and low enough that sizes multiplied together stay within 64 bits and
 * elements of one image within 31. */
enum {
    MAX_SIZE = 1 << 20,
    MAX_LAYERS = 10000
};
static const int64_t MAX_ELEMENTS = (int64_t)1 << 31;

struct nin_builder {
    nin_context *context;
    nin_input_desc input;
    struct nin_layer *layers;
    int32_t count, room;
    nin_status status; /* of the first failure, with its sentence */
    char sentence[512];
};

static nin_status check_input(const nin_input_desc *input)
{
    const int32_t sizes[3] = {input->channels, input->height, input->width};
    static const char *const names[3] = {"channels", "height", "width"};

    for (int i = 0; i < 3; i++)
        if (sizes[i] < 1 || sizes[i] > MAX_SIZE)
            return nin__fail(NIN_INVALID_ARGUMENT, "input: %s %d is outside 1 to %d", names[i],
                             sizes[i], MAX_SIZE);
    if ((int64_t)sizes[0] * sizes[1] * sizes[2] >= MAX_ELEMENTS)
        return nin__fail(NIN_INVALID_ARGUMENT, "input: %dx%dx%d has 2^31 elements or more",
                         sizes[0], sizes[1], sizes[2]);
    if (!isfinite((float)input->scale) || !isfinite((float)input->shift))
        return nin__fail(NIN_INVALID_ARGUMENT, "input: scale %g or shift %g is no finite float",
                         input->scale, input->shift);
    return NIN_OK;
}

nin_status nin_builder_create(nin_builder **out, nin_context *context, const nin_input_desc *input)
{
    nin_input_desc desc;
    nin_builder *builder;

    NIN__NEED(out);
    NIN__NEED(context);
    NIN__NEED(input);
    NIN__TRY(NIN__DESC_READ(&desc, input, nin_input_desc));
    if (desc.scale == 0.0)
        desc.scale = 1.0 / 255.0;
    NIN__TRY(check_input(&desc));
    builder = calloc(1, sizeof *builder);
    if (builder == NULL)
        return nin__no_memory("a builder");
    builder->context = nin__context_retain(context);
    builder->input = desc;
    *out = builder;
    return NIN_OK;
}

void nin_builder_destroy(nin_builder *builder)
{
    if (builder == NULL)
        return;
    nin_context_destroy(builder->context);
    free(builder->layers);
    free(builder);
}

/* Keeps the first failure; later calls give it back with its sentence. */
static nin_status keep(nin_builder *builder, nin_status status)
{
    if (status == NIN_OK)
        return NIN_OK;
    if (builder->status == NIN_OK) {
        builder->status = status;
        snprintf(builder->sentence, sizeof builder->sentence, "%s", nin_last_error());
    }
    return nin__fail(builder->status, "%s", builder->sentence);
}

static nin_status check_name(const nin_builder *builder, const char *name)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t length;

    if (name == NULL)
        return nin__fail(NIN_INVALID_ARGUMENT, "layer %d: the name is NULL", builder->count);
    length = strlen(name);
    if (length == 0 || length >= NIN__NAME_SIZE || strspn(name, allowed) != length)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "layer %d: the name '%.80s' is not 1 to %d characters of [A-Za-z0-9._-]",
                         builder->count, name, NIN__NAME_SIZE - 1);
    for (int32_t i = 0; i < builder->count; i++)
        if (strcmp(builder->layers[i].name, name) == 0)
            return nin__fail(NIN_INVALID_ARGUMENT, "layer %d: the name '%s' is taken",
                             builder->count, name);
    return NIN_OK;
}

static struct nin__shape last_shape(const nin_builder *builder)
{
    if (builder->count == 0)
        return (struct nin__shape){builder->input.channels, builder->input.height,
                                   builder->input.width};
    return builder->layers[builder->count - 1].out;
}

static nin_status reserve(nin_builder *builder)
{
    int32_t room = builder->room == 0 ? 32 : 2 * builder->room;
    struct nin_layer *layers;

    if (builder->count >= MAX_LAYERS)
        return nin__fail(NIN_INVALID_ARGUMENT, "a network has at most %d layers", MAX_LAYERS);
    if (builder->count < builder->room)
        return NIN_OK;
    layers = realloc(builder->layers, (size_t)room * sizeof *layers);
    if (layers == NULL)
        return nin__no_memory("a layer");
    builder->layers = layers;
    builder->room = room;
    return NIN_OK;
}

static nin_status measure(struct nin_layer *layer, struct nin__shape in)
{
    int64_t oihw[4];

    NIN__TRY(layer->class->shape(layer, in, &layer->out));
    layer->in = in;
    if ((int64_t)layer->out.c * layer->out.h * layer->out.w >= MAX_ELEMENTS)
        return nin__fail(NIN_INVALID_ARGUMENT, "%s '%s': its output has 2^31 elements or more",
                         layer->class->name, layer->name);
    if (layer->class->weight_shape == NULL)
        return NIN_OK;
    layer->class->weight_shape(layer, oihw);
    /* Each product stays below 2^51 before the next check, so nothing overflows. */
    if (oihw[0] * oihw[1] >= MAX_ELEMENTS || oihw[0] * oihw[1] * oihw[2] >= MAX_ELEMENTS ||
        oihw[0] * oihw[1] * oihw[2] * oihw[3] >= MAX_ELEMENTS)
        return nin__fail(NIN_INVALID_ARGUMENT, "%s '%s': it has 2^31 weights or more",
                         layer->class->name, layer->name);
    layer->weight_count = (size_t)(oihw[0] * oihw[1] * oihw[2] * oihw[3]);
    layer->bias_count = layer->no_bias ? 0 : (size_t)layer->filters;
    return NIN_OK;
}

/* Adds a layer whose own numbers have been checked. */
static nin_status append(nin_builder *builder, const char *name, const struct nin_layer *described)
{
    struct nin_layer layer = *described;

    NIN__TRY(check_name(builder, name));
    NIN__TRY(reserve(builder));
    if (builder->count > 0 && builder->layers[builder->count - 1].class == &nin__softmax_loss_class)
        return nin__fail(NIN_INVALID_ARGUMENT, "%s '%s': nothing may follow the loss '%s'",
                         layer.class->name, name, builder->layers[builder->count - 1].name);
    memcpy(layer.name, name, strlen(name) + 1);
    NIN__TRY(measure(&layer, last_shape(builder)));
    layer.index = builder->count;
    builder->layers[builder->count++] = layer;
    return NIN_OK;
}

/* Initial values are floats: a spread beyond this would make infinite ones. */
static const double MAX_SCALE = 1e30;

static nin_status check_scale(const char *owner, const char *what, nin_init init, double scale)
{
    bool scaled = init == NIN_INIT_NORMAL || init == NIN_INIT_UNIFORM;

    if ((int)init < NIN_INIT_DEFAULT || init > NIN_INIT_ZERO)
        return nin__fail(NIN_INVALID_ARGUMENT, "%s: initial %s: %d is no nin_init", owner, what,
                         (int)init);
    if (scaled ? !(scale > 0.0 && scale <= MAX_SCALE) : scale != 0.0)
        return nin__fail(NIN_INVALID_ARGUMENT, "%s: initial %s: scale %g, but it must be %s", owner,
                         what, scale,
                         scaled ? "positive, and 1e30 at most" : "0 for this way of drawing");
    return NIN_OK;
}

nin_status nin__init_read(nin_init_desc *target, const nin_init_desc *source, const char *owner)
{
    NIN__TRY(NIN__DESC_READ(target, source, nin_init_desc));
    NIN__TRY(check_scale(owner, "weights", target->weights, target->weight_scale));
    NIN__TRY(check_scale(owner, "biases", target->biases, target->bias_scale));
    if (target->weights == NIN_INIT_DEFAULT)
        target->weights = NIN_INIT_HE;
    if (target->biases == NIN_INIT_DEFAULT)
        target->biases = NIN_INIT_ZERO;
    return NIN_OK;
}

/* How a layer that is about to be called `name` is spoken of: "conv2d 'name'". */
struct owner {
    char text[2 * NIN__NAME_SIZE];
};

static struct owner owner_of(const struct nin_layer *layer, const char *name)
{
    struct owner owner;

    snprintf(owner.text, sizeof owner.text, "%s '%.63s'", layer->class->name,
             name == NULL ? "" : name);
    return owner;
}

static nin_status check_desc(const struct nin_layer *layer, const char *name, const void *desc)
{
    if (desc == NULL)
        return nin__fail(NIN_INVALID_ARGUMENT, "%s: the descriptor is NULL",
                         owner_of(layer, name).text);
    return NIN_OK;
}

/* `value` of a layer that is about to be called `name` must lie in low to high. */
static nin_status check_range(const struct nin_layer *layer, const char *name, const char *field,
                              int64_t value, int64_t low, int64_t high)
{
    if (value < low || value > high)
        return nin__fail(NIN_INVALID_ARGUMENT, "%s: %s %lld is outside %lld to %lld",
                         owner_of(layer, name).text, field, (long long)value, (long long)low,
                         (long long)high);
    return NIN_OK;
}

static nin_status add_conv2d(nin_builder *builder, const char *name, const nin_conv2d_desc *source)
{
    nin_conv2d_desc desc;
    struct nin_layer layer = {.class = &nin__conv2d_class};

    NIN__TRY(check_desc(&layer, name, source));
    NIN__TRY(NIN__DESC_READ(&desc, source, nin_conv2d_desc));
    layer.filters = desc.filters;
    layer.kernel = desc.kernel == 0 ? 1 : desc.kernel;
    layer.stride = desc.stride == 0 ? 1 : desc.stride;
    layer.pad = desc.pad;
    layer.no_bias = desc.no_bias;
    NIN__TRY(check_range(&layer, name, "filters", layer.filters, 1, MAX_SIZE));
    NIN__TRY(check_range(&layer, name, "kernel", layer.kernel, 1, MAX_SIZE));
    NIN__TRY(check_range(&layer, name, "stride", layer.stride, 1, MAX_SIZE));
    NIN__TRY(check_range(&layer, name, "pad", layer.pad, 0, layer.kernel - 1));
    NIN__TRY(check_range(&layer, name, "no_bias", layer.no_bias, 0, 1));
    NIN__TRY(nin__init_read(&layer.init, desc.init, owner_of(&layer, name).text));
    return append(builder, name, &layer);
}

static nin_status add_pool(nin_builder *builder, const char *name, const nin_pool_desc *source,
                           const struct nin__layer_class *class)
{
    nin_pool_desc desc;
    struct nin_layer layer = {.class = class};

    NIN__TRY(check_desc(&layer, name, source));
    NIN__TRY(NIN__DESC_READ(&desc, source, nin_pool_desc));
    layer.kernel = desc.kernel;
    layer.stride = desc.stride == 0 ? desc.kernel : desc.stride;
    layer.pad = desc.pad;
    layer.round_up = desc.round_up;
    layer.exclude_padding = desc.exclude_padding;
    /* 255 * 255 elements of a window can be numbered in 16 bits */
    NIN__TRY(check_range(&layer, name, "kernel", layer.kernel, 1, 255));
    NIN__TRY(check_range(&layer, name, "stride", layer.stride, 1, MAX_SIZE));
    NIN__TRY(check_range(&layer, name, "pad", layer.pad, 0, layer.kernel / 2));
    NIN__TRY(check_range(&layer, name, "round_up", layer.round_up, 0, 1));
    NIN__TRY(check_range(&layer, name, "reserved", desc.reserved, 0, 0));
    NIN__TRY(check_range(&layer, name, "exclude_padding", layer.exclude_padding, 0,
                         class == &nin__average_pool_class));
    return append(builder, name, &layer);
}

static nin_status add_dense(nin_builder *builder, const char *name, const nin_dense_desc *source)
{
    nin_dense_desc desc;
    struct nin_layer layer = {.class = &nin__dense_class};

    NIN__TRY(check_desc(&layer, name, source));
    NIN__TRY(NIN__DESC_READ(&desc, source, nin_dense_desc));
    layer.filters = desc.units;
    layer.no_bias = desc.no_bias;
    NIN__TRY(check_range(&layer, name, "units", layer.filters, 1, MAX_SIZE));
    NIN__TRY(check_range(&layer, name, "no_bias", layer.no_bias, 0, 1));
    NIN__TRY(nin__init_read(&layer.init, desc.init, owner_of(&layer, name).text));
    return append(builder, name, &layer);
}

static nin_status add_dropout(nin_builder *builder, const char *name, double drop)
{
    struct nin_layer layer = {.class = &nin__dropout_class, .drop = drop};

    if (!(drop >= 0.0 && drop < 1.0))
        return nin__fail(NIN_INVALID_ARGUMENT, "dropout '%.63s': drop %g is outside 0 <= drop < 1",
                         name == NULL ? "" : name, drop);
    return append(builder, name, &layer);
}

/* Name of the i-th convolution of an mlpconv: its own, or BLOCK.conv, BLOCK.cccp1, ... */
static nin_status conv_name(char target[NIN__NAME_SIZE], const char *block,
                            const nin_mlpconv_desc *desc, int32_t i)
{
    int length;

    if (desc->names != NULL && desc->names[i] == NULL)
        return nin__fail(NIN_INVALID_ARGUMENT, "mlpconv '%.63s': names[%d] is NULL", block, i);
    if (desc->names != NULL)
        length = snprintf(target, NIN__NAME_SIZE, "%s", desc->names[i]);
    else if (i == 0)
        length = snprintf(target, NIN__NAME_SIZE, "%s.conv", block);
    else
        length = snprintf(target, NIN__NAME_SIZE, "%s.cccp%d", block, i);
    if (length >= NIN__NAME_SIZE)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "mlpconv '%.63s': the name of its layer %d is longer "
                         "than %d characters",
                         block, i, NIN__NAME_SIZE - 1);
    return NIN_OK;
}

static nin_status add_mlpconv_layer(nin_builder *builder, const char *block,
                                    const nin_mlpconv_desc *desc, int32_t i)
{
    const struct nin_layer relu = {.class = &nin__relu_class};
    nin_conv2d_desc conv = {
        .struct_size = sizeof conv, .filters = desc->widths[i], .init = desc->init};
    char name[NIN__NAME_SIZE], relu_name[NIN__NAME_SIZE + 8];

    if (i == 0) {
        conv.kernel = desc->kernel;
        conv.stride = desc->stride;
        conv.pad = desc->pad;
    }
    NIN__TRY(conv_name(name, block, desc, i));
    NIN__TRY(add_conv2d(builder, name, &conv));
    if (i == desc->count - 1 && desc->no_last_relu)
        return NIN_OK;
    snprintf(relu_name, sizeof relu_name, "%s.relu", name);
    return append(builder, relu_name, &relu);
}

static nin_status add_mlpconv(nin_builder *builder, const char *name,
                              const nin_mlpconv_desc *source)
{
    nin_mlpconv_desc desc;

    NIN__TRY(check_name(builder, name));
    if (source == NULL)
        return nin__fail(NIN_INVALID_ARGUMENT, "mlpconv '%s': the descriptor is NULL", name);
    NIN__TRY(NIN__DESC_READ(&desc, source, nin_mlpconv_desc));
    if (desc.no_last_relu != 0 && desc.no_last_relu != 1)
        return nin__fail(NIN_INVALID_ARGUMENT, "mlpconv '%s': no_last_relu %d; 0 or 1", name,
                         desc.no_last_relu);
    if (desc.widths == NULL)
        return nin__fail(NIN_INVALID_ARGUMENT, "mlpconv '%s': widths is NULL", name);
    if (desc.count < 1 || desc.count > MAX_LAYERS / 2)
        return nin__fail(NIN_INVALID_ARGUMENT, "mlpconv '%s': needs 1 to %d widths, gets %d", name,
                         MAX_LAYERS / 2, desc.count);
    for (int32_t i = 0; i < desc.count; i++)
        NIN__TRY(add_mlpconv_layer(builder, name, &desc, i));
    return NIN_OK;
}

/* The public calls: a builder that has failed says so again, any failure is kept. */

nin_status nin_builder_conv2d(nin_builder *builder, const char *name, const nin_conv2d_desc *desc)
{
    NIN__NEED(builder);
    return keep(builder, builder->status ? builder->status : add_conv2d(builder, name, desc));
}

nin_status nin_builder_mlpconv(nin_builder *builder, const char *name, const nin_mlpconv_desc *desc)
{
    NIN__NEED(builder);
    return keep(builder, builder->status ? builder->status : add_mlpconv(builder, name, desc));
}

nin_status nin_builder_relu(nin_builder *builder, const char *name)
{
    const struct nin_layer layer = {.class = &nin__relu_class};

    NIN__NEED(builder);
    return keep(builder, builder->status ? builder->status : append(builder, name, &layer));
}

nin_status nin_builder_max_pool(nin_builder *builder, const char *name, const nin_pool_desc *desc)
{
    NIN__NEED(builder);
    return keep(builder, builder->status ? builder->status
                                         : add_pool(builder, name, desc, &nin__max_pool_class));
}

nin_status nin_builder_average_pool(nin_builder *builder, const char *name,
                                    const nin_pool_desc *desc)
{
    NIN__NEED(builder);
    return keep(builder, builder->status ? builder->status
                                         : add_pool(builder, name, desc, &nin__average_pool_class));
}

nin_status nin_builder_global_average_pool(nin_builder *builder, const char *name)
{
    const struct nin_layer layer = {.class = &nin__global_average_pool_class};

    NIN__NEED(builder);
    return keep(builder, builder->status ? builder->status : append(builder, name, &layer));
}

nin_status nin_builder_dropout(nin_builder *builder, const char *name, double drop)
{
    NIN__NEED(builder);
    return keep(builder, builder->status ? builder->status : add_dropout(builder, name, drop));
}

nin_status nin_builder_dense(nin_builder *builder, const char *name, const nin_dense_desc *desc)
{
    NIN__NEED(builder);
    return keep(builder, builder->status ? builder->status : add_dense(builder, name, desc));
}

nin_status nin_builder_softmax_loss(nin_builder *builder, const char *name)
{
    const struct nin_layer layer = {.class = &nin__softmax_loss_class};

    NIN__NEED(builder);
    return keep(builder, builder->status ? builder->status : append(builder, name, &layer));
}

nin_status nin_builder_finish(nin_network **out, nin_builder *builder)
{
    NIN__NEED(out);
    NIN__NEED(builder);
    if (builder->status != NIN_OK)
        return keep(builder, builder->status);
    if (builder->count == 0)
        return nin__fail(NIN_INVALID_STATE, "a network needs at least one layer");
    return nin__network_create(out, builder->context, &builder->input, builder->layers,
                               builder->count);
}
