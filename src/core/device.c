/* SPDX-License-Identifier: MIT */
#include "core/context.h"

#include "core/descriptor.h"
#include "core/error.h"
#include "core/module.h"

#include <stdio.h>
#include <unistd.h>

static int32_t cuda_entries(void)
{
    const char *why;
    const struct nin__module *cuda = nin__module_cuda(&why);

    return cuda == NULL ? 1 : cuda->count();
}

static void describe_cpu(nin_device_info *info)
{
    int32_t threads = nin__usable_threads();

    info->device = NIN_DEVICE_CPU;
    info->memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    snprintf(info->name, sizeof info->name, "CPU, %d thread%s", threads, threads == 1 ? "" : "s");
}

static void describe_cuda(nin_device_info *info, int32_t index)
{
    const char *why;
    const struct nin__module *cuda = nin__module_cuda(&why);

    info->device = NIN_DEVICE_CUDA;
    info->index = index;
    snprintf(info->name, sizeof info->name, "CUDA");
    if (cuda != NULL)
        cuda->describe(info, index);
    else
        snprintf(info->unusable_because, sizeof info->unusable_because, "%s", why);
}

size_t nin_device_count(void)
{
    return 1 + (size_t)cuda_entries();
}

nin_status nin_device_describe(nin_device_info *out, size_t i)
{
    nin_device_info info = {.struct_size = sizeof info};

    if (i >= nin_device_count())
        return nin__fail(NIN_INVALID_ARGUMENT, "there is no device %zu, only %zu", i,
                         nin_device_count());
    if (i == 0)
        describe_cpu(&info);
    else
        describe_cuda(&info, (int32_t)i - 1);
    return NIN__INFO_WRITE(out, &info, nin_device_info);
}

static nin_status cpu_backend(const struct nin__backend **out, int32_t index)
{
    if (index != 0)
        return nin__fail(NIN_NO_DEVICE, "there is one CPU device, 0, not %d", index);
    *out = &nin__cpu_backend;
    return NIN_OK;
}

/* The module's backend, or NULL and why not in info. */
static const struct nin__backend *find_cuda(nin_device_info *info, int32_t index)
{
    const char *why;

    if (index < 0 || index >= cuda_entries())
        snprintf(info->unusable_because, sizeof info->unusable_because, "there is no device %d",
                 index);
    else
        describe_cuda(info, index);
    return info->unusable_because[0] == '\0' ? nin__module_cuda(&why)->backend : NULL;
}

static nin_status cuda_backend(const struct nin__backend **out, int32_t index)
{
    nin_device_info info = {.struct_size = sizeof info};

    *out = find_cuda(&info, index);
    return *out != NULL ? NIN_OK : nin__fail(NIN_NO_DEVICE, "cuda: %s", info.unusable_because);
}

/* A GPU that can be used, or the CPU. */
static nin_status any_backend(const struct nin__backend **out, int32_t index)
{
    nin_device_info info = {.struct_size = sizeof info};

    *out = find_cuda(&info, index);
    return *out != NULL ? NIN_OK : cpu_backend(out, index);
}

nin_status nin__device_backend(const struct nin__backend **out, nin_device device, int32_t index)
{
    switch (device) {
    case NIN_DEVICE_AUTO:
        return any_backend(out, index);
    case NIN_DEVICE_CPU:
        return cpu_backend(out, index);
    case NIN_DEVICE_CUDA:
        return cuda_backend(out, index);
    default:
        return nin__fail(NIN_INVALID_ARGUMENT, "context: %d is no nin_device", (int)device);
    }
}
