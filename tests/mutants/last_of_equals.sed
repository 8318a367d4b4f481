# SPDX-License-Identifier: MIT
# src/cpu/pool.c: of equal elements in a max pool's window the last one gets the gradient
s/bool larger = x\[c\] > y\[c\]/bool larger = x[c] >= y[c]/
