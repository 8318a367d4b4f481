/* SPDX-License-Identifier: MIT */
/* Weights of minimal filtering at its points, and their gradient from there (winograd.h has the
 * maps). One kernel maps all weights of a network, for each tensor is small. */
#include "cuda/conv.h"
#include "cuda/winograd.h"

/* nvcc does not see those of a template. */
#pragma nv_diag_suppress missing_launch_bounds

namespace
{

enum {
    AT_ONCE = 32, /* tensors that are mapped together, */
    KERNELS = 64, /* in blocks of so few of their kernels, a thread each, that there are many */
    ELEMENTS = 8, /* kernels whose gradients a block adds up: 32 bytes in a row, */
    UNDER_WAY = 8 /* of which a thread asks for so many before it waits for the first */
};

/* ---- to the points -------------------------------------------------------------------------- */

/* u: [point][oc][c], from w: OIHW, its kernels turned around or not; by blocks from first_block
 * on */
struct form {
    float *u;
    const float *w;
    uint32_t count; /* OC * C */
    int32_t side, kernel;
    bool turned;
    uint32_t first_block;
};

struct forms {
    struct form each[AT_ONCE];
    uint32_t count, blocks;
};

template <int side, int kernel> __device__ void map_kernel(const struct form &f, uint32_t i)
{
    const int taps = kernel * kernel;
    float values[taps], mapped[side * side];

#pragma unroll
    for (int k = 0; k < taps; k++)
        values[k] = f.w[(size_t)i * taps + (size_t)(f.turned ? taps - 1 - k : k)];
    nin__cuda_evaluate_2d<side, kernel>(mapped, values);
#pragma unroll
    for (int k = 0; k < side * side; k++)
        f.u[(size_t)k * f.count + i] = mapped[k] * (nin__cuda_point_scale(side, k / side) *
                                                    nin__cuda_point_scale(side, k % side));
}

__global__ void __launch_bounds__(KERNELS) map_weights(struct forms all)
{
    uint32_t n = all.count - 1;

    while (all.each[n].first_block > blockIdx.x)
        n--;

    const struct form &f = all.each[n];
    uint32_t i = (blockIdx.x - f.first_block) * KERNELS + threadIdx.x;

    if (i >= f.count)
        return;
    if (f.kernel == 5)
        map_kernel<8, 5>(f, i);
    else if (f.side == 8)
        map_kernel<8, 3>(f, i);
    else
        map_kernel<6, 3>(f, i);
}

/* Those that have been listed. */
nin_status start(struct nin__executable *executable, struct forms *all)
{
    nin_status status =
        nin__cuda_launch_threads(executable->device, all->blocks, KERNELS, map_weights, *all);

    all->count = all->blocks = 0;
    return status;
}

nin_status list(struct forms *all, struct nin__executable *executable, const struct cuda_op *cuda,
                const float *parameters, void *u, bool turned)
{
    const struct nin__op *op = cuda->op;
    uint32_t count = (uint32_t)op->out.c * (uint32_t)op->in.c;
    struct form form = {
        (float *)u, parameters + op->weight, count, cuda->tiling.side, op->kernel_h, turned,
        all->blocks};

    all->each[all->count++] = form;
    all->blocks += nin__cuda_tiles_over(count, KERNELS);
    return all->count < AT_ONCE ? NIN_OK : start(executable, all);
}

/* ---- and back ------------------------------------------------------------------------------- */

/* Of what lies `step` apart. */
__device__ float sum_of(const float *values, uint32_t count, uint32_t step)
{
    float sum = 0.0f;

    for (uint32_t first = 0; first < count; first += UNDER_WAY) {
        float value[UNDER_WAY] = {};

#pragma unroll
        for (uint32_t i = 0; i < UNDER_WAY; i++)
            if (first + i < count)
                value[i] = values[(size_t)(first + i) * step];
#pragma unroll
        for (uint32_t i = 0; i < UNDER_WAY; i++)
            sum += value[i];
    }
    return sum;
}

/* gradient: OIHW, put there or added. sums: [point][group][oc][c], of which groups are added up;
 * count: OC * C. Columns and then rows as in nin__cuda_interpolate_2d, a thread each. */
template <int side, int kernel>
__global__ void __launch_bounds__(BLOCK)
    finish_weights(float *gradient, const float *sums, uint32_t groups, uint32_t count, bool add)
{
    const uint32_t taps = kernel * kernel;
    __shared__ float points[side * side][ELEMENTS], columns[kernel][side][ELEMENTS];
    __shared__ float mapped[ELEMENTS * taps];
    uint32_t in = threadIdx.x % ELEMENTS, line = threadIdx.x / ELEMENTS;
    size_t first = (size_t)blockIdx.x * ELEMENTS;
    float from[side], to[kernel];

#pragma unroll
    for (uint32_t point = line; point < side * side; point += BLOCK / ELEMENTS)
        points[point][in] =
            first + in < count
                ? sum_of(sums + (size_t)point * groups * count + first + in, groups, count)
                : 0.0f;
    __syncthreads();
    if (line < side) {
#pragma unroll
        for (int r = 0; r < side; r++)
            from[r] = points[r * side + (int)line][in] * nin__cuda_point_scale(side, r);
        nin__cuda_interpolate<side, kernel>(from, to);
#pragma unroll
        for (int r = 0; r < kernel; r++)
            columns[r][line][in] = to[r];
    }
    __syncthreads();
    if (line < kernel) {
#pragma unroll
        for (int q = 0; q < side; q++)
            from[q] = columns[line][q][in] * nin__cuda_point_scale(side, q);
        nin__cuda_interpolate<side, kernel>(from, to);
#pragma unroll
        for (int q = 0; q < kernel; q++)
            mapped[in * taps + line * kernel + (uint32_t)q] = to[q];
    }
    __syncthreads();
    gradient += first * taps;
    for (uint32_t i = threadIdx.x; i < ELEMENTS * taps && first + i / taps < count; i += BLOCK)
        gradient[i] = add ? gradient[i] + mapped[i] : mapped[i];
}

template <int side, int kernel>
nin_status finish(const struct cuda_call *call, size_t groups, bool add)
{
    const struct nin__op *op = call->op;
    size_t count = (size_t)op->out.c * (size_t)op->in.c;

    return nin__cuda_launch_blocks(call->device, nin__cuda_tiles_over(count, ELEMENTS),
                                   finish_weights<side, kernel>, call->run->gradient + op->weight,
                                   (const float *)call->executable->scratch.products,
                                   (uint32_t)groups, (uint32_t)count, add);
}

} // namespace

nin_status nin__cuda_winograd_prepare(struct nin__executable *executable, const float *parameters,
                                      void *const *targets)
{
    struct forms all = {};

    for (int32_t i = 0; i < executable->program.count; i++) {
        const struct cuda_op *cuda = &executable->ops[i];
        void *form = nin__cuda_target_of(targets, cuda->form);
        void *turned = nin__cuda_target_of(targets, cuda->turned);

        if (cuda->algorithm != CUDA_WINOGRAD)
            continue;
        if (form != NULL)
            NIN__TRY(list(&all, executable, cuda, parameters, form, false));
        if (turned != NULL)
            NIN__TRY(list(&all, executable, cuda, parameters, turned, true));
    }
    return start(executable, &all);
}

nin_status nin__cuda_winograd_finish_weights(const struct cuda_call *call, size_t groups, bool add)
{
    if (call->op->kernel_h == 5)
        return finish<8, 5>(call, groups, add);
    return call->cuda->tiling.side == 8 ? finish<8, 3>(call, groups, add)
                                        : finish<6, 3>(call, groups, add);
}
