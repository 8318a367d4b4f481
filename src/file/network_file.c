/* SPDX-License-Identifier: MIT */
#include <nin/file.h>

#include "core/error.h"
#include "core/network.h"
#include "file/architecture.h"
#include "file/failure.h"
#include "file/parameters.h"
#include "file/safetensors.h"

#include <stdlib.h>

/* ---- save ---------------------------------------------------------------------------------- */

static nin_status copy_parameters(float *arena, const nin_network *network)
{
    nin_status status;

    NIN__TRY(nin__network_share(network));
    status = nin__network_download(network, arena);
    nin__network_unshare(network);
    return status;
}

static nin_status write_network(const nin_network *network, const float *arena, const char *path)
{
    struct nin__bundle bundle;
    nin_status status;

    nin__bundle_begin(&bundle);
    nin__bundle_text(&bundle, "architecture", nin__architecture_describe(network));
    nin__parameters_add(&bundle, network, NIN__PARAMETERS, arena);
    status = nin__bundle_write(&bundle, path);
    nin__bundle_free(&bundle);
    return nin__fail_in(status, path);
}

nin_status nin_network_save(const nin_network *network, const char *path)
{
    nin_status status;
    float *arena;

    NIN__NEED(network);
    NIN__NEED(path);
    arena = malloc((network->parameter_count + 1) * sizeof *arena);
    if (arena == NULL)
        return nin__no_memory("a copy of the parameters");
    status = copy_parameters(arena, network);
    if (status == NIN_OK)
        status = write_network(network, arena, path);
    free(arena);
    return status;
}

/* ---- read weights -------------------------------------------------------------------------- */

static nin_status upload(nin_network *network, const float *arena)
{
    nin_status status;

    NIN__TRY(nin__network_hold(network));
    status = nin__network_upload(network, arena);
    nin__network_unhold(network);
    return status;
}

static nin_status read_weights(nin_network *network, const struct nin__safetensors *file)
{
    nin_status status;
    float *arena;

    NIN__TRY(nin__parameters_read(&arena, file, network, NIN__PARAMETERS));
    status = upload(network, arena);
    free(arena);
    return status;
}

nin_status nin_network_read_weights(nin_network *network, const char *path)
{
    struct nin__safetensors file;
    nin_status status;

    NIN__NEED(network);
    NIN__NEED(path);
    status = nin__safetensors_open(&file, path);
    if (status == NIN_OK) {
        status = read_weights(network, &file);
        nin__safetensors_close(&file);
    }
    return nin__fail_in(status, path);
}

/* ---- load ---------------------------------------------------------------------------------- */

/* The description is compared with what the file has before memory is taken for it. */
static nin_status build(nin_network **out, const struct nin__blueprint *blueprint,
                        const struct nin__safetensors *file)
{
    nin_network *network;
    nin_status status;

    NIN__TRY(nin__parameters_check(file, blueprint->layers, blueprint->count, NIN__PARAMETERS));
    NIN__TRY(nin_builder_finish(&network, blueprint->builder));
    status = read_weights(network, file);
    if (status != NIN_OK)
        nin_network_destroy(network);
    else
        *out = network;
    return status;
}

static nin_status load(nin_network **out, nin_context *context, const struct nin__safetensors *file)
{
    const char *architecture = nin__safetensors_text(file, "architecture");
    struct nin__blueprint blueprint;
    nin_status status;

    if (architecture == NULL)
        return nin__fail(NIN_BAD_FORMAT, "has no architecture: libnin has not written it");
    NIN__TRY(nin__architecture_read(&blueprint, context, architecture));
    status = build(out, &blueprint, file);
    nin__blueprint_free(&blueprint);
    return status;
}

nin_status nin_network_load(nin_network **out, nin_context *context, const char *path)
{
    struct nin__safetensors file;
    nin_status status;

    NIN__NEED(out);
    NIN__NEED(context);
    NIN__NEED(path);
    status = nin__safetensors_open(&file, path);
    if (status == NIN_OK) {
        status = load(out, context, &file);
        nin__safetensors_close(&file);
    }
    return nin__fail_in(status, path);
}
