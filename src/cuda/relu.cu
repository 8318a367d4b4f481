/* SPDX-License-Identifier: MIT */
/* A ReLU that stands alone: y = x < 0 ? 0 : x, so that NaN stays NaN. */
#include "cuda/launch.h"

namespace
{

__global__ void __launch_bounds__(BLOCK) rectify(float *y, const float *x, size_t count)
{
    FOR_EACH_ELEMENT (i, count)
        y[i] = x[i] < 0.0f ? 0.0f : x[i];
}

__global__ void __launch_bounds__(BLOCK)
    pass(float *dx, const float *dy, const float *y, size_t count)
{
    FOR_EACH_ELEMENT (i, count)
        dx[i] = y[i] > 0.0f ? dy[i] : 0.0f;
}

} // namespace

nin_status nin__cuda_relu(const struct cuda_call *call)
{
    size_t count = (size_t)call->images * nin__shape_size(call->op->out);

    return nin__cuda_launch(call->device, count, rectify, call->y, call->x, count);
}

nin_status nin__cuda_relu_backward(const struct cuda_call *call)
{
    size_t count = (size_t)call->images * nin__shape_size(call->op->out);

    if (call->dx == NULL)
        return NIN_OK;
    return nin__cuda_launch(call->device, count, pass, call->dx, (const float *)call->dy,
                            (const float *)call->y, count);
}
