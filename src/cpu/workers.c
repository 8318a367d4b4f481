/* SPDX-License-Identifier: MIT */
#include "cpu/workers.h"

#include "core/error.h"
#include "cpu/gemm.h"

#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

/* About as long as the shares of one op differ. */
enum {
    MEETING_SPINS = 4000
};

#if defined(__SSE__)
enum {
    FLUSH_SUBNORMALS = 0x8040 /* of MXCSR: results (bit 15) and operands (bit 6) */
};
#endif

struct worker {
    struct cpu_workers *pool;
    pthread_t thread;
    int32_t number;
};

struct cpu_workers {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    cpu_job job;
    void *argument;
    uint64_t round;  /* of work: a worker runs each round once */
    int32_t running; /* workers that have not finished the round */
    bool quit;
    int32_t count;        /* threads that exist */
    atomic_int arrived;   /* workers at the present meeting */
    atomic_uint meetings; /* that are over; it may wrap */
    struct worker members[];
};

/* Rounding to nearest, whatever the thread that makes the plan has set; and numbers below the normal ones
 * are 0, for a processor may take a hundred times as long over each, and a network that fades away is full
 * of them. */
static void set_arithmetic(void)
{
    fesetenv(FE_DFL_ENV);
#if defined(__SSE__)
    _mm_setcsr(_mm_getcsr() | FLUSH_SUBNORMALS);
#endif
}

static void *serve(void *argument)
{
    struct worker *self = argument;
    struct cpu_workers *pool = self->pool;
    uint64_t seen = 0;

    set_arithmetic();
    nin__cpu_gemm_enter_thread();
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->round == seen && !pool->quit)
            pthread_cond_wait(&pool->work, &pool->lock);
        if (pool->quit)
            break;
        seen = pool->round;
        pthread_mutex_unlock(&pool->lock);
        pool->job(pool->argument, self->number);
        pthread_mutex_lock(&pool->lock);
        if (--pool->running == 0)
            pthread_cond_signal(&pool->done);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* Signals that a thread brings on itself, and a profiler's: a fault with its signal blocked kills the
 * process without the program's handler, and a profiler would not see the workers. */
static const int own_signals[] = {SIGSEGV, SIGBUS,  SIGFPE, SIGILL,
                                  SIGTRAP, SIGABRT, SIGSYS, SIGPROF};

/* A new thread inherits the mask: with all other signals blocked, the program's handlers run on the
 * program's own threads. Those above are as whoever makes the plan has them, which is open as a rule. */
static int start(struct worker *worker)
{
    sigset_t mask, before;
    int error;

    sigfillset(&mask);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    for (size_t i = 0; i < sizeof own_signals / sizeof own_signals[0]; i++)
        if (!sigismember(&before, own_signals[i]))
            sigdelset(&mask, own_signals[i]);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    error = pthread_create(&worker->thread, NULL, serve, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

nin_status nin__cpu_workers_create(struct cpu_workers **out, int32_t count)
{
    struct cpu_workers *pool = calloc(1, sizeof *pool + (size_t)count * sizeof pool->members[0]);

    if (pool == NULL)
        return nin__no_memory("workers");
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    for (int32_t i = 0; i < count; i++) {
        struct worker *worker = &pool->members[i];
        int error;

        worker->pool = pool;
        worker->number = i;
        error = start(worker);
        if (error != 0) {
            nin__cpu_workers_destroy(pool);
            return nin__fail(NIN_OUT_OF_MEMORY, "no thread for worker %d of %d: %s", i, count,
                             strerror(error));
        }
        pool->count++;
    }
    *out = pool;
    return NIN_OK;
}

static void pause_briefly(int32_t spins)
{
    if (spins == MEETING_SPINS)
        sched_yield();
#if defined(__x86_64__)
    else
        __builtin_ia32_pause();
#endif
}

void nin__cpu_workers_meet(struct cpu_workers *pool)
{
    unsigned meeting = atomic_load_explicit(&pool->meetings, memory_order_relaxed);

    if (atomic_fetch_add(&pool->arrived, 1) == pool->count - 1) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        atomic_store(&pool->meetings, meeting + 1);
        return;
    }
    for (int32_t spins = 0; atomic_load(&pool->meetings) == meeting; spins += spins < MEETING_SPINS)
        pause_briefly(spins);
}

int32_t nin__cpu_workers_count(const struct cpu_workers *workers)
{
    return workers->count;
}

void nin__cpu_workers_run(struct cpu_workers *pool, cpu_job job, void *argument)
{
    pthread_mutex_lock(&pool->lock);
    pool->job = job;
    pool->argument = argument;
    pool->running = pool->count;
    pool->round++;
    pthread_cond_broadcast(&pool->work);
    while (pool->running > 0)
        pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

void nin__cpu_workers_destroy(struct cpu_workers *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->quit = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (int32_t i = 0; i < pool->count; i++)
        pthread_join(pool->members[i].thread, NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}
