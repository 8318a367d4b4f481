/* SPDX-License-Identifier: MIT */
#ifndef NIN__PREPARED_H
#define NIN__PREPARED_H

/* Weights in the forms that a backend's algorithms want. A form of an op's weights hangs on the
 * network once, for all plans that want it, and is made once per version of the parameters. */

#include "core/network.h"

struct nin__prepared {
    struct nin__prepared *next;
    struct nin__form form;
    int32_t plans; /* that use it */
    void *memory;
    uint64_t version; /* of the parameters that it was made from; 0: not yet */
};

/* What one plan uses, in the order of its executable's forms. Zeros: nothing. */
struct nin__prepared_set {
    int32_t count;
    struct nin__prepared **forms;
    void **memory; /* of each */
    void **stale;  /* the same, NULL where it is up to date */
};

/* A plan joins the forms of its executable, uses them in every run (they are made there if the
 * parameters have changed), and leaves them. Join leaves an empty set if it fails. */
nin_status nin__prepared_join(struct nin__prepared_set *set, nin_network *network,
                              const struct nin__executable *executable);
nin_status nin__prepared_use(struct nin__prepared_set *set, nin_network *network,
                             struct nin__executable *executable);
void nin__prepared_leave(struct nin__prepared_set *set, nin_network *network);

#endif
