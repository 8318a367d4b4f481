# SPDX-License-Identifier: MIT
# src/cpu/pool.c: an average pool counts padding where it should not, and the other way round
s/if (op->exclude_padding)/if (!op->exclude_padding)/
