/* SPDX-License-Identifier: MIT */
/* Stretches of a trainer: steps that a device takes one after another by itself, on a copy of the
 * data set that it holds, or on batches that the host gathers ahead. The host knows beforehand what
 * each step is (its images, its rate) and adds the results up as they come, as after single steps.
 * The step that a stretch ends before, if it is not the last, is taken alone, to fail as it does
 * there. */
#include "core/trainer.h"

#include "core/error.h"
#include "core/plan.h"

#include <stdlib.h>
#include <string.h>

/* 4 MiB of them, whatever the batch and the network are: longer stretches are cut. */
static const int64_t MOST_RATES = 1 << 20;

static const struct nin__backend *backend_of(const nin_trainer *trainer)
{
    return trainer->plan->network->context->backend;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- what they need -------------------------------------------------------------------------- */

void nin__ahead_free(struct nin__ahead *ahead)
{
    if (ahead->resident != NULL)
        ahead->context->backend->unload(ahead->context->device, ahead->resident);
    nin_context_destroy(ahead->context);
    free(ahead->rates);
    *ahead = (struct nin__ahead){.hidden = ahead->hidden, .tried = true};
}

/* Of arrays that have been changed meanwhile they may be none; a single step then says so. */
static bool are_classes(const int32_t *labels, int64_t count, int32_t classes)
{
    for (int64_t i = 0; i < count; i++)
        if (labels[i] < 0 || labels[i] >= classes)
            return false;
    return true;
}

/* Steps of a stretch: those of an epoch, unless they have too many rates. */
static int64_t most_steps(const nin_trainer *trainer, int32_t spans)
{
    const int64_t hidden = trainer->ahead.hidden.steps;

    return least(trainer->batches.pieces, hidden > 0 ? hidden : MOST_RATES / spans);
}

/* Gives whether there can be stretches. */
static bool load(nin_trainer *trainer)
{
    const nin_dataset *dataset = trainer->dataset;
    const int32_t spans = 2 * trainer->plan->network->layer_count;
    struct nin__ahead *ahead = &trainer->ahead;
    struct nin__samples samples = {.images = dataset->images,
                                   .labels = dataset->labels,
                                   .count = dataset->info.count,
                                   .image_bytes = dataset->image_bytes,
                                   .steps = most_steps(trainer, spans),
                                   .batch = (int32_t)trainer->batches.size,
                                   .spans = spans,
                                   .apart = ahead->hidden.apart};

    ahead->steps = samples.steps;
    if (samples.steps < 2 || !are_classes(samples.labels, samples.count, trainer->plan->scores.c))
        return false;
    ahead->context = nin__context_retain(trainer->plan->network->context);
    ahead->rates = malloc((size_t)samples.steps * (size_t)samples.spans * sizeof *ahead->rates);
    return ahead->rates != NULL &&
           backend_of(trainer)->load(&ahead->resident, ahead->context->device, &samples) ==
               NIN_OK &&
           ahead->resident != NULL;
}

/* A plateau per step sees the result of each; a callback's images may be other ones each time. What
 * there is no memory for is not needed. */
static bool is_possible(nin_trainer *trainer)
{
    const nin_scheduler *scheduler = trainer->scheduler;

    if (backend_of(trainer)->steps == NULL || trainer->dataset->images == NULL ||
        (scheduler != NULL && scheduler->unit == NIN_PER_STEP && !scheduler->class->blind))
        return false;
    if (!trainer->ahead.tried && !load(trainer))
        nin__ahead_free(&trainer->ahead);
    trainer->ahead.tried = true;
    return trainer->ahead.resident != NULL;
}

/* ---- one of them ----------------------------------------------------------------------------- */

static nin_status put_rates(float **rates, const nin_trainer *trainer)
{
    struct nin__update update;

    NIN__TRY(nin__optimizer_describe(&update, trainer->optimizer, trainer->plan));
    for (int32_t i = 0; i < update.span_count; i++)
        *(*rates)++ = update.spans[i].rate;
    return NIN_OK;
}

/* Gives how many of `most` coming steps have rates: the scheduler runs ahead, and is set back. */
static int64_t find_rates(nin_trainer *trainer, int64_t most)
{
    nin_scheduler *scheduler = trainer->scheduler;
    const bool advances = scheduler != NULL && scheduler->unit == NIN_PER_STEP;
    const struct nin__scheduler_state state =
        advances ? scheduler->state : (struct nin__scheduler_state){0};
    const double rate = trainer->optimizer->rate;
    float *rates = trainer->ahead.rates;
    int64_t steps = 0;

    while (steps < most && put_rates(&rates, trainer) == NIN_OK) {
        steps++;
        if (advances)
            nin_scheduler_advance(scheduler, 0.0);
    }
    if (advances)
        scheduler->state = state;
    trainer->optimizer->rate = rate;
    return steps;
}

static struct nin__stretch describe(nin_trainer *trainer, int64_t steps, int64_t look)
{
    const struct nin__progress *progress = &trainer->progress;
    const int64_t first = progress->batch * trainer->batches.size;
    const int64_t left = trainer->dataset->info.count - first;
    struct nin__stretch stretch = {.resident = trainer->ahead.resident,
                                   .batch = (int32_t)trainer->batches.size,
                                   .look = look,
                                   .rates = trainer->ahead.rates};

    nin__trainer_order(trainer);
    stretch.run.images.base = trainer->dataset->images;
    stretch.run.images.index = trainer->order + first;
    stretch.run.images.dtype = trainer->dataset->info.dtype;
    stretch.run.images.count = (int32_t)least(left, steps * trainer->batches.size);
    stretch.run.labels = trainer->dataset->labels;
    stretch.run.step = progress->step;
    stretch.run.seed = progress->seed;
    return stretch;
}

/* Who is given the results of a stretch's steps. */
struct taker {
    nin_trainer *trainer;
    nin_result *result; /* the last step's */
    double since;       /* when the step before it was counted */
};

/* The time that has passed is this step's, whenever it ran: in the end it is the epoch's. */
static void take(void *user, const double *losses, const uint8_t *marks, int32_t images)
{
    struct taker *taker = user;
    nin_trainer *trainer = taker->trainer;
    const double now = nin__seconds();

    nin__sum_up(taker->result, losses, marks, images);
    nin__trainer_count(trainer, taker->result, trainer->optimizer->rate, now - taker->since);
    taker->since = now;
}

/* Gives in *done how many of the steps have been taken. */
static nin_status take_stretch(int64_t *done, nin_result *result, nin_trainer *trainer,
                               int64_t steps, int64_t look)
{
    struct taker taker = {trainer, result, nin__seconds()};
    struct nin__stretch stretch;

    NIN__TRY(nin__trainer_reserve(trainer, trainer->progress.epoch + 1));
    stretch = describe(trainer, steps, look);
    stretch.take = take;
    stretch.taker = &taker;
    return nin__plan_steps(done, trainer->plan, trainer->optimizer, &stretch);
}

nin_status nin__trainer_steps(nin_result *result, nin_trainer *trainer, int64_t most, int64_t look)
{
    int64_t steps = least(most, trainer->batches.pieces - trainer->progress.batch), done = 0;

    if (steps > 1 && is_possible(trainer)) {
        steps = find_rates(trainer, least(steps, trainer->ahead.steps));
        if (steps > 1)
            NIN__TRY(take_stretch(&done, result, trainer, steps, look));
        if (done > 0 && done == steps)
            return NIN_OK;
    }
    return nin__trainer_step(result, trainer);
}
