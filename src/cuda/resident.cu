/* SPDX-License-Identifier: MIT */
/* A data set in the device's memory, with what a stretch of steps on it needs: the order of its
 * images, the rates of its steps, where it is, and the losses of all images. Where there is no room
 * for its images some batches of them are there, which the host feeds. */
#include "cuda/launch.h"

#include <stdlib.h>

namespace
{

/* Where a stretch is: how many steps and images are behind it, and image 0 of the running step. */
struct place {
    uint32_t step, image, first;
};

} // namespace

struct nin__resident {
    uint64_t number;
    char *memory; /* all of the rest on the device */
    void *images;
    struct cuda_feed *feed;       /* of batches; NULL: all images are there */
    struct cuda_results *results; /* on their way to the host */
    uint32_t batch;               /* images of a slot of the feed's */
    int32_t *labels;
    int32_t *order; /* of a stretch's images */
    int32_t *index; /* of a step's */
    float *rates;   /* [step][span] */
    double *losses; /* in the order of the stretch */
    uint8_t *marks;
    struct place *place;
};

namespace
{

/* ---- memory --------------------------------------------------------------------------------- */

/* Of the device's free memory a data set may have one part in ... */
const size_t SHARE = 2;

template <typename T> void put(T **target, const struct nin__resident *resident, size_t at)
{
    *target = (T *)(void *)(resident->memory + at);
}

/* Leaves resident->memory NULL where there is no room. */
nin_status allocate(struct nin__resident *resident, struct nin__device *device, size_t bytes)
{
    size_t left = 0, total = 0;
    cudaError_t error;
    void *memory = NULL;

    NIN__TRY(nin__cuda_check(device, cudaMemGetInfo(&left, &total), "the device's free memory"));
    if (bytes > left / SHARE)
        return NIN_OK;
    error = cudaMalloc(&memory, bytes);
    if (error == cudaErrorMemoryAllocation) {
        nin__cuda_drop(error);
        return NIN_OK;
    }
    NIN__TRY(nin__cuda_check(device, error, "memory for a data set"));
    resident->memory = (char *)memory;
    return nin__cuda_check(device, cudaMemsetAsync(memory, 0, bytes, device->stream),
                           "zeros in memory");
}

/* For so many images of the data set. */
nin_status make_memory(struct nin__resident *resident, struct nin__device *device,
                       const struct nin__samples *samples, size_t some)
{
    size_t count = (size_t)samples->count, bytes = 0;
    size_t images = nin__cuda_deal(&bytes, some * samples->image_bytes);
    size_t labels = nin__cuda_deal(&bytes, count * sizeof(int32_t));
    size_t order = nin__cuda_deal(&bytes, count * sizeof(int32_t));
    size_t index = nin__cuda_deal(&bytes, (size_t)samples->batch * sizeof(int32_t));
    size_t rates =
        nin__cuda_deal(&bytes, (size_t)samples->steps * (size_t)samples->spans * sizeof(float));
    size_t losses = nin__cuda_deal(&bytes, count * sizeof(double));
    size_t marks = nin__cuda_deal(&bytes, count);
    size_t place = nin__cuda_deal(&bytes, sizeof(struct place));

    NIN__TRY(allocate(resident, device, bytes));
    if (resident->memory == NULL)
        return NIN_OK;
    resident->images = resident->memory + images;
    put(&resident->labels, resident, labels);
    put(&resident->order, resident, order);
    put(&resident->index, resident, index);
    put(&resident->rates, resident, rates);
    put(&resident->losses, resident, losses);
    put(&resident->marks, resident, marks);
    put(&resident->place, resident, place);
    return NIN_OK;
}

/* Waits: the host may change its arrays once the data set is gone, and it is not asked again. */
nin_status fill(struct nin__resident *resident, struct nin__device *device,
                const struct nin__samples *samples)
{
    size_t count = (size_t)samples->count;
    nin_status status = nin__cuda_upload(device, resident->labels, samples->labels,
                                         count * sizeof *samples->labels, "labels to the device");
    nin_status end;

    if (status == NIN_OK && resident->feed == NULL)
        status = nin__cuda_upload(device, resident->images, samples->images,
                                  count * samples->image_bytes, "a data set to the device");
    end = nin__cuda_wait(device);
    return status == NIN_OK ? end : status;
}

/* Some batches in place of the images, if they are fewer. */
nin_status make_fed(struct nin__resident *resident, struct nin__device *device,
                    const struct nin__samples *samples)
{
    int64_t some = (int64_t)CUDA_SLOTS * samples->batch;

    if (some >= samples->count)
        return NIN_OK;
    NIN__TRY(make_memory(resident, device, samples, (size_t)some));
    if (resident->memory == NULL)
        return NIN_OK;
    resident->batch = (uint32_t)samples->batch;
    return nin__cuda_make_feed(&resident->feed, device, (char *)resident->images,
                               samples->image_bytes, samples->batch);
}

nin_status make(struct nin__resident *resident, struct nin__device *device,
                const struct nin__samples *samples)
{
    struct cuda_outcome outcome;

    if (!samples->apart)
        NIN__TRY(make_memory(resident, device, samples, (size_t)samples->count));
    if (resident->memory == NULL)
        NIN__TRY(make_fed(resident, device, samples));
    if (resident->memory == NULL)
        return NIN_OK;
    outcome = {resident->losses, resident->marks, &resident->place->image};
    NIN__TRY(nin__cuda_make_results(&resident->results, device, outcome, (size_t)samples->count));
    return fill(resident, device, samples);
}

/* ---- on the device -------------------------------------------------------------------------- */

/* fed: images of a slot of the feed's, or 0. */
__global__ void __launch_bounds__(BLOCK)
    take_batch(struct place *place, const int32_t *order, uint32_t fed, const int32_t *all_labels,
               int32_t *index, int32_t *labels, uint32_t images, const float *rates,
               struct nin__update_span *spans, uint32_t span_count)
{
    FOR_EACH_ELEMENT (i, (size_t)images + span_count) {
        if (i == 0)
            place->first = place->image;
        if (i < images) {
            int32_t image = order[place->image + i];

            index[i] = fed > 0 ? (int32_t)(place->step % CUDA_SLOTS * fed + (uint32_t)i) : image;
            labels[i] = all_labels[image];
        } else {
            spans[i - images].rate = rates[(size_t)place->step * span_count + (i - images)];
        }
    }
}

/* Once something is bad the place stays; what still runs, in vain, may read a slot that is just
 * written. */
__global__ void __launch_bounds__(BLOCK)
    close_step(struct place *place, struct cuda_numbers *numbers, const struct cuda_bad *bad,
               const double *losses, const uint8_t *marks, double *all_losses, uint8_t *all_marks,
               uint32_t images)
{
    if (bad->gradient != ~0ull || bad->loss != ~0ull)
        return;
    FOR_EACH_ELEMENT (i, images) {
        all_losses[place->first + i] = losses[i];
        all_marks[place->first + i] = marks[i];
        if (i == 0) {
            place->step++;
            place->image += images;
            if (++numbers->step[0] == 0)
                numbers->step[1]++;
        }
    }
}

} // namespace

