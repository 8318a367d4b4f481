/* SPDX-License-Identifier: MIT */
/* nin_trainer_fit: epochs with evaluation and callbacks, until a limit is reached. */
#include "core/trainer.h"

#include "core/descriptor.h"
#include "core/error.h"
#include "core/plan.h"

#include <math.h>

static nin_status read_desc(nin_fit_desc *desc, const nin_trainer *trainer,
                            const nin_fit_desc *source)
{
    NIN__TRY(NIN__DESC_READ(desc, source, nin_fit_desc));
    if (desc->epochs < 0 || desc->stall_epochs < 0)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "fit: epochs %lld and stall_epochs %d: neither may be negative",
                         (long long)desc->epochs, desc->stall_epochs);
    if (desc->step_interval < 0)
        return nin__fail(NIN_INVALID_ARGUMENT, "fit: step_interval %lld is negative",
                         (long long)desc->step_interval);
    if (!(desc->stop_rate >= 0.0 && isfinite(desc->stop_rate)))
        return nin__fail(NIN_INVALID_ARGUMENT, "fit: stop_rate %g is negative or not finite",
                         desc->stop_rate);
    if (desc->epochs == 0 && desc->stop_rate == 0.0 && !desc->on_step && !desc->on_epoch)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "fit: without epochs, stop_rate or a callback it would never end");
    if ((desc->test_plan == NULL) != (desc->test_set == NULL))
        return nin__fail(NIN_INVALID_ARGUMENT, "fit: test_plan and test_set go together");
    if (desc->test_plan == NULL)
        return NIN_OK;
    if (desc->test_plan->network != trainer->plan->network || desc->test_plan->program->train)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "fit: test_plan must be an inference plan of the trainer's network");
    return nin__check_dataset(desc->test_plan, desc->test_set);
}

static void describe_step(nin_step_info *info, const nin_trainer *trainer, const nin_result *step,
                          int64_t epoch)
{
    const struct nin__progress *progress = &trainer->progress;
    const struct nin__epoch_sums *sums = &progress->sums;
    const nin_epoch_info *closed = progress->epoch > epoch ? &trainer->curve[epoch] : NULL;

    *info = (nin_step_info){
        .struct_size = sizeof *info,
        .epoch = epoch + 1,
        .batch = closed ? trainer->batches.pieces : progress->batch,
        .batches = trainer->batches.pieces,
        .images = closed ? closed->count : sums->count,
        .step = progress->step,
        .loss = step->loss,
        .accuracy = (double)step->correct / (double)step->count,
        .mean_loss = closed ? closed->loss : sums->loss / (double)sums->count,
        .rate = progress->rate,
    };
    info->mean_accuracy = (double)(closed ? closed->correct : sums->correct) / (double)info->images;
}

/* A fit that is under way. */
struct fit {
    nin_trainer *trainer;
    nin_fit_desc desc;
    bool entered; /* the trainer; not while a callback runs */
    bool stopped; /* a callback said NIN_STOP */
};

static nin_status enter(struct fit *fit)
{
    const int32_t asked = fit->desc.stall_epochs;

    NIN__TRY(nin__trainer_enter(fit->trainer));
    fit->entered = true;
    fit->trainer->stall_epochs = asked > 0 ? asked : NIN__STALL_EPOCHS;
    return NIN_OK;
}

/* Callbacks may call the trainer: it is left for them. */
static void leave(struct fit *fit)
{
    if (fit->entered)
        nin__trainer_leave(fit->trainer);
    fit->entered = false;
}

/* A callback has come back. Where another thread has meanwhile taken the trainer, the fit is
 * over. */
static nin_status take_back(struct fit *fit, nin_status status, uint64_t failures,
                            const char *callback)
{
    fit->stopped = fit->stopped || status == NIN_STOP;
    if (status != NIN_STOP)
        NIN__TRY(nin__callback_status(status, failures, callback));
    return enter(fit);
}

static nin_status call_on_step(struct fit *fit, const nin_result *step, int64_t epoch)
{
    const uint64_t failures = nin__failures();
    nin_step_info info;

    if (fit->desc.on_step == NULL)
        return NIN_OK;
    describe_step(&info, fit->trainer, step, epoch);
    leave(fit);
    return take_back(fit, fit->desc.on_step(&info, fit->desc.user), failures, "on_step");
}

