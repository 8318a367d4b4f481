/* SPDX-License-Identifier: MIT */
/* What the multiply-add units of this machine do at most. Nothing that is computed follows from
 * it. */
#include "cpu/peak.h"

#include <stdatomic.h>
#include <time.h>

enum {
    ROUNDS = 200000, /* about half a millisecond */
    TRIES = 16,
    MAX_WIDTH = 16
};

struct peak {
    const struct cpu_kernels *kernels;
    atomic_llong per_second; /* of all workers */
};

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The best of several tries: others may have the processor for a while. */
static void try_worker(void *argument, int32_t worker)
{
    struct peak *peak = argument;
    float sums[MAX_WIDTH];
    double best = 0.0;

    (void)worker;
    for (int32_t i = 0; i < TRIES; i++) {
        double start = seconds();
        double count = (double)peak->kernels->saturate(sums, ROUNDS), took = seconds() - start;

        if (took > 0.0 && count / took > best)
            best = count / took;
    }
    atomic_fetch_add(&peak->per_second, (long long)best);
}

double nin__cpu_measure_peak(struct cpu_workers *workers, const struct cpu_kernels *kernels)
{
    struct peak peak = {.kernels = kernels};

    atomic_init(&peak.per_second, 0);
    nin__cpu_workers_run(workers, try_worker, &peak);
    return (double)atomic_load(&peak.per_second);
}
