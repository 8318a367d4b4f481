/* SPDX-License-Identifier: MIT */
/* What src/cuda says to the real cublasLt, of which this much needs no GPU and no driver: it takes
 * every attribute in the size that we give it, gives back what was set, and refuses another
 * size. */
#include "cuda/matmul.h"

#include <cstdio>
#include <cstdlib>
#include <initializer_list>

namespace
{

int checks;

void expect(bool good, const char *what)
{
    checks++;
    if (good)
        return;
    printf("descriptors: %s\n", what);
    exit(1);
}

/* Nobody reads what these point to. */
struct cuda_product product_of(nin_precision precision)
{
    struct cuda_product product = {};

    product.p = 100352;
    product.n = 48;
    product.k = 64;
    product.x = (const float *)0x10000;
    product.w = (const float *)0x20000;
    product.bias = (const float *)0x30040;
    product.y = (float *)0x40000;
    product.precision = precision;
    return product;
}

template <typename T>
void expect_attribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
                      T wanted, const char *what)
{
    T got = {};
    size_t bytes = 0;

    expect(cublasLtMatmulDescGetAttribute(operation, attribute, &got, sizeof got, &bytes) ==
               CUBLAS_STATUS_SUCCESS,
           what);
    expect(bytes == sizeof got && got == wanted, what);
}

template <typename T>
void expect_attribute(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute,
                      T wanted, const char *what)
{
    T got = {};
    size_t bytes = 0;

    expect(cublasLtMatrixLayoutGetAttribute(layout, attribute, &got, sizeof got, &bytes) ==
               CUBLAS_STATUS_SUCCESS,
           what);
    expect(bytes == sizeof got && got == wanted, what);
}

template <typename T>
void expect_attribute(cublasLtMatmulPreference_t preference,
                      cublasLtMatmulPreferenceAttributes_t attribute, T wanted, const char *what)
{
    T got = {};
    size_t bytes = 0;

    expect(cublasLtMatmulPreferenceGetAttribute(preference, attribute, &got, sizeof got, &bytes) ==
               CUBLAS_STATUS_SUCCESS,
           what);
    expect(bytes == sizeof got && got == wanted, what);
}

void expect_layout(cublasLtMatrixLayout_t layout, cudaDataType type, uint64_t rows,
                   uint64_t columns, const char *what)
{
    expect_attribute<uint32_t>(layout, CUBLASLT_MATRIX_LAYOUT_TYPE, type, what);
    expect_attribute<int32_t>(layout, CUBLASLT_MATRIX_LAYOUT_ORDER, CUBLASLT_ORDER_COL, what);
    expect_attribute<uint64_t>(layout, CUBLASLT_MATRIX_LAYOUT_ROWS, rows, what);
    expect_attribute<uint64_t>(layout, CUBLASLT_MATRIX_LAYOUT_COLS, columns, what);
    expect_attribute<int64_t>(layout, CUBLASLT_MATRIX_LAYOUT_LD, (int64_t)rows, what);
}

void check_product(nin_precision precision, cublasComputeType_t compute, cudaDataType operand)
{
    struct cuda_product product = product_of(precision);
    struct cuda_matmul_terms terms;

    expect(nin__cuda_describe_matmul(&terms, &product) == CUBLAS_STATUS_SUCCESS,
           "a product is not taken");
    expect_attribute<int32_t>(&terms.operation, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, compute,
                              "the compute type is another");
    expect_attribute<int32_t>(&terms.operation, CUBLASLT_MATMUL_DESC_SCALE_TYPE, CUDA_R_32F,
                              "the scale type is another");
    expect_attribute<int32_t>(&terms.operation, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T,
                              "a is not transposed");
    expect_attribute<int32_t>(&terms.operation, CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N,
                              "b is transposed");
    expect_attribute<uint32_t>(&terms.operation, CUBLASLT_MATMUL_DESC_EPILOGUE,
                               CUBLASLT_EPILOGUE_BIAS, "the epilogue is another");
    expect_attribute<const void *>(&terms.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                   product.bias, "the bias is another");
    expect_layout(&terms.w, operand, 64, 48, "the layout of w is another");
    expect_layout(&terms.x, operand, 64, 100352, "the layout of x is another");
    expect_layout(&terms.y, CUDA_R_32F, 48, 100352, "the layout of y is another");
}

