/* SPDX-License-Identifier: MIT */
/* Batches out of a data set, and the evaluation of a whole one. */
#include "core/trainer.h"

#include "core/descriptor.h"
#include "core/error.h"
#include "core/plan.h"

#include <stdlib.h>
#include <string.h>

/* Labels, and for a callback images, of the samples. */
static nin_status read_samples(const nin_dataset *dataset, const int32_t *index, int64_t first,
                               int32_t count, void *staging, int32_t *labels)
{
    for (int32_t n = 0; n < count; n++) {
        int64_t sample = index != NULL ? index[n] : first + n;

        if (dataset->images != NULL)
            labels[n] = dataset->labels[sample];
        else
            NIN__TRY(nin_dataset_read(dataset, (char *)staging + (size_t)n * dataset->image_bytes,
                                      &labels[n], sample));
    }
    return NIN_OK;
}

static void describe_images(struct nin__images *images, const nin_dataset *dataset,
                            const int32_t *index, int64_t first, int32_t count, const void *staging)
{
    images->dtype = dataset->info.dtype;
    images->count = count;
    if (dataset->images == NULL) {
        images->base = staging;
    } else if (index != NULL) {
        images->base = dataset->images;
        images->index = index;
    } else {
        images->base = (const char *)dataset->images + (size_t)first * dataset->image_bytes;
    }
}

nin_status nin__gather(struct nin__images *images, const nin_dataset *dataset, const int32_t *index,
                       int64_t first, int32_t count, void *staging, int32_t *labels)
{
    NIN__TRY(read_samples(dataset, index, first, count, staging, labels));
    describe_images(images, dataset, index, first, count, staging);
    return NIN_OK;
}

/* What an evaluation of a whole data set needs beside the plan. */
struct evaluation {
    int32_t *labels;
    void *staging;
};

static nin_status evaluate_all(nin_result *total, nin_plan *plan, const nin_dataset *dataset,
                               const struct evaluation *memory)
{
    struct nin__batches batches = nin__batches(dataset->info.count, plan->desc.max_batch);
    double loss = 0.0;

    for (int64_t piece = 0; piece < batches.pieces; piece++) {
        struct nin__run run = {.labels = memory->labels};
        nin_result part;
        int64_t first;
        int32_t count;

        nin__batch_range(batches, dataset->info.count, piece, &first, &count);
        NIN__TRY(
            nin__gather(&run.images, dataset, NULL, first, count, memory->staging, memory->labels));
        NIN__TRY(nin__plan_evaluate(&part, plan, &run));
        loss += part.loss * (double)part.count;
        total->correct += part.correct;
        total->count += part.count;
        total->flat += part.flat;
    }
    total->loss = loss / (double)total->count;
    return NIN_OK;
}

nin_status nin__evaluate(nin_result *result, nin_plan *plan, const nin_dataset *dataset)
{
    size_t batch = (size_t)nin__batches(dataset->info.count, plan->desc.max_batch).size;
    struct evaluation memory = {0};
    nin_status status;

    if (!plan->program->loss) /* as nin_plan_evaluate has it, before anything about the data set */
        return nin__fail(NIN_INVALID_STATE, "evaluate: the network has no softmax loss");
    NIN__TRY(nin__check_dataset(plan, dataset));
    memory.labels = malloc(batch * sizeof *memory.labels);
    if (dataset->images == NULL)
        memory.staging = malloc(batch * dataset->image_bytes);
    memset(result, 0, sizeof *result);
    result->struct_size = sizeof *result;
    if (memory.labels == NULL || (dataset->images == NULL && memory.staging == NULL))
        status = nin__no_memory("an evaluation");
    else
        status = evaluate_all(result, plan, dataset, &memory);
    free(memory.labels);
    free(memory.staging);
    return status;
}

nin_status nin_evaluate(nin_result *out, nin_plan *plan, const nin_dataset *dataset)
{
    nin_result result;

    NIN__NEED(plan);
    NIN__NEED(dataset);
    NIN__TRY(NIN__INFO_CHECK(out, nin_result));
    NIN__TRY(nin__evaluate(&result, plan, dataset));
    return NIN__INFO_WRITE(out, &result, nin_result);
}
