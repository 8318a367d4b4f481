# SPDX-License-Identifier: MIT
# src/cpu/dropout.c: what dropout keeps is not scaled up
# fails: ten_steps_of_training
s/ \* op->keep_scale//; s/ \* call->op->keep_scale//
