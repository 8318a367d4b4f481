/* SPDX-License-Identifier: MIT */
/* What happens when memory or threads run out: the n-th allocation of a call fails, for every n
 * until nothing fails any more. Then the status says so, outputs are untouched, nothing has leaked,
 * and what existed before goes on as if nothing had been. */
#include "files.h"
#include "interpose.h"
#include "rig.h"
#include "suites.h"

#include <nin/trainer.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

enum {
    IMAGES = 30,
    BATCH = 8,
    PIXELS = 2 * 16 * 16,
    CLASSES = 5,
    MANY = 10000
};

/* What exists before a call that fails. */
static struct {
    struct rig rig;    /* trains */
    nin_plan *witness; /* predicts: its scores must stay what they are */
    float *scores;
    size_t values;
    uint8_t pixels[IMAGES * PIXELS];
    int32_t labels[IMAGES];
    nin_dataset *arrays, *callback;
    nin_builder *builder; /* described, to be finished */
    const char *broken;   /* what was not as it must be */
} world;

/* No output has this address. */
#define UNTOUCHED(type) ((type *)(void *)&world)

/* ---- the world ----------------------------------------------------------------------------- */

static nin_status give_sample(void *image, int32_t *label, int64_t index, void *user)
{
    (void)user;
    memcpy(image, world.pixels + index * PIXELS, PIXELS);
    *label = world.labels[index];
    return NIN_OK;
}

static void write_file(const char *path, const void *head, size_t head_bytes, const void *rest,
                       size_t bytes, const char *mode)
{
    gzFile file = gzopen(path, mode);

    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(gzwrite(file, head, (unsigned)head_bytes), (int)head_bytes);
    ck_assert_int_eq(gzwrite(file, rest, (unsigned)bytes), (int)bytes);
    ck_assert_int_eq(gzclose(file), Z_OK);
}

static void draw_samples(void)
{
    for (int n = 0; n < IMAGES; n++)
        world.labels[n] = n % CLASSES;
    for (int k = 0; k < IMAGES * PIXELS; k++)
        world.pixels[k] = (uint8_t)(k * 7 % 251);
}

/* The world's data set as IDX files, plain and compressed. */
static void write_files(void)
{
    const unsigned char images[] = {0, 0, 8, 4, 0, 0,  0, IMAGES, 0, 0,
                                    0, 2, 0, 0, 0, 16, 0, 0,      0, 16};
    const unsigned char labels[] = {0, 0, 8, 1, 0, 0, 0, IMAGES};
    unsigned char bytes[IMAGES];

    for (int n = 0; n < IMAGES; n++)
        bytes[n] = (unsigned char)world.labels[n];
    for (int compressed = 0; compressed < 2; compressed++) {
        const char *mode = compressed ? "wb" : "wbT";

        write_file(in_folder(compressed ? "images.gz" : "images"), images, sizeof images,
                   world.pixels, sizeof world.pixels, mode);
        write_file(in_folder(compressed ? "labels.gz" : "labels"), labels, sizeof labels, bytes,
                   sizeof bytes, mode);
    }
}

static void describe(nin_builder *builder)
{
    char name[16];

    for (int i = 0; i < 40; i++) { /* more than a builder has room for at first */
        snprintf(name, sizeof name, "relu%d", i);
        nin_builder_relu(builder, name);
    }
    nin_builder_conv2d(builder, "conv", NIN_DESC(nin_conv2d_desc, .filters = CLASSES));
    nin_builder_global_average_pool(builder, "average");
    nin_builder_softmax_loss(builder, "loss");
}

static void make_datasets(void)
{
    ASSERT_OK(nin_dataset_create_arrays(
        &world.arrays,
        NIN_DESC(nin_arrays_desc, .images = world.pixels, .dtype = NIN_U8, .labels = world.labels,
                 .count = IMAGES, .channels = 2, .height = 16, .width = 16)));
    ASSERT_OK(nin_dataset_create_callback(
        &world.callback, NIN_DESC(nin_callback_desc, .sample = give_sample, .count = IMAGES,
                                  .channels = 2, .height = 16, .width = 16, .dtype = NIN_U8)));
}

