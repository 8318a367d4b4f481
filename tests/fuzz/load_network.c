/* SPDX-License-Identifier: MIT */
/* Any bytes as a file for the calls that read one. 'make check-fuzz' builds this with sanitizers
 * and a main of its own, which
 *
 *     load_network --mutate 1 1000      changes files at random, by the seed 1, and reads 1000 of them
 *     load_network crash-1234 ...       reads these
 *     load_network --seeds corpus/      writes files to begin with
 *
 * When it dies the file of the last input lies in /tmp. With libFuzzer, which looks for new paths:
 *
 *     clang -std=c11 -g -O1 -D_POSIX_C_SOURCE=200809L -DNIN_LIBFUZZER -Iinclude
 *         -fsanitize=fuzzer,address,undefined tests/fuzz/load_network.c LIBNIN.a
 *         -lopenblas -ljansson -lz -lm -lpthread -ldl -o load_network
 *     ./load_network -only_ascii=0 corpus/ */
#include <nin/nin.h>

#include <stdbool.h>
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

/* A data set of IDX files, for 5 images of 2x2: the other file of a pair of which one is the
 * input. */
static const uint8_t idx_images[16 + 20] = {0, 0, 8, 3, 0, 0, 0, 5, 0, 0,
                                            0, 2, 0, 0, 0, 2, 9, 8, 7};
static const uint8_t idx_labels[8 + 5] = {0, 0, 8, 1, 0, 0, 0, 5, 3, 1, 0, 2, 1};

/* Names that stay: the input is written to the first one again and again. */
static struct {
    char input[64], images[64], labels[64];
} paths;

static void write_file(const char *path, const uint8_t *data, size_t size)
{
    FILE *file = fopen(path, "wb");

    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0)
        abort();
}

static void remove_pair(void)
{
    unlink(paths.images);
    unlink(paths.labels);
}

static void make_pair(void)
{
    long process = (long)getpid();

    snprintf(paths.input, sizeof paths.input, "/tmp/nin-fuzz-%ld", process);
    snprintf(paths.images, sizeof paths.images, "/tmp/nin-fuzz-%ld-images", process);
    snprintf(paths.labels, sizeof paths.labels, "/tmp/nin-fuzz-%ld-labels", process);
    write_file(paths.images, idx_images, sizeof idx_images);
    write_file(paths.labels, idx_labels, sizeof idx_labels);
    atexit(remove_pair);
}

/* What has been accepted must also work. The numbers may be anything, so a step may find NaN. */
static void use_trainer(void)
{
    nin_status status = nin_trainer_epoch(NULL, run.trainer);

    if (status != NIN_OK && status != NIN_NOT_FINITE)
        abort();
}

/* Inputs that were accepted, as what. */
static struct {
    long networks, weights, checkpoints, images, labels;
} accepted;

static void read_network(const char *path)
{
    nin_network *network = NULL;

    if ((nin_network_load(&network, run.context, path) == NIN_OK) != (network != NULL))
        abort();
    if (network != NULL && nin_network_layer(network, 0) == NULL)
        abort();
    accepted.networks += network != NULL;
    nin_network_destroy(network);
}

/* What is accepted has as many images as the other file of the pair. */
static bool read_pair(const char *images, const char *labels)
{
    nin_dataset_info info = {.struct_size = sizeof info};
    nin_dataset *dataset = NULL;

    if ((nin_dataset_create_idx(&dataset, images, labels) == NIN_OK) != (dataset != NULL))
        abort();
    if (dataset != NULL && (nin_dataset_describe(&info, dataset) != NIN_OK || info.count != 5))
        abort();
    nin_dataset_destroy(dataset);
    return dataset != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (run.trainer == NULL) {
        make_run();
        make_pair();
    }
    write_file(paths.input, data, size);
    read_network(paths.input);
    accepted.weights += nin_network_read_weights(run.network, paths.input) == NIN_OK;
    if (nin_trainer_restore(run.trainer, paths.input, NULL) == NIN_OK) {
        use_trainer();
        accepted.checkpoints++;
    }
    accepted.images += read_pair(paths.input, paths.labels);
    accepted.labels += read_pair(paths.images, paths.input);
    unlink(paths.input);
    return 0;
}

#ifndef NIN_LIBFUZZER

enum {
    MAX_SIZE = 1 << 20,
    SEEDS = 4
};

static const char *const seed_names[SEEDS] = {"network", "checkpoint", "images", "labels"};

struct bytes {
    uint8_t *data; /* MAX_SIZE */
    size_t size;
};

static struct bytes new_bytes(void)
{
    struct bytes bytes = {.data = malloc(MAX_SIZE)};

    if (bytes.data == NULL)
        abort();
    return bytes;
}

static int read_file(struct bytes *bytes, const char *path)
{
    FILE *file = fopen(path, "rb");

    if (file == NULL) {
        perror(path);
        return EXIT_FAILURE;
    }
    bytes->size = fread(bytes->data, 1, MAX_SIZE, file);
    fclose(file);
    return EXIT_SUCCESS;
}

static int replay(const char *path)
{
    struct bytes bytes = new_bytes();
    int failed = read_file(&bytes, path);

    if (failed == EXIT_SUCCESS)
        LLVMFuzzerTestOneInput(bytes.data, bytes.size);
    free(bytes.data);
    return failed;
}

static void seed_path(char path[4096], const char *folder, int seed)
{
    snprintf(path, 4096, "%s/%s", folder, seed_names[seed]);
}

