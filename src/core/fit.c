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
        return nin__fail(NIN_INVALID_ARGUMENT, "fit: epochs %lld or stall_epochs %d is negative",
                         (long long)desc->epochs, desc->stall_epochs);
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

/* Steps to the end of the running epoch, or to a callback's NIN_STOP, which is kept in *stopped. */
static nin_status run_epoch(nin_trainer *trainer, const nin_fit_desc *desc, bool *stopped)
{
    int64_t epoch = trainer->progress.epoch;
    nin_step_info info;
    nin_result step;

    while (trainer->progress.epoch == epoch && !*stopped) {
        nin_status status = NIN_OK;
        uint64_t failures = 0;

        NIN__TRY(nin__trainer_step(&step, trainer));
        /* before the callback, which may save a checkpoint */
        trainer->progress.due = trainer->progress.epoch > epoch;
        if (desc->on_step != NULL) {
            describe_step(&info, trainer, &step, epoch);
            failures = nin__failures();
            status = desc->on_step(&info, desc->user);
        }
        *stopped = status == NIN_STOP;
        if (status != NIN_STOP)
            NIN__TRY(nin__callback_status(status, failures, "on_step"));
    }
    return NIN_OK;
}

static nin_status evaluate(nin_trainer *trainer, const nin_fit_desc *desc)
{
    nin_epoch_info *info = &trainer->curve[trainer->progress.epoch - 1];
    double start = nin__seconds();
    nin_result result;

    if (desc->test_plan == NULL)
        return NIN_OK;
    NIN__TRY(nin__evaluate(&result, desc->test_plan, desc->test_set));
    info->test_count = result.count;
    info->test_correct = result.correct;
    info->test_loss = result.loss;
    info->seconds += nin__seconds() - start;
    return NIN_OK;
}

/* Evaluation and callback of the epoch closed last, unless they have been. They are still due also when
 * an earlier fit, or the one that wrote a checkpoint, was cut off before them. */
static nin_status finish_epoch(nin_trainer *trainer, const nin_fit_desc *desc, bool *stopped)
{
    nin_epoch_info info;
    uint64_t failures;
    nin_status status;

    if (!trainer->progress.due)
        return NIN_OK;
    NIN__TRY(evaluate(trainer, desc));
    trainer->progress.due = false;
    if (desc->on_epoch == NULL)
        return NIN_OK;
    info = trainer->curve[trainer->progress.epoch - 1];
    failures = nin__failures();
    status = desc->on_epoch(&info, desc->user);
    *stopped = *stopped || status == NIN_STOP;
    return status == NIN_STOP ? NIN_OK : nin__callback_status(status, failures, "on_epoch");
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

nin_status nin_trainer_fit(nin_fit_end *out, nin_trainer *trainer, const nin_fit_desc *source)
{
    nin_fit_end end = NIN_FIT_STOPPED;
    bool stopped = false;
    nin_fit_desc desc;

    NIN__NEED(trainer);
    NIN__NEED(source);
    NIN__TRY(read_desc(&desc, trainer, source));
    trainer->stall_epochs = desc.stall_epochs > 0 ? desc.stall_epochs : NIN__STALL_EPOCHS;
    NIN__TRY(finish_epoch(trainer, &desc, &stopped));
    while (!stopped && !at_limit(trainer, &desc, &end)) {
        NIN__TRY(run_epoch(trainer, &desc, &stopped));
        NIN__TRY(finish_epoch(trainer, &desc, &stopped));
    }
    if (stopped)
        end = NIN_FIT_STOPPED;
    if (out != NULL)
        *out = end;
    return NIN_OK;
}
