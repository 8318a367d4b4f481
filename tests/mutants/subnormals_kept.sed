# SPDX-License-Identifier: MIT
# src/cpu/workers.c: workers do not take subnormal numbers for 0
# in: determinism arithmetic
# fails: flushing_of_the_caller
/_mm_setcsr/d
