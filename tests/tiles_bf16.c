/* SPDX-License-Identifier: MIT */
/* The kernels of AMX on the stand-in for its tiles, for test_bf16.c. */
#include "tiles.h"

#define NIN__KERNELS_AMX
#define NIN__KERNELS_PARTS 1
#define nin__cpu_bf16_amx nin__test_bf16_amx

#include "cpu/kernels_bf16.c"