static nin_status call_on_epoch(struct fit *fit)
{
    const uint64_t failures = nin__failures();
    nin_epoch_info info;

    if (fit->desc.on_epoch == NULL)
        return NIN_OK;
    info = fit->trainer->curve[fit->trainer->progress.epoch - 1];
    leave(fit);
    return take_back(fit, fit->desc.on_epoch(&info, fit->desc.user), failures, "on_epoch");
}

/* Steps to the end of the running epoch, or to a callback's NIN_STOP. */
static nin_status run_epoch(struct fit *fit)
{
    nin_trainer *trainer = fit->trainer;
    const int64_t epoch = trainer->progress.epoch;
    const int64_t asked = fit->desc.step_interval;
    const int64_t interval = fit->desc.on_step == NULL ? INT64_MAX : asked > 0 ? asked : 1;
    nin_result step;

    while (trainer->progress.epoch == epoch && !fit->stopped) {
        NIN__TRY(nin__trainer_steps(&step, trainer, interval - trainer->progress.batch % interval,
                                    asked > 0 ? asked : NIN__LOOK));
        /* before the callback, which may save a checkpoint */
        trainer->progress.due = trainer->progress.epoch > epoch;
        if (trainer->progress.batch % interval == 0) /* also at the epoch's end */
            NIN__TRY(call_on_step(fit, &step, epoch));
    }
    return NIN_OK;
}

/* The two plans take turns, so that only one needs memory for its workers at a time. */
static nin_status evaluate(nin_trainer *trainer, const nin_fit_desc *desc)
{
    const int64_t epoch = trainer->progress.epoch - 1;
    double start = nin__seconds();
    nin_epoch_info *info;
    nin_result result;
    nin_status status;

    if (desc->test_plan == NULL)
        return NIN_OK;
    nin__plan_rest(trainer->plan);
    status = nin__evaluate(&result, desc->test_plan, desc->test_set);
    nin__plan_rest(desc->test_plan);
    NIN__TRY(status);
    info = &trainer->curve[epoch]; /* not before: the test set's callback has run */
    info->test_count = result.count;
    info->test_correct = result.correct;
    info->test_loss = result.loss;
    info->seconds += nin__seconds() - start;
    return NIN_OK;
}

/* Evaluation and callback of the epoch closed last, unless they have been. They are still due also
 * when an earlier fit, or the one that wrote a checkpoint, was cut off before them. */
static nin_status finish_epoch(struct fit *fit)
{
    struct nin__progress *progress = &fit->trainer->progress;

    if (!progress->due)
        return NIN_OK;
    NIN__TRY(evaluate(fit->trainer, &fit->desc));
    progress->due = false;
    return call_on_epoch(fit);
}

/* Limits are looked at between epochs only, as in the reference program. */
static bool at_limit(const nin_trainer *trainer, const nin_fit_desc *desc, nin_fit_end *end)
{
    if (trainer->progress.batch != 0)
        return false;
    if (desc->epochs > 0 && trainer->progress.epoch >= desc->epochs) {
        *end = NIN_FIT_EPOCHS;
        return true;
    }
    *end = NIN_FIT_RATE;
    return desc->stop_rate > 0.0 && trainer->optimizer->rate <= desc->stop_rate;
}

static nin_status run_epochs(nin_fit_end *end, struct fit *fit)
{
    NIN__TRY(enter(fit));
    NIN__TRY(finish_epoch(fit));
    while (!fit->stopped && !at_limit(fit->trainer, &fit->desc, end)) {
        NIN__TRY(run_epoch(fit));
        NIN__TRY(finish_epoch(fit));
    }
    if (fit->stopped)
        *end = NIN_FIT_STOPPED;
    return NIN_OK;
}

nin_status nin_trainer_fit(nin_fit_end *out, nin_trainer *trainer, const nin_fit_desc *desc)
{
    struct fit fit = {.trainer = trainer};
    nin_fit_end end = NIN_FIT_STOPPED;
    nin_status status;

    NIN__NEED(trainer);
    NIN__NEED(desc);
    NIN__TRY(read_desc(&fit.desc, trainer, desc));
    status = run_epochs(&end, &fit);
    leave(&fit);
    if (status == NIN_OK && out != NULL)
        *out = end;
    return status;
}
