/* SPDX-License-Identifier: MIT */
/* The stand-in's cublasLt: products with a bias in the epilogue, for rules of src/cuda/matmul.cu,
 * and nothing else. What the real library's attributes are is tested on that one (tests/cuda).
 *
 * NIN_CUDA_LT says how it lets one down: 1: it has no rules for the shape, 2: they find nothing, 3:
 * what they find is unfit, 4: it does not run. */
#include "cublasLt.h"

#include "queue.h"
#include "stand_in.h"

#include <cstring>

namespace
{

enum {
    NO_RULES = 1,
    NOTHING = 2,
    UNFIT = 3,
    DOES_NOT_RUN = 4
};

/* What was initialised says so. */
const uint64_t OPERATION = 0x6f7065726174696f, LAYOUT = 0x6c61796f7574, PREFERENCE = 0x707265666572,
               ALGORITHM = 0x616c676f;

struct operation {
    uint64_t kind;
    int32_t compute, transa;
    uint32_t epilogue;
    const void *bias;
};

struct layout {
    uint64_t kind, rows, columns;
    int64_t leading;
    int32_t type;
};

struct preference {
    uint64_t kind, workspace;
    uint32_t reductions, alignments[4]; /* of a, b, c, d */
};

/* Serves what it was found for. */
struct algorithm {
    uint64_t kind, m, n, k, workspace;
    int32_t compute;
    uint32_t alignments[4];
};

template <typename T, typename Opaque> T read(const Opaque *opaque)
{
    static_assert(sizeof(T) <= sizeof(Opaque), "there is room");
    T value;

    memcpy(&value, opaque, sizeof value);
    return value;
}

template <typename T, typename Opaque> void write(Opaque *opaque, const T &value)
{
    memcpy(opaque, &value, sizeof value);
}

int matmuls;

/* A value of exactly that size. */
template <typename T> bool take(T *field, const void *value, size_t bytes)
{
    if (value == NULL || bytes != sizeof *field)
        return false;
    memcpy(field, value, bytes);
    return true;
}

/* What a call describes: d (m x n) = a' (k x m)' * b (k x n) + bias. */
struct call {
    struct operation operation;
    struct layout a, b, c, d;
};

struct call call_of(cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                    cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d)
{
    struct call call = {read<struct operation>(operation), read<struct layout>(a),
                        read<struct layout>(b), read<struct layout>(c), read<struct layout>(d)};

    return call;
}

enum stand_in_operands operands_of(const struct call &call)
{
    return call.operation.compute == CUBLAS_COMPUTE_32F             ? STAND_IN_BF16
           : call.operation.compute == CUBLAS_COMPUTE_32F_FAST_TF32 ? STAND_IN_TF32
                                                                    : STAND_IN_FP32;
}

cublasStatus_t check(const struct call &call)
{
    const struct layout *layouts[] = {&call.a, &call.b, &call.c, &call.d};

    for (const struct layout *layout : layouts)
        if (layout->kind != LAYOUT || layout->rows < 1 || layout->columns < 1 ||
            layout->leading < (int64_t)layout->rows)
            return CUBLAS_STATUS_INVALID_VALUE;
    if (call.operation.kind != OPERATION || call.operation.bias == NULL ||
        call.a.rows != call.b.rows || call.d.rows != call.a.columns ||
        call.d.columns != call.b.columns || memcmp(&call.c, &call.d, sizeof call.c) != 0)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (call.operation.transa != CUBLAS_OP_T || call.operation.epilogue != CUBLASLT_EPILOGUE_BIAS)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (call.b.type != call.a.type || call.d.type != CUDA_R_32F ||
        (call.a.type == CUDA_R_16BF) != (call.operation.compute == CUBLAS_COMPUTE_32F))
        return CUBLAS_STATUS_NOT_SUPPORTED; /* the bias has the result's type */
    if (operands_of(call) != STAND_IN_FP32 && stand_in_capability() < 80)
        return CUBLAS_STATUS_ARCH_MISMATCH;
    return CUBLAS_STATUS_SUCCESS;
}

bool is_aligned(const void *memory, uint32_t bytes)
{
    return (uintptr_t)memory % bytes == 0;
}

bool serves(const struct algorithm &algorithm, const struct call &call)
{
    return algorithm.kind == ALGORITHM && algorithm.m == call.d.rows &&
           algorithm.n == call.d.columns && algorithm.k == call.a.rows &&
           algorithm.compute == call.operation.compute;
}

void add_bias(float *d, const struct layout &layout, const float *bias)
{
    for (uint64_t column = 0; column < layout.columns; column++)
        for (uint64_t row = 0; row < layout.rows; row++)
            d[column * (uint64_t)layout.leading + row] += bias[row];
}

} // namespace

/* ---- descriptors ---------------------------------------------------------------------------- */

cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDesc_t opaque, cublasComputeType_t compute,
                                      cudaDataType scale)
{
    struct operation operation = {OPERATION, compute, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, NULL};

    if (scale != CUDA_R_32F ||
        (compute != CUBLAS_COMPUTE_32F_PEDANTIC && compute != CUBLAS_COMPUTE_32F_FAST_TF32 &&
         compute != CUBLAS_COMPUTE_32F))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    write(opaque, operation);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t opaque,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes)
{
    struct operation operation = read<struct operation>(opaque);
    bool good = operation.kind == OPERATION;

    if (attribute == CUBLASLT_MATMUL_DESC_TRANSA)
        good = good && take(&operation.transa, value, bytes);
    else if (attribute == CUBLASLT_MATMUL_DESC_EPILOGUE)
        good = good && take(&operation.epilogue, value, bytes);
    else if (attribute == CUBLASLT_MATMUL_DESC_BIAS_POINTER)
        good = good && take(&operation.bias, value, bytes);
    else
        good = false;
    write(opaque, operation);
    return good ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutInit(cublasLtMatrixLayout_t opaque, cudaDataType type,
                                        uint64_t rows, uint64_t columns, int64_t leading)
{
    struct layout layout = {LAYOUT, rows, columns, leading, type};

    if (type != CUDA_R_32F && type != CUDA_R_16BF)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    write(opaque, layout);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreference_t opaque)
{
    struct preference preference = {
        PREFERENCE, 0, CUBLASLT_REDUCTION_SCHEME_MASK, {256, 256, 256, 256}};

    write(opaque, preference);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t opaque,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes)
{
    struct preference preference = read<struct preference>(opaque);
    uint32_t matrix = (uint32_t)attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
    bool good = preference.kind == PREFERENCE;

    if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
        good = good && take(&preference.workspace, value, bytes);
    else if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)
        good = good && take(&preference.reductions, value, bytes);
    else
        good = good && matrix < 4 && take(&preference.alignments[matrix], value, bytes);
    write(opaque, preference);
    return good ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

/* ---- products ------------------------------------------------------------------------------- */

/* Whether the real one may be asked during a capture nobody says, so here it may not. */
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
                                              cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t opaque, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *count)
{
    struct call call = call_of(operation, a, b, c, d);
    struct preference preference = read<struct preference>(opaque);
    struct algorithm algorithm = {ALGORITHM,   call.d.rows,          call.d.columns,
                                  call.a.rows, preference.workspace, call.operation.compute,
                                  {0, 0, 0, 0}};
    int how = stand_in_setting("NIN_CUDA_LT", 0);

    *count = 0;
    if (stand_in_spoils() || stand_in_fails())
        return CUBLAS_STATUS_INTERNAL_ERROR;
    if (handle == NULL)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (wanted != 1 || preference.kind != PREFERENCE ||
        preference.reductions != CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)
        return CUBLAS_STATUS_INVALID_VALUE; /* other sums might take the order of chance */
    if (check(call) != CUBLAS_STATUS_SUCCESS)
        return check(call);
    if (how == NO_RULES)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    memcpy(algorithm.alignments, preference.alignments, sizeof algorithm.alignments);
    memset(&results[0], 0, sizeof results[0]);
    write(&results[0].algo, algorithm);
    results[0].workspaceSize = preference.workspace;
    results[0].state = how == UNFIT ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
    *count = how == NOTHING ? 0 : 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                              const void *alpha, const void *a, cublasLtMatrixLayout_t a_layout,
                              const void *b, cublasLtMatrixLayout_t b_layout, const void *beta,
                              const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *opaque,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
    struct call call = call_of(operation, a_layout, b_layout, c_layout, d_layout);
    struct algorithm algorithm = read<struct algorithm>(opaque);
    const float *bias = (const float *)call.operation.bias;
    struct stand_in_product product = {true,
                                       false,
                                       (int)call.d.rows,
                                       (int)call.d.columns,
                                       (int)call.a.rows,
                                       a,
                                       b,
                                       (int)call.a.leading,
                                       (int)call.b.leading,
                                       0.0f,
                                       d,
                                       (int)call.d.leading,
                                       operands_of(call),
                                       false};
    size_t operand = stand_in_operand_bytes(operands_of(call));

    if (stand_in_fails())
        return CUBLAS_STATUS_EXECUTION_FAILED;
    if (handle == NULL || !stand_in_knows(stream))
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (check(call) != CUBLAS_STATUS_SUCCESS)
        return check(call);
    if (*(const float *)alpha != 1.0f || *(const float *)beta != 0.0f || c != d ||
        !serves(algorithm, call) || workspace_bytes < algorithm.workspace ||
        !is_aligned(workspace, 256) || !stand_in_owns(workspace, workspace_bytes) ||
        !is_aligned(a, algorithm.alignments[0]) || !is_aligned(b, algorithm.alignments[1]) ||
        !is_aligned(d, algorithm.alignments[2]) || !is_aligned(d, algorithm.alignments[3]) ||
        !is_aligned(bias, 16) ||
        !stand_in_has_matrix(a, operand, (int64_t)call.a.rows, (int64_t)call.a.columns,
                             call.a.leading) ||
        !stand_in_has_matrix(b, operand, (int64_t)call.b.rows, (int64_t)call.b.columns,
                             call.b.leading) ||
        !stand_in_has_matrix(d, 4, (int64_t)call.d.rows, (int64_t)call.d.columns, call.d.leading) ||
        !stand_in_has_matrix(bias, 4, (int64_t)call.d.rows, 1, (int64_t)call.d.rows))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (stand_in_setting("NIN_CUDA_LT", 0) == DOES_NOT_RUN)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    matmuls++;
    stand_in_enqueue(stream, [=]() {
        stand_in_multiply(product);
        add_bias((float *)d, call.d, bias);
    });
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" __attribute__((visibility("default"))) int stand_in_matmuls(void)
{
    return matmuls;
}
