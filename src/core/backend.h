/* SPDX-License-Identifier: MIT */
#ifndef NIN__BACKEND_H
#define NIN__BACKEND_H

/* The seam. Above it no file knows a backend's name, below it no file knows a layer: the core hands
 * a program over, the backend compiles it and runs it. */

#include "core/program.h"

#include <nin/context.h>
#include <nin/optimizer.h>

#include <stdbool.h>

#define NIN__BACKEND_ABI 1u

struct nin__device;     /* a backend's own state of a context */
struct nin__executable; /* a compiled program with its memory and workers */
struct nin__resident;   /* a data set in a device's memory, or on its way there */

/* What a plan asks of compile. The last three are for tests: zero in every plan of a user. */
struct nin__compile_options {
    int32_t max_batch;
    int32_t threads;
    int32_t lanes;
    uint64_t lane_bytes;
    nin_precision precision;
    nin_algorithm algorithm;
    int32_t unit;    /* images of every segment's unit, in place of the rule's */
    bool boundaries; /* a segment boundary after every op */
    uint32_t jitter; /* workers sleep at random, seeded by this */
};

/* A form in which weights are used: packed, transformed, converted. Plans of one network share what
 * is prepared where their forms are equal. */
struct nin__form {
    size_t weight; /* the op's, offset in the arena */
    uint32_t kind; /* a number of the backend's */
    size_t bytes;
};

/* The images of a run: image n is images + index[n] * bytes of an image, index NULL for 0, 1, 2,
 * ... */
struct nin__images {
    const void *base;
    const int32_t *index;
    nin_dtype dtype;
    int32_t count;
};

/* One run of an executable. */
struct nin__run {
    struct nin__images images;
    int64_t step;            /* number of the training step, for dropout */
    uint32_t first_position; /* of image 0 in the whole batch, for dropout */
    uint32_t seed;
    bool backward;
    bool accumulate;             /* add to gradient instead of overwriting it */
    const int32_t *labels;       /* count, or NULL */
    const float *score_gradient; /* count x scores NCHW, or NULL; with backward one of the two */
    const float *parameters;     /* arena */
    void *const *prepared;       /* what prepare made of it, form by form */
    float *gradient;             /* arena */
    double *losses;              /* count: each image's loss, if labels are given */
    uint8_t *marks;              /* count: NIN__CORRECT | NIN__FLAT, if labels are given */
};

enum {
    NIN__CORRECT = 1,
    NIN__FLAT = 2
};

/* A contiguous part of the arena with constants of its own, for update. */
struct nin__update_span {
    size_t first, count;
    float rate, decay;
};

struct nin__update {
    float *parameters, *momentum;
    const float *gradient;
    const struct nin__update_span *spans;
    int32_t span_count;
    float momentum_factor;
    bool nesterov;
};

/* A data set in the host's memory, and what the stretches on it need at most. */
struct nin__samples {
    const void *images; /* one behind the other */
    const int32_t *labels;
    int64_t count;
    size_t image_bytes;
    int64_t steps; /* of a stretch */
    int32_t batch; /* images of a step */
    int32_t spans; /* of an update */
    bool apart;    /* for tests: as if there were no room for the images */
};

/* A stretch: training steps one after another on a data set that is resident. */
struct nin__stretch {
    struct nin__resident *resident;
    struct nin__run run; /* the first step's, but images.index and count are of all steps. Labels,
                            losses and marks are not looked at */
    int32_t batch;       /* images of a step; the last may have fewer */
    int64_t look;        /* after so many steps the host sees what has come of them */
    struct nin__update update;
    const float *rates; /* [step][span], in place of the spans' own */

    /* Is given each step's losses and marks, step by step, by the thread that called: at a look
     * what has come down by then, and the rest at the end. */
    void (*take)(void *taker, const double *losses, const uint8_t *marks, int32_t images);
    void *taker;
};

static inline int64_t nin__stretch_steps(const struct nin__stretch *stretch)
{
    return ((int64_t)stretch->run.images.count - 1) / stretch->batch + 1;
}

