/* SPDX-License-Identifier: MIT */
#ifndef NIN_CONTEXT_H
#define NIN_CONTEXT_H

/* The context in which all objects are made: a device, a number of threads, a seed.
 *
 * Several threads may use one context at once, and several contexts do not know each other, with
 * one exception that OpenBLAS forces on us: OpenBLAS keeps its number of threads for the whole
 * process. Plans with NIN_ALGORITHM_GEMM run it on their own workers, one thread each; so while any
 * of them runs, the setting of OpenBLAS's pthread build is 1, and it is put back when the last one
 * has finished. (Under the OpenMP build each thread has a setting, and the caller's is put back
 * after each run.) */

#include <nin/device.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nin_context nin_context;

/* Instruction sets of an x86-64 processor that the CPU backend has kernels for. The last two are
 * AVX512 but for plans in bf16 (nin_precision). The first such plan with AMX asks the operating
 * system for its tiles, once for the process; if that refuses, a context that was left to choose
 * does as with AVX512_BF16, and one that was told to use AMX makes no such plan. */
typedef enum {
    NIN_INSTRUCTIONS_AUTO = 0,        /* the best one that the processor has */
    NIN_INSTRUCTIONS_BASELINE = 1,    /* what every processor has */
    NIN_INSTRUCTIONS_AVX2 = 2,        /* with FMA */
    NIN_INSTRUCTIONS_AVX512 = 3,      /* F, BW, DQ and VL */
    NIN_INSTRUCTIONS_AVX512_BF16 = 4, /* with BF16 */
    NIN_INSTRUCTIONS_AMX = 5,         /* with BF16 and AMX's TILE and BF16 */
    NIN_INSTRUCTIONS_INT32 = 0x7fffffff
} nin_instruction_set;

typedef struct {
    size_t struct_size;
    nin_device device;    /* NIN_DEVICE_AUTO by default */
    int32_t device_index; /* among the devices of that kind; 0 is the first */
    /* Workers of a CPU plan, the calling thread among them, 1 to 128; 0: as many as the process may
     * use (affinity mask and cgroup quota). How many a training step can use: `lanes` of
     * nin_plan_desc. */
    int32_t threads;
    /* Of initial weights, shuffling, dropout; 0 is a seed like any other. The bits of a run follow
     * from it, not from the number of threads. */
    uint32_t seed;
    /* Of a CPU context. NIN_INSTRUCTIONS_AUTO: what the environment variable NIN_CPU_ISA names
     * (baseline, avx2, avx512, avx512_bf16, amx; auto or nothing leaves it open), else the best. All
     * but the baseline give the same bits in fp32. */
    nin_instruction_set instructions;
    int32_t reserved; /* 0 */
    /* Of a CUDA context: a cudaStream_t of the caller's, on which everything is then done; NULL: a
     * stream of our own. It is borrowed, belongs to the device, and outlives the context and all
     * objects made in it. Every call still waits for what it has started. It is none of the default
     * streams, and no call is made while the caller captures it. A CPU context refuses it; with
     * NIN_DEVICE_AUTO it asks for a CUDA device. */
    void *cuda_stream;
} nin_context_desc;

/* Makes a context.
 *   out   receives the context, owned by the caller
 *   desc  copied; NULL for all defaults
 * Fails with NIN_INVALID_ARGUMENT, NIN_NO_DEVICE (the sentence says why the device cannot be used,
 * or which instruction set the processor lacks), NIN_BACKEND_FAILED, NIN_OUT_OF_MEMORY; *out is
 * then untouched. Since 0.1. */
NIN_CHECKED nin_status nin_context_create(nin_context **out, const nin_context_desc *desc);

/* What the context ended up with. Since 0.1. */
NIN_API nin_device nin_context_device(const nin_context *context);
NIN_API int32_t nin_context_threads(const nin_context *context);
NIN_API uint32_t nin_context_seed(const nin_context *context);

/* Gives the context back. Objects made in it stay valid: they keep what they need of it. With the
 * last of them a CUDA context's cuBLAS goes, which waits for all that the device has to do, also for
 * others, and so spoils what the application captures from a stream there; nothing else here does.
 * NULL is fine. Since 0.1. */
NIN_API void nin_context_destroy(nin_context *context);

#ifdef __cplusplus
}
#endif
#endif
