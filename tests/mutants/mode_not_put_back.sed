# SPDX-License-Identifier: MIT
# src/cpu/workers.c: the caller's rounding and flushing are not put back after its share
# in: determinism arithmetic
# fails: rounding_of_the_caller flushing_of_the_caller
/^    fesetenv(&callers);/d
