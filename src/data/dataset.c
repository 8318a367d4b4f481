/* SPDX-License-Identifier: MIT */
#include "data/dataset.h"

#include "core/descriptor.h"
#include "core/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static bool multiply(size_t *product, size_t factor)
{
    if (factor > PTRDIFF_MAX / *product)
        return false;
    *product *= factor;
    return true;
}

/* Sets *image_bytes only if all is well. */
static nin_status check_info(size_t *image_bytes, const nin_dataset_info *info, const char *type)
{
    size_t bytes = info->dtype == NIN_F32 ? sizeof(float) : 1;

    if (info->dtype != NIN_U8 && info->dtype != NIN_F32)
        return nin__fail(NIN_INVALID_ARGUMENT, "%s: dtype %d; images are NIN_F32 or NIN_U8", type,
                         (int)info->dtype);
    if (info->count < 1 || info->count > INT32_MAX)
        return nin__fail(NIN_INVALID_ARGUMENT, "%s: count %" PRId64 "; 1 to %d images are possible",
                         type, info->count, INT32_MAX);
    if (info->channels < 1 || info->height < 1 || info->width < 1)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "%s: channels %d, height %d, width %d; each is at least 1", type,
                         (int)info->channels, (int)info->height, (int)info->width);
    if (!multiply(&bytes, (size_t)info->channels) || !multiply(&bytes, (size_t)info->height) ||
        !multiply(&bytes, (size_t)info->width))
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "%s: an image of %d x %d x %d does not fit into memory", type,
                         (int)info->channels, (int)info->height, (int)info->width);
    *image_bytes = bytes;
    return NIN_OK;
}

/* The largest label + 1. */
static nin_status count_classes(int32_t *out, const int32_t *labels, int64_t count)
{
    int32_t largest = 0;

    for (int64_t i = 0; i < count; i++) {
        if (labels[i] < 0 || labels[i] == INT32_MAX) /* whose + 1 is not an int32 */
            return nin__fail(NIN_INVALID_ARGUMENT,
                             "nin_arrays_desc: labels[%" PRId64 "] is %d; a label is 0 to %d", i,
                             (int)labels[i], INT32_MAX - 1);
        if (labels[i] > largest)
            largest = labels[i];
    }
    *out = largest + 1;
    return NIN_OK;
}

/* Sets info->classes too. */
static nin_status check_arrays(size_t *image_bytes, nin_dataset_info *info,
                               const nin_arrays_desc *desc)
{
    if (desc->images == NULL || desc->labels == NULL)
        return nin__fail(NIN_INVALID_ARGUMENT, "nin_arrays_desc: '%s' is NULL",
                         desc->images == NULL ? "images" : "labels");
    if (desc->reserved != 0)
        return nin__fail(NIN_INVALID_ARGUMENT, "nin_arrays_desc: reserved %d; it must be 0",
                         (int)desc->reserved);
    if (desc->dtype == NIN_F32 && (uintptr_t)desc->images % _Alignof(float) != 0)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "nin_arrays_desc: the images are not aligned as floats are");
    if ((uintptr_t)desc->labels % _Alignof(int32_t) != 0)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "nin_arrays_desc: the labels are not aligned as int32_t are");
    NIN__TRY(check_info(image_bytes, info, "nin_arrays_desc"));

    size_t all = *image_bytes;
    if (!multiply(&all, (size_t)info->count))
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "nin_arrays_desc: %" PRId64 " images of %d x %d x %d do not fit into "
                         "memory",
                         info->count, (int)info->channels, (int)info->height, (int)info->width);
    return count_classes(&info->classes, desc->labels, desc->count);
}

nin_status nin_dataset_create_arrays(nin_dataset **out, const nin_arrays_desc *desc)
{
    nin_arrays_desc arrays;
    size_t image_bytes = 0;

    NIN__NEED(out);
    NIN__NEED(desc);
    NIN__TRY(NIN__DESC_READ(&arrays, desc, nin_arrays_desc));

    nin_dataset_info info = {.struct_size = sizeof info,
                             .count = arrays.count,
                             .channels = arrays.channels,
                             .height = arrays.height,
                             .width = arrays.width,
                             .dtype = arrays.dtype};
    NIN__TRY(check_arrays(&image_bytes, &info, &arrays));

    nin_dataset *dataset = calloc(1, sizeof *dataset);
    if (dataset == NULL)
        return nin__no_memory("a data set");
    dataset->info = info;
    dataset->image_bytes = image_bytes;
    dataset->images = arrays.images;
    dataset->labels = arrays.labels;
    *out = dataset;
    return NIN_OK;
}

