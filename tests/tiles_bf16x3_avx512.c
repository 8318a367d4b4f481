/* SPDX-License-Identifier: MIT */
/* The same with operands laid out by AVX-512, for which this file is compiled: what AMX has beside
 * its tiles. */
#if defined(__AVX512BF16__)
#define nin__test_bf16x3_amx nin__test_bf16x3_amx_avx512

#include "tiles_bf16x3.c"
#else
typedef int no_translation_unit_is_empty;
#endif
