# SPDX-License-Identifier: MIT
# src/cpu/dropout.c: what dropout keeps is not scaled up
s/ \* op->keep_scale//; s/ \* call->op->keep_scale//
