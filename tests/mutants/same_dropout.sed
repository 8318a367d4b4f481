# SPDX-License-Identifier: MIT
# src/cpu/dropout.c: every step drops the same elements
# fails: ten_steps_of_training
s/call->run->step);/0);/