static void predict(float *scores)
{
    ASSERT_OK(nin_plan_forward(world.witness, NIN_DESC(nin_batch_desc, .images = world.pixels,
                                                       .dtype = NIN_U8, .count = BATCH)));
    ASSERT_OK(nin_plan_scores(world.witness, scores, world.values));
}

static void make_world(void)
{
    memset(&world, 0, sizeof world);
    rig_make(&world.rig, &(struct rig_desc){.mode = NIN_TRAIN, .threads = 2, .batch = BATCH});
    ASSERT_OK(nin_plan_create(&world.witness, world.rig.network,
                              NIN_DESC(nin_plan_desc, .max_batch = BATCH)));
    draw_samples();
    make_datasets();
    write_files();
    ASSERT_OK(
        nin_builder_create(&world.builder, world.rig.context,
                           NIN_DESC(nin_input_desc, .channels = 2, .height = 16, .width = 16)));
    describe(world.builder);
    world.values = BATCH * CLASSES;
    world.scores = calloc(2 * world.values, sizeof *world.scores);
    ck_assert_ptr_nonnull(world.scores);
    predict(world.scores);
}

static void end_world(void)
{
    free(world.scores);
    nin_builder_destroy(world.builder);
    nin_dataset_destroy(world.arrays);
    nin_dataset_destroy(world.callback);
    nin_plan_destroy(world.witness);
    rig_free(&world.rig);
}

/* ---- every n ------------------------------------------------------------------------------- */

/* Makes something and ends it again; a failure must leave outputs alone. */
typedef nin_status (*action)(void);

/* Whether a call that fails makes its action fail. */
enum manner {
    NEEDS_ALL,
    MAY_DO_WITHOUT
};

/* What has to be true in an action. Check's own assertions allocate. */
static void must(bool fine, const char *what)
{
    if (!fine)
        world.broken = what;
}

static void check_witness(void)
{
    float *now = world.scores + world.values;

    predict(now);
    ck_assert_mem_eq(now, world.scores, world.values * sizeof *now);
}

/* The action while its call number n fails; gives how many calls have failed. */
static int64_t attempt(action act, enum manner manner, int64_t n, bool onwards)
{
    int64_t before = interpose_counts().blocks, failed;
    nin_status status;

    interpose_fail(n, onwards);
    status = act();
    failed = interpose_stop();
    ck_assert_msg(status == (failed > 0 ? NIN_OUT_OF_MEMORY : NIN_OK) ||
                      (status == NIN_OK && manner == MAY_DO_WITHOUT),
                  "call %lld fails: %s (%s)", (long long)n, nin_status_text(status),
                  nin_last_error());
    ck_assert_msg(status == NIN_OK || strlen(nin_last_error()) > 9, "call %lld: no sentence",
                  (long long)n);
    ck_assert_msg(interpose_counts().blocks == before, "call %lld fails: %lld blocks have leaked",
                  (long long)n, (long long)(interpose_counts().blocks - before));
    ck_assert_msg(world.broken == NULL, "call %lld fails: it is not so that %s", (long long)n,
                  world.broken);
    check_witness();
    return failed;
}

/* `least`: so many calls that can fail are known to be in it. */
static void fail_each(action act, enum manner manner, int64_t least)
{
    if (!interpose_works())
        return;
    for (int i = 0; i < 2; i++) /* what libraries keep for the next time */
        ck_assert_int_eq(act(), NIN_OK);
    for (int onwards = 0; onwards < 2; onwards++) {
        int64_t n = 0;

        while (n < MANY && attempt(act, manner, n, onwards) > 0)
            n++;
        ck_assert_int_ge(n, least);
        ck_assert_int_lt(n, MANY);
    }
}

/* ---- objects ------------------------------------------------------------------------------- */

static nin_status make_context_of(const nin_context_desc *desc)
{
    nin_context *context = UNTOUCHED(nin_context);
    nin_status status = nin_context_create(&context, desc);

    if (status == NIN_OK)
        nin_context_destroy(context);
    else
        must(context == UNTOUCHED(nin_context), "the output is untouched");
    return status;
}

static nin_status make_context(void)
{
    return make_context_of(NIN_DESC(nin_context_desc, .threads = 2));
}

/* Reads files that say how many threads there are, and can do without them. */
static nin_status make_default_context(void)
{
    return make_context_of(NULL);
}

