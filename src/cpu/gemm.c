/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* RTLD_DEFAULT, MAP_ANONYMOUS */
#include "cpu/gemm.h"

#include "core/error.h"

#include <cblas.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* What openblas_get_parallel answers. */
enum {
    SERIAL = 0,
    PTHREADS = 1,
    OPENMP = 2
};

/* Of all plans together: half of the 256 buffers that distributions build OpenBLAS with, so that
 * the program and other libraries can call it too. */
enum {
    MAX_WORKERS = 128
};

void nin__cpu_gemm_nt(int64_t m, int64_t n, int64_t k, const float *a, const float *b, float *c)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)m, (blasint)n, (blasint)k, 1.0f,
                a, (blasint)k, b, (blasint)k, 0.0f, c, (blasint)n);
}

void nin__cpu_gemm_nn(int64_t m, int64_t n, int64_t k, const float *a, const float *b, float *c)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, 1.0f,
                a, (blasint)k, b, (blasint)n, 0.0f, c, (blasint)n);
}

void nin__cpu_gemm_tn_add(int64_t m, int64_t n, int64_t k, const float *a, const float *b, float *c)
{
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, 1.0f,
                a, (blasint)m, b, (blasint)n, 1.0f, c, (blasint)n);
}

/* ---- threads of OpenBLAS ------------------------------------------------------------------ */

static struct {
    pthread_mutex_t lock;
    int64_t runs;    /* that are between begin and end */
    int threads;     /* the setting that the first of them found */
    int32_t workers; /* that are counted */
} setting = {PTHREAD_MUTEX_INITIALIZER, 0, 0, 0};

static void begin_for_all(void)
{
    pthread_mutex_lock(&setting.lock);
    if (setting.runs++ == 0) {
        setting.threads = openblas_get_num_threads();
        if (setting.threads != 1)
            openblas_set_num_threads(1);
    }
    pthread_mutex_unlock(&setting.lock);
}

static void end_for_all(void)
{
    pthread_mutex_lock(&setting.lock);
    if (--setting.runs == 0 && setting.threads != 1)
        openblas_set_num_threads(setting.threads);
    pthread_mutex_unlock(&setting.lock);
}

/* The OpenMP runtime is OpenBLAS's own affair: we do not link it. */
static void *openmp(const char *name)
{
    return openblas_get_parallel() == OPENMP ? dlsym(RTLD_DEFAULT, name) : NULL;
}

/* Both cast by copying: C has no cast from object to function. */
static int get_of_thread(void)
{
    void *symbol = openmp("omp_get_max_threads");
    int (*get)(void);

    memcpy(&get, &symbol, sizeof get);
    return get == NULL ? 1 : get();
}

static void set_of_thread(int threads)
{
    void *symbol = openmp("omp_set_num_threads");
    void (*set)(int);

    memcpy(&set, &symbol, sizeof set);
    if (set != NULL)
        set(threads);
}

int nin__cpu_gemm_begin(void)
{
    int threads = get_of_thread();

    if (openblas_get_parallel() == PTHREADS)
        begin_for_all();
    set_of_thread(1);
    return threads;
}

void nin__cpu_gemm_end(int threads)
{
    if (openblas_get_parallel() == PTHREADS)
        end_for_all();
    set_of_thread(threads);
}

void nin__cpu_gemm_enter_thread(void)
{
    set_of_thread(1);
}

/* ---- memory of OpenBLAS ------------------------------------------------------------------ */

/* What OpenBLAS maps for one of its buffers, in the builds that map most. It keeps a table of them,
 * one for each product at work, and never gives one back to the system. */
static const size_t BUFFER_BYTES = (size_t)128 << 20;

/* A product (SIDE x DEPTH) * (SIDE x DEPTH)': so deep that it needs a buffer (the smallest ones go
 * without) and lasts longer than it takes to wake a worker, but writes little. */
enum {
    SIDE = 64,
    DEPTH = 2048
};

struct reserve {
    pthread_barrier_t together;
    float *a; /* SIDE x DEPTH */
    float *c; /* SIDE x SIDE of each worker */
};

/* Workers that multiply at the same time have a buffer each, and these stay. */
static void multiply_together(void *argument, int32_t worker)
{
    struct reserve *reserve = argument;

    pthread_barrier_wait(&reserve->together);
    nin__cpu_gemm_nt(SIDE, SIDE, DEPTH, reserve->a, reserve->a,
                     reserve->c + (size_t)worker * SIDE * SIDE);
}

static void *map_buffer(void)
{
    void *map =
        mmap(NULL, BUFFER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return map == MAP_FAILED ? NULL : map;
}

/* Maps as many buffers as OpenBLAS will, one by one as it does, and unmaps them: it would not
 * return from an allocation that fails. */
static nin_status probe_space(int32_t buffers)
{
    void **maps = calloc((size_t)buffers, sizeof *maps);
    int32_t mapped = 0;

    if (maps == NULL)
        return nin__no_memory("a probe");
    while (mapped < buffers && (maps[mapped] = map_buffer()) != NULL)
        mapped++;
    for (int32_t i = 0; i < mapped; i++)
        munmap(maps[i], BUFFER_BYTES);
    free(maps);
    if (mapped < buffers)
        return nin__fail(NIN_OUT_OF_MEMORY, "no address space for OpenBLAS's buffers of %d workers",
                         buffers);
    return NIN_OK;
}

static nin_status use_buffers(struct cpu_workers *workers, struct reserve *reserve)
{
    unsigned count = (unsigned)nin__cpu_workers_count(workers);
    int threads;

    if (reserve->a == NULL || reserve->c == NULL ||
        pthread_barrier_init(&reserve->together, NULL, count) != 0)
        return nin__no_memory("a first product of OpenBLAS");
    threads = nin__cpu_gemm_begin();
    nin__cpu_workers_run(workers, multiply_together, reserve);
    nin__cpu_gemm_end(threads);
    pthread_barrier_destroy(&reserve->together);
    return NIN_OK;
}

static nin_status make_buffers(struct cpu_workers *workers)
{
    int32_t count = nin__cpu_workers_count(workers);
    struct reserve reserve;
    nin_status status;

    NIN__TRY(probe_space(count));
    reserve.a = calloc((size_t)SIDE * DEPTH, sizeof *reserve.a);
    reserve.c = calloc((size_t)count * SIDE * SIDE, sizeof *reserve.c);
    status = use_buffers(workers, &reserve);
    free(reserve.a);
    free(reserve.c);
    return status;
}

static nin_status count_workers(int32_t count)
{
    int32_t others;

    pthread_mutex_lock(&setting.lock);
    others = setting.workers;
    if (count <= MAX_WORKERS - others)
        setting.workers += count;
    pthread_mutex_unlock(&setting.lock);
    if (count > MAX_WORKERS - others)
        return nin__fail(
            NIN_OUT_OF_MEMORY,
            "%d workers beside the %d of other plans that use OpenBLAS; all such plans of "
            "a process have at most %d",
            count, others, MAX_WORKERS);
    return NIN_OK;
}

nin_status nin__cpu_gemm_reserve(struct cpu_workers *workers)
{
    nin_status status;

    NIN__TRY(count_workers(nin__cpu_workers_count(workers)));
    status = make_buffers(workers);
    if (status != NIN_OK)
        nin__cpu_gemm_release(workers);
    return status;
}

void nin__cpu_gemm_release(const struct cpu_workers *workers)
{
    pthread_mutex_lock(&setting.lock);
    setting.workers -= nin__cpu_workers_count(workers);
    pthread_mutex_unlock(&setting.lock);
}
