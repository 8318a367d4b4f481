/* SPDX-License-Identifier: MIT */
#ifndef NIN_DEVICE_H
#define NIN_DEVICE_H

/* Which devices there are, and why one of them cannot be used.
 *
 * CUDA devices are reached through a module, libnin_cuda.so of the same version, which is opened by
 * the first call that asks for devices and stays open. It is looked for in the folder that the
 * environment variable NIN_MODULE_DIR names, which must begin with '/', else beside libnin.so (for
 * a program that is linked with libnin.a, beside the program), and nowhere else. The thread's
 * current CUDA device and context are left as they are. A training step becomes one CUDA graph;
 * NIN_CUDA_GRAPH=0 in the environment leaves it at single calls. cublasLt adds biases to products
 * where it can; contexts that are made while NIN_CUDA_EPILOGUE=0 is in the environment add them
 * apart, which may give sums other bits: a checkpoint says which it was. A process that forks must
 * not use its CUDA contexts in the child, which cannot make one of its own either once its parent
 * has: CUDA does not start again after a fork. */

#include <nin/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    NIN_DEVICE_AUTO = 0, /* a usable GPU if there is one, else the CPU */
    NIN_DEVICE_CPU = 1,
    NIN_DEVICE_CUDA = 2,
    NIN_DEVICE_INT32 = 0x7fffffff
} nin_device;

typedef struct {
    size_t struct_size;
    nin_device device;
    int32_t index;              /* among the devices of its kind, from 0 */
    uint64_t memory;            /* bytes; for the CPU what this machine has */
    char name[64];              /* for people: "CPU, 2 threads" */
    char unusable_because[192]; /* "" if the device can be used, else one sentence */
} nin_device_info;

/* How many entries nin_device_describe has: at least 1, the CPU is always there. Since 0.1. */
NIN_API size_t nin_device_count(void);

/* Describes entry i.
 *   out  filled up to its struct_size, which the caller sets
 *   i    0 to nin_device_count() - 1; 0 is the CPU
 * Fails with NIN_INVALID_ARGUMENT. Since 0.1. */
NIN_CHECKED nin_status nin_device_describe(nin_device_info *out, size_t i);

#ifdef __cplusplus
}
#endif
#endif
