# SPDX-License-Identifier: MIT
# src/cpu/run.c: backward takes an image's first strip of a cheap output as the strip before has left it
# fails: a_cheap_output_is_made_again_with_the_same_bits
# in: plan
s/if (first->again)$/if (first->again \&\& strip.row > 0)/
