/* SPDX-License-Identifier: MIT */
#include "core/trainer.h"

#include "core/descriptor.h"
#include "core/error.h"
#include "core/math.h"
#include "core/plan.h"
#include "core/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    USUAL_EPOCHS = 512
};

double nin__seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- life --------------------------------------------------------------------------------- */

nin_status nin__check_dataset(const nin_plan *plan, const nin_dataset *dataset)
{
    const nin_dataset_info *info = &dataset->info;

    if (info->channels != plan->input.c || info->height != plan->input.h ||
        info->width != plan->input.w)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "the data set has images of %dx%dx%d, the plan "
                         "takes %dx%dx%d",
                         info->channels, info->height, info->width, plan->input.c, plan->input.h,
                         plan->input.w);
    if (!plan->program->loss)
        return nin__fail(NIN_INVALID_ARGUMENT, "the network has no softmax loss");
    if (info->classes > plan->scores.c)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "the data set has labels up to %d, the network %d classes",
                         info->classes - 1, plan->scores.c);
    return NIN_OK;
}

static nin_status check_parts(const nin_plan *plan, const nin_optimizer *optimizer,
                              const nin_scheduler *scheduler, const nin_dataset *dataset)
{
    if (!plan->program->train)
        return nin__fail(NIN_INVALID_ARGUMENT, "trainer: needs a training plan");
    if (optimizer->network != plan->network)
        return nin__fail(NIN_INVALID_ARGUMENT, "trainer: plan and optimizer are of two networks");
    if (scheduler != NULL && scheduler->optimizer != optimizer)
        return nin__fail(NIN_INVALID_ARGUMENT, "trainer: the scheduler is of another optimizer");
    return nin__check_dataset(plan, dataset);
}

static nin_status read_desc(nin_trainer_desc *desc, const nin_plan *plan,
                            const nin_trainer_desc *source)
{
    NIN__TRY(NIN__DESC_READ(desc, source, nin_trainer_desc));
    if (desc->batch == 0)
        desc->batch = plan->desc.max_batch;
    if (desc->batch < 1 || desc->batch > plan->desc.max_batch)
        return nin__fail(NIN_INVALID_ARGUMENT, "trainer: batch %d, the plan takes 1 to %d",
                         desc->batch, plan->desc.max_batch);
    if ((desc->no_shuffle | desc->own_seed) & ~1)
        return nin__fail(NIN_INVALID_ARGUMENT, "trainer: no_shuffle %d, own_seed %d; 0 or 1",
                         desc->no_shuffle, desc->own_seed);
    if (!desc->own_seed && desc->seed != 0)
        return nin__fail(NIN_INVALID_ARGUMENT, "trainer: seed %u without own_seed", desc->seed);
    return NIN_OK;
}

static nin_status allocate(nin_trainer *trainer)
{
    const nin_dataset *dataset = trainer->dataset;

    trainer->order = malloc((size_t)dataset->info.count * sizeof *trainer->order);
    trainer->labels = malloc((size_t)trainer->batches.size * sizeof *trainer->labels);
    if (dataset->images == NULL)
        trainer->staging = calloc((size_t)trainer->batches.size, dataset->image_bytes);
    if (trainer->order == NULL || trainer->labels == NULL ||
        (dataset->images == NULL && trainer->staging == NULL))
        return nin__no_memory("a trainer");
    return NIN_OK;
}

nin_status nin_trainer_create(nin_trainer **out, nin_plan *plan, nin_optimizer *optimizer,
                              nin_scheduler *scheduler, const nin_dataset *dataset,
                              const nin_trainer_desc *source)
{
    nin_trainer_desc desc;
    nin_trainer *trainer;
    nin_status status;

    NIN__NEED(out);
    NIN__NEED(plan);
    NIN__NEED(optimizer);
    NIN__NEED(dataset);
    NIN__TRY(check_parts(plan, optimizer, scheduler, dataset));
    NIN__TRY(read_desc(&desc, plan, source));
    trainer = calloc(1, sizeof *trainer);
    if (trainer == NULL)
        return nin__no_memory("a trainer");
    atomic_flag_clear(&trainer->busy);
    trainer->plan = plan;
    trainer->optimizer = optimizer;
    trainer->scheduler = scheduler;
    trainer->dataset = dataset;
    trainer->shuffle = !desc.no_shuffle;
    trainer->batch = desc.batch;
    trainer->batches = nin__batches(dataset->info.count, desc.batch);
    trainer->progress.seed = desc.own_seed ? desc.seed : plan->network->context->seed;
    trainer->ordered_epoch = -1;
    trainer->stall_epochs = NIN__STALL_EPOCHS;
    status = allocate(trainer);
    if (status ==
        NIN_OK) /* so that the steps of a usual run allocate nothing, not even between epochs */
        status = nin__trainer_reserve(trainer, USUAL_EPOCHS);
    if (status != NIN_OK) {
        nin_trainer_destroy(trainer);
        return status;
    }
    *out = trainer;
    return NIN_OK;
}

