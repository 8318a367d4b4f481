/* SPDX-License-Identifier: MIT */
/* Convolution as matrix products. In NHWC a window is kernel_h runs of kernel_w * C floats; gathered, the
 * windows of some images are a matrix `patches` of pixels x K, K = kernel_h * kernel_w * C, and
 *
 *     y  (pixels x OC) = patches * w'      dw (OC x K) += dy' * patches      dpatches = dy * w
 *
 * with weights OHWI (OC x K). A 1x1 convolution and a dense layer need no gathering: their input is the
 * patches matrix. Images go together as far as their patches have room. */
#include "cuda/conv.h"

namespace
{

enum {
    PATCH_FLOATS = 1 << 24, /* 64 MiB of patches, or those of one image */
    PRODUCT_ROWS = 1 << 20  /* of one product: cuBLAS has failed on more */
};

/* ---- patches -------------------------------------------------------------------------------- */

__device__ uint32_t patch_size(const struct windows &w)
{
    return (uint32_t)w.kernel_h * (uint32_t)w.kernel_w * (uint32_t)w.in_c;
}

/* Of an image: its patches have fewer than 2^31 elements. */
__device__ uint32_t patches_size(const struct windows &w)
{
    return (uint32_t)w.out_h * (uint32_t)w.out_w * patch_size(w);
}

/* patches: [image][oy][ox][r][s][c] */
__global__ void __launch_bounds__(BLOCK)
    gather_patches(float *patches, const float *x, struct windows w)
{
    struct image_element at = nin__cuda_element(patches_size(w));
    uint32_t from;
    bool inside =
        nin__cuda_find_tap(&from, at.element / patch_size(w), at.element % patch_size(w), w);

    if (at.element < patches_size(w))
        patches[(size_t)at.image * patches_size(w) + at.element] =
            inside ? x[(size_t)at.image * nin__cuda_in_size(w) + from] : 0.0f;
}

/* The same for four channels at a time; w counts these as one. */
__global__ void __launch_bounds__(BLOCK)
    gather_fours(float4 *patches, const float4 *x, struct windows w)
{
    struct image_element at = nin__cuda_element(patches_size(w));
    uint32_t from;
    bool inside =
        nin__cuda_find_tap(&from, at.element / patch_size(w), at.element % patch_size(w), w);
    float4 zeros = {0.0f, 0.0f, 0.0f, 0.0f};

    if (at.element < patches_size(w))
        patches[(size_t)at.image * patches_size(w) + at.element] =
            inside ? x[(size_t)at.image * nin__cuda_in_size(w) + from] : zeros;
}

/* dx: each input gets the sum of its taps' gradients in the order of the windows. */
__global__ void __launch_bounds__(BLOCK)
    scatter_patches(float *dx, const float *patches, struct windows w)
{
    struct image_element at = nin__cuda_element(nin__cuda_in_size(w));
    const float *image = patches + (size_t)at.image * patches_size(w);
    uint32_t c = at.element % (uint32_t)w.in_c, pixel = at.element / (uint32_t)w.in_c;
    int32_t ix = (int32_t)(pixel % (uint32_t)w.in_w), iy = (int32_t)(pixel / (uint32_t)w.in_w);
    struct extent rows = nin__cuda_viewers(iy, w.kernel_h, w.out_h, w);
    struct extent columns = nin__cuda_viewers(ix, w.kernel_w, w.out_w, w);
    float sum = 0.0f;

    if (at.element >= nin__cuda_in_size(w))
        return;
    for (int32_t oy = rows.first; oy < rows.end; oy++)
        for (int32_t ox = columns.first; ox < columns.end; ox++) {
            uint32_t r = (uint32_t)(iy + w.pad - oy * w.stride);
            uint32_t s = (uint32_t)(ix + w.pad - ox * w.stride);
            uint32_t row = (uint32_t)oy * (uint32_t)w.out_w + (uint32_t)ox;

            sum +=
                image[row * patch_size(w) + (r * (uint32_t)w.kernel_w + s) * (uint32_t)w.in_c + c];
        }
    dx[(size_t)at.image * nin__cuda_in_size(w) + at.element] = sum;
}

/* ---- weights -------------------------------------------------------------------------------- */

/* A tensor of weights, of which none has 2^31. */
struct weights {
    uint32_t filters, channels, taps;
};

struct weights weights_of(const struct nin__op *op)
{
    struct weights w = {(uint32_t)op->out.c, (uint32_t)op->in.c,
                        (uint32_t)op->kernel_h * (uint32_t)op->kernel_w};

