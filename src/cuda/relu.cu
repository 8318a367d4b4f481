/* SPDX-License-Identifier: MIT */
/* A ReLU that stands alone: y = x < 0 ? 0 : x, so that NaN stays NaN. */
#include "cuda/vectors.h"

namespace
{

template <typename X, typename Y>
__global__ void __launch_bounds__(BLOCK) rectify(Y *y, const X *x, size_t count)
{
    FOR_EACH_ELEMENT (i, count)
        nin__cuda_store(y + i, nin__cuda_rectified(nin__cuda_load(x + i)));
}

/* dx may be dy. */
template <typename X, typename Y>
__global__ void __launch_bounds__(BLOCK) pass(X *dx, const Y *dy, const Y *y, size_t count)
{
    FOR_EACH_ELEMENT (i, count)
        nin__cuda_store(dx + i, nin__cuda_gated(nin__cuda_load(dy + i), nin__cuda_load(y + i)));
}

size_t count_of(const struct cuda_call *call)
{
    return (size_t)call->images * nin__shape_size(call->op->out);
}

template <typename X, typename Y> nin_status forward(const struct cuda_call *call)
{
    return nin__cuda_launch(call->device, count_of(call), rectify<X, Y>, (Y *)call->y,
                            (const X *)call->x, count_of(call));
}

template <typename X, typename Y> nin_status pass_to(const struct cuda_call *call, void *dx)
{
    return nin__cuda_launch(call->device, count_of(call), pass<X, Y>, (X *)dx, (const Y *)call->dy,
                            (const Y *)call->y, count_of(call));
}

template <typename X, typename Y> nin_status backward(const struct cuda_call *call)
{
    return pass_to<X, Y>(call, call->dx);
}

} // namespace

nin_status nin__cuda_relu(const struct cuda_call *call)
{
    return nin__cuda_by_type(call, forward<float, float>, forward<cuda_bf16, cuda_bf16>,
                             forward<cuda_bf16, float>);
}

nin_status nin__cuda_relu_backward(const struct cuda_call *call)
{
    if (call->dx == NULL)
        return NIN_OK;
    return nin__cuda_by_type(call, backward<float, float>, backward<cuda_bf16, cuda_bf16>,
                             backward<cuda_bf16, float>);
}

nin_status nin__cuda_gate(const struct cuda_call *call)
{
    return call->cuda->narrow_y ? pass_to<cuda_bf16, cuda_bf16>(call, call->dy)
                                : pass_to<float, float>(call, call->dy);
}