void check_preference(void)
{
    cublasLtMatmulPreferenceOpaque_t preference;

    expect(nin__cuda_describe_preference(&preference, 32 << 20) == CUBLAS_STATUS_SUCCESS,
           "a preference is not taken");
    expect_attribute<uint64_t>(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, 32 << 20,
                               "the workspace is another");
    expect_attribute<uint32_t>(&preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                               CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, "the reduction is another");
    for (int i = 0; i < 4; i++)
        expect_attribute<uint32_t>(
            &preference,
            (cublasLtMatmulPreferenceAttributes_t)(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i),
            16, "an alignment is another");
}

/* Else the checks above would say nothing. */
void check_refusals(void)
{
    struct cuda_product product = product_of(NIN_FP32);
    struct cuda_matmul_terms terms;
    cublasLtMatmulPreferenceOpaque_t preference;
    const uint64_t wide = 4;
    const uint32_t narrow = 4;

    expect(nin__cuda_describe_matmul(&terms, &product) == CUBLAS_STATUS_SUCCESS &&
               nin__cuda_describe_preference(&preference, 0) == CUBLAS_STATUS_SUCCESS,
           "nothing is taken");
    expect(cublasLtMatmulDescSetAttribute(&terms.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &wide,
                                          sizeof wide) == CUBLAS_STATUS_INVALID_VALUE,
           "an epilogue of 8 bytes is taken");
    expect(cublasLtMatmulDescSetAttribute(&terms.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                          &narrow, sizeof narrow) == CUBLAS_STATUS_INVALID_VALUE,
           "a pointer of 4 bytes is taken");
    expect(cublasLtMatmulPreferenceSetAttribute(&preference,
                                                CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &narrow,
                                                sizeof narrow) == CUBLAS_STATUS_INVALID_VALUE,
           "a workspace's size of 4 bytes is taken");
}

/* With a GPU: whether there is an algorithm, for the last products of the blocks of the preset
 * mnist. */
void show_algorithm(cublasLtHandle_t handle, int64_t p, int64_t n, int64_t k,
                    nin_precision precision)
{
    struct cuda_product product = product_of(precision);
    struct cuda_matmul_terms terms;
    cublasLtMatmulPreferenceOpaque_t preference;
    cublasLtMatmulHeuristicResult_t found;
    cublasStatus_t status;
    int count = 0;

    product.p = p;
    product.n = n;
    product.k = k;
    expect(nin__cuda_describe_matmul(&terms, &product) == CUBLAS_STATUS_SUCCESS &&
               nin__cuda_describe_preference(&preference, 32 << 20) == CUBLAS_STATUS_SUCCESS,
           "a product is not taken");
    status = cublasLtMatmulAlgoGetHeuristic(handle, &terms.operation, &terms.w, &terms.x, &terms.y,
                                            &terms.y, &preference, 1, &found, &count);
    printf("%lld x %lld x %lld in %s: status %d, %d algorithms\n", (long long)p, (long long)n,
           (long long)k,
           precision == NIN_TF32   ? "tf32"
           : precision == NIN_BF16 ? "bf16"
                                   : "fp32",
           (int)status, count);
}

void show_algorithms(void)
{
    cublasLtHandle_t handle;
    int devices = 0;

    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0)
        return;
    expect(cublasLtCreate(&handle) == CUBLAS_STATUS_SUCCESS, "there is no handle");
    for (nin_precision precision : {NIN_FP32, NIN_TF32, NIN_BF16}) {
        show_algorithm(handle, 100352, 48, 64, precision);
        show_algorithm(handle, 25088, 48, 96, precision);
        show_algorithm(handle, 6272, 10, 96, precision);
    }
    expect(cublasLtDestroy(handle) == CUBLAS_STATUS_SUCCESS, "a handle stays");
}

} // namespace

int main(void)
{
    check_product(NIN_FP32, CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_32F);
    check_product(NIN_TF32, CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F);
    check_product(NIN_BF16, CUBLAS_COMPUTE_32F, CUDA_R_16BF);
    check_preference();
    check_refusals();
    show_algorithms();
    printf("check-cuda-lt: %d checks, cublasLt %zu\n", checks, cublasLtGetVersion());
    return 0;
}
