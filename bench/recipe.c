/* SPDX-License-Identifier: MIT */
/* Looks for a recipe: trains the preset of MNIST on all but the last 10,000 training images and
 * tests it with these, so that nobody chooses a rate by the test set. A line for each epoch on
 * stderr; the line on stdout is JSON. The schedule is examples/mnist_nin's: a warm-up, then half a
 * cosine to zero. */
#include "measure.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define TRY(call)                                                                                  \
    do {                                                                                           \
        nin_status status_ = (call);                                                               \
        if (status_ != NIN_OK)                                                                     \
            return status_;                                                                        \
    } while (0)

enum {
    HELD_OUT = 10000,
    TEST_BATCH = 250,
    MAX_EPOCHS = 1000
};

struct values {
    const char *data;
    double rate, decay, warm_up, momentum;
    int32_t epochs, batch, threads, seed;
};

struct search {
    nin_context *context;
    nin_dataset *all, *train, *held_out;
    nin_network *network;
    nin_plan *train_plan, *test_plan;
    nin_optimizer *sgd;
    nin_scheduler *cosine;
    nin_trainer *trainer;
    unsigned char *images;
    int32_t *labels;
    double started;
    double errors[MAX_EPOCHS]; /* in percent */
    double losses[MAX_EPOCHS]; /* of the held out images: steadier than a count of errors */
    int32_t done;              /* epochs */
};

/* ---- the command line ---------------------------------------------------------------------- */

static int read_number(double *out, const char *text, double most)
{
    char *end;
    double number = strtod(text, &end);

    if (end == text || *end != '\0' || !(number >= 0.0 && number <= most))
        return 0;
    *out = number;
    return 1;
}

static int read_count(int32_t *out, const char *text, int32_t most)
{
    double number = 0.0;

    if (!read_number(&number, text, most) || number != floor(number))
        return 0;
    *out = (int32_t)number;
    return 1;
}

static int read_option(struct values *v, int option, const char *text)
{
    switch (option) {
    case 'r':
        return read_number(&v->rate, text, 1e3) && v->rate > 0.0;
    case 'd':
        return read_number(&v->decay, text, 1.0);
    case 'w':
        return read_number(&v->warm_up, text, 1.0);
    case 'm':
        return read_number(&v->momentum, text, 1.0);
    case 'e':
        return read_count(&v->epochs, text, MAX_EPOCHS) && v->epochs > 0;
    case 'b':
        return read_count(&v->batch, text, HELD_OUT) && v->batch > 0;
    case 't':
        return read_count(&v->threads, text, 1024);
    case 's':
        return read_count(&v->seed, text, INT32_MAX);
    case 'D':
        v->data = text;
        return 1;
    default:
        return 0;
    }
}

static int parse(struct values *v, int argc, char **argv)
{
    static const struct option table[] = {
        {"rate", required_argument, NULL, 'r'},    {"decay", required_argument, NULL, 'd'},
        {"warm-up", required_argument, NULL, 'w'}, {"momentum", required_argument, NULL, 'm'},
        {"epochs", required_argument, NULL, 'e'},  {"batch", required_argument, NULL, 'b'},
        {"threads", required_argument, NULL, 't'}, {"seed", required_argument, NULL, 's'},
        {"data", required_argument, NULL, 'D'},    {NULL, 0, NULL, 0}};
    int option, good = 1;

    while (good && (option = getopt_long(argc, argv, "", table, NULL)) != -1)
        good = read_option(v, option, optarg);
    good = good && optind == argc;
    if (!good)
        fprintf(stderr,
                "usage: %s [--rate R, above 0, at most 1000] [--decay D, at most 1]\n"
                "       [--warm-up SHARE of the steps, at most 1] [--momentum M, below 1]\n"
                "       [--epochs N, 1 to %d] [--batch N, 1 to %d] [--threads N, 0 for all]\n"
                "       [--seed N] [--data DIR]\n",
                argv[0], MAX_EPOCHS, HELD_OUT);
    return good;
}

/* ---- what is made -------------------------------------------------------------------------- */

/* Splits the training images where the held out ones begin. */
static nin_status make_halves(struct search *s, const char *data)
{
    nin_dataset_info info = {.struct_size = sizeof info};
    nin_arrays_desc desc = {.struct_size = sizeof desc};
    size_t image;

    TRY(nin_dataset_create_mnist(&s->all, data, "train"));
    TRY(nin_dataset_describe(&info, s->all));
    if (info.count <= HELD_OUT) {
        fprintf(stderr, "'%s' has %lld images: none are left when %d are held out\n", data,
                (long long)info.count, HELD_OUT);
        return NIN_INVALID_ARGUMENT;
    }
    image = (size_t)info.channels * (size_t)info.height * (size_t)info.width;
    s->images = malloc((size_t)info.count * image);
    s->labels = malloc((size_t)info.count * sizeof *s->labels);
    if (s->images == NULL || s->labels == NULL) {
        fprintf(stderr, "no memory for the images\n");
        return NIN_OUT_OF_MEMORY;
    }
    for (int64_t i = 0; i < info.count; i++)
        TRY(nin_dataset_read(s->all, s->images + (size_t)i * image, &s->labels[i], i));
    desc.channels = info.channels;
    desc.height = info.height;
    desc.width = info.width;
    desc.dtype = info.dtype;
    desc.images = s->images;
    desc.labels = s->labels;
    desc.count = info.count - HELD_OUT;
    TRY(nin_dataset_create_arrays(&s->train, &desc));
    desc.images = s->images + (size_t)desc.count * image;
    desc.labels = s->labels + desc.count;
    desc.count = HELD_OUT;
    return nin_dataset_create_arrays(&s->held_out, &desc);
}

