/* SPDX-License-Identifier: MIT */
/* Inverted dropout with counter-based masks, which backward draws again: so nothing is saved. */
#include "cuda/philox.h"
#include "cuda/vectors.h"

namespace
{

/* A thread has one block of random words, for four elements of an image; size: of an image */
template <typename X, typename Y>
__global__ void __launch_bounds__(BLOCK)
    drop(Y *y, const X *x, uint32_t size, struct cuda_mask mask)
{
    struct image_element at = nin__cuda_element(nin__cuda_fours(size));
    size_t first = (size_t)at.image * size;
    uint32_t word[4];

    if (at.element >= nin__cuda_fours(size))
        return;
    nin__cuda_philox(word, mask, at.element, at.image);
    for (uint32_t i = 0, e = 4 * at.element; i < 4 && e < size; i++, e++)
        nin__cuda_store(y + first + e, word[i] >= mask.threshold
                                           ? nin__cuda_load(x + first + e) * mask.scale
                                           : 0.0f);
}

template <typename X, typename Y>
nin_status launch(const struct cuda_call *call, void *y, const void *x)
{
    uint32_t size = (uint32_t)nin__shape_size(call->op->out);

    return nin__cuda_launch_images(call->device, call->images, nin__cuda_fours(size), drop<X, Y>,
                                   (Y *)y, (const X *)x, size, nin__cuda_mask_of(call));
}

template <typename X, typename Y> nin_status forward(const struct cuda_call *call)
{
    return launch<X, Y>(call, call->y, call->x);
}

template <typename X, typename Y> nin_status backward(const struct cuda_call *call)
{
    return launch<Y, X>(call, call->dx, call->dy);
}

} // namespace

nin_status nin__cuda_dropout(const struct cuda_call *call)
{
    return nin__cuda_by_type(call, forward<float, float>, forward<cuda_bf16, cuda_bf16>,
                             forward<cuda_bf16, float>);
}

nin_status nin__cuda_dropout_backward(const struct cuda_call *call)
{
    if (call->dx == NULL)
        return NIN_OK;
    return nin__cuda_by_type(call, backward<float, float>, backward<cuda_bf16, cuda_bf16>,
                             backward<cuda_bf16, float>);
}