uint64_t nin__cuda_resident_number(const struct nin__resident *resident)
{
    return resident->number;
}

struct cuda_results *nin__cuda_results_of(const struct nin__resident *resident)
{
    return resident->results;
}

struct cuda_source nin__cuda_source_of(const struct nin__resident *resident)
{
    struct cuda_source source = {resident->images, resident->index};

    return source;
}

nin_status nin__cuda_load(struct nin__resident **out, struct nin__device *device,
                          const struct nin__samples *samples)
{
    struct cuda_scope scope(device);
    struct nin__resident *resident;
    nin_status status;

    NIN__TRY(scope.status);
    resident = (struct nin__resident *)calloc(1, sizeof *resident);
    if (resident == NULL)
        return nin__no_memory("a data set on the device");
    resident->number = ++device->residents;
    status = make(resident, device, samples);
    if (status != NIN_OK || resident->memory == NULL) {
        nin__cuda_unload(device, resident);
        return status;
    }
    *out = resident;
    return NIN_OK;
}

void nin__cuda_unload(struct nin__device *device, struct nin__resident *resident)
{
    {
        struct cuda_scope scope(device, true);

        nin__cuda_free_feed(resident->feed, scope.status == NIN_OK);
        if (scope.status == NIN_OK) /* waits for what still runs */
            nin__cuda_drop(cudaFree(resident->memory));
        nin__cuda_free_results(resident->results, scope.status == NIN_OK);
    }
    free(resident);
}

nin_status nin__cuda_begin_stretch(const struct nin__stretch *stretch, struct nin__device *device)
{
    const struct nin__resident *resident = stretch->resident;
    const size_t images = (size_t)stretch->run.images.count;
    const size_t steps = (size_t)nin__stretch_steps(stretch);

    NIN__TRY(nin__cuda_check(
        device, cudaMemsetAsync(resident->place, 0, sizeof *resident->place, device->stream),
        "the place of a stretch"));
    NIN__TRY(nin__cuda_upload(device, resident->order, stretch->run.images.index,
                              images * sizeof *resident->order,
                              "the order of images to the device"));
    return nin__cuda_upload(device, resident->rates, stretch->rates,
                            steps * (size_t)stretch->update.span_count * sizeof *stretch->rates,
                            "the rates to the device");
}

nin_status nin__cuda_feed_batch(const struct nin__resident *resident, struct nin__device *device,
                                const struct nin__images *images, int64_t step)
{
    return resident->feed == NULL ? NIN_OK : nin__cuda_feed(resident->feed, device, images, step);
}

nin_status nin__cuda_take_batch(struct nin__executable *executable,
                                const struct nin__resident *resident, int32_t images, int32_t spans)
{
    return nin__cuda_launch(executable->device, (size_t)images + (size_t)spans, take_batch,
                            resident->place, (const int32_t *)resident->order, resident->batch,
                            (const int32_t *)resident->labels, resident->index, executable->labels,
                            (uint32_t)images, (const float *)resident->rates, executable->spans,
                            (uint32_t)spans);
}

nin_status nin__cuda_close_step(struct nin__executable *executable,
                                const struct nin__resident *resident, int32_t images)
{
    return nin__cuda_launch(executable->device, (size_t)images, close_step, resident->place,
                            executable->numbers, (const struct cuda_bad *)executable->bad,
                            (const double *)executable->losses, (const uint8_t *)executable->marks,
                            resident->losses, resident->marks, (uint32_t)images);
}
