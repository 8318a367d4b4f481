/* SPDX-License-Identifier: MIT */
#include "measure.h"

#include "cpu/cpu.h"
#include "cpu/peak.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static const char *const algorithms[] = {"auto", "gemm", "direct", "winograd", "fft"};
static const char *const precisions[] = {"fp32", "bf16", "bf16x3", "tf32"};
static const char *const devices[] = {"cpu", "cuda"};

/* ---- options ------------------------------------------------------------------------------ */

static int find_name(const char *name, const char *const *names, int count)
{
    for (int i = 0; i < count; i++)
        if (strcmp(name, names[i]) == 0)
            return i;
    return -1;
}

/* A whole number in decimal from 0 on; -1 if it is none, or larger than any that has a use here. */
static int32_t read_number(const char *text)
{
    enum {
        MOST = 1 << 24
    };
    char *end;
    long value = strtol(text, &end, 10);

    return end != text && *end == '\0' && value >= 0 && value <= MOST ? (int32_t)value : -1;
}

static int read_option(struct bench_options *options, int option, const char *value)
{
    int found = 0;

    switch (option) {
    case 'p':
        options->preset = value;
        break;
    case 'd':
        found = find_name(value, devices, 2);
        options->device = found == 1 ? NIN_DEVICE_CUDA : NIN_DEVICE_CPU;
        break;
    case 'b':
        found = options->batch = read_number(value);
        break;
    case 't':
        found = options->threads = read_number(value);
        break;
    case 's':
        found = options->repetitions = read_number(value);
        break;
    case 'a':
        found = find_name(value, algorithms, 5);
        options->algorithm = (nin_algorithm)found;
        break;
    case 'q':
        found = find_name(value, precisions, 4);
        options->precision = (nin_precision)found;
        break;
    default:
        found = -1;
    }
    return found >= 0;
}

int bench_parse(struct bench_options *options, int argc, char **argv)
{
    static const struct option table[] = {
        {"preset", required_argument, NULL, 'p'},    {"device", required_argument, NULL, 'd'},
        {"batch", required_argument, NULL, 'b'},     {"threads", required_argument, NULL, 't'},
        {"steps", required_argument, NULL, 's'},     {"algorithm", required_argument, NULL, 'a'},
        {"precision", required_argument, NULL, 'q'}, {NULL, 0, NULL, 0}};
    int option, good = 1;

    options->device = NIN_DEVICE_CPU;
    while (good && (option = getopt_long(argc, argv, "", table, NULL)) != -1)
        good = read_option(options, option, optarg);
    good = good && options->batch > 0 && options->repetitions > 0 && optind == argc;
    if (!good)
        fprintf(stderr,
                "usage: %s [--preset mnist|cifar10] [--device cpu|cuda] [--batch N] [--threads N]\n"
                "       [--steps N] [--algorithm auto|gemm|direct|winograd|fft]\n"
                "       [--precision fp32|bf16|bf16x3|tf32]\n",
                argv[0]);
    return good;
}

void bench_complain(nin_status status)
{
    const char *sentence = nin_last_error();

    if (status != NIN_OK)
        fprintf(stderr, "%s\n", *sentence != '\0' ? sentence : nin_status_text(status));
}

/* ---- clock -------------------------------------------------------------------------------- */

double bench_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double bench_median(double *values, int32_t count)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return values[count / 2];
}

double bench_million_macs(const char *preset)
{
    if (strcmp(preset, "mnist") == 0)
        return 50.699712;
    if (strcmp(preset, "cifar10") == 0)
        return 222.486528;
    return 0.0;
}

double bench_step_gflop(const struct bench_options *options)
{
    return 3 * 2e-3 * bench_million_macs(options->preset) * options->batch;
}

/* ---- the machine -------------------------------------------------------------------------- */

double bench_peak_gflops(int32_t threads)
{
    const struct cpu_kernels *kernels;
    struct cpu_workers *workers;
    double peak;

    if (nin__cpu_choose_kernels(&kernels, NIN_INSTRUCTIONS_AUTO) != NIN_OK ||
        nin__cpu_workers_create(&workers, threads) != NIN_OK)
        return 0.0;
    peak = nin__cpu_measure_peak(workers, kernels);
    nin__cpu_workers_destroy(workers);
    return 2e-9 * peak;
}

