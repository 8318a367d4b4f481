/* SPDX-License-Identifier: MIT */
#include "core/scheduler.h"

#include "core/descriptor.h"
#include "core/error.h"
#include "core/math.h"
#include "core/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- life --------------------------------------------------------------------------------- */

static nin_status create(nin_scheduler **out, nin_optimizer *optimizer,
                         const struct nin__scheduler_class *class, nin_unit unit)
{
    nin_scheduler *scheduler;

    if (unit != NIN_PER_EPOCH && unit != NIN_PER_STEP)
        return nin__fail(NIN_INVALID_ARGUMENT, "%s: %d is no nin_unit", class->name, (int)unit);
    scheduler = calloc(1, sizeof *scheduler);
    if (scheduler == NULL)
        return nin__no_memory("a scheduler");
    scheduler->class = class;
    scheduler->optimizer = optimizer;
    scheduler->unit = unit;
    scheduler->base_rate = optimizer->rate;
    scheduler->state.best = -INFINITY;
    *out = scheduler;
    return NIN_OK;
}

void nin_scheduler_destroy(nin_scheduler *scheduler)
{
    if (scheduler == NULL)
        return;
    free((void *)scheduler->steps.milestones);
    free(scheduler);
}

nin_unit nin_scheduler_unit(const nin_scheduler *scheduler)
{
    return scheduler->unit;
}

void nin_scheduler_advance(nin_scheduler *scheduler, double metric)
{
    scheduler->state.units++;
    scheduler->class->advance(scheduler, metric);
}

/* ---- plateau ------------------------------------------------------------------------------ */

/* PyTorch's smallest change of the rate that is written (its `eps`). */
static const double SMALLEST_CHANGE = 1e-8;

static void reduce(nin_scheduler *scheduler)
{
    const nin_plateau_desc *desc = &scheduler->plateau;
    double old = scheduler->optimizer->rate;
    double rate = old * desc->factor > desc->min_rate ? old * desc->factor : desc->min_rate;

    if (old - rate > SMALLEST_CHANGE)
        scheduler->optimizer->rate = rate;
    scheduler->state.cool = desc->cooldown;
    scheduler->state.bad = 0;
}

/* torch.optim.lr_scheduler.ReduceLROnPlateau.step, mode 'max', threshold_mode 'rel' */
static void advance_plateau(nin_scheduler *scheduler, double metric)
{
    struct nin__scheduler_state *state = &scheduler->state;

    if (metric > state->best * (1.0 + scheduler->plateau.threshold)) {
        state->best = metric;
        state->bad = 0;
    } else {
        state->bad++;
    }
    if (state->cool > 0) {
        state->cool--;
        state->bad = 0;
    }
    if (state->bad > scheduler->plateau.patience)
        reduce(scheduler);
}

static const struct nin__scheduler_class plateau_class = {"plateau", advance_plateau, false};

static nin_status read_plateau(nin_plateau_desc *desc, const nin_plateau_desc *source)
{
    NIN__TRY(NIN__DESC_READ(desc, source, nin_plateau_desc));
    if ((desc->no_patience | desc->no_threshold) & ~1)
        return nin__fail(NIN_INVALID_ARGUMENT, "plateau: no_patience %d, no_threshold %d; 0 or 1",
                         desc->no_patience, desc->no_threshold);
    if (desc->factor == 0.0)
        desc->factor = 0.1;
    if (desc->patience == 0 && !desc->no_patience)
        desc->patience = 10;
    if (desc->threshold == 0.0 && !desc->no_threshold)
        desc->threshold = 1e-4;
    if (!(desc->factor > 0.0 && desc->factor < 1.0))
        return nin__fail(NIN_INVALID_ARGUMENT, "plateau: factor %g is outside 0 < factor < 1",
                         desc->factor);
    if (desc->patience < 0 || (desc->no_patience && desc->patience != 0))
        return nin__fail(NIN_INVALID_ARGUMENT, "plateau: patience %d with no_patience %d",
                         desc->patience, desc->no_patience);
    if (!(desc->threshold >= 0.0 && isfinite(desc->threshold)) ||
        (desc->no_threshold && desc->threshold != 0.0))
        return nin__fail(NIN_INVALID_ARGUMENT, "plateau: threshold %g with no_threshold %d",
                         desc->threshold, desc->no_threshold);
    if (desc->cooldown < 0)
        return nin__fail(NIN_INVALID_ARGUMENT, "plateau: cooldown %d is negative", desc->cooldown);
    if (!nin__is_rate(desc->min_rate))
        return nin__fail(NIN_INVALID_ARGUMENT, "plateau: min_rate %g is %s", desc->min_rate,
                         nin__not_a_rate(desc->min_rate));
    return NIN_OK;
}

