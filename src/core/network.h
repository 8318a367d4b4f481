/* SPDX-License-Identifier: MIT */
#ifndef NIN__NETWORK_H
#define NIN__NETWORK_H

#include "core/backend.h"
#include "core/context.h"
#include "layers/layer.h"

#include <nin/network.h>

#include <pthread.h>
#include <stdatomic.h>

struct nin_network {
    atomic_int references; /* the caller's, plans', optimizers' */
    atomic_int holders;    /* > 0: so many share it; -1: one holds it */
    nin_context *context;
    nin_input_desc input;
    struct nin_layer *layers;
    int32_t layer_count;
    float *parameters; /* arena, memory of the context's device */
    size_t parameter_count;
    atomic_uint_fast64_t version;
    pthread_mutex_t prepared_lock;  /* guards the list and the making of its entries */
    struct nin__prepared *prepared; /* see prepared.h */
};

/* Makes a network from checked layers, which are copied, and draws its parameters. */
nin_status nin__network_create(nin_network **out, nin_context *context, const nin_input_desc *input,
                               const struct nin_layer *layers, int32_t layer_count);
nin_network *nin__network_retain(nin_network *network);

/* Readers share, a writer holds. All return at once. */
nin_status nin__network_share(const nin_network *network);
void nin__network_unshare(const nin_network *network);
nin_status nin__network_hold(nin_network *network);
void nin__network_unhold(nin_network *network);

/* To be called by a holder that has changed parameters. */
void nin__network_changed(nin_network *network);

/* The whole arena, from or to host memory. The caller shares or holds. */
nin_status nin__network_download(const nin_network *network, float *target);
nin_status nin__network_upload(nin_network *network, const float *source);

/* Where a layer's weights or biases lie in an arena; fails if it has none. */
nin_status nin__layer_span(const struct nin_layer *layer, nin_parameter which, size_t *first,
                           size_t *count);

#endif
