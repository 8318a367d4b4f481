/* SPDX-License-Identifier: MIT */
/* Times training steps of a preset on random images. The last line is JSON:
 *
 *     bench/step [--preset mnist] [--batch 128] [--threads 0] [--steps 20]
 *
 * step_ms is the median over the steps, after three that are not counted. */
#include <nin/nin.h>

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum {
    WARM_UP = 3,
    CHANNELS = 1,
    SIZE = 28,
    CLASSES = 10
};

/* A training step is three times a forward pass: 6 x 50.7 million multiplications with additions an
 * image for the "mnist" preset. */
static const double MNIST_GFLOP_AN_IMAGE = 6 * 50.699712e-3;

struct options {
    const char *preset;
    int32_t batch, threads, steps;
};

struct objects {
    nin_context *context;
    nin_network *network;
    nin_plan *plan;
    nin_optimizer *sgd;
};

static int parse(struct options *options, int argc, char **argv)
{
    static const struct option table[] = {{"preset", required_argument, NULL, 'p'},
                                          {"batch", required_argument, NULL, 'b'},
                                          {"threads", required_argument, NULL, 't'},
                                          {"steps", required_argument, NULL, 's'},
                                          {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1)
        switch (option) {
        case 'p':
            options->preset = optarg;
            break;
        case 'b':
            options->batch = atoi(optarg);
            break;
        case 't':
            options->threads = atoi(optarg);
            break;
        case 's':
            options->steps = atoi(optarg);
            break;
        default:
            return 0;
        }
    return options->batch > 0 && options->steps > 0 && optind == argc;
}

static nin_status make(struct objects *objects, const struct options *options)
{
    nin_status status = nin_context_create(&objects->context,
                                           NIN_DESC(nin_context_desc, .threads = options->threads));

    if (status == NIN_OK)
        status = nin_network_create_preset(&objects->network, objects->context, options->preset);
    if (status == NIN_OK)
        status = nin_network_initialise(objects->network, NULL, 1);
    if (status == NIN_OK)
        status = nin_plan_create(
            &objects->plan, objects->network,
            NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = options->batch));
    if (status == NIN_OK)
        status = nin_optimizer_create_sgd(&objects->sgd, objects->network,
                                          NIN_DESC(nin_sgd_desc, .momentum = 0.9));
    return status;
}

static double now_ms(void)
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

static nin_status time_steps(double *median, const struct objects *objects,
                             const struct options *options)
{
    int32_t count = options->batch;
    unsigned char *images = malloc((size_t)count * CHANNELS * SIZE * SIZE);
    int32_t *labels = malloc((size_t)count * sizeof *labels);
    double *times = malloc((size_t)options->steps * sizeof *times);
    nin_status status = images && labels && times ? NIN_OK : NIN_OUT_OF_MEMORY;

    for (int32_t i = 0; status == NIN_OK && i < count * CHANNELS * SIZE * SIZE; i++)
        images[i] = (unsigned char)rand();
    for (int32_t i = 0; status == NIN_OK && i < count; i++)
        labels[i] = i % CLASSES;
    for (int32_t step = -WARM_UP; status == NIN_OK && step < options->steps; step++) {
        double start = now_ms();

        status = nin_plan_step(NULL, objects->plan, objects->sgd,
                               NIN_DESC(nin_batch_desc, .images = images, .dtype = NIN_U8,
                                        .count = count, .step = step + WARM_UP),
                               labels);
        if (step >= 0)
            times[step] = now_ms() - start;
    }
    if (status == NIN_OK) {
        qsort(times, (size_t)options->steps, sizeof *times, by_value);
        *median = times[options->steps / 2];
    }
    free(images);
    free(labels);
    free(times);
    return status;
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

static void print(double step_ms, const struct objects *objects, const struct options *options)
{
    double gflop = MNIST_GFLOP_AN_IMAGE * options->batch;
    struct rusage usage;
    char processor[128];

    getrusage(RUSAGE_SELF, &usage);
    processor_name(processor, sizeof processor);
    printf("{\"bench\": \"step\", \"version\": \"%s\", \"preset\": \"%s\", \"batch\": %d, "
           "\"threads\": %d, \"step_ms\": %.2f, \"images_per_s\": %.1f, \"gflops\": %.1f, "
           "\"peak_rss_mb\": %.1f, \"processor\": \"%s\"}\n",
           nin_version_text(), options->preset, options->batch,
           nin_context_threads(objects->context), step_ms, 1e3 * options->batch / step_ms,
           1e3 * gflop / step_ms, (double)usage.ru_maxrss / 1024.0, processor);
}

int main(int argc, char **argv)
{
    struct options options = {"mnist", 128, 0, 20};
    struct objects objects = {0};
    double median = 0.0;
    nin_status status;

    if (!parse(&options, argc, argv)) {
        fprintf(stderr, "usage: %s [--preset NAME] [--batch N] [--threads N] [--steps N]\n",
                argv[0]);
        return 2;
    }
    status = make(&objects, &options);
    if (status == NIN_OK)
        status = time_steps(&median, &objects, &options);
    if (status == NIN_OK)
        print(median, &objects, &options);
    else
        fprintf(stderr, "%s\n", nin_last_error());
    nin_optimizer_destroy(objects.sgd);
    nin_plan_destroy(objects.plan);
    nin_network_destroy(objects.network);
    nin_context_destroy(objects.context);
    return status == NIN_OK ? 0 : 1;
}
