/* SPDX-License-Identifier: MIT */
/* What the algorithms of a convolution share: which one does an op, and the gradient of the bias. */
#include "cuda/conv.h"

namespace
{

enum {
    SUM_ROWS = 64 /* that one thread adds up of a bias's gradient */
};

/* sums: [part][channel], of SUM_ROWS rows each. With y the values are gated first, in place. */
__global__ void __launch_bounds__(BLOCK)
    sum_rows(float *sums, float *values, const float *y, size_t rows, uint32_t channels)
{
    struct image_element at =
        nin__cuda_element(channels); /* a part is what an image is elsewhere */
    size_t first = (size_t)at.image * SUM_ROWS;
    size_t end = first + SUM_ROWS < rows ? first + SUM_ROWS : rows;
    float sum = 0.0f;

    if (at.element >= channels)
        return;
    for (size_t i = first * channels + at.element; i < end * channels; i += channels) {
        if (y != NULL && !(y[i] > 0.0f))
            values[i] = 0.0f;
        sum += values[i];
    }
    sums[(size_t)at.image * channels + at.element] = sum;
}

__global__ void __launch_bounds__(BLOCK)
    sum_parts(float *gradient, const float *sums, size_t parts, size_t channels, bool accumulate)
{
    FOR_EACH_ELEMENT (c, channels) {
        float sum = 0.0f;

        for (size_t part = 0; part < parts; part++)
            sum += sums[part * channels + c];
        gradient[c] = accumulate ? gradient[c] + sum : sum;
    }
}

__global__ void __launch_bounds__(BLOCK) gate(float *dy, const float *y, size_t count)
{
    FOR_EACH_ELEMENT (i, count)
        dy[i] = y[i] > 0.0f ? dy[i] : 0.0f;
}

} // namespace

/* Added up in parts, and these in parts, until few are left. */
nin_status nin__cuda_bias_gradient(const struct cuda_call *call, float *values, const float *y,
                                   size_t rows, float *sums)
{
    size_t channels = (size_t)call->op->out.c;

    do {
        size_t parts = (rows + SUM_ROWS - 1) / SUM_ROWS;

        NIN__TRY(nin__cuda_launch_images(call->device, (int32_t)parts, channels, sum_rows, sums,
                                         values, y, rows, (uint32_t)channels));
        values = sums;
        sums += parts * channels;
        rows = parts;
        y = NULL;
    } while (rows > SUM_ROWS);
    return nin__cuda_launch(call->device, channels, sum_parts, call->run->gradient + call->op->bias,
                            (const float *)values, rows, channels, call->run->accumulate);
}

size_t nin__cuda_sum_parts(size_t rows)
{
    size_t parts = 0;

    do {
        rows = (rows + SUM_ROWS - 1) / SUM_ROWS;
        parts += rows;
    } while (rows > SUM_ROWS);
    return parts;
}

nin_status nin__cuda_gate(const struct cuda_call *call)
{
    size_t count = (size_t)call->images * nin__shape_size(call->op->out);

    if (!call->op->relu || call->gated)
        return NIN_OK;
    return nin__cuda_launch(call->device, count, gate, call->dy, (const float *)call->y, count);
}

nin_status nin__cuda_conv(const struct cuda_call *call)
{
    switch (call->cuda->algorithm) {
    case CUDA_WINOGRAD:
        return nin__cuda_winograd_conv(call);
    case CUDA_DIRECT:
        return nin__cuda_direct_conv(call);
    default:
        return nin__cuda_gemm_conv(call);
    }
}

nin_status nin__cuda_conv_backward(const struct cuda_call *call)
{
    switch (call->cuda->algorithm) {
    case CUDA_WINOGRAD:
        return nin__cuda_winograd_conv_backward(call);
    case CUDA_DIRECT:
        return nin__cuda_direct_conv_backward(call);
    default:
        return nin__cuda_gemm_conv_backward(call);
    }
}

nin_status nin__cuda_prepare_conv(struct nin__device *device, const struct cuda_op *cuda,
                                  const float *weights, float *form, bool turned)
{
    if (cuda->algorithm == CUDA_WINOGRAD)
        return nin__cuda_winograd_prepare(device, cuda, weights, form, turned);
    return nin__cuda_gemm_prepare(device, cuda->op, weights, form);
}

/* A rule of shapes alone. */
void nin__cuda_choose_algorithm(struct cuda_op *cuda, const struct nin__compile_options *options)
{
    bool direct =
        options->algorithm == NIN_ALGORITHM_AUTO || options->algorithm == NIN_ALGORITHM_DIRECT;

    cuda->tiling = nin__cuda_choose_tiling(cuda->op, options->algorithm);
    cuda->algorithm = cuda->tiling.side > 0 ? CUDA_WINOGRAD
                      : direct && nin__cuda_direct_fits(cuda->op, options->max_batch) ? CUDA_DIRECT
                                                                                      : CUDA_GEMM;
}
