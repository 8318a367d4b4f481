/* SPDX-License-Identifier: MIT */
/* The module's table, and the functions of the backend that need no file of their own. */
#include "cuda/cuda.h"
#include "cuda/module.h"

namespace
{

/* Waits for the zeros: the caller may give the memory to a stream of his own. */
nin_status zero(struct nin__device *device, void *memory, size_t bytes)
{
    NIN__TRY(nin__cuda_check(device, cudaMemsetAsync(memory, 0, bytes, device->stream),
                             "zeros in memory"));
    return nin__cuda_wait(device);
}

nin_status allocate(void **out, struct nin__device *device, size_t bytes, const char *what)
{
    struct cuda_scope scope(device);
    void *memory = NULL;
    nin_status status;

    NIN__TRY(scope.status);
    NIN__TRY(nin__cuda_check(device, cudaMalloc(&memory, bytes > 0 ? bytes : 1), what));
    status = zero(device, memory, bytes);
    if (status != NIN_OK) {
        nin__cuda_drop(cudaFree(memory));
        return status;
    }
    *out = memory;
    return NIN_OK;
}

void release(struct nin__device *device, void *memory)
{
    struct cuda_scope scope(device, true);

    if (scope.status == NIN_OK && memory != NULL)
        nin__cuda_drop(cudaFree(memory));
}

nin_status copy(struct nin__device *device, void *target, const void *source, size_t bytes,
                cudaMemcpyKind kind, const char *what)
{
    struct cuda_scope scope(device);

    NIN__TRY(scope.status);
    NIN__TRY(nin__cuda_check(device, cudaMemcpyAsync(target, source, bytes, kind, device->stream),
                             what));
    return nin__cuda_wait(device);
}

nin_status upload(struct nin__device *device, void *target, const void *source, size_t bytes)
{
    return copy(device, target, source, bytes, cudaMemcpyHostToDevice, "a copy to the device");
}

nin_status download(struct nin__device *device, void *target, const void *source, size_t bytes)
{
    return copy(device, target, source, bytes, cudaMemcpyDeviceToHost, "a copy from the device");
}

/* A plan's memory of the device stays: it is asked for once. */
void rest(struct nin__executable *executable)
{
    (void)executable;
}

const struct nin__form *forms(const struct nin__executable *executable, int32_t *count)
{
    *count = executable->form_count;
    return executable->forms;
}

uint64_t bytes(const struct nin__executable *executable)
{
    return executable->bytes;
}

/* There is no peak to be measured. */
bool measured(const struct nin__executable *executable)
{
    (void)executable;
    return true;
}

const struct nin__backend backend = {
    sizeof(struct nin__backend),
    NIN__BACKEND_ABI,
    NIN_DEVICE_CUDA,
    nin__cuda_open,
    nin__cuda_close,
    allocate,
    release,
    upload,
    download,
    nin__cuda_compile,
    nin__cuda_discard,
    rest,
    forms,
    bytes,
    measured,
    nin__cuda_describe,
    nin__cuda_order_of_sums,
    nin__cuda_prepare,
    nin__cuda_run,
    nin__cuda_fetch,
    nin__cuda_fetch_input_gradient,
    nin__cuda_check_finite,
    nin__cuda_update,
    nin__cuda_step,
    nin__cuda_load,
    nin__cuda_unload,
    nin__cuda_steps,
};

} // namespace

extern "C" __attribute__((visibility("default"))) const struct nin__module nin__module = {
    NIN__BACKEND_ABI,       sizeof(struct nin__module), sizeof(struct nin__backend),
    sizeof(struct nin__op), NIN_VERSION_TEXT,           nin__cuda_use,
    nin__cuda_count,        nin__cuda_describe_device,  &backend,
};
