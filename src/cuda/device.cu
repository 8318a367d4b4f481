/* SPDX-License-Identifier: MIT */
/* Devices: which there are, why one cannot be used, and what a context has of one. The
 * application's current device is left as it is: its context is pushed and popped around what we
 * do, by the driver's functions, for cudaSetDevice would make a context on device 0 for a thread
 * that had none. */
#include "cuda/cuda.h"

#include <nin/device.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    OLDEST_MAJOR = 7, /* the oldest GPUs that there is code for: sm_75 */
    OLDEST_MINOR = 5,
    WORKSPACE = 4 << 20, /* of cuBLAS */
    LARGE_WORKSPACE = 32 << 20,
    LARGE_FROM = 90 /* sm_90 */
};

/* ---- the driver's functions ----------------------------------------------------------------- */

static struct {
    pthread_once_t once;
    int (*retain)(void **context, int device);
    int (*release)(int device);
    int (*push)(void *context);
    int (*pop)(void **context);
    int (*id)(void *context, unsigned long long *id);
    bool found;
} driver = {PTHREAD_ONCE_INIT, NULL, NULL, NULL, NULL, NULL, false};

static bool find(const char *name, unsigned version, void *function)
{
    cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
    void *found = NULL;
    cudaError_t error =
        cudaGetDriverEntryPointByVersion(name, &found, version, cudaEnableDefault, &result);

    nin__cuda_drop(error);
    if (error != cudaSuccess || result != cudaDriverEntryPointSuccess || found == NULL)
        return false;
    memcpy(function, &found, sizeof found);
    return true;
}

static void find_driver(void)
{
    driver.found = find("cuDevicePrimaryCtxRetain", 7000, &driver.retain) &&
                   find("cuDevicePrimaryCtxRelease", 11000, &driver.release) &&
                   find("cuCtxPushCurrent", 4000, &driver.push) &&
                   find("cuCtxPopCurrent", 4000, &driver.pop) &&
                   find("cuCtxGetId", 12000, &driver.id);
}

/* ---- which there are ------------------------------------------------------------------------ */

/* Why no device can be used, or how many there are. */
static int32_t count_devices(char *why, size_t size)
{
    int version = 0, count = 0;
    cudaError_t error = cudaDriverGetVersion(&version);

    nin__cuda_drop(error);
    if (error != cudaSuccess || version == 0) {
        snprintf(why, size, "no NVIDIA driver on this machine");
        return 0;
    }
    if (version < CUDART_VERSION / 1000 * 1000) {
        snprintf(why, size,
                 "the NVIDIA driver supports CUDA %d.%d, libnin_cuda needs %d.0: update it",
                 version / 1000, version % 1000 / 10, CUDART_VERSION / 1000);
        return 0;
    }
    error = cudaGetDeviceCount(&count);
    nin__cuda_drop(error);
    if (error != cudaSuccess || count == 0) {
        snprintf(why, size, "%s",
                 error == cudaSuccess || error == cudaErrorNoDevice ? "no CUDA device"
                                                                    : cudaGetErrorString(error));
        return 0;
    }
    return count;
}

int32_t nin__cuda_count(void)
{
    char why[sizeof((nin_device_info *)0)->unusable_because];
    int32_t count = count_devices(why, sizeof why);

    return count > 0 ? count : 1;
}

static void describe(nin_device_info *info, const cudaDeviceProp *properties)
{
    info->memory = properties->totalGlobalMem;
    snprintf(info->name, sizeof info->name, "%.63s", properties->name);
    if (properties->major * 10 + properties->minor < OLDEST_MAJOR * 10 + OLDEST_MINOR)
        snprintf(info->unusable_because, sizeof info->unusable_because,
                 "GPU sm_%d%d is not supported, sm_%d%d and later are", properties->major,
                 properties->minor, OLDEST_MAJOR, OLDEST_MINOR);
}

void nin__cuda_describe_device(nin_device_info *info, int32_t index)
{
    cudaDeviceProp properties;
    cudaError_t error;

    if (count_devices(info->unusable_because, sizeof info->unusable_because) == 0)
        return;
    error = cudaGetDeviceProperties(&properties, index);
    if (error == cudaSuccess) {
        describe(info, &properties);
        return;
    }
    nin__cuda_drop(error);
    snprintf(info->unusable_because, sizeof info->unusable_because, "%s",
             cudaGetErrorString(error));
}

/* ---- entering and leaving ------------------------------------------------------------------- */

