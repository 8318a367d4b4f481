/* SPDX-License-Identifier: MIT */
/* A program becomes an executable: what runs each op, and one piece of the device's memory. */
#include "cuda/conv.h"
#include "cuda/vectors.h"

#include <stdlib.h>
#include <string.h>

namespace
{

enum {
    TENSOR_CORES = 80 /* sm_80 is the first GPU that has any for TF32 and bf16 */
};

/* What runs the ops of a kind. */
struct runner {
    enum nin__op_kind kind;
    nin_status (*forward)(const struct cuda_call *call);
    nin_status (*backward)(const struct cuda_call *call);
};

const struct runner runners[] = {
    {NIN__OP_INPUT, nin__cuda_input, NULL},
    {NIN__OP_CONV, nin__cuda_conv, nin__cuda_conv_backward},
    {NIN__OP_RELU, nin__cuda_relu, nin__cuda_relu_backward},
    {NIN__OP_MAX_POOL, nin__cuda_max_pool, nin__cuda_max_pool_backward},
    {NIN__OP_AVERAGE_POOL, nin__cuda_average_pool, nin__cuda_average_pool_backward},
    {NIN__OP_DROPOUT, nin__cuda_dropout, nin__cuda_dropout_backward},
    {NIN__OP_LOSS, nin__cuda_loss, nin__cuda_loss_backward},
};

nin_status choose_runner(struct cuda_op *cuda)
{
    for (size_t i = 0; i < sizeof runners / sizeof runners[0]; i++)
        if (runners[i].kind == cuda->op->kind) {
            cuda->forward = runners[i].forward;
            cuda->backward = runners[i].backward;
            return NIN_OK;
        }
    return nin__fail(NIN_UNSUPPORTED, "cuda: there is nothing for op '%s'", cuda->op->name);
}

bool gates(const struct cuda_op *cuda)
{
    enum nin__op_kind kind = cuda->op->kind;

    return kind == NIN__OP_MAX_POOL || kind == NIN__OP_AVERAGE_POOL ||
           (kind == NIN__OP_CONV && cuda->algorithm == CUDA_DIRECT &&
            nin__cuda_is_pointwise(cuda->op));
}

nin_status copy_program(struct nin__executable *executable, const struct nin__program *program)
{
    size_t count = (size_t)program->count;

    executable->program = *program;
    executable->program.ops = (struct nin__op *)calloc(count, sizeof *program->ops);
    executable->program.kept = NULL;
    executable->ops = (struct cuda_op *)calloc(count, sizeof *executable->ops);
    executable->forms = (struct nin__form *)calloc(2 * count, sizeof *executable->forms);
    if (executable->program.ops == NULL || executable->ops == NULL || executable->forms == NULL)
        return nin__no_memory("an executable");
    memcpy(executable->program.ops, program->ops, count * sizeof *program->ops);
    for (size_t i = 0; i < count; i++) {
        executable->ops[i].op = &executable->program.ops[i];
        executable->ops[i].form = executable->ops[i].turned = -1;
        NIN__TRY(choose_runner(&executable->ops[i]));
        if (program->ops[i].kind == NIN__OP_CONV)
            nin__cuda_choose_algorithm(&executable->ops[i], &executable->options);
        executable->ops[i].gates = gates(&executable->ops[i]);
    }
    return NIN_OK;
}

/* In NIN_BF16 maps are bf16 but for the scores, whose values are all that the caller has of a network. */
void choose_types(struct nin__executable *executable)
{
    bool narrow = executable->options.precision == NIN_BF16;

    for (int32_t i = 0; i < executable->program.count; i++) {
        executable->ops[i].narrow_x = narrow && i <= executable->program.scores;
        executable->ops[i].narrow_y = narrow && i < executable->program.scores;
    }
}

bool is_pool(const struct nin__op *op)
{
    return op->kind == NIN__OP_MAX_POOL || op->kind == NIN__OP_AVERAGE_POOL;
}

/* A pool reads all outputs of the convolution before it anyway. Backward asks only whether they are above 0. */
void leave_rest_to_pools(struct nin__executable *executable)
{
    for (int32_t i = 0; i + 1 < executable->program.count; i++) {
        const struct nin__op *op = executable->ops[i].op;

        executable->ops[i].finish_later = op->kind == NIN__OP_CONV &&
                                          executable->ops[i].algorithm == CUDA_GEMM && op->relu &&
                                          !op->keep && is_pool(op + 1);
    }
}

void choose_classifier(struct nin__executable *executable)
{
    int32_t loss = executable->program.count - 1;

    executable->ops[loss].classifies = loss > 1 && executable->ops[loss].op->kind == NIN__OP_LOSS &&
                                       nin__cuda_can_classify(executable->ops[loss - 1].op);
}

/* Whether op i's windows are in memory: a direct convolution's for its gradient of the data, if somebody wants that. */
bool has_patches(const struct nin__executable *executable, int32_t i)
{
    const struct cuda_op *cuda = &executable->ops[i];
    bool wants_dx = executable->program.train && (i > 1 || executable->program.input_gradient);

    return cuda->op->kind == NIN__OP_CONV && !nin__cuda_is_flat(cuda->op) &&
           (cuda->algorithm == CUDA_GEMM || (cuda->algorithm == CUDA_DIRECT && wants_dx));
}

/* Kernels count the elements of an image in 32 bits. */
nin_status check_sizes(const struct nin__executable *executable)
{
    for (int32_t i = 0; i < executable->program.count; i++) {
        const struct nin__op *op = &executable->program.ops[i];
        size_t windows = (size_t)op->out.h * (size_t)op->out.w;

        if (has_patches(executable, i) && windows > INT32_MAX / nin__cuda_row(&executable->ops[i]))
            return nin__fail(NIN_UNSUPPORTED,
                             "layer '%s': the windows of one image have 2^31 elements or more, too "
                             "many for a CUDA device",
                             op->name);
    }
    return NIN_OK;
}

/* Numbers of this backend. */
enum {
    OHWI = 1,
    POINTS = 2, /* of minimal filtering */
    TURNED = 3, /* the same, of kernels turned around */
    NARROW = 4  /* OHWI in bf16 */
};

int32_t add_form(struct nin__executable *executable, const struct nin__op *op, uint32_t kind,
                 size_t bytes)
{
    struct nin__form *form = &executable->forms[executable->form_count];

    form->weight = op->weight;
    form->kind = kind;
    form->bytes = bytes;
    return executable->form_count++;
}

void choose_forms(struct nin__executable *executable)
{
    for (int32_t i = 0; i < executable->program.count; i++) {
        struct cuda_op *cuda = &executable->ops[i];
        const struct nin__op *op = cuda->op;

        if (op->kind != NIN__OP_CONV)
            continue;
        if (cuda->algorithm == CUDA_WINOGRAD) {
            size_t bytes = nin__cuda_point_needs(cuda, 1).weights * sizeof(float);

            cuda->form = add_form(executable, op, POINTS, bytes);
            if (executable->program.train)
                cuda->turned = add_form(executable, op, TURNED, bytes);
        } else if (cuda->narrow_x || nin__cuda_is_permuted(op)) {
            cuda->form = add_form(executable, op, cuda->narrow_x ? NARROW : OHWI,
                                  nin__cuda_element_bytes(cuda->narrow_x) * (size_t)op->out.c *
                                      nin__cuda_row(cuda));
        }
    }
}

/* ---- memory --------------------------------------------------------------------------------- */

size_t place(struct nin__executable *executable, size_t bytes)
{
    return nin__cuda_deal(&executable->bytes, bytes);
}

size_t batch_bytes(const struct nin__executable *executable, struct nin__shape shape)
{
    return (size_t)executable->options.max_batch * nin__shape_size(shape) * sizeof(float);
}

size_t map_bytes(const struct nin__executable *executable, const struct cuda_op *cuda)
{
    return (size_t)executable->options.max_batch * nin__shape_size(cuda->op->out) *
           nin__cuda_element_bytes(cuda->narrow_y);
}

size_t largest_map(const struct nin__executable *executable)
{
    size_t largest = 0;

    for (int32_t i = 0; i < executable->program.count; i++) {
        size_t bytes = map_bytes(executable, &executable->ops[i]);

        largest = bytes > largest ? bytes : largest;
    }
    return largest;
}

/* In floats, as callers have it. */
size_t largest_output(const struct nin__executable *executable)
{
    size_t largest = 0;

    for (int32_t i = 0; i < executable->program.count; i++) {
        size_t bytes = batch_bytes(executable, executable->program.ops[i].out);

        largest = bytes > largest ? bytes : largest;
    }
    return largest;
}

size_t row_bytes(const struct cuda_op *cuda)
{
    return nin__cuda_row(cuda) * nin__cuda_element_bytes(cuda->narrow_x);
}

/* What an op keeps for backward besides its output: where a maximum was, the input at the points, or its windows,
 * where the whole batch goes together. */
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
        return pixels * row_bytes(cuda);
    return 0;
}

