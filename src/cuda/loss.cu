/* SPDX-License-Identifier: MIT */
/* Log-softmax and negative log-likelihood of each image's scores, in double, a thread an image. */
#include "cuda/loss.h"

namespace
{

__device__ double exp_sum(const float *x, int32_t classes, float largest)
{
    double sum = 0.0;

    for (int32_t c = 0; c < classes; c++)
        sum += exp((double)x[c] - (double)largest);
    return sum;
}

__global__ void __launch_bounds__(BLOCK)
    losses_of(double *losses, uint8_t *marks, const float *scores, const int32_t *labels,
              size_t images, int32_t classes)
{
    FOR_EACH_ELEMENT (n, images) {
        const float *x = scores + n * (size_t)classes;
        int32_t best = nin__cuda_first_largest(x, classes);

        losses[n] = nin__cuda_loss_of(x, best, labels[n], exp_sum(x, classes, x[best]));
        marks[n] = nin__cuda_mark_of(x, classes, best, labels[n], losses[n]);
    }
}

__global__ void __launch_bounds__(BLOCK)
    gradient_of(float *gradient, const float *scores, const int32_t *labels, size_t images,
                int32_t classes)
{
    FOR_EACH_ELEMENT (n, images) {
        const float *x = scores + n * (size_t)classes;
        float *dx = gradient + n * (size_t)classes;
        float largest = x[nin__cuda_first_largest(x, classes)];
        double sum = exp_sum(x, classes, largest);

        for (int32_t c = 0; c < classes; c++)
            dx[c] =
                (float)((exp((double)x[c] - (double)largest) / sum - (c == labels[n] ? 1.0 : 0.0)) /
                        (double)images);
    }
}

} // namespace

nin_status nin__cuda_loss(const struct cuda_call *call)
{
    const struct nin__executable *executable = call->executable;
    size_t images = (size_t)call->images;

    if (nin__cuda_classifies(call->cuda, call->run))
        return nin__cuda_classify(call);
    if (call->run->labels == NULL)
        return NIN_OK;
    return nin__cuda_launch(call->device, images, losses_of, executable->losses, executable->marks,
                            (const float *)call->x, (const int32_t *)executable->labels, images,
                            call->op->in.c);
}

nin_status nin__cuda_loss_backward(const struct cuda_call *call)
{
    size_t images = (size_t)call->images;

    if (call->dx == NULL)
        return NIN_OK;
    return nin__cuda_launch(call->device, images, gradient_of, (float *)call->dx,
                            (const float *)call->x, (const int32_t *)call->executable->labels,
                            images, call->op->in.c);
}
