/* SPDX-License-Identifier: MIT */
/* What is done once a step for all parameters: a check of the gradient, and SGD over the arena (formula in
 * nin/optimizer.h). */
#include "cuda/launch.h"

namespace
{

/* What no index is. */
const unsigned long long NONE = ~0ull;

__global__ void __launch_bounds__(BLOCK)
    find_bad(unsigned long long *bad, const float *values, size_t count)
{
    FOR_EACH_ELEMENT (i, count)
        if (!(values[i] - values[i] == 0.0f)) /* NaN, or an infinity */
            atomicMin(bad, (unsigned long long)i);
}

/* One thread for each parameter; those of no span stay. */
__global__ void __launch_bounds__(BLOCK)
    update_spans(float *parameters, float *momentum, const float *gradient, size_t count,
                 const struct nin__update_span *spans, int32_t span_count, float factor,
                 bool nesterov)
{
    FOR_EACH_ELEMENT (i, count) {
        int32_t s = 0;

        while (s < span_count && i - spans[s].first >= spans[s].count)
            s++;
        if (s < span_count) {
            float g = gradient[i] + spans[s].decay * parameters[i];
            float m = factor * momentum[i] + g;

            momentum[i] = m;
            parameters[i] -= spans[s].rate * (nesterov ? g + factor * m : m);
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

nin_status nin__cuda_check_finite(struct nin__executable *executable, const float *values,
                                  size_t count, size_t *bad)
{
    struct nin__device *device = executable->device;
    unsigned long long found = NONE;
    struct cuda_scope scope(device);

    NIN__TRY(scope.status);
    NIN__TRY(nin__cuda_check(device,
                             cudaMemsetAsync(executable->bad, 0xff, sizeof found, device->stream),
                             "a check of the gradient"));
    NIN__TRY(nin__cuda_launch(device, count, find_bad, executable->bad, values, count));
    NIN__TRY(nin__cuda_check(device,
                             cudaMemcpyAsync(&found, executable->bad, sizeof found,
                                             cudaMemcpyDeviceToHost, device->stream),
                             "the gradient's check from the device"));
    NIN__TRY(nin__cuda_wait(device));
    *bad = found == NONE ? count : (size_t)found;
    return NIN_OK;
}

nin_status nin__cuda_update(struct nin__executable *executable, const struct nin__update *update)
{
    struct nin__device *device = executable->device;
    size_t count = end_of(update);
    struct cuda_scope scope(device);

    NIN__TRY(scope.status);
    NIN__TRY(nin__cuda_check(device,
                             cudaMemcpyAsync(executable->spans, update->spans,
                                             (size_t)update->span_count * sizeof *update->spans,
                                             cudaMemcpyHostToDevice, device->stream),
                             "the rates to the device"));
    NIN__TRY(nin__cuda_launch(device, count, update_spans, update->parameters, update->momentum,
                              update->gradient, count,
                              (const struct nin__update_span *)executable->spans,
                              update->span_count, update->momentum_factor, update->nesterov));
    return nin__cuda_wait(device);
}
