/* SPDX-License-Identifier: MIT */
#include "file/recipe.h"

#include "core/error.h"
#include "core/plan.h"
#include "file/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- data set ------------------------------------------------------------------------------ */

/* An id may hold any bytes, JSON only text: what is not printable ASCII becomes %XX. */
static json_t *describe_id(const char *id)
{
    char text[3 * sizeof((nin_dataset *)NULL)->id];
    size_t end = 0;

    for (; *id != '\0'; id++) {
        unsigned char c = (unsigned char)*id;

        if (c >= ' ' && c <= '~' && c != '%')
            text[end++] = (char)c;
        else
            end += (size_t)snprintf(text + end, 4, "%%%02X", c);
    }
    return json_stringn(text, end);
}

static json_t *describe_dataset(const nin_dataset *dataset)
{
    const nin_dataset_info *info = &dataset->info;
    json_t *json = json_pack("{s:I, s:i, s:i, s:i, s:s}", "count", (json_int_t)info->count,
                             "channels", info->channels, "height", info->height, "width",
                             info->width, "dtype", info->dtype == NIN_U8 ? "u8" : "f32");
    int failed;

    if (dataset->sample != NULL)
        failed = json_object_set_new(json, "id", describe_id(dataset->id));
    else
        failed = json_object_set_new(json, "crc32", json_integer(nin__dataset_hash(dataset)));
    if (failed == 0)
        return json;
    json_decref(json);
    return NULL;
}

/* ---- optimizer and scheduler --------------------------------------------------------------- */

/* The rate is the one that the optimizer was made with; the present one is part of where the run
 * is. */
static json_t *describe_optimizer(const nin_sgd_desc *desc)
{
    return json_pack("{s:s, s:f, s:f, s:b, s:f}", "kind", "sgd", "rate", desc->rate, "momentum",
                     desc->momentum, "nesterov", desc->nesterov, "weight_decay",
                     desc->weight_decay);
}

static const char *name_unit(nin_unit unit)
{
    return unit == NIN_PER_STEP ? "step" : "epoch";
}

static json_t *describe_plateau(const nin_plateau_desc *desc)
{
    return json_pack("{s:s, s:s, s:f, s:i, s:f, s:i, s:f}", "kind", "plateau", "unit",
                     name_unit(desc->unit), "factor", desc->factor, "patience", desc->patience,
                     "threshold", desc->threshold, "cooldown", desc->cooldown, "min_rate",
                     desc->min_rate);
}

static json_t *describe_steps(const nin_steps_desc *desc)
{
    json_t *milestones = json_array();

    for (int32_t i = 0; i < desc->count; i++)
        if (json_array_append_new(milestones, json_integer(desc->milestones[i])) != 0) {
            json_decref(milestones);
            return NULL;
        }
    return json_pack("{s:s, s:s, s:f, s:o}", "kind", "steps", "unit", name_unit(desc->unit),
                     "factor", desc->factor, "milestones", milestones);
}

static json_t *describe_cosine(const nin_cosine_desc *desc)
{
    return json_pack("{s:s, s:s, s:I, s:I, s:f}", "kind", "cosine", "unit", name_unit(desc->unit),
                     "total", (json_int_t)desc->total, "warm_up", (json_int_t)desc->warm_up,
                     "end_rate", desc->end_rate);
}

static json_t *describe_scheduler(const nin_scheduler *scheduler)
{
    const char *kind = scheduler == NULL ? "none" : scheduler->class->name;

    if (strcmp(kind, "plateau") == 0)
        return describe_plateau(&scheduler->plateau);
    if (strcmp(kind, "steps") == 0)
        return describe_steps(&scheduler->steps);
    if (strcmp(kind, "cosine") == 0)
        return describe_cosine(&scheduler->cosine);
    return json_pack("{s:s}", "kind", kind);
}

static json_t *describe_recipe(const nin_trainer *trainer)
{
    return json_pack("{s:b, s:o, s:o}", "shuffle", (int)trainer->shuffle, "optimizer",
                     describe_optimizer(&trainer->optimizer->desc), "scheduler",
                     describe_scheduler(trainer->scheduler));
}

/* ---- all ----------------------------------------------------------------------------------- */

static const char *name_algorithm(nin_algorithm algorithm)
{
    switch (algorithm) {
    case NIN_ALGORITHM_GEMM:
        return "gemm";
    case NIN_ALGORITHM_DIRECT:
        return "direct";
    case NIN_ALGORITHM_WINOGRAD:
        return "winograd";
    case NIN_ALGORITHM_FFT:
        return "fft";
    default:
        return "auto";
    }
}

static const char *name_precision(nin_precision precision)
{
    switch (precision) {
    case NIN_BF16:
        return "bf16";
    case NIN_BF16X3:
        return "bf16x3";
    case NIN_TF32:
        return "tf32";
    default:
        return "fp32";
    }
}

/* What sets the order of additions, as the backend has it. */
static json_t *describe_sums(const nin_plan *plan, int32_t batch)
{
    const struct nin__backend *backend = plan->network->context->backend;
    size_t length = backend->order_of_sums(plan->executable, batch, NULL, 0);
    char *text = malloc(length + 1);
    json_t *json = NULL;

    if (text != NULL) {
        backend->order_of_sums(plan->executable, batch, text, length + 1);
        json = json_string(text);
    }
    free(text);
    return json;
}

static json_t *describe_lanes(const nin_plan *plan, int32_t batch)
{
    char bytes[24];

    /* as text: JSON's numbers, as jansson has them, end at 2^63 */
    snprintf(bytes, sizeof bytes, "%" PRIu64, plan->desc.lane_bytes);
    return json_pack("{s:i, s:s, s:o}", "count", plan->desc.lanes, "bytes", bytes, "sums",
                     describe_sums(plan, batch));
}

json_t *nin__recipe_describe(const nin_trainer *trainer)
{
    const nin_plan *plan = trainer->plan;

    return json_pack("{s:o, s:i, s:o, s:s, s:s, s:o}", "data_set",
                     describe_dataset(trainer->dataset), "batch", trainer->batch, "recipe",
                     describe_recipe(trainer), "precision", name_precision(plan->desc.precision),
                     "algorithm", name_algorithm(plan->desc.algorithm), "lanes",
                     describe_lanes(plan, trainer->batch));
}

nin_status nin__recipe_compare(const json_t *ours, const json_t *theirs, const char *what)
{
    struct nin__difference difference;

    if (!json_is_object(theirs))
        return nin__fail(NIN_BAD_FORMAT, "checkpoint: 'run' is no object");
    if (!nin__json_differ(&difference, ours, theirs))
        return NIN_OK;
    return nin__fail(NIN_MISMATCH,
                     "the checkpoint belongs to something else: %s%s is %s there, %s here", what,
                     difference.path, difference.theirs, difference.ours);
}
