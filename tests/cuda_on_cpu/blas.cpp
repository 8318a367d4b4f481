/* SPDX-License-Identifier: MIT */
/* The stand-in's cuBLAS, by OpenBLAS: as strict about its arguments as the real one, and stricter
 * where src/cuda has rules of its own (a workspace, no atomics, fp32 whatever the environment
 * says). */
#include "cublas_v2.h"

#include "cuda_bf16.h"
#include "queue.h"
#include "watcher.h"

#include <cblas.h>
#include <cstring>
#include <vector>

struct stand_in_blas {
    cudaStream_t stream;
    bool workspace, atomics;
    bool sums_in_bf16; /* where a product becomes bf16 */
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
    stand_in_blas *made = new stand_in_blas{NULL, false, true, true};
    stand_in_keep(made, [made]() { delete made; });
    *handle = made;
    return CUBLAS_STATUS_SUCCESS;
}

/* Waits for the device, as the real one does (seen on an H200, CUDA 13.0). */
cublasStatus_t cublasDestroy(cublasHandle_t handle)
{
    stand_in_spoil_all();
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

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode)
{
    if (stand_in_fails())
        return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->sums_in_bf16 = (mode & CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION) == 0;
    return CUBLAS_STATUS_SUCCESS;
}

/* Elements of a column-major matrix of that many stored rows and columns. */
static size_t elements_of(int64_t rows, int64_t columns, int64_t leading)
{
    return (size_t)leading * (size_t)(columns - 1) + (size_t)rows;
}

bool stand_in_has_matrix(const void *matrix, size_t element, int64_t rows, int64_t columns,
                         int64_t leading)
{
    return leading >= rows && (uintptr_t)matrix % element == 0 &&
           stand_in_owns(matrix, elements_of(rows, columns, leading) * element);
}

/* To 11 significant bits, as tensor cores have operands. */
static float round_to_tf32(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7f800000) != 0x7f800000)
        bits = (bits + 0xfff + (bits >> 13 & 1)) & ~(uint32_t)0x1fff;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* An operand as it is multiplied. */
static std::vector<float> operand(const void *matrix, int rows, int columns, int leading,
                                  enum stand_in_operands type)
{
    std::vector<float> values(elements_of(rows, columns, leading));

    for (size_t i = 0; i < values.size(); i++) {
        if (type == STAND_IN_BF16)
            values[i] = __bfloat162float(((const __nv_bfloat16 *)matrix)[i]);
        else
            values[i] = ((const float *)matrix)[i];
        if (type == STAND_IN_TF32)
            values[i] = round_to_tf32(values[i]);
    }
    return values;
}

static void multiply_into(float *c, const struct stand_in_product &p)
{
    int a_rows = p.a_turned ? p.k : p.m, b_rows = p.b_turned ? p.n : p.k;
    std::vector<float> a = operand(p.a, a_rows, p.a_turned ? p.m : p.k, p.lda, p.operands);
    std::vector<float> b = operand(p.b, b_rows, p.b_turned ? p.k : p.n, p.ldb, p.operands);

    cblas_sgemm(CblasColMajor, p.a_turned ? CblasTrans : CblasNoTrans,
                p.b_turned ? CblasTrans : CblasNoTrans, p.m, p.n, p.k, 1.0f, a.data(), p.lda,
                b.data(), p.ldb, p.add, c, p.ldc);
}

void stand_in_multiply(const struct stand_in_product &p)
{
    stand_in_watched_by->multiplies(p);
    if (p.narrow) {
        std::vector<float> c = operand(p.c, p.m, p.n, p.ldc, STAND_IN_BF16);

        multiply_into(c.data(), p);
        for (size_t i = 0; i < c.size(); i++)
            ((__nv_bfloat16 *)p.c)[i] = __float2bfloat16_rn(c[i]);
    } else {
        multiply_into((float *)p.c, p);
    }
}

/* False: cuBLAS has no such product. */
static bool operands_of(enum stand_in_operands *operands, cudaDataType type,
                        cublasComputeType_t compute)
{
    bool bf16 = type == CUDA_R_16BF && compute == CUBLAS_COMPUTE_32F;

    *operands = bf16                                      ? STAND_IN_BF16
                : compute == CUBLAS_COMPUTE_32F_FAST_TF32 ? STAND_IN_TF32
                                                          : STAND_IN_FP32;
    return bf16 || (type == CUDA_R_32F && compute != CUBLAS_COMPUTE_32F);
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa,
                            cublasOperation_t transb, int m, int n, int k, const void *alpha,
                            const void *a, cudaDataType a_type, int lda, const void *b,
                            cudaDataType b_type, int ldb, const void *beta, void *c,
                            cudaDataType c_type, int ldc, cublasComputeType_t compute,
                            cublasGemmAlgo_t algorithm)
{
    bool a_turned = transa == CUBLAS_OP_T, b_turned = transb == CUBLAS_OP_T;
    enum stand_in_operands operands;
    bool good = operands_of(&operands, a_type, compute), narrow = c_type == CUDA_R_16BF;
    size_t bytes = stand_in_operand_bytes(operands);
    struct stand_in_product product = {a_turned, b_turned, m,        n,     k,
                                       a,        b,        lda,      ldb,   *(const float *)beta,
                                       c,        ldc,      operands, narrow};

    if (stand_in_fails())
        return CUBLAS_STATUS_EXECUTION_FAILED;
    if (handle->stream == NULL || !handle->workspace || handle->atomics)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (narrow && handle->sums_in_bf16)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!good || b_type != a_type || (narrow && operands != STAND_IN_BF16) ||
        algorithm != CUBLAS_GEMM_DEFAULT)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (operands != STAND_IN_FP32 && stand_in_capability() < 80)
        return CUBLAS_STATUS_ARCH_MISMATCH;
    if (*(const float *)alpha != 1.0f || m < 1 || n < 1 || k < 1 ||
        !stand_in_has_matrix(a, bytes, a_turned ? k : m, a_turned ? m : k, lda) ||
        !stand_in_has_matrix(b, bytes, b_turned ? n : k, b_turned ? k : n, ldb) ||
        !stand_in_has_matrix(c, narrow ? 2 : 4, m, n, ldc))
        return CUBLAS_STATUS_INVALID_VALUE;
    stand_in_enqueue(handle->stream, [product]() { stand_in_multiply(product); });
    return CUBLAS_STATUS_SUCCESS;
}
