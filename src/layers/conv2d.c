/* SPDX-License-Identifier: MIT */
/* Convolution (cross-correlation, as in PyTorch):
 *
 *     y[o][i][j] = b[o] + sum_crs w[o][c][r][s] x[c][i*stride + r - pad][j*stride + s - pad]
 *
 *     dw[o][c][r][s] = sum_ij dy[o][i][j] x[c][i*stride + r - pad][j*stride + s - pad]
 *     db[o]          = sum_ij dy[o][i][j]
 *     dx[c][u][v]    = sum_ors w[o][c][r][s] dy[o][(u + pad - r)/stride][(v + pad - s)/stride]
 *
 * where x is 0 outside its map and dy counts only where the division is exact and inside. */
#include "layers/layer.h"

#include "core/error.h"

int32_t nin__window_count(int32_t size, int32_t kernel, int32_t stride, int32_t pad,
                          int32_t round_up)
{
    int64_t room = (int64_t)size + 2 * (int64_t)pad - kernel + (round_up ? stride - 1 : 0);
    int64_t count;

    if (room < 0)
        return 0;
    count = room / stride + 1;
    /* Caffe's and PyTorch's rule: a last window that starts beyond the input and its first padding
     * sees nothing. */
    if (round_up && (count - 1) * stride >= (int64_t)size + pad)
        count--;
    return (int32_t)count;
}

static nin_status shape(const struct nin_layer *layer, struct nin__shape in, struct nin__shape *out)
{
    int32_t h = nin__window_count(in.h, layer->kernel, layer->stride, layer->pad, 0);
    int32_t w = nin__window_count(in.w, layer->kernel, layer->stride, layer->pad, 0);

    if (h < 1 || w < 1)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "conv2d '%s': kernel %d does not fit input %dx%d with pad %d", layer->name,
                         layer->kernel, in.h, in.w, layer->pad);
    *out = (struct nin__shape){layer->filters, h, w};
    return NIN_OK;
}

static nin_status lower(const struct nin_layer *layer, struct nin__lowering *lowering)
{
    struct nin__shape out;
    struct nin__op *op;

    NIN__TRY(shape(layer, nin__program_last(lowering)->out, &out));
    op = nin__program_append(lowering, NIN__OP_CONV, out);
    op->kernel_h = op->kernel_w = layer->kernel;
    op->stride = layer->stride;
    op->pad = layer->pad;
    op->weight = layer->weight;
    op->bias = layer->no_bias ? NIN__NO_PARAMETER : layer->bias;
    return NIN_OK;
}

static void weight_shape(const struct nin_layer *layer, int64_t oihw[4])
{
    oihw[0] = layer->filters;
    oihw[1] = layer->in.c;
    oihw[2] = oihw[3] = layer->kernel;
}

const struct nin__layer_class nin__conv2d_class = {NIN_LAYER_CONV2D, "conv2d", shape, lower,
                                                   weight_shape};
