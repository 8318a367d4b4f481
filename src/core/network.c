/* SPDX-License-Identifier: MIT */
#include "core/network.h"

#include "core/descriptor.h"
#include "core/error.h"
#include "core/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- life --------------------------------------------------------------------------------- */

static void place_parameters(nin_network *network)
{
    size_t next = 0;

    for (int32_t i = 0; i < network->layer_count; i++) {
        struct nin_layer *layer = &network->layers[i];

        layer->network = network;
        layer->weight = next;
        layer->bias = next + layer->weight_count;
        next += layer->weight_count + layer->bias_count;
    }
    network->parameter_count = next;
}

static nin_status allocate(nin_network *network)
{
    void *parameters;

    NIN__TRY(nin__context_allocate(&parameters, network->context,
                                   network->parameter_count * sizeof(float), "parameters"));
    network->parameters = parameters;
    return nin_network_initialise(network, NULL, network->context->seed);
}

nin_status nin__network_create(nin_network **out, nin_context *context, const nin_input_desc *input,
                               const struct nin_layer *layers, int32_t layer_count)
{
    nin_network *network = calloc(1, sizeof *network);
    nin_status status;

    if (network == NULL)
        return nin__no_memory("a network");
    network->layers = malloc((size_t)layer_count * sizeof *layers);
    if (network->layers == NULL) {
        free(network);
        return nin__no_memory("a network");
    }
    atomic_init(&network->references, 1);
    atomic_init(&network->holders, 0);
    atomic_init(&network->version, 1);
    pthread_mutex_init(&network->prepared_lock, NULL);
    network->context = nin__context_retain(context);
    network->input = *input;
    network->layer_count = layer_count;
    memcpy(network->layers, layers, (size_t)layer_count * sizeof *layers);
    place_parameters(network);
    status = allocate(network);
    if (status != NIN_OK) {
        nin_network_destroy(network);
        return status;
    }
    *out = network;
    return NIN_OK;
}

nin_network *nin__network_retain(nin_network *network)
{
    atomic_fetch_add(&network->references, 1);
    return network;
}

void nin_network_destroy(nin_network *network)
{
    if (network == NULL || atomic_fetch_sub(&network->references, 1) > 1)
        return;
    nin__context_release(network->context, network->parameters);
    pthread_mutex_destroy(&network->prepared_lock);
    nin_context_destroy(network->context);
    free(network->layers);
    free(network);
}

/* ---- sharing ------------------------------------------------------------------------------ */

nin_status nin__network_share(const nin_network *network)
{
    atomic_int *holders = &((nin_network *)network)->holders; /* a lock is no part of the value */
    int now = atomic_load(holders);

    do {
        if (now < 0)
            return nin__fail(NIN_BUSY, "the network is being changed by another thread");
    } while (!atomic_compare_exchange_weak(holders, &now, now + 1));
    return NIN_OK;
}

void nin__network_unshare(const nin_network *network)
{
    atomic_fetch_sub(&((nin_network *)network)->holders, 1);
}

nin_status nin__network_hold(nin_network *network)
{
    int nobody = 0;

    if (!atomic_compare_exchange_strong(&network->holders, &nobody, -1))
        return nin__fail(NIN_BUSY, "the network is being used by another thread");
    return NIN_OK;
}

void nin__network_unhold(nin_network *network)
{
    atomic_store(&network->holders, 0);
}

void nin__network_changed(nin_network *network)
{
    atomic_fetch_add(&network->version, 1);
}

/* ---- parameters --------------------------------------------------------------------------- */

/* He et al. 2015 for NIN_INIT_HE; PyTorch's U(+-1/sqrt(fan_in)) for NIN_INIT_FAN_IN. */
static void draw(float *target, size_t count, nin_init init, double scale, double fan_in,
                 uint32_t seed, uint32_t tensor)
{
    switch (init) {
    case NIN_INIT_HE:
        nin__rng_normal(target, count, sqrt(2.0 / fan_in), seed, tensor);
        break;
    case NIN_INIT_NORMAL:
        nin__rng_normal(target, count, scale, seed, tensor);
        break;
    case NIN_INIT_UNIFORM:
        nin__rng_uniform(target, count, scale, seed, tensor);
        break;
    case NIN_INIT_FAN_IN:
        nin__rng_uniform(target, count, 1.0 / sqrt(fan_in), seed, tensor);
        break;
    default:
        memset(target, 0, count * sizeof *target);
    }
}

static void draw_layer(float *arena, const struct nin_layer *layer, const nin_init_desc *init,
                       uint32_t seed)
{
    double fan_in = (double)layer->weight_count / (double)layer->filters;
    uint32_t tensor = 2 * (uint32_t)layer->index;

    draw(arena + layer->weight, layer->weight_count, init->weights, init->weight_scale, fan_in,
         seed, tensor);
    draw(arena + layer->bias, layer->bias_count, init->biases, init->bias_scale, fan_in, seed,
         tensor + 1);
}

nin_status nin__network_download(const nin_network *network, float *target)
{
    return network->context->backend->download(network->context->device, target,
                                               network->parameters,
                                               network->parameter_count * sizeof *target);
}

nin_status nin__network_upload(nin_network *network, const float *source)
{
    NIN__TRY(network->context->backend->upload(network->context->device, network->parameters,
                                               source, network->parameter_count * sizeof *source));
    nin__network_changed(network);
    return NIN_OK;
}

nin_status nin_network_initialise(nin_network *network, const nin_init_desc *init, uint32_t seed)
{
    nin_init_desc desc;
    nin_status status;
    float *arena;

    NIN__NEED(network);
    NIN__TRY(nin__init_read(&desc, init, "initialise"));
    arena = calloc(network->parameter_count + 1, sizeof *arena); /* + 1: there may be none */
    if (arena == NULL)
        return nin__no_memory("initial parameters");
    for (int32_t i = 0; i < network->layer_count; i++)
        if (network->layers[i].weight_count > 0)
            draw_layer(arena, &network->layers[i], init == NULL ? &network->layers[i].init : &desc,
                       seed);
    status = nin__network_hold(network);
    if (status == NIN_OK) {
        status = nin__network_upload(network, arena);
        nin__network_unhold(network);
    }
    free(arena);
    return status;
}

size_t nin_network_parameter_count(const nin_network *network)
{
    return network->parameter_count;
}

uint64_t nin_network_parameter_version(const nin_network *network)
{
    return atomic_load(&((nin_network *)network)->version);
}

nin_status nin_network_describe(nin_network_info *out, const nin_network *network)
{
    nin_network_info info = {.struct_size = sizeof info};

    NIN__NEED(network);
    info.channels = network->input.channels;
    info.height = network->input.height;
    info.width = network->input.width;
    info.layer_count = network->layer_count;
    info.scale = network->input.scale;
    info.shift = network->input.shift;
    info.parameter_count = (int64_t)network->parameter_count;
    return NIN__INFO_WRITE(out, &info, nin_network_info);
}

/* ---- layers ------------------------------------------------------------------------------- */

size_t nin_network_layer_count(const nin_network *network)
{
    return (size_t)network->layer_count;
}

nin_layer *nin_network_layer(nin_network *network, size_t i)
{
    return i < (size_t)network->layer_count ? &network->layers[i] : NULL;
}

nin_layer *nin_network_find(nin_network *network, const char *name)
{
    for (int32_t i = 0; name != NULL && i < network->layer_count; i++)
        if (strcmp(network->layers[i].name, name) == 0)
            return &network->layers[i];
    return NULL;
}
