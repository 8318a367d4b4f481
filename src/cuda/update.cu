/* SPDX-License-Identifier: MIT */
/* What is done once a step for all parameters: a check of the gradient, and SGD over the arena
 * (formula in nin/optimizer.h). */
#include "cuda/launch.h"

#include <string.h>

namespace
{

/* What no index is. */
const unsigned long long NONE = ~0ull;

__global__ void __launch_bounds__(BLOCK) find_bad(struct cuda_bad *bad, const float *gradient,
                                                  size_t count, const double *losses, size_t images)
{
    FOR_EACH_ELEMENT (i, count)
        if (!(gradient[i] - gradient[i] == 0.0f)) /* NaN, or an infinity */
            atomicMin(&bad->gradient, (unsigned long long)i);
    FOR_EACH_ELEMENT (i, images)
        if (!(losses[i] - losses[i] == 0.0))
            atomicMin(&bad->loss, (unsigned long long)i);
}

/* One thread for each parameter; those of no span stay, and where something is bad all do. What it
 * takes is asked for before that is known. bad: NULL, or what was found */
__global__ void __launch_bounds__(BLOCK)
    update_spans(float *parameters, float *momentum, const float *gradient, size_t count,
                 const struct nin__update_span *spans, int32_t span_count,
                 const struct cuda_numbers *numbers, const struct cuda_bad *bad)
{
    float factor = numbers->momentum_factor;
    bool nesterov = numbers->nesterov != 0;

    FOR_EACH_ELEMENT (i, count) {
        float g = gradient[i], m = momentum[i], p = parameters[i];
        bool good = bad == NULL || (bad->gradient & bad->loss) == NONE;
        int32_t s = 0;

        while (s < span_count && i - spans[s].first >= spans[s].count)
            s++;
        if (s < span_count && good) {
            const struct nin__update_span span = spans[s];

            g += span.decay * p;
            m = factor * m + g;
            momentum[i] = m;
            parameters[i] = p - span.rate * (nesterov ? g + factor * m : m);
        }
    }
}

size_t end_of(const struct nin__update *update)
{
    size_t end = 0;

    for (int32_t i = 0; i < update->span_count; i++) {
        size_t last = update->spans[i].first + update->spans[i].count;

        end = last > end ? last : end;
    }
    return end;
}

} // namespace

/* The last run has waited, so nobody reads the staging. */
void nin__cuda_stage_update(struct nin__executable *executable, const struct nin__update *update)
{
    struct cuda_staging *staging = &executable->staging;

    staging->numbers->momentum_factor = update->momentum_factor;
    staging->numbers->nesterov = update->nesterov;
    memcpy(staging->spans, update->spans, (size_t)update->span_count * sizeof *update->spans);
}

nin_status nin__cuda_upload_spans(struct nin__executable *executable,
                                  const struct nin__update *update)
{
    return nin__cuda_upload(executable->device, executable->spans, executable->staging.spans,
                            (size_t)update->span_count * sizeof *update->spans,
                            "the rates to the device");
}

nin_status nin__cuda_clear_check(struct nin__executable *executable)
{
    struct nin__device *device = executable->device;

    return nin__cuda_check(
        device, cudaMemsetAsync(executable->bad, 0xff, sizeof *executable->bad, device->stream),
        "a check of the gradient");
}

nin_status nin__cuda_start_check(struct nin__executable *executable, const float *gradient,
                                 size_t count, int32_t losses)
{
    size_t images = (size_t)losses;

    return nin__cuda_launch(executable->device, count > images ? count : images, find_bad,
                            executable->bad, gradient, count, (const double *)executable->losses,
                            images);
}

nin_status nin__cuda_download_check(struct nin__executable *executable)
{
    return nin__cuda_download(executable->device, executable->staging.bad, executable->bad,
                              sizeof *executable->bad, "the gradient's check from the device");
}

nin_status nin__cuda_start_update(struct nin__executable *executable,
                                  const struct nin__update *update, bool heed)
{
    size_t count = end_of(update);

    return nin__cuda_launch(
        executable->device, count, update_spans, update->parameters, update->momentum,
        update->gradient, count, (const struct nin__update_span *)executable->spans,
        update->span_count, (const struct cuda_numbers *)executable->numbers,
        heed ? (const struct cuda_bad *)executable->bad : (const struct cuda_bad *)NULL);
}

nin_status nin__cuda_check_finite(struct nin__executable *executable, const float *values,
                                  size_t count, size_t *bad)
{
    struct cuda_scope scope(executable->device);

    nin_status status, end;

    NIN__TRY(scope.status);
    status = nin__cuda_clear_check(executable);
    if (status == NIN_OK)
        status = nin__cuda_start_check(executable, values, count, 0);
    if (status == NIN_OK)
        status = nin__cuda_download_check(executable);
    end = nin__cuda_wait(executable->device); /* also then: the staging is being written */
    NIN__TRY(status);
    NIN__TRY(end);
    *bad = executable->staging.bad->gradient == NONE ? count
                                                     : (size_t)executable->staging.bad->gradient;
    return NIN_OK;
}

nin_status nin__cuda_update(struct nin__executable *executable, const struct nin__update *update)
{
    struct nin__device *device = executable->device;
    struct cuda_scope scope(device);
    nin_status status, end;

    NIN__TRY(scope.status);
    nin__cuda_stage_update(executable, update);
    status = nin__cuda_upload(device, executable->numbers, executable->staging.numbers,
                              sizeof *executable->numbers, "a step's numbers to the device");
    if (status == NIN_OK)
        status = nin__cuda_upload_spans(executable, update);
    if (status == NIN_OK)
        status = nin__cuda_start_update(executable, update, false);
    end = nin__cuda_wait(device); /* also then: the staging is being read */
    NIN__TRY(status);
    return end == NIN_OK ? NIN_OK
                         : nin__cuda_kill(device, "cuda: nobody knows whether an update was made; "
                                                  "the context can no longer be used");
}
