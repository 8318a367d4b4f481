/* SPDX-License-Identifier: MIT */
/* y = max(0, x); dx = dy where y > 0, else 0. */
#include "layers/layer.h"

static nin_status shape(const struct nin_layer *layer, struct nin__shape in, struct nin__shape *out)
{
    (void)layer;
    *out = in;
    return NIN_OK;
}

/* A ReLU behind a convolution is part of it, unless somebody wants to see what is between them. */
static nin_status lower(const struct nin_layer *layer, struct nin__lowering *lowering)
{
    struct nin__op *last = nin__program_last(lowering);

    if (last->kind == NIN__OP_CONV && !last->relu && !lowering->keep_before) {
        last->relu = true;
        last->last_layer = layer->index;
    } else {
        nin__program_append(lowering, NIN__OP_RELU, last->out);
    }
    return NIN_OK;
}

const struct nin__layer_class nin__relu_class = {NIN_LAYER_RELU, "relu", shape, lower, NULL};
