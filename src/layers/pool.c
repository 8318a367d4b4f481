/* SPDX-License-Identifier: MIT */
/* Pooling. Window (i, j) covers rows i*stride - pad ... + kernel - 1, clipped to the map.
 *
 *   max:     y = the window's largest element (padding never is); dx gets dy at the first largest
 *            one
 *   average: y = sum / n; every element of the window gets dy / n. n is the window's area clipped
 *   to
 *            the padded map, or with exclude_padding to the map
 *   global:  y = mean of the map */
#include "layers/layer.h"

#include "core/error.h"

static nin_status shape(const struct nin_layer *layer, struct nin__shape in, struct nin__shape *out)
{
    int32_t h = nin__window_count(in.h, layer->kernel, layer->stride, layer->pad, layer->round_up);
    int32_t w = nin__window_count(in.w, layer->kernel, layer->stride, layer->pad, layer->round_up);

    if (h < 1 || w < 1)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "%s '%s': kernel %d does not fit input %dx%d with pad %d",
                         layer->class->name, layer->name, layer->kernel, in.h, in.w, layer->pad);
    *out = (struct nin__shape){in.c, h, w};
    return NIN_OK;
}

static nin_status lower_window(const struct nin_layer *layer, struct nin__lowering *lowering,
                               enum nin__op_kind kind)
{
    struct nin__shape out;
    struct nin__op *op;

    NIN__TRY(shape(layer, nin__program_last(lowering)->out, &out));
    op = nin__program_append(lowering, kind, out);
    op->kernel_h = op->kernel_w = layer->kernel;
    op->stride = layer->stride;
    op->pad = layer->pad;
    op->exclude_padding = layer->exclude_padding != 0;
    return NIN_OK;
}

static nin_status lower_max(const struct nin_layer *layer, struct nin__lowering *lowering)
{
    return lower_window(layer, lowering, NIN__OP_MAX_POOL);
}

static nin_status lower_average(const struct nin_layer *layer, struct nin__lowering *lowering)
{
    return lower_window(layer, lowering, NIN__OP_AVERAGE_POOL);
}

static nin_status global_shape(const struct nin_layer *layer, struct nin__shape in,
                               struct nin__shape *out)
{
    (void)layer;
    *out = (struct nin__shape){in.c, 1, 1};
    return NIN_OK;
}

static nin_status lower_global(const struct nin_layer *layer, struct nin__lowering *lowering)
{
    struct nin__shape in = nin__program_last(lowering)->out;
    struct nin__op *op;

    (void)layer;
    op = nin__program_append(lowering, NIN__OP_AVERAGE_POOL, (struct nin__shape){in.c, 1, 1});
    op->kernel_h = in.h;
    op->kernel_w = in.w;
    op->stride = 1;
    return NIN_OK;
}

const struct nin__layer_class nin__max_pool_class = {NIN_LAYER_MAX_POOL, "max_pool", shape,
                                                     lower_max, NULL};
const struct nin__layer_class nin__average_pool_class = {NIN_LAYER_AVERAGE_POOL, "average_pool",
                                                         shape, lower_average, NULL};
const struct nin__layer_class nin__global_average_pool_class = {
    NIN_LAYER_GLOBAL_AVERAGE_POOL, "global_average_pool", global_shape, lower_global, NULL};