static nin_status make_builder(void)
{
    nin_builder *builder = UNTOUCHED(nin_builder);
    nin_network *network = UNTOUCHED(nin_network);
    nin_status status =
        nin_builder_create(&builder, world.rig.context,
                           NIN_DESC(nin_input_desc, .channels = 1, .height = 4, .width = 4));

    if (status != NIN_OK) {
        must(builder == UNTOUCHED(nin_builder), "the output is untouched");
        return status;
    }
    describe(builder);
    status = nin_builder_finish(&network, builder);
    if (status == NIN_OK)
        nin_network_destroy(network);
    else
        must(network == UNTOUCHED(nin_network), "the output is untouched");
    nin_builder_destroy(builder);
    return status;
}

/* A builder that has failed to finish can be finished again. */
static nin_status finish_builder(void)
{
    nin_network *network = UNTOUCHED(nin_network);
    nin_status status = nin_builder_finish(&network, world.builder);

    if (status == NIN_OK)
        nin_network_destroy(network);
    else
        must(network == UNTOUCHED(nin_network), "the output is untouched");
    return status;
}

static nin_status make_preset(void)
{
    nin_network *network = UNTOUCHED(nin_network);
    nin_status status = nin_network_create_preset(&network, world.rig.context, "mnist");

    if (status == NIN_OK)
        nin_network_destroy(network);
    else
        must(network == UNTOUCHED(nin_network), "the output is untouched");
    return status;
}

static nin_status make_plan(const nin_plan_desc *desc)
{
    nin_plan *plan = UNTOUCHED(nin_plan);
    nin_status status = nin_plan_create(&plan, world.rig.network, desc);

    if (status == NIN_OK)
        nin_plan_destroy(plan);
    else
        must(plan == UNTOUCHED(nin_plan), "the output is untouched");
    return status;
}

static nin_status make_train_plan(void)
{
    static const char *const keep[] = {"one.cccp1", "mean"};

    return make_plan(NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = BATCH, .keep = keep,
                              .keep_count = 2, .input_gradient = 1));
}

static nin_status make_infer_plan(void)
{
    return make_plan(NIN_DESC(nin_plan_desc, .mode = NIN_INFER, .max_batch = BATCH));
}

/* On a network of its own, so that it also makes prepared weights. */
static nin_status make_first_plan(void)
{
    nin_network *network = NULL;
    nin_plan *plan = UNTOUCHED(nin_plan);
    nin_status status = nin_network_create_preset(&network, world.rig.context, "mnist");

    if (status != NIN_OK)
        return status;
    status =
        nin_plan_create(&plan, network, NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = 4));
    if (status == NIN_OK)
        nin_plan_destroy(plan);
    else
        must(plan == UNTOUCHED(nin_plan), "the output is untouched");
    nin_network_destroy(network);
    return status;
}

static nin_status make_optimizer(void)
{
    nin_optimizer *optimizer = UNTOUCHED(nin_optimizer);
    nin_status status = nin_optimizer_create_sgd(&optimizer, world.rig.network, NULL);

    if (status == NIN_OK)
        nin_optimizer_destroy(optimizer);
    else
        must(optimizer == UNTOUCHED(nin_optimizer), "the output is untouched");
    return status;
}

/* Which scheduler, to one function that makes it. */
static nin_status make_scheduler(int kind)
{
    static const int64_t milestones[] = {3, 5};
    nin_optimizer *optimizer = world.rig.optimizer;
    nin_scheduler *scheduler = UNTOUCHED(nin_scheduler);
    double rate = nin_optimizer_rate(optimizer);
    nin_status status;

    if (kind == 0)
        status = nin_scheduler_create_plateau(&scheduler, optimizer, NULL);
    else if (kind == 1)
        status = nin_scheduler_create_steps(
            &scheduler, optimizer, NIN_DESC(nin_steps_desc, .milestones = milestones, .count = 2));
    else
        status = nin_scheduler_create_cosine(&scheduler, optimizer,
                                             NIN_DESC(nin_cosine_desc, .total = 9, .warm_up = 3));
    if (status == NIN_OK) {
        nin_scheduler_destroy(scheduler);
        must(nin_optimizer_set_rate(optimizer, rate) == NIN_OK, "the rate can be set");
    } else {
        must(scheduler == UNTOUCHED(nin_scheduler), "the output is untouched");
        must(nin_optimizer_rate(optimizer) == rate, "the rate is what it was");
    }
    return status;
}

