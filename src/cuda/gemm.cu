/* SPDX-License-Identifier: MIT */
/* Matrix products by cuBLAS, which only this file and matmul.cu know. cuBLAS is column-major: a
 * row-major matrix of p rows and k columns is to it one of k rows and p columns, so nothing is
 * transposed that is not in the formula. */
#include "cuda/bias.h"
#include "cuda/matmul.h"

namespace
{

/* cuBLAS counts in int. */
const int64_t MOST = INT32_MAX;

/* Column-major. */
struct matrix {
    cublasOperation_t operation;
    const void *data;
    int64_t leading;
};

/* c (m x n) = a * b, added to what is there or not; narrow: c is bf16 */
struct multiplication {
    int64_t m, n, k;
    struct matrix a, b;
    void *c;
    int64_t c_leading;
    bool narrow, add;
};

nin_status multiply(struct nin__device *device, nin_precision precision,
                    const struct multiplication *g)
{
    const float one = 1.0f, zero = 0.0f;
    cudaDataType operand = nin__cuda_operand_type(precision);

    if (g->m > MOST || g->n > MOST || g->k > MOST)
        return nin__fail(NIN_UNSUPPORTED, "cuda: a product of %lld x %lld x %lld is too large",
                         (long long)g->m, (long long)g->n, (long long)g->k);
    return nin__cuda_check_blas(
        device,
        cublasGemmEx(device->blas, g->a.operation, g->b.operation, (int)g->m, (int)g->n, (int)g->k,
                     &one, g->a.data, operand, (int)g->a.leading, g->b.data, operand,
                     (int)g->b.leading, g->add ? &one : &zero, g->c,
                     g->narrow ? CUDA_R_16BF : CUDA_R_32F, (int)g->c_leading,
                     nin__cuda_compute_type(precision), CUBLAS_GEMM_DEFAULT),
        "a product");
}

struct matrix plain(const void *data, int64_t leading)
{
    struct matrix matrix = {CUBLAS_OP_N, data, leading};

    return matrix;
}

struct matrix transposed(const void *data, int64_t leading)
{
    struct matrix matrix = {CUBLAS_OP_T, data, leading};

    return matrix;
}

} // namespace

/* fp32 is fp32 whatever the environment says. */
cublasComputeType_t nin__cuda_compute_type(nin_precision precision)
{
    return precision == NIN_TF32   ? CUBLAS_COMPUTE_32F_FAST_TF32
           : precision == NIN_BF16 ? CUBLAS_COMPUTE_32F
                                   : CUBLAS_COMPUTE_32F_PEDANTIC;
}

cudaDataType nin__cuda_operand_type(nin_precision precision)
{
    return precision == NIN_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* y' (n x p) = w' ' (n x k) * x' (k x p) + bias */
nin_status nin__cuda_gemm_forward(struct nin__device *device, const struct cuda_product *g)
{
    const struct multiplication product = {
        g->n, g->p,        g->k, transposed(g->w, g->k), plain(g->x, g->k), g->y,
        g->n, g->narrow_y, false};
    bool done = false;

    if (g->bias != NULL)
        NIN__TRY(nin__cuda_matmul(device, g, &done));
    if (done)
        return NIN_OK;
    NIN__TRY(multiply(device, g->precision, &product));
    return g->bias == NULL ? NIN_OK
                           : nin__cuda_add_bias(device, g->y, g->narrow_y, g->bias, (size_t)g->p,
                                                (size_t)g->n, false);
}

/* dx' (k x p) = w' (k x n) * dy' (n x p) */
nin_status nin__cuda_gemm_data(struct nin__device *device, const struct cuda_product *g)
{
    const struct multiplication product = {g->k,
                                           g->p,
                                           g->n,
                                           plain(g->w, g->k),
                                           plain(g->dy, g->n),
                                           g->dx,
                                           g->k,
                                           g->precision == NIN_BF16,
                                           false};

    return multiply(device, g->precision, &product);
}

/* dw' (k x n) = x' (k x p) * dy' ' (p x n) */
nin_status nin__cuda_gemm_weights(struct nin__device *device, const struct cuda_product *g)
{
    const struct multiplication product = {
        g->k, g->n, g->p, plain(g->x, g->k), transposed(g->dy, g->n), g->dw, g->k, false, g->add};

    return multiply(device, g->precision, &product);
}
