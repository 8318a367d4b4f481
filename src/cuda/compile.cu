/* SPDX-License-Identifier: MIT */
/* A program becomes an executable: what runs each op, how, and with which forms of weights. */
#include "cuda/conv.h"

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

    return kind == NIN__OP_MAX_POOL || kind == NIN__OP_AVERAGE_POOL || cuda->direct_data;
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
    }
    return NIN_OK;
}

/* In NIN_BF16 maps are bf16 but for the scores, whose values are all that the caller has of a
 * network. */
void choose_types(struct nin__executable *executable)
{
    bool narrow = executable->options.precision == NIN_BF16;

    for (int32_t i = 0; i < executable->program.count; i++) {
        executable->ops[i].narrow_x = narrow && i <= executable->program.scores;
        executable->ops[i].narrow_y = narrow && i < executable->program.scores;
    }
}

/* What of backward depends on how maps are stored. */
void choose_backward(struct nin__executable *executable)
{
    for (int32_t i = 0; i < executable->program.count; i++) {
        struct cuda_op *cuda = &executable->ops[i];

        cuda->direct_data = cuda->op->kind == NIN__OP_CONV &&
                            nin__cuda_direct_data_fits(cuda, executable->options.max_batch);
        cuda->gates = gates(cuda);
    }
}

bool is_pool(const struct nin__op *op)
{
    return op->kind == NIN__OP_MAX_POOL || op->kind == NIN__OP_AVERAGE_POOL;
}

/* A pool reads all outputs of the convolution before it anyway. Backward asks only whether they are
 * above 0. */
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

/* Kernels count the elements of an image in 32 bits. */
nin_status check_sizes(const struct nin__executable *executable)
{
    for (int32_t i = 0; i < executable->program.count; i++) {
        const struct nin__op *op = &executable->program.ops[i];
        size_t windows = (size_t)op->out.h * (size_t)op->out.w;

        if (nin__cuda_has_patches(executable, i) &&
            windows > INT32_MAX / nin__cuda_row(&executable->ops[i]))
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
    POINTS = 2,        /* of minimal filtering */
    TURNED = 3,        /* the same, of kernels turned around */
    NARROW = 4,        /* OHWI in bf16 */
    ROUNDED = 5,       /* OHWI in floats that are rounded to TF32 */
    NARROW_TURNED = 6, /* IHWO in bf16, of kernels turned around */
    ROUNDED_TURNED = 7 /* IHWO in floats that are rounded to TF32, likewise */
};

uint32_t form_of(const struct cuda_op *cuda)
{
    return cuda->narrow_x ? NARROW : cuda->tensor_cores ? ROUNDED : OHWI;
}

uint32_t turned_form_of(const struct cuda_op *cuda)
{
    return cuda->narrow_x ? NARROW_TURNED : ROUNDED_TURNED;
}

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
        } else if (cuda->narrow_x || cuda->tensor_cores || nin__cuda_is_permuted(op)) {
            cuda->form = add_form(executable, op, form_of(cuda),
                                  nin__cuda_element_bytes(cuda->narrow_x) * (size_t)op->out.c *
                                      nin__cuda_row(cuda));
        }
        if (cuda->direct_data && !nin__cuda_is_pointwise(op) && nin__cuda_wants_dx(executable, i))
            cuda->turned = add_form(executable, op, turned_form_of(cuda),
                                    nin__cuda_element_bytes(cuda->narrow_x) * (size_t)op->out.c *
                                        nin__cuda_patch(op));
    }
}

nin_status build(struct nin__executable *executable, const struct nin__program *program)
{
    struct cuda_scope scope(executable->device);

    NIN__TRY(scope.status);
    NIN__TRY(copy_program(executable, program));
    choose_types(executable);
    choose_backward(executable);
    NIN__TRY(check_sizes(executable));
    leave_rest_to_pools(executable);
    choose_classifier(executable);
    choose_forms(executable);
    return nin__cuda_make_memory(executable);
}

const char *name_of(nin_precision precision)
{
    return precision == NIN_TF32 ? "NIN_TF32" : "NIN_BF16";
}

nin_status check_precision(const struct nin__device *device, nin_precision precision)
{
    if (precision != NIN_FP32 && precision != NIN_TF32 && precision != NIN_BF16)
        return nin__fail(NIN_UNSUPPORTED, "plan: a CUDA device has precisions NIN_FP32, NIN_TF32 "
                                          "and NIN_BF16 only");
    if (precision != NIN_FP32 && device->capability < TENSOR_CORES)
        return nin__fail(NIN_UNSUPPORTED,
                         "plan: precision %s needs a GPU of sm_%d or later; this one is sm_%d",
                         name_of(precision), TENSOR_CORES, device->capability);
    return NIN_OK;
}

nin_status check_options(const struct nin__device *device,
                         const struct nin__compile_options *options)
{
    NIN__TRY(check_precision(device, options->precision));
    if (options->algorithm == NIN_ALGORITHM_FFT)
        return nin__fail(NIN_UNSUPPORTED, "plan: a CUDA device has no NIN_ALGORITHM_FFT");
    if (options->precision != NIN_FP32 && options->algorithm == NIN_ALGORITHM_WINOGRAD)
        return nin__fail(NIN_UNSUPPORTED, "plan: in %s a CUDA device has no NIN_ALGORITHM_WINOGRAD",
                         name_of(options->precision));
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
