# SPDX-License-Identifier: MIT
# src/cpu/segments.c: a segment may end before a ReLU, so where it ends depends on what is kept
# in: plan results
# fails: keeping_what_is_between_fused_layers_changes_no_order
#
# No bits follow from it yet, but the text by which a checkpoint compares orders of sums.
s/if (ops\[i\]\.kind == NIN__OP_LOSS || ops\[i\]\.kind == NIN__OP_RELU)/if (ops[i].kind == NIN__OP_LOSS)/
