/* SPDX-License-Identifier: MIT */
/* A library, but no module. */
int libnin_knows_nothing_of_this;
