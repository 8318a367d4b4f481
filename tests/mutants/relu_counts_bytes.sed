# SPDX-License-Identifier: MIT
# src/cpu/segments.c: a ReLU that stands alone makes units smaller
# in: plan results
# fails: keeping_what_is_between_fused_layers_changes_no_order
s/^        if (op->kind != NIN__OP_RELU).*/        if (op != NULL)/
