/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_GEMM_H
#define NIN__CPU_GEMM_H

/* Matrix products by OpenBLAS, the only file that knows it. All matrices are row-major and
 * dense. */

#include "cpu/workers.h"

#include <nin/status.h>

#include <stdint.h>

/* c (m x n) = a (m x k) * b (n x k)' */
void nin__cpu_gemm_nt(int64_t m, int64_t n, int64_t k, const float *a, const float *b, float *c);

/* c (m x n) = a (m x k) * b (k x n) */
void nin__cpu_gemm_nn(int64_t m, int64_t n, int64_t k, const float *a, const float *b, float *c);

/* c (m x n) += a (k x m)' * b (k x n) */
void nin__cpu_gemm_tn_add(int64_t m, int64_t n, int64_t k, const float *a, const float *b,
                          float *c);

/* OpenBLAS keeps its number of threads for the whole process, and its bits follow it. Between begin
 * and end (counted over all plans) it is 1; the last end puts back what was found. The OpenMP build
 * keeps the number for each thread instead: then it is the calling thread's that begin gives and
 * end takes back. This is the library's one exception to 'no globals'. */
int nin__cpu_gemm_begin(void);
void nin__cpu_gemm_end(int threads);

/* A thread of ours says that it will call. */
void nin__cpu_gemm_enter_thread(void);

/* Counts the workers among those that may call OpenBLAS, until release: it has a table of buffers
 * for the whole process, and prints, then crashes, when more threads call it at once than it was
 * built for. So beyond a limit they are refused with NIN_OUT_OF_MEMORY, and are not to be released
 * then.
 *
 * OpenBLAS never returns from a product for which it finds no memory, so this also maps as much as
 * every worker's first call will map, gives it back, and lets all workers multiply at the same
 * time: OpenBLAS keeps a buffer for each product at work from then on. What remains: somebody else
 * may take the memory in between; and with fewer processors than workers not all may be at work at
 * once, so that a buffer is first asked for in a later run. */
nin_status nin__cpu_gemm_reserve(struct cpu_workers *workers);
void nin__cpu_gemm_release(const struct cpu_workers *workers);

#endif
