# SPDX-License-Identifier: MIT
# src/cpu/pool.c: an average pool counts padding where it should not, and the other way round
# fails: a_layer_alone_goes_forward_and_backward
s/if (op->exclude_padding)/if (!op->exclude_padding)/
