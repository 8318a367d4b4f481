/* SPDX-License-Identifier: MIT */
#ifndef NIN_TENSOR_H
#define NIN_TENSOR_H

/* A tensor: memory on the host or on a device, an element type and a shape; dense and row-major.
 * Its description has the fields of a DLPack DLTensor, with DLPack's numbers, so that it can be
 * handed to other libraries without a copy. A tensor serves one thread at a time. */

#include <nin/context.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nin_tensor nin_tensor;

typedef enum {
    NIN_F32 = 0, /* IEEE single precision */
    NIN_U8 = 1,
    NIN_I32 = 2,
    NIN_DTYPE_INT32 = 0x7fffffff
} nin_dtype;

#define NIN_MAX_RANK 8

typedef struct {
    size_t struct_size;
    void *data;          /* borrowed, as long as the tensor lives */
    int32_t device_type; /* DLPack: 1 = host (kDLCPU), 2 = CUDA (kDLCUDA) */
    int32_t device_index;
    nin_dtype dtype;
    uint8_t dtype_code;   /* DLPack: 0 = int, 1 = unsigned int, 2 = float */
    uint8_t dtype_bits;   /* 8 or 32 */
    uint16_t dtype_lanes; /* always 1 */
    int32_t rank;         /* 0 to NIN_MAX_RANK */
    int64_t shape[NIN_MAX_RANK];
    int64_t strides[NIN_MAX_RANK]; /* in elements */
    uint64_t byte_offset;          /* always 0 */
    uint64_t bytes;                /* of all elements together */
} nin_tensor_info;

/* Makes a tensor of zeros in memory of the context's device.
 *   out    receives the tensor, owned by the caller
 *   rank   0 (one element) to NIN_MAX_RANK
 *   shape  rank sizes, each at least 1; copied
 * Fails with NIN_INVALID_ARGUMENT, NIN_OUT_OF_MEMORY. Since 0.1. */
NIN_CHECKED nin_status nin_tensor_create(nin_tensor **out, nin_context *context, nin_dtype dtype,
                                         int32_t rank, const int64_t *shape);

/* Makes a tensor around host memory of the caller's, which is borrowed: it must outlive the tensor
 * and be aligned to the element's size. Nothing is copied. Arguments and failures as above.
 * Since 0.1. */
NIN_CHECKED nin_status nin_tensor_wrap(nin_tensor **out, nin_context *context, void *data,
                                       nin_dtype dtype, int32_t rank, const int64_t *shape);

/* Fills out, up to the struct_size that the caller has set. Fails with NIN_INVALID_ARGUMENT.
 * Since 0.1. */
NIN_CHECKED nin_status nin_tensor_describe(nin_tensor_info *out, const nin_tensor *tensor);

/* Copies a whole tensor from or to host memory of the caller's, row-major, in its element type.
 *   bytes  must be the tensor's size exactly
 * nin_tensor_read waits until everything that writes the tensor is done. Fails with
 * NIN_INVALID_ARGUMENT, NIN_BACKEND_FAILED. Since 0.1. */
NIN_CHECKED nin_status nin_tensor_write(nin_tensor *tensor, const void *source, size_t bytes);
NIN_CHECKED nin_status nin_tensor_read(const nin_tensor *tensor, void *target, size_t bytes);

/* Frees the tensor, and its memory unless that was wrapped. NULL is fine; so is a tensor borrowed
 * from a plan, which stays. Since 0.1. */
NIN_API void nin_tensor_destroy(nin_tensor *tensor);

#ifdef __cplusplus
}
#endif
#endif
