# SPDX-License-Identifier: MIT
# src/cpu/conv_fft.c: each pass of a fresh chunk overwrites what the passes before it have summed
# fails: planes_of_both_transforms
# in: ops planes
s/call->fresh && pass.first == 0/call->fresh/
