/* SPDX-License-Identifier: MIT */
/* Convolution as matrix products. In NHWC a window is kernel_h runs of kernel_w * C elements;
 * gathered, the windows of some images are a matrix `patches` of pixels x K,
 * K = kernel_h * kernel_w * C, and
 *
 *     y  (pixels x OC) = patches * w'      dw (OC x K) += dy' * patches      dpatches = dy * w
 *
 * with weights OHWI (OC x K). A 1x1 convolution and a dense layer need no gathering: their input is
 * the patches matrix. Images go together as far as their patches have room; those of a whole batch
 * are kept for backward.
 *
 * In NIN_BF16 all of these but dw and scores are bf16; rows of patches, and those of weights, are
 * then filled up with zeros to a multiple of what tensor cores load at once, and so they are where
 * kernels of libnin's own share the weights in NIN_TF32. */
#include "cuda/conv.h"
#include "cuda/vectors.h"

namespace
{

enum {
    PATCH_BYTES = 1 << 27,  /* of patches, or those of one image */
    PRODUCT_ROWS = 1 << 20, /* of one product: cuBLAS has failed on more */
    ROW_BYTES = 16,         /* that are loaded at once */
    WINDOWS = 4,            /* that a thread asks for before it waits for the first, */
    TAPS = 5                /* and taps, of one row of them */
};

/* ---- patches -------------------------------------------------------------------------------- */

/* In elements, or in vectors of them, each of which in_c counts as one. */
struct patches : windows {
    uint32_t row; /* a window and what it is filled up with */
    struct divisor by_in_c, by_kernel_w;
};

/* Of an image: its patches have fewer than 2^31 elements. */
__device__ uint32_t patches_size(const struct patches &p)
{
    return (uint32_t)p.out_h * (uint32_t)p.out_w * p.row;
}

/* patches: [image][oy][ox][row], a row is [r][s][c]. A thread has the same element of the rows of
 * WINDOWS neighbours: `groups` counts these as one. */
template <typename V>
__global__ void __launch_bounds__(BLOCK)
    gather_patches(V *patches, const V *x, struct patches p, struct map groups)
{
    struct image_element e = nin__cuda_element(groups);
    struct place at = nin__cuda_place(e.element, groups);
    int32_t rs = (int32_t)nin__cuda_quotient((uint32_t)at.channel, p.by_in_c);
    int32_t r = (int32_t)nin__cuda_quotient((uint32_t)rs, p.by_kernel_w);
    int32_t ox = at.column * WINDOWS, iy = at.row * p.stride - p.pad + r;
    int32_t ix = ox * p.stride - p.pad + rs - r * p.kernel_w;
    bool there = r < p.kernel_h && iy >= 0 && iy < p.in_h;
    uint32_t step = (uint32_t)p.stride * (uint32_t)p.in_c;
    uint32_t from = ((uint32_t)iy * (uint32_t)p.in_w + (uint32_t)ix) * (uint32_t)p.in_c +
                    (uint32_t)(at.channel - rs * p.in_c);
    uint32_t to = ((uint32_t)at.row * (uint32_t)p.out_w + (uint32_t)ox) * p.row;
    V v[WINDOWS] = {};

    if (e.element >= groups.size)
        return;
    x += (size_t)e.image * nin__cuda_in_size(p);
    patches += (size_t)e.image * patches_size(p) + (uint32_t)at.channel;
#pragma unroll
    for (uint32_t i = 0; i < WINDOWS; i++, ix += p.stride)
        if (there && ix >= 0 && ix < p.in_w)
            v[i] = x[from + i * step];
#pragma unroll
    for (uint32_t i = 0; i < WINDOWS; i++)
        if (ox + (int32_t)i < p.out_w)
            patches[to + i * p.row] = v[i];
}

/* dx: each input gets the sum of its taps' gradients in the order of the windows. */
template <typename X>
__global__ void __launch_bounds__(BLOCK, 4)
    scatter_patches(X *dx, const X *patches, struct patches p, struct map inputs)
{
    typedef typename cuda_wide<X>::type V;
    struct image_element e = nin__cuda_element(inputs);
    struct place at = nin__cuda_place(e.element, inputs);
    struct extent rows = nin__cuda_viewers(at.row, p.kernel_h, p.out_h, p);
    struct extent columns = nin__cuda_viewers(at.column, p.kernel_w, p.out_w, p);
    uint32_t step = p.row - (uint32_t)p.stride * (uint32_t)p.in_c; /* to the next window's tap */
    V sum = {};

    if (e.element >= inputs.size)
        return;
    patches += (size_t)e.image * patches_size(p) + (uint32_t)at.channel;
    for (int32_t oy = rows.first; oy < rows.end; oy++)
        for (int32_t ox = columns.first; ox < columns.end; ox += TAPS) {
            uint32_t r = (uint32_t)(at.row + p.pad - oy * p.stride);
            uint32_t s = (uint32_t)(at.column + p.pad - ox * p.stride);
            uint32_t from = ((uint32_t)oy * (uint32_t)p.out_w + (uint32_t)ox) * p.row +
                            (r * (uint32_t)p.kernel_w + s) * (uint32_t)p.in_c;
            V tap[TAPS] = {};

#pragma unroll
            for (uint32_t i = 0; i < TAPS; i++)
                if (ox + (int32_t)i < columns.end)
                    tap[i] = nin__cuda_load(patches + (from + i * step));
#pragma unroll
            for (uint32_t i = 0; i < TAPS; i++)
                sum =
                    nin__cuda_sum_of(sum, tap[i]); /* what is not there is 0 and changes nothing */
        }
    nin__cuda_store(dx + (size_t)e.image * inputs.size + e.element, sum);
}

/* Counted in vectors of so many channels, or in elements: 1. */
struct patches patches_of(const struct cuda_op *cuda, uint32_t channels)
{
    struct patches p;

    static_cast<struct windows &>(p) = nin__cuda_windows_of(cuda->op);
    p.in_c /= (int32_t)channels;
    p.row = (uint32_t)nin__cuda_row(cuda) / channels;
    p.by_in_c = nin__cuda_divisor((uint32_t)p.in_c);
    p.by_kernel_w = nin__cuda_divisor((uint32_t)p.kernel_w);
    return p;
}

/* The part's images, of a map whose image has so many elements; T: float or bf16. */
template <typename T> T *images_of(void *map, struct cuda_part part, size_t size)
{
    return (T *)map + (size_t)part.first * size;
}

template <typename T> const T *images_of(const void *map, struct cuda_part part, size_t size)
{
    return (const T *)map + (size_t)part.first * size;
}

/* Where the windows of the input go. */
void *windows_of(const struct cuda_call *call)
{
    return call->cuda->saved_per_image == 0 ? call->executable->scratch.patches
                                            : call->executable->memory + call->cuda->saved;
}

template <typename V>
nin_status start_gather(const struct cuda_call *call, int32_t images, const void *x,
                        uint32_t channels)
{
    struct patches p = patches_of(call->cuda, channels);
    struct map groups = nin__cuda_map(p.out_h, (p.out_w + WINDOWS - 1) / WINDOWS, (int32_t)p.row);

    return nin__cuda_launch_images(call->device, images, groups.size, gather_patches<V>,
                                   (V *)windows_of(call), (const V *)x, p, groups);
}

/* In vectors of 16 bytes, where channels come in these: then whole maps of them begin where a
 * vector may. */
template <typename T> nin_status gather_as(const struct cuda_call *call, struct cuda_part part)
{
    const uint32_t channels = sizeof(float4) / sizeof(T);
    const T *x = images_of<T>(call->x, part, nin__shape_size(call->op->in));

    return (uint32_t)call->op->in.c % channels == 0
               ? start_gather<float4>(call, part.images, x, channels)
               : start_gather<T>(call, part.images, x, 1);
}

nin_status gather(const struct cuda_call *call, struct cuda_part part)
{
    if (nin__cuda_is_flat(call->op))
        return NIN_OK;
    return call->cuda->narrow_x ? gather_as<cuda_bf16>(call, part) : gather_as<float>(call, part);
}

template <typename X>
nin_status start_scatter(const struct cuda_call *call, int32_t images, X *dx, uint32_t channels)
{
    struct patches p = patches_of(call->cuda, channels);
    struct map inputs = nin__cuda_map(p.in_h, p.in_w, p.in_c);

    return nin__cuda_launch_images(call->device, images, inputs.size, scatter_patches<X>, dx,
                                   (const X *)call->executable->scratch.patches, p, inputs);
}

template <typename T> nin_status scatter_as(const struct cuda_call *call, struct cuda_part part)
{
    T *dx = images_of<T>(call->dx, part, nin__shape_size(call->op->in));

    return call->op->in.c % 4 == 0 ? start_scatter(call, part.images, nin__cuda_fours_of(dx), 4)
                                   : start_scatter(call, part.images, dx, 1);
}

nin_status scatter(const struct cuda_call *call, struct cuda_part part)
{
    if (nin__cuda_is_flat(call->op))
        return NIN_OK;
    return call->cuda->narrow_x ? scatter_as<cuda_bf16>(call, part) : scatter_as<float>(call, part);
}

/* ---- the passes ----------------------------------------------------------------------------- */

/* Whether the product that is the gradient of the weights can be written where that belongs: in the
 * same order, and not in addition to what is there, for that would change the order of sums. */
bool is_in_place(const struct cuda_call *call)
{
    return !nin__cuda_is_permuted(call->op) && !call->run->accumulate &&
           nin__cuda_row(call->cuda) == nin__cuda_patch(call->op);
}

/* Element `first` of a map in floats or bf16, for something that only its type is known of. */
const void *from(const void *map, size_t first, bool narrow)
{
    return (const char *)map + first * nin__cuda_element_bytes(narrow);
}

void *from(void *map, size_t first, bool narrow)
{
    return (char *)map + first * nin__cuda_element_bytes(narrow);
}

/* The products of some images, whose input lies as it is needed or goes to `patches`; without what
 * backward needs. */
struct cuda_product describe(const struct cuda_call *call, struct cuda_part part)
{
    const struct nin__op *op = call->op;
    const struct cuda_op *cuda = call->cuda;
    size_t in = (size_t)part.first * nin__shape_size(op->in);
    size_t out = (size_t)part.first * nin__shape_size(op->out);
    struct cuda_product product = {};

