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
    ROW_BYTES = 16          /* that are loaded at once */
};

/* ---- patches -------------------------------------------------------------------------------- */

/* In elements, or in vectors of them, each of which in_c counts as one. */
struct patches : windows {
    uint32_t row; /* a window and what it is filled up with */
};

/* Of an image: its patches have fewer than 2^31 elements. */
__device__ uint32_t patches_size(const struct patches &p)
{
    return (uint32_t)p.out_h * (uint32_t)p.out_w * p.row;
}

__device__ uint32_t window_size(const struct patches &p)
{
    return (uint32_t)p.kernel_h * (uint32_t)p.kernel_w * (uint32_t)p.in_c;
}

/* patches: [image][oy][ox][row], a row is [r][s][c] */
template <typename V>
__global__ void __launch_bounds__(BLOCK) gather_patches(V *patches, const V *x, struct patches p)
{
    struct image_element at = nin__cuda_element(patches_size(p));
    uint32_t in_row = at.element % p.row, from;
    bool inside = nin__cuda_find_tap(&from, at.element / p.row, in_row, p);
    V v = {};

    if (at.element >= patches_size(p))
        return;
    if (inside && in_row < window_size(p))
        v = x[(size_t)at.image * nin__cuda_in_size(p) + from];
    patches[(size_t)at.image * patches_size(p) + at.element] = v;
}

/* dx: each input gets the sum of its taps' gradients in the order of the windows. */
template <typename X>
__global__ void __launch_bounds__(BLOCK) scatter_patches(X *dx, const X *patches, struct patches p)
{
    struct image_element at = nin__cuda_element(nin__cuda_in_size(p));
    const X *image = patches + (size_t)at.image * patches_size(p);
    uint32_t c = at.element % (uint32_t)p.in_c, pixel = at.element / (uint32_t)p.in_c;
    int32_t ix = (int32_t)(pixel % (uint32_t)p.in_w), iy = (int32_t)(pixel / (uint32_t)p.in_w);
    struct extent rows = nin__cuda_viewers(iy, p.kernel_h, p.out_h, p);
    struct extent columns = nin__cuda_viewers(ix, p.kernel_w, p.out_w, p);
    typename cuda_wide<X>::type sum = {};

    if (at.element >= nin__cuda_in_size(p))
        return;
    for (int32_t oy = rows.first; oy < rows.end; oy++)
        for (int32_t ox = columns.first; ox < columns.end; ox++) {
            uint32_t r = (uint32_t)(iy + p.pad - oy * p.stride);
            uint32_t s = (uint32_t)(ix + p.pad - ox * p.stride);
            uint32_t row = (uint32_t)oy * (uint32_t)p.out_w + (uint32_t)ox;
            uint32_t tap = (r * (uint32_t)p.kernel_w + s) * (uint32_t)p.in_c + c;

            sum = nin__cuda_sum_of(sum, nin__cuda_load(image + row * p.row + tap));
        }
    nin__cuda_store(dx + (size_t)at.image * nin__cuda_in_size(p) + at.element, sum);
}

struct patches patches_of(const struct cuda_op *cuda)
{
    struct patches p;

    static_cast<struct windows &>(p) = nin__cuda_windows_of(cuda->op);
    p.row = (uint32_t)nin__cuda_row(cuda);
    return p;
}

/* Counted in vectors of so many channels. */
struct patches in_vectors(struct patches p, uint32_t channels)
{
    p.in_c /= (int32_t)channels;
    p.row /= channels;
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
                        struct patches p)
{
    size_t size = (size_t)p.out_h * (size_t)p.out_w * p.row;

    return nin__cuda_launch_images(call->device, images, size, gather_patches<V>,
                                   (V *)windows_of(call), (const V *)x, p);
}

/* In vectors of 16 bytes, where channels come in these: then whole maps of them begin where a
 * vector may. */
template <typename T> nin_status gather_as(const struct cuda_call *call, struct cuda_part part)
{
    const uint32_t channels = sizeof(float4) / sizeof(T);
    struct patches p = patches_of(call->cuda);
    const T *x = images_of<T>(call->x, part, nin__shape_size(call->op->in));

    if ((uint32_t)p.in_c % channels != 0)
        return start_gather<T>(call, part.images, x, p);
    return start_gather<float4>(call, part.images, x, in_vectors(p, channels));
}

nin_status gather(const struct cuda_call *call, struct cuda_part part)
{
    if (nin__cuda_is_flat(call->op))
        return NIN_OK;
    return call->cuda->narrow_x ? gather_as<cuda_bf16>(call, part) : gather_as<float>(call, part);
}

template <typename X>
nin_status start_scatter(const struct cuda_call *call, int32_t images, X *dx, struct patches p)
{
    size_t size = (size_t)p.in_h * (size_t)p.in_w * (size_t)p.in_c;

    return nin__cuda_launch_images(call->device, images, size, scatter_patches<X>, dx,
                                   (const X *)call->executable->scratch.patches, p);
}

template <typename T> nin_status scatter_as(const struct cuda_call *call, struct cuda_part part)
{
    struct patches p = patches_of(call->cuda);
    T *dx = images_of<T>(call->dx, part, nin__shape_size(call->op->in));

    if (p.in_c % 4 != 0)
        return start_scatter(call, part.images, dx, p);
    return start_scatter(call, part.images, nin__cuda_fours_of(dx), in_vectors(p, 4));
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
    return call->cuda->narrow_x && !call->cuda->narrow_y ? call->executable->scratch.points
                                                         : call->dy;
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
