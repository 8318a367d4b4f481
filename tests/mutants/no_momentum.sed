# SPDX-License-Identifier: MIT
# src/cpu/update.c: each update forgets the ones before it
# fails: ten_steps_of_training
s/m\[i\] = factor \* m\[i\] + g;/m[i] = g;/
