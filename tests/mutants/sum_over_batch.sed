# SPDX-License-Identifier: MIT
# src/cpu/loss.c: the gradient is that of the sum over the batch, not of the mean
s: / batch);:);:; s:, batch = run->images.count;:;:
