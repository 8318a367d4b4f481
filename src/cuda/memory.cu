/* SPDX-License-Identifier: MIT */
/* An executable's memory: one piece of the device's, in which all maps, scratch and whatever a run
 * needs have their places, and one of the host's, pinned, for what goes up and comes down. */
#include "cuda/conv.h"

#include <stdio.h>

namespace
{

size_t place(struct nin__executable *executable, size_t bytes)
{
    return nin__cuda_deal(&executable->bytes, bytes);
}

size_t batch_bytes(const struct nin__executable *executable, struct nin__shape shape, bool narrow)
{
    return (size_t)executable->options.max_batch * nin__shape_size(shape) *
           nin__cuda_element_bytes(narrow);
}

/* Of outputs as they are stored, or in floats, as callers have them. */
size_t largest_output(const struct nin__executable *executable, bool floats)
{
    size_t largest = 0;

    for (int32_t i = 0; i < executable->program.count; i++) {
        const struct cuda_op *cuda = &executable->ops[i];
        size_t bytes = batch_bytes(executable, cuda->op->out, cuda->narrow_y && !floats);

        largest = bytes > largest ? bytes : largest;
    }
    return largest;
}

/* What an op keeps for backward besides its output: where a maximum was, the input at the points,
 * or its windows, where the whole batch goes together. */
size_t saved_bytes(const struct nin__executable *executable, const struct cuda_op *cuda)
{
    const struct nin__op *op = cuda->op;
    int32_t batch = executable->options.max_batch;
    size_t pixels = (size_t)batch * (size_t)op->out.h * (size_t)op->out.w;

    if (!executable->program.train)
        return 0;
    if (op->kind == NIN__OP_MAX_POOL)
        return pixels * (size_t)op->out.c * sizeof(uint16_t);
    if (op->kind != NIN__OP_CONV)
        return 0;
    if (cuda->algorithm == CUDA_WINOGRAD && nin__cuda_tile_images(cuda, batch) == batch)
        return nin__cuda_point_needs(cuda, batch).x * sizeof(float);
    if (cuda->algorithm == CUDA_GEMM && !executable->keeps_little && !nin__cuda_is_flat(op) &&
        nin__cuda_patch_images(cuda, batch) == batch)
        return pixels * nin__cuda_row(cuda) * nin__cuda_element_bytes(cuda->narrow_x);
    return 0;
}

/* In training all outputs stay, for backward; in inference two take turns, but for those that are
 * kept. Two gradients of outputs take turns. */
void place_outputs(struct nin__executable *executable)
{
    bool train = executable->program.train;
    size_t largest = largest_output(executable, false), turns[2];

    turns[0] = place(executable, largest);
    turns[1] = place(executable, largest);
    for (int32_t i = 0; i < executable->program.count; i++) {
        struct cuda_op *cuda = &executable->ops[i];
        bool keeps = train || cuda->op->keep || i == executable->program.scores;

        cuda->dy = turns[i % 2];
        cuda->y = keeps ? place(executable, batch_bytes(executable, cuda->op->out, cuda->narrow_y))
                        : turns[i % 2];
        cuda->saved_per_image =
            saved_bytes(executable, cuda) / (size_t)executable->options.max_batch;
        cuda->saved = place(executable, saved_bytes(executable, cuda));
    }
}

/* What the convolutions need most of each scratch: patches and points in elements, sums in
 * floats. */
struct needs {
    size_t patches, points, products, sums, tickets;
};

void at_least(size_t *most, size_t floats)
{
    *most = floats > *most ? floats : *most;
}

void need_points(struct needs *needs, const struct nin__executable *executable,
                 const struct cuda_op *cuda)
{
    struct cuda_point_needs most = nin__cuda_point_needs(cuda, executable->options.max_batch);

    if (saved_bytes(executable, cuda) == 0)
        at_least(&needs->patches, most.x);
    if (executable->program.train)
        at_least(&needs->patches, most.dx);
    at_least(&needs->points, most.y);
    at_least(&needs->products, most.products);
    at_least(&needs->sums, most.sums);
}

/* The gradient of scores in bf16. */
void need_rounded(struct needs *needs, const struct cuda_op *cuda, int32_t batch)
{
    if (nin__cuda_rounds_dy(cuda))
        at_least(&needs->points, (size_t)batch * nin__shape_size(cuda->op->out));
}

/* Of cuBLAS's products: for the windows of x, unless they are kept, and for their gradient. */
void need_patches(struct needs *needs, const struct nin__executable *executable, int32_t i)
{
    const struct cuda_op *cuda = &executable->ops[i];
    const struct nin__op *op = cuda->op;
    int32_t batch = executable->options.max_batch;
    size_t pixels = (size_t)op->out.h * (size_t)op->out.w, row = nin__cuda_row(cuda);
    bool kept = saved_bytes(executable, cuda) > 0;

    if (!nin__cuda_is_flat(op) && (!kept || nin__cuda_wants_dx(executable, i)))
        at_least(&needs->patches, (size_t)nin__cuda_patch_images(cuda, batch) * pixels * row);
    need_rounded(needs, cuda, batch);
    at_least(&needs->products, (size_t)op->out.c * row);
    at_least(&needs->sums,
             nin__cuda_sum_parts((size_t)batch * pixels, (size_t)op->out.c) * (size_t)op->out.c);
}

/* Of a direct convolution. */
void need_sums(struct needs *needs, const struct nin__executable *executable, int32_t i)
{
    const struct cuda_op *cuda = &executable->ops[i];
    const struct nin__op *op = cuda->op;
    int32_t batch = executable->options.max_batch;
    size_t windows = (size_t)op->out.h * (size_t)op->out.w * nin__cuda_row(cuda);

    at_least(&needs->sums, nin__cuda_direct_sums(cuda, batch));
    need_rounded(needs, cuda, batch);
    if (nin__cuda_has_patches(executable, i))
        at_least(&needs->patches, (size_t)nin__cuda_patch_images(cuda, batch) * windows);
}

struct needs needs_of(const struct nin__executable *executable)
{
    struct needs needs = {};

