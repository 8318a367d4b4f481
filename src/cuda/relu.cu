/* SPDX-License-Identifier: MIT */
/* A ReLU that stands alone: y = x < 0 ? 0 : x, so that NaN stays NaN. */
#include "cuda/vectors.h"

namespace
{

__global__ void __launch_bounds__(BLOCK) rectify(float *y, const float *x, size_t count)
{
    FOR_EACH_ELEMENT (i, count)
        y[i] = nin__cuda_rectified(x[i]);
}

__global__ void __launch_bounds__(BLOCK)
    pass(float *dx, const float *dy, const float *y, size_t count)
{
    FOR_EACH_ELEMENT (i, count)
        dx[i] = nin__cuda_gated(dy[i], y[i]);
}

} // namespace

nin_status nin__cuda_relu(const struct cuda_call *call)
{
    size_t count = (size_t)call->images * nin__shape_size(call->op->out);

    return nin__cuda_launch(call->device, count, rectify, call->y, call->x, count);
}

nin_status nin__cuda_relu_backward(const struct cuda_call *call)
{
    return call->dx == NULL ? NIN_OK : nin__cuda_pass(call, call->dx);
}

nin_status nin__cuda_pass(const struct cuda_call *call, float *dx)
{
    size_t count = (size_t)call->images * nin__shape_size(call->op->out);

    return nin__cuda_launch(call->device, count, pass, dx, (const float *)call->dy,
                            (const float *)call->y, count);
}
