/* SPDX-License-Identifier: MIT */
/* Times forward passes of a preset on random images, floats as other runtimes take them; the line
 * is JSON: milliseconds at a batch of 1 and of 8 (latency), and of --batch (throughput),
 * medians. */
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    LATENCY_REPETITIONS = 400,
    WARM_UP = 10
};

/* Random images, and the same as floats. */
struct images {
    struct bench_batch batch;
    float *floats;
};

static nin_status make_images(struct images *images, nin_network *network, int32_t count)
{
    if (!bench_make_batch(&images->batch, network, count))
        return NIN_OUT_OF_MEMORY;
    images->floats = malloc(images->batch.pixels * sizeof *images->floats);
    if (images->floats == NULL)
        return NIN_OUT_OF_MEMORY;
    for (size_t i = 0; i < images->batch.pixels; i++)
        images->floats[i] = (float)images->batch.images[i] / 255.0f;
    return NIN_OK;
}

static void free_images(struct images *images)
{
    bench_free_batch(&images->batch);
    free(images->floats);
}

static nin_status time_forward(double *times, nin_plan *plan, const float *floats, int32_t count,
                               int32_t repetitions)
{
    nin_status status = NIN_OK;

    for (int32_t i = -WARM_UP; status == NIN_OK && i < repetitions; i++) {
        double start = bench_now_ms();

        status = nin_plan_forward(
            plan, NIN_DESC(nin_batch_desc, .images = floats, .dtype = NIN_F32, .count = count));
        if (i >= 0)
            times[i] = bench_now_ms() - start;
    }
    return status;
}

static nin_status time_batch(double *median, nin_network *network,
                             const struct bench_options *options, int32_t count,
                             int32_t repetitions)
{
    double *times = malloc((size_t)repetitions * sizeof *times);
    struct images images = {0};
    nin_plan *plan = NULL;
    nin_status status = times != NULL ? make_images(&images, network, count) : NIN_OUT_OF_MEMORY;

    if (status == NIN_OK)
        status = nin_plan_create(&plan, network,
                                 NIN_DESC(nin_plan_desc, .max_batch = count,
                                          .precision = options->precision,
                                          .algorithm = options->algorithm));
    if (status == NIN_OK)
        status = time_forward(times, plan, images.floats, count, repetitions);
    if (status == NIN_OK)
        *median = bench_median(times, repetitions);
    nin_plan_destroy(plan);
    free_images(&images);
    free(times);
    return status;
}

static void print(const double ms[3], nin_context *context, const struct bench_options *options)
{
    int32_t threads = nin_context_threads(context);
    double peak = bench_peak_gflops(threads);

    bench_print_head("infer", options, threads, peak);
    printf(", \"batch1_ms\": %.3f, \"batch8_ms\": %.3f, \"batch_ms\": %.2f, "
           "\"images_per_s\": %.1f, \"gflops\": %.1f}\n",
           ms[0], ms[1], ms[2], 1e3 * options->batch / ms[2],
           2.0 * bench_million_macs(options->preset) * options->batch / ms[2]);
}

int main(int argc, char **argv)
{
    struct bench_options options = {.preset = "mnist", .batch = 128, .repetitions = 30};
    nin_context *context = NULL;
    nin_network *network = NULL;
    double ms[3] = {0};
    nin_status status;

    if (!bench_parse(&options, argc, argv))
        return 2;
    status = nin_context_create(
        &context, NIN_DESC(nin_context_desc, .device = options.device, .threads = options.threads));
    if (status == NIN_OK)
        status = nin_network_create_preset(&network, context, options.preset);
    if (status == NIN_OK)
        status = time_batch(&ms[0], network, &options, 1, LATENCY_REPETITIONS);
    if (status == NIN_OK)
        status = time_batch(&ms[1], network, &options, 8, LATENCY_REPETITIONS / 4);
    if (status == NIN_OK)
        status = time_batch(&ms[2], network, &options, options.batch, options.repetitions);
    if (status == NIN_OK)
        print(ms, context, &options);
    bench_complain(status);
    nin_network_destroy(network);
    nin_context_destroy(context);
    return status == NIN_OK ? 0 : 1;
}
