/* SPDX-License-Identifier: MIT */
/* The stand-in's cuBLAS, by OpenBLAS: as strict about its arguments as the real one, and stricter where src/cuda
 * has rules of its own (a workspace, no atomics, fp32 whatever the environment says). */
#include "cublas_v2.h"

#include "queue.h"

#include <cblas.h>

struct stand_in_blas {
    cudaStream_t stream;
    bool workspace, atomics;
};

const char *cublasGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_SUCCESS ? "success" : "an error of the stand-in";
}

cublasStatus_t cublasCreate(cublasHandle_t *handle)
{
    if (stand_in_spoils())
        return CUBLAS_STATUS_EXECUTION_FAILED;
    if (stand_in_fails())
        return CUBLAS_STATUS_ALLOC_FAILED;
    stand_in_blas *made = new stand_in_blas{NULL, false, true};
    stand_in_keep(made, [made]() { delete made; });
    *handle = made;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle)
{
    stand_in_destroy(handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetVersion(cublasHandle_t handle, int *version)
{
    (void)handle;
    *version = 130100;
    return CUBLAS_STATUS_SUCCESS;
}

/* Takes a workspace away. */
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream)
{
    if (stand_in_fails() || !stand_in_knows(stream) || stand_in_spoils())
        return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->stream = stream;
    handle->workspace = false;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void *workspace, size_t bytes)
{
    if (stand_in_spoils())
        return CUBLAS_STATUS_EXECUTION_FAILED;
    if (stand_in_fails())
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if ((uintptr_t)workspace % 256 != 0 || !stand_in_owns(workspace, bytes))
        return CUBLAS_STATUS_INVALID_VALUE;
    handle->workspace = true;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t mode)
{
    if (stand_in_fails())
        return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->atomics = mode == CUBLAS_ATOMICS_ALLOWED;
    return CUBLAS_STATUS_SUCCESS;
}

/* Bytes of a column-major matrix of that many stored rows and columns. */
static size_t bytes_of(int rows, int columns, int leading)
{
    return ((size_t)leading * (size_t)(columns - 1) + (size_t)rows) * sizeof(float);
}

static bool lies_well(const void *matrix, int rows, int columns, int leading)
{
    return leading >= rows && (uintptr_t)matrix % sizeof(float) == 0 &&
           stand_in_owns(matrix, bytes_of(rows, columns, leading));
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa,
                            cublasOperation_t transb, int m, int n, int k, const void *alpha,
                            const void *a, cudaDataType a_type, int lda, const void *b,
                            cudaDataType b_type, int ldb, const void *beta, void *c,
                            cudaDataType c_type, int ldc, cublasComputeType_t compute,
                            cublasGemmAlgo_t algorithm)
{
    bool a_turned = transa == CUBLAS_OP_T, b_turned = transb == CUBLAS_OP_T;
    float one = *(const float *)alpha, add = *(const float *)beta;

    if (stand_in_fails())
        return CUBLAS_STATUS_EXECUTION_FAILED;
    if (handle->stream == NULL || !handle->workspace || handle->atomics)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (a_type != CUDA_R_32F || b_type != CUDA_R_32F || c_type != CUDA_R_32F ||
        compute != CUBLAS_COMPUTE_32F_PEDANTIC || algorithm != CUBLAS_GEMM_DEFAULT)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (m < 1 || n < 1 || k < 1 || !lies_well(a, a_turned ? k : m, a_turned ? m : k, lda) ||
        !lies_well(b, b_turned ? n : k, b_turned ? k : n, ldb) || !lies_well(c, m, n, ldc))
        return CUBLAS_STATUS_INVALID_VALUE;
    stand_in_enqueue(handle->stream, [=]() {
        cblas_sgemm(CblasColMajor, a_turned ? CblasTrans : CblasNoTrans,
                    b_turned ? CblasTrans : CblasNoTrans, m, n, k, one, (const float *)a, lda,
                    (const float *)b, ldb, add, (float *)c, ldc);
    });
    return CUBLAS_STATUS_SUCCESS;
}
