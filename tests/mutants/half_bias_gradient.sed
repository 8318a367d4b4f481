# SPDX-License-Identifier: MIT
# src/cpu/conv.c: the gradient of a bias is half of what it should be
# fails: ten_steps_of_training scores_loss_and_every_gradient_of_the_network a_layer_alone_goes_forward_and_backward
s/put(\(.*\), db\[o\],/put(\1, 0.5f * db[o],/
