/* SPDX-License-Identifier: MIT */
/* The tables of products in bf16: see kernels.h. The Makefile compiles this file once for each. */
#include "cpu/kernels.h"

#if defined(NIN__KERNELS_AMX)
#include "cpu/kernels/amx.h"

#if NIN__KERNELS_PARTS == 1
const struct cpu_bf16_kernels nin__cpu_bf16_amx = {
#else
const struct cpu_bf16_kernels nin__cpu_bf16x3_amx = {
#endif
    .name = "amx",
    .packed_bytes = packed_bytes,
    .pack = pack,
    .scratch_bytes = scratch_bytes,
    .multiply = multiply,
    .add_outer = add_outer,
};
#else
#include "cpu/kernels/pairs.h"

const struct cpu_bf16_kernels nin__cpu_bf16_avx512 = {
    .name = "avx512_bf16",
    .packed_bytes = packed_bytes,
    .pack = pack_pairs,
    .scratch_bytes = scratch_bytes,
    .multiply = multiply_pairs,
    .add_outer = outer_pairs,
};
#endif
