/* SPDX-License-Identifier: MIT */
#include "file/architecture.h"

#include "core/error.h"
#include "file/failure.h"
#include "file/json.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Raised when an older libnin must not read what we write. */
enum {
    FORMAT = 1,
    MAX_LAYERS = 10000
};

/* ---- fields of a layer --------------------------------------------------------------------- */

enum {
    FILTERS = 1 << 0,
    UNITS = 1 << 1,
    KERNEL = 1 << 2,
    STRIDE = 1 << 3,
    PAD = 1 << 4,
    NO_BIAS = 1 << 5,
    ROUND_UP = 1 << 6,
    EXCLUDE_PADDING = 1 << 7,
    DROP = 1 << 8,
    INIT = 1 << 9
};

#define WHERE(member) offsetof(struct nin_layer, member)

/* The lowest values are those that no descriptor replaces by a default. The builder checks the
 * rest. */
static const struct number {
    unsigned field;
    const char *name;
    size_t offset;
    int32_t low;
} numbers[] = {
    {FILTERS, "filters", WHERE(filters), 1},
    {UNITS, "units", WHERE(filters), 1},
    {KERNEL, "kernel", WHERE(kernel), 1},
    {STRIDE, "stride", WHERE(stride), 1},
    {PAD, "pad", WHERE(pad), 0},
};

static const struct flag {
    unsigned field;
    const char *name;
    size_t offset;
} flags[] = {
    {NO_BIAS, "no_bias", WHERE(no_bias)},
    {ROUND_UP, "round_up", WHERE(round_up)},
    {EXCLUDE_PADDING, "exclude_padding", WHERE(exclude_padding)},
};

static const char *const init_names[] = {
    [NIN_INIT_HE] = "he",         [NIN_INIT_NORMAL] = "normal", [NIN_INIT_UNIFORM] = "uniform",
    [NIN_INIT_FAN_IN] = "fan_in", [NIN_INIT_ZERO] = "zero",
};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static int32_t *member(struct nin_layer *layer, size_t offset)
{
    return (int32_t *)(void *)((char *)layer + offset);
}

/* ---- the builder's calls ------------------------------------------------------------------- */

static nin_status add_conv2d(nin_builder *builder, const struct nin_layer *layer)
{
    return nin_builder_conv2d(builder, layer->name,
                              NIN_DESC(nin_conv2d_desc, .filters = layer->filters,
                                       .kernel = layer->kernel, .stride = layer->stride,
                                       .pad = layer->pad, .no_bias = layer->no_bias,
                                       .init = &layer->init));
}

static nin_status add_dense(nin_builder *builder, const struct nin_layer *layer)
{
    return nin_builder_dense(builder, layer->name,
                             NIN_DESC(nin_dense_desc, .units = layer->filters,
                                      .no_bias = layer->no_bias, .init = &layer->init));
}

static nin_pool_desc pool(const struct nin_layer *layer)
{
    return (nin_pool_desc){.struct_size = sizeof(nin_pool_desc),
                           .kernel = layer->kernel,
                           .stride = layer->stride,
                           .pad = layer->pad,
                           .round_up = layer->round_up,
                           .exclude_padding = layer->exclude_padding};
}

static nin_status add_max_pool(nin_builder *builder, const struct nin_layer *layer)
{
    nin_pool_desc desc = pool(layer);

    return nin_builder_max_pool(builder, layer->name, &desc);
}

static nin_status add_average_pool(nin_builder *builder, const struct nin_layer *layer)
{
    nin_pool_desc desc = pool(layer);

    return nin_builder_average_pool(builder, layer->name, &desc);
}

static nin_status add_global_average_pool(nin_builder *builder, const struct nin_layer *layer)
{
    return nin_builder_global_average_pool(builder, layer->name);
}

static nin_status add_relu(nin_builder *builder, const struct nin_layer *layer)
{
    return nin_builder_relu(builder, layer->name);
}

static nin_status add_dropout(nin_builder *builder, const struct nin_layer *layer)
{
    return nin_builder_dropout(builder, layer->name, layer->drop);
}

static nin_status add_softmax_loss(nin_builder *builder, const struct nin_layer *layer)
{
    return nin_builder_softmax_loss(builder, layer->name);
}

static const struct kind {
    const struct nin__layer_class *class;
    nin_status (*add)(nin_builder *builder, const struct nin_layer *layer);
    unsigned fields;
} kinds[] = {
    {&nin__conv2d_class, add_conv2d, FILTERS | KERNEL | STRIDE | PAD | NO_BIAS | INIT},
    {&nin__relu_class, add_relu, 0},
    {&nin__max_pool_class, add_max_pool, KERNEL | STRIDE | PAD | ROUND_UP},
    {&nin__average_pool_class, add_average_pool,
     KERNEL | STRIDE | PAD | ROUND_UP | EXCLUDE_PADDING},
    {&nin__global_average_pool_class, add_global_average_pool, 0},
    {&nin__dropout_class, add_dropout, DROP},
    {&nin__dense_class, add_dense, UNITS | NO_BIAS | INIT},
    {&nin__softmax_loss_class, add_softmax_loss, 0},
};

