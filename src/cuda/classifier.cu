/* SPDX-License-Identifier: MIT */
/* The end of a network in network where labels are known: global average pooling, log-softmax,
 * negative log-likelihood and their gradients in one kernel, a block an image and a thread a class.
 * Formulas and orders of sums are those of pool.cu and loss.cu, which do what is larger, and scores
 * that no loss follows; so the bits are. */
#include "cuda/loss.h"
#include "cuda/vectors.h"

namespace
{

enum {
    MOST_CLASSES = BLOCK,
    MOST_ELEMENTS = 8192 /* of an image's map: 32 KiB */
};

template <typename X> struct classifier {
    const X *x; /* [image][pixel][class] */
    X *dx;      /* likewise, or NULL */
    float *scores;
    double *losses;
    uint8_t *marks;
    const int32_t *labels;
    const float *bias; /* that x gets before a ReLU, with `finish`; or NULL */
    uint32_t images, pixels, classes;
    bool finish, gate;
};

/* The image's map comes to shared memory, finished. */
template <typename X> __device__ void load_map(float *map, const struct classifier<X> &k)
{
    uint32_t size = k.pixels * k.classes;
    const X *x = k.x + (size_t)blockIdx.x * size;

    for (uint32_t e = threadIdx.x; e < size; e += BLOCK) {
        float bias = k.bias == NULL ? 0.0f : k.bias[e % k.classes];

        map[e] = nin__cuda_finished(x, nin__cuda_load(x + e), bias, k.finish);
    }
    __syncthreads();
}

__device__ float mean_of(const float *map, uint32_t pixels, uint32_t classes, uint32_t c)
{
    float sum = 0.0f;

    for (uint32_t pixel = 0; pixel < pixels; pixel++)
        sum += map[pixel * classes + c];
    return sum / (float)pixels;
}

/* In the order of classes. */
__device__ double sum_of(const double *terms, uint32_t count)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < count; i++)
        sum += terms[i];
    return sum;
}

/* gradient: of each class's pixels */
template <typename X>
__device__ void store_gradient(const float *map, const float *gradient,
                               const struct classifier<X> &k)
{
    uint32_t size = k.pixels * k.classes;
    X *dx = k.dx + (size_t)blockIdx.x * size;

    for (uint32_t e = threadIdx.x; e < size; e += BLOCK) {
        float g = gradient[e % k.classes];

        nin__cuda_store(dx + e, k.gate ? nin__cuda_gated(g, map[e]) : g);
    }
}

template <typename X> __global__ void __launch_bounds__(BLOCK) classify(struct classifier<X> k)
{
    __shared__ float map[MOST_ELEMENTS], scores[MOST_CLASSES], gradient[MOST_CLASSES];
    __shared__ double terms[MOST_CLASSES];
    uint32_t c = threadIdx.x;
    int32_t label = k.labels[blockIdx.x], classes = (int32_t)k.classes, best;
    double sum;

    load_map(map, k);
    if (c < k.classes) {
        scores[c] = mean_of(map, k.pixels, k.classes, c);
        k.scores[(size_t)blockIdx.x * k.classes + c] = scores[c];
    }
    __syncthreads();
    best = nin__cuda_first_largest(scores, classes);
    if (c < k.classes)
        terms[c] = exp((double)scores[c] - (double)scores[best]);
    __syncthreads();
    sum = sum_of(terms, k.classes);
    if (c == 0) {
        double loss = nin__cuda_loss_of(scores, best, label, sum);

        k.losses[blockIdx.x] = loss;
        k.marks[blockIdx.x] = nin__cuda_mark_of(scores, classes, best, label, loss);
    }
    if (k.dx == NULL)
        return;
    if (c < k.classes) {
        double wanted = (int32_t)c == label ? 1.0 : 0.0;

        gradient[c] = (float)((terms[c] / sum - wanted) / (double)k.images) / (float)k.pixels;
    }
    __syncthreads();
    store_gradient(map, gradient, k);
}

template <typename X> nin_status start(const struct cuda_call *call)
{
    const struct nin__executable *executable = call->executable;
    const struct cuda_op *pool = call->cuda - 1, *before = pool - 1;
    struct classifier<X> k = {
    };

    k.x = (const X *)(const void *)(executable->memory + before->y);
    if (call->run->backward)
        k.dx = (X *)(void *)(executable->memory + before->dy);
    k.scores = (float *)(void *)(executable->memory + pool->y);
    k.losses = executable->losses;
    k.marks = executable->marks;
    k.labels = executable->labels;
    k.images = (uint32_t)call->images;
    k.pixels = (uint32_t)pool->op->in.h * (uint32_t)pool->op->in.w;
    k.classes = (uint32_t)pool->op->in.c;
    k.finish = before->finish_later;
    if (k.finish && before->op->bias != NIN__NO_PARAMETER)
        k.bias = call->run->parameters + before->op->bias;
    k.gate = nin__cuda_wants_gate(before);
    return nin__cuda_launch_blocks(call->device, (size_t)call->images, classify<X>, k);
}

} // namespace

bool nin__cuda_can_classify(const struct nin__op *pool)
{
    return pool->kind == NIN__OP_AVERAGE_POOL && pool->kernel_h == pool->in.h &&
           pool->kernel_w == pool->in.w && pool->pad == 0 && pool->in.c <= MOST_CLASSES &&
           nin__shape_size(pool->in) <= MOST_ELEMENTS;
}

nin_status nin__cuda_classify(const struct cuda_call *call)
{
    return call->cuda[-1].narrow_x ? start<cuda_bf16>(call) : start<float>(call);
}
