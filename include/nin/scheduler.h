/* SPDX-License-Identifier: MIT */
#ifndef NIN_SCHEDULER_H
#define NIN_SCHEDULER_H

/* Schedulers change an optimizer's rate. Making one sets the rate for its start; advancing it sets
 * the next one. The descriptor says by what unit a trainer advances it; with a loop of your own,
 * call nin_scheduler_advance in that rhythm. */

#include <nin/optimizer.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nin_scheduler nin_scheduler;

typedef enum {
    NIN_PER_EPOCH = 0,
    NIN_PER_STEP = 1,
    NIN_UNIT_INT32 = 0x7fffffff
} nin_unit;

/* PyTorch's ReduceLROnPlateau(mode 'max'): when the metric has not become better than
 * best * (1 + threshold) for more than patience units, the rate is multiplied by factor, but not
 * below min_rate, and not if that changes it by no more than 1e-8; then cooldown units are not
 * counted. */
typedef struct {
    size_t struct_size;
    nin_unit unit;
    double factor;        /* 0 < factor < 1; 0 means 0.1 */
    int32_t patience;     /* bad units that pass without a change; 0 means 10 */
    int32_t no_patience;  /* 1: a patience of 0, the first bad unit reduces */
    double threshold;     /* relative, >= 0; 0 means 1e-4 */
    int32_t no_threshold; /* 1: a threshold of 0, any gain counts */
    int32_t cooldown;     /* >= 0 */
    double min_rate;      /* >= 0 */
} nin_plateau_desc;

/* The rate is multiplied by factor each time that a milestone has been reached. */
typedef struct {
    size_t struct_size;
    nin_unit unit;
    const int64_t *milestones; /* numbers of units, ascending, each >= 1; copied */
    int32_t count;             /* of milestones, at least 1 */
    double factor;             /* > 0; 0 means 0.1 */
} nin_steps_desc;

/* Linear warm-up, then half a cosine: with the optimizer's rate r at creation, unit t has the rate
 *     r * (t + 1) / warm_up                                                 for t < warm_up,
 *     end_rate + (r - end_rate) * (1 + cos(pi * (t - warm_up) / (total - warm_up))) / 2  after it,
 * and end_rate from unit `total` on. */
typedef struct {
    size_t struct_size;
    nin_unit unit;
    int64_t total;   /* units, more than warm_up */
    int64_t warm_up; /* units, >= 0 */
    double end_rate; /* >= 0 */
} nin_cosine_desc;

/* Each makes a scheduler.
 *   out        receives the scheduler, owned by the caller
 *   optimizer  borrowed as long as the scheduler lives
 *   desc       copied; plateau: NULL for all defaults
 * Fail with NIN_INVALID_ARGUMENT, NIN_OUT_OF_MEMORY. Since 0.1. */
NIN_CHECKED nin_status nin_scheduler_create_plateau(nin_scheduler **out, nin_optimizer *optimizer,
                                                    const nin_plateau_desc *desc);
NIN_CHECKED nin_status nin_scheduler_create_steps(nin_scheduler **out, nin_optimizer *optimizer,
                                                  const nin_steps_desc *desc);
NIN_CHECKED nin_status nin_scheduler_create_cosine(nin_scheduler **out, nin_optimizer *optimizer,
                                                   const nin_cosine_desc *desc);

/* The unit by which a trainer advances it. Since 0.1. */
NIN_API nin_unit nin_scheduler_unit(const nin_scheduler *scheduler);

/* One unit is over: sets the optimizer's rate for the next one.
 *   metric  of the unit that is over, larger is better; read by the plateau scheduler only. NaN is
 *           never better
 * Since 0.1. */
NIN_API void nin_scheduler_advance(nin_scheduler *scheduler, double metric);

/* Frees the scheduler, not the optimizer. NULL is fine. Since 0.1. */
NIN_API void nin_scheduler_destroy(nin_scheduler *scheduler);

#ifdef __cplusplus
}
#endif
#endif
