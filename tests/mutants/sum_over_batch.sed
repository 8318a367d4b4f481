# SPDX-License-Identifier: MIT
# src/cpu/loss.c: the gradient is that of the sum over the batch, not of the mean
# fails: ten_steps_of_training scores_loss_and_every_gradient_of_the_network log_softmax_and_negative_log_likelihood
s: / batch);:);:; s:, batch = run->images.count;:;:
