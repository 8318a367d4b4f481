/* SPDX-License-Identifier: MIT */
#ifndef NIN__CONTEXT_H
#define NIN__CONTEXT_H

#include "core/backend.h"

#include <nin/context.h>

#include <stdatomic.h>

struct nin_context {
    atomic_int references;
    const struct nin__backend *backend;
    struct nin__device *device;
    int32_t device_index; /* among those of its kind */
    int32_t threads;
    uint32_t seed;
};

nin_context *nin__context_retain(nin_context *context);

/* Zeroed memory of the context's device. The sentence of a failure says for what it was. */
nin_status nin__context_allocate(void **out, nin_context *context, size_t bytes, const char *what);
void nin__context_release(const nin_context *context, void *memory);

/* How many threads this process may run at once: affinity mask and cgroup quota. At least 1. */
int32_t nin__usable_threads(void);

/* The backend of a device, or a failure that says why it cannot be used. */
nin_status nin__device_backend(const struct nin__backend **out, nin_device device, int32_t index);

#endif
