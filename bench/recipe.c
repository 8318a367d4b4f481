/* SPDX-License-Identifier: MIT */
/* Looks for a recipe: trains the preset of MNIST on all but the last 10,000 training images and tests it with
 * these, so that nobody chooses a rate by the test set. A line for each epoch on stderr; the line on stdout
 * is JSON. The schedule is examples/mnist_nin's: a warm-up, then half a cosine to zero. */
#include "measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    int32_t epochs, batch, threads;
    uint32_t seed;
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
    double started, errors[MAX_EPOCHS]; /* in percent */
    int32_t done;                       /* epochs */
};

/* ---- the command line ---------------------------------------------------------------------- */

static int read_double(double *out, const char *text)
{
    char *end;

    *out = strtod(text, &end);
    return end != text && *end == '\0';
}

static int read_value(struct values *v, const char *name, const char *text)
{
    double number = 0.0;

    if (strcmp(name, "--data") == 0) {
        v->data = text;
        return 1;
    }
    if (!read_double(&number, text))
        return 0;
    if (strcmp(name, "--rate") == 0)
        v->rate = number;
    else if (strcmp(name, "--decay") == 0)
        v->decay = number;
    else if (strcmp(name, "--warm-up") == 0)
        v->warm_up = number;
    else if (strcmp(name, "--momentum") == 0)
        v->momentum = number;
    else if (strcmp(name, "--epochs") == 0)
        v->epochs = (int32_t)number;
    else if (strcmp(name, "--batch") == 0)
        v->batch = (int32_t)number;
    else if (strcmp(name, "--threads") == 0)
        v->threads = (int32_t)number;
    else if (strcmp(name, "--seed") == 0)
        v->seed = (uint32_t)number;
    else
        return 0;
    return 1;
}

static int parse(struct values *v, int argc, char **argv)
{
    int ok = 1;

    for (int i = 1; ok && i < argc; i += 2)
        ok = i + 1 < argc && read_value(v, argv[i], argv[i + 1]);
    if (ok && v->epochs > 0 && v->epochs <= MAX_EPOCHS && v->batch > 0)
        return 1;
    fprintf(stderr,
            "usage: %s [--rate R] [--decay D] [--warm-up SHARE] [--momentum M] [--epochs N]\n"
            "       [--batch N] [--threads N] [--seed N] [--data DIR]\n",
            argv[0]);
    return 0;
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
    image = (size_t)info.channels * (size_t)info.height * (size_t)info.width;
    s->images = malloc((size_t)info.count * image);
    s->labels = malloc((size_t)info.count * sizeof *s->labels);
    if (s->images == NULL || s->labels == NULL)
        return NIN_OUT_OF_MEMORY;
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
    TRY(nin_context_create(&s->context,
                           NIN_DESC(nin_context_desc, .threads = v->threads, .seed = v->seed)));
    TRY(nin_network_create_preset(&s->network, s->context, "mnist"));
    TRY(nin_network_initialise(
        s->network, NIN_DESC(nin_init_desc, .weights = NIN_INIT_HE, .biases = NIN_INIT_ZERO),
        v->seed));
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
                                          .nesterov = 1, .weight_decay = v->decay)));
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
        s->errors[s->done++] =
            100.0 * (double)(tested.count - tested.correct) / (double)tested.count;
        fprintf(stderr, "%4d  loss %.4f  held out %.2f %%  %.0f s\n", s->done, trained.loss,
                s->errors[s->done - 1], 1e-3 * (bench_now_ms() - s->started));
    }
    return NIN_OK;
}

static void print(const struct search *s, const struct values *v)
{
    printf("{\"bench\": \"recipe\", \"version\": \"%s\", \"rate\": %g, \"decay\": %g, "
           "\"warm_up\": %g, \"momentum\": %g, \"batch\": %d, \"seed\": %u, \"threads\": %d, "
           "\"held_out\": %d, \"seconds\": %.1f, \"errors_percent\": [",
           nin_version_text(), v->rate, v->decay, v->warm_up, v->momentum, v->batch, v->seed,
           nin_context_threads(s->context), HELD_OUT, 1e-3 * (bench_now_ms() - s->started));
    for (int32_t i = 0; i < s->done; i++)
        printf("%s%.2f", i > 0 ? ", " : "", s->errors[i]);
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
                            .rate = 0.05,
                            .decay = 5e-4,
                            .warm_up = 0.15,
                            .momentum = 0.9,
                            .epochs = 8,
                            .batch = 128,
                            .seed = 1};
    static struct search search;
    nin_status status;

    if (!parse(&values, argc, argv))
        return 2;
    status = run(&search, &values);
    if (status == NIN_OK)
        print(&search, &values);
    else
        fprintf(stderr, "%s\n", nin_last_error());
    destroy(&search);
    return status == NIN_OK ? 0 : 1;
}
