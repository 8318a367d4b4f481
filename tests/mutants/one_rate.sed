# SPDX-License-Identifier: MIT
# src/core/optimizer.c: multipliers of the rate are ignored
# fails: ten_steps_of_training
s/(float)(optimizer->rate \* multipliers->rate\[which\])/(float)optimizer->rate/
