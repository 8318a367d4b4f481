/* SPDX-License-Identifier: MIT */
/* The CPU backend's table, and the functions of it that need no file of their own. */
#define _DEFAULT_SOURCE /* madvise */
#include "core/backend.h"

#include "core/error.h"
#include "cpu/cpu.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static nin_status open_device(struct nin__device **out, int32_t index,
                              nin_instruction_set instructions, void *stream)
{
    struct nin__device chosen, *device;

    (void)index;
    if (stream != NULL)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "context: there is a cuda_stream, and the device is the CPU");
    NIN__TRY(nin__cpu_choose_instructions(&chosen, instructions));
    device = malloc(sizeof *device);
    if (device == NULL)
        return nin__no_memory("a device");
    *device = chosen;
    *out = device;
    return NIN_OK;
}

static void close_device(struct nin__device *device)
{
    free(device);
}

static const size_t LARGE_PAGE = (size_t)2 << 20;

/* Large pieces ask for large pages: a chunk goes through more small ones than the processor keeps
 * translations of. */
void *nin__cpu_memory(size_t bytes)
{
    size_t alignment = bytes < LARGE_PAGE ? NIN__ALIGNMENT : LARGE_PAGE;
    void *memory;

    if (bytes > SIZE_MAX - 2 * alignment)
        return NULL;
    memory = aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
#if defined(MADV_HUGEPAGE)
    if (memory != NULL && alignment == LARGE_PAGE)
        (void)madvise(memory, bytes / LARGE_PAGE * LARGE_PAGE, MADV_HUGEPAGE); /* a wish */
#endif
    return memory;
}

/* Small pieces are not worth the call. */
static void rest(struct nin__executable *executable)
{
#if defined(MADV_DONTNEED)
    size_t bytes = executable->worker_bytes * (size_t)executable->options.threads;

    if (bytes >= LARGE_PAGE) /* so it begins and ends with pages of its own */
        (void)madvise(executable->worker_memory, bytes, MADV_DONTNEED); /* a wish */
#else
    (void)executable;
#endif
}

static nin_status allocate(void **out, struct nin__device *device, size_t bytes, const char *what)
{
    void *memory = nin__cpu_memory(bytes);

    (void)device;
    if (memory == NULL)
        return nin__fail(NIN_OUT_OF_MEMORY, "no memory for %s: %zu bytes", what, bytes);
    memset(memory, 0, bytes);
    *out = memory;
    return NIN_OK;
}

static void release(struct nin__device *device, void *memory)
{
    (void)device;
    free(memory);
}

static nin_status copy(struct nin__device *device, void *target, const void *source, size_t bytes)
{
    (void)device;
    memcpy(target, source, bytes);
    return NIN_OK;
}

static const struct nin__form *forms(const struct nin__executable *executable, int32_t *count)
{
    *count = executable->form_count;
    return executable->forms;
}

static bool measured(const struct nin__executable *executable)
{
    return atomic_load(&executable->peak) > 0;
}

static uint64_t bytes(const struct nin__executable *executable)
{
    return executable->bytes;
}

/* NCHW (target) from NHWC */
static void to_nchw(float *target, const float *source, struct nin__shape shape, int32_t images)
{
    size_t pixels = (size_t)shape.h * (size_t)shape.w, channels = (size_t)shape.c;

    for (size_t n = 0; n < (size_t)images; n++)
        for (size_t c = 0; c < channels; c++)
            for (size_t p = 0; p < pixels; p++)
                target[(n * channels + c) * pixels + p] = source[(n * pixels + p) * channels + c];
}

static nin_status fetch(struct nin__executable *executable, int32_t op, int32_t images,
                        float *target)
{
    to_nchw(target, executable->ops[op].whole_y, executable->program.ops[op].out, images);
    return NIN_OK;
}

static nin_status fetch_input_gradient(struct nin__executable *executable, int32_t images,
                                       float *target)
{
    to_nchw(target, executable->ops[0].whole_dy, executable->program.ops[0].out, images);
    return NIN_OK;
}

const struct nin__backend nin__cpu_backend = {
    .size = sizeof(struct nin__backend),
    .abi = NIN__BACKEND_ABI,
    .device = NIN_DEVICE_CPU,
    .open = open_device,
    .close = close_device,
    .allocate = allocate,
    .release = release,
    .upload = copy,
    .download = copy,
    .compile = nin__cpu_compile,
    .discard = nin__cpu_discard,
    .rest = rest,
    .forms = forms,
    .bytes = bytes,
    .measured = measured,
    .describe = nin__cpu_describe,
    .order_of_sums = nin__cpu_order_of_sums,
    .prepare = nin__cpu_prepare,
    .run = nin__cpu_run,
    .fetch = fetch,
    .fetch_input_gradient = fetch_input_gradient,
    .check_finite = nin__cpu_check_finite,
    .update = nin__cpu_update,
};
