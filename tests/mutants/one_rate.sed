# SPDX-License-Identifier: MIT
# src/core/optimizer.c: multipliers of the rate are ignored
s/(float)(optimizer->rate \* multipliers->rate\[which\])/(float)optimizer->rate/
