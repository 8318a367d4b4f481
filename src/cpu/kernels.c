/* SPDX-License-Identifier: MIT */
/* The table of one instruction set: see kernels.h. The Makefile compiles this file once for
 * each. */
#include "cpu/kernels.h"

#include "cpu/kernels/dropout.h"
#include "cpu/kernels/fft.h"
#include "cpu/kernels/fft_data_gradient.h"
#include "cpu/kernels/fft_weight_gradient.h"
#include "cpu/kernels/fft_weights.h"
#include "cpu/kernels/gradient.h"
#include "cpu/kernels/peak.h"
#include "cpu/kernels/pool.h"
#include "cpu/kernels/product.h"
#include "cpu/kernels/winograd.h"

#if defined(NIN__KERNELS_AVX512)
const struct cpu_kernels nin__cpu_kernels_avx512 = {
    .name = "avx512",
#elif defined(NIN__KERNELS_AVX2)
const struct cpu_kernels nin__cpu_kernels_avx2 = {
    .name = "avx2",
#else /* what the compiler may use anyway */
const struct cpu_kernels nin__cpu_kernels_baseline = {
    .name = "baseline",
#endif
#if defined(__FMA__)
    .fused = true,
#endif
    .width = WIDTH,
    .packed_size = packed_size,
    .pack = pack,
    .multiply = multiply,
    .add_outer = add_outer,
    .winograd_data = winograd_data,
    .winograd_gradient = winograd_gradient,
    .winograd_output = winograd_output,
    .winograd_weights = winograd_weights,
    .winograd_weight_gradient = winograd_weight_gradient,
    .fft_data = fft_data,
    .fft_output = fft_output,
    .fft_data_gradient = fft_data_gradient,
    .fft_weight_gradient = fft_weight_gradient,
    .fft_weights = fft_weights,
    .max_pool_row = max_pool_row,
    .max_unpool = max_unpool,
    .mask_blocks = mask_blocks,
    .drop = drop,
    .gate = gate,
    .add_columns = add_columns,
    .saturate = saturate,
};
