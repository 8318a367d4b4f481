/* SPDX-License-Identifier: MIT */
#ifndef NIN_DATASET_H
#define NIN_DATASET_H

/* Data sets: images of one size, each with a label. Images stay in the type that they are stored
 * in; workers gather and scale them image by image. A data set is only read after it is made:
 * several trainers and threads may share one (with a callback: if the callback allows it). */

#include <nin/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nin_dataset nin_dataset;

typedef struct {
    size_t struct_size;
    int64_t count; /* images */
    int32_t channels;
    int32_t height;
    int32_t width;
    nin_dtype dtype; /* NIN_U8 or NIN_F32 */
    int32_t classes; /* largest label + 1; 0 if it is not known (callbacks) */
} nin_dataset_info;

/* Arrays in host memory. */
typedef struct {
    size_t struct_size;
    const void *images;    /* count x channels x height x width; borrowed as long as the data set
                              lives, and not to be changed until then */
    nin_dtype dtype;       /* NIN_F32 or NIN_U8 */
    const int32_t *labels; /* count class numbers, each >= 0; borrowed likewise */
    int64_t count;         /* 1 to 2^31 - 1 */
    int32_t channels;
    int32_t height;
    int32_t width;
    int32_t reserved; /* 0 */
} nin_arrays_desc;

/* Writes one sample.
 *   image  channels x height x width elements of the data set's dtype, to be filled
 *   label  to be set, >= 0
 *   index  0 to count - 1
 * Called on the thread that runs the trainer, in the order of the batch. It must not call that
 * trainer, which says NIN_BUSY, nor destroy what is being used. A status other than NIN_OK
 * ends the step, which has then changed nothing, and comes back from the call unchanged. */
typedef nin_status (*nin_sample_callback)(void *image, int32_t *label, int64_t index, void *user);

typedef struct {
    size_t struct_size;
    nin_sample_callback sample;
    void *user;    /* handed to the callback */
    int64_t count; /* 1 to 2^31 - 1 */
    int32_t channels;
    int32_t height;
    int32_t width;
    nin_dtype dtype; /* NIN_F32 or NIN_U8 */
    const char *id;  /* copied; at most 255 bytes; NULL: the empty one. A checkpoint knows the data
                        by it, by count, shape and dtype, and by nothing else: without an id, other
                        data of the same count and shape are taken for the same */
} nin_callback_desc;

/* Reads a data set from two IDX files (the format of MNIST), plain or compressed by gzip.
 *   out     receives the data set, owned by the caller
 *   images  path of a file of unsigned bytes: N x H x W, or N x C x H x W
 *   labels  path of a file of N unsigned bytes
 * Both are regular files; a pipe is refused. What stands behind the end of a gzip stream is not
 * looked at.
 * Fails with NIN_IO (the sentence has the path and the system's reason), NIN_BAD_FORMAT (not such a
 * file, sizes that do not agree, too short, too long), NIN_OUT_OF_MEMORY. Since 0.1. */
NIN_CHECKED nin_status nin_dataset_create_idx(nin_dataset **out, const char *images,
                                              const char *labels);

/* Reads one half of a data set that is laid out like MNIST: in `folder` the files
 * PART-images-idx3-ubyte and PART-labels-idx1-ubyte, each plain or with .gz behind it.
 *   part  "train" or "t10k"
 * Fails with NIN_INVALID_ARGUMENT (another part), or as nin_dataset_create_idx. Since 0.1. */
NIN_CHECKED nin_status nin_dataset_create_mnist(nin_dataset **out, const char *folder,
                                                const char *part);

/* Makes a data set from arrays, or from a callback.
 *   out   receives the data set, owned by the caller
 *   desc  copied, but not the arrays
 * Fail with NIN_INVALID_ARGUMENT (a negative label names its position), NIN_OUT_OF_MEMORY.
 * Since 0.1. */
NIN_CHECKED nin_status nin_dataset_create_arrays(nin_dataset **out, const nin_arrays_desc *desc);
NIN_CHECKED nin_status nin_dataset_create_callback(nin_dataset **out,
                                                   const nin_callback_desc *desc);

/* Fills out, up to the struct_size that the caller has set. Fails with NIN_INVALID_ARGUMENT.
 * Since 0.1. */
NIN_CHECKED nin_status nin_dataset_describe(nin_dataset_info *out, const nin_dataset *dataset);

/* Copies one sample.
 *   image  receives channels x height x width elements of the data set's dtype; may be NULL
 *   label  receives the class number; may be NULL
 *   index  0 to count - 1
 * Fails with NIN_INVALID_ARGUMENT, or as the callback says. Since 0.1. */
NIN_CHECKED nin_status nin_dataset_read(const nin_dataset *dataset, void *image, int32_t *label,
                                        int64_t index);

/* Frees the data set, not the caller's arrays. NULL is fine. Since 0.1. */
NIN_API void nin_dataset_destroy(nin_dataset *dataset);

#ifdef __cplusplus
}
#endif
#endif
