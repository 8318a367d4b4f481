/* SPDX-License-Identifier: MIT */
/* What the algorithms of a convolution share: which one does an op, and its ReLU's gate. */
#include "cuda/conv.h"

nin_status nin__cuda_heed_relu(const struct cuda_call *call)
{
    return !call->op->relu || call->gated ? NIN_OK : nin__cuda_gate(call);
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

/* A rule of shapes alone. */
void nin__cuda_choose_algorithm(struct cuda_op *cuda, const struct nin__compile_options *options)
{
    nin_precision precision = options->precision;
    nin_algorithm algorithm = options->algorithm;
    bool direct = algorithm == NIN_ALGORITHM_AUTO || algorithm == NIN_ALGORITHM_DIRECT;

    cuda->tiling =
        nin__cuda_choose_tiling(cuda->op, precision == NIN_FP32 ? algorithm : NIN_ALGORITHM_GEMM);
    if (cuda->tiling.side > 0)
        cuda->algorithm = CUDA_WINOGRAD;
    else if (direct && nin__cuda_direct_fits(cuda->op, options))
        cuda->algorithm = CUDA_DIRECT;
    else
        cuda->algorithm = CUDA_GEMM;
    cuda->tensor_cores = cuda->algorithm == CUDA_DIRECT && precision != NIN_FP32;
}
