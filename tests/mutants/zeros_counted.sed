# SPDX-License-Identifier: MIT
# src/cpu/describe.c: zeros of the padding are counted as multiplications
# fails: a_plan_counts_its_multiplications
# in: plan making
s/seen.end > seen.first ? seen.end - seen.first : 0/seen.end > seen.first ? kernel : 0/
