/* SPDX-License-Identifier: MIT */
/* Times epochs of a preset on random images, `steps` batches each; the line is JSON. step_ms is
 * what a step of an epoch takes, the median over five epochs after two that are not counted: what
 * bench/step says, but for the wait at each step where a device takes them by itself. */
#include "measure.h"

#include <stdio.h>

enum {
    WARM_UP = 2,
    EPOCHS = 5
};

static nin_status make_samples(nin_dataset **out, struct bench_batch *samples,
                               const struct bench_training *training, int32_t count)
{
    nin_layer_info info = {.struct_size = sizeof info};
    nin_status status = nin_layer_describe(&info, nin_network_layer(training->network, 0));

    if (status == NIN_OK && !bench_make_batch(samples, training->network, count))
        status = NIN_OUT_OF_MEMORY;
    if (status == NIN_OK)
        status = nin_dataset_create_arrays(
            out,
            NIN_DESC(nin_arrays_desc, .images = samples->images, .dtype = NIN_U8,
                     .labels = samples->labels, .count = count, .channels = (int32_t)info.input[0],
                     .height = (int32_t)info.input[1], .width = (int32_t)info.input[2]));
    return status;
}

static nin_status time_epochs(double *median, nin_trainer *trainer)
{
    double times[EPOCHS];
    nin_status status = NIN_OK;

    for (int i = 0; status == NIN_OK && i < WARM_UP + EPOCHS; i++) {
        double start = bench_now_ms();

        status = nin_trainer_epoch(NULL, trainer);
        if (i >= WARM_UP)
            times[i - WARM_UP] = bench_now_ms() - start;
    }
    if (status == NIN_OK)
        *median = bench_median(times, EPOCHS);
    return status;
}

static void print(double step_ms, nin_context *context, const struct bench_options *options)
{
    int32_t threads = nin_context_threads(context);

    bench_print_head("epoch", options, threads, bench_peak_gflops(threads));
    printf(", \"steps\": %d, \"step_ms\": %.3f, \"images_per_s\": %.1f}\n", options->repetitions,
           step_ms, 1e3 * options->batch / step_ms);
}

static nin_status measure(struct bench_training *training, const struct bench_options *options)
{
    struct bench_batch samples = {0};
    nin_dataset *dataset = NULL;
    nin_trainer *trainer = NULL;
    double median = 0.0;
    nin_status status = NIN_OUT_OF_MEMORY;

    if (options->batch <= INT32_MAX / options->repetitions)
        status = make_samples(&dataset, &samples, training, options->batch * options->repetitions);
    if (status == NIN_OK)
        status = nin_trainer_create(&trainer, training->plan, training->sgd, NULL, dataset, NULL);
    if (status == NIN_OK)
        status = time_epochs(&median, trainer);
    if (status == NIN_OK)
        print(median / options->repetitions, training->context, options);
    nin_trainer_destroy(trainer);
    nin_dataset_destroy(dataset);
    bench_free_batch(&samples);
    return status;
}

int main(int argc, char **argv)
{
    return bench_run(measure, argc, argv);
}
