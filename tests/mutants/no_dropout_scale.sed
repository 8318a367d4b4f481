# SPDX-License-Identifier: MIT
# src/cpu/dropout.c: what dropout keeps is not scaled up
# fails: ten_steps_of_training
s/call->op->keep_scale/1.0f/
s/op->keep_scale/1.0f/
