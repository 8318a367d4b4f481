/* SPDX-License-Identifier: MIT */
/* Failures: the module's own nin__fail, which hands the sentence to libnin, and what CUDA says. */
#include "cuda/cuda.h"
#include "cuda/module.h"

#include <stdarg.h>
#include <stdio.h>

static const struct nin__services *libnin;

void nin__cuda_use(const struct nin__services *services)
{
    libnin = services;
}

nin_status nin__fail(nin_status status, const char *format, ...)
{
    char sentence[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    return libnin->fail(status, sentence);
}

nin_status nin__no_memory(const char *what)
{
    return nin__fail(NIN_OUT_OF_MEMORY, "no memory for %s", what);
}

/* After these the device's context is lost: every later call would give the same one. */
static bool is_sticky(cudaError_t error)
{
    switch (error) {
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorContained:
    case cudaErrorExternalDevice:
    case cudaErrorTensorMemoryLeak:
    case cudaErrorContextIsDestroyed:
    case cudaErrorMpsClientTerminated:
        return true;
    default:
        return false;
    }
}

nin_status nin__cuda_kill(struct nin__device *device, const char *format, ...)
{
    va_list arguments;

    pthread_mutex_lock(&device->lock);
    va_start(arguments, format);
    if (!device->dead)
        vsnprintf(device->cause, sizeof device->cause, format, arguments);
    va_end(arguments);
    device->dead = true;
    pthread_mutex_unlock(&device->lock);
    return nin__cuda_alive(device);
}

static nin_status die(struct nin__device *device, const char *what, const char *reason)
{
    return nin__cuda_kill(device, "cuda: %s, detected at %s; the device can no longer be used",
                          reason, what);
}

nin_status nin__cuda_alive(struct nin__device *device)
{
    bool dead;

    pthread_mutex_lock(&device->lock);
    dead = device->dead;
    pthread_mutex_unlock(&device->lock);
    return dead ? nin__fail(NIN_BACKEND_FAILED, "%s", device->cause) : NIN_OK;
}

void nin__cuda_drop(cudaError_t error)
{
    if (error != cudaSuccess)
        (void)cudaGetLastError();
}

nin_status nin__cuda_check(struct nin__device *device, cudaError_t error, const char *what)
{
    if (error == cudaSuccess)
        return NIN_OK;
    if (is_sticky(error))
        return die(device, what, cudaGetErrorString(error));
    nin__cuda_drop(error);
    return nin__fail(error == cudaErrorMemoryAllocation ? NIN_OUT_OF_MEMORY : NIN_BACKEND_FAILED,
                     "cuda: %s: %s", what, cudaGetErrorString(error));
}

nin_status nin__cuda_check_blas(struct nin__device *device, cublasStatus_t error, const char *what)
{
    if (error == CUBLAS_STATUS_SUCCESS)
        return NIN_OK;
    if (error == CUBLAS_STATUS_EXECUTION_FAILED && !device->capturing) {
        cudaError_t reason = cudaStreamSynchronize(device->stream); /* it does not say why itself */

        if (is_sticky(reason))
            return die(device, what, cudaGetErrorString(reason));
        nin__cuda_drop(reason);
    }
    return nin__fail(error == CUBLAS_STATUS_ALLOC_FAILED ? NIN_OUT_OF_MEMORY : NIN_BACKEND_FAILED,
                     "cuda: %s: %s", what, cublasGetStatusString(error));
}
