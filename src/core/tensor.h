/* SPDX-License-Identifier: MIT */
#ifndef NIN__TENSOR_H
#define NIN__TENSOR_H

#include "core/network.h"

#include <nin/tensor.h>

struct nin_tensor {
    nin_context *context;
    nin_tensor_info info;
    bool owns_data; /* destroy frees the memory */
    bool is_view;   /* belongs to a struct nin__views: destroy leaves it alone */
};

/* Tensors over one arena: the whole, and each layer's weights and biases. Made once, so that asking
 * for a part allocates nothing. */
struct nin__views;

nin_status nin__views_create(struct nin__views **out, nin_network *network, float *arena);
nin_status nin__views_find(nin_tensor **out, struct nin__views *views, const nin_layer *layer,
                           nin_parameter which);
void nin__views_destroy(struct nin__views *views);

#endif
