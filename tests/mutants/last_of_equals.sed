# SPDX-License-Identifier: MIT
# src/cpu/kernels/pool.h: of equal elements in a max pool's window the last one gets the gradient
# through: src/cpu/kernels.c
# fails: the_first_of_equals_gets_the_gradient a_layer_alone_goes_forward_and_backward
#
# Not the curve: its images keep away from ties, because there rounding would decide.
s/takes_over(v, largest)/(v >= largest) | (v != v)/
s/v > largest || /v >= largest || /