static nin_status make_plateau(void)
{
    return make_scheduler(0);
}

static nin_status make_steps(void)
{
    return make_scheduler(1);
}

static nin_status make_cosine(void)
{
    return make_scheduler(2);
}

static nin_status make_tensors(void)
{
    static const int64_t shape[] = {2, 3};
    static float memory[6];
    nin_tensor *made = UNTOUCHED(nin_tensor), *wrapped = UNTOUCHED(nin_tensor);
    nin_status status = nin_tensor_create(&made, world.rig.context, NIN_F32, 2, shape);

    if (status != NIN_OK) {
        must(made == UNTOUCHED(nin_tensor), "the output is untouched");
        return status;
    }
    status = nin_tensor_wrap(&wrapped, world.rig.context, memory, NIN_F32, 2, shape);
    if (status == NIN_OK)
        nin_tensor_destroy(wrapped);
    else
        must(wrapped == UNTOUCHED(nin_tensor), "the output is untouched");
    nin_tensor_destroy(made);
    return status;
}

START_TEST(objects)
{
    fail_each(make_context, NEEDS_ALL, 2);
    fail_each(make_default_context, MAY_DO_WITHOUT, 2);
    fail_each(make_builder, NEEDS_ALL, 6);
    fail_each(finish_builder, NEEDS_ALL, 4);
    fail_each(make_preset, NEEDS_ALL, 6);
    fail_each(make_optimizer, NEEDS_ALL, 5);
    fail_each(make_plateau, NEEDS_ALL, 1);
    fail_each(make_steps, NEEDS_ALL, 2);
    fail_each(make_cosine, NEEDS_ALL, 1);
    fail_each(make_tensors, NEEDS_ALL, 3);
}
END_TEST

/* Their memory, two threads each, and the map that they try for OpenBLAS. */
START_TEST(plans)
{
    fail_each(make_train_plan, NEEDS_ALL, 20);
    fail_each(make_infer_plan, NEEDS_ALL, 15);
    fail_each(make_first_plan, NEEDS_ALL, 30);
}
END_TEST

/* ---- data sets ----------------------------------------------------------------------------- */

static nin_status end_dataset(nin_status status, nin_dataset *dataset)
{
    if (status == NIN_OK)
        nin_dataset_destroy(dataset);
    else
        must(dataset == UNTOUCHED(nin_dataset), "the output is untouched");
    return status;
}

static nin_status make_arrays(void)
{
    nin_dataset *dataset = UNTOUCHED(nin_dataset);
    nin_status status = nin_dataset_create_arrays(
        &dataset,
        NIN_DESC(nin_arrays_desc, .images = world.pixels, .dtype = NIN_U8, .labels = world.labels,
                 .count = IMAGES, .channels = 2, .height = 16, .width = 16));

    return end_dataset(status, dataset);
}

static nin_status make_callback(void)
{
    nin_dataset *dataset = UNTOUCHED(nin_dataset);
    nin_status status = nin_dataset_create_callback(
        &dataset, NIN_DESC(nin_callback_desc, .sample = give_sample, .count = IMAGES, .channels = 2,
                           .height = 16, .width = 16, .dtype = NIN_U8));

    return end_dataset(status, dataset);
}

static nin_status read_idx(void)
{
    nin_dataset *dataset = UNTOUCHED(nin_dataset);
    nin_status status = nin_dataset_create_idx(&dataset, in_folder("images"), in_folder("labels"));

    return end_dataset(status, dataset);
}

static nin_status read_gz(void)
{
    nin_dataset *dataset = UNTOUCHED(nin_dataset);
    nin_status status =
        nin_dataset_create_idx(&dataset, in_folder("images.gz"), in_folder("labels.gz"));

    return end_dataset(status, dataset);
}

static nin_status read_label(void)
{
    int32_t label = -7;
    nin_status status = nin_dataset_read(world.callback, NULL, &label, 12);

    must(label == (status == NIN_OK ? world.labels[12] : -7), "the output is untouched");
    return status;
}

