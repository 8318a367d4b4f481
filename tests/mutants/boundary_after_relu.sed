# SPDX-License-Identifier: MIT
# src/cpu/segments.c: a ReLU that stands alone hides the dense layer before it from the next op
# in: plan results
# fails: keeping_what_is_between_fused_layers_changes_no_order
/^static const struct nin__op \*before_relus/,/^}/ s/while (i > 0 && ops\[i\]\.kind == NIN__OP_RELU);/while (0);/
