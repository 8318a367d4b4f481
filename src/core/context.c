/* SPDX-License-Identifier: MIT */
#include "core/context.h"

#include "core/descriptor.h"
#include "core/error.h"

#include <stdlib.h>

enum {
    MAX_THREADS = 128 /* one plan of so many may use OpenBLAS, see gemm.c */
};

/* A GPU that describes itself well may still not open: its memory is full, or another program has
 * it alone. */
static nin_status open_device(nin_context *context, const nin_context_desc *desc)
{
    nin_status status = context->backend->open(&context->device, desc->device_index,
                                               desc->instructions, desc->cuda_stream);

    if (status == NIN_OK || desc->device != NIN_DEVICE_AUTO || desc->device_index != 0 ||
        context->backend == &nin__cpu_backend)
        return status;
    context->backend = &nin__cpu_backend;
    return context->backend->open(&context->device, 0, desc->instructions, NULL);
}

nin_status nin_context_create(nin_context **out, const nin_context_desc *source)
{
    nin_context_desc desc;
    nin_context *context;
    nin_status status;

    NIN__NEED(out);
    NIN__TRY(NIN__DESC_READ(&desc, source, nin_context_desc));
    if (desc.threads < 0 || desc.threads > MAX_THREADS)
        return nin__fail(NIN_INVALID_ARGUMENT, "context: threads %d is outside 0 to %d",
                         desc.threads, MAX_THREADS);
    if (desc.instructions < NIN_INSTRUCTIONS_AUTO || desc.instructions > NIN_INSTRUCTIONS_AMX)
        return nin__fail(NIN_INVALID_ARGUMENT, "context: %d is no nin_instruction_set",
                         (int)desc.instructions);
    if (desc.reserved != 0)
        return nin__fail(NIN_INVALID_ARGUMENT, "context: reserved %d; it must be 0", desc.reserved);
    if (desc.cuda_stream != NULL && desc.device == NIN_DEVICE_AUTO)
        desc.device = NIN_DEVICE_CUDA; /* no other has streams */
    context = calloc(1, sizeof *context);
    if (context == NULL)
        return nin__no_memory("a context");
    status = nin__device_backend(&context->backend, desc.device, desc.device_index);
    if (status == NIN_OK)
        status = open_device(context, &desc);
    if (status != NIN_OK) {
        free(context);
        return status;
    }
    atomic_init(&context->references, 1);
    context->device_index = desc.device_index;
    context->threads = desc.threads > 0 ? desc.threads : nin__usable_threads();
    context->seed = desc.seed;
    *out = context;
    return NIN_OK;
}

nin_context *nin__context_retain(nin_context *context)
{
    atomic_fetch_add(&context->references, 1);
    return context;
}

void nin_context_destroy(nin_context *context)
{
    if (context == NULL || atomic_fetch_sub(&context->references, 1) > 1)
        return;
    context->backend->close(context->device);
    free(context);
}

nin_status nin__context_allocate(void **out, nin_context *context, size_t bytes, const char *what)
{
    return context->backend->allocate(out, context->device, bytes, what);
}

void nin__context_release(const nin_context *context, void *memory)
{
    context->backend->release(context->device, memory);
}

nin_device nin_context_device(const nin_context *context)
{
    return context->backend->device;
}

int32_t nin_context_threads(const nin_context *context)
{
    return context->threads;
}

uint32_t nin_context_seed(const nin_context *context)
{
    return context->seed;
}