/* ---- describing ---------------------------------------------------------------------------- */

static const struct kind *kind_of(const struct nin_layer *layer)
{
    const struct kind *kind = kinds;

    while (kind->class != layer->class)
        kind++;
    return kind;
}

static json_t *describe_init(const nin_init_desc *init)
{
    return json_pack("{s:s, s:f, s:s, s:f}", "weights", init_names[init->weights], "weight_scale",
                     init->weight_scale, "biases", init_names[init->biases], "bias_scale",
                     init->bias_scale);
}

static bool describe_fields(json_t *json, struct nin_layer *layer, unsigned fields)
{
    bool good = true;

    for (size_t i = 0; i < COUNT(numbers); i++)
        if (fields & numbers[i].field)
            good &= json_object_set_new(json, numbers[i].name,
                                        json_integer(*member(layer, numbers[i].offset))) == 0;
    for (size_t i = 0; i < COUNT(flags); i++)
        if (fields & flags[i].field)
            good &= json_object_set_new(json, flags[i].name,
                                        json_boolean(*member(layer, flags[i].offset))) == 0;
    if (fields & DROP)
        good &= json_object_set_new(json, "drop", json_real(layer->drop)) == 0;
    if (fields & INIT)
        good &= json_object_set_new(json, "init", describe_init(&layer->init)) == 0;
    return good;
}

