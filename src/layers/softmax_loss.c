/* SPDX-License-Identifier: MIT */
/* Log-softmax and mean negative log-likelihood over a batch of n images:
 *
 *     loss = -1/n sum_images log p[label],  p[c] = exp(x[c]) / sum_k exp(x[k])
 *     dx[c] = (p[c] - (c == label)) / n */
#include "layers/layer.h"

#include "core/error.h"

static nin_status shape(const struct nin_layer *layer, struct nin__shape in, struct nin__shape *out)
{
    if (in.h != 1 || in.w != 1)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "softmax_loss '%s': needs maps of 1x1, gets %dx%d; put a global average "
                         "pool before it",
                         layer->name, in.h, in.w);
    *out = in;
    return NIN_OK;
}

static nin_status lower(const struct nin_layer *layer, struct nin__lowering *lowering)
{
    struct nin__shape out;

    NIN__TRY(shape(layer, nin__program_last(lowering)->out, &out));
    nin__program_append(lowering, NIN__OP_LOSS, out);
    lowering->program->loss = true;
    return NIN_OK;
}

const struct nin__layer_class nin__softmax_loss_class = {NIN_LAYER_SOFTMAX_LOSS, "softmax_loss",
                                                         shape, lower, NULL};
