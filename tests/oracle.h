/* SPDX-License-Identifier: MIT */
#ifndef TESTS_ORACLE_H
#define TESTS_ORACLE_H

/* What libnin's results are compared with: every operation as direct loops in double precision,
 * which share nothing with the library. Maps are NCHW, weights OIHW. Nothing here is fast. */

#include <stddef.h>
#include <stdint.h>

struct oracle_map {
    long n, c, h, w;
};

struct oracle_window {
    long kernel, stride, pad;
};

long oracle_size(struct oracle_map map);

/* ---- operations ---------------------------------------------------------------------------- */

/* Places that a window takes along one side of a map. Pooling may round up. */
long oracle_places(long size, struct oracle_window window, int round_up);

/* y = cross-correlation of x with w (out.c x in.c x kernel x kernel), plus b (NULL: none). */
void oracle_conv2d(double *y, struct oracle_map out, const double *x, struct oracle_map in,
                   const double *w, const double *b, struct oracle_window window);
void oracle_conv2d_dw(double *dw, const double *dy, struct oracle_map out, const double *x,
                      struct oracle_map in, struct oracle_window window);
void oracle_conv2d_db(double *db, const double *dy, struct oracle_map out);
void oracle_conv2d_dx(double *dx, struct oracle_map in, const double *dy, struct oracle_map out,
                      const double *w, struct oracle_window window);

/* y = w x + b, w being out.c x (elements of an image of x). */
void oracle_dense(double *y, struct oracle_map out, const double *x, struct oracle_map in,
                  const double *w, const double *b);
void oracle_dense_dw(double *dw, const double *dy, struct oracle_map out, const double *x,
                     struct oracle_map in);
void oracle_dense_dx(double *dx, struct oracle_map in, const double *dy, struct oracle_map out,
                     const double *w);

/* The first largest element of each window in row order; any NaN is larger, and of several NaNs
 * the last one counts. Its place gets the gradient. */
void oracle_max_pool(double *y, struct oracle_map out, const double *x, struct oracle_map in,
                     struct oracle_window window);
void oracle_max_pool_dx(double *dx, const double *x, struct oracle_map in, const double *dy,
                        struct oracle_map out, struct oracle_window window);

/* Sums are divided by the window's area inside the padded map, or by its real pixels. */
void oracle_average_pool(double *y, struct oracle_map out, const double *x, struct oracle_map in,
                         struct oracle_window window, int exclude_padding);
void oracle_average_pool_dx(double *dx, struct oracle_map in, const double *dy,
                            struct oracle_map out, struct oracle_window window,
                            int exclude_padding);

void oracle_global_average(double *y, const double *x, struct oracle_map in);
void oracle_global_average_dx(double *dx, const double *dy, struct oracle_map in);

void oracle_relu(double *y, const double *x, long count);
void oracle_relu_dx(double *dx, const double *x, const double *dy, long count);

/* Also its own gradient. keep: 1 or 0 for each element. */
void oracle_dropout(double *y, const double *x, const unsigned char *keep, double drop, long count);

/* What dropout layer k of a network keeps: image i is image `position + i` of training step
 * `step`. */
void oracle_mask(unsigned char *keep, struct oracle_map map, double drop, uint32_t seed, uint32_t k,
                 int64_t step, int64_t position);
void oracle_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

/* The mean negative log-likelihood of n labels. dx may be NULL. */
double oracle_loss(double *dx, const double *x, const int32_t *labels, long n, long classes);

struct oracle_sgd {
    double rate, momentum, decay;
    int nesterov;
    double rate_multiplier, decay_multiplier;
};

/* One update of parameters p and momentum m by the gradient g. */
void oracle_update(double *p, double *m, const double *g, long count, struct oracle_sgd sgd);

/* ---- a stack of layers --------------------------------------------------------------------- */

enum oracle_kind {
    ORACLE_CONV,
    ORACLE_RELU,
    ORACLE_MAX_POOL,
    ORACLE_AVERAGE_POOL,
    ORACLE_GLOBAL_AVERAGE,
    ORACLE_DROPOUT,
    ORACLE_DENSE,
    ORACLE_LOSS
};

struct oracle_layer {
    enum oracle_kind kind;
    long filters;                /* of a convolution; units of a dense layer */
    struct oracle_window window; /* written out in full: nothing means anything else */
    int no_bias, round_up, exclude_padding;
    double drop;
};

struct oracle_stage {
    struct oracle_layer layer;
    struct oracle_map in, out;
    long weights, biases;    /* how many */
    double *w, *b, *dw, *db; /* b and db NULL without bias */
    unsigned char *keep;     /* of a dropout */
    double *y, *dy;
};

struct oracle {
    int count;
    struct oracle_stage *stages;
    struct oracle_map input, scores; /* scores: what comes out before a loss */
    double *x, *dx;
    double loss;
};

/* All parameters, masks and inputs are zero until the caller fills them. Never fails: it aborts. */
struct oracle *oracle_create(const struct oracle_layer *layers, int count, struct oracle_map input);
void oracle_destroy(struct oracle *oracle);

/* Forward fills every y. Backward starts at the labels of a loss or at the gradient of the
 * scores and fills every dy, dw, db and dx. */
void oracle_forward(struct oracle *oracle);
void oracle_backward(struct oracle *oracle, const int32_t *labels, const double *score_gradient);
const double *oracle_scores(const struct oracle *oracle);

/* How far, in units of its map's root mean square, the nearest input of a ReLU is from 0, or the
 * nearest second largest element of a pooling window from the largest. Below the rounding errors
 * of fp32 the library may rightly decide otherwise. */
double oracle_clearance(const struct oracle *oracle);

/* ---- data ---------------------------------------------------------------------------------- */

/* Floats of U(mean - spread, mean + spread), the same for the same seed. */
void oracle_fill(float *x, long count, double mean, double spread, uint64_t seed);
uint64_t oracle_random(uint64_t *state);

/* Root mean square of got - want, over that of want. Infinite if want is all zero: a comparison
 * of zeros with zeros shows nothing. */
double oracle_error(const float *got, const double *want, long count);

#endif
