/* SPDX-License-Identifier: MIT */
/* A checkpoint is a network's file (architecture and parameters, so nin_network_load reads it too)
 * with what a run needs to go on. Restoring reads and checks all of it before anything is
 * changed. */
#include <nin/file.h>

#include "core/descriptor.h"
#include "core/error.h"
#include "core/plan.h"
#include "core/trainer.h"
#include "file/architecture.h"
#include "file/failure.h"
#include "file/json.h"
#include "file/parameters.h"
#include "file/progress.h"
#include "file/recipe.h"
#include "file/safetensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    FORMAT = 1
};

/* The multipliers of a layer are stored as they lie in memory: rate and decay, each of weights and
 * biases. */
enum {
    MULTIPLIERS = 4
};
_Static_assert(sizeof(struct nin__multipliers) == MULTIPLIERS * sizeof(double), "four doubles");

static const nin_network *network_of(const nin_trainer *trainer)
{
    return trainer->optimizer->network;
}

/* ---- save ---------------------------------------------------------------------------------- */

/* What must be copied while the network is shared, or does not lie in memory as the file has it. */
struct snapshot {
    float *parameters, *momentum;
    double *curve;
};

static nin_status download(struct snapshot *snapshot, const nin_trainer *trainer)
{
    const nin_network *network = network_of(trainer);
    const nin_context *context = network->context;

    NIN__TRY(nin__network_download(network, snapshot->parameters));
    return context->backend->download(context->device, snapshot->momentum,
                                      trainer->optimizer->momentum,
                                      network->parameter_count * sizeof *snapshot->momentum);
}

static nin_status take(struct snapshot *snapshot, const nin_trainer *trainer)
{
    const nin_network *network = network_of(trainer);
    nin_status status;

    snapshot->parameters = calloc(network->parameter_count + 1, sizeof *snapshot->parameters);
    snapshot->momentum = calloc(network->parameter_count + 1, sizeof *snapshot->momentum);
    snapshot->curve = nin__curve_table(trainer);
    if (snapshot->parameters == NULL || snapshot->momentum == NULL || snapshot->curve == NULL)
        return nin__no_memory("a checkpoint");
    NIN__TRY(nin__network_share(network));
    status = download(snapshot, trainer);
    nin__network_unshare(network);
    return status;
}

static json_t *describe(const nin_trainer *trainer)
{
    return json_pack("{s:i, s:o, s:o}", "format", FORMAT, "run", nin__recipe_describe(trainer),
                     "state", nin__progress_describe(trainer));
}

/* Doubles first, so that all of them start at a multiple of 8. */
static nin_status write_snapshot(const struct snapshot *snapshot, const nin_trainer *trainer,
                                 const char *path)
{
    const nin_network *network = network_of(trainer);
    const int64_t curve[2] = {trainer->progress.epoch, NIN__CURVE_COLUMNS};
    const int64_t multipliers[3] = {network->layer_count, 2, 2};
    struct nin__bundle bundle;
    nin_status status;

    nin__bundle_begin(&bundle);
    nin__bundle_text(&bundle, "architecture", nin__architecture_describe(network));
    nin__bundle_text(&bundle, "checkpoint", describe(trainer));
    if (curve[0] > 0)
        nin__bundle_doubles(&bundle, "curve", 2, curve, snapshot->curve);
    nin__bundle_doubles(&bundle, "multipliers", 3, multipliers,
                        (const double *)(const void *)trainer->optimizer->layers);
    nin__parameters_add(&bundle, network, NIN__PARAMETERS, snapshot->parameters);
    nin__parameters_add(&bundle, network, NIN__MOMENTUM, snapshot->momentum);
    status = nin__bundle_write(&bundle, path);
    nin__bundle_free(&bundle);
    return nin__fail_in(status, path);
}

nin_status nin_trainer_save(const nin_trainer *trainer, const char *path)
{
    struct snapshot snapshot = {0};
    nin_status status;

    NIN__NEED(trainer);
    NIN__NEED(path);
    NIN__TRY(nin__trainer_enter(trainer));
    status = take(&snapshot, trainer);
    if (status == NIN_OK)
        status = write_snapshot(&snapshot, trainer, path);
    nin__trainer_leave(trainer);
    free(snapshot.parameters);
    free(snapshot.momentum);
    free(snapshot.curve);
    return status;
}

