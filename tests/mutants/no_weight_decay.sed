# SPDX-License-Identifier: MIT
# src/cpu/update.c: weights do not decay
# fails: ten_steps_of_training
s/ + span->decay \* p\[i\];/;/
