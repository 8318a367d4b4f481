/* SPDX-License-Identifier: MIT */
#ifndef NIN__OPTIMIZER_H
#define NIN__OPTIMIZER_H

#include "core/network.h"

#include <nin/optimizer.h>

/* Multipliers of one layer's weights [NIN_WEIGHT] and biases [NIN_BIAS]. */
struct nin__multipliers {
    double rate[2], decay[2];
};

struct nin_optimizer {
    nin_network *network;
    nin_sgd_desc desc;
    double rate;                     /* of the next update */
    struct nin__multipliers *layers; /* one a layer of the network */
    struct nin__update_span *spans;  /* room for two a layer */
    float *momentum;                 /* arena, memory of the network's device */
    struct nin__views *views;        /* tensors of the momentum */
};

/* A rate, multiplier or decay that arithmetic in single precision survives: 0 or more, finite as a
 * float. */
bool nin__is_rate(double value);

/* What a value that is none is, for a sentence. */
const char *nin__not_a_rate(double value);

/* Updates from a plan's gradient; the caller holds the network. */
nin_status nin__optimizer_apply(nin_optimizer *optimizer, nin_plan *plan);

/* The same in parts: what the next update from a plan's gradient is, whose spans are the
 * optimizer's; and a failure if element `bad` of the gradient is not finite, NIN_OK if that is
 * behind the last. */
nin_status nin__optimizer_describe(struct nin__update *out, nin_optimizer *optimizer,
                                   const nin_plan *plan);
nin_status nin__optimizer_judge(const nin_optimizer *optimizer, const nin_plan *plan, size_t bad);

#endif