static nin_status check_callback(size_t *image_bytes, const nin_dataset_info *info,
                                 const nin_callback_desc *desc)
{
    if (desc->sample == NULL)
        return nin__fail(NIN_INVALID_ARGUMENT, "nin_callback_desc: 'sample' is NULL");
    NIN__TRY(check_info(image_bytes, info, "nin_callback_desc"));

    const size_t room = sizeof((nin_dataset *)NULL)->id;
    if (desc->id != NULL && strnlen(desc->id, room) == room)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "nin_callback_desc: the id '%.32s...' is longer than %zu bytes", desc->id,
                         room - 1);
    return NIN_OK;
}

nin_status nin_dataset_create_callback(nin_dataset **out, const nin_callback_desc *desc)
{
    nin_callback_desc callback;
    size_t image_bytes = 0;

    NIN__NEED(out);
    NIN__NEED(desc);
    NIN__TRY(NIN__DESC_READ(&callback, desc, nin_callback_desc));

    const nin_dataset_info info = {.struct_size = sizeof info,
                                   .count = callback.count,
                                   .channels = callback.channels,
                                   .height = callback.height,
                                   .width = callback.width,
                                   .dtype = callback.dtype};
    NIN__TRY(check_callback(&image_bytes, &info, &callback));

    nin_dataset *dataset = calloc(1, sizeof *dataset);
    if (dataset == NULL)
        return nin__no_memory("a data set");
    dataset->info = info;
    dataset->image_bytes = image_bytes;
    dataset->sample = callback.sample;
    dataset->user = callback.user;
    if (callback.id != NULL)
        strcpy(dataset->id, callback.id);
    *out = dataset;
    return NIN_OK;
}

nin_status nin_dataset_describe(nin_dataset_info *out, const nin_dataset *dataset)
{
    NIN__NEED(dataset);
    return NIN__INFO_WRITE(out, &dataset->info, nin_dataset_info);
}

static nin_status call_back(const nin_dataset *dataset, void *image, int32_t *label, int64_t index)
{
    int32_t given = -1; /* what a callback that forgets the label has set */
    const uint64_t failures = nin__failures();
    char name[320];

    snprintf(name, sizeof name, "of data set '%s' for image %" PRId64, dataset->id, index);
    NIN__TRY(
        nin__callback_status(dataset->sample(image, &given, index, dataset->user), failures, name));
    if (given < 0)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "data set '%s': the callback gave image %" PRId64 " the label %d; a label "
                         "is at least 0",
                         dataset->id, index, (int)given);
    if (label != NULL)
        *label = given;
    return NIN_OK;
}

/* For a caller who wants the label only: the callback needs a place for the image all the same. */
static nin_status call_back_without_image(const nin_dataset *dataset, int32_t *label, int64_t index)
{
    void *image = malloc(dataset->image_bytes);

    if (image == NULL)
        return nin__no_memory("an image");
    const nin_status status = call_back(dataset, image, label, index);
    free(image);
    return status;
}

nin_status nin_dataset_read(const nin_dataset *dataset, void *image, int32_t *label, int64_t index)
{
    NIN__NEED(dataset);
    if (index < 0 || index >= dataset->info.count)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "nin_dataset_read: index %" PRId64 "; the data set has %" PRId64 " images",
                         index, dataset->info.count);
    if (dataset->sample != NULL)
        return image != NULL ? call_back(dataset, image, label, index)
                             : call_back_without_image(dataset, label, index);
    if (image != NULL)
        memcpy(image, (const char *)dataset->images + (size_t)index * dataset->image_bytes,
               dataset->image_bytes);
    if (label != NULL)
        *label = dataset->labels[index];
    return NIN_OK;
}

void nin_dataset_destroy(nin_dataset *dataset)
{
    if (dataset == NULL)
        return;
    free(dataset->owned_images);
    free(dataset->owned_labels);
    free(dataset);
}

static uint32_t read_hash(const nin_dataset *dataset)
{
    uLong sum = crc32_z(0, Z_NULL, 0);

    if (dataset->sample != NULL)
        return (uint32_t)crc32_z(sum, (const Bytef *)dataset->id, strlen(dataset->id));
    const size_t count = (size_t)dataset->info.count;
    sum = crc32_z(sum, dataset->images, count * dataset->image_bytes);
    sum = crc32_z(sum, (const Bytef *)dataset->labels, count * sizeof *dataset->labels);
    return (uint32_t)sum;
}

uint32_t nin__dataset_hash(const nin_dataset *dataset)
{
    /* what is remembered is no part of the value; threads that meet here find the same */
    atomic_uint_fast64_t *hash = &((nin_dataset *)dataset)->hash;
    const uint64_t known = (uint64_t)1 << 32;
    uint64_t value = atomic_load(hash);

    if (value == 0) {
        value = known | read_hash(dataset);
        atomic_store(hash, value);
    }
    return (uint32_t)value;
}
