/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_WORKERS_H
#define NIN__CPU_WORKERS_H

#include <nin/status.h>

#include <stdint.h>

/* Whoever calls `run` and a persistent pool of threads, which are one fewer than the workers: so a
 * single worker is no thread at all. Signals of the process go to other threads. */
struct cpu_workers;

/* What each worker runs, with its number from 0. */
typedef void (*cpu_job)(void *argument, int32_t worker);

nin_status nin__cpu_workers_create(struct cpu_workers **out, int32_t count);
int32_t nin__cpu_workers_count(const struct cpu_workers *workers);

/* Runs the job once on every worker, the calling thread being worker 0, and returns when all have
 * finished. The thread's floating-point environment is the workers' meanwhile, and its own again
 * afterwards. Threads stay awake for a while, for one job is often followed by the next. Allocates
 * nothing. */
void nin__cpu_workers_run(struct cpu_workers *workers, cpu_job job, void *argument);

/* Inside a job: returns when all workers of the pool have called it. They spin for a while, for
 * what is between two meetings is short, and then give way to other threads. */
void nin__cpu_workers_meet(struct cpu_workers *workers);
void nin__cpu_workers_destroy(struct cpu_workers *workers);

#endif
