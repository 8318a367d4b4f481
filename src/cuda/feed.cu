/* SPDX-License-Identifier: MIT */
/* Batches for a device that has no room for the data set: the host gathers them, and a stream of
 * their own takes them up while the step before runs. There is a ring of slots for batches in
 * pinned memory, and one in the device's. Of these the step that runs reads one, the next batches
 * go up to others, and the host waits for nothing but a slot. */
#include "cuda/cuda.h"

#include <stdlib.h>

struct cuda_feed {
    size_t image_bytes, batch_bytes;
    char *images; /* the device's: [slot][image] */
    void *pinned; /* likewise, the host's */
    cudaStream_t stream;
    cudaEvent_t up[CUDA_SLOTS];   /* the batch is on the device */
    cudaEvent_t used[CUDA_SLOTS]; /* its step is over */
};

namespace
{

nin_status make_parts(struct cuda_feed *feed, struct nin__device *device)
{
    NIN__TRY(nin__cuda_check(
        device, cudaHostAlloc(&feed->pinned, CUDA_SLOTS * feed->batch_bytes, cudaHostAllocPortable),
        "the host's memory for batches"));
    NIN__TRY(nin__cuda_check(
        device, cudaStreamCreateWithFlags(&feed->stream, cudaStreamNonBlocking), "a stream"));
    for (int i = 0; i < CUDA_SLOTS; i++) {
        NIN__TRY(nin__cuda_make_event(&feed->up[i], device));
        NIN__TRY(nin__cuda_make_event(&feed->used[i], device));
    }
    return NIN_OK;
}

nin_status wait_in(cudaStream_t stream, struct nin__device *device, cudaEvent_t event)
{
    return nin__cuda_check(device, cudaStreamWaitEvent(stream, event, 0),
                           "the wait of a stream for another one");
}

/* From the pinned slot to the device's, when the step that read what is there is over. */
nin_status upload(const struct cuda_feed *feed, struct nin__device *device, int slot, size_t bytes)
{
    size_t at = (size_t)slot * feed->batch_bytes;

    NIN__TRY(wait_in(feed->stream, device, feed->used[slot]));
    NIN__TRY(nin__cuda_check(device,
                             cudaMemcpyAsync(feed->images + at, (char *)feed->pinned + at, bytes,
                                             cudaMemcpyHostToDevice, feed->stream),
                             "images to the device"));
    NIN__TRY(nin__cuda_record(feed->up[slot], device, feed->stream));
    return wait_in(device->stream, device, feed->up[slot]);
}

} // namespace

nin_status nin__cuda_make_feed(struct cuda_feed **out, struct nin__device *device, char *images,
                               size_t image_bytes, int32_t batch)
{
    struct cuda_feed *feed = (struct cuda_feed *)calloc(1, sizeof *feed);
    nin_status status;

    if (feed == NULL)
        return nin__no_memory("a feed of batches");
    feed->images = images;
    feed->image_bytes = image_bytes;
    feed->batch_bytes = (size_t)batch * image_bytes;
    status = make_parts(feed, device);
    if (status != NIN_OK) {
        nin__cuda_free_feed(feed, true);
        return status;
    }
    *out = feed;
    return NIN_OK;
}

void nin__cuda_free_feed(struct cuda_feed *feed, bool there)
{
    if (feed == NULL)
        return;
    if (there && feed->stream != NULL)
        nin__cuda_drop(cudaStreamSynchronize(feed->stream));
    for (int i = 0; there && i < CUDA_SLOTS; i++) {
        if (feed->up[i] != NULL)
            nin__cuda_drop(cudaEventDestroy(feed->up[i]));
        if (feed->used[i] != NULL)
            nin__cuda_drop(cudaEventDestroy(feed->used[i]));
    }
    if (there && feed->stream != NULL)
        nin__cuda_drop(cudaStreamDestroy(feed->stream));
    if (there)
        nin__cuda_drop(cudaFreeHost(feed->pinned));
    free(feed);
}

/* An event that has not been recorded yet is nothing to wait for. That the step before is over is
 * recorded now, and not when it has been started: a failure there would be one of a step that has
 * been taken. */
nin_status nin__cuda_feed(struct cuda_feed *feed, struct nin__device *device,
                          const struct nin__images *images, int64_t step)
{
    int slot = (int)(step % CUDA_SLOTS), before = (slot + CUDA_SLOTS - 1) % CUDA_SLOTS;
    nin_status status;

    NIN__TRY(nin__cuda_record(feed->used[before], device, device->stream));
    NIN__TRY(nin__cuda_check(device, cudaEventSynchronize(feed->up[slot]),
                             "the end of a copy to the device"));
    nin__cuda_gather((char *)feed->pinned + (size_t)slot * feed->batch_bytes, images,
                     feed->image_bytes);
    status = upload(feed, device, slot, (size_t)images->count * feed->image_bytes);
    if (status != NIN_OK) /* the copy may be under way, and no step waits for it */
        nin__cuda_drop(cudaStreamSynchronize(feed->stream));
    return status;
}