static json_t *describe_layer(const struct nin_layer *layer)
{
    json_t *json = json_pack("{s:s, s:s}", "kind", layer->class->name, "name", layer->name);
    struct nin_layer copy = *layer;

    if (json != NULL && !describe_fields(json, &copy, kind_of(layer)->fields)) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static json_t *describe_input(const nin_input_desc *input)
{
    return json_pack("{s:i, s:i, s:i, s:f, s:f}", "channels", input->channels, "height",
                     input->height, "width", input->width, "scale", input->scale, "shift",
                     input->shift);
}

json_t *nin__architecture_describe(const nin_network *network)
{
    json_t *layers = json_array();

    for (int32_t i = 0; i < network->layer_count; i++)
        if (json_array_append_new(layers, describe_layer(&network->layers[i])) != 0) {
            json_decref(layers);
            return NULL;
        }
    return json_pack("{s:i, s:o, s:o}", "format", FORMAT, "input", describe_input(&network->input),
                     "layers", layers);
}

/* ---- reading ------------------------------------------------------------------------------- */

static nin_init read_init_name(struct nin__fields *fields, const char *key)
{
    const char *name = nin__field_string(fields, key);

    for (int i = NIN_INIT_HE; name != NULL && i < (int)COUNT(init_names); i++)
        if (strcmp(name, init_names[i]) == 0)
            return (nin_init)i;
    nin__fields_fail(fields, key, "no known way of drawing");
    return NIN_INIT_DEFAULT;
}

static nin_status read_init(nin_init_desc *init, const json_t *json, const char *what)
{
    struct nin__fields fields = nin__fields_begin(json, what);

    init->struct_size = sizeof *init;
    init->weights = read_init_name(&fields, "weights");
    init->biases = read_init_name(&fields, "biases");
    init->weight_scale = nin__field_real(&fields, "weight_scale");
    init->bias_scale = nin__field_real(&fields, "bias_scale");
    return nin__fields_end(&fields);
}

static nin_status read_fields(struct nin_layer *layer, struct nin__fields *fields, unsigned wanted)
{
    for (size_t i = 0; i < COUNT(numbers); i++)
        if (wanted & numbers[i].field)
            *member(layer, numbers[i].offset) =
                (int32_t)nin__field_integer(fields, numbers[i].name, numbers[i].low, INT32_MAX);
    for (size_t i = 0; i < COUNT(flags); i++)
        if (wanted & flags[i].field)
            *member(layer, flags[i].offset) = nin__field_bool(fields, flags[i].name);
    if (wanted & DROP)
        layer->drop = nin__field_real(fields, "drop");
    if (wanted & INIT) {
        const json_t *init = nin__field_any(fields, "init");

        if (init != NULL)
            NIN__TRY(read_init(&layer->init, init, fields->what));
    }
    return nin__fields_end(fields);
}

static const struct kind *read_kind(struct nin__fields *fields)
{
    const char *name = nin__field_string(fields, "kind");

    for (size_t i = 0; name != NULL && i < COUNT(kinds); i++)
        if (strcmp(name, kinds[i].class->name) == 0)
            return &kinds[i];
    nin__fields_fail(fields, "kind", "no kind of layer that this version knows");
    return NULL;
}

static void read_name(char *target, struct nin__fields *fields)
{
    const char *name = nin__field_string(fields, "name");

    if (name != NULL && strlen(name) < NIN__NAME_SIZE)
        memcpy(target, name, strlen(name) + 1);
    else
        nin__fields_fail(fields, "name", "too long");
}

/* What the builder refuses is the file's fault, not our caller's. */
static nin_status blame_file(nin_status status)
{
    return nin__fail_in(status == NIN_INVALID_ARGUMENT ? NIN_BAD_FORMAT : status, "architecture");
}

/* Shape and number of parameters. The builder has accepted the same, so nothing can overflow. */
static nin_status infer(struct nin_layer *layer)
{
    int64_t oihw[4];

    NIN__TRY(layer->class->shape(layer, layer->in, &layer->out));
    if (layer->class->weight_shape == NULL)
        return NIN_OK;
    layer->class->weight_shape(layer, oihw);
    layer->weight_count = (size_t)(oihw[0] * oihw[1] * oihw[2] * oihw[3]);
    layer->bias_count = layer->no_bias ? 0 : (size_t)layer->filters;
    return NIN_OK;
}

static nin_status read_layer(struct nin_layer *layer, nin_builder *builder, const json_t *json,
                             const char *what)
{
    struct nin__fields fields = nin__fields_begin(json, what);
    const struct kind *kind = read_kind(&fields);

    read_name(layer->name, &fields);
    if (fields.status != NIN_OK)
        return fields.status;
    layer->class = kind->class;
    NIN__TRY(read_fields(layer, &fields, kind->fields));
    NIN__TRY(blame_file(kind->add(builder, layer)));
    return infer(layer);
}

static nin_status read_layers(struct nin__blueprint *blueprint, const json_t *list,
                              struct nin__shape in)
{
    char what[48];

    for (int32_t i = 0; i < blueprint->count; i++) {
        struct nin_layer *layer = &blueprint->layers[i];

        snprintf(what, sizeof what, "architecture: layer %d", i);
        layer->index = i;
        layer->in = in;
        NIN__TRY(read_layer(layer, blueprint->builder, json_array_get(list, (size_t)i), what));
        in = layer->out;
    }
    return NIN_OK;
}

static nin_status read_input(nin_input_desc *input, const json_t *json)
{
    struct nin__fields fields = nin__fields_begin(json, "architecture: input");

    input->struct_size = sizeof *input;
    input->channels = (int32_t)nin__field_integer(&fields, "channels", 1, INT32_MAX);
    input->height = (int32_t)nin__field_integer(&fields, "height", 1, INT32_MAX);
    input->width = (int32_t)nin__field_integer(&fields, "width", 1, INT32_MAX);
    input->scale = nin__field_real(&fields, "scale");
    input->shift = nin__field_real(&fields, "shift");
    if (fields.status == NIN_OK && input->scale == 0.0) /* the builder would take the default */
        nin__fields_fail(&fields, "scale", "0");
    return nin__fields_end(&fields);
}

static nin_status read_all(struct nin__blueprint *blueprint, nin_context *context,
                           const json_t *json)
{
    struct nin__fields fields = nin__fields_begin(json, "architecture");
    const json_t *input_json, *layers;
    nin_input_desc input = {0};

    nin__field_integer(&fields, "format", FORMAT, FORMAT);
    input_json = nin__field_any(&fields, "input");
    layers = nin__field_any(&fields, "layers");
    NIN__TRY(nin__fields_end(&fields));
    if (!json_is_array(layers) || json_array_size(layers) < 1 ||
        json_array_size(layers) > MAX_LAYERS)
        return nin__fields_fail(&fields, "layers", "no list of 1 to 10000 layers");
    NIN__TRY(read_input(&input, input_json));
    NIN__TRY(blame_file(nin_builder_create(&blueprint->builder, context, &input)));
    blueprint->count = (int32_t)json_array_size(layers);
    blueprint->layers = calloc((size_t)blueprint->count, sizeof *blueprint->layers);
    if (blueprint->layers == NULL)
        return nin__no_memory("layers");
    return read_layers(blueprint, layers,
                       (struct nin__shape){input.channels, input.height, input.width});
}

nin_status nin__architecture_read(struct nin__blueprint *out, nin_context *context,
                                  const char *text)
{
    struct nin__blueprint blueprint = {0};
    nin_status status;
    json_t *json;

    NIN__TRY(nin__json_parse(&json, text, strlen(text), "architecture"));
    status = read_all(&blueprint, context, json);
    json_decref(json);
    if (status != NIN_OK)
        nin__blueprint_free(&blueprint);
    else
        *out = blueprint;
    return status;
}

void nin__blueprint_free(struct nin__blueprint *blueprint)
{
    nin_builder_destroy(blueprint->builder);
    free(blueprint->layers);
}
