# SPDX-License-Identifier: MIT
# src/cpu/workers.c: workers round and flush as whoever made the plan does
# in: determinism arithmetic
# fails: rounding_of_the_caller
/^    fesetenv(FE_DFL_ENV);/d
