/* SPDX-License-Identifier: MIT */
/* An executable as text, for people. */
#include "cuda/cuda.h"

#include "core/text.h"

namespace
{

const char *algorithm_of(const struct cuda_op *cuda)
{
    return cuda->algorithm == CUDA_WINOGRAD ? "winograd"
           : cuda->algorithm == CUDA_DIRECT ? "direct"
           : nin__cuda_is_flat(cuda->op)    ? "gemm"
                                            : "patches";
}

const char *precision_of(const struct nin__executable *executable)
{
    nin_precision precision = executable->options.precision;

    return precision == NIN_BF16 ? "bf16" : precision == NIN_TF32 ? "tf32" : "fp32";
}

void add_op(struct nin__text *text, const struct nin__executable *executable, int32_t i)
{
    const struct cuda_op *cuda = &executable->ops[i];
    const struct nin__op *op = cuda->op;
    bool conv = op->kind == NIN__OP_CONV;

    nin__text_add(text, "  %-12s %-12s %-8s %4dx%dx%d -> %dx%dx%d",
                  op->name == NULL ? "" : op->name, conv ? "conv" : "",
                  !conv ? "kernel" : algorithm_of(cuda), op->in.c, op->in.h, op->in.w, op->out.c,
                  op->out.h, op->out.w);
    if (op->kernel_h > 0)
        nin__text_add(text, ", %dx%d/%d pad %d", op->kernel_h, op->kernel_w, op->stride, op->pad);
    nin__text_add(text, "%s%s%s%s; %zu bytes an image, %zu saved\n", op->relu ? ", relu" : "",
                  op->drop ? ", dropout" : "", cuda->classifies ? ", with the pool before it" : "",
                  nin__cuda_has_patches(executable, i) && cuda->algorithm == CUDA_DIRECT
                      ? ", gradient of the data by patches"
                      : "",
                  nin__shape_size(op->out) * nin__cuda_element_bytes(cuda->narrow_y),
                  cuda->saved_per_image);
}

} // namespace

size_t nin__cuda_describe(struct nin__executable *executable, bool measure, char *start,
                          size_t size)
{
    struct nin__text text = {start, start == NULL ? 0 : size, 0};

    (void)measure;
    nin__text_add(&text, "%s, batch %d, cuda, %s, %zu bytes of the device's memory\n",
                  executable->program.train ? "train" : "infer", executable->options.max_batch,
                  precision_of(executable), executable->bytes);
    for (int32_t i = 0; i < executable->program.count; i++)
        add_op(&text, executable, i);
    return text.length;
}

/* cuBLAS gives the same bits on one model of GPU in one version; products with an epilogue may have
 * other ones. */
size_t nin__cuda_order_of_sums(const struct nin__executable *executable, int32_t batch, char *start,
                               size_t size)
{
    struct nin__text text = {start, start == NULL ? 0 : size, 0};
    cudaDeviceProp properties;
    cudaError_t error;
    int version = 0;

    (void)batch;
    error = cudaGetDeviceProperties(&properties, executable->device->index);
    if (error != cudaSuccess)
        properties.name[0] = '\0';
    nin__cuda_drop(error);
    (void)cublasGetVersion(executable->device->blas, &version);
    nin__text_add(&text, "cuda%s: %s, cuBLAS %d",
                  executable->device->epilogues ? "" : ", no epilogues", properties.name, version);
    return text.length;
}
