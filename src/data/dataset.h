/* SPDX-License-Identifier: MIT */
#ifndef NIN__DATASET_H
#define NIN__DATASET_H

#include <nin/dataset.h>

#include <stdatomic.h>
#include <stdbool.h>

struct nin_dataset {
    nin_dataset_info info;
    size_t image_bytes;    /* of one image as it is stored */
    const void *images;    /* all of them; NULL when a callback gives them */
    const int32_t *labels; /* likewise */
    void *owned_images;    /* what destroy frees, or NULL */
    int32_t *owned_labels;
    nin_sample_callback sample;
    void *user;
    char id[256];              /* of a callback's data; "" for the others */
    atomic_uint_fast64_t hash; /* of images and labels, with a bit above it; 0: not asked for yet */
};

/* What a checkpoint knows a data set by: CRC-32 of images, then labels (callbacks: of the id). The
 * first call reads everything, which takes a while for a large set; the set keeps what it has
 * found. Several threads may call it at once. */
uint32_t nin__dataset_hash(const nin_dataset *dataset);

/* Cuts an epoch into batches: ceil(count / batch) pieces of even size, torch.chunk's rule. */
struct nin__batches {
    int64_t pieces;
    int64_t size; /* of all pieces but the last, which may be smaller */
};
struct nin__batches nin__batches(int64_t count, int64_t batch);

/* First image and number of images of a piece. */
void nin__batch_range(struct nin__batches batches, int64_t count, int64_t piece, int64_t *first,
                      int32_t *images);

#endif
