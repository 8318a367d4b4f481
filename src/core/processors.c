/* SPDX-License-Identifier: MIT */
/* How many threads this process may run at once: its affinity mask, cut by the quotas of its
 * control groups. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "core/context.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    MAX_THREADS = 128,
    MAX_PATH = 1024
};

static int32_t affinity_threads(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    return CPU_COUNT(&set);
}

/* The first two numbers of a file; a word such as "max" ends it. Gives how many were read. */
static int read_numbers(const char *folder, const char *name, double numbers[2])
{
    char path[2 * MAX_PATH + 32];
    FILE *file;
    int count;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "re");
    if (file == NULL)
        return 0;
    count = fscanf(file, "%lf %lf", &numbers[0], &numbers[1]);
    fclose(file);
    return count;
}

/* A group's own quota in processors, 0 if it has none: cpu.max in version 2, two files in version
 * 1. */
static double group_quota(const char *folder)
{
    double both[2], quota[2], period[2];

    if (read_numbers(folder, "cpu.max", both) == 2 && both[1] > 0.0)
        return both[0] / both[1];
    if (read_numbers(folder, "cpu.cfs_quota_us", quota) >= 1 && quota[0] > 0.0 &&
        read_numbers(folder, "cpu.cfs_period_us", period) >= 1 && period[0] > 0.0)
        return quota[0] / period[0];
    return 0.0;
}

/* The smallest quota of a group and those above it, in which it lies; 0 if none has one. `path` is
 * below the mount, and is shortened on the way up. */
static double smallest_quota(const char *mount, char *path)
{
    double smallest = 0.0;

    for (;;) {
        char folder[2 * MAX_PATH];
        double quota;
        char *slash;

        snprintf(folder, sizeof folder, "%s%s", mount, path);
        quota = group_quota(folder);
        if (quota > 0.0 && (smallest == 0.0 || quota < smallest))
            smallest = quota;
        slash = strrchr(path, '/');
        if (slash == NULL)
            return smallest;
        *slash = '\0';
    }
}

/* A line of /proc/self/cgroup is ID:CONTROLLERS:PATH; version 2 names no controllers. A path that
 * is not there, as in a container that sees its own group as the root, leaves the root. */
static double line_quota(char *line)
{
    char *controllers = strchr(line, ':'), *path;

    line[strcspn(line, "\n")] = '\0';
    if (controllers == NULL || (path = strchr(++controllers, ':')) == NULL)
        return 0.0;
    *path++ = '\0';
    if (*controllers == '\0')
        return smallest_quota("/sys/fs/cgroup", path);
    if (strcmp(controllers, "cpu") == 0 || strncmp(controllers, "cpu,", 4) == 0)
        return smallest_quota("/sys/fs/cgroup/cpu", path);
    return 0.0;
}

static double cgroup_quota(void)
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    double smallest = 0.0;
    char line[MAX_PATH];

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        double quota = line_quota(line);

        if (quota > 0.0 && (smallest == 0.0 || quota < smallest))
            smallest = quota;
    }
    if (file != NULL)
        fclose(file);
    return smallest;
}

int32_t nin__usable_threads(void)
{
    int32_t threads = affinity_threads();
    double quota = cgroup_quota();

    if (quota > 0.0 && quota < threads)
        threads = (int32_t)(quota + 0.5);
    return threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads;
}
