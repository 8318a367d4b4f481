/* SPDX-License-Identifier: MIT */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

/* What every benchmark needs: a clock, medians, the machine, and a network to be timed. */

#include <nin/nin.h>

struct bench_options {
    const char *preset;
    nin_device device; /* the CPU, if it is none */
    int32_t batch, threads, repetitions;
    nin_precision precision;
    nin_algorithm algorithm;
};

/* Reads --preset, --device, --batch, --threads, --steps, --precision and --algorithm over the given
 * defaults. 0 after a usage on stderr. */
int bench_parse(struct bench_options *options, int argc, char **argv);

/* The library's sentence on stderr, or the status where it has none: what failed was our own. */
void bench_complain(nin_status status);

double bench_now_ms(void);
double bench_median(double *values, int32_t count);

/* Multiply-adds of one image's forward pass, in millions, padding counted; 0 for an unknown
 * preset. */
double bench_million_macs(const char *preset);

/* GFLOP of a training step of a batch likewise, counting three products of the size of the forward
 * pass. */
double bench_step_gflop(const struct bench_options *options);

/* What the processor's single-precision multiply-add units do on so many threads at once, in
 * GFLOP/s, by the instruction set that the library chooses: the best of some short runs. */
double bench_peak_gflops(int32_t threads);

/* The beginning of a line of results: {"bench": NAME, ... up to and with the machine, and on a CPU
 * its peak. */
void bench_print_head(const char *name, const struct bench_options *options, int32_t threads,
                      double peak);

/* A batch of random pixels and labels. */
struct bench_batch {
    size_t pixels; /* of all images */
    unsigned char *images;
    int32_t *labels;
};

int bench_make_batch(struct bench_batch *batch, nin_network *network, int32_t count);
void bench_free_batch(struct bench_batch *batch);

/* A preset that is trained on one batch over and over. */
struct bench_training {
    nin_context *context;
    nin_network *network;
    nin_plan *plan;
    nin_optimizer *sgd;
    struct bench_batch batch;
    int32_t count; /* images of the batch */
    int64_t steps; /* so far */
};

/* On options->threads. Failures leave what is to be freed. */
nin_status bench_make_training(struct bench_training *training,
                               const struct bench_options *options);
void bench_free_training(struct bench_training *training);

/* What one step takes, in ms. */
nin_status bench_time_step(double *ms, struct bench_training *training);

/* The main function of a program that measures such a preset, and prints what it has found: 0, 1
 * after a sentence on stderr, 2 after a usage. */
typedef nin_status bench_measure(struct bench_training *training,
                                 const struct bench_options *options);
int bench_run(bench_measure *measure, int argc, char **argv);

#endif