/* What cudaDeviceReset has destroyed is not to be touched, nor freed, nor the context given back:
 * one of the same address may be another's. The driver numbers contexts. */
static nin_status check_reset(struct nin__device *device)
{
    unsigned long long id = 0;

    if (!device->reset && (driver.id(device->primary, &id) != 0 || id != device->primary_id))
        device->reset = true;
    return !device->reset
               ? NIN_OK
               : nin__cuda_kill(device, "cuda: the application has reset the device; the "
                                        "context can no longer be used");
}

/* The device's context becomes current. The application may capture a stream in a mode that forbids
 * its threads to allocate: not us, who work on other streams. */
static nin_status push(struct nin__device *device, cudaStreamCaptureMode *mode)
{
    NIN__TRY(check_reset(device));
    if (driver.push(device->primary) != 0)
        return nin__fail(NIN_BACKEND_FAILED, "cuda: the device's context is not there");
    *mode = cudaStreamCaptureModeRelaxed;
    (void)cudaThreadExchangeStreamCaptureMode(mode);
    return NIN_OK;
}

/* A child has the lock as somebody else may have left it, so it does not even ask for it. */
cuda_scope::cuda_scope(struct nin__device *entered, bool clean_up)
    : status(NIN_OK), device(entered), mode(cudaStreamCaptureModeGlobal), locked(false),
      pushed(false)
{
    if (device->process != (int)getpid()) {
        status = nin__fail(NIN_INVALID_STATE, "cuda: a context cannot be used after a fork");
        return;
    }
    pthread_mutex_lock(&device->lock);
    locked = true;
    if (!clean_up)
        status = nin__cuda_alive(device);
    if (status == NIN_OK)
        status = push(device, &mode);
    pushed = status == NIN_OK;
}

cuda_scope::~cuda_scope()
{
    void *popped;

    if (pushed) {
        (void)cudaThreadExchangeStreamCaptureMode(&mode);
        (void)driver.pop(&popped);
    }
    if (locked)
        pthread_mutex_unlock(&device->lock);
}

nin_status nin__cuda_wait(struct nin__device *device)
{
    return nin__cuda_check(device, cudaStreamSynchronize(device->stream), "the end of a run");
}

nin_status nin__cuda_make_event(cudaEvent_t *event, struct nin__device *device)
{
    return nin__cuda_check(
        device, cudaEventCreateWithFlags(event, cudaEventBlockingSync | cudaEventDisableTiming),
        "an event");
}

nin_status nin__cuda_record(cudaEvent_t event, struct nin__device *device, cudaStream_t stream)
{
    return nin__cuda_check(device, cudaEventRecord(event, stream), "an event of a stream");
}

/* ---- life ----------------------------------------------------------------------------------- */

static nin_status ask(int *value, struct nin__device *device, cudaDeviceAttr attribute)
{
    return nin__cuda_check(device, cudaDeviceGetAttribute(value, attribute, device->index),
                           "what the device is");
}

static nin_status find_properties(struct nin__device *device)
{
    int major = 0, minor = 0;

    NIN__TRY(ask(&major, device, cudaDevAttrComputeCapabilityMajor));
    NIN__TRY(ask(&minor, device, cudaDevAttrComputeCapabilityMinor));
    device->capability = major * 10 + minor;
    return ask(&device->multiprocessors, device, cudaDevAttrMultiProcessorCount);
}

/* Setting the stream takes the workspace away, so it comes first. */
nin_status nin__cuda_use_stream(struct nin__device *device, cudaStream_t stream)
{
    device->stream = stream;
    NIN__TRY(
        nin__cuda_check_blas(device, cublasSetStream(device->blas, stream), "cuBLAS's stream"));
    return nin__cuda_check_blas(
        device, cublasSetWorkspace(device->blas, device->workspace, device->workspace_bytes),
        "cuBLAS's workspace");
}

static nin_status make_workspace(struct nin__device *device)
{
    device->workspace_bytes = device->capability >= LARGE_FROM ? LARGE_WORKSPACE : WORKSPACE;
    return nin__cuda_check(device, cudaMalloc(&device->workspace, device->workspace_bytes),
                           "memory for cuBLAS");
}

