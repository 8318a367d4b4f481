/* SPDX-License-Identifier: MIT */
#include "core/context.h"

#include "core/descriptor.h"
#include "core/error.h"

#include <stdio.h>
#include <unistd.h>

static const char no_cuda[] = "this version of libnin has no CUDA backend";

size_t nin_device_count(void)
{
    return 2;
}

nin_status nin_device_describe(nin_device_info *out, size_t i)
{
    nin_device_info info = {.struct_size = sizeof info};

    if (i >= nin_device_count())
        return nin__fail(NIN_INVALID_ARGUMENT, "there is no device %zu, only %zu", i,
                         nin_device_count());
    if (i == 0) {
        info.device = NIN_DEVICE_CPU;
        info.memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
        snprintf(info.name, sizeof info.name, "CPU, %d thread%s", nin__usable_threads(),
                 nin__usable_threads() == 1 ? "" : "s");
    } else {
        info.device = NIN_DEVICE_CUDA;
        snprintf(info.name, sizeof info.name, "CUDA");
        snprintf(info.unusable_because, sizeof info.unusable_because, "%s", no_cuda);
    }
    return NIN__INFO_WRITE(out, &info, nin_device_info);
}

nin_status nin__device_backend(const struct nin__backend **out, nin_device device, int32_t index)
{
    switch (device) {
    case NIN_DEVICE_AUTO:
    case NIN_DEVICE_CPU:
        if (index != 0)
            return nin__fail(NIN_NO_DEVICE, "there is one CPU device, 0, not %d", index);
        *out = &nin__cpu_backend;
        return NIN_OK;
    case NIN_DEVICE_CUDA:
        return nin__fail(NIN_NO_DEVICE, "cuda: %s", no_cuda);
    default:
        return nin__fail(NIN_INVALID_ARGUMENT, "context: %d is no nin_device", (int)device);
    }
}
