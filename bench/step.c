/* SPDX-License-Identifier: MIT */
/* Times training steps of a preset on random images; the line is JSON. step_ms is the median over
 * the steps, after three that are not counted; gflops counts direct convolution with its padding,
 * whatever was computed; of_peak is that over what the multiply-add units can do. */
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    WARM_UP = 3
};

static nin_status time_steps(double *median, struct bench_training *training, int32_t steps)
{
    double *times = malloc((size_t)(WARM_UP + steps) * sizeof *times);
    nin_status status = times == NULL ? NIN_OUT_OF_MEMORY : NIN_OK;

    for (int32_t i = 0; status == NIN_OK && i < WARM_UP + steps; i++)
        status = bench_time_step(&times[i], training);
    if (status == NIN_OK)
        *median = bench_median(times + WARM_UP, steps);
    free(times);
    return status;
}

static void print(double step_ms, nin_context *context, const struct bench_options *options)
{
    int32_t threads = nin_context_threads(context);
    double peak = bench_peak_gflops(threads);
    double gflops = 1e3 * bench_step_gflop(options) / step_ms;

    bench_print_head("step", options, threads, peak);
    printf(", \"step_ms\": %.3f, \"images_per_s\": %.1f, \"gflops\": %.1f, \"of_peak\": %.3f}\n",
           step_ms, 1e3 * options->batch / step_ms, gflops, peak > 0.0 ? gflops / peak : 0.0);
}

static nin_status measure(struct bench_training *training, const struct bench_options *options)
{
    double median = 0.0;
    nin_status status = time_steps(&median, training, options->repetitions);

    if (status == NIN_OK)
        print(median, training->context, options);
    return status;
}

int main(int argc, char **argv)
{
    return bench_run(measure, argc, argv);
}