/* The default streams are other ones in each thread, or wait for all others. */
static nin_status check_stream(const struct nin__device *device, cudaStream_t stream)
{
    cudaError_t error;
    int index = -1;

    if (stream == cudaStreamLegacy || stream == cudaStreamPerThread)
        return nin__fail(NIN_INVALID_ARGUMENT, "context: cuda_stream is a default stream");
    error = cudaStreamGetDevice(stream, &index);
    nin__cuda_drop(error);
    if (error != cudaSuccess)
        return nin__fail(NIN_INVALID_ARGUMENT, "context: cuda_stream is no stream");
    if (index != device->index)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "context: cuda_stream is of device %d, the context of device %d", index,
                         device->index);
    return NIN_OK;
}

/* Parts of a product that becomes bf16 are not to be rounded before they are added. */
static const cublasMath_t SUMS_IN_FLOAT =
    (cublasMath_t)(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);

/* There is a stream of our own even so: graphs are captured on it, where the application's work on
 * its default stream does not come in between. */
static nin_status make_parts(struct nin__device *device, cudaStream_t stream)
{
    struct cuda_scope scope(device);

    NIN__TRY(scope.status);
    if (stream != NULL)
        NIN__TRY(check_stream(device, stream));
    NIN__TRY(find_properties(device));
    NIN__TRY(nin__cuda_check(device, cudaStreamCreateWithFlags(&device->own, cudaStreamNonBlocking),
                             "a stream"));
    NIN__TRY(nin__cuda_check_blas(device, cublasCreate(&device->blas), "cuBLAS"));
    NIN__TRY(nin__cuda_check_blas(device,
                                  cublasSetAtomicsMode(device->blas, CUBLAS_ATOMICS_NOT_ALLOWED),
                                  "cuBLAS without atomics"));
    NIN__TRY(nin__cuda_check_blas(device, cublasSetMathMode(device->blas, SUMS_IN_FLOAT),
                                  "cuBLAS with sums in fp32"));
    NIN__TRY(make_workspace(device));
    return nin__cuda_use_stream(device, stream != NULL ? stream : device->own);
}

static void free_parts(struct nin__device *device)
{
    struct cuda_scope scope(device, true);

    if (scope.status != NIN_OK)
        return;
    if (device->stream != NULL)
        nin__cuda_drop(cudaStreamSynchronize(device->stream));
    if (device->blas != NULL)
        (void)cublasDestroy(device->blas);
    if (device->workspace != NULL)
        nin__cuda_drop(cudaFree(device->workspace));
    if (device->own != NULL)
        nin__cuda_drop(cudaStreamDestroy(device->own));
}

static void make_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t recursive;

    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(lock, &recursive);
    pthread_mutexattr_destroy(&recursive);
}

/* NIN_CUDA_EPILOGUE=0: biases are added apart, which is slower; sums may have another order. */
static bool wants_epilogues(void)
{
    const char *text = getenv("NIN_CUDA_EPILOGUE");

    return text == NULL || strcmp(text, "0") != 0;
}

/* The device's context, with its number. */
static nin_status retain(struct nin__device *device)
{
    if (driver.retain(&device->primary, device->index) != 0)
        return nin__fail(NIN_BACKEND_FAILED, "cuda: device %d gives no context", device->index);
    if (driver.id(device->primary, &device->primary_id) == 0)
        return NIN_OK;
    (void)driver.release(device->index);
    return nin__fail(NIN_BACKEND_FAILED, "cuda: the context of device %d has no number",
                     device->index);
}

nin_status nin__cuda_open(struct nin__device **out, int32_t index, nin_instruction_set instructions,
                          void *stream)
{
    struct nin__device *device;
    nin_status status;

    (void)instructions;
    pthread_once(&driver.once, find_driver);
    if (!driver.found)
        return nin__fail(NIN_NO_DEVICE, "cuda: the driver lacks a function that libnin needs");
    device = (struct nin__device *)calloc(1, sizeof *device);
    if (device == NULL)
        return nin__no_memory("a device");
    device->index = index;
    device->process = (int)getpid();
    device->epilogues = wants_epilogues();
    make_lock(&device->lock);
    status = retain(device);
    if (status != NIN_OK) {
        pthread_mutex_destroy(&device->lock);
        free(device);
        return status;
    }
    status = make_parts(device, (cudaStream_t)stream);
    if (status != NIN_OK) {
        nin__cuda_close(device);
        return status;
    }
    *out = device;
    return NIN_OK;
}

void nin__cuda_close(struct nin__device *device)
{
    if (device == NULL)
        return;
    free_parts(device);
    if (device->process == (int)getpid()) {
        if (!device->reset)
            (void)driver.release(device->index);
        pthread_mutex_destroy(&device->lock);
    }
    free(device);
}
