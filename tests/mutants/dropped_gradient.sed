# SPDX-License-Identifier: MIT
# src/cpu/kernels/pool.h: a gradient goes back through what was dropped
# through: src/cpu/kernels.c
# in: kernels kernels
# fails: fused_pools
s/place = (mask)choose(kept, (vector)place, nowhere);/(void)nowhere;/
