/* SPDX-License-Identifier: MIT */
/* Products whose epilogue adds a bias, by cublasLt. It has one for the ReLU too, which is not used:
 * that takes max(x, 0) and makes 0 of a NaN, and what is not finite has to reach the loss.
 *
 * cublasLt's own rules find an algorithm for a shape when the first product of it comes, and the
 * device keeps it: nothing is timed, so the same shape gives the same bits. Where there is none the
 * product is gemm.cu's, and so it is where the result is bf16, with which cublasLt wants a bias in
 * bf16. */
#include "cuda/matmul.h"

namespace
{

enum {
    ALIGNED = 16 /* bytes: so that any algorithm can load vectors */
};

/* The attribute has the value's type. */
template <typename T>
cublasStatus_t set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
                   T value)
{
    return cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof value);
}

template <typename T>
cublasStatus_t set(cublasLtMatmulPreference_t preference,
                   cublasLtMatmulPreferenceAttributes_t attribute, T value)
{
    return cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value);
}

/* The first that is no success. */
template <int count> cublasStatus_t first_failure(const cublasStatus_t (&statuses)[count])
{
    for (cublasStatus_t status : statuses)
        if (status != CUBLAS_STATUS_SUCCESS)
            return status;
    return CUBLAS_STATUS_SUCCESS;
}

bool is_aligned(const void *memory)
{
    return (uintptr_t)memory % ALIGNED == 0;
}

bool is_like(const struct cuda_matmul *matmul, const struct cuda_product *g)
{
    return matmul->p == g->p && matmul->n == g->n && matmul->k == g->k &&
           matmul->precision == g->precision;
}

/* Whether there is an algorithm; without one there is no failure either. */
bool choose(struct cuda_matmul *matmul, struct nin__device *device, struct cuda_matmul_terms *terms)
{
    cublasLtMatmulPreferenceOpaque_t preference;
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;

    if (nin__cuda_describe_preference(&preference, device->workspace_bytes) !=
            CUBLAS_STATUS_SUCCESS ||
        cublasLtMatmulAlgoGetHeuristic((cublasLtHandle_t)device->blas, &terms->operation, &terms->w,
                                       &terms->x, &terms->y, &terms->y, &preference, 1, &found,
                                       &count) != CUBLAS_STATUS_SUCCESS)
        return false;
    if (count < 1 || found.state != CUBLAS_STATUS_SUCCESS ||
        found.workspaceSize > device->workspace_bytes)
        return false;
    matmul->algorithm = found.algo;
    return true;
}

/* The shape's, in the place of the oldest if there is none yet. */
struct cuda_matmul *find(struct nin__device *device, const struct cuda_product *g,
                         struct cuda_matmul_terms *terms)
{
    struct cuda_matmul *matmul;

    for (uint32_t i = 0; i < CUDA_MATMULS && i < device->matmul_count; i++)
        if (is_like(&device->matmuls[i], g))
            return &device->matmuls[i];
    matmul = &device->matmuls[device->matmul_count++ % CUDA_MATMULS];
    matmul->p = g->p;
    matmul->n = g->n;
    matmul->k = g->k;
    matmul->precision = g->precision;
    matmul->usable = choose(matmul, device, terms);
    return matmul;
}

} // namespace

/* y' (n x p) = w' ' (n x k) * x' (k x p) + bias, as cublasLt is column-major too; see gemm.cu. */
cublasStatus_t nin__cuda_describe_matmul(struct cuda_matmul_terms *terms,
                                         const struct cuda_product *g)
{
    uint64_t p = (uint64_t)g->p, n = (uint64_t)g->n, k = (uint64_t)g->k;
    cudaDataType operand = nin__cuda_operand_type(g->precision);

    return first_failure(
        {cublasLtMatmulDescInit(&terms->operation, nin__cuda_compute_type(g->precision),
                                CUDA_R_32F),
         set<int32_t>(&terms->operation, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T),
         set<uint32_t>(&terms->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS),
         set<const void *>(&terms->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, g->bias),
         cublasLtMatrixLayoutInit(&terms->w, operand, k, n, g->k),
         cublasLtMatrixLayoutInit(&terms->x, operand, k, p, g->k),
         cublasLtMatrixLayoutInit(&terms->y, CUDA_R_32F, n, p, g->n)});
}

/* Parts of a sum are added in an order of their own, not in that in which they are ready. */
cublasStatus_t nin__cuda_describe_preference(cublasLtMatmulPreferenceOpaque_t *preference,
                                             size_t workspace)
{
    return first_failure(
        {cublasLtMatmulPreferenceInit(preference),
         set<uint64_t>(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace),
         set<uint32_t>(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                       CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE),
         set<uint32_t>(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, ALIGNED),
         set<uint32_t>(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, ALIGNED),
         set<uint32_t>(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, ALIGNED),
         set<uint32_t>(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, ALIGNED)});
}

nin_status nin__cuda_matmul(struct nin__device *device, const struct cuda_product *g, bool *done)
{
    const float one = 1.0f, zero = 0.0f;
    struct cuda_matmul_terms terms;
    struct cuda_matmul *matmul;
    cublasStatus_t status;

    *done = false;
    if (!device->epilogues || g->narrow_y || !is_aligned(g->x) || !is_aligned(g->w) ||
        !is_aligned(g->y) || !is_aligned(g->bias))
        return NIN_OK;
    NIN__TRY(nin__cuda_check_blas(device, nin__cuda_describe_matmul(&terms, g),
                                  "the description of a product"));
    matmul = find(device, g, &terms);
    if (!matmul->usable)
        return NIN_OK;
    status =
        cublasLtMatmul((cublasLtHandle_t)device->blas, &terms.operation, &one, g->w, &terms.w, g->x,
                       &terms.x, &zero, g->y, &terms.y, g->y, &terms.y, &matmul->algorithm,
                       device->workspace, device->workspace_bytes, device->stream);
    matmul->usable = status != CUBLAS_STATUS_NOT_SUPPORTED;
    *done = matmul->usable;
    return *done ? nin__cuda_check_blas(device, status, "a product with a bias") : NIN_OK;
}
