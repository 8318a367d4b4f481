/* SPDX-License-Identifier: MIT */
/* Weights: OIHW in the arena, OHWI where products take them, with rows filled up with zeros, and
 * perhaps in bf16 or rounded to TF32; or, for gradients of the data, IHWO, of kernels turned
 * around. One kernel makes all of a network's, for each is small; a
 * gradient that is a product comes back alone. Those at points are conv_winograd_weights.cu's. */
#include "cuda/conv.h"
#include "cuda/ptx.h"

namespace
{

enum {
    AT_ONCE = 32 /* tensors of a kernel */
};

/* A tensor of weights, of which none has 2^31. */
struct weights {
    uint32_t rows, depth, taps; /* filters, channels, or the other way round */
    uint32_t row;               /* taps * depth and what is filled up */
};

/* A form that is to be made, by blocks from first_block on. */
struct making {
    const float *arena;
    void *form;
    struct weights weights;
    uint32_t first_block;
    bool rounded, turned;
};

struct makings {
    struct making each[AT_ONCE];
    uint32_t count, blocks;
};

/* turned: a row for each channel, of kernels turned around */
struct weights weights_of(const struct cuda_op *cuda, bool turned)
{
    uint32_t filters = (uint32_t)cuda->op->out.c, channels = (uint32_t)cuda->op->in.c;
    uint32_t taps = (uint32_t)cuda->op->kernel_h * (uint32_t)cuda->op->kernel_w;
    struct weights as_they_are = {filters, channels, taps, (uint32_t)nin__cuda_row(cuda)};
    struct weights around = {channels, filters, taps, taps * filters};

    return turned ? around : as_they_are;
}

template <typename T> __global__ void __launch_bounds__(BLOCK) make_forms(struct makings all)
{
    uint32_t n = all.count - 1;

    while (all.each[n].first_block > blockIdx.x)
        n--;

    const struct making &m = all.each[n];
    const struct weights &w = m.weights;
    uint32_t i = (blockIdx.x - m.first_block) * BLOCK + threadIdx.x, row = i / w.row;
    uint32_t in_row = i % w.row, k = in_row % w.depth, tap = in_row / w.depth;
    float v = 0.0f;

    if (row >= w.rows)
        return;
    if (tap < w.taps)
        v = m.arena[m.turned ? (k * w.rows + row) * w.taps + (w.taps - 1 - tap)
                             : (row * w.depth + k) * w.taps + tap];
    if (m.rounded)
        v = nin__cuda_rounded_to_tf32(v);
    nin__cuda_store((T *)m.form + i, v);
}

/* Those that have been listed. */
nin_status start(struct nin__executable *executable, struct makings *all)
{
    uint32_t blocks = all->blocks;
    nin_status status =
        executable->options.precision == NIN_BF16
            ? nin__cuda_launch_blocks(executable->device, blocks, make_forms<cuda_bf16>, *all)
            : nin__cuda_launch_blocks(executable->device, blocks, make_forms<float>, *all);

    all->count = all->blocks = 0;
    return status;
}

/* A form that is NULL is not wanted. */
nin_status list(struct makings *all, struct nin__executable *executable, const struct cuda_op *cuda,
                const float *parameters, void *form, bool turned)
{
    struct making *making = &all->each[all->count];
    struct weights w;

    if (form == NULL)
        return NIN_OK;
    w = weights_of(cuda, turned);
    making->arena = parameters + cuda->op->weight;
    making->form = form;
    making->weights = w;
    making->first_block = all->blocks;
    making->rounded = cuda->tensor_cores && !cuda->narrow_x;
    making->turned = turned;
    all->blocks += nin__cuda_blocks_of(w.rows * w.row);
    return ++all->count < AT_ONCE ? NIN_OK : start(executable, all);
}

/* OHWI to OIHW, to the gradient's arena or added to it. */
__global__ void __launch_bounds__(BLOCK)
    finish(float *gradient, const float *product, struct weights w, bool accumulate)
{
    uint32_t i = nin__cuda_element(w.rows * w.depth * w.taps).element;
    uint32_t filter = i / w.taps / w.depth, tap = i % w.taps, c = i / w.taps % w.depth;
    uint32_t from = filter * w.row + tap * w.depth + c;

    if (i < w.rows * w.depth * w.taps)
        gradient[i] = accumulate ? gradient[i] + product[from] : product[from];
}

} // namespace

nin_status nin__cuda_prepare(struct nin__executable *executable, const float *parameters,
                             void *const *targets)
{
    struct cuda_scope scope(executable->device);
    struct makings all = {};

    NIN__TRY(scope.status);
    for (int32_t i = 0; i < executable->program.count; i++) {
        const struct cuda_op *cuda = &executable->ops[i];

        if (cuda->algorithm == CUDA_WINOGRAD)
            continue;
        NIN__TRY(list(&all, executable, cuda, parameters, nin__cuda_target_of(targets, cuda->form),
                      false));
        NIN__TRY(list(&all, executable, cuda, parameters,
                      nin__cuda_target_of(targets, cuda->turned), true));
    }
    NIN__TRY(start(executable, &all));
    return nin__cuda_winograd_prepare(executable, parameters, targets);
}

nin_status nin__cuda_finish_weights(const struct cuda_call *call)
{
    const struct nin__op *op = call->op;

    return nin__cuda_launch_images(call->device, 1, (size_t)op->out.c * nin__cuda_patch(op), finish,
                                   call->run->gradient + op->weight,
                                   (const float *)call->executable->scratch.products,
                                   weights_of(call->cuda, false), call->run->accumulate);
}