struct nin__backend {
    size_t size;
    uint32_t abi;
    nin_device device;

    /* stream: the caller's, or NULL; a backend that has none refuses it. */
    nin_status (*open)(struct nin__device **out, int32_t index, nin_instruction_set instructions,
                       void *stream);
    void (*close)(struct nin__device *device);

    /* Memory: aligned to 64 bytes, zeroed. If there is none the sentence says for what. */
    nin_status (*allocate)(void **out, struct nin__device *device, size_t bytes, const char *what);
    void (*release)(struct nin__device *device, void *memory);
    nin_status (*upload)(struct nin__device *device, void *target, const void *source,
                         size_t bytes);
    nin_status (*download)(struct nin__device *device, void *target, const void *source,
                           size_t bytes);

    /* Compile: picks algorithms, cuts segments, sets chunks, places memory, starts workers. */
    nin_status (*compile)(struct nin__executable **out, struct nin__device *device,
                          const struct nin__program *program,
                          const struct nin__compile_options *options);
    void (*discard)(struct nin__executable *executable);

    /* The executable will not run for a while: what its workers' memory holds is not needed between
     * two runs, and the system may have the pages until they are touched again. */
    void (*rest)(struct nin__executable *executable);

    /* The forms in which the executable wants weights. */
    const struct nin__form *(*forms)(const struct nin__executable *executable, int32_t *count);
    uint64_t (*bytes)(const struct nin__executable *executable);

    /* The executable as text, with times if the machine has been measured. `measure` does so first,
     * on the executable's workers: nobody may run it meanwhile. */
    bool (*measured)(const struct nin__executable *executable);
    size_t (*describe)(struct nin__executable *executable, bool measure, char *text, size_t size);

    /* What fixes the order in which a batch of so many images adds up, as text: two executables of
     * one network, precision and algorithm with equal texts give the same bits. */
    size_t (*order_of_sums)(const struct nin__executable *executable, int32_t batch, char *text,
                            size_t size);

    /* Makes form i in targets[i], unless that is NULL. */
    nin_status (*prepare)(struct nin__executable *executable, const float *parameters,
                          void *const *targets);
    nin_status (*run)(struct nin__executable *executable, const struct nin__run *run);

    /* The first `images` images of op's whole-batch output, or of the input's gradient, as NCHW. */
    nin_status (*fetch)(struct nin__executable *executable, int32_t op, int32_t images,
                        float *target);
    nin_status (*fetch_input_gradient)(struct nin__executable *executable, int32_t images,
                                       float *target);

    /* Sets *bad to the first element of the gradient that is not finite, or to count. */
    nin_status (*check_finite)(struct nin__executable *executable, const float *values,
                               size_t count, size_t *bad);
    nin_status (*update)(struct nin__executable *executable, const struct nin__update *update);

    /* A whole training step, for a backend that can do it without asking in between; else NULL. As
     * run with backward, check_finite of the gradient and update one after another; but where a
     * loss or the gradient is not finite, parameters and momentum stay what they are. */
    nin_status (*step)(struct nin__executable *executable, const struct nin__run *run,
                       const struct nin__update *update, size_t *bad);

    /* A stretch of steps without a question in between, for a backend that can do it; else all
     * three are NULL. Where there is no room for the images they stay the host's, and each step's
     * go up in time; *out stays NULL where there is no room for that either. */
    nin_status (*load)(struct nin__resident **out, struct nin__device *device,
                       const struct nin__samples *samples);
    void (*unload)(struct nin__device *device, struct nin__resident *resident);

    /* Sets *done, also on failure, to the number of steps that have been taken; `take` has been
     * given as many. The step behind them is one that `step` refuses, or that could not be started;
     * parameters and momentum are those before it. */
    nin_status (*steps)(struct nin__executable *executable, const struct nin__stretch *stretch,
                        int64_t *done);
};

extern const struct nin__backend nin__cpu_backend;

#endif
