/* SPDX-License-Identifier: MIT */
#ifndef NIN_BUILDER_H
#define NIN_BUILDER_H

/* A builder takes the description of a network, layer by layer from top to bottom, and makes it.
 *
 * A builder keeps its first failure: later calls do nothing and return that failure again, so it is
 * enough to check nin_builder_finish. A builder serves one thread at a time. */

#include <nin/layer.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nin_builder nin_builder;
typedef struct nin_network nin_network;

/* The images that go in. Stored pixels (NIN_U8) become pixel * scale + shift; float images are
 * taken as they are. Part of the network and of its file. */
typedef struct {
    size_t struct_size;
    int32_t channels; /* at least 1 */
    int32_t height;   /* the size the network is built for; a plan may use another one */
    int32_t width;
    double scale; /* of stored pixels; 0 means 1 / 255 */
    double shift; /* of stored pixels */
} nin_input_desc;

/* Starts a network.
 *   out      receives the builder, owned by the caller
 *   context  kept alive by what is built
 *   input    copied
 * Fails with NIN_INVALID_ARGUMENT, NIN_OUT_OF_MEMORY. Since 0.1. */
NIN_CHECKED nin_status nin_builder_create(nin_builder **out, nin_context *context,
                                          const nin_input_desc *input);

/* Each adds one layer (mlpconv: several) below the last one.
 *   name  copied; 1 to 63 characters of [A-Za-z0-9._-], unique in the network
 *   desc  copied
 * All fail with NIN_INVALID_ARGUMENT (a value outside its range, a name twice, a shape that does
 * not fit: the sentence names layer, value and rule), NIN_OUT_OF_MEMORY. Since 0.1. */
NIN_API nin_status nin_builder_conv2d(nin_builder *builder, const char *name,
                                      const nin_conv2d_desc *desc);
NIN_API nin_status nin_builder_mlpconv(nin_builder *builder, const char *name,
                                       const nin_mlpconv_desc *desc);
NIN_API nin_status nin_builder_relu(nin_builder *builder, const char *name);
NIN_API nin_status nin_builder_max_pool(nin_builder *builder, const char *name,
                                        const nin_pool_desc *desc);
NIN_API nin_status nin_builder_average_pool(nin_builder *builder, const char *name,
                                            const nin_pool_desc *desc);
NIN_API nin_status nin_builder_dense(nin_builder *builder, const char *name,
                                     const nin_dense_desc *desc);

/* The mean of each channel's map: the classifier of Network In Network (section 3.2 of the paper).
 * It works at any input size. Since 0.1. */
NIN_API nin_status nin_builder_global_average_pool(nin_builder *builder, const char *name);

/* In training each element is 0 with probability drop and else scaled by 1 / (1 - drop) (inverted
 * dropout); in inference nothing happens.
 *   drop  0 <= drop < 1
 * Since 0.1. */
NIN_API nin_status nin_builder_dropout(nin_builder *builder, const char *name, double drop);

/* Log-softmax over the channels and the mean negative log-likelihood of the labels. Must be the
 * last layer, on maps of 1x1. A network without it is trained with the caller's own gradient of the
 * scores. Since 0.1. */
NIN_API nin_status nin_builder_softmax_loss(nin_builder *builder, const char *name);

/* Makes the network, and draws its initial parameters from the context's seed.
 *   out      receives the network, owned by the caller
 *   builder  can be finished again: each time a new network
 * Fails with the builder's first failure, NIN_INVALID_STATE (no layer), NIN_OUT_OF_MEMORY.
 * Since 0.1. */
NIN_CHECKED nin_status nin_builder_finish(nin_network **out, nin_builder *builder);

/* Frees the builder, not the networks that it made. NULL is fine. Since 0.1. */
NIN_API void nin_builder_destroy(nin_builder *builder);

#ifdef __cplusplus
}
#endif
#endif
