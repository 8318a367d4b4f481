/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* sched_getaffinity */
#include "core/context.h"

#include "core/descriptor.h"
#include "core/error.h"

#include <sched.h>
#include <stdio.h>
#include <unistd.h>

static const char no_cuda[] = "this version of libnin has no CUDA backend";

/* ---- threads ------------------------------------------------------------------------------ */

static int32_t affinity_threads(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    return CPU_COUNT(&set);
}

/* The first two numbers of a file; a word such as "max" ends it. Gives how many were read. */
static int read_numbers(const char *path, double numbers[2])
{
    FILE *file = fopen(path, "re");
    int count;

    if (file == NULL)
        return 0;
    count = fscanf(file, "%lf %lf", &numbers[0], &numbers[1]);
    fclose(file);
    return count;
}

/* The quota of the cgroup, in processors; 0 if there is none. A container sees its own group as the
 * root, of version 2 or 1. */
static double cgroup_quota(void)
{
    double v2[2], quota[2], period[2];

    if (read_numbers("/sys/fs/cgroup/cpu.max", v2) == 2)
        return v2[1] > 0.0 ? v2[0] / v2[1] : 0.0;
    if (read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota) >= 1 &&
        read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_period_us", period) >= 1 && quota[0] > 0.0 &&
        period[0] > 0.0)
        return quota[0] / period[0];
    return 0.0;
}

int32_t nin__usable_threads(void)
{
    int32_t threads = affinity_threads();
    double quota = cgroup_quota();

    if (quota > 0.0 && quota < threads)
        threads = (int32_t)(quota + 0.5);
    return threads < 1 ? 1 : threads > 1024 ? 1024 : threads;
}

/* ---- devices ------------------------------------------------------------------------------ */

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
        snprintf(info.name, sizeof info.name, "CPU, %d threads", nin__usable_threads());
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
