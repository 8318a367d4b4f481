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
#include <time.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

/* Pauses, of ten to seventy nanoseconds each. */
enum {
    MEETING_SPINS = 4000, /* about as long as the shares of one op differ */
    IDLE_SPINS = 2000     /* it takes as long to wake a thread that sleeps */
};

#if defined(__SSE__)
enum {
    FLUSH_SUBNORMALS = 0x8040 /* of MXCSR: results (bit 15) and operands (bit 6) */
};
#endif

static const size_t LEAST_STACK = (size_t)256 << 10;

struct member {
    struct cpu_workers *pool;
    pthread_t thread;
    int32_t number; /* of the worker: 1 or more, for the caller is 0 */
};

struct cpu_workers {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    cpu_job job;
    void *argument;
    atomic_uint round;  /* of work: a thread runs each round once; it may wrap */
    atomic_int running; /* threads that have not finished the round */
    bool quit;
    int32_t count;        /* workers: the caller and the threads */
    int32_t threads;      /* that exist */
    atomic_int arrived;   /* workers at the present meeting */
    atomic_uint meetings; /* that are over; it may wrap */
    struct member members[];
};

/* Rounding to nearest, whatever the program has set; and numbers below the normal ones are 0, for a
 * processor may take a hundred times as long over each, and a network that fades away is full of
 * them. */
static void set_arithmetic(void)
{
    fesetenv(FE_DFL_ENV);
#if defined(__SSE__)
    _mm_setcsr(_mm_getcsr() | FLUSH_SUBNORMALS);
#endif
}

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Waits for a round after `seen`; false when there will be none. */
static bool wait_for_work(struct cpu_workers *pool, unsigned seen)
{
    bool quit;

    for (int32_t spins = 0; spins < IDLE_SPINS; spins++) {
        if (atomic_load(&pool->round) != seen)
            return true;
        pause_briefly();
    }
    pthread_mutex_lock(&pool->lock);
    while (atomic_load(&pool->round) == seen && !pool->quit)
        pthread_cond_wait(&pool->work, &pool->lock);
    quit = pool->quit;
    pthread_mutex_unlock(&pool->lock);
    return !quit;
}

static void wait_for_threads(struct cpu_workers *pool)
{
    for (int32_t spins = 0; spins < IDLE_SPINS && atomic_load(&pool->running) > 0; spins++)
        pause_briefly();
    pthread_mutex_lock(&pool->lock);
    while (atomic_load(&pool->running) > 0)
        pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

static void *serve(void *argument)
{
    struct member *self = argument;
    struct cpu_workers *pool = self->pool;

    set_arithmetic();
    nin__cpu_gemm_enter_thread();
    for (unsigned seen = 0; wait_for_work(pool, seen); seen++) {
        pool->job(pool->argument, self->number);
        pthread_mutex_lock(&pool->lock);
        if (atomic_fetch_sub(&pool->running, 1) == 1)
            pthread_cond_signal(&pool->done);
        pthread_mutex_unlock(&pool->lock);
    }
    return NULL;
}

/* Signals that a thread brings on itself, and a profiler's: a fault with its signal blocked kills
 * the process without the program's handler, and a profiler would not see the workers. */
static const int own_signals[] = {SIGSEGV, SIGBUS,  SIGFPE, SIGILL,
                                  SIGTRAP, SIGABRT, SIGSYS, SIGPROF};

/* The default, which a program or its limits may have made small, or twice what nin.h wants of
 * callers. */
static int set_stack(pthread_attr_t *attributes)
{
    size_t bytes = 0;
    int error = pthread_attr_init(attributes);

    if (error != 0)
        return error;
    pthread_attr_getstacksize(attributes, &bytes);
    return bytes >= LEAST_STACK ? 0 : pthread_attr_setstacksize(attributes, LEAST_STACK);
}

/* A new thread inherits the mask: with all other signals blocked, the program's handlers run on the
 * program's own threads. Those above are as whoever makes the plan has them, which is open as a
 * rule. */
static int start(struct member *member)
{
    pthread_attr_t attributes;
    sigset_t mask, before;
    int error = set_stack(&attributes);

    if (error != 0)
        return error;
    sigfillset(&mask);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    for (size_t i = 0; i < sizeof own_signals / sizeof own_signals[0]; i++)
        if (!sigismember(&before, own_signals[i]))
            sigdelset(&mask, own_signals[i]);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    error = pthread_create(&member->thread, &attributes, serve, member);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

nin_status nin__cpu_workers_create(struct cpu_workers **out, int32_t count)
{
    size_t threads = (size_t)count - 1;
    struct cpu_workers *pool = calloc(1, sizeof *pool + threads * sizeof pool->members[0]);

    if (pool == NULL)
        return nin__no_memory("workers");
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->count = count;
    while (pool->threads < count - 1) {
        struct member *member = &pool->members[pool->threads];
        int32_t number = pool->threads + 1;
        int error;

        member->pool = pool;
        member->number = number;
        error = start(member);
        if (error != 0) {
            nin__cpu_workers_destroy(pool);
            return nin__fail(NIN_OUT_OF_MEMORY, "no thread for worker %d of %d: %s", number, count,
                             strerror(error));
        }
        pool->threads++;
    }
    *out = pool;
    return NIN_OK;
}

/* At first awake; then others may have the processor; in the end all others, for a thread of a
 * real-time priority gives way to its like only. */
static void wait_a_little(int32_t *spins)
{
    const struct timespec nap = {.tv_nsec = 50000};

    if (*spins < MEETING_SPINS) {
        pause_briefly();
    } else if (*spins < 2 * MEETING_SPINS) {
        sched_yield();
    } else {
        nanosleep(&nap, NULL);
        *spins = 2 * MEETING_SPINS;
    }
}

void nin__cpu_workers_meet(struct cpu_workers *pool)
{
    unsigned meeting = atomic_load_explicit(&pool->meetings, memory_order_relaxed);

    if (atomic_fetch_add(&pool->arrived, 1) == pool->count - 1) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        atomic_store(&pool->meetings, meeting + 1);
        return;
    }
    for (int32_t spins = 0; atomic_load(&pool->meetings) == meeting; spins++)
        wait_a_little(&spins);
}

int32_t nin__cpu_workers_count(const struct cpu_workers *workers)
{
    return workers->count;
}

/* The caller's own share, under our arithmetic. */
static void work_here(struct cpu_workers *pool)
{
    fenv_t callers;

    fegetenv(&callers);
    set_arithmetic();
    pool->job(pool->argument, 0);
    fesetenv(&callers);
}

/* A thread that is cancelled in the middle would leave the others with its stack, and locks with
 * nobody. */
static int put_off_cancelling(void)
{
    int before;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    return before;
}

void nin__cpu_workers_run(struct cpu_workers *pool, cpu_job job, void *argument)
{
    int cancelling = put_off_cancelling();

    pthread_mutex_lock(&pool->lock);
    pool->job = job;
    pool->argument = argument;
    atomic_store(&pool->running, pool->threads);
    atomic_fetch_add(&pool->round, 1);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    work_here(pool);
    wait_for_threads(pool);
    pthread_setcancelstate(cancelling, NULL);
}

void nin__cpu_workers_destroy(struct cpu_workers *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->quit = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (int32_t i = 0; i < pool->threads; i++)
        pthread_join(pool->members[i].thread, NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}