    product.p = (int64_t)part.images * op->out.h * op->out.w;
    product.n = op->out.c;
    product.k = (int64_t)nin__cuda_row(cuda);
    product.x = nin__cuda_is_flat(op) ? from(call->x, in, cuda->narrow_x) : windows_of(call);
    product.w = call->weights;
    product.y = from(call->y, out, cuda->narrow_y);
    product.narrow_y = cuda->narrow_y;
    product.add = part.first > 0;
    product.precision = call->executable->options.precision;
    return product;
}

/* dy as products take it: that of scores is rounded where x is bf16. */
const void *multiplied_dy(const struct cuda_call *call)
{
    return nin__cuda_rounds_dy(call->cuda) ? call->executable->scratch.points : call->dy;
}

struct cuda_product describe_backward(const struct cuda_call *call, struct cuda_part part)
{
    const struct nin__op *op = call->op;
    bool narrow = call->cuda->narrow_x;
    size_t in = (size_t)part.first * nin__shape_size(op->in);
    size_t out = (size_t)part.first * nin__shape_size(op->out);
    struct cuda_product product = describe(call, part);

    product.dy = from(multiplied_dy(call), out, narrow);
    product.dw =
        is_in_place(call) ? call->run->gradient + op->weight : call->executable->scratch.products;
    if (call->dx != NULL)
        product.dx =
            nin__cuda_is_flat(op) ? from(call->dx, in, narrow) : call->executable->scratch.patches;
    return product;
}

__global__ void __launch_bounds__(BLOCK)
    round_map(cuda_bf16 *rounded, const float *map, size_t count)
{
    FOR_EACH_ELEMENT (i, count)
        nin__cuda_store(rounded + i, map[i]);
}

/* dy is gated by the ReLU; its sums over the pixels are the bias's gradient. */
nin_status begin_backward(const struct cuda_call *call)
{
    const struct nin__op *op = call->op;
    size_t count = (size_t)call->images * nin__shape_size(op->out);
    struct cuda_values dy = {call->dy, op->relu && !call->gated ? call->y : NULL,
                             count / (size_t)op->out.c, call->cuda->narrow_y};

    if (op->bias == NIN__NO_PARAMETER)
        NIN__TRY(nin__cuda_heed_relu(call));
    else
        NIN__TRY(nin__cuda_bias_gradient(call, dy, call->executable->scratch.sums));
    return nin__cuda_gemm_round(call);
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

size_t nin__cuda_row(const struct cuda_op *cuda)
{
    size_t patch = nin__cuda_patch(cuda->op);
    size_t multiple = ROW_BYTES / nin__cuda_element_bytes(cuda->narrow_x);

    return !(cuda->narrow_x || cuda->tensor_cores) || nin__cuda_is_flat(cuda->op)
               ? patch
               : (patch + multiple - 1) / multiple * multiple;
}

int32_t nin__cuda_patch_images(const struct cuda_op *cuda, int32_t batch)
{
    const struct nin__op *op = cuda->op;
    int64_t pixels = (int64_t)op->out.h * op->out.w, most = PRODUCT_ROWS / pixels;
    int64_t element = (int64_t)nin__cuda_element_bytes(cuda->narrow_x);
    int64_t room = PATCH_BYTES / (pixels * (int64_t)nin__cuda_row(cuda) * element);

    if (!nin__cuda_is_flat(op) && room < most)
        most = room;
    return most < 1 ? 1 : most < batch ? (int32_t)most : batch;
}

nin_status nin__cuda_gemm_conv(const struct cuda_call *call)
{
    const struct nin__op *op = call->op;
    bool later = call->cuda->finish_later;
    const float *bias = later ? NULL : nin__cuda_bias(call);
    int32_t most = nin__cuda_patch_images(call->cuda, call->images);
    size_t rows = (size_t)call->images * (size_t)op->out.h * (size_t)op->out.w;
    struct cuda_part part = {0, 0};

    while (nin__cuda_next_part(&part, call, most)) {
        struct cuda_product product = describe(call, part);

        product.bias = op->relu ? NULL : bias;
        NIN__TRY(gather(call, part));
        NIN__TRY(nin__cuda_gemm_forward(call->device, &product));
    }
    return op->relu && !later ? nin__cuda_add_bias(call->device, call->y, call->cuda->narrow_y,
                                                   bias, rows, (size_t)op->out.c, true)
                              : NIN_OK;
}

nin_status nin__cuda_gemm_round(const struct cuda_call *call)
{
    size_t count = (size_t)call->images * nin__shape_size(call->op->out);

    if (multiplied_dy(call) == call->dy)
        return NIN_OK;
    return nin__cuda_launch(call->device, count, round_map,
                            (cuda_bf16 *)call->executable->scratch.points, (const float *)call->dy,
                            count);
}

nin_status nin__cuda_gemm_data_of(const struct cuda_call *call)
{
    int32_t most = nin__cuda_patch_images(call->cuda, call->images);
    struct cuda_part part = {0, 0};

    while (nin__cuda_next_part(&part, call, most)) {
        struct cuda_product product = describe_backward(call, part);

        NIN__TRY(nin__cuda_gemm_data(call->device, &product)); /* over the patches, if there are */
        NIN__TRY(scatter(call, part));
    }
    return NIN_OK;
}

nin_status nin__cuda_gemm_conv_backward(const struct cuda_call *call)
{
    int32_t most = nin__cuda_patch_images(call->cuda, call->images);
    struct cuda_part part = {0, 0};

    NIN__TRY(begin_backward(call));
    while (nin__cuda_next_part(&part, call, most)) {
        struct cuda_product product = describe_backward(call, part);

        if (call->cuda->saved_per_image == 0)
            NIN__TRY(gather(call, part));
        NIN__TRY(nin__cuda_gemm_weights(call->device, &product));
    }
    if (!is_in_place(call))
        NIN__TRY(nin__cuda_finish_weights(call));
    return call->dx == NULL ? NIN_OK : nin__cuda_gemm_data_of(call);
}