/* In training all outputs stay, for backward; in inference two take turns, but for those that are kept. Two
 * gradients of outputs take turns. */
void place_outputs(struct nin__executable *executable)
{
    bool train = executable->program.train;
    size_t largest = largest_map(executable), turns[2];

    turns[0] = place(executable, largest);
    turns[1] = place(executable, largest);
    for (int32_t i = 0; i < executable->program.count; i++) {
        struct cuda_op *cuda = &executable->ops[i];
        bool keeps = train || cuda->op->keep || i == executable->program.scores;

        cuda->dy = turns[i % 2];
        cuda->y = keeps ? place(executable, map_bytes(executable, cuda)) : turns[i % 2];
        cuda->saved_per_image =
            saved_bytes(executable, cuda) / (size_t)executable->options.max_batch;
        cuda->saved = place(executable, saved_bytes(executable, cuda));
    }
}

/* What the convolutions need most of each scratch: patches and points in elements, sums in floats. */
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
    if (cuda->narrow_x && !cuda->narrow_y)
        at_least(&needs->points, (size_t)batch * nin__shape_size(cuda->op->out));
}

void need_patches(struct needs *needs, const struct cuda_op *cuda, int32_t batch)
{
    const struct nin__op *op = cuda->op;
    size_t pixels = (size_t)op->out.h * (size_t)op->out.w, row = nin__cuda_row(cuda);

    if (!nin__cuda_is_flat(op))
        at_least(&needs->patches, (size_t)nin__cuda_patch_images(cuda, batch) * pixels * row);
    need_rounded(needs, cuda, batch);
    at_least(&needs->products, (size_t)op->out.c * row);
    at_least(&needs->sums, nin__cuda_sum_parts((size_t)batch * pixels) * (size_t)op->out.c);
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
    if (has_patches(executable, i))
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
            need_patches(&needs, cuda, executable->options.max_batch);
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
    void *memory = NULL;

    NIN__TRY(nin__cuda_check(executable->device, cudaMalloc(&memory, executable->bytes),
                             "memory for a plan"));
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
    size_t largest = largest_output(executable), count = (size_t)executable->program.count;
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
    images = place(executable, batch_bytes(executable, image));
    labels = place(executable, batch * sizeof(int32_t));
    score_gradient = place(executable, batch_bytes(executable, scores));
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
    size_t images = nin__cuda_deal(&bytes, batch_bytes(executable, executable->program.ops[0].out));
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

nin_status build(struct nin__executable *executable, const struct nin__program *program)
{
    struct cuda_scope scope(executable->device);
    nin_status status;

    NIN__TRY(scope.status);
    NIN__TRY(copy_program(executable, program));
    choose_types(executable);
    NIN__TRY(check_sizes(executable));
    leave_rest_to_pools(executable);
    choose_classifier(executable);
    choose_forms(executable);
    status = make_memory(executable);
    if (status == NIN_OUT_OF_MEMORY) {
        executable->keeps_little = true;
        status = make_memory(executable);
    }
    NIN__TRY(status);
    return make_staging(executable);
}

nin_status check_precision(const struct nin__device *device, nin_precision precision)
{
    if (precision != NIN_FP32 && precision != NIN_TF32 && precision != NIN_BF16)
        return nin__fail(NIN_UNSUPPORTED, "plan: a CUDA device has precisions NIN_FP32, NIN_TF32 "
                                          "and NIN_BF16 only");
    if (precision != NIN_FP32 && device->capability < TENSOR_CORES)
        return nin__fail(
            NIN_UNSUPPORTED, "plan: precision %s needs a GPU of sm_%d or later; this one is sm_%d",
            precision == NIN_TF32 ? "NIN_TF32" : "NIN_BF16", TENSOR_CORES, device->capability);
    return NIN_OK;
}

nin_status check_options(const struct nin__device *device,
                         const struct nin__compile_options *options)
{
    NIN__TRY(check_precision(device, options->precision));
    if (options->algorithm == NIN_ALGORITHM_FFT)
        return nin__fail(NIN_UNSUPPORTED, "plan: a CUDA device has no NIN_ALGORITHM_FFT");
    if (options->precision == NIN_TF32 && options->algorithm != NIN_ALGORITHM_AUTO &&
        options->algorithm != NIN_ALGORITHM_GEMM)
        return nin__fail(
            NIN_UNSUPPORTED,
            "plan: in NIN_TF32 a CUDA device has NIN_ALGORITHM_GEMM only, which auto is too");
    if (options->precision == NIN_BF16 && options->algorithm == NIN_ALGORITHM_WINOGRAD)
        return nin__fail(NIN_UNSUPPORTED,
                         "plan: in NIN_BF16 a CUDA device has no NIN_ALGORITHM_WINOGRAD");
    return NIN_OK;
}

} // namespace

