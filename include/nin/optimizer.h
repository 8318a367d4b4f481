/* SPDX-License-Identifier: MIT */
#ifndef NIN_OPTIMIZER_H
#define NIN_OPTIMIZER_H

/* Stochastic gradient descent with PyTorch's momentum buffer (torch.optim.SGD, dampening 0):
 *
 *     g = gradient + weight_decay * decay_multiplier * p
 *     m = momentum * m + g
 *     p = p - rate * rate_multiplier * (nesterov ? g + momentum * m : m)
 *
 * with m = 0 at the start. The rate is not part of m: a change of the rate acts at once. */

#include <nin/plan.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    size_t struct_size;
    double rate;         /* > 0; 0 means 0.01. For a rate of zero see nin_optimizer_set_rate */
    double momentum;     /* 0 <= momentum < 1 */
    int32_t nesterov;    /* 1: Nesterov's form; needs momentum > 0 */
    double weight_decay; /* >= 0, on all parameters: a decay multiplier of 0 exempts one */
} nin_sgd_desc;

/* Makes an optimizer for the parameters of a network.
 *   out      receives the optimizer, owned by the caller
 *   network  kept alive by the optimizer
 *   desc     copied; NULL for all defaults
 * Fails with NIN_INVALID_ARGUMENT, NIN_OUT_OF_MEMORY. Since 0.1. */
NIN_CHECKED nin_status nin_optimizer_create_sgd(nin_optimizer **out, nin_network *network,
                                                const nin_sgd_desc *desc);

/* The rate that the next update uses. Setting it: 0 <= rate, finite; 0 means 0 here. Fails with
 * NIN_INVALID_ARGUMENT. Since 0.1. */
NIN_API double nin_optimizer_rate(const nin_optimizer *optimizer);
NIN_CHECKED nin_status nin_optimizer_set_rate(nin_optimizer *optimizer, double rate);

/* Multipliers of one parameter's rate and weight decay, 1 at the start; 0 means 0 here: a rate of 0
 * freezes the parameter, a decay of 0 exempts it (the authors decay no bias and give it twice the
 * rate).
 *   layer  of the optimizer's network
 *   rate, decay  >= 0, finite
 * Fails with NIN_INVALID_ARGUMENT (also: the layer has no such parameter). Since 0.1. */
NIN_CHECKED nin_status nin_optimizer_set_multipliers(nin_optimizer *optimizer,
                                                     const nin_layer *layer, nin_parameter which,
                                                     double rate, double decay);

/* The momentum buffer: a tensor borrowed from the optimizer. Arguments and failures as
 * nin_plan_gradient. Since 0.1. */
NIN_CHECKED nin_status nin_optimizer_momentum(nin_tensor **out, nin_optimizer *optimizer,
                                              const nin_layer *layer, nin_parameter which);

/* Updates the network's parameters from a plan's gradient. Holds the network for the call.
 *   plan  a training plan of the same network, after a backward pass
 * Fails with NIN_NOT_FINITE if the gradient holds a NaN or an infinity (the sentence names the
 * layer), NIN_INVALID_STATE (no gradient), NIN_INVALID_ARGUMENT (another network), NIN_BUSY;
 * nothing is then changed. Since 0.1. */
NIN_CHECKED nin_status nin_optimizer_update(nin_optimizer *optimizer, nin_plan *plan);

/* Frees the optimizer. NULL is fine. Since 0.1. */
NIN_API void nin_optimizer_destroy(nin_optimizer *optimizer);

#ifdef __cplusplus
}
#endif
#endif