    for (int32_t i = 0; i < executable->program.count; i++) {
        const struct cuda_op *cuda = &executable->ops[i];

        if (cuda->op->kind != NIN__OP_CONV)
            continue;
        at_least(&needs.tickets, nin__cuda_tickets(cuda->op));
        if (cuda->algorithm == CUDA_WINOGRAD)
            need_points(&needs, executable, cuda);
        else if (cuda->algorithm == CUDA_DIRECT)
            need_sums(&needs, executable, i);
        else
            need_patches(&needs, executable, i);
    }
    if (!executable->program.train)
        needs.products = needs.sums = 0;
    return needs;
}

template <typename T> T *at(const struct nin__executable *executable, size_t place)
{
    return (T *)(void *)(executable->memory + place);
}

nin_status allocate(struct nin__executable *executable)
{
    char what[96];
    void *memory = NULL;

    snprintf(what, sizeof what, "%zu bytes for a plan of up to %d images", executable->bytes,
             executable->options.max_batch);
    NIN__TRY(nin__cuda_check(executable->device, cudaMalloc(&memory, executable->bytes), what));
    executable->memory = (char *)memory;
    return NIN_OK;
}

/* On our own stream: nobody captures that. */
nin_status clear(struct nin__device *device, void *memory, size_t bytes)
{
    NIN__TRY(nin__cuda_check(device, cudaMemsetAsync(memory, 0, bytes, device->own),
                             "zeros in a plan's memory"));
    return nin__cuda_check(device, cudaStreamSynchronize(device->own), "zeros in a plan's memory");
}

/* All of it, in one allocation. */
nin_status make_memory(struct nin__executable *executable)
{
    struct needs needs = needs_of(executable);
    size_t batch = (size_t)executable->options.max_batch;
    struct nin__shape image = executable->program.ops[0].out;
    struct nin__shape scores = executable->program.ops[executable->program.scores].out;
    size_t largest = largest_output(executable, true), count = (size_t)executable->program.count;
    size_t patches, points, products, sums, tickets, transposed, images, labels, score_gradient,
        losses, marks;
    size_t spans, numbers, bad;
    bool narrow = executable->options.precision == NIN_BF16;

    executable->bytes = 0;
    place_outputs(executable);
    patches = place(executable, needs.patches * nin__cuda_element_bytes(narrow));
    points = place(executable, needs.points * nin__cuda_element_bytes(narrow));
    products = place(executable, needs.products * sizeof(float));
    sums = place(executable, needs.sums * sizeof(float));
    tickets = place(executable, needs.tickets * sizeof(unsigned));
    transposed = place(executable, largest);
    images = place(executable, batch_bytes(executable, image, false));
    labels = place(executable, batch * sizeof(int32_t));
    score_gradient = place(executable, batch_bytes(executable, scores, false));
    losses = place(executable, batch * sizeof(double));
    marks = place(executable, batch);
    spans = place(executable, (2 * count + 1) * sizeof(struct nin__update_span));
    numbers = place(executable, sizeof(struct cuda_numbers));
    bad = place(executable, sizeof(struct cuda_bad));
    NIN__TRY(allocate(executable));
    executable->scratch.patches = at<void>(executable, patches);
    executable->scratch.points = at<void>(executable, points);
    executable->scratch.products = at<float>(executable, products);
    executable->scratch.sums = at<float>(executable, sums);
    executable->tickets = at<unsigned>(executable, tickets);
    executable->transposed = at<float>(executable, transposed);
    executable->images = at<void>(executable, images);
    executable->labels = at<int32_t>(executable, labels);
    executable->score_gradient = at<float>(executable, score_gradient);
    executable->losses = at<double>(executable, losses);
    executable->marks = at<uint8_t>(executable, marks);
    executable->spans = at<struct nin__update_span>(executable, spans);
    executable->numbers = at<struct cuda_numbers>(executable, numbers);
    executable->bad = at<struct cuda_bad>(executable, bad);
    return clear(executable->device, executable->tickets, needs.tickets * sizeof(unsigned));
}

nin_status make_staging(struct nin__executable *executable)
{
    size_t batch = (size_t)executable->options.max_batch, bytes = 0;
    size_t count = (size_t)executable->program.count;
    size_t images =
        nin__cuda_deal(&bytes, batch_bytes(executable, executable->program.ops[0].out, false));
    size_t labels = nin__cuda_deal(&bytes, batch * sizeof(int32_t));
    size_t numbers = nin__cuda_deal(&bytes, sizeof(struct cuda_numbers));
    size_t spans = nin__cuda_deal(&bytes, (2 * count + 1) * sizeof(struct nin__update_span));
    size_t losses = nin__cuda_deal(&bytes, batch * sizeof(double)),
           marks = nin__cuda_deal(&bytes, batch);
    size_t bad = nin__cuda_deal(&bytes, sizeof(struct cuda_bad));
    char *pinned;

    NIN__TRY(nin__cuda_check(executable->device,
                             cudaHostAlloc(&executable->pinned, bytes, cudaHostAllocPortable),
                             "the host's memory for batches"));
    pinned = (char *)executable->pinned;
    executable->staging.images = pinned + images;
    executable->staging.labels = (int32_t *)(void *)(pinned + labels);
    executable->staging.numbers = (struct cuda_numbers *)(void *)(pinned + numbers);
    executable->staging.spans = (struct nin__update_span *)(void *)(pinned + spans);
    executable->staging.losses = (double *)(void *)(pinned + losses);
    executable->staging.marks = (uint8_t *)(pinned + marks);
    executable->staging.bad = (struct cuda_bad *)(void *)(pinned + bad);
    return NIN_OK;
}

} // namespace

bool nin__cuda_wants_dx(const struct nin__executable *executable, int32_t i)
{
    return executable->program.train && (i > 1 || executable->program.input_gradient);
}

/* Of a direct convolution for its gradient of the data, if somebody wants that and it is no product
 * of libnin's own. */
bool nin__cuda_has_patches(const struct nin__executable *executable, int32_t i)
{
    const struct cuda_op *cuda = &executable->ops[i];

    return cuda->op->kind == NIN__OP_CONV && !nin__cuda_is_flat(cuda->op) &&
           (cuda->algorithm == CUDA_GEMM || (cuda->algorithm == CUDA_DIRECT && !cuda->direct_data &&
                                             nin__cuda_wants_dx(executable, i)));
}

nin_status nin__cuda_make_memory(struct nin__executable *executable)
{
    nin_status status = make_memory(executable);

    if (status == NIN_OUT_OF_MEMORY) {
        executable->keeps_little = true;
        status = make_memory(executable);
    }
    NIN__TRY(status);
    return make_staging(executable);
}