/* ---- what the file says -------------------------------------------------------------------- */

static nin_status compare_networks(const nin_network *network, const struct nin__safetensors *file)
{
    const char *text = nin__safetensors_text(file, "architecture");
    json_t *ours, *theirs;
    nin_status status;

    if (text == NULL)
        return nin__fail(NIN_BAD_FORMAT, "has no architecture");
    NIN__TRY(nin__json_parse(&theirs, text, strlen(text), "architecture"));
    ours = nin__architecture_describe(network);
    status = ours == NULL ? nin__no_memory("a description")
                          : nin__recipe_compare(ours, theirs, "network: ");
    json_decref(ours);
    json_decref(theirs);
    return status;
}

/* What another algorithm brings with it: its name, and its own order of sums. */
static void allow_algorithm(json_t *ours, const json_t *theirs)
{
    json_object_set(ours, "algorithm", json_object_get(theirs, "algorithm"));
    json_object_set(json_object_get(ours, "lanes"), "sums",
                    json_object_get(json_object_get(theirs, "lanes"), "sums"));
}

static nin_status compare_runs(const nin_trainer *trainer, const json_t *theirs,
                               const nin_restore_desc *desc)
{
    json_t *ours = nin__recipe_describe(trainer);
    nin_status status;

    if (ours == NULL)
        return nin__no_memory("a description");
    if (desc->other_algorithm)
        allow_algorithm(ours, theirs);
    status = nin__recipe_compare(ours, theirs, "");
    json_decref(ours);
    return status;
}

/* A table of doubles; the caller frees it, also after a failure. */
static nin_status read_table(double **out, const struct nin__safetensors *file, const char *name,
                             int32_t rank, const int64_t *shape)
{
    struct nin__stored stored;

    NIN__TRY(nin__safetensors_find(&stored, file, name, "F64"));
    if (!nin__stored_has_shape(&stored, rank, shape))
        return nin__fail(NIN_BAD_FORMAT, "tensor '%s' has another shape than it must have", name);
    *out = malloc((size_t)stored.bytes);
    if (*out == NULL)
        return nin__no_memory(name);
    return nin__safetensors_doubles(file, &stored, *out);
}

static nin_status read_curve(struct nin__restored *restored, const nin_trainer *trainer,
                             const struct nin__safetensors *file)
{
    const int64_t shape[2] = {restored->progress.epoch, NIN__CURVE_COLUMNS};
    nin_status status = NIN_OK;
    double *table = NULL;

    if (shape[0] > 0)
        status = read_table(&table, file, "curve", 2, shape);
    if (status == NIN_OK)
        status = nin__curve_read(restored, trainer, table);
    free(table);
    return status;
}

static nin_status read_multipliers(struct nin__restored *restored, const nin_network *network,
                                   const struct nin__safetensors *file)
{
    const int64_t shape[3] = {network->layer_count, 2, 2};
    const size_t count = (size_t)network->layer_count * MULTIPLIERS;
    nin_status status;
    double *table = NULL;

    status = read_table(&table, file, "multipliers", 3, shape);
    for (size_t i = 0; status == NIN_OK && i < count; i++)
        if (!nin__is_rate(table[i]))
            status = nin__fail(NIN_BAD_FORMAT, "multipliers: one is negative or not finite");
    restored->multipliers = (struct nin__multipliers *)(void *)table;
    return status;
}

static nin_status read_tensors(struct nin__restored *restored, const nin_trainer *trainer,
                               const struct nin__safetensors *file)
{
    const nin_network *network = network_of(trainer);

    NIN__TRY(read_curve(restored, trainer, file));
    NIN__TRY(read_multipliers(restored, network, file));
    NIN__TRY(nin__parameters_read(&restored->parameters, file, network, NIN__PARAMETERS));
    return nin__parameters_read(&restored->momentum, file, network, NIN__MOMENTUM);
}

static nin_status read_json(struct nin__restored *restored, const nin_trainer *trainer,
                            const json_t *json, const nin_restore_desc *desc)
{
    struct nin__fields fields = nin__fields_begin(json, "checkpoint");
    const json_t *run, *state;

    nin__field_integer(&fields, "format", FORMAT, FORMAT);
    run = nin__field_any(&fields, "run");
    state = nin__field_any(&fields, "state");
    NIN__TRY(nin__fields_end(&fields));
    NIN__TRY(compare_runs(trainer, run, desc));
    return nin__progress_read(restored, trainer, state);
}

