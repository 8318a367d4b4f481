# SPDX-License-Identifier: MIT
# src/cpu/update.c: each update forgets the ones before it
s/m\[i\] = factor \* m\[i\] + g;/m[i] = g;/