START_TEST(datasets)
{
    fail_each(make_arrays, NEEDS_ALL, 1);
    fail_each(make_callback, NEEDS_ALL, 1);
    fail_each(read_idx, NEEDS_ALL, 6);
    fail_each(read_gz, NEEDS_ALL, 8);
    fail_each(read_label, NEEDS_ALL, 1);
}
END_TEST

/* ---- calls --------------------------------------------------------------------------------- */

/* Draws what is there already, so that the witness sees a change. */
static nin_status initialise(void)
{
    uint64_t version = nin_network_parameter_version(world.rig.network);
    nin_status status = nin_network_initialise(world.rig.network,
                                               NIN_DESC(nin_init_desc, .weights = NIN_INIT_HE), 7);

    must(nin_network_parameter_version(world.rig.network) ==
             (status == NIN_OK ? version + 1 : version),
         "the version says what has happened");
    return status;
}

static nin_status evaluate(void)
{
    nin_result result = {.struct_size = sizeof result, .count = -1};
    nin_status status = nin_evaluate(&result, world.witness, world.callback);

    must(result.count == (status == NIN_OK ? IMAGES : -1), "the output is untouched");
    return status;
}

/* What describes allocates nothing, or fails in order. */
static nin_status describe_all(void)
{
    static char text[1 << 14];
    nin_device_info device = {.struct_size = sizeof device};
    nin_layer_info layer = {.struct_size = sizeof layer};
    nin_dataset_info dataset = {.struct_size = sizeof dataset};
    nin_tensor_info tensor = {.struct_size = sizeof tensor};
    nin_tensor *momentum = NULL;
    size_t length = nin_plan_describe(world.rig.plan, text, sizeof text);

    must(strlen(text) == length && nin_plan_bytes(world.rig.plan) > 0, "the plan is described");
    must(nin_layer_describe(&layer, nin_network_layer(world.rig.network, 0)) == NIN_OK,
         "a layer is");
    must(nin_dataset_describe(&dataset, world.arrays) == NIN_OK, "a data set is");
    must(nin_optimizer_momentum(&momentum, world.rig.optimizer, NULL, NIN_WEIGHT) == NIN_OK,
         "the momentum is found");
    must(nin_tensor_describe(&tensor, momentum) == NIN_OK, "a tensor is described");
    return nin_device_describe(&device, 0);
}

START_TEST(calls)
{
    fail_each(initialise, NEEDS_ALL, 1);
    fail_each(evaluate, NEEDS_ALL, 2);
    fail_each(describe_all, MAY_DO_WITHOUT, 0);
}
END_TEST

/* ---- training ------------------------------------------------------------------------------ */

static nin_status make_trainer(const nin_dataset *dataset)
{
    nin_trainer *trainer = UNTOUCHED(nin_trainer);
    nin_status status =
        nin_trainer_create(&trainer, world.rig.plan, world.rig.optimizer, NULL, dataset, NULL);

    if (status == NIN_OK)
        nin_trainer_destroy(trainer);
    else
        must(trainer == UNTOUCHED(nin_trainer), "the output is untouched");
    return status;
}

static nin_status make_arrays_trainer(void)
{
    return make_trainer(world.arrays);
}

static nin_status make_callback_trainer(void)
{
    return make_trainer(world.callback);
}

START_TEST(trainers)
{
    fail_each(make_arrays_trainer, NEEDS_ALL, 3);
    fail_each(make_callback_trainer, NEEDS_ALL, 4);
}
END_TEST

/* Two epochs with evaluation from the start; call number n fails, and then the rest is made up for.
 * Gives the bits of parameters and momentum, and in *failed how many calls have failed. */
static uint64_t fit(int64_t n, bool onwards, int64_t *failed)
{
    nin_fit_desc desc = {.struct_size = sizeof desc, .epochs = 2, .test_set = world.callback};
    const nin_result nothing = {.struct_size = sizeof nothing};
    nin_trainer *trainer = NULL;
    nin_status status;
    struct rig rig;
    uint64_t state;

    rig_make(&rig, &(struct rig_desc){.mode = NIN_TRAIN, .threads = 2, .batch = BATCH});
    ASSERT_OK(
        nin_plan_create(&desc.test_plan, rig.network, NIN_DESC(nin_plan_desc, .max_batch = BATCH)));
    ASSERT_OK(nin_trainer_create(&trainer, rig.plan, rig.optimizer, NULL, world.callback, NULL));
    if (n >= 0)
        interpose_fail(n, onwards);
    status = nin_trainer_fit(NULL, trainer, &desc);
    *failed = interpose_stop();
    ck_assert_int_eq(status, *failed > 0 ? NIN_OUT_OF_MEMORY : NIN_OK);
    ASSERT_OK(nin_trainer_fit(NULL, trainer, &desc));
    ck_assert_int_eq(nin_trainer_epochs(trainer), 2);
    ck_assert_int_eq(nin_trainer_steps(trainer), 8);
    state = rig_state(&rig, &nothing);
    nin_trainer_destroy(trainer);
    nin_plan_destroy(desc.test_plan);
    rig_free(&rig);
    return state;
}

