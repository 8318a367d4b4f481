/* SPDX-License-Identifier: MIT */
#include "file/parameters.h"

#include "core/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* A layer's weights or biases as a tensor. */
struct part {
    char name[NIN__NAME_SIZE + 32];
    int32_t rank;
    int64_t shape[4];
    size_t first, count; /* in the arena */
};

static void describe(struct part *part, const struct nin_layer *layer, nin_parameter which,
                     const char *suffix)
{
    const bool weights = which == NIN_WEIGHT;

    snprintf(part->name, sizeof part->name, "%s.%s%s", layer->name, weights ? "weight" : "bias",
             suffix);
    part->rank = weights ? 4 : 1;
    part->count = weights ? layer->weight_count : layer->bias_count;
    part->first = weights ? layer->weight : layer->bias;
    part->shape[0] = (int64_t)part->count;
    if (weights && part->count > 0)
        layer->class->weight_shape(layer, part->shape);
}

void nin__parameters_add(struct nin__bundle *bundle, const nin_network *network, const char *suffix,
                         const float *arena)
{
    struct part part;

    for (int32_t i = 0; i < 2 * network->layer_count; i++) {
        describe(&part, &network->layers[i / 2], i % 2 == 0 ? NIN_WEIGHT : NIN_BIAS, suffix);
        if (part.count > 0)
            nin__bundle_floats(bundle, part.name, part.rank, part.shape, arena + part.first);
    }
}

static void write_shape(char *text, size_t size, int32_t rank, const int64_t *shape)
{
    size_t end = 0;

    text[0] = '\0';
    for (int32_t axis = 0; axis < rank && end < size; axis++)
        end += (size_t)snprintf(text + end, size - end, "%s%" PRId64, axis > 0 ? "x" : "",
                                shape[axis]);
}

/* Our shape, or for dense layers also units x inputs, as a linear layer of PyTorch has it. */
static bool has_shape(const struct nin__stored *stored, const struct part *part,
                      const struct nin_layer *layer)
{
    const int64_t flat[2] = {part->shape[0], part->shape[1] * part->shape[2] * part->shape[3]};

    return nin__stored_has_shape(stored, part->rank, part->shape) ||
           (layer->class == &nin__dense_class && part->rank == 4 &&
            nin__stored_has_shape(stored, 2, flat));
}

static nin_status find(struct nin__stored *stored, const struct nin__safetensors *file,
                       const struct part *part, const struct nin_layer *layer)
{
    char has[64], needs[64];

    NIN__TRY(nin__safetensors_find(stored, file, part->name, "F32"));
    if (has_shape(stored, part, layer))
        return NIN_OK;
    write_shape(has, sizeof has, stored->rank, stored->shape);
    write_shape(needs, sizeof needs, part->rank, part->shape);
    return nin__fail(NIN_BAD_FORMAT, "tensor '%s' has the shape %s, the network needs %s",
                     part->name, has, needs);
}

nin_status nin__parameters_check(const struct nin__safetensors *file,
                                 const struct nin_layer *layers, int32_t count, const char *suffix)
{
    struct nin__stored stored;
    struct part part;

    for (int32_t i = 0; i < 2 * count; i++) {
        describe(&part, &layers[i / 2], i % 2 == 0 ? NIN_WEIGHT : NIN_BIAS, suffix);
        if (part.count > 0)
            NIN__TRY(find(&stored, file, &part, &layers[i / 2]));
    }
    return NIN_OK;
}

static nin_status read_arena(float *arena, const struct nin__safetensors *file,
                             const nin_network *network, const char *suffix)
{
    struct nin__stored stored;
    struct part part;

    for (int32_t i = 0; i < 2 * network->layer_count; i++) {
        const struct nin_layer *layer = &network->layers[i / 2];

        describe(&part, layer, i % 2 == 0 ? NIN_WEIGHT : NIN_BIAS, suffix);
        if (part.count == 0)
            continue;
        NIN__TRY(find(&stored, file, &part, layer));
        NIN__TRY(nin__safetensors_floats(file, &stored, arena + part.first));
    }
    return NIN_OK;
}

nin_status nin__parameters_read(float **out, const struct nin__safetensors *file,
                                const nin_network *network, const char *suffix)
{
    float *arena = calloc(network->parameter_count + 1, sizeof *arena); /* + 1: there may be none */
    nin_status status;

    if (arena == NULL)
        return nin__no_memory("parameters");
    status = read_arena(arena, file, network, suffix);
    if (status != NIN_OK)
        free(arena);
    else
        *out = arena;
    return status;
}
