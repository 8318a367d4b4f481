/* SPDX-License-Identifier: MIT */
#ifndef NIN__SAFETENSORS_H
#define NIN__SAFETENSORS_H

/* The safetensors container: the length of a header (8 bytes, lowest first), the header as JSON,
 * then the tensors' elements, lowest byte first, one tensor after the other without a gap. */

#include <nin/status.h>
#include <nin/tensor.h>

#include <jansson.h>
#include <stdbool.h>

/* ---- reading ------------------------------------------------------------------------------- */

/* An open file whose header has been checked. Elements are read when they are asked for. */
struct nin__safetensors {
    int file;
    uint64_t data;  /* where the elements start */
    uint64_t bytes; /* of all elements */
    json_t *header;
};

/* A tensor of it. */
struct nin__stored {
    char dtype[16];
    int32_t rank;
    int64_t shape[NIN_MAX_RANK];
    uint64_t first, bytes; /* in the elements */
};

/* A failed open needs no close. */
nin_status nin__safetensors_open(struct nin__safetensors *file, const char *path);
void nin__safetensors_close(struct nin__safetensors *file);

/* A text of the metadata, borrowed from the file; NULL if there is none of that name. */
const char *nin__safetensors_text(const struct nin__safetensors *file, const char *key);

/* Fails with NIN_BAD_FORMAT if there is no such tensor, or not of this type ("F32", "F64"). */
nin_status nin__safetensors_find(struct nin__stored *out, const struct nin__safetensors *file,
                                 const char *name, const char *dtype);
bool nin__stored_has_shape(const struct nin__stored *stored, int32_t rank, const int64_t *shape);

/* All elements of a tensor that find has found with that type. */
nin_status nin__safetensors_floats(const struct nin__safetensors *file,
                                   const struct nin__stored *stored, float *target);
nin_status nin__safetensors_doubles(const struct nin__safetensors *file,
                                    const struct nin__stored *stored, double *target);

/* ---- writing ------------------------------------------------------------------------------- */

/* What is to be written. The first failure stays and comes back from write. */
struct nin__bundle {
    json_t *header, *metadata;
    struct nin__bundle_part *parts;
    size_t count, room;
    uint64_t bytes;
    nin_status status;
};

void nin__bundle_begin(struct nin__bundle *bundle);
void nin__bundle_free(struct nin__bundle *bundle);

/* Adds a tensor; the elements are borrowed until the bundle is freed. */
void nin__bundle_floats(struct nin__bundle *bundle, const char *name, int32_t rank,
                        const int64_t *shape, const float *elements);
void nin__bundle_doubles(struct nin__bundle *bundle, const char *name, int32_t rank,
                         const int64_t *shape, const double *elements);

/* Adds the canonical text of a value to the metadata, and takes the reference to it. NULL stands
 * for memory that was not to be had. */
void nin__bundle_text(struct nin__bundle *bundle, const char *key, json_t *json);

/* Writes the whole file or leaves the old one. */
nin_status nin__bundle_write(struct nin__bundle *bundle, const char *path);

#endif