static int write_seeds(const char *folder)
{
    char path[4096];

    make_run();
    for (int i = 0; i < 4; i++)
        TRY(nin_trainer_step(NULL, run.trainer));
    seed_path(path, folder, 0);
    TRY(nin_network_save(run.network, path));
    seed_path(path, folder, 1);
    TRY(nin_trainer_save(run.trainer, path));
    seed_path(path, folder, 2);
    write_file(path, idx_images, sizeof idx_images);
    seed_path(path, folder, 3);
    write_file(path, idx_labels, sizeof idx_labels);
    return EXIT_SUCCESS;
}

/* ---- changes at random --------------------------------------------------------------------- */

static uint64_t state;

/* A number below `end`, from xorshift64*. */
static size_t draw(size_t end)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (size_t)((state * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % end;
}

static void put_byte(struct bytes *bytes)
{
    static const uint8_t telling[] = {0,   1,   2,   127, 128, 255, '"', '{',
                                      '}', '[', ']', ',', ':', '-', '9', '\\'};

    bytes->data[draw(bytes->size)] = draw(2) ? (uint8_t)draw(256) : telling[draw(sizeof telling)];
}

/* A number near a limit, of one of the sizes and orders of bytes that files have. */
static void put_number(struct bytes *bytes)
{
    static const uint64_t telling[] = {0, 1, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX, 1 << 16};
    uint64_t number = telling[draw(sizeof telling / sizeof telling[0])] - draw(3);
    size_t width = draw(2) ? 4 : 8, at = draw(bytes->size), up = draw(2);

    for (size_t i = 0; i < width && at + i < bytes->size; i++)
        bytes->data[at + i] = (uint8_t)(number >> 8 * (up ? i : width - 1 - i));
}

/* One figure of a text becomes another. */
static void put_figure(struct bytes *bytes)
{
    size_t at = draw(bytes->size);

    for (size_t i = at; i < bytes->size; i++)
        if (bytes->data[i] >= '0' && bytes->data[i] <= '9') {
            bytes->data[i] = (uint8_t)('0' + draw(10));
            return;
        }
}

static void cut(struct bytes *bytes)
{
    size_t at = draw(bytes->size), left = bytes->size - at;
    size_t gone = draw(4) == 0 ? left : 1 + draw(left < 16 ? left : 16);

    memmove(bytes->data + at, bytes->data + at + gone, left - gone);
    bytes->size -= gone;
}

/* Repeats some of it at another place. */
static void repeat(struct bytes *bytes)
{
    uint8_t piece[64];
    size_t count = 1 + draw(sizeof piece), at = draw(bytes->size), from = draw(bytes->size);

    if (from + count > bytes->size || bytes->size + count > MAX_SIZE)
        return;
    memcpy(piece, bytes->data + from, count);
    memmove(bytes->data + at + count, bytes->data + at, bytes->size - at);
    memcpy(bytes->data + at, piece, count);
    bytes->size += count;
}

static void change(struct bytes *bytes)
{
    static void (*const changes[])(struct bytes * bytes) = {put_byte, put_number, put_figure, cut,
                                                            repeat};

    for (size_t i = 1 + draw(4); i > 0 && bytes->size > 0; i--)
        changes[draw(sizeof changes / sizeof changes[0])](bytes);
}

static void read_seeds(struct bytes seeds[SEEDS])
{
    char folder[] = "/tmp/nin-fuzz-XXXXXX", path[4096];

    if (mkdtemp(folder) == NULL)
        abort();
    write_seeds(folder);
    for (int i = 0; i < SEEDS; i++) {
        seeds[i] = new_bytes();
        seed_path(path, folder, i);
        if (read_file(&seeds[i], path) != EXIT_SUCCESS)
            abort();
        unlink(path);
    }
    rmdir(folder);
}

/* As they are, they are accepted: else nothing would be shown by what is refused. */
static void check_seeds(const struct bytes seeds[SEEDS])
{
    for (int i = 0; i < SEEDS; i++)
        LLVMFuzzerTestOneInput(seeds[i].data, seeds[i].size);
    if (accepted.networks == 0 || accepted.weights == 0 || accepted.checkpoints == 0 ||
        accepted.images == 0 || accepted.labels == 0)
        abort();
}

static int mutate(uint64_t seed, long runs)
{
    struct bytes seeds[SEEDS], bytes = new_bytes();

    read_seeds(seeds);
    make_pair();
    check_seeds(seeds);
    state = seed * 2 + 1; /* never 0 */
    for (long i = 0; i < runs; i++) {
        const struct bytes *from = &seeds[draw(SEEDS)];

        memcpy(bytes.data, from->data, from->size);
        bytes.size = from->size;
        change(&bytes);
        LLVMFuzzerTestOneInput(bytes.data, bytes.size);
    }
    for (int i = 0; i < SEEDS; i++)
        free(seeds[i].data);
    free(bytes.data);
    printf("%ld files: %ld networks, %ld weights, %ld checkpoints, %ld images, %ld labels\n", runs,
           accepted.networks, accepted.weights, accepted.checkpoints, accepted.images,
           accepted.labels);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    int failed = EXIT_SUCCESS;

    if (argc == 3 && strcmp(argv[1], "--seeds") == 0)
        return write_seeds(argv[2]);
    if (argc == 4 && strcmp(argv[1], "--mutate") == 0)
        return mutate(strtoull(argv[2], NULL, 10), strtol(argv[3], NULL, 10));
    for (int i = 1; i < argc; i++)
        failed |= replay(argv[i]);
    return failed;
}

#endif