nin_status nin_scheduler_create_plateau(nin_scheduler **out, nin_optimizer *optimizer,
                                        const nin_plateau_desc *source)
{
    nin_plateau_desc desc;

    NIN__NEED(out);
    NIN__NEED(optimizer);
    NIN__TRY(read_plateau(&desc, source));
    NIN__TRY(create(out, optimizer, &plateau_class, desc.unit));
    (*out)->plateau = desc;
    return NIN_OK;
}

/* ---- steps -------------------------------------------------------------------------------- */

static void advance_steps(nin_scheduler *scheduler, double metric)
{
    double rate = scheduler->optimizer->rate * scheduler->steps.factor;

    (void)metric;
    /* a growing rate stops before it is infinite */
    for (int32_t i = 0; nin__is_rate(rate) && i < scheduler->steps.count; i++)
        if (scheduler->steps.milestones[i] == scheduler->state.units)
            scheduler->optimizer->rate = rate;
}

static const struct nin__scheduler_class steps_class = {"steps", advance_steps, true};

static nin_status read_steps(nin_steps_desc *desc, const nin_steps_desc *source)
{
    NIN__TRY(NIN__DESC_READ(desc, source, nin_steps_desc));
    if (desc->factor == 0.0)
        desc->factor = 0.1;
    if (!nin__is_rate(desc->factor))
        return nin__fail(NIN_INVALID_ARGUMENT, "steps: factor %g is %s", desc->factor,
                         nin__not_a_rate(desc->factor));
    if (desc->count < 1 || desc->milestones == NULL)
        return nin__fail(NIN_INVALID_ARGUMENT, "steps: needs at least one milestone");
    for (int32_t i = 0; i < desc->count; i++)
        if (desc->milestones[i] < 1 || (i > 0 && desc->milestones[i] <= desc->milestones[i - 1]))
            return nin__fail(NIN_INVALID_ARGUMENT,
                             "steps: milestone %lld at place %d; they must be >= 1 and ascend",
                             (long long)desc->milestones[i], i);
    return NIN_OK;
}

nin_status nin_scheduler_create_steps(nin_scheduler **out, nin_optimizer *optimizer,
                                      const nin_steps_desc *desc)
{
    nin_steps_desc steps;
    int64_t *milestones;
    nin_status status;

    NIN__NEED(out);
    NIN__NEED(optimizer);
    NIN__NEED(desc);
    NIN__TRY(read_steps(&steps, desc));
    milestones = malloc((size_t)steps.count * sizeof *milestones);
    if (milestones == NULL)
        return nin__no_memory("a scheduler");
    memcpy(milestones, steps.milestones, (size_t)steps.count * sizeof *milestones);
    status = create(out, optimizer, &steps_class, steps.unit);
    if (status != NIN_OK) {
        free(milestones);
        return status;
    }
    steps.milestones = milestones;
    (*out)->steps = steps;
    return NIN_OK;
}

/* ---- cosine ------------------------------------------------------------------------------- */

static double cosine_rate(const nin_scheduler *scheduler)
{
    const nin_cosine_desc *desc = &scheduler->cosine;
    double base = scheduler->base_rate, sine, cosine;
    int64_t unit = scheduler->state.units;

    if (unit < desc->warm_up)
        return base * (double)(unit + 1) / (double)desc->warm_up;
    if (unit >= desc->total)
        return desc->end_rate;
    nin__sincospi((double)(unit - desc->warm_up) / (double)(desc->total - desc->warm_up), &sine,
                  &cosine);
    return desc->end_rate + (base - desc->end_rate) * (1.0 + cosine) / 2.0;
}

static void advance_cosine(nin_scheduler *scheduler, double metric)
{
    (void)metric;
    scheduler->optimizer->rate = cosine_rate(scheduler);
}

static const struct nin__scheduler_class cosine_class = {"cosine", advance_cosine, true};

nin_status nin_scheduler_create_cosine(nin_scheduler **out, nin_optimizer *optimizer,
                                       const nin_cosine_desc *desc)
{
    nin_cosine_desc cosine;

    NIN__NEED(out);
    NIN__NEED(optimizer);
    NIN__NEED(desc);
    NIN__TRY(NIN__DESC_READ(&cosine, desc, nin_cosine_desc));
    if (cosine.warm_up < 0 || cosine.total <= cosine.warm_up)
        return nin__fail(NIN_INVALID_ARGUMENT, "cosine: warm_up %lld of total %lld units",
                         (long long)cosine.warm_up, (long long)cosine.total);
    if (!nin__is_rate(cosine.end_rate))
        return nin__fail(NIN_INVALID_ARGUMENT, "cosine: end_rate %g is %s", cosine.end_rate,
                         nin__not_a_rate(cosine.end_rate));
    NIN__TRY(create(out, optimizer, &cosine_class, cosine.unit));
    (*out)->cosine = cosine;
    optimizer->rate = cosine_rate(*out);
    return NIN_OK;
}