nin_status nin__cuda_compile(struct nin__executable **out, struct nin__device *device,
                             const struct nin__program *program,
                             const struct nin__compile_options *options)
{
    struct nin__executable *executable;
    nin_status status;

    NIN__TRY(check_options(device, options));
    executable = (struct nin__executable *)calloc(1, sizeof *executable);
    if (executable == NULL)
        return nin__no_memory("an executable");
    executable->device = device;
    executable->options = *options;
    status = build(executable, program);
    if (status != NIN_OK) {
        nin__cuda_discard(executable);
        return status;
    }
    *out = executable;
    return NIN_OK;
}

void nin__cuda_discard(struct nin__executable *executable)
{
    if (executable == NULL)
        return;
    {
        struct cuda_scope scope(executable->device, true);

        if (scope.status == NIN_OK) {
            nin__cuda_drop(cudaStreamSynchronize(executable->device->stream));
            nin__cuda_drop(cudaFree(executable->memory));
            nin__cuda_drop(cudaFreeHost(executable->pinned));
            for (int i = 0; i < CUDA_GRAPHS; i++)
                if (executable->graphs[i].graph != NULL)
                    nin__cuda_drop(cudaGraphExecDestroy(executable->graphs[i].graph));
        }
    }
    free(executable->program.ops);
    free(executable->ops);
    free(executable->forms);
    free(executable);
}
