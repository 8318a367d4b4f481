/* SPDX-License-Identifier: MIT */
#ifndef PROGRESS_H
#define PROGRESS_H

/* What the user sees while a network trains: a bar that moves on a terminal, a line now and then
 * elsewhere, and a line for each epoch. */

#include <nin/nin.h>

struct progress {
    int quiet;
    int terminal;        /* standard output is one that can erase a line */
    int32_t epochs;      /* of the whole run; 0: not known */
    int64_t epoch;       /* that the fields below belong to */
    int64_t first_batch; /* of the epoch, done when the clock was started */
    int64_t first_images;
    double started; /* seconds on the clock of seconds_now */
    double shown;   /* when something was last shown */
};

void progress_begin(struct progress *progress, int quiet, int32_t epochs);
void progress_step(struct progress *progress, const nin_step_info *step);
void progress_epoch(struct progress *progress, const nin_epoch_info *epoch);

/* Takes the bar away, so that other lines can be printed. */
void progress_clear(const struct progress *progress);

double seconds_now(void);

/* "12 s", "4 min 05 s", "2 h 07 min". */
struct duration {
    char text[32];
};
struct duration duration_text(double seconds);

#endif
