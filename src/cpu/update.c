/* SPDX-License-Identifier: MIT */
/* SGD over the parameter arena (formula in nin/optimizer.h). */
#include "cpu/cpu.h"

#include <math.h>

nin_status nin__cpu_check_finite(struct nin__device *device, const float *values, size_t count,
                                 size_t *bad)
{
    (void)device;
    for (*bad = 0; *bad < count; ++*bad)
        if (!isfinite(values[*bad]))
            break;
    return NIN_OK;
}

static void update_span(const struct nin__update *update, const struct nin__update_span *span)
{
    float *restrict p = update->parameters + span->first;
    float *restrict m = update->momentum + span->first;
    const float *restrict gradient = update->gradient + span->first;
    const float factor = update->momentum_factor, nesterov = update->nesterov ? factor : 0.0f;

    for (size_t i = 0; i < span->count; i++) {
        float g = gradient[i] + span->decay * p[i];

        m[i] = factor * m[i] + g;
        p[i] -= span->rate * (update->nesterov ? g + nesterov * m[i] : m[i]);
    }
}

nin_status nin__cpu_update(struct nin__device *device, const struct nin__update *update)
{
    (void)device;
    for (int32_t i = 0; i < update->span_count; i++)
        update_span(update, &update->spans[i]);
    return NIN_OK;
}
