/* SPDX-License-Identifier: MIT */
/* Inverted dropout: y = x / (1 - drop) with probability 1 - drop, else 0; dx likewise. In inference
 * nothing. An element is dropped where its random word, one of 2^32, is below drop * 2^32. */
#include "layers/layer.h"

#include "core/rng.h"

static nin_status shape(const struct nin_layer *layer, struct nin__shape in, struct nin__shape *out)
{
    (void)layer;
    *out = in;
    return NIN_OK;
}

/* Behind a max pool it is part of that, unless somebody wants to see what is between them. */
static nin_status lower(const struct nin_layer *layer, struct nin__lowering *lowering)
{
    struct nin__op *last = nin__program_last(lowering), *op;
    /* Numbered among all dropouts of the network, also in an inference program. */
    uint32_t stream = (uint32_t)NIN__STREAM_DROPOUT + (uint32_t)lowering->dropouts++;

    if (!lowering->program->train) {
        last->last_layer = layer->index;
        return NIN_OK;
    }
    if (last->kind == NIN__OP_MAX_POOL && !last->drop && !lowering->keep_before) {
        op = last;
        op->drop = true;
        op->last_layer = layer->index;
    } else {
        op = nin__program_append(lowering, NIN__OP_DROPOUT, last->out);
    }
    op->threshold = (uint32_t)(layer->drop * 4294967296.0);
    op->keep_scale = (float)(1.0 / (1.0 - layer->drop));
    op->stream = stream;
    return NIN_OK;
}

const struct nin__layer_class nin__dropout_class = {NIN_LAYER_DROPOUT, "dropout", shape, lower,
                                                    NULL};
