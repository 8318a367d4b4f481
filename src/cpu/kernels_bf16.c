/* SPDX-License-Identifier: MIT */
/* The tables of products in bf16: see kernels.h. The Makefile compiles this file once for each instruction
 * set that has them. */
#include "cpu/kernels.h"

#include "cpu/kernels/pairs.h"

const struct cpu_bf16_kernels nin__cpu_bf16_avx512 = {
    .name = "avx512_bf16",
    .packed_bytes = packed_bytes,
    .pack = pack_pairs,
    .scratch_bytes = scratch_bytes,
    .multiply = multiply_pairs,
    .add_outer = outer_pairs,
};
