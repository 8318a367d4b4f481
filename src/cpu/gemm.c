/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* RTLD_DEFAULT, MAP_ANONYMOUS */
#include "cpu/gemm.h"

#include "core/error.h"

#include <cblas.h>
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

/* What openblas_get_parallel answers. */
enum {
    SERIAL = 0,
    PTHREADS = 1,
    OPENMP = 2
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
    int64_t runs; /* that are between begin and end */
    int threads;  /* the setting that the first of them found */
} setting = {PTHREAD_MUTEX_INITIALIZER, 0, 0};

void nin__cpu_gemm_begin(void)
{
    if (openblas_get_parallel() != PTHREADS)
        return;
    pthread_mutex_lock(&setting.lock);
    if (setting.runs++ == 0) {
        setting.threads = openblas_get_num_threads();
        if (setting.threads != 1)
            openblas_set_num_threads(1);
    }
    pthread_mutex_unlock(&setting.lock);
}

void nin__cpu_gemm_end(void)
{
    if (openblas_get_parallel() != PTHREADS)
        return;
    pthread_mutex_lock(&setting.lock);
    if (--setting.runs == 0 && setting.threads != 1)
        openblas_set_num_threads(setting.threads);
    pthread_mutex_unlock(&setting.lock);
}

void nin__cpu_gemm_enter_thread(void)
{
    void (*set_threads)(int);
    void *symbol;

    if (openblas_get_parallel() != OPENMP)
        return;
    symbol = dlsym(RTLD_DEFAULT, "omp_set_num_threads");
    memcpy(&set_threads, &symbol, sizeof set_threads); /* C has no cast from object to function */
    if (set_threads != NULL)
        set_threads(1);
}

/* ---- memory of OpenBLAS ------------------------------------------------------------------- */

/* OpenBLAS 0.3 maps a buffer of at most this size per thread that runs a product. */
static const size_t BUFFER_BYTES = (size_t)128 << 20;

enum {
    PROBE_SIZE = 64
};

struct probe {
    pthread_barrier_t together;
};

static void run_product(void *argument, int32_t worker)
{
    struct probe *probe = argument;
    float a[PROBE_SIZE * PROBE_SIZE] = {0}, c[PROBE_SIZE * PROBE_SIZE];

    (void)worker;
    pthread_barrier_wait(&probe->together);
    nin__cpu_gemm_nn(PROBE_SIZE, PROBE_SIZE, PROBE_SIZE, a, a, c);
    pthread_barrier_wait(&probe->together);
}

nin_status nin__cpu_gemm_reserve(struct cpu_workers *workers)
{
    size_t bytes = BUFFER_BYTES * (size_t)nin__cpu_workers_count(workers);
    void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct probe probe;

    if (map == MAP_FAILED)
        return nin__fail(NIN_OUT_OF_MEMORY, "no %zu bytes of address space for OpenBLAS", bytes);
    munmap(map, bytes);
    if (pthread_barrier_init(&probe.together, NULL, (unsigned)nin__cpu_workers_count(workers)) != 0)
        return nin__no_memory("a barrier");
    nin__cpu_gemm_begin();
    nin__cpu_workers_run(workers, run_product, &probe);
    nin__cpu_gemm_end();
    pthread_barrier_destroy(&probe.together);
    return NIN_OK;
}
