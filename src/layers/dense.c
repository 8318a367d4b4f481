/* SPDX-License-Identifier: MIT */
/* A fully connected layer is a convolution whose kernel is the whole map:
 *
 *     y[o] = b[o] + sum_chw w[o][c][h][w] x[c][h][w]
 */
#include "layers/layer.h"

#include "core/error.h"

static nin_status shape(const struct nin_layer *layer, struct nin__shape in, struct nin__shape *out)
{
    const struct nin__shape made = layer->in;

    if (made.c != 0 && (in.c != made.c || in.h != made.h || in.w != made.w))
        return nin__fail(NIN_INVALID_ARGUMENT, "dense '%s': made for %dx%dx%d, gets %dx%dx%d",
                         layer->name, made.c, made.h, made.w, in.c, in.h, in.w);
    *out = (struct nin__shape){layer->filters, 1, 1};
    return NIN_OK;
}

static nin_status lower(const struct nin_layer *layer, struct nin__lowering *lowering)
{
    struct nin__shape in = nin__program_last(lowering)->out, out;
    struct nin__op *op;

    NIN__TRY(shape(layer, in, &out));
    op = nin__program_append(lowering, NIN__OP_CONV, out);
    op->kernel_h = in.h;
    op->kernel_w = in.w;
    op->stride = 1;
    op->weight = layer->weight;
    op->bias = layer->no_bias ? NIN__NO_PARAMETER : layer->bias;
    return NIN_OK;
}

static void weight_shape(const struct nin_layer *layer, int64_t oihw[4])
{
    oihw[0] = layer->filters;
    oihw[1] = layer->in.c;
    oihw[2] = layer->in.h;
    oihw[3] = layer->in.w;
}

const struct nin__layer_class nin__dense_class = {NIN_LAYER_DENSE, "dense", shape, lower,
                                                  weight_shape};
