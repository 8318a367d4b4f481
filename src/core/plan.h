/* SPDX-License-Identifier: MIT */
#ifndef NIN__PLAN_H
#define NIN__PLAN_H

#include "core/prepared.h"

#include <nin/plan.h>

struct nin_plan {
    nin_network *network;
    nin_plan_desc desc; /* keep list not included; zeros replaced by their meaning */
    struct nin__shape input;
    struct nin__shape scores; /* of one image */
    struct nin__program *program;
    struct nin__executable *executable;
    struct nin__prepared_set prepared;
    float *gradient;          /* arena, memory of the device; NULL in an inference plan */
    struct nin__views *views; /* tensors of the gradient */
    double *losses;           /* max_batch */
    uint8_t *marks;           /* max_batch */
    float *score_copy;        /* max_batch x scores, for nin_plan_classes */
    atomic_flag busy;
    struct nin__run run;  /* the last forward's batch */
    uint64_t run_version; /* of the parameters at the last forward; 0: none has run */
    int32_t images;       /* of the last run whose outputs can be read; 0: none */
    bool has_gradient;
    int32_t gradient_images; /* of the last backward */
};

/* nin_plan_create after its pointers are checked, with options that users do not have; NULL for
 * none. */
nin_status nin__plan_create(nin_plan **out, nin_network *network, const nin_plan_desc *desc,
                            const struct nin__compile_options *hidden);

/* A plan serves one thread at a time: NIN_BUSY for the others. */
nin_status nin__plan_enter(const nin_plan *plan);
void nin__plan_leave(const nin_plan *plan);

/* Unless another thread uses it, the plan lends the system the pages of its workers' memory until
 * its next run. */
void nin__plan_rest(nin_plan *plan);

/* One step or evaluation on images that may be gathered from a data set: nin_plan_step and
 * nin_plan_evaluate after their arguments are checked. Fills a whole nin_result. */
nin_status nin__plan_step(nin_result *out, nin_plan *plan, nin_optimizer *optimizer,
                          const struct nin__run *run);
nin_status nin__plan_evaluate(nin_result *out, nin_plan *plan, const struct nin__run *run);

/* A stretch of steps by a backend that has them, whose `update` is filled in here. Sets *done as
 * the backend does. */
nin_status nin__plan_steps(int64_t *done, nin_plan *plan, nin_optimizer *optimizer,
                           struct nin__stretch *stretch);

/* The result of a batch, added up in the order of the images, so that no number of threads changes
 * it. */
void nin__sum_up(nin_result *result, const double *losses, const uint8_t *marks, int32_t count);

#endif
