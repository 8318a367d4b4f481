/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_PEAK_H
#define NIN__CPU_PEAK_H

#include "cpu/kernels.h"
#include "cpu/workers.h"

/* Multiply-adds of single precision that the units of all workers together can do in a second, by
 * the instruction set of these kernels: the best of some tries that take about ten milliseconds.
 * Allocates nothing. */
double nin__cpu_measure_peak(struct cpu_workers *workers, const struct cpu_kernels *kernels);

#endif
