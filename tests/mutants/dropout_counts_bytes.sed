# SPDX-License-Identifier: MIT
# src/cpu/segments.c: a dropout that is part of a pool counts no bytes
# in: plan results
# fails: keeping_what_is_between_fused_layers_changes_no_order
s/^        if (op->drop).*/        if (op == NULL)/
