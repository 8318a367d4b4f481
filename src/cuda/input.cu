/* SPDX-License-Identifier: MIT */
/* The program's first op: scales stored pixels, turns NCHW into NHWC; and the way back, for what
 * the caller reads. */
#include "cuda/vectors.h"

namespace
{

/* What the kernels know of an image. */
struct planes {
    uint32_t pixels, channels;
};

__device__ uint32_t size_of(struct planes p)
{
    return p.pixels * p.channels;
}

/* Where element e of [row][column][channel] lies in [channel][row][column]. */
__device__ uint32_t in_planes(uint32_t e, struct planes p)
{
    return e % p.channels * p.pixels + e / p.channels;
}

/* Where the image lies that is to be image n, see struct cuda_source. */
__device__ size_t first_of(uint32_t n, const int32_t *index, struct planes p)
{
    return (size_t)(index != NULL ? (uint32_t)index[n] : n) * size_of(p);
}

template <typename Y>
__global__ void __launch_bounds__(BLOCK)
    spread_bytes(Y *y, const unsigned char *x, const int32_t *index, struct planes p, float scale,
                 float shift)
{
    struct image_element at = nin__cuda_element(size_of(p));
    size_t first = (size_t)at.image * size_of(p), from = first_of(at.image, index, p);

    if (at.element < size_of(p))
        nin__cuda_store(y + first + at.element,
                        (float)x[from + in_planes(at.element, p)] * scale + shift);
}

template <typename Y>
__global__ void __launch_bounds__(BLOCK)
    spread_floats(Y *y, const float *x, const int32_t *index, struct planes p)
{
    struct image_element at = nin__cuda_element(size_of(p));
    size_t first = (size_t)at.image * size_of(p), from = first_of(at.image, index, p);

    if (at.element < size_of(p))
        nin__cuda_store(y + first + at.element, x[from + in_planes(at.element, p)]);
}

/* The other way. */
template <typename X>
__global__ void __launch_bounds__(BLOCK) gather_floats(float *y, const X *x, struct planes p)
{
    struct image_element at = nin__cuda_element(size_of(p));
    size_t first = (size_t)at.image * size_of(p);

    if (at.element < size_of(p))
        y[first + in_planes(at.element, p)] = nin__cuda_load(x + first + at.element);
}

struct planes planes_of(struct nin__shape shape)
{
    struct planes planes = {(uint32_t)shape.h * (uint32_t)shape.w, (uint32_t)shape.c};

    return planes;
}

template <typename Y> nin_status spread(const struct cuda_call *call)
{
    const struct nin__op *op = call->op;
    const struct cuda_source *source = &call->source;

    if (call->run->images.dtype == NIN_F32)
        return nin__cuda_launch_images(
            call->device, call->images, nin__shape_size(op->out), spread_floats<Y>, (Y *)call->y,
            (const float *)source->images, source->index, planes_of(op->out));
    return nin__cuda_launch_images(call->device, call->images, nin__shape_size(op->out),
                                   spread_bytes<Y>, (Y *)call->y,
                                   (const unsigned char *)source->images, source->index,
                                   planes_of(op->out), op->scale, op->shift);
}

template <typename X>
nin_status gather(struct nin__device *device, struct nin__shape shape, int32_t images,
                  const void *source, float *target)
{
    return nin__cuda_launch_images(device, images, nin__shape_size(shape), gather_floats<X>, target,
                                   (const X *)source, planes_of(shape));
}

} // namespace

nin_status nin__cuda_input(const struct cuda_call *call)
{
    return call->cuda->narrow_y ? spread<cuda_bf16>(call) : spread<float>(call);
}

nin_status nin__cuda_to_nhwc(struct nin__device *device, struct nin__shape shape, int32_t images,
                             const float *source, float *target)
{
    return nin__cuda_launch_images(device, images, nin__shape_size(shape), spread_floats<float>,
                                   target, source, (const int32_t *)NULL, planes_of(shape));
}

nin_status nin__cuda_to_nchw(struct nin__device *device, struct nin__shape shape, int32_t images,
                             const void *source, bool narrow, float *target)
{
    return narrow ? gather<cuda_bf16>(device, shape, images, source, target)
                  : gather<float>(device, shape, images, source, target);
}