static nin_status read_all(struct nin__restored *restored, const nin_trainer *trainer,
                           const struct nin__safetensors *file, const nin_restore_desc *desc)
{
    const char *text = nin__safetensors_text(file, "checkpoint");
    nin_status status;
    json_t *json;

    if (text == NULL)
        return nin__fail(NIN_BAD_FORMAT, "is no checkpoint");
    NIN__TRY(compare_networks(network_of(trainer), file));
    NIN__TRY(nin__json_parse(&json, text, strlen(text), "checkpoint"));
    status = read_json(restored, trainer, json, desc);
    json_decref(json);
    NIN__TRY(status);
    return read_tensors(restored, trainer, file);
}

/* ---- restore ------------------------------------------------------------------------------- */

static void apply_state(nin_trainer *trainer, const struct nin__restored *restored)
{
    nin_optimizer *optimizer = trainer->optimizer;
    const size_t layers = (size_t)optimizer->network->layer_count;

    optimizer->rate = restored->rate;
    memcpy(optimizer->layers, restored->multipliers, layers * sizeof *optimizer->layers);
    if (trainer->scheduler != NULL) {
        trainer->scheduler->base_rate = restored->base_rate;
        trainer->scheduler->state = restored->scheduler;
    }
    trainer->plan->has_gradient = false; /* it was of other parameters */
    trainer->plan->images = 0;
    trainer->progress = restored->progress;
    trainer->ordered_epoch = -1; /* the order of images follows from seed and epoch */
    memcpy(trainer->curve, restored->curve,
           (size_t)restored->progress.epoch * sizeof *trainer->curve);
}

/* The network is held. Only a device can fail after the first upload has begun, and what it then
 * holds is beyond repair. */
static nin_status apply(nin_trainer *trainer, const struct nin__restored *restored)
{
    nin_optimizer *optimizer = trainer->optimizer;
    nin_network *network = optimizer->network;
    const nin_context *context = network->context;

    NIN__TRY(nin__trainer_reserve(trainer, restored->progress.epoch + 1));
    NIN__TRY(context->backend->upload(context->device, optimizer->momentum, restored->momentum,
                                      network->parameter_count * sizeof *restored->momentum));
    NIN__TRY(nin__network_upload(network, restored->parameters));
    apply_state(trainer, restored);
    return NIN_OK;
}

static nin_status restore(nin_trainer *trainer, const struct nin__safetensors *file,
                          const nin_restore_desc *desc)
{
    nin_network *network = trainer->optimizer->network;
    struct nin__restored restored = {0};
    nin_status status = read_all(&restored, trainer, file, desc);

    if (status == NIN_OK)
        status = nin__plan_enter(trainer->plan);
    if (status == NIN_OK) {
        status = nin__network_hold(network);
        if (status == NIN_OK) {
            status = apply(trainer, &restored);
            nin__network_unhold(network);
        }
        nin__plan_leave(trainer->plan);
    }
    nin__restored_free(&restored);
    return status;
}

nin_status nin_trainer_restore(nin_trainer *trainer, const char *path,
                               const nin_restore_desc *source)
{
    struct nin__safetensors file;
    nin_restore_desc desc;
    nin_status status;

    NIN__NEED(trainer);
    NIN__NEED(path);
    NIN__TRY(NIN__DESC_READ(&desc, source, nin_restore_desc));
    if (desc.other_algorithm != 0 && desc.other_algorithm != 1)
        return nin__fail(NIN_INVALID_ARGUMENT, "restore: other_algorithm %d; 0 or 1",
                         desc.other_algorithm);
    if (desc.reserved != 0)
        return nin__fail(NIN_INVALID_ARGUMENT, "restore: reserved %d; it must be 0", desc.reserved);
    NIN__TRY(nin__trainer_enter(trainer));
    status = nin__safetensors_open(&file, path);
    if (status == NIN_OK) {
        status = restore(trainer, &file, &desc);
        nin__safetensors_close(&file);
    }
    nin__trainer_leave(trainer);
    return nin__fail_in(status, path);
}
