# SPDX-License-Identifier: MIT
# src/cpu/kernels/pool.h: what the dropout behind a max pool keeps is not scaled up
# through: src/cpu/kernels.c
# fails: ten_steps_of_training
s/op.drop ? op.keep_scale : 1.0f/1.0f/
s/p->op->keep_scale/1.0f/
