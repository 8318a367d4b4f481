/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_CONV_H
#define NIN__CUDA_CONV_H

/* What the algorithms of a convolution share. */

#include "cuda/bias.h"
#include "cuda/windows.h"

/* Images first ... of a call, as many as go together. */
struct cuda_part {
    int32_t first, images;
};

/* The next ones, of which `most` go together; false if there are none. */
static inline bool nin__cuda_next_part(struct cuda_part *part, const struct cuda_call *call,
                                       int32_t most)
{
    part->first += part->images;
    part->images = call->images - part->first < most ? call->images - part->first : most;
    return part->images > 0;
}

static inline const float *nin__cuda_bias(const struct cuda_call *call)
{
    return call->op->bias == NIN__NO_PARAMETER ? NULL : call->run->parameters + call->op->bias;
}

/* dy is gated by the op's ReLU, in place, unless there is none or it comes so. */
nin_status nin__cuda_heed_relu(const struct cuda_call *call);

static inline bool nin__cuda_is_pointwise(const struct nin__op *op)
{
    return op->kernel_h == 1 && op->kernel_w == 1 && op->stride == 1 && op->pad == 0;
}

/* conv_direct.cu: one product a pass, of windows that are not in memory */
bool nin__cuda_direct_fits(const struct nin__op *op, const struct nin__compile_options *options);
bool nin__cuda_direct_data_fits(const struct cuda_op *cuda, int32_t batch); /* for dx, too */
nin_status nin__cuda_direct_conv(const struct cuda_call *call);
nin_status nin__cuda_direct_conv_backward(const struct cuda_call *call);

/* conv_gemm.cu: products over windows, gathered unless they lie as a matrix already */
nin_status nin__cuda_gemm_conv(const struct cuda_call *call);
nin_status nin__cuda_gemm_conv_backward(const struct cuda_call *call);
nin_status nin__cuda_gemm_round(const struct cuda_call *call);   /* a gated dy, if it has to be */
nin_status nin__cuda_gemm_data_of(const struct cuda_call *call); /* then dx alone */

/* conv_winograd.cu: Winograd's minimal filtering */
nin_status nin__cuda_winograd_conv(const struct cuda_call *call);
nin_status nin__cuda_winograd_conv_backward(const struct cuda_call *call);

/* Where a form goes; NULL: there is none, or it is not to be made again. */
static inline void *nin__cuda_target_of(void *const *targets, int32_t form)
{
    return form < 0 ? NULL : targets[form];
}

/* conv_winograd_weights.cu: the forms of all weights that are wanted at points; and
 * scratch.products, a sum over each group of tiles, become the weights' gradient, or part of it */
nin_status nin__cuda_winograd_prepare(struct nin__executable *executable, const float *parameters,
                                      void *const *targets);
nin_status nin__cuda_winograd_finish_weights(const struct cuda_call *call, size_t groups, bool add);

/* weights.cu: scratch.products, in the order of nin__cuda_row's rows, become the weights'
 * gradient */
nin_status nin__cuda_finish_weights(const struct cuda_call *call);

#endif
