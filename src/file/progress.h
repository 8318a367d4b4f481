/* SPDX-License-Identifier: MIT */
#ifndef NIN__PROGRESS_H
#define NIN__PROGRESS_H

/* Where a run is, apart from parameters and momentum. */

#include "core/trainer.h"
#include "file/safetensors.h"

/* What a checkpoint says, checked against the trainer that it is for, and not applied yet. */
struct nin__restored {
    struct nin__progress progress;
    double rate;      /* of the next update */
    double base_rate; /* of the scheduler, if there is one */
    struct nin__scheduler_state scheduler;
    nin_epoch_info *curve;                /* progress.epoch entries */
    struct nin__multipliers *multipliers; /* one a layer */
    float *parameters, *momentum;         /* arenas in host memory */
};
void nin__restored_free(struct nin__restored *restored);

/* NULL if there is no memory. */
json_t *nin__progress_describe(const nin_trainer *trainer);

/* Reads all but curve, multipliers, parameters and momentum. */
nin_status nin__progress_read(struct nin__restored *restored, const nin_trainer *trainer,
                              const json_t *json);

/* The curve as a tensor of doubles, one row an epoch; to be freed. NULL if there is no memory. */
enum {
    NIN__CURVE_COLUMNS = 11
};
double *nin__curve_table(const nin_trainer *trainer);
nin_status nin__curve_read(struct nin__restored *restored, const nin_trainer *trainer,
                           const double *table);

#endif