/* "model name" of /proc/cpuinfo, without its line end. */
static void processor_name(char *name, size_t size)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];

    snprintf(name, size, "unknown");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':') != NULL) {
            snprintf(name, size, "%s", strchr(line, ':') + 2);
            name[strcspn(name, "\n")] = '\0';
            break;
        }
    if (file != NULL)
        fclose(file);
}

void bench_print_head(const char *name, const struct bench_options *options, int32_t threads,
                      double peak)
{
    struct rusage usage;
    char processor[128];

    getrusage(RUSAGE_SELF, &usage);
    processor_name(processor, sizeof processor);
    printf("{\"bench\": \"%s\", \"version\": \"%s\", \"preset\": \"%s\", \"device\": \"%s\", "
           "\"batch\": %d, \"threads\": %d, \"precision\": \"%s\", \"algorithm\": \"%s\", "
           "\"peak_rss_mb\": %.1f, \"processor\": \"%s\"",
           name, nin_version_text(), options->preset, devices[options->device == NIN_DEVICE_CUDA],
           options->batch, threads, precisions[options->precision], algorithms[options->algorithm],
           (double)usage.ru_maxrss / 1024.0, processor);
    if (options->device != NIN_DEVICE_CUDA)
        printf(", \"peak_gflops\": %.1f", peak);
}

/* ---- data --------------------------------------------------------------------------------- */

int bench_make_batch(struct bench_batch *batch, nin_network *network, int32_t count)
{
    nin_layer_info info = {.struct_size = sizeof info};
    size_t pixels;

    if (nin_layer_describe(&info, nin_network_layer(network, 0)) != NIN_OK)
        return 0;
    pixels = (size_t)(info.input[0] * info.input[1] * info.input[2]) * (size_t)count;
    batch->pixels = pixels;
    batch->images = malloc(pixels);
    batch->labels = malloc((size_t)count * sizeof *batch->labels);
    if (batch->images == NULL || batch->labels == NULL)
        return 0;
    for (size_t i = 0; i < pixels; i++)
        batch->images[i] = (unsigned char)rand();
    for (int32_t i = 0; i < count; i++)
        batch->labels[i] = i % 10;
    return 1;
}

void bench_free_batch(struct bench_batch *batch)
{
    free(batch->images);
    free(batch->labels);
}

/* ---- training ----------------------------------------------------------------------------- */

nin_status bench_make_training(struct bench_training *t, const struct bench_options *options)
{
    nin_status status =
        nin_context_create(&t->context, NIN_DESC(nin_context_desc, .device = options->device,
                                                 .threads = options->threads));

    t->count = options->batch;
    if (status == NIN_OK)
        status = nin_network_create_preset(&t->network, t->context, options->preset);
    if (status == NIN_OK) /* He: a start from which nothing dies away */
        status =
            nin_network_initialise(t->network, NIN_DESC(nin_init_desc, .weight_scale = 0.0), 1);
    if (status == NIN_OK)
        status = nin_plan_create(
            &t->plan, t->network,
            NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = options->batch,
                     .precision = options->precision, .algorithm = options->algorithm));
    if (status == NIN_OK)
        status = nin_optimizer_create_sgd(&t->sgd, t->network,
                                          NIN_DESC(nin_sgd_desc, .rate = 1e-3, .momentum = 0.9));
    if (status == NIN_OK && !bench_make_batch(&t->batch, t->network, options->batch))
        status = NIN_OUT_OF_MEMORY;
    return status;
}

void bench_free_training(struct bench_training *t)
{
    bench_free_batch(&t->batch);
    nin_optimizer_destroy(t->sgd);
    nin_plan_destroy(t->plan);
    nin_network_destroy(t->network);
    nin_context_destroy(t->context);
}

nin_status bench_time_step(double *ms, struct bench_training *t)
{
    double start = bench_now_ms();
    nin_status status =
        nin_plan_step(NULL, t->plan, t->sgd,
                      NIN_DESC(nin_batch_desc, .images = t->batch.images, .dtype = NIN_U8,
                               .count = t->count, .step = t->steps++),
                      t->batch.labels);

    *ms = bench_now_ms() - start;
    return status;
}

int bench_run(bench_measure *measure, int argc, char **argv)
{
    struct bench_options options = {.preset = "mnist", .batch = 128, .repetitions = 20};
    struct bench_training training = {0};
    nin_status status;

    if (!bench_parse(&options, argc, argv))
        return 2;
    status = bench_make_training(&training, &options);
    if (status == NIN_OK)
        status = measure(&training, &options);
    bench_complain(status);
    bench_free_training(&training);
    return status == NIN_OK ? 0 : 1;
}
