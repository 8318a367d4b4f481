/* SPDX-License-Identifier: MIT */
/* Any bytes as a file for the three calls that read one. With libFuzzer:
 *
 *     clang -std=c11 -g -O1 -D_POSIX_C_SOURCE=200809L -DNIN_LIBFUZZER -Iinclude -Isrc
 *         -fsanitize=fuzzer,address,undefined tests/fuzz/load_network.c src/[a-z]*[a-z]/[a-z]*.c
 *         -lopenblas -ljansson -lz -lm -lpthread -o load_network
 *     ./load_network -only_ascii=0 corpus/
 *
 * Without NIN_LIBFUZZER there is a main that reads the files it is given, or, with --seeds, writes
 * two files to begin with:
 *
 *     ./load_network crash-1234 ...
 *     ./load_network --seeds corpus/ */
#include <nin/nin.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRY(call)                                                                                  \
    do {                                                                                           \
        if ((call) != NIN_OK) {                                                                    \
            fprintf(stderr, "%s: %s\n", #call, nin_last_error());                                  \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One tiny run, made with the first input. */
static struct {
    nin_context *context;
    nin_network *network;
    nin_plan *plan;
    nin_optimizer *optimizer;
    nin_scheduler *scheduler;
    nin_dataset *dataset;
    nin_trainer *trainer;
} run;

static void make_network(void)
{
    nin_builder *builder;

    TRY(nin_builder_create(&builder, run.context,
                           NIN_DESC(nin_input_desc, .channels = 1, .height = 4, .width = 4)));
    nin_builder_conv2d(builder, "c", NIN_DESC(nin_conv2d_desc, .filters = 2, .kernel = 3));
    nin_builder_relu(builder, "r");
    nin_builder_dropout(builder, "d", 0.5);
    nin_builder_max_pool(builder, "p", NIN_DESC(nin_pool_desc, .kernel = 2));
    nin_builder_dense(builder, "f", NIN_DESC(nin_dense_desc, .units = 2));
    nin_builder_softmax_loss(builder, "l");
    TRY(nin_builder_finish(&run.network, builder));
    nin_builder_destroy(builder);
}

static void make_run(void)
{
    static const uint8_t images[5 * 16] = {1, 200, 30, 99};
    static const int32_t labels[5] = {0, 1, 1, 0, 1};

    TRY(nin_context_create(&run.context,
                           NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CPU, .threads = 1)));
    make_network();
    TRY(nin_plan_create(&run.plan, run.network,
                        NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = 2)));
    TRY(nin_optimizer_create_sgd(&run.optimizer, run.network,
                                 NIN_DESC(nin_sgd_desc, .momentum = 0.5)));
    TRY(nin_scheduler_create_plateau(&run.scheduler, run.optimizer, NULL));
    TRY(nin_dataset_create_arrays(
        &run.dataset, NIN_DESC(nin_arrays_desc, .images = images, .dtype = NIN_U8, .labels = labels,
                               .count = 5, .channels = 1, .height = 4, .width = 4)));
    TRY(nin_trainer_create(&run.trainer, run.plan, run.optimizer, run.scheduler, run.dataset,
                           NULL));
}

/* A name that stays: the bytes are written to it again and again. */
static const char *write_input(const uint8_t *data, size_t size)
{
    static char path[64];
    FILE *file;

    if (path[0] == '\0')
        snprintf(path, sizeof path, "/tmp/nin-fuzz-%ld", (long)getpid());
    file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0)
        abort();
    return path;
}

/* What has been accepted must also work. The numbers may be anything, so a step may find NaN. */
static void use_trainer(void)
{
    nin_status status = nin_trainer_epoch(NULL, run.trainer);

    if (status != NIN_OK && status != NIN_NOT_FINITE)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nin_network *network = NULL;
    const char *path;

    if (run.trainer == NULL)
        make_run();
    path = write_input(data, size);
    if ((nin_network_load(&network, run.context, path) == NIN_OK) != (network != NULL))
        abort();
    if (network != NULL && nin_network_layer(network, 0) == NULL)
        abort();
    nin_network_destroy(network);
    (void)!nin_network_read_weights(run.network, path);
    if (nin_trainer_restore(run.trainer, path, NULL) == NIN_OK)
        use_trainer();
    unlink(path);
    return 0;
}

#ifndef NIN_LIBFUZZER

static int replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = malloc(1 << 20);
    size_t size;

    if (file == NULL || bytes == NULL) {
        perror(path);
        return EXIT_FAILURE;
    }
    size = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    LLVMFuzzerTestOneInput(bytes, size);
    free(bytes);
    return EXIT_SUCCESS;
}

static int write_seeds(const char *folder)
{
    char path[4096];

    make_run();
    for (int i = 0; i < 4; i++)
        TRY(nin_trainer_step(NULL, run.trainer));
    snprintf(path, sizeof path, "%s/network", folder);
    TRY(nin_network_save(run.network, path));
    snprintf(path, sizeof path, "%s/checkpoint", folder);
    TRY(nin_trainer_save(run.trainer, path));
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    int failed = EXIT_SUCCESS;

    if (argc == 3 && strcmp(argv[1], "--seeds") == 0)
        return write_seeds(argv[2]);
    for (int i = 1; i < argc; i++)
        failed |= replay(argv[i]);
    return failed;
}

#endif
