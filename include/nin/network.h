/* SPDX-License-Identifier: MIT */
#ifndef NIN_NETWORK_H
#define NIN_NETWORK_H

/* A network owns layers and parameters and nothing that belongs to one run: plans run it.
 *
 * Many plans may share one network. Prediction plans only read parameters and run at the same time
 * on different threads. A training step, an update, a load and a write of weights hold the network
 * exclusively for that call; everything else shares it; whoever meets the other side gets NIN_BUSY
 * at once, and nothing has happened.
 *
 * Parameters lie in one contiguous arena: layer by layer, weights (OIHW), then biases. Gradients
 * (in a plan) and momentum (in an optimizer) have the same layout. */

#include <nin/builder.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    size_t struct_size;
    int32_t channels; /* of the input */
    int32_t height;   /* the size that the network was built for */
    int32_t width;
    int32_t layer_count;
    double scale; /* a stored pixel becomes pixel * scale + shift */
    double shift;
    int64_t parameter_count; /* all weights and biases together */
} nin_network_info;

/* Presets: networks by name. "mnist" is the network of the paper's MNIST experiment in the form of
 * its reference program: 1x28x28, conv1 (5x5, 96) cccp1 (64) cccp2 (48), max pool 3/2, dropout 0.5,
 * conv2 (5x5, 128) cccp3 (96) cccp4 (48), max pool 3/2, dropout 0.5, conv3 (5x5, 128) cccp5 (96)
 * cccp6 (10, without ReLU), global average, softmax loss; pixel / 127.5 - 1; weights N(0, 0.05),
 * biases U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)). 349,674 parameters. "cifar10" is the authors'
 * network for CIFAR-10: 3x32x32, conv1 (5x5, 192) cccp1 (160) cccp2 (96), max pool 3/2 that rounds
 * up, dropout 0.5, conv2 (5x5, 192) cccp3 (192) cccp4 (192), the same, conv3 (3x3, 192) cccp5 (192)
 * cccp6 (10, with ReLU), global average, softmax loss; pixel / 127.5 - 1 (the authors whitened
 * theirs); weights N(0, 0.05), biases 0.
 *
 * nin_preset_name: the name of preset i, static; NULL past the last. Since 0.1. */
NIN_API const char *nin_preset_name(size_t i);

/* Makes a preset's network.
 *   out   receives the network, owned by the caller
 *   name  one of the presets' names
 * Fails with NIN_INVALID_ARGUMENT (no such preset), NIN_OUT_OF_MEMORY. Since 0.1. */
NIN_CHECKED nin_status nin_network_create_preset(nin_network **out, nin_context *context,
                                                 const char *name);

/* The layers, top to bottom. Borrowed, as long as the network lives. nin_network_layer gives NULL
 * for an index past the end, nin_network_find NULL for an unknown name. Since 0.1. */
NIN_API size_t nin_network_layer_count(const nin_network *network);
NIN_API nin_layer *nin_network_layer(nin_network *network, size_t i);
NIN_API nin_layer *nin_network_find(nin_network *network, const char *name);

/* What goes into the network, and how large it is: also of one that came from a file. Fills out, up
 * to the struct_size that the caller has set. Fails with NIN_INVALID_ARGUMENT. Since 0.1. */
NIN_CHECKED nin_status nin_network_describe(nin_network_info *out, const nin_network *network);

/* All weights and biases together. Since 0.1. */
NIN_API size_t nin_network_parameter_count(const nin_network *network);

/* Raised by every change of a parameter. Since 0.1. */
NIN_API uint64_t nin_network_parameter_version(const nin_network *network);

/* Draws all parameters anew.
 *   init  how every layer's weights and biases start; NULL: as each layer was described
 *   seed  of the draw; the same seed gives the same bits everywhere
 * Fails with NIN_INVALID_ARGUMENT, NIN_OUT_OF_MEMORY, NIN_BUSY; the parameters are then unchanged.
 * Since 0.1. */
NIN_CHECKED nin_status nin_network_initialise(nin_network *network, const nin_init_desc *init,
                                              uint32_t seed);

/* Gives the network back. Plans and optimizers made from it keep it alive until they are destroyed.
 * NULL is fine. Since 0.1. */
NIN_API void nin_network_destroy(nin_network *network);

#ifdef __cplusplus
}
#endif
#endif
