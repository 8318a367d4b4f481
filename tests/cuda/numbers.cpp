/* SPDX-License-Identifier: MIT */
/* Prints the numbers and sizes that src/cuda has of CUDA's headers. Built with the real ones and
 * with those of tests/cuda_on_cpu it has to print the same. */
#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdio>

#define SHOW(name) printf("%s %lld\n", #name, (long long)(name))
#define SHOW_SIZE(name) printf("sizeof %s %zu\n", #name, sizeof(name))

static void show_runtime(void)
{
    SHOW(cudaErrorInvalidValue);
    SHOW(cudaErrorMemoryAllocation);
    SHOW(cudaErrorInvalidConfiguration);
    SHOW(cudaErrorInsufficientDriver);
    SHOW(cudaErrorNoDevice);
    SHOW(cudaErrorInvalidDevice);
    SHOW(cudaErrorECCUncorrectable);
    SHOW(cudaErrorContained);
    SHOW(cudaErrorInvalidResourceHandle);
    SHOW(cudaErrorNotReady);
    SHOW(cudaErrorIllegalAddress);
    SHOW(cudaErrorLaunchTimeout);
    SHOW(cudaErrorAssert);
    SHOW(cudaErrorHardwareStackError);
    SHOW(cudaErrorIllegalInstruction);
    SHOW(cudaErrorMisalignedAddress);
    SHOW(cudaErrorInvalidAddressSpace);
    SHOW(cudaErrorInvalidPc);
    SHOW(cudaErrorContextIsDestroyed);
    SHOW(cudaErrorLaunchFailure);
    SHOW(cudaErrorTensorMemoryLeak);
    SHOW(cudaErrorMpsClientTerminated);
    SHOW(cudaErrorExternalDevice);
    SHOW(cudaErrorStreamCaptureUnsupported);
    SHOW(cudaErrorStreamCaptureInvalidated);
    SHOW(cudaErrorStreamCaptureIsolation);
    SHOW(cudaMemcpyHostToDevice);
    SHOW(cudaMemcpyDeviceToHost);
    SHOW(cudaDevAttrMultiProcessorCount);
    SHOW(cudaDevAttrComputeCapabilityMajor);
    SHOW(cudaDevAttrComputeCapabilityMinor);
    SHOW(cudaDriverEntryPointSuccess);
    SHOW(cudaDriverEntryPointSymbolNotFound);
    SHOW(cudaStreamNonBlocking);
    SHOW(cudaEventBlockingSync);
    SHOW(cudaEventDisableTiming);
    SHOW(cudaHostAllocPortable);
    SHOW(cudaEnableDefault);
    SHOW(cudaStreamCaptureModeGlobal);
    SHOW(cudaStreamCaptureModeThreadLocal);
    SHOW_SIZE(float4);
    SHOW_SIZE(__nv_bfloat16);
}

static void show_blas(void)
{
    SHOW(CUBLAS_STATUS_SUCCESS);
    SHOW(CUBLAS_STATUS_NOT_INITIALIZED);
    SHOW(CUBLAS_STATUS_ALLOC_FAILED);
    SHOW(CUBLAS_STATUS_INVALID_VALUE);
    SHOW(CUBLAS_STATUS_ARCH_MISMATCH);
    SHOW(CUBLAS_STATUS_EXECUTION_FAILED);
    SHOW(CUBLAS_STATUS_INTERNAL_ERROR);
    SHOW(CUBLAS_STATUS_NOT_SUPPORTED);
    SHOW(CUBLAS_OP_N);
    SHOW(CUBLAS_OP_T);
    SHOW(CUBLAS_ATOMICS_NOT_ALLOWED);
    SHOW(CUBLAS_ATOMICS_ALLOWED);
    SHOW(CUBLAS_DEFAULT_MATH);
    SHOW(CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
    SHOW(CUDA_R_32F);
    SHOW(CUDA_R_16BF);
    SHOW(CUBLAS_COMPUTE_32F);
    SHOW(CUBLAS_COMPUTE_32F_PEDANTIC);
    SHOW(CUBLAS_COMPUTE_32F_FAST_TF32);
    SHOW(CUBLAS_GEMM_DEFAULT);
}

static void show_blas_lt(void)
{
    SHOW(CUBLASLT_MATMUL_DESC_TRANSA);
    SHOW(CUBLASLT_MATMUL_DESC_EPILOGUE);
    SHOW(CUBLASLT_MATMUL_DESC_BIAS_POINTER);
    SHOW(CUBLASLT_EPILOGUE_DEFAULT);
    SHOW(CUBLASLT_EPILOGUE_BIAS);
    SHOW(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
    SHOW(CUBLASLT_REDUCTION_SCHEME_MASK);
    SHOW(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
    SHOW(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
    SHOW(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
    SHOW(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
    SHOW(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
    SHOW(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
    SHOW_SIZE(cublasLtMatmulDescOpaque_t);
    SHOW_SIZE(cublasLtMatrixLayoutOpaque_t);
    SHOW_SIZE(cublasLtMatmulPreferenceOpaque_t);
    SHOW_SIZE(cublasLtMatmulAlgo_t);
    SHOW_SIZE(cublasLtMatmulHeuristicResult_t);
}

int main(void)
{
    show_runtime();
    show_blas();
    show_blas_lt();
    return 0;
}
