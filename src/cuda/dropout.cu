/* SPDX-License-Identifier: MIT */
/* Inverted dropout with counter-based masks, which backward draws again: so nothing is saved. */
#include "cuda/philox.h"

namespace
{

/* A thread has one block of random words, for four elements of an image; size: of an image */
__global__ void __launch_bounds__(BLOCK)
    drop(float *y, const float *x, uint32_t size, struct cuda_mask mask)
{
    struct image_element at = nin__cuda_element(nin__cuda_fours(size));
    size_t first = (size_t)at.image * size;
    uint32_t word[4];

    if (at.element >= nin__cuda_fours(size))
        return;
    nin__cuda_philox(word, mask, at.element, at.image);
    for (uint32_t i = 0, e = 4 * at.element; i < 4 && e < size; i++, e++)
        y[first + e] = word[i] >= mask.threshold ? x[first + e] * mask.scale : 0.0f;
}

nin_status launch(const struct cuda_call *call, float *y, const float *x)
{
    uint32_t size = (uint32_t)nin__shape_size(call->op->out);

    return nin__cuda_launch_images(call->device, call->images, nin__cuda_fours(size), drop, y, x,
                                   size, nin__cuda_mask_of(call));
}

} // namespace

nin_status nin__cuda_dropout(const struct cuda_call *call)
{
    return launch(call, call->y, call->x);
}

nin_status nin__cuda_dropout_backward(const struct cuda_call *call)
{
    return call->dx == NULL ? NIN_OK : launch(call, call->dx, call->dy);
}
