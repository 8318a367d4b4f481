/* SPDX-License-Identifier: MIT */
/* What is done once a step for all parameters, in shares of the workers: a check of the gradient,
 * and SGD over the arena (formula in nin/optimizer.h). */
#include "cpu/cpu.h"
#include "cpu/workers.h"

#include <math.h>

/* Floats that a share is made of: whole cache lines. */
enum {
    SHARE_BLOCK = 1024
};

struct check {
    const float *values;
    size_t count, workers;
    size_t *bad; /* of each worker */
};

static void check_share(void *argument, int32_t worker)
{
    struct check *check = argument;
    size_t i, end;

    nin__cpu_share_range((struct cpu_share){worker, (int32_t)check->workers}, check->count,
                         SHARE_BLOCK, &i, &end);
    while (i < end && isfinite(check->values[i]))
        i++;
    check->bad[worker] = i < end ? i : check->count;
}

nin_status nin__cpu_check_finite(struct nin__executable *executable, const float *values,
                                 size_t count, size_t *bad)
{
    struct check check = {.values = values, .count = count, .bad = executable->bad};

    check.workers = (size_t)nin__cpu_workers_count(executable->workers);
    nin__cpu_workers_run(executable->workers, check_share, &check);
    *bad = count;
    for (size_t w = 0; w < check.workers; w++)
        if (check.bad[w] < *bad)
            *bad = check.bad[w];
    return NIN_OK;
}

struct step {
    const struct nin__update *update;
    int32_t workers;
};

static void update_span(const struct nin__update *update, const struct nin__update_span *span,
                        size_t begin, size_t end)
{
    float *restrict p = update->parameters + span->first;
    float *restrict m = update->momentum + span->first;
    const float *restrict gradient = update->gradient + span->first;
    const float factor = update->momentum_factor, nesterov = update->nesterov ? factor : 0.0f;

    for (size_t i = begin; i < end; i++) {
        float g = gradient[i] + span->decay * p[i];

        m[i] = factor * m[i] + g;
        p[i] -= span->rate * (update->nesterov ? g + nesterov * m[i] : m[i]);
    }
}

static void update_share(void *argument, int32_t worker)
{
    const struct step *step = argument;

    for (int32_t i = 0; i < step->update->span_count; i++) {
        const struct nin__update_span *span = &step->update->spans[i];
        size_t first, end;

        nin__cpu_share_range((struct cpu_share){worker, step->workers}, span->count, SHARE_BLOCK,
                             &first, &end);
        update_span(step->update, span, first, end);
    }
}

nin_status nin__cpu_update(struct nin__executable *executable, const struct nin__update *update)
{
    struct step step = {update, nin__cpu_workers_count(executable->workers)};

    nin__cpu_workers_run(executable->workers, update_share, &step);
    return NIN_OK;
}
