/* SPDX-License-Identifier: MIT */
/* Times training steps of a preset on random images; the line is JSON. step_ms is the median over the
 * steps, after three that are not counted; gflops counts direct convolution with its padding, whatever
 * was computed; of_peak is that over what the multiply-add units can do. */
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    WARM_UP = 3
};

struct objects {
    nin_context *context;
    nin_network *network;
    nin_plan *plan;
    nin_optimizer *sgd;
    struct bench_batch batch;
};

static nin_status make(struct objects *o, const struct bench_options *options)
{
    nin_status status =
        nin_context_create(&o->context, NIN_DESC(nin_context_desc, .threads = options->threads));

    if (status == NIN_OK)
        status = nin_network_create_preset(&o->network, o->context, options->preset);
    if (status == NIN_OK) /* He: a start from which nothing dies away */
        status =
            nin_network_initialise(o->network, NIN_DESC(nin_init_desc, .weight_scale = 0.0), 1);
    if (status == NIN_OK)
        status = nin_plan_create(
            &o->plan, o->network,
            NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = options->batch,
                     .precision = options->precision, .algorithm = options->algorithm));
    if (status == NIN_OK)
        status = nin_optimizer_create_sgd(&o->sgd, o->network,
                                          NIN_DESC(nin_sgd_desc, .rate = 1e-3, .momentum = 0.9));
    if (status == NIN_OK && !bench_make_batch(&o->batch, o->network, options->batch))
        status = NIN_OUT_OF_MEMORY;
    return status;
}

static nin_status time_steps(double *median, struct objects *o, const struct bench_options *options)
{
    double *times = malloc((size_t)options->repetitions * sizeof *times);
    nin_status status = times == NULL ? NIN_OUT_OF_MEMORY : NIN_OK;

    for (int32_t step = -WARM_UP; status == NIN_OK && step < options->repetitions; step++) {
        double start = bench_now_ms();

        status = nin_plan_step(NULL, o->plan, o->sgd,
                               NIN_DESC(nin_batch_desc, .images = o->batch.images, .dtype = NIN_U8,
                                        .count = options->batch, .step = step + WARM_UP),
                               o->batch.labels);
        if (step >= 0)
            times[step] = bench_now_ms() - start;
    }
    if (status == NIN_OK)
        *median = bench_median(times, options->repetitions);
    free(times);
    return status;
}

static void print(double step_ms, const struct objects *o, const struct bench_options *options)
{
    int32_t threads = nin_context_threads(o->context);
    double peak = bench_peak_gflops(threads);
    double gflops = 6e-3 * bench_million_macs(options->preset) * options->batch / step_ms * 1e3;

    bench_print_head("step", options, threads, peak);
    printf(", \"step_ms\": %.2f, \"images_per_s\": %.1f, \"gflops\": %.1f, \"of_peak\": %.3f}\n",
           step_ms, 1e3 * options->batch / step_ms, gflops, peak > 0.0 ? gflops / peak : 0.0);
}

int main(int argc, char **argv)
{
    struct bench_options options = {.preset = "mnist", .batch = 128, .repetitions = 20};
    struct objects objects = {0};
    double median = 0.0;
    nin_status status;

    if (!bench_parse(&options, argc, argv))
        return 2;
    status = make(&objects, &options);
    if (status == NIN_OK)
        status = time_steps(&median, &objects, &options);
    if (status == NIN_OK)
        print(median, &objects, &options);
    else
        fprintf(stderr, "%s\n", nin_last_error());
    bench_free_batch(&objects.batch);
    nin_optimizer_destroy(objects.sgd);
    nin_plan_destroy(objects.plan);
    nin_network_destroy(objects.network);
    nin_context_destroy(objects.context);
    return status == NIN_OK ? 0 : 1;
}