START_TEST(fits)
{
    int64_t n = 0, failed = 0;
    uint64_t wanted;

    if (!interpose_works())
        return;
    fit(-1, false, &failed);
    wanted = fit(-1, false, &failed);
    do {
        int64_t before = interpose_counts().blocks;

        ck_assert_uint_eq(fit(n, n % 2 == 0, &failed), wanted);
        ck_assert_int_eq(interpose_counts().blocks, before);
        n++;
    } while (failed > 0);
    ck_assert_int_ge(n, 5); /* twice labels and images of an evaluation */
}
END_TEST

/* ---- files --------------------------------------------------------------------------------- */

static const char network_name[] = "network.safetensors", run_name[] = "run.safetensors";

static nin_trainer *files_trainer;

static nin_status save_network(void)
{
    return nin_network_save(world.rig.network, in_folder(network_name));
}

static nin_status load_network(void)
{
    nin_network *network = UNTOUCHED(nin_network);
    nin_status status = nin_network_load(&network, world.rig.context, in_folder(network_name));

    if (status == NIN_OK)
        nin_network_destroy(network);
    else
        must(network == UNTOUCHED(nin_network), "the output is untouched");
    return status;
}

/* The same weights again; the witness sees whether they are. */
static nin_status read_weights(void)
{
    return nin_network_read_weights(world.rig.network, in_folder(network_name));
}

static nin_status save_run(void)
{
    return nin_trainer_save(files_trainer, in_folder(run_name));
}

static nin_status restore_run(void)
{
    return nin_trainer_restore(files_trainer, in_folder(run_name), NULL);
}

static void check_file(const char *name, const struct bytes *wanted)
{
    struct bytes now = read_bytes(in_folder(name));

    ck_assert_uint_eq(now.count, wanted->count);
    ck_assert_mem_eq(now.data, wanted->data, now.count);
    free(now.data);
}

/* A file is there as a whole, and nothing beside it. */
START_TEST(saves_and_loads)
{
    struct bytes network, run;
    int count;

    ASSERT_OK(nin_trainer_create(&files_trainer, world.rig.plan, world.rig.optimizer, NULL,
                                 world.arrays, NULL));
    ASSERT_OK(save_network());
    ASSERT_OK(save_run());
    network = read_bytes(in_folder(network_name));
    run = read_bytes(in_folder(run_name));
    count = count_files();
    fail_each(save_network, NEEDS_ALL, 3);
    fail_each(save_run, NEEDS_ALL, 3);
    check_file(network_name, &network);
    check_file(run_name, &run);
    ck_assert_int_eq(count_files(), count);
    fail_each(load_network, NEEDS_ALL, 5);
    fail_each(read_weights, NEEDS_ALL, 3);
    fail_each(restore_run, NEEDS_ALL, 3);
    free(network.data);
    free(run.data);
    nin_trainer_destroy(files_trainer);
}
END_TEST

Suite *exhaustion_suite(void)
{
    Suite *suite = suite_create("exhaustion");
    TCase *tc = tcase_create("every_n");

    tcase_add_unchecked_fixture(tc, make_folder, remove_folder);
    tcase_add_checked_fixture(tc, make_world, end_world);
    tcase_add_test(tc, objects);
    tcase_add_test(tc, plans);
    tcase_add_test(tc, datasets);
    tcase_add_test(tc, calls);
    tcase_add_test(tc, trainers);
    tcase_add_test(tc, fits);
    tcase_add_test(tc, saves_and_loads);
    suite_add_tcase(suite, tc);
    return suite;
}