void nin_trainer_destroy(nin_trainer *trainer)
{
    if (trainer == NULL)
        return;
    nin__ahead_free(&trainer->ahead);
    free(trainer->order);
    free(trainer->labels);
    free(trainer->staging);
    free(trainer->curve);
    free(trainer);
}

nin_status nin__trainer_enter(const nin_trainer *trainer)
{
    if (atomic_flag_test_and_set(&((nin_trainer *)trainer)->busy))
        return nin__fail(NIN_BUSY, "the trainer is being used, by another thread or by the call "
                                   "whose data set's callback this is");
    return NIN_OK;
}

void nin__trainer_leave(const nin_trainer *trainer)
{
    atomic_flag_clear(&((nin_trainer *)trainer)->busy);
}

int64_t nin_trainer_epochs(const nin_trainer *trainer)
{
    return trainer->progress.epoch;
}

int64_t nin_trainer_steps(const nin_trainer *trainer)
{
    return trainer->progress.step;
}

int64_t nin_trainer_batch(const nin_trainer *trainer)
{
    return trainer->progress.batch;
}

uint32_t nin_trainer_seed(const nin_trainer *trainer)
{
    return trainer->progress.seed;
}

nin_status nin_trainer_curve(nin_epoch_info *out, const nin_trainer *trainer, int64_t i)
{
    NIN__NEED(trainer);
    if (i < 0 || i >= trainer->progress.epoch)
        return nin__fail(NIN_INVALID_ARGUMENT, "the curve has %lld epochs, there is no entry %lld",
                         (long long)trainer->progress.epoch, (long long)i);
    return NIN__INFO_WRITE(out, &trainer->curve[i], nin_epoch_info);
}

nin_status nin__trainer_reserve(nin_trainer *trainer, int64_t epochs)
{
    int64_t room = trainer->curve_room < 16 ? 16 : trainer->curve_room;
    nin_epoch_info *curve;

    if (epochs <= trainer->curve_room)
        return NIN_OK;
    while (room < epochs)
        room *= 2;
    curve = realloc(trainer->curve, (size_t)room * sizeof *curve);
    if (curve == NULL)
        return nin__no_memory("the curve");
    trainer->curve = curve;
    trainer->curve_room = room;
    return NIN_OK;
}

/* ---- the next batch ----------------------------------------------------------------------- */

/* The running epoch's order of images follows from seed and epoch alone. */
void nin__trainer_order(nin_trainer *trainer)
{
    const struct nin__progress *progress = &trainer->progress;
    int32_t count = (int32_t)trainer->dataset->info.count;

    if (trainer->ordered_epoch == progress->epoch)
        return;
    if (trainer->shuffle)
        nin__rng_shuffle(trainer->order, count, progress->seed, progress->epoch);
    for (int32_t i = 0; !trainer->shuffle && i < count; i++)
        trainer->order[i] = i;
    trainer->ordered_epoch = progress->epoch;
}

static nin_status next_batch(struct nin__run *run, nin_trainer *trainer)
{
    const struct nin__progress *progress = &trainer->progress;
    const int32_t *index;
    int64_t first;
    int32_t count;

    nin__trainer_order(trainer);
    nin__batch_range(trainer->batches, trainer->dataset->info.count, progress->batch, &first,
                     &count);
    index = trainer->order + first;
    memset(run, 0, sizeof *run);
    NIN__TRY(nin__gather(&run->images, trainer->dataset, index, 0, count, trainer->staging,
                         trainer->labels));
    run->labels = trainer->labels;
    run->step = progress->step;
    run->seed = progress->seed;
    return NIN_OK;
}

/* ---- a step ------------------------------------------------------------------------------- */

static void advance(nin_scheduler *scheduler, nin_unit unit, double metric)
{
    if (scheduler != NULL && scheduler->unit == unit)
        nin_scheduler_advance(scheduler, metric);
}

/* A batch's accuracy as the reference program computes it: a mean in single precision. */
static double batch_accuracy(const nin_result *result)
{
    return (double)((float)result->correct / (float)result->count);
}