static nin_status make_network(struct search *s, const struct values *v)
{
    TRY(nin_context_create(
        &s->context, NIN_DESC(nin_context_desc, .threads = v->threads, .seed = (uint32_t)v->seed)));
    TRY(nin_network_create_preset(&s->network, s->context, "mnist"));
    TRY(nin_network_initialise(
        s->network, NIN_DESC(nin_init_desc, .weights = NIN_INIT_HE, .biases = NIN_INIT_ZERO),
        (uint32_t)v->seed));
    TRY(nin_plan_create(&s->train_plan, s->network,
                        NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = v->batch)));
    return nin_plan_create(&s->test_plan, s->network,
                           NIN_DESC(nin_plan_desc, .mode = NIN_INFER, .max_batch = TEST_BATCH));
}

static nin_status make_trainer(struct search *s, const struct values *v)
{
    nin_dataset_info info = {.struct_size = sizeof info};
    int64_t steps;

    TRY(nin_dataset_describe(&info, s->train));
    steps = v->epochs * ((info.count + v->batch - 1) / v->batch);
    TRY(nin_optimizer_create_sgd(&s->sgd, s->network,
                                 NIN_DESC(nin_sgd_desc, .rate = v->rate, .momentum = v->momentum,
                                          .nesterov = v->momentum > 0.0,
                                          .weight_decay = v->decay)));
    TRY(nin_scheduler_create_cosine(&s->cosine, s->sgd,
                                    NIN_DESC(nin_cosine_desc, .unit = NIN_PER_STEP, .total = steps,
                                             .warm_up = llround(v->warm_up * (double)steps))));
    return nin_trainer_create(&s->trainer, s->train_plan, s->sgd, s->cosine, s->train, NULL);
}

static void destroy(struct search *s)
{
    nin_trainer_destroy(s->trainer);
    nin_scheduler_destroy(s->cosine);
    nin_optimizer_destroy(s->sgd);
    nin_plan_destroy(s->test_plan);
    nin_plan_destroy(s->train_plan);
    nin_network_destroy(s->network);
    nin_dataset_destroy(s->held_out);
    nin_dataset_destroy(s->train);
    nin_dataset_destroy(s->all);
    nin_context_destroy(s->context);
    free(s->images);
    free(s->labels);
}

/* ---- the search ---------------------------------------------------------------------------- */

static nin_status train(struct search *s, const struct values *v)
{
    while (s->done < v->epochs) {
        nin_result trained = {.struct_size = sizeof trained};
        nin_result tested = {.struct_size = sizeof tested};

        TRY(nin_trainer_epoch(&trained, s->trainer));
        TRY(nin_evaluate(&tested, s->test_plan, s->held_out));
        s->losses[s->done] = tested.loss;
        s->errors[s->done++] =
            100.0 * (double)(tested.count - tested.correct) / (double)tested.count;
        fprintf(stderr, "%4d  loss %.4f  held out %.4f, %.2f %%  %.0f s\n", s->done, trained.loss,
                tested.loss, s->errors[s->done - 1], 1e-3 * (bench_now_ms() - s->started));
    }
    return NIN_OK;
}

static void print(const struct search *s, const struct values *v)
{
    const struct bench_options options = {
        .preset = "mnist", .device = nin_context_device(s->context), .batch = v->batch};
    int32_t threads = nin_context_threads(s->context);

    bench_print_head("recipe", &options, threads, bench_peak_gflops(threads));
    printf(", \"rate\": %g, \"decay\": %g, \"warm_up\": %g, \"momentum\": %g, \"seed\": %d, "
           "\"held_out\": %d, \"seconds\": %.1f, \"errors_percent\": [",
           v->rate, v->decay, v->warm_up, v->momentum, v->seed, HELD_OUT,
           1e-3 * (bench_now_ms() - s->started));
    for (int32_t i = 0; i < s->done; i++)
        printf("%s%.2f", i > 0 ? ", " : "", s->errors[i]);
    printf("], \"losses\": [");
    for (int32_t i = 0; i < s->done; i++)
        printf("%s%.5f", i > 0 ? ", " : "", s->losses[i]);
    printf("]}\n");
}

static nin_status run(struct search *s, const struct values *v)
{
    TRY(make_halves(s, v->data));
    TRY(make_network(s, v));
    TRY(make_trainer(s, v));
    s->started = bench_now_ms();
    return train(s, v);
}

int main(int argc, char **argv)
{
    struct values values = {.data = "examples/data/mnist",
                            .rate = 0.1,
                            .decay = 1e-4,
                            .warm_up = 0.15,
                            .momentum = 0.9,
                            .epochs = 13,
                            .batch = 64,
                            .seed = 1};
    static struct search search;
    nin_status status;

    if (!parse(&values, argc, argv))
        return 2;
    status = run(&search, &values);
    if (status == NIN_OK)
        print(&search, &values);
    else if (*nin_last_error() != '\0')
        fprintf(stderr, "%s\n", nin_last_error());
    destroy(&search);
    return status == NIN_OK ? 0 : 1;
}
