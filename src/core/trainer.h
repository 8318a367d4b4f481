/* SPDX-License-Identifier: MIT */
#ifndef NIN__TRAINER_H
#define NIN__TRAINER_H

#include "core/optimizer.h"
#include "core/scheduler.h"
#include "data/dataset.h"

#include <nin/trainer.h>

#include <stdatomic.h>

/* What the running epoch has summed up. */
struct nin__epoch_sums {
    double loss;   /* sum over images */
    double metric; /* sum over batches of the batch's accuracy */
    int64_t correct, count, flat;
    double seconds;
};

/* Where a run is: what a checkpoint saves and restores, beside parameters and momentum. */
struct nin__progress {
    uint32_t seed;
    int64_t epoch;   /* closed epochs */
    int64_t batch;   /* done in the running epoch */
    int64_t step;    /* since the start */
    int64_t stalled; /* epochs in a row whose loss was at ln(classes) */
    double rate;     /* of the last step */
    bool due;        /* fit has closed an epoch that waits for its evaluation and its on_epoch */
    struct nin__epoch_sums sums;
};

/* What a trainer has for stretches of steps, see stretch.c. */
struct nin__ahead {
    bool tried;                     /* to have the rest; it is tried once */
    struct nin__resident *resident; /* NULL: steps are taken one by one */
    nin_context *context;           /* retained: whose memory that is */
    int64_t steps;                  /* of a stretch, at most */
    float *rates;                   /* [step][span] */

    /* For tests, which set them before the first stretch: zero for every user. */
    struct {
        int64_t steps; /* of a stretch at most, in place of the rule's */
        bool apart;    /* the images stay the host's, as if there were no room for them */
    } hidden;
};

struct nin_trainer {
    nin_plan *plan;
    nin_optimizer *optimizer;
    nin_scheduler *scheduler; /* may be NULL */
    const nin_dataset *dataset;
    bool shuffle;
    int32_t batch;               /* asked for: images at most */
    struct nin__batches batches; /* of an epoch */
    struct nin__progress progress;
    int32_t *order;        /* dataset count: the running epoch's order of images */
    int64_t ordered_epoch; /* the epoch that `order` belongs to; -1: none */
    int32_t *labels;       /* of the current batch */
    void *staging;         /* images of the current batch, when a callback gives them */
    nin_epoch_info *curve; /* progress.epoch entries */
    int64_t curve_room;
    int64_t stall_epochs; /* epochs at ln(classes) before the curve says NIN_STALLED */
    int64_t flat;         /* images of the epoch closed last whose scores were all equal */
    struct nin__ahead ahead;
    atomic_flag busy;
};

/* The defaults. */
enum {
    NIN__STALL_EPOCHS = 10,
    NIN__LOOK = 64 /* steps of a stretch after which the host sees what has come of them */
};

/* A trainer does one thing at a time: NIN_BUSY for another thread, and for a data set's callback
 * that calls the trainer which is just reading from it. */
nin_status nin__trainer_enter(const nin_trainer *trainer);
void nin__trainer_leave(const nin_trainer *trainer);

/* Makes room for `epochs` entries of the curve; on failure nothing has changed. */
nin_status nin__trainer_reserve(nin_trainer *trainer, int64_t epochs);

/* Whether a plan can be trained or evaluated on a data set: image shape, loss, labels. */
nin_status nin__check_dataset(const nin_plan *plan, const nin_dataset *dataset);

/* Samples index[0] ... index[count - 1], or with index NULL first ... first + count - 1, as the
 * images of a run, with their labels. Images that a callback gives go to staging. */
nin_status nin__gather(struct nin__images *images, const nin_dataset *dataset, const int32_t *index,
                       int64_t first, int32_t count, void *staging, int32_t *labels);

/* nin_trainer_step and nin_evaluate after their arguments are checked. */
nin_status nin__trainer_step(nin_result *result, nin_trainer *trainer);

/* At least one step of the running epoch and `most` at most, a stretch of them where that can be
 * had, of which the host hears after each `look`; `result` is the last one's. Fails as that many
 * calls of nin__trainer_step, one after another, at the step that fails. */
nin_status nin__trainer_steps(nin_result *result, nin_trainer *trainer, int64_t most, int64_t look);

/* For stretches: puts the images of the running epoch in order; counts a step that is over, which
 * took so many seconds and was taken at that rate. */
void nin__trainer_order(nin_trainer *trainer);
void nin__trainer_count(nin_trainer *trainer, const nin_result *result, double rate,
                        double seconds);

/* Frees what stretches have needed. */
void nin__ahead_free(struct nin__ahead *ahead);
nin_status nin__evaluate(nin_result *result, nin_plan *plan, const nin_dataset *dataset);

/* Seconds of a clock that never goes back. */
double nin__seconds(void);

#endif