static void add_batch(struct nin__progress *progress, const nin_result *result, double rate)
{
    struct nin__epoch_sums *sums = &progress->sums;

    sums->loss += result->loss * (double)result->count;
    sums->metric += batch_accuracy(result);
    sums->correct += result->correct;
    sums->count += result->count;
    sums->flat += result->flat;
    progress->rate = rate;
    progress->due = false; /* the parameters are no longer those of the closed epoch */
    progress->batch++;
    progress->step++;
}

/* ---- the end of an epoch ------------------------------------------------------------------ */

/* A loss this near to ln(classes) has learnt nothing but the frequencies of the classes. */
static const double STALL_DISTANCE = 0.02;

static nin_health examine(nin_trainer *trainer, double loss)
{
    struct nin__progress *progress = &trainer->progress;
    double chance = nin__log((double)trainer->plan->scores.c);

    progress->stalled = fabs(loss - chance) < STALL_DISTANCE ? progress->stalled + 1 : 0;
    if (progress->sums.flat == progress->sums.count)
        return NIN_DEAD_MAPS;
    return progress->stalled >= trainer->stall_epochs ? NIN_STALLED : NIN_HEALTHY;
}

/* The curve has room for it: the step has reserved it. */
static void close_epoch(nin_trainer *trainer)
{
    struct nin__progress *progress = &trainer->progress;
    const struct nin__epoch_sums *sums = &progress->sums;
    nin_epoch_info *info = &trainer->curve[progress->epoch];

    memset(info, 0, sizeof *info);
    info->struct_size = sizeof *info;
    info->epoch = progress->epoch + 1;
    info->steps = progress->step;
    info->rate = progress->rate;
    info->loss = sums->loss / (double)sums->count;
    info->correct = sums->correct;
    info->count = sums->count;
    info->metric = sums->metric;
    info->seconds = sums->seconds;
    info->health = examine(trainer, info->loss);
    trainer->flat = sums->flat;
    advance(trainer->scheduler, NIN_PER_EPOCH, info->metric);
    progress->epoch++;
    progress->batch = 0;
    memset(&progress->sums, 0, sizeof progress->sums);
}

/* ---- public calls ------------------------------------------------------------------------- */

void nin__trainer_count(nin_trainer *trainer, const nin_result *result, double rate, double seconds)
{
    struct nin__progress *progress = &trainer->progress;

    add_batch(progress, result, rate);
    progress->sums.seconds += seconds;
    advance(trainer->scheduler, NIN_PER_STEP, batch_accuracy(result));
    if (progress->batch == trainer->batches.pieces)
        close_epoch(trainer);
}

nin_status nin__trainer_step(nin_result *result, nin_trainer *trainer)
{
    double rate = trainer->optimizer->rate, start = nin__seconds();
    struct nin__run run;

    NIN__TRY(nin__trainer_reserve(trainer, trainer->progress.epoch + 1));
    NIN__TRY(next_batch(&run, trainer));
    NIN__TRY(nin__plan_step(result, trainer->plan, trainer->optimizer, &run));
    nin__trainer_count(trainer, result, rate, nin__seconds() - start);
    return NIN_OK;
}

nin_status nin_trainer_step(nin_result *out, nin_trainer *trainer)
{
    nin_result result;
    nin_status status;

    NIN__NEED(trainer);
    if (out != NULL)
        NIN__TRY(NIN__INFO_CHECK(out, nin_result));
    NIN__TRY(nin__trainer_enter(trainer));
    status = nin__trainer_step(&result, trainer);
    nin__trainer_leave(trainer);
    NIN__TRY(status);
    return out == NULL ? NIN_OK : NIN__INFO_WRITE(out, &result, nin_result);
}

static nin_status step_to_the_end(nin_result *epoch, nin_trainer *trainer)
{
    const int64_t running = trainer->progress.epoch;
    nin_result step;

    do {
        NIN__TRY(nin__trainer_steps(&step, trainer, INT64_MAX, NIN__LOOK));
    } while (trainer->progress.epoch == running);
    epoch->loss = trainer->curve[running].loss;
    epoch->correct = trainer->curve[running].correct;
    epoch->count = trainer->curve[running].count;
    epoch->flat = trainer->flat;
    return NIN_OK;
}

nin_status nin_trainer_epoch(nin_result *out, nin_trainer *trainer)
{
    nin_result epoch = {.struct_size = sizeof epoch};
    nin_status status;

    NIN__NEED(trainer);
    if (out != NULL)
        NIN__TRY(NIN__INFO_CHECK(out, nin_result));
    NIN__TRY(nin__trainer_enter(trainer));
    status = step_to_the_end(&epoch, trainer);
    nin__trainer_leave(trainer);
    NIN__TRY(status);
    return out == NULL ? NIN_OK : NIN__INFO_WRITE(out, &epoch, nin_result);
}
