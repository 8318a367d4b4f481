/* SPDX-License-Identifier: MIT */
/* Losses and marks of a stretch's images come down while it runs, each once, to pinned memory of
 * the host, and how many of them are good. Behind the copies there is an event, and the host asks
 * now and then whether the device has come to it, but never waits: while it has not, later copies
 * go without one, and the next event is behind them all. */
#include "cuda/cuda.h"

#include <stdlib.h>

struct cuda_results {
    struct cuda_outcome device, host;
    void *pinned; /* all of the host's */
    cudaEvent_t event;
    size_t fetched; /* images whose copies have been started, */
    size_t marked;  /* of which the first have the event behind them, */
    size_t arrived; /* and whose copies are over */
    int64_t taken;  /* steps that have been handed out */
};

namespace
{

nin_status make_parts(struct cuda_results *results, struct nin__device *device, size_t images)
{
    size_t bytes = 0;
    size_t losses = nin__cuda_deal(&bytes, images * sizeof(double));
    size_t marks = nin__cuda_deal(&bytes, images);
    size_t good = nin__cuda_deal(&bytes, sizeof(uint32_t));
    char *pinned;

    NIN__TRY(nin__cuda_check(device, cudaHostAlloc(&results->pinned, bytes, cudaHostAllocPortable),
                             "the host's memory for losses"));
    pinned = (char *)results->pinned;
    results->host.losses = (double *)(void *)(pinned + losses);
    results->host.marks = (uint8_t *)(pinned + marks);
    results->host.good = (uint32_t *)(void *)(pinned + good);
    return nin__cuda_make_event(&results->event, device);
}

/* Of what has arrived. A later copy may be writing the number, which only grows. Where nothing has,
 * the memory may be gone with the device. */
size_t count_good(const struct cuda_results *results)
{
    size_t good =
        results->arrived == 0 ? 0 : (size_t) * (const volatile uint32_t *)results->host.good;

    return good < results->arrived ? good : results->arrived;
}

} // namespace

nin_status nin__cuda_make_results(struct cuda_results **out, struct nin__device *device,
                                  struct cuda_outcome outcome, size_t images)
{
    struct cuda_results *results = (struct cuda_results *)calloc(1, sizeof *results);
    nin_status status;

    if (results == NULL)
        return nin__no_memory("the results of a stretch");
    results->device = outcome;
    status = make_parts(results, device, images);
    if (status != NIN_OK) {
        nin__cuda_free_results(results, true);
        return status;
    }
    *out = results;
    return NIN_OK;
}

void nin__cuda_free_results(struct cuda_results *results, bool there)
{
    if (results == NULL)
        return;
    if (there && results->event != NULL)
        nin__cuda_drop(cudaEventDestroy(results->event));
    if (there)
        nin__cuda_drop(cudaFreeHost(results->pinned));
    free(results);
}

void nin__cuda_begin_results(struct cuda_results *results)
{
    results->fetched = results->marked = results->arrived = 0;
    results->taken = 0;
}

nin_status nin__cuda_fetch_results(struct cuda_results *results, struct nin__device *device,
                                   size_t images)
{
    size_t first = results->fetched;
    const struct cuda_outcome *from = &results->device, *to = &results->host;

    if (images > first) {
        NIN__TRY(nin__cuda_download(device, to->losses + first, from->losses + first,
                                    (images - first) * sizeof *to->losses,
                                    "losses from the device"));
        NIN__TRY(nin__cuda_download(device, to->marks + first, from->marks + first, images - first,
                                    "marks from the device"));
    }
    NIN__TRY(nin__cuda_download(device, to->good, from->good, sizeof *to->good,
                                "the place of a stretch"));
    results->fetched = images;
    return NIN_OK;
}

/* What an event says that has not been reached is an error to CUDA, but none to us; others come
 * back with the next call that is checked. */
nin_status nin__cuda_look_for_results(struct cuda_results *results, struct nin__device *device,
                                      size_t images)
{
    if (results->marked > results->arrived) {
        cudaError_t error = cudaEventQuery(results->event);

        nin__cuda_drop(error);
        if (error == cudaSuccess)
            results->arrived = results->marked;
    }
    NIN__TRY(nin__cuda_fetch_results(results, device, images));
    if (results->marked > results->arrived)
        return NIN_OK;
    NIN__TRY(nin__cuda_record(results->event, device, device->stream));
    results->marked = results->fetched;
    return NIN_OK;
}

void nin__cuda_end_results(struct cuda_results *results, bool there)
{
    results->arrived = there ? results->fetched : 0;
}

int64_t nin__cuda_hand_out(struct cuda_results *results, const struct nin__stretch *stretch)
{
    size_t good = count_good(results), all = (size_t)stretch->run.images.count;
    size_t batch = (size_t)stretch->batch;

    while ((size_t)results->taken * batch < good) {
        size_t first = (size_t)results->taken * batch, left = all - first;

        stretch->take(stretch->taker, results->host.losses + first, results->host.marks + first,
                      (int32_t)(left < batch ? left : batch));
        results->taken++;
    }
    return results->taken;
}
