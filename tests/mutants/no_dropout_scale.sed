# SPDX-License-Identifier: MIT
# src/cpu/dropout.c: what dropout keeps is not scaled up
# in: ops layers
# fails: dropout dropouts_are_numbered
s/call->op->keep_scale/1.0f/
s/op->keep_scale/1.0f/
