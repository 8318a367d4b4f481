# SPDX-License-Identifier: MIT
# src/cpu/update.c: weights do not decay
s/ + span->decay \* p\[i\];/;/
