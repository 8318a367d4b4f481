# SPDX-License-Identifier: MIT
# src/layers/pool.c: a global average pool sees the corner that the network was built for
# in: ops stacks
# fails: small_networks
s/op->kernel_h = in.h;/op->kernel_h = in.h < layer->in.h ? in.h : layer->in.h;/
s/op->kernel_w = in.w;/op->kernel_w = in.w < layer->in.w ? in.w : layer->in.w;/