    return w;
}

__device__ uint32_t count_of(struct weights w)
{
    return w.filters * w.channels * w.taps;
}

/* OIHW to OHWI */
__global__ void __launch_bounds__(BLOCK)
    permute(float *permuted, const float *weights, struct weights w)
{
    uint32_t i = nin__cuda_element(count_of(w)).element, filter = i / w.channels / w.taps;
    uint32_t c = i % w.channels, tap = i / w.channels % w.taps;

    if (i < count_of(w))
        permuted[i] = weights[(filter * w.channels + c) * w.taps + tap];
}

/* And back, to the gradient's arena or added to it. */
__global__ void __launch_bounds__(BLOCK)
    finish_weights(float *gradient, const float *products, struct weights w, bool accumulate)
{
    uint32_t i = nin__cuda_element(count_of(w)).element, filter = i / w.taps / w.channels;
    uint32_t tap = i % w.taps, c = i / w.taps % w.channels;
    uint32_t from = (filter * w.taps + tap) * w.channels + c;

    if (i < count_of(w))
        gradient[i] = accumulate ? gradient[i] + products[from] : products[from];
}

/* ---- the passes ----------------------------------------------------------------------------- */

/* Whether the product that is the gradient of the weights can be written where that belongs: in the same order, and
 * not in addition to what is there, for that would change the order of sums. */
bool is_in_place(const struct cuda_call *call)
{
    return !nin__cuda_is_permuted(call->op) && !call->run->accumulate;
}

/* The products of some images, whose input lies as it is needed or goes to `patches`. */
struct cuda_product describe(const struct cuda_call *call, struct cuda_part part)
{
    const struct nin__op *op = call->op;
    size_t in = (size_t)part.first * nin__shape_size(op->in);
    size_t out = (size_t)part.first * nin__shape_size(op->out);
    struct cuda_product product = {};

    product.p = (int64_t)part.images * op->out.h * op->out.w;
    product.n = op->out.c;
    product.k = (int64_t)nin__cuda_patch(op);
    product.x = nin__cuda_is_flat(op) ? call->x + in : call->executable->scratch.patches;
    product.w = call->weights;
    product.y = call->y + out;
    product.dy = call->dy == NULL ? NULL : call->dy + out;
    product.add = part.first > 0;
    product.precision = call->executable->options.precision;
    if (call->dy != NULL)
        product.dw = is_in_place(call) ? call->run->gradient + op->weight
                                       : call->executable->scratch.products;
    if (call->dx != NULL)
        product.dx = nin__cuda_is_flat(op) ? call->dx + in : call->executable->scratch.patches;
    return product;
}

nin_status gather(const struct cuda_call *call, struct cuda_part part)
{
    const struct nin__op *op = call->op;
    size_t size = (size_t)op->out.h * (size_t)op->out.w * nin__cuda_patch(op);
    const float *x = call->x + (size_t)part.first * nin__shape_size(op->in);
    float *patches = call->executable->scratch.patches;
    struct windows windows = nin__cuda_windows_of(op);

    if (nin__cuda_is_flat(op))
        return NIN_OK;
    if (windows.in_c % 4 != 0)
        return nin__cuda_launch_images(call->device, part.images, size, gather_patches, patches, x,
                                       windows);
    windows.in_c /= 4; /* whole maps of them begin where a float4 may */
    return nin__cuda_launch_images(call->device, part.images, size / 4, gather_fours,
                                   (float4 *)(void *)patches, (const float4 *)(const void *)x,
                                   windows);
}

nin_status scatter(const struct cuda_call *call, struct cuda_part part)
{
    const struct nin__op *op = call->op;
    size_t size = nin__shape_size(op->in);

    if (nin__cuda_is_flat(op))
        return NIN_OK;
    return nin__cuda_launch_images(
        call->device, part.images, size, scatter_patches, call->dx + (size_t)part.first * size,
        (const float *)call->executable->scratch.patches, nin__cuda_windows_of(op));
}

/* dy is gated by the ReLU; its sums over the pixels are the bias's gradient. */
nin_status begin_backward(const struct cuda_call *call)
{
    const struct nin__op *op = call->op;
    size_t count = (size_t)call->images * nin__shape_size(op->out);

    if (op->bias == NIN__NO_PARAMETER)
        return nin__cuda_gate(call);
    return nin__cuda_bias_gradient(call, call->dy, op->relu && !call->gated ? call->y : NULL,
                                   count / (size_t)op->out.c, call->executable->scratch.sums);
}

nin_status finish(const struct cuda_call *call)
{
    const struct nin__op *op = call->op;

    if (is_in_place(call))
        return NIN_OK;
    return nin__cuda_launch_images(call->device, 1, (size_t)op->out.c * nin__cuda_patch(op),
                                   finish_weights, call->run->gradient + op->weight,
                                   (const float *)call->executable->scratch.products,
                                   weights_of(op), call->run->accumulate);
}

} // namespace

size_t nin__cuda_patch(const struct nin__op *op)
{
    return (size_t)op->kernel_h * (size_t)op->kernel_w * (size_t)op->in.c;
}

bool nin__cuda_is_flat(const struct nin__op *op)
{
    bool pixel = op->kernel_h == 1 && op->kernel_w == 1 && op->stride == 1;
    bool map = op->kernel_h == op->in.h && op->kernel_w == op->in.w;

    return op->pad == 0 && (pixel || map);
}

bool nin__cuda_is_permuted(const struct nin__op *op)
{
    return op->kernel_h * op->kernel_w > 1 && op->in.c > 1;
}

int32_t nin__cuda_patch_images(const struct nin__op *op, int32_t batch)
{
    int64_t pixels = (int64_t)op->out.h * op->out.w, most = PRODUCT_ROWS / pixels;
    int64_t room = PATCH_FLOATS / (pixels * (int64_t)nin__cuda_patch(op));

    if (!nin__cuda_is_flat(op) && room < most)
        most = room;
    return most < 1 ? 1 : most < batch ? (int32_t)most : batch;
}

nin_status nin__cuda_gemm_prepare(struct nin__device *device, const struct nin__op *op,
                                  const float *weights, float *permuted)
{
    return nin__cuda_launch_images(device, 1, (size_t)op->out.c * nin__cuda_patch(op), permute,
                                   permuted, weights, weights_of(op));
}

nin_status nin__cuda_gemm_conv(const struct cuda_call *call)
{
    const struct nin__op *op = call->op;
    const float *bias = nin__cuda_bias(call);
    int32_t most = nin__cuda_patch_images(op, call->images);
    bool relu = op->relu && !call->cuda->relu_later;
    size_t rows = (size_t)call->images * (size_t)op->out.h * (size_t)op->out.w;
    struct cuda_part part = {0, 0};

    while (nin__cuda_next_part(&part, call, most)) {
        struct cuda_product product = describe(call, part);

        product.bias = relu ? NULL : bias;
        NIN__TRY(gather(call, part));
        NIN__TRY(nin__cuda_gemm_forward(call->device, &product));
    }
    return relu ? nin__cuda_add_bias(call->device, call->y, bias, rows, (size_t)op->out.c, true)
                : NIN_OK;
}

nin_status nin__cuda_gemm_data_of(const struct cuda_call *call)
{
    int32_t most = nin__cuda_patch_images(call->op, call->images);
    struct cuda_part part = {0, 0};

    while (nin__cuda_next_part(&part, call, most)) {
        struct cuda_product product = describe(call, part);

        NIN__TRY(nin__cuda_gemm_data(call->device, &product)); /* over the patches, if there are */
        NIN__TRY(scatter(call, part));
    }
    return NIN_OK;
}

nin_status nin__cuda_gemm_conv_backward(const struct cuda_call *call)
{
    int32_t most = nin__cuda_patch_images(call->op, call->images);
    struct cuda_part part = {0, 0};

    NIN__TRY(begin_backward(call));
    while (nin__cuda_next_part(&part, call, most)) {
        struct cuda_product product = describe(call, part);

        NIN__TRY(gather(call, part));
        NIN__TRY(nin__cuda_gemm_weights(call->device, &product));
    }
    NIN__TRY(finish(call));
    return call->dx == NULL ? NIN_OK : nin__cuda_gemm_data_of(call);
}
