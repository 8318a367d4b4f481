/* SPDX-License-Identifier: MIT */
#ifndef NIN__SCHEDULER_H
#define NIN__SCHEDULER_H

#include <nin/scheduler.h>

#include <stdbool.h>

/* What an advance changes; a checkpoint holds all of it, whatever the kind. */
struct nin__scheduler_state {
    int64_t units; /* advances so far */
    double best;   /* plateau: best metric */
    int64_t bad;   /* plateau: bad units in a row */
    int64_t cool;  /* plateau: units of cool-down that are left */
};

struct nin__scheduler_class {
    const char *name; /* "plateau", "steps", "cosine": for files */
    void (*advance)(nin_scheduler *scheduler, double metric);
    bool blind; /* advance does not look at the metric */
};

struct nin_scheduler {
    const struct nin__scheduler_class *class;
    nin_optimizer *optimizer;
    nin_unit unit;
    double base_rate; /* the optimizer's at creation */
    nin_plateau_desc plateau;
    nin_steps_desc steps; /* its milestones are the scheduler's own */
    nin_cosine_desc cosine;
    struct nin__scheduler_state state;
};

#endif
