/* SPDX-License-Identifier: MIT */
#ifndef NIN__LAYER_H
#define NIN__LAYER_H

/* A layer knows mathematics: it checks its description, infers its shape, and lowers itself to ops.
 * It knows no backend. One file a layer. */

#include "core/program.h"

#include <nin/layer.h>

#define NIN__NAME_SIZE 64

struct nin__layer_class;

struct nin_layer {
    const struct nin__layer_class *class;
    nin_network *network; /* NULL while it is in a builder */
    char name[NIN__NAME_SIZE];
    int32_t index;             /* in its network */
    struct nin__shape in, out; /* at the size the network was built for */

    /* What was described; each class uses its part and leaves the others zero. */
    int32_t filters, kernel, stride, pad; /* filters: also units of a dense layer */
    int32_t no_bias, round_up, exclude_padding;
    double drop;
    nin_init_desc init;

    size_t weight_count, bias_count;
    size_t weight, bias; /* where they start in the arena */
};

struct nin__layer_class {
    nin_layer_kind kind;
    const char *name; /* for people and files: "conv2d" */

    /* The output for an input, or a failure that names layer, value and rule. Also called for a
     * plan's other input size, so layer->in may differ from in. */
    nin_status (*shape)(const struct nin_layer *layer, struct nin__shape in,
                        struct nin__shape *out);
    nin_status (*lower)(const struct nin_layer *layer, struct nin__lowering *lowering);

    /* Layers with parameters: the weights' OIHW shape for layer->in. Else NULL. */
    void (*weight_shape)(const struct nin_layer *layer, int64_t shape[4]);
};

extern const struct nin__layer_class nin__conv2d_class;
extern const struct nin__layer_class nin__relu_class;
extern const struct nin__layer_class nin__max_pool_class;
extern const struct nin__layer_class nin__average_pool_class;
extern const struct nin__layer_class nin__global_average_pool_class;
extern const struct nin__layer_class nin__dropout_class;
extern const struct nin__layer_class nin__dense_class;
extern const struct nin__layer_class nin__softmax_loss_class;

/* Reads and checks how parameters start; NULL and DEFAULT become He weights and zero biases. A
 * sentence begins with the owner: "conv2d 'conv1'". */
nin_status nin__init_read(nin_init_desc *target, const nin_init_desc *source, const char *owner);

/* floor((size + 2 pad - kernel) / stride) + 1, or its rounded-up form; 0 if nothing fits. */
int32_t nin__window_count(int32_t size, int32_t kernel, int32_t stride, int32_t pad,
                          int32_t round_up);

#endif
