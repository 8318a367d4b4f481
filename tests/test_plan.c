/* SPDX-License-Identifier: MIT */
#include "core/plan.h"
#include "cpu/cpu.h"

#include "rig.h"
#include "suites.h"
#include "test.h"

#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* A small network of every kind of op, and a batch for it. */
enum {
    CHANNELS = 2,
    SIDE = 8,
    PIXELS = CHANNELS * SIDE * SIDE,
    FILTERS = 6,
    MAPS = FILTERS * SIDE * SIDE, /* of an image behind the first convolution */
    CLASSES = 5,
    BATCH = 9,
    SCORES = BATCH * CLASSES,
    PARAMETERS = FILTERS * CHANNELS * 9 + FILTERS + CLASSES * FILTERS + CLASSES
};

static nin_context *context;
static nin_network *network;
static float images[BATCH * PIXELS];
static int32_t labels[BATCH];

static nin_network *make_network(int32_t height, int32_t width)
{
    nin_builder *builder = NULL;
    nin_network *made = NULL;

    ASSERT_OK(nin_builder_create(&builder, context,
                                 NIN_DESC(nin_input_desc, .channels = CHANNELS, .height = height,
                                          .width = width, .scale = 1.0 / 64.0, .shift = -2.0)));
    nin_builder_conv2d(builder, "conv",
                       NIN_DESC(nin_conv2d_desc, .filters = FILTERS, .kernel = 3, .pad = 1));
    nin_builder_relu(builder, "relu");
    nin_builder_max_pool(builder, "pool",
                         NIN_DESC(nin_pool_desc, .kernel = 3, .stride = 2, .pad = 1));
    nin_builder_dropout(builder, "drop", 0.5);
    nin_builder_conv2d(builder, "class", NIN_DESC(nin_conv2d_desc, .filters = CLASSES));
    nin_builder_global_average_pool(builder, "average");
    nin_builder_softmax_loss(builder, "loss");
    ASSERT_OK(nin_builder_finish(&made, builder));
    nin_builder_destroy(builder);
    return made;
}

static void setup(void)
{
    uint32_t state = 1;

    ASSERT_OK(nin_context_create(&context, NIN_DESC(nin_context_desc, .threads = 2, .seed = 3)));
    network = make_network(SIDE, SIDE);
    for (int i = 0; i < BATCH * PIXELS; i++) {
        state = state * 1664525u + 1013904223u;
        images[i] = (float)(state >> 8) / (float)(1 << 23) - 1.0f;
    }
    for (int i = 0; i < BATCH; i++)
        labels[i] = (3 * i + 1) % CLASSES;
}

static void teardown(void)
{
    nin_network_destroy(network);
    nin_context_destroy(context);
}

static nin_plan *make_plan(const nin_plan_desc *desc)
{
    nin_plan *plan = NULL;

    ASSERT_OK(nin_plan_create(&plan, network, desc));
    return plan;
}

static nin_plan *training_plan(void)
{
    return make_plan(NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = BATCH));
}

static nin_plan *inference_plan(void)
{
    return make_plan(NIN_DESC(nin_plan_desc, .max_batch = BATCH));
}

static nin_optimizer *make_optimizer(void)
{
    nin_optimizer *optimizer = NULL;

    ASSERT_OK(nin_optimizer_create_sgd(&optimizer, network,
                                       NIN_DESC(nin_sgd_desc, .rate = 0.1, .momentum = 0.9)));
    return optimizer;
}

/* The whole batch as training step `step`. */
static nin_batch_desc batch_at(int64_t step)
{
    return (nin_batch_desc){
        .struct_size = sizeof(nin_batch_desc), .images = images, .count = BATCH, .step = step};
}

static void forward(nin_plan *plan, int64_t step)
{
    const nin_batch_desc batch = batch_at(step);

    ASSERT_OK(nin_plan_forward(plan, &batch));
}

static nin_result backward(nin_plan *plan, int32_t accumulate)
{
    nin_result result = {.struct_size = sizeof result};

    ASSERT_OK(nin_plan_backward(
        &result, plan, NIN_DESC(nin_backward_desc, .labels = labels, .accumulate = accumulate)));
    return result;
}

static void read_gradient(nin_plan *plan, float target[PARAMETERS])
{
    nin_tensor *gradient = NULL;

    ASSERT_OK(nin_plan_gradient(&gradient, plan, NULL, NIN_WEIGHT));
    ASSERT_OK(nin_tensor_read(gradient, target, PARAMETERS * sizeof *target));
}

static void read_momentum(nin_optimizer *optimizer, float target[PARAMETERS])
{
    nin_tensor *momentum = NULL;

    ASSERT_OK(nin_optimizer_momentum(&momentum, optimizer, NULL, NIN_WEIGHT));
    ASSERT_OK(nin_tensor_read(momentum, target, PARAMETERS * sizeof *target));
}

static void read_parameters(nin_network *from, float target[PARAMETERS])
{
    ck_assert_uint_eq(nin_network_parameter_count(from), PARAMETERS);
    ASSERT_OK(nin__network_download(from, target));
}

/* ---- what a plan is made of ---------------------------------------------------------------- */

static const char *const unknown_name[] = {"conv", "con"};
static const char *const null_name[] = {NULL};
static const char *const loss_name[] = {"loss"};

static const struct {
    nin_plan_desc desc;
    nin_status status;
    const char *words;
} wrong_plans[] = {
    {{.mode = (nin_mode)2}, NIN_INVALID_ARGUMENT, "2 is no nin_mode"},
    {{.max_batch = -1}, NIN_INVALID_ARGUMENT, "max_batch -1 is outside 1 to "},
    {{.height = -1}, NIN_INVALID_ARGUMENT, "height -1 is outside 1 to "},
    {{.width = INT32_MAX}, NIN_INVALID_ARGUMENT, "width 2147483647 is outside 1 to "},
    {{.precision = (nin_precision)4}, NIN_UNSUPPORTED, "precision 4"},
    {{.precision = (nin_precision)-1}, NIN_UNSUPPORTED, "precision -1"},
    {{.precision = NIN_BF16, .algorithm = NIN_ALGORITHM_GEMM}, NIN_UNSUPPORTED, "NIN_FP32 only"},
    {{.algorithm = (nin_algorithm)9}, NIN_UNSUPPORTED, "algorithm 9"},
    {{.keep = unknown_name, .keep_count = 2},
     NIN_INVALID_ARGUMENT,
     "keep[1]: there is no layer 'con'"},
    {{.keep = null_name, .keep_count = 1}, NIN_INVALID_ARGUMENT, "keep[0]"},
    {{.keep = loss_name, .keep_count = 1}, NIN_INVALID_ARGUMENT, "the loss 'loss' has no output"},
    {{.keep_count = 1}, NIN_INVALID_ARGUMENT, "keep_count 1"},
    {{.keep = loss_name, .keep_count = -1}, NIN_INVALID_ARGUMENT, "keep_count -1"},
    {{.input_gradient = 1}, NIN_INVALID_ARGUMENT, "only a training plan has an input gradient"},
    {{.mode = NIN_TRAIN, .input_gradient = 2}, NIN_INVALID_ARGUMENT, "input_gradient 2"},
    {{.lanes = 65}, NIN_INVALID_ARGUMENT, "lanes 65 is outside 1 to 64"},
    {{.lanes = -1}, NIN_INVALID_ARGUMENT, "lanes -1 is outside 1 to 64"},
};

enum {
    WRONG_PLANS = sizeof wrong_plans / sizeof wrong_plans[0]
};

START_TEST(a_wrong_descriptor_makes_no_plan)
{
    nin_plan_desc desc = wrong_plans[_i].desc;
    nin_plan *plan = NULL;

    desc.struct_size = sizeof desc;
    ASSERT_FAILS(wrong_plans[_i].status, wrong_plans[_i].words,
                 nin_plan_create(&plan, network, &desc));
    ck_assert_ptr_null(plan);
}
END_TEST

static nin_network *one_layer(const nin_conv2d_desc *conv, const nin_dense_desc *dense)
{
    nin_builder *builder = NULL;
    nin_network *made = NULL;

    ASSERT_OK(nin_builder_create(
        &builder, context, NIN_DESC(nin_input_desc, .channels = 1, .height = SIDE, .width = SIDE)));
    if (conv != NULL)
        nin_builder_conv2d(builder, "conv", conv);
    if (dense != NULL)
        nin_builder_dense(builder, "dense", dense);
    ASSERT_OK(nin_builder_finish(&made, builder));
    nin_builder_destroy(builder);
    return made;
}

START_TEST(a_layer_that_does_not_fit_the_input_size_is_named)
{
    nin_network *wide = one_layer(NIN_DESC(nin_conv2d_desc, .filters = 1, .kernel = 5), NULL);
    nin_network *dense = one_layer(NULL, NIN_DESC(nin_dense_desc, .units = 3));
    nin_plan *plan = NULL;

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "conv2d 'conv': kernel 5 does not fit input 4x8 with pad 0",
                 nin_plan_create(&plan, wide, NIN_DESC(nin_plan_desc, .height = 4)));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "dense 'dense': made for 1x8x8, gets 1x8x9",
                 nin_plan_create(&plan, dense, NIN_DESC(nin_plan_desc, .width = 9)));
    ck_assert_ptr_null(plan);
    ASSERT_OK(nin_plan_create(&plan, dense, NIN_DESC(nin_plan_desc, .width = SIDE)));
    nin_plan_destroy(plan);
    nin_network_destroy(wide);
    nin_network_destroy(dense);
}
END_TEST

START_TEST(a_plan_describes_its_ops_a_line_each)
{
    static const char *const words[] = {"train",        "input", "conv",   "max_pool", "dropout",
                                        "average_pool", "loss",  "direct", "relu",     "2x8x8",
                                        "6x4x4",        "5x1x1", "segment"};
    nin_plan *plan = training_plan();
    size_t length = nin_plan_describe(plan, NULL, 0);
    char *text = malloc(length + 1), part[20];

    ck_assert_ptr_nonnull(text);
    ck_assert_uint_eq(nin_plan_describe(plan, text, length + 1), length);
    ck_assert_uint_eq(strlen(text), length);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        ck_assert_msg(strstr(text, words[i]) != NULL, "no '%s' in\n%s", words[i], text);
    memset(part, 'x', sizeof part);
    ck_assert_uint_eq(nin_plan_describe(plan, part, 10), length);
    ck_assert_int_eq(strncmp(part, text, 9), 0);
    ck_assert_int_eq(part[9], '\0');
    ck_assert_int_eq(part[10], 'x');
    free(text);
    nin_plan_destroy(plan);
}
END_TEST

/* The rule of shapes, which bits and checkpoints depend on. */
START_TEST(shapes_choose_the_algorithm)
{
    static const struct {
        const char *preset, *layer, *algorithm;
    } choices[] = {{"mnist", "conv1", "direct"},     {"mnist", "cccp1", "direct"},
                   {"mnist", "conv2", "fft"},        {"mnist", "conv3", "fft"},
                   {"cifar10", "conv1", "winograd"}, {"cifar10", "conv2", "winograd"},
                   {"cifar10", "conv3", "winograd"}};

    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        nin_network *net = NULL;
        nin_plan *plan = NULL;
        char text[8192], line[64];

        ASSERT_OK(nin_network_create_preset(&net, context, choices[i].preset));
        ASSERT_OK(nin_plan_create(&plan, net, NIN_DESC(nin_plan_desc, .max_batch = 1)));
        ck_assert_uint_lt(nin_plan_describe(plan, text, sizeof text), sizeof text);
        snprintf(line, sizeof line, "  %-12s %-12s %-8s", choices[i].layer, "conv",
                 choices[i].algorithm);
        ck_assert_msg(strstr(text, line) != NULL, "no '%s' in\n%s", line, text);
        nin_plan_destroy(plan);
        nin_network_destroy(net);
    }
}
END_TEST

/* So does the side of a tile: the weights of a plan are there at its 36 or 64 points, or as 81 or
 * 256 values of a Fourier transform. */
START_TEST(shapes_choose_the_points)
{
    static const struct {
        const char *preset, *layer;
        size_t points, channels, filters;
    } choices[] = {{"mnist", "conv2", 256, 48, 128},
                   {"mnist", "conv3", 81, 48, 128},
                   {"cifar10", "conv2", 64, 96, 192},
                   {"cifar10", "conv3", 36, 192, 192}};

    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        nin_network *net = NULL;
        nin_plan *plan = NULL;
        bool found = false;

        ASSERT_OK(nin_network_create_preset(&net, context, choices[i].preset));
        ASSERT_OK(nin_plan_create(&plan, net, NIN_DESC(nin_plan_desc, .max_batch = 1)));
        for (int32_t k = 0; k < plan->executable->program.count; k++) {
            const struct cpu_op *op = &plan->executable->ops[k];

            if (strcmp(op->op->name, choices[i].layer) != 0 || op->op->kind != NIN__OP_CONV)
                continue;
            ck_assert_uint_eq(op->need.prepared[CPU_FORWARD] / sizeof(float),
                              choices[i].points * choices[i].channels * choices[i].filters);
            found = true;
        }
        ck_assert(found);
        nin_plan_destroy(plan);
        nin_network_destroy(net);
    }
}
END_TEST

/* The line of a description that begins so, up to its end. */
static void find_line(char line[512], const char *text, const char *start)
{
    const char *at = strstr(text, start);
    size_t length;

    ck_assert_msg(at != NULL, "no '%s' in\n%s", start, text);
    length = strcspn(at, "\n");
    ck_assert_uint_lt(length, 512);
    memcpy(line, at, length);
    line[length] = '\0';
}

static void describe_plan(char text[8192], const nin_plan *plan)
{
    ck_assert_uint_lt(nin_plan_describe(plan, text, 8192), 8192);
}

/* What is computed by hand, for images of 6x6: a side of the convolution has 6 windows of 3 taps,
 * of which 2 lie in the padding, so 16 x 16 taps of 2 x 6 weights, or one tile of 64 points, or 161
 * products at the points of a transform of 9x9 pixels; behind the pool 3 x 3 pixels take 6 x 5
 * weights. */
START_TEST(a_plan_counts_its_multiplications)
{
    static const struct {
        nin_plan_desc desc;
        const char *plan, *conv, *class;
    } counts[] = {
        {{.mode = NIN_INFER, .algorithm = NIN_ALGORITHM_DIRECT},
         ": 3342 forward,",
         ": 3072 forward,",
         ": 270 forward,"},
        {{.mode = NIN_TRAIN, .algorithm = NIN_ALGORITHM_DIRECT},
         ": 3342 forward, 3612 backward,",
         ": 3072 forward, 3072 backward,",
         ": 270 forward, 540 backward,"},
        {{.mode = NIN_TRAIN, .algorithm = NIN_ALGORITHM_GEMM, .input_gradient = 1},
         ": 3342 forward, 6684 backward,",
         ": 3072 forward, 6144 backward,",
         ": 270 forward, 540 backward,"},
        {{.mode = NIN_TRAIN, .algorithm = NIN_ALGORITHM_WINOGRAD, .input_gradient = 1},
         ": 1038 forward, 2076 backward,",
         ": 768 forward, 1536 backward,",
         ": 270 forward, 540 backward,"},
        {{.mode = NIN_TRAIN, .algorithm = NIN_ALGORITHM_FFT, .input_gradient = 1},
         ": 2202 forward, 4404 backward,",
         ": 1932 forward, 3864 backward,",
         ": 270 forward, 540 backward,"},
    };

    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        nin_plan_desc desc = counts[i].desc;
        char text[8192], line[512];
        nin_plan *plan;

        desc.struct_size = sizeof desc;
        desc.height = desc.width = 6;
        plan = make_plan(&desc);
        describe_plan(text, plan);
        find_line(line, text, desc.mode == NIN_TRAIN ? "train" : "infer");
        ck_assert_msg(strstr(line, counts[i].plan) != NULL, "no '%s' in %s", counts[i].plan, line);
        find_line(line, text, "  conv ");
        ck_assert_msg(strstr(line, counts[i].conv) != NULL, "no '%s' in %s", counts[i].conv, line);
        find_line(line, text, "  class ");
        ck_assert_msg(strstr(line, counts[i].class) != NULL, "no '%s' in %s", counts[i].class,
                      line);
        find_line(line, text, "  pool ");
        ck_assert_msg(strstr(line, "multiply-adds") == NULL, "a pool multiplies: %s", line);
        nin_plan_destroy(plan);
    }
}
END_TEST

/* The number before a word of a line. */
static double number_before(const char *line, const char *word)
{
    const char *at = strstr(line, word);

    ck_assert_msg(at != NULL, "no '%s' in %s", word, line);
    while (at > line && strchr("0123456789.", at[-1]) != NULL)
        at--;
    return atof(at);
}

START_TEST(a_plan_says_what_its_work_takes_at_the_peak)
{
    nin_plan *plan = training_plan();
    char text[8192], again[8192], line[512];
    double work, time, peak;

    describe_plan(text, plan);
    find_line(line, text, "train");
    work = number_before(line, " forward") + number_before(line, " backward");
    time = number_before(line, " us at the peak");
    peak = number_before(line, " GFLOP/s");
    ck_assert_double_gt(peak, 0.0);
    ck_assert_double_eq_tol(time, 2e-3 * work / peak, 0.01 + 0.1 * time / peak);
    find_line(line, text, "  class ");
    work = number_before(line, " forward") + number_before(line, " backward");
    ck_assert_double_eq_tol(number_before(line, " us at the peak"), 2e-3 * work / peak, 0.01);
    describe_plan(again, plan);
    ck_assert_str_eq(again, text); /* measured once */
    nin_plan_destroy(plan);
}
END_TEST

/* While its workers are at work nothing can be measured; what has been stays known. */
START_TEST(a_plan_in_use_is_not_measured)
{
    nin_plan *plan = training_plan();
    char text[8192], line[512];

    for (int measured = 0; measured < 2; measured++) {
        ASSERT_OK(nin__plan_enter(plan));
        describe_plan(text, plan);
        nin__plan_leave(plan);
        ck_assert_int_eq(strstr(text, "peak") != NULL, measured);
        find_line(line, text, "  class ");
        ck_assert_ptr_nonnull(strstr(line, ": 480 forward, 960 backward"));
        describe_plan(text, plan);
        ck_assert_ptr_nonnull(strstr(text, "peak"));
    }
    nin_plan_destroy(plan);
}
END_TEST

static nin_network *make_shared(void)
{
    nin_builder *builder = NULL;
    nin_network *made = NULL;

    ASSERT_OK(nin_builder_create(&builder, context,
                                 NIN_DESC(nin_input_desc, .channels = 1, .height = 7, .width = 7)));
    nin_builder_conv2d(builder, "c1", NIN_DESC(nin_conv2d_desc, .filters = 16));
    nin_builder_conv2d(builder, "c2", NIN_DESC(nin_conv2d_desc, .filters = 16, .kernel = 4));
    nin_builder_global_average_pool(builder, "average");
    ASSERT_OK(nin_builder_finish(&made, builder));
    nin_builder_destroy(builder);
    return made;
}

/* The bits of scores and gradient at 4x4, where c2 is a dense layer. */
static uint64_t bits_at_4x4(nin_network *net, nin_algorithm algorithm)
{
    float pixels[2 * 16], gradient[2 * 16];
    nin_plan *plan = NULL;
    uint64_t hash = RIG_HASH;
    size_t values;
    float *scores;

    for (size_t k = 0; k < 32; k++) {
        pixels[k] = (float)(k * 37 % 11) / 11.0f;
        gradient[k] = (float)(k * 29 % 13) / 13.0f;
    }
    ASSERT_OK(nin_plan_create(&plan, net,
                              NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = 2,
                                       .height = 4, .width = 4, .algorithm = algorithm)));
    ASSERT_OK(nin_plan_forward(plan, NIN_DESC(nin_batch_desc, .images = pixels, .count = 2)));
    ASSERT_OK(
        nin_plan_backward(NULL, plan, NIN_DESC(nin_backward_desc, .score_gradient = gradient)));
    scores = rig_scores(plan, 2, &values);
    hash = rig_hash(hash, scores, values * sizeof *scores);
    hash = rig_hash(hash, plan->gradient, nin_network_parameter_count(net) * sizeof(float));
    free(scores);
    nin_plan_destroy(plan);
    return hash;
}

/* Weights are prepared otherwise for another input size or algorithm, though they may have as many
 * bytes: plans must not take them from each other. */
START_TEST(plans_do_not_share_what_differs)
{
    static const nin_algorithm algorithms[] = {NIN_ALGORITHM_GEMM, NIN_ALGORITHM_DIRECT,
                                               NIN_ALGORITHM_AUTO, NIN_ALGORITHM_WINOGRAD,
                                               NIN_ALGORITHM_FFT};
    nin_network *net = make_shared();
    uint64_t alone[5];
    float pixels[49] = {1.0f};

    for (size_t a = 0; a < 5; a++)
        alone[a] = bits_at_4x4(net, algorithms[a]);
    for (size_t other = 0; other < 5; other++)
        for (size_t a = 0; a < 5; a++) {
            nin_plan *plan = NULL;

            ASSERT_OK(nin_plan_create(&plan, net,
                                      NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = 1,
                                               .algorithm = algorithms[other])));
            ASSERT_OK(
                nin_plan_forward(plan, NIN_DESC(nin_batch_desc, .images = pixels, .count = 1)));
            ck_assert_uint_eq(bits_at_4x4(net, algorithms[a]), alone[a]);
            nin_plan_destroy(plan);
        }
    nin_network_destroy(net);
}
END_TEST

START_TEST(the_description_of_a_plan_names_its_layers)
{
    nin_plan *plan = training_plan();
    char text[4096];

    ck_assert_uint_lt(nin_plan_describe(plan, text, sizeof text), sizeof text);
    ck_assert_msg(strstr(text, "class") != NULL, "no layer 'class' in\n%s", text);
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(a_training_plan_holds_more_bytes_and_a_larger_batch_not_many_more)
{
    nin_plan *infer = inference_plan(), *train = training_plan();
    nin_plan *large =
        make_plan(NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = 1000 * BATCH));

    ck_assert_uint_gt(nin_plan_bytes(infer), 0);
    ck_assert_uint_gt(nin_plan_bytes(train), nin_plan_bytes(infer));
    ck_assert_uint_lt(nin_plan_bytes(large), 1000 * BATCH * PIXELS * sizeof(float));
    nin_plan_destroy(infer);
    nin_plan_destroy(train);
    nin_plan_destroy(large);
    nin_plan_destroy(NULL);
}
END_TEST

/* Outputs of 2^42 floats an image, 2^20 times: their bytes are 0 modulo 2^64. */
START_TEST(a_plan_whose_bytes_overflow_is_refused)
{
    static const char *const keep[] = {"conv"};
    nin_builder *builder = NULL;
    nin_network *wide = NULL;
    nin_plan *plan = NULL;
    nin_status status;

    ASSERT_OK(nin_builder_create(&builder, context,
                                 NIN_DESC(nin_input_desc, .channels = 1, .height = 1, .width = 1)));
    nin_builder_conv2d(builder, "conv", NIN_DESC(nin_conv2d_desc, .filters = 1 << 16));
    nin_builder_global_average_pool(builder, "average");
    nin_builder_conv2d(builder, "class", NIN_DESC(nin_conv2d_desc, .filters = 1));
    ASSERT_OK(nin_builder_finish(&wide, builder));
    nin_builder_destroy(builder);
    status = nin_plan_create(&plan, wide,
                             NIN_DESC(nin_plan_desc, .max_batch = 1 << 20, .height = 1 << 13,
                                      .width = 1 << 13, .keep = keep, .keep_count = 1));
    ck_assert_msg(status == NIN_OUT_OF_MEMORY || status == NIN_INVALID_ARGUMENT,
                  "a plan of %llu bytes",
                  (unsigned long long)(plan != NULL ? nin_plan_bytes(plan) : 0));
    nin_plan_destroy(plan);
    nin_network_destroy(wide);
}
END_TEST

/* ---- batches ------------------------------------------------------------------------------- */

static const struct {
    nin_batch_desc batch;
    const char *words;
} wrong_batches[] = {
    {{.images = images, .count = BATCH + 1}, "10 images, the plan takes 1 to 9"},
    {{.images = images}, "0 images, the plan takes 1 to 9"},
    {{.images = images, .count = -1}, "-1 images, the plan takes 1 to 9"},
    {{.count = 1}, "neither images nor a tensor"},
    {{.images = images, .count = 1, .dtype = NIN_I32}, "dtype 2; NIN_F32 or NIN_U8"},
    {{.images = images, .count = 1, .dtype = (nin_dtype)7}, "dtype 7; NIN_F32 or NIN_U8"},
    {{.images = images, .count = 1, .step = -1}, "step -1 is negative"},
    {{.images = images, .count = 1, .first_position = -1}, "first_position -1 is outside 0 to "},
    {{.images = images, .count = 2, .first_position = UINT32_MAX - 1}, "first_position 4294967294"},
};

enum {
    WRONG_BATCHES = sizeof wrong_batches / sizeof wrong_batches[0]
};

START_TEST(a_wrong_batch_is_refused_and_the_last_run_stays)
{
    nin_plan *plan = training_plan();
    nin_optimizer *optimizer = make_optimizer();
    nin_batch_desc batch = wrong_batches[_i].batch;
    float before[SCORES], after[SCORES];

    batch.struct_size = sizeof batch;
    forward(plan, 0);
    ASSERT_OK(nin_plan_scores(plan, before, SCORES));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, wrong_batches[_i].words, nin_plan_forward(plan, &batch));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, wrong_batches[_i].words,
                 nin_plan_step(NULL, plan, optimizer, &batch, labels));
    ASSERT_OK(nin_plan_scores(plan, after, SCORES));
    ck_assert_mem_eq(before, after, sizeof before);
    backward(plan, 0);
    nin_optimizer_destroy(optimizer);
    nin_plan_destroy(plan);
}
END_TEST

static nin_tensor *wrap(nin_dtype dtype, int32_t rank, const int64_t *shape)
{
    nin_tensor *tensor = NULL;

    ASSERT_OK(nin_tensor_wrap(&tensor, context, images, dtype, rank, shape));
    return tensor;
}

static const struct {
    nin_dtype dtype;
    int32_t rank;
    int64_t shape[5];
    const char *words;
} wrong_tensors[] = {
    {NIN_F32, 4, {BATCH + 1, CHANNELS, SIDE, SIDE}, "10 images, the plan takes 1 to 9"},
    {NIN_F32, 4, {1, CHANNELS + 1, SIDE, SIDE}, "the tensor is not N x 2 x 8 x 8"},
    {NIN_F32, 4, {1, CHANNELS, SIDE, SIDE + 1}, "the tensor is not N x 2 x 8 x 8"},
    {NIN_F32, 3, {CHANNELS, SIDE, SIDE}, "the tensor is not N x 2 x 8 x 8"},
    {NIN_F32, 5, {1, CHANNELS, SIDE, SIDE, 1}, "the tensor is not N x 2 x 8 x 8"},
    {NIN_I32, 4, {1, CHANNELS, SIDE, SIDE}, "dtype 2; NIN_F32 or NIN_U8"},
};

enum {
    WRONG_TENSORS = sizeof wrong_tensors / sizeof wrong_tensors[0]
};

START_TEST(a_tensor_of_another_shape_or_type_is_refused)
{
    nin_plan *plan = inference_plan();
    nin_tensor *tensor =
        wrap(wrong_tensors[_i].dtype, wrong_tensors[_i].rank, wrong_tensors[_i].shape);

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, wrong_tensors[_i].words,
                 nin_plan_forward(plan, NIN_DESC(nin_batch_desc, .tensor = tensor)));
    nin_tensor_destroy(tensor);
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(a_tensor_gives_the_bits_of_its_memory)
{
    nin_plan *plan = inference_plan();
    nin_tensor *tensor = wrap(NIN_F32, 4, (const int64_t[]){BATCH, CHANNELS, SIDE, SIDE});
    float a[SCORES], b[SCORES];

    forward(plan, 0);
    ASSERT_OK(nin_plan_scores(plan, a, SCORES));
    ASSERT_OK(nin_plan_forward(plan, NIN_DESC(nin_batch_desc, .tensor = tensor)));
    ASSERT_OK(nin_plan_scores(plan, b, SCORES));
    ck_assert_mem_eq(a, b, sizeof a);
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "images and a tensor",
                 nin_plan_forward(plan, NIN_DESC(nin_batch_desc, .tensor = tensor, .images = images,
                                                 .count = 1)));
    nin_tensor_destroy(tensor);
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(stored_pixels_are_scaled_and_shifted)
{
    static unsigned char stored[BATCH * PIXELS];
    nin_plan *plan = inference_plan();
    float a[SCORES], b[SCORES];

    for (int i = 0; i < BATCH * PIXELS; i++) {
        stored[i] = (unsigned char)(i * 7);
        images[i] = (float)stored[i] / 64.0f - 2.0f; /* exact */
    }
    forward(plan, 0);
    ASSERT_OK(nin_plan_scores(plan, a, SCORES));
    ASSERT_OK(nin_plan_forward(
        plan, NIN_DESC(nin_batch_desc, .images = stored, .dtype = NIN_U8, .count = BATCH)));
    ASSERT_OK(nin_plan_scores(plan, b, SCORES));
    ck_assert_mem_eq(a, b, sizeof a);
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(a_label_out_of_range_is_refused)
{
    static const int32_t wrong[] = {-1, CLASSES, INT32_MIN, INT32_MAX};
    nin_plan *train = training_plan(), *infer = inference_plan();
    nin_optimizer *optimizer = make_optimizer();
    const nin_batch_desc batch = batch_at(0);
    nin_result result = {.struct_size = sizeof result};
    char words[64];

    labels[2] = wrong[_i];
    snprintf(words, sizeof words, "label %d of image 2 of the batch is outside 0 to 4", wrong[_i]);
    forward(train, 0);
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, words,
                 nin_plan_backward(NULL, train, NIN_DESC(nin_backward_desc, .labels = labels)));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, words,
                 nin_plan_step(NULL, train, optimizer, &batch, labels));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, words, nin_plan_evaluate(&result, infer, &batch, labels));
    nin_optimizer_destroy(optimizer);
    nin_plan_destroy(train);
    nin_plan_destroy(infer);
}
END_TEST

/* ---- what comes out ------------------------------------------------------------------------ */

START_TEST(before_the_first_run_there_is_nothing_to_read)
{
    static const char *const keep[] = {"relu"};
    nin_plan *plan = make_plan(NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = BATCH,
                                        .keep = keep, .keep_count = 1, .input_gradient = 1));
    float values[SCORES];
    int32_t classes[BATCH];

    ASSERT_FAILS(NIN_INVALID_STATE, "has not run", nin_plan_scores(plan, values, SCORES));
    ASSERT_FAILS(NIN_INVALID_STATE, "has not run",
                 nin_plan_log_probabilities(plan, values, SCORES));
    ASSERT_FAILS(NIN_INVALID_STATE, "has not run", nin_plan_classes(plan, classes, BATCH));
    ASSERT_FAILS(NIN_INVALID_STATE, "has not run", nin_plan_kept(plan, "relu", values, SCORES));
    ASSERT_FAILS(NIN_INVALID_STATE, "no backward has run",
                 nin_plan_input_gradient(plan, values, SCORES));
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(a_wrong_number_of_values_is_refused)
{
    nin_plan *plan = inference_plan();
    float values[SCORES + 1];
    int32_t classes[BATCH + 1];

    ASSERT_OK(nin_plan_forward(plan, NIN_DESC(nin_batch_desc, .images = images, .count = 4)));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "has 20 values (4 images of 5), not 45",
                 nin_plan_scores(plan, values, SCORES));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "not 19", nin_plan_log_probabilities(plan, values, 19));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "not 5", nin_plan_classes(plan, classes, 5));
    ASSERT_OK(nin_plan_scores(plan, values, 20));
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(log_probabilities_and_classes_follow_from_the_scores)
{
    nin_plan *plan = inference_plan();
    float scores[SCORES], log_p[SCORES];
    int32_t classes[BATCH];

    forward(plan, 0);
    ASSERT_OK(nin_plan_scores(plan, scores, SCORES));
    ASSERT_OK(nin_plan_log_probabilities(plan, log_p, SCORES));
    ASSERT_OK(nin_plan_classes(plan, classes, BATCH));
    for (int n = 0; n < BATCH; n++) {
        const float *x = scores + n * CLASSES;
        double sum = 0.0;
        int best = 0;

        for (int c = 0; c < CLASSES; c++) {
            sum += exp((double)x[c]);
            best = x[c] > x[best] ? c : best;
        }
        for (int c = 0; c < CLASSES; c++)
            ck_assert_double_eq_tol(log_p[n * CLASSES + c], (double)x[c] - log(sum), 1e-6);
        ck_assert_int_eq(classes[n], best);
    }
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(the_class_is_the_first_largest_score)
{
    nin_plan *plan = inference_plan();
    const float biases[CLASSES] = {1.0f, 3.0f, 2.0f, 3.0f, 3.0f};
    int32_t classes[BATCH];

    ASSERT_OK(
        nin_network_initialise(network, NIN_DESC(nin_init_desc, .weights = NIN_INIT_ZERO), 0));
    ASSERT_OK(nin_layer_write(nin_network_find(network, "class"), NIN_BIAS, biases, CLASSES));
    forward(plan, 0);
    ASSERT_OK(nin_plan_classes(plan, classes, BATCH));
    for (int n = 0; n < BATCH; n++)
        ck_assert_int_eq(classes[n], 1);
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(an_evaluation_is_the_mean_of_its_images)
{
    nin_plan *plan = inference_plan();
    const nin_batch_desc batch = batch_at(0);
    nin_result result = {.struct_size = sizeof result};
    float log_p[SCORES];
    int32_t classes[BATCH];
    int64_t correct = 0;
    double loss = 0.0;

    ASSERT_OK(nin_plan_evaluate(&result, plan, &batch, labels));
    ASSERT_OK(nin_plan_log_probabilities(plan, log_p, SCORES));
    ASSERT_OK(nin_plan_classes(plan, classes, BATCH));
    for (int n = 0; n < BATCH; n++) {
        loss -= (double)log_p[n * CLASSES + labels[n]] / BATCH;
        correct += classes[n] == labels[n];
    }
    ck_assert_double_eq_tol(result.loss, loss, 1e-6);
    ck_assert_int_eq(result.correct, correct);
    ck_assert_int_eq(result.count, BATCH);
    ck_assert_int_eq(result.flat, 0);
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(equal_scores_count_as_flat_and_as_the_first_class)
{
    nin_plan *plan = inference_plan();
    const nin_batch_desc batch = batch_at(0);
    nin_result result = {.struct_size = sizeof result};

    ASSERT_OK(
        nin_network_initialise(network, NIN_DESC(nin_init_desc, .weights = NIN_INIT_ZERO), 0));
    labels[1] = 0; /* now there are more labels 0 than of any other class */
    ASSERT_OK(nin_plan_evaluate(&result, plan, &batch, labels));
    ck_assert_int_eq(result.flat, BATCH);
    for (int n = 0; n < BATCH; n++)
        result.correct -= labels[n] == 0;
    ck_assert_int_eq(result.correct, 0);
    ck_assert_double_eq_tol(result.loss, log(CLASSES), 1e-12);
    nin_plan_destroy(plan);
}
END_TEST

/* Whatever the label: all scores of a ruined network, or one of them. */
START_TEST(nan_is_no_correct_score)
{
    nin_layer *class = nin_network_find(network, "class");
    nin_plan *plan = inference_plan();
    const nin_batch_desc batch = batch_at(0);
    nin_result result = {.struct_size = sizeof result};

    for (int ruined = 0; ruined <= CLASSES; ruined++) {
        float biases[CLASSES] = {0.0f};

        for (int c = 0; c < CLASSES; c++)
            if (c == ruined || ruined == CLASSES)
                biases[c] = NAN;
        ASSERT_OK(nin_layer_write(class, NIN_BIAS, biases, CLASSES));
        for (int32_t label = 0; label < CLASSES; label++) {
            for (int n = 0; n < BATCH; n++)
                labels[n] = label;
            ASSERT_OK(nin_plan_evaluate(&result, plan, &batch, labels));
            ck_assert(isnan(result.loss));
            ck_assert_int_eq(result.correct, 0);
            ck_assert_int_eq(result.flat, 0);
        }
    }
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(only_an_inference_plan_with_a_loss_evaluates)
{
    nin_network *no_loss = one_layer(NIN_DESC(nin_conv2d_desc, .filters = 1), NULL);
    nin_plan *train = training_plan(), *plain = NULL;
    const nin_batch_desc batch = batch_at(0);
    nin_result result = {.struct_size = sizeof result};

    ASSERT_OK(nin_plan_create(&plain, no_loss, NIN_DESC(nin_plan_desc, .max_batch = BATCH)));
    ASSERT_FAILS(NIN_INVALID_STATE, "training plan",
                 nin_plan_evaluate(&result, train, &batch, labels));
    ASSERT_FAILS(NIN_INVALID_STATE, "softmax loss",
                 nin_plan_evaluate(&result, plain, &batch, labels));
    nin_plan_destroy(plain);
    nin_plan_destroy(train);
    nin_network_destroy(no_loss);
}
END_TEST

/* As nin_plan_step, whose result may be NULL. */
START_TEST(an_evaluation_needs_no_result)
{
    nin_plan *plan = inference_plan();
    const nin_batch_desc batch = batch_at(0);

    ASSERT_OK(nin_plan_evaluate(NULL, plan, &batch, labels));
    nin_plan_destroy(plan);
}
END_TEST

/* ---- kept outputs -------------------------------------------------------------------------- */

START_TEST(a_relu_clips_what_was_kept_before_it)
{
    static const char *const keep[] = {"conv", "relu"};
    const nin_mode mode = _i == 0 ? NIN_INFER : NIN_TRAIN;
    nin_plan *plan = make_plan(
        NIN_DESC(nin_plan_desc, .mode = mode, .max_batch = BATCH, .keep = keep, .keep_count = 2));
    static float conv[BATCH * MAPS], relu[BATCH * MAPS];
    int negative = 0;

    forward(plan, 0);
    ASSERT_OK(nin_plan_kept(plan, "conv", conv, BATCH * MAPS));
    ASSERT_OK(nin_plan_kept(plan, "relu", relu, BATCH * MAPS));
    for (int i = 0; i < BATCH * MAPS; i++) {
        negative += conv[i] < 0.0f;
        ck_assert(relu[i] == (conv[i] > 0.0f ? conv[i] : 0.0f));
    }
    ck_assert_int_gt(negative, BATCH * MAPS / 10);
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(keeping_changes_no_bits)
{
    static const char *const keep[] = {"conv", "relu", "pool", "drop", "class", "average"};
    nin_plan *plain = training_plan();
    nin_plan *keeping = make_plan(NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = BATCH,
                                           .keep = keep, .keep_count = 6, .input_gradient = 1));
    float scores[2][SCORES], gradient[2][PARAMETERS];

    for (int i = 0; i < 2; i++) {
        nin_plan *plan = i == 0 ? plain : keeping;

        forward(plan, 7);
        backward(plan, 0);
        ASSERT_OK(nin_plan_scores(plan, scores[i], SCORES));
        read_gradient(plan, gradient[i]);
    }
    ck_assert_mem_eq(scores[0], scores[1], sizeof scores[0]);
    ck_assert_mem_eq(gradient[0], gradient[1], sizeof gradient[0]);
    nin_plan_destroy(plain);
    nin_plan_destroy(keeping);
}
END_TEST

/* A training plan for eight images of the preset, whose first convolution takes 25 multiplications
 * a value. */
static nin_plan *plan_of_preset(nin_network *net, const char *const *keep, int32_t keep_count)
{
    nin_plan *plan = NULL;

    ASSERT_OK(nin_plan_create(&plan, net,
                              NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = 8,
                                       .keep = keep, .keep_count = keep_count)));
    ck_assert_str_eq(plan->executable->ops[1].op->name, "conv1");
    return plan;
}

static uint64_t bits_of_gradient(nin_plan *plan)
{
    static float pixels[8 * 28 * 28];
    static const int32_t classes[8] = {0, 1, 2, 3, 4, 5, 6, 7};

    for (size_t k = 0; k < sizeof pixels / sizeof pixels[0]; k++)
        pixels[k] = (float)(k * 40503 % 65536) / 65536.0f;
    ASSERT_OK(nin_plan_forward(plan, NIN_DESC(nin_batch_desc, .images = pixels, .count = 8)));
    ASSERT_OK(nin_plan_backward(NULL, plan, NIN_DESC(nin_backward_desc, .labels = classes)));
    return rig_hash(RIG_HASH, plan->gradient,
                    nin_network_parameter_count(plan->network) * sizeof *plan->gradient);
}

/* No memory holds the first output from forward to backward, unless it is kept for the caller. */
START_TEST(a_cheap_output_is_made_again_with_the_same_bits)
{
    static const char *const keep[] = {"conv1"};
    nin_network *net = NULL;
    nin_plan *plain, *keeping;

    ASSERT_OK(nin_network_create_preset(&net, context, "mnist"));
    plain = plan_of_preset(net, NULL, 0);
    keeping = plan_of_preset(net, keep, 1);
    ck_assert(plain->executable->ops[1].again);
    ck_assert_str_eq(plain->executable->ops[6].op->name, "cccp3");
    ck_assert(!plain->executable->ops[6].again); /* 128 multiplications a value */
    ck_assert(!keeping->executable->ops[1].again);
    ck_assert_uint_gt(keeping->executable->worker_bytes, plain->executable->worker_bytes);
    ck_assert_uint_eq(bits_of_gradient(plain), bits_of_gradient(keeping));
    nin_plan_destroy(plain);
    nin_plan_destroy(keeping);
    nin_network_destroy(net);
}
END_TEST

/* A dense layer with so many weights that segments end before and after it, and maps behind it:
 * their units are smaller than its own. */
static void describe_wide(nin_builder *builder)
{
    nin_builder_dense(builder, "wide", NIN_DESC(nin_dense_desc, .units = 65));
    nin_builder_relu(builder, "relu");
    nin_builder_conv2d(builder, "maps",
                       NIN_DESC(nin_conv2d_desc, .filters = 3, .kernel = 8, .pad = 7));
    nin_builder_global_average_pool(builder, "average");
    nin_builder_softmax_loss(builder, "loss");
}

/* The same with a ReLU that nothing fuses. */
static void describe_two_relus(nin_builder *builder)
{
    nin_builder_dense(builder, "wide", NIN_DESC(nin_dense_desc, .units = 65));
    nin_builder_relu(builder, "relu");
    nin_builder_relu(builder, "again");
    nin_builder_conv2d(builder, "maps",
                       NIN_DESC(nin_conv2d_desc, .filters = 3, .kernel = 8, .pad = 7));
    nin_builder_global_average_pool(builder, "average");
    nin_builder_softmax_loss(builder, "loss");
}

/* 324 KiB an image, of which 64 make a unit; with the ReLU's 256 KiB more, 32 would. */
static void describe_large(nin_builder *builder)
{
    nin_builder_conv2d(builder, "large", NIN_DESC(nin_conv2d_desc, .filters = 4));
    nin_builder_relu(builder, "relu");
    nin_builder_average_pool(builder, "pool", NIN_DESC(nin_pool_desc, .kernel = 8, .stride = 8));
    nin_builder_dense(builder, "dense", NIN_DESC(nin_dense_desc, .units = 5));
    nin_builder_softmax_loss(builder, "loss");
}

/* 451 KiB an image without the dropout's 192, with which 32 make a unit. */
static void describe_dropped(nin_builder *builder)
{
    nin_builder_conv2d(builder, "large", NIN_DESC(nin_conv2d_desc, .filters = 3));
    nin_builder_max_pool(builder, "max", NIN_DESC(nin_pool_desc, .kernel = 1));
    nin_builder_dropout(builder, "drop", 0.5);
    nin_builder_average_pool(builder, "pool", NIN_DESC(nin_pool_desc, .kernel = 8, .stride = 8));
    nin_builder_dense(builder, "dense", NIN_DESC(nin_dense_desc, .units = 5));
    nin_builder_softmax_loss(builder, "loss");
}

/* First outputs of two groups that take few multiplications, one of them behind what wants a
 * gradient. */
static void describe_cheap(nin_builder *builder)
{
    nin_builder_conv2d(builder, "first", NIN_DESC(nin_conv2d_desc, .filters = 6));
    nin_builder_relu(builder, "relu");
    nin_builder_conv2d(builder, "mix", NIN_DESC(nin_conv2d_desc, .filters = 7));
    nin_builder_relu(builder, "mixed");
    nin_builder_max_pool(builder, "max", NIN_DESC(nin_pool_desc, .kernel = 2, .stride = 2));
    nin_builder_conv2d(builder, "second", NIN_DESC(nin_conv2d_desc, .filters = 9));
    nin_builder_relu(builder, "clipped");
    nin_builder_conv2d(builder, "class", NIN_DESC(nin_conv2d_desc, .filters = 5));
    nin_builder_global_average_pool(builder, "average");
    nin_builder_softmax_loss(builder, "loss");
}

/* Networks of which an output is kept or not, the one before a ReLU or between a max pool and a
 * dropout. */
static const struct {
    void (*describe)(nin_builder *builder);
    const char *keep;
    int32_t side, batch;
    const char *order; /* what it has in either case */
} fused_nets[] = {
    {describe_wide, "wide", 32, 9, "images: units of 9 in 16 lanes; maps: units of 8 in 16 lanes"},
    {describe_two_relus, "wide", 32, 9,
     "images: units of 9 in 16 lanes; maps: units of 8 in 16 lanes"},
    {describe_large, "large", 128, 40, "images: units of 40 in 16 lanes"},
    {describe_dropped, "max", 128, 40, "images: units of 32 in 16 lanes"},
    {describe_cheap, "first", 28, 9, "images: units of 2 in 16 lanes"},
    {describe_cheap, "second", 28, 9, "images: units of 2 in 16 lanes"},
};

enum {
    FUSED_NETS = sizeof fused_nets / sizeof fused_nets[0]
};

static nin_network *make_fused_net(int i)
{
    nin_builder *builder = NULL;
    nin_network *made = NULL;

    ASSERT_OK(
        nin_builder_create(&builder, context,
                           NIN_DESC(nin_input_desc, .channels = 1, .height = fused_nets[i].side,
                                    .width = fused_nets[i].side)));
    fused_nets[i].describe(builder);
    ASSERT_OK(nin_builder_finish(&made, builder));
    nin_builder_destroy(builder);
    return made;
}

/* The bits of the scores and of the gradient that one batch gives. */
static uint64_t bits_of_a_run(nin_plan *plan, int i)
{
    static float pixels[40 * 128 * 128];
    int32_t classes[40], batch = fused_nets[i].batch;
    uint64_t hash = RIG_HASH;
    size_t values;
    float *scores;

    for (size_t k = 0; k < sizeof pixels / sizeof pixels[0]; k++)
        pixels[k] = (float)(k * 40503 % 65536) / 32768.0f - 1.0f;
    for (int32_t n = 0; n < batch; n++)
        classes[n] = n % 3;
    ASSERT_OK(nin_plan_forward(plan, NIN_DESC(nin_batch_desc, .images = pixels, .count = batch)));
    ASSERT_OK(nin_plan_backward(NULL, plan, NIN_DESC(nin_backward_desc, .labels = classes)));
    scores = rig_scores(plan, batch, &values);
    hash = rig_hash(hash, scores, values * sizeof *scores);
    free(scores);
    return rig_hash(hash, plan->gradient,
                    nin_network_parameter_count(plan->network) * sizeof *plan->gradient);
}

static void check_order(const nin_plan *plan, int i)
{
    char order[256];

    context->backend->order_of_sums(plan->executable, fused_nets[i].batch, order, sizeof order);
    ck_assert_ptr_nonnull(strstr(order, "; products ")); /* how follows from the processor */
    *strstr(order, "; products ") = '\0';
    ck_assert_str_eq(order, fused_nets[i].order);
}

/* Nor does it cut segments or choose units otherwise: a run may be resumed with other outputs
 * kept. */
START_TEST(keeping_what_is_between_fused_layers_changes_no_order)
{
    nin_network *net = make_fused_net(_i);
    int32_t ops[2];
    uint64_t bits[2];

    for (int32_t keep = 0; keep < 2; keep++) {
        nin_plan *plan = NULL;

        ASSERT_OK(nin_plan_create(&plan, net,
                                  NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN,
                                           .max_batch = fused_nets[_i].batch,
                                           .keep = &fused_nets[_i].keep, .keep_count = keep)));
        check_order(plan, _i);
        ops[keep] = plan->program->count;
        bits[keep] = bits_of_a_run(plan, _i);
        nin_plan_destroy(plan);
    }
    ck_assert_int_eq(ops[1], ops[0] + 1);
    ck_assert_uint_eq(bits[0], bits[1]);
    nin_network_destroy(net);
}
END_TEST

/* One operation, whose output is both layers', unless that of the pool is asked for; never in
 * inference. */
START_TEST(a_dropout_behind_a_max_pool_is_part_of_it)
{
    static const char *const pool[] = {"pool"}, *const drop[] = {"drop"};
    nin_plan *fused = make_plan(NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = BATCH,
                                         .keep = drop, .keep_count = 1));
    nin_plan *apart = make_plan(NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = BATCH,
                                         .keep = pool, .keep_count = 1));
    nin_plan *infer = inference_plan();
    float dropped[BATCH * FILTERS * 16], pooled[BATCH * FILTERS * 16];
    size_t values = BATCH * FILTERS * 16, zeros = 0;
    char text[8192];

    describe_plan(text, fused);
    ck_assert_ptr_nonnull(strstr(text, "3x3/2 pad 1, dropout;"));
    ck_assert_ptr_null(strstr(text, "philox"));
    describe_plan(text, apart);
    ck_assert_ptr_nonnull(strstr(text, "3x3/2 pad 1;"));
    ck_assert_ptr_nonnull(strstr(text, "philox"));
    describe_plan(text, infer);
    ck_assert_ptr_null(strstr(text, "dropout"));
    forward(fused, 7);
    forward(apart, 7);
    ASSERT_OK(nin_plan_kept(fused, "drop", dropped, values));
    ASSERT_OK(nin_plan_kept(apart, "pool", pooled, values));
    for (size_t k = 0; k < values; k++) {
        ck_assert(dropped[k] == 0.0f || dropped[k] == 2.0f * pooled[k]);
        zeros += dropped[k] == 0.0f && pooled[k] != 0.0f;
    }
    ck_assert_uint_gt(zeros, 0);
    ck_assert_uint_lt(zeros, values);
    nin_plan_destroy(fused);
    nin_plan_destroy(apart);
    nin_plan_destroy(infer);
}
END_TEST

START_TEST(the_kept_output_before_the_loss_is_the_scores)
{
    static const char *const keep[] = {"average"};
    nin_plan *plan =
        make_plan(NIN_DESC(nin_plan_desc, .max_batch = BATCH, .keep = keep, .keep_count = 1));
    float scores[SCORES], kept[SCORES];

    forward(plan, 0);
    ASSERT_OK(nin_plan_scores(plan, scores, SCORES));
    ASSERT_OK(nin_plan_kept(plan, "average", kept, SCORES));
    ck_assert_mem_eq(scores, kept, sizeof scores);
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(dropout_scales_in_training_and_does_nothing_in_inference)
{
    enum {
        POOLED = BATCH * FILTERS * 16
    };
    static const char *const keep[] = {"pool", "drop"};
    const nin_mode mode = _i == 0 ? NIN_INFER : NIN_TRAIN;
    nin_plan *plan = make_plan(
        NIN_DESC(nin_plan_desc, .mode = mode, .max_batch = BATCH, .keep = keep, .keep_count = 2));
    static float pool[POOLED], drop[POOLED];
    int dropped = 0;

    forward(plan, 0);
    ASSERT_OK(nin_plan_kept(plan, "pool", pool, POOLED));
    ASSERT_OK(nin_plan_kept(plan, "drop", drop, POOLED));
    for (int i = 0; i < POOLED; i++) {
        ck_assert(mode == NIN_INFER ? drop[i] == pool[i]
                                    : drop[i] == 0.0f || drop[i] == 2.0f * pool[i]);
        dropped += drop[i] == 0.0f && pool[i] != 0.0f;
    }
    if (mode == NIN_TRAIN)
        ck_assert(dropped > POOLED / 4 && dropped < 3 * POOLED / 4);
    nin_plan_destroy(plan);
}
END_TEST

/* Of every layer at the size of the network and at another one; what is fused (in inference relu,
 * drop) has the shape of what it is fused with. */
static const struct {
    const char *name;
    int64_t shape[2][3];
} shapes[] = {
    {"conv", {{FILTERS, SIDE, SIDE}, {FILTERS, 5, 12}}},
    {"relu", {{FILTERS, SIDE, SIDE}, {FILTERS, 5, 12}}},
    {"pool", {{FILTERS, 4, 4}, {FILTERS, 3, 6}}},
    {"drop", {{FILTERS, 4, 4}, {FILTERS, 3, 6}}},
    {"class", {{CLASSES, 4, 4}, {CLASSES, 3, 6}}},
    {"average", {{CLASSES, 1, 1}, {CLASSES, 1, 1}}},
    {"loss", {{CLASSES, 1, 1}, {CLASSES, 1, 1}}},
    {NULL, {{CLASSES, 1, 1}, {CLASSES, 1, 1}}},
};

START_TEST(a_plan_tells_the_shapes_of_its_outputs)
{
    const nin_mode mode = _i < 2 ? NIN_INFER : NIN_TRAIN;
    nin_plan *plan =
        _i % 2 == 0 ? make_plan(NIN_DESC(nin_plan_desc, .mode = mode))
                    : make_plan(NIN_DESC(nin_plan_desc, .mode = mode, .height = 5, .width = 12));
    int64_t shape[3] = {-1, -1, -1};

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "there is no layer 'pol'",
                 nin_plan_shape(shape, plan, "pol"));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "NULL", nin_plan_shape(NULL, plan, NULL));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "NULL", nin_plan_shape(shape, NULL, NULL));
    ck_assert(shape[0] == -1 && shape[1] == -1 && shape[2] == -1);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        ASSERT_OK(nin_plan_shape(shape, plan, shapes[i].name));
        ck_assert_mem_eq(shape, shapes[i].shape[_i % 2], sizeof shape);
    }
    nin_plan_destroy(plan);
}
END_TEST

/* A dropout at the top of an inference program: its output is the input. */
START_TEST(a_layer_that_has_vanished_has_a_shape)
{
    nin_builder *builder = NULL;
    nin_network *top = NULL;
    nin_plan *plan = NULL;
    int64_t shape[3];

    ASSERT_OK(nin_builder_create(&builder, context,
                                 NIN_DESC(nin_input_desc, .channels = 3, .height = 4, .width = 5)));
    nin_builder_dropout(builder, "drop", 0.5);
    nin_builder_conv2d(builder, "conv", NIN_DESC(nin_conv2d_desc, .filters = 7));
    ASSERT_OK(nin_builder_finish(&top, builder));
    nin_builder_destroy(builder);
    ASSERT_OK(nin_plan_create(&plan, top, NULL));
    ASSERT_OK(nin_plan_shape(shape, plan, "drop"));
    ck_assert(shape[0] == 3 && shape[1] == 4 && shape[2] == 5);
    ASSERT_OK(nin_plan_shape(shape, plan, NULL)); /* maps: there is no loss */
    ck_assert(shape[0] == 7 && shape[1] == 4 && shape[2] == 5);
    nin_plan_destroy(plan);
    nin_network_destroy(top);
}
END_TEST

START_TEST(only_what_was_asked_for_is_kept)
{
    static const char *const keep[] = {"relu"};
    nin_plan *plan =
        make_plan(NIN_DESC(nin_plan_desc, .max_batch = BATCH, .keep = keep, .keep_count = 1));
    static float values[BATCH * MAPS];

    forward(plan, 0);
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "the output of 'conv' is not kept",
                 nin_plan_kept(plan, "conv", values, BATCH * MAPS));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "the output of 'average' is not kept",
                 nin_plan_kept(plan, "average", values, SCORES));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "there is no layer 'pol'",
                 nin_plan_kept(plan, "pol", values, BATCH * MAPS));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "9 images of 384",
                 nin_plan_kept(plan, "relu", values, BATCH * MAPS - 1));
    nin_plan_destroy(plan);
}
END_TEST

/* ---- gradients ----------------------------------------------------------------------------- */

START_TEST(backward_needs_a_forward_before_it)
{
    const nin_backward_desc desc = {.struct_size = sizeof desc, .labels = labels};
    nin_plan *train = training_plan(), *infer = inference_plan();
    nin_optimizer *optimizer = make_optimizer();
    const nin_batch_desc batch = batch_at(0);

    ASSERT_FAILS(NIN_INVALID_STATE, "no forward", nin_plan_backward(NULL, train, &desc));
    ASSERT_OK(nin_plan_step(NULL, train, optimizer, &batch, labels));
    ASSERT_FAILS(NIN_INVALID_STATE, "no forward", nin_plan_backward(NULL, train, &desc));
    forward(infer, 0);
    ASSERT_FAILS(NIN_INVALID_STATE, "inference plan", nin_plan_backward(NULL, infer, &desc));
    ASSERT_FAILS(NIN_INVALID_STATE, "inference plan",
                 nin_plan_step(NULL, infer, optimizer, &batch, labels));
    nin_optimizer_destroy(optimizer);
    nin_plan_destroy(train);
    nin_plan_destroy(infer);
}
END_TEST

START_TEST(backward_refuses_parameters_that_have_changed_since_forward)
{
    const nin_backward_desc desc = {.struct_size = sizeof desc, .labels = labels};
    nin_plan *plan = training_plan();

    forward(plan, 0);
    ASSERT_OK(nin_network_initialise(network, NULL, 9));
    ASSERT_FAILS(NIN_INVALID_STATE, "parameters have changed since forward",
                 nin_plan_backward(NULL, plan, &desc));
    forward(plan, 0);
    ASSERT_OK(nin_plan_backward(NULL, plan, &desc));
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(backward_starts_from_labels_or_from_a_score_gradient)
{
    nin_plan *plan = training_plan();
    float score_gradient[SCORES] = {0};

    forward(plan, 0);
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "one of the two",
                 nin_plan_backward(NULL, plan, NIN_DESC(nin_backward_desc, .accumulate = 0)));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "one of the two",
                 nin_plan_backward(NULL, plan,
                                   NIN_DESC(nin_backward_desc, .labels = labels,
                                            .score_gradient = score_gradient)));
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(a_network_without_loss_takes_a_score_gradient_only)
{
    nin_network *linear = one_layer(NULL, NIN_DESC(nin_dense_desc, .units = 2));
    const float score_gradient[2] = {3.0f, -0.5f};
    nin_result result = {.struct_size = sizeof result, .loss = 7.0, .count = 7};
    nin_tensor *biases = NULL;
    nin_plan *plan = NULL;
    float gradient[2];

    ASSERT_OK(nin_plan_create(&plan, linear, NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN)));
    ASSERT_OK(nin_plan_forward(plan, NIN_DESC(nin_batch_desc, .images = images, .count = 1)));
    ASSERT_FAILS(NIN_INVALID_STATE, "labels need a softmax loss",
                 nin_plan_backward(NULL, plan, NIN_DESC(nin_backward_desc, .labels = labels)));
    ASSERT_OK(nin_plan_backward(&result, plan,
                                NIN_DESC(nin_backward_desc, .score_gradient = score_gradient)));
    ck_assert(result.loss == 0.0 && result.count == 0);
    ASSERT_OK(nin_plan_gradient(&biases, plan, nin_network_layer(linear, 0), NIN_BIAS));
    ASSERT_OK(nin_tensor_read(biases, gradient, sizeof gradient));
    ck_assert_mem_eq(gradient, score_gradient, sizeof gradient);
    nin_plan_destroy(plan);
    nin_network_destroy(linear);
}
END_TEST

START_TEST(labels_mean_the_gradient_of_the_mean_cross_entropy)
{
    nin_plan *plan = training_plan();
    float log_p[SCORES], score_gradient[SCORES], a[PARAMETERS], b[PARAMETERS];

    forward(plan, 0);
    backward(plan, 0);
    read_gradient(plan, a);
    ASSERT_OK(nin_plan_log_probabilities(plan, log_p, SCORES));
    for (int i = 0; i < SCORES; i++)
        score_gradient[i] =
            (float)((exp((double)log_p[i]) - (i % CLASSES == labels[i / CLASSES])) / BATCH);
    ASSERT_OK(nin_plan_backward(NULL, plan,
                                NIN_DESC(nin_backward_desc, .score_gradient = score_gradient)));
    read_gradient(plan, b);
    for (int i = 0; i < PARAMETERS; i++)
        ck_assert_double_eq_tol(a[i], b[i], 1e-6);
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(the_same_gradient_added_again_is_exactly_twice_as_large)
{
    nin_plan *plan = training_plan();
    float once[PARAMETERS], twice[PARAMETERS];

    forward(plan, 0);
    ASSERT_FAILS(NIN_INVALID_STATE, "no gradient to add to",
                 nin_plan_backward(NULL, plan,
                                   NIN_DESC(nin_backward_desc, .labels = labels, .accumulate = 1)));
    backward(plan, 0);
    read_gradient(plan, once);
    backward(plan, 1);
    read_gradient(plan, twice);
    for (int i = 0; i < PARAMETERS; i++)
        once[i] *= 2.0f;
    ck_assert_mem_eq(once, twice, sizeof once);
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(gradients_of_two_batches_add_up)
{
    nin_plan *plan = training_plan();
    float first[PARAMETERS], second[PARAMETERS], sum[PARAMETERS];

    forward(plan, 1);
    backward(plan, 0);
    read_gradient(plan, first);
    forward(plan, 2);
    backward(plan, 0);
    read_gradient(plan, second);
    forward(plan, 1);
    backward(plan, 1);
    read_gradient(plan, sum);
    for (int i = 0; i < PARAMETERS; i++)
        second[i] += first[i];
    ck_assert_mem_eq(second, sum, sizeof sum);
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(the_input_gradient_of_a_linear_network_is_its_weights)
{
    nin_network *linear = one_layer(NULL, NIN_DESC(nin_dense_desc, .units = 1));
    const float score_gradient[2] = {1.0f, -2.0f};
    float weights[SIDE * SIDE], gradient[2 * SIDE * SIDE];
    nin_plan *plan = NULL;

    ASSERT_OK(nin_plan_create(&plan, linear,
                              NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .input_gradient = 1)));
    ASSERT_OK(nin_layer_read(nin_network_layer(linear, 0), NIN_WEIGHT, weights, SIDE * SIDE));
    ASSERT_OK(nin_plan_forward(plan, NIN_DESC(nin_batch_desc, .images = images, .count = 2)));
    ASSERT_OK(nin_plan_backward(NULL, plan,
                                NIN_DESC(nin_backward_desc, .score_gradient = score_gradient)));
    ASSERT_OK(nin_plan_input_gradient(plan, gradient, 2 * SIDE * SIDE));
    for (int i = 0; i < SIDE * SIDE; i++) {
        ck_assert(gradient[i] == weights[i]);
        ck_assert(gradient[SIDE * SIDE + i] == -2.0f * weights[i]);
    }
    nin_plan_destroy(plan);
    nin_network_destroy(linear);
}
END_TEST

START_TEST(the_input_gradient_must_be_asked_for)
{
    nin_plan *plan = training_plan();
    static float gradient[BATCH * PIXELS];

    forward(plan, 0);
    backward(plan, 0);
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "set input_gradient",
                 nin_plan_input_gradient(plan, gradient, BATCH * PIXELS));
    nin_plan_destroy(plan);
}
END_TEST

/* It is "for the last backward", whatever has gone forward since. */
START_TEST(the_input_gradient_is_that_of_the_last_backward)
{
    nin_plan *plan = make_plan(
        NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = BATCH, .input_gradient = 1));
    static float before[4 * PIXELS], after[BATCH * PIXELS];

    ASSERT_OK(nin_plan_forward(plan, NIN_DESC(nin_batch_desc, .images = images, .count = 4)));
    backward(plan, 0);
    ASSERT_OK(nin_plan_input_gradient(plan, before, 4 * PIXELS));
    forward(plan, 1);
    ck_assert_msg(nin_plan_input_gradient(plan, after, BATCH * PIXELS) != NIN_OK,
                  "9 images of a gradient of 4");
    ASSERT_OK(nin_plan_input_gradient(plan, after, 4 * PIXELS));
    ck_assert_mem_eq(after, before, sizeof before);
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(gradients_of_layers_are_parts_of_the_arena)
{
    nin_plan *plan = training_plan(), *infer = inference_plan();
    nin_network *other = make_network(SIDE, SIDE);
    const nin_layer *class = nin_network_find(network, "class");
    nin_tensor *whole = NULL, *weights = NULL, *biases = NULL, *none = NULL;
    nin_tensor_info info = {.struct_size = sizeof info}, part = {.struct_size = sizeof part};

    ASSERT_OK(nin_plan_gradient(&whole, plan, NULL, NIN_WEIGHT));
    ASSERT_OK(nin_plan_gradient(&weights, plan, class, NIN_WEIGHT));
    ASSERT_OK(nin_plan_gradient(&biases, plan, class, NIN_BIAS));
    ASSERT_OK(nin_tensor_describe(&info, whole));
    ck_assert_int_eq(info.rank, 1);
    ck_assert_int_eq(info.shape[0], PARAMETERS);
    ASSERT_OK(nin_tensor_describe(&part, biases));
    ck_assert_ptr_eq(part.data, (float *)info.data + PARAMETERS - CLASSES);
    ASSERT_OK(nin_tensor_describe(&part, weights));
    ck_assert_ptr_eq(part.data, (float *)info.data + PARAMETERS - CLASSES - CLASSES * FILTERS);
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "relu 'relu' has no weights",
                 nin_plan_gradient(&none, plan, nin_network_find(network, "relu"), NIN_WEIGHT));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "another network",
                 nin_plan_gradient(&none, plan, nin_network_find(other, "conv"), NIN_WEIGHT));
    ASSERT_FAILS(NIN_INVALID_STATE, "inference plan",
                 nin_plan_gradient(&none, infer, NULL, NIN_WEIGHT));
    ck_assert_ptr_null(none);
    nin_plan_destroy(plan);
    nin_plan_destroy(infer);
    nin_network_destroy(other);
}
END_TEST

/* ---- steps --------------------------------------------------------------------------------- */

/* Three steps by one call each, or by three. */
static void train(bool in_parts, float target[PARAMETERS], nin_result *last)
{
    nin_plan *plan = training_plan();
    nin_optimizer *optimizer = make_optimizer();

    ASSERT_OK(nin_network_initialise(network, NULL, 4));
    for (int64_t step = 0; step < 3; step++) {
        const nin_batch_desc batch = batch_at(step);

        if (in_parts) {
            forward(plan, step);
            *last = backward(plan, 0);
            ASSERT_OK(nin_optimizer_update(optimizer, plan));
        } else {
            ASSERT_OK(nin_plan_step(last, plan, optimizer, &batch, labels));
        }
    }
    read_parameters(network, target);
    nin_optimizer_destroy(optimizer);
    nin_plan_destroy(plan);
}

START_TEST(forward_backward_and_update_are_a_step)
{
    nin_result a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
    float whole[PARAMETERS], parts[PARAMETERS];

    train(false, whole, &a);
    train(true, parts, &b);
    ck_assert_mem_eq(whole, parts, sizeof whole);
    ck_assert_mem_eq(&a, &b, sizeof a);
    ck_assert_int_eq(a.count, BATCH);
    ck_assert(a.loss > 0.0);
}
END_TEST

START_TEST(another_step_draws_other_dropout)
{
    nin_plan *plan = training_plan();
    float first[SCORES], again[SCORES], other[SCORES];

    forward(plan, 1);
    ASSERT_OK(nin_plan_scores(plan, first, SCORES));
    forward(plan, 2);
    ASSERT_OK(nin_plan_scores(plan, other, SCORES));
    forward(plan, 1);
    ASSERT_OK(nin_plan_scores(plan, again, SCORES));
    ck_assert_mem_eq(first, again, sizeof first);
    ck_assert_mem_ne(first, other, sizeof first);
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(a_part_of_a_batch_draws_the_dropout_of_its_position)
{
    nin_plan *plan = training_plan();
    float whole[SCORES], part[SCORES];

    forward(plan, 1);
    ASSERT_OK(nin_plan_scores(plan, whole, SCORES));
    ASSERT_OK(nin_plan_forward(plan, NIN_DESC(nin_batch_desc, .images = images + 4 * PIXELS,
                                              .count = BATCH - 4, .step = 1, .first_position = 4)));
    ASSERT_OK(nin_plan_scores(plan, part, SCORES - 4 * CLASSES));
    for (int i = 0; i < SCORES - 4 * CLASSES; i++)
        ck_assert_double_eq_tol(part[i], whole[4 * CLASSES + i], 1e-5);
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(plan_and_optimizer_must_be_of_one_network)
{
    nin_network *other = make_network(SIDE, SIDE);
    nin_plan *plan = training_plan();
    nin_optimizer *optimizer = NULL;
    const nin_batch_desc batch = batch_at(0);

    ASSERT_OK(nin_optimizer_create_sgd(&optimizer, other, NULL));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "two networks",
                 nin_plan_step(NULL, plan, optimizer, &batch, labels));
    nin_optimizer_destroy(optimizer);
    nin_plan_destroy(plan);
    nin_network_destroy(other);
}
END_TEST

/* ---- NaN and infinity ---------------------------------------------------------------------- */

/* A step that fails as NIN_NOT_FINITE with these words changes neither parameters nor momentum. */
static void assert_step_refused(nin_plan *plan, nin_optimizer *optimizer, int64_t step,
                                const char *words)
{
    const nin_batch_desc batch = batch_at(step);
    float parameters[2][PARAMETERS], momentum[2][PARAMETERS];
    nin_result result = {.struct_size = sizeof result, .count = 7};
    uint64_t version = nin_network_parameter_version(network);

    read_parameters(network, parameters[0]);
    read_momentum(optimizer, momentum[0]);
    ASSERT_FAILS(NIN_NOT_FINITE, words, nin_plan_step(&result, plan, optimizer, &batch, labels));
    read_parameters(network, parameters[1]);
    read_momentum(optimizer, momentum[1]);
    ck_assert_mem_eq(parameters[0], parameters[1], sizeof parameters[0]);
    ck_assert_mem_eq(momentum[0], momentum[1], sizeof momentum[0]);
    ck_assert_uint_eq(nin_network_parameter_version(network), version);
    ck_assert_int_eq(result.count, 7);
}

START_TEST(a_step_whose_loss_is_not_finite_changes_nothing)
{
    const float bad = _i % 2 == 0 ? NAN : INFINITY;
    nin_plan *plan = training_plan();
    nin_optimizer *optimizer = make_optimizer();
    const nin_batch_desc batch = batch_at(0);

    ASSERT_OK(nin_plan_step(NULL, plan, optimizer, &batch, labels)); /* there is momentum now */
    if (_i < 2) {
        images[3 * PIXELS + 5] = bad;
    } else {
        const float biases[CLASSES] = {0.0f, bad};

        ASSERT_OK(nin_layer_write(nin_network_find(network, "class"), NIN_BIAS, biases, CLASSES));
    }
    assert_step_refused(plan, optimizer, 1234, "the loss of step 1234");
    nin_optimizer_destroy(optimizer);
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(a_backward_whose_loss_is_not_finite_leaves_no_gradient)
{
    nin_plan *plan = training_plan();
    nin_optimizer *optimizer = make_optimizer();
    const nin_backward_desc desc = {.struct_size = sizeof desc, .labels = labels};

    images[0] = NAN;
    forward(plan, 77);
    ASSERT_FAILS(NIN_NOT_FINITE, "the loss of step 77", nin_plan_backward(NULL, plan, &desc));
    ASSERT_FAILS(NIN_INVALID_STATE, "no gradient", nin_optimizer_update(optimizer, plan));
    images[0] = 0.0f;
    forward(plan, 78);
    ASSERT_OK(nin_plan_backward(NULL, plan, &desc));
    ASSERT_OK(nin_optimizer_update(optimizer, plan));
    nin_optimizer_destroy(optimizer);
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(an_update_refuses_a_gradient_that_is_not_finite)
{
    static const struct {
        const char *name;
        nin_parameter which;
        float value;
    } bad[] = {{"conv", NIN_BIAS, -INFINITY}, {"class", NIN_WEIGHT, NAN}, {"class", NIN_BIAS, NAN}};
    nin_plan *plan = training_plan();
    nin_optimizer *optimizer = make_optimizer();
    nin_tensor_info info = {.struct_size = sizeof info};
    float before[PARAMETERS], after[PARAMETERS];
    nin_tensor *gradient = NULL;

    forward(plan, 0);
    backward(plan, 0);
    ASSERT_OK(
        nin_plan_gradient(&gradient, plan, nin_network_find(network, bad[_i].name), bad[_i].which));
    ASSERT_OK(nin_tensor_describe(&info, gradient));
    *(float *)info.data = bad[_i].value; /* the first element of this parameter */
    read_parameters(network, before);
    ASSERT_FAILS(NIN_NOT_FINITE, bad[_i].name, nin_optimizer_update(optimizer, plan));
    ck_assert_ptr_nonnull(strstr(nin_last_error(), "gradient of layer"));
    read_parameters(network, after);
    ck_assert_mem_eq(before, after, sizeof before);
    read_momentum(optimizer, after);
    ck_assert_mem_eq(after, (const float[PARAMETERS]){0}, sizeof after);
    nin_optimizer_destroy(optimizer);
    nin_plan_destroy(plan);
}
END_TEST

/* The loss is finite, but the gradient of the first weights overflows. */
START_TEST(a_step_whose_gradient_is_not_finite_is_named_with_its_layer)
{
    nin_plan *plan = training_plan();
    nin_optimizer *optimizer = make_optimizer();
    static float weights[FILTERS * CHANNELS * 9];
    static const float classes[CLASSES * FILTERS] = {1e4f, [FILTERS] = -1e4f};

    for (int i = 0; i < BATCH * PIXELS; i++)
        images[i] = 1e38f;
    for (int i = 0; i < BATCH; i++)
        labels[i] = 1;
    for (int i = 0; i < FILTERS * CHANNELS * 9; i++)
        weights[i] = 1e-36f;
    ASSERT_OK(nin_layer_write(nin_network_find(network, "conv"), NIN_WEIGHT, weights,
                              FILTERS * CHANNELS * 9));
    ASSERT_OK(nin_layer_write(nin_network_find(network, "class"), NIN_WEIGHT, classes,
                              CLASSES * FILTERS));
    assert_step_refused(plan, optimizer, 1234, "the gradient of layer 'conv' is not finite");
    ck_assert_msg(strstr(nin_last_error(), "step 1234") != NULL, "%s", nin_last_error());
    nin_optimizer_destroy(optimizer);
    nin_plan_destroy(plan);
}
END_TEST

/* ---- other sizes, other threads ------------------------------------------------------------ */

/* Weights and biases of every layer of `network` that has any. */
static void copy_layers(nin_network *target)
{
    for (size_t i = 0; i < nin_network_layer_count(network); i++) {
        nin_layer *from = nin_network_layer(network, i), *to = nin_network_layer(target, i);
        nin_layer_info info = {.struct_size = sizeof info};
        float values[PARAMETERS];

        ASSERT_OK(nin_layer_describe(&info, from));
        if (info.weight_count == 0)
            continue;
        ASSERT_OK(nin_layer_read(from, NIN_WEIGHT, values, (size_t)info.weight_count));
        ASSERT_OK(nin_layer_write(to, NIN_WEIGHT, values, (size_t)info.weight_count));
        ASSERT_OK(nin_layer_read(from, NIN_BIAS, values, (size_t)info.bias_count));
        ASSERT_OK(nin_layer_write(to, NIN_BIAS, values, (size_t)info.bias_count));
    }
}

static void score_pixels(float scores[SCORES], nin_network *of, int32_t height, int32_t width)
{
    static unsigned char pixels[BATCH * CHANNELS * 40 * 33];
    nin_plan *plan = NULL;

    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (unsigned char)(i * i);
    ASSERT_OK(nin_plan_create(
        &plan, of, NIN_DESC(nin_plan_desc, .max_batch = BATCH, .height = height, .width = width)));
    ASSERT_OK(nin_plan_forward(
        plan, NIN_DESC(nin_batch_desc, .images = pixels, .dtype = NIN_U8, .count = BATCH)));
    ASSERT_OK(nin_plan_scores(plan, scores, SCORES));
    nin_plan_destroy(plan);
}

/* At another size it is the network that would have been built for that size. */
START_TEST(one_network_predicts_at_two_sizes)
{
    static const int32_t sizes[][2] = {{SIDE, SIDE}, {40, 33}, {5, 6}};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        nin_network *built = make_network(sizes[i][0], sizes[i][1]);
        float scores[2][SCORES];

        copy_layers(built);
        score_pixels(scores[1], built, sizes[i][0], sizes[i][1]);
        score_pixels(scores[0], network, sizes[i][0], sizes[i][1]);
        ck_assert_mem_eq(scores[0], scores[1], sizeof scores[0]);
        nin_network_destroy(built);
    }
}
END_TEST

START_TEST(a_training_step_needs_the_network_for_itself)
{
    nin_plan *plan = training_plan();
    nin_optimizer *optimizer = make_optimizer();
    const nin_batch_desc batch = batch_at(0);
    float before[PARAMETERS], after[PARAMETERS];

    read_parameters(network, before);
    forward(plan, 0);
    ASSERT_OK(nin__network_share(network));
    ASSERT_FAILS(NIN_BUSY, "network", nin_plan_step(NULL, plan, optimizer, &batch, labels));
    backward(plan, 0); /* the forward before the refused step still counts */
    ASSERT_FAILS(NIN_BUSY, "network", nin_optimizer_update(optimizer, plan));
    nin__network_unshare(network);
    read_parameters(network, after);
    ck_assert_mem_eq(before, after, sizeof before);
    ASSERT_OK(nin_optimizer_update(optimizer, plan));
    nin_optimizer_destroy(optimizer);
    nin_plan_destroy(plan);
}
END_TEST

START_TEST(while_a_network_is_changed_no_plan_runs)
{
    nin_plan *plan = training_plan(), *infer = inference_plan();
    nin_optimizer *optimizer = make_optimizer();
    const nin_batch_desc batch = batch_at(0);
    nin_result result = {.struct_size = sizeof result};
    float before[SCORES], after[SCORES];

    forward(plan, 0);
    ASSERT_OK(nin_plan_scores(plan, before, SCORES));
    ASSERT_OK(nin__network_hold(network));
    ASSERT_FAILS(NIN_BUSY, "network", nin_plan_forward(plan, &batch));
    ASSERT_FAILS(NIN_BUSY, "network", nin_plan_evaluate(&result, infer, &batch, labels));
    ASSERT_FAILS(NIN_BUSY, "network", nin_plan_step(NULL, plan, optimizer, &batch, labels));
    ASSERT_FAILS(NIN_BUSY, "network",
                 nin_plan_backward(NULL, plan, NIN_DESC(nin_backward_desc, .labels = labels)));
    ASSERT_OK(nin_plan_scores(plan, after, SCORES));
    nin__network_unhold(network);
    ck_assert_mem_eq(before, after, sizeof before);
    backward(plan, 0);
    nin_optimizer_destroy(optimizer);
    nin_plan_destroy(plan);
    nin_plan_destroy(infer);
}
END_TEST

START_TEST(a_plan_at_work_refuses_another_thread)
{
    nin_plan *plan = training_plan();
    nin_optimizer *optimizer = make_optimizer();
    const nin_batch_desc batch = batch_at(0);
    float scores[SCORES];
    int32_t classes[BATCH];

    forward(plan, 0);
    backward(plan, 0);
    ASSERT_OK(nin__plan_enter(plan)); /* what another thread's call would have done */
    ASSERT_FAILS(NIN_BUSY, "plan", nin_plan_forward(plan, &batch));
    ASSERT_FAILS(NIN_BUSY, "plan", nin_plan_step(NULL, plan, optimizer, &batch, labels));
    ASSERT_FAILS(NIN_BUSY, "plan",
                 nin_plan_backward(NULL, plan, NIN_DESC(nin_backward_desc, .labels = labels)));
    ASSERT_FAILS(NIN_BUSY, "plan", nin_optimizer_update(optimizer, plan));
    ASSERT_FAILS(NIN_BUSY, "plan", nin_plan_scores(plan, scores, SCORES));
    ASSERT_FAILS(NIN_BUSY, "plan", nin_plan_classes(plan, classes, BATCH));
    nin__plan_leave(plan);
    ASSERT_OK(nin_optimizer_update(optimizer, plan));
    nin_optimizer_destroy(optimizer);
    nin_plan_destroy(plan);
}
END_TEST

struct predictor {
    nin_plan *plan;
    float scores[SCORES];
    int failures;
};

static void *predict(void *user)
{
    struct predictor *self = user;
    const nin_batch_desc batch = batch_at(0);

    for (int i = 0; i < 50; i++)
        if (nin_plan_forward(self->plan, &batch) != NIN_OK ||
            nin_plan_scores(self->plan, self->scores, SCORES) != NIN_OK)
            self->failures++;
    return NULL;
}

START_TEST(plans_of_one_network_predict_at_the_same_time)
{
    struct predictor predictors[3] = {{0}};
    pthread_t threads[3];

    for (int i = 0; i < 3; i++) {
        predictors[i].plan = inference_plan();
        ck_assert_int_eq(pthread_create(&threads[i], NULL, predict, &predictors[i]), 0);
    }
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(predictors[i].failures, 0);
        ck_assert_mem_eq(predictors[i].scores, predictors[0].scores, sizeof predictors[0].scores);
        nin_plan_destroy(predictors[i].plan);
    }
}
END_TEST

/* ---- suite --------------------------------------------------------------------------------- */

static TCase *new_case(Suite *suite, const char *name)
{
    TCase *cases = tcase_create(name);

    tcase_add_checked_fixture(cases, setup, teardown);
    suite_add_tcase(suite, cases);
    return cases;
}

static void add_runs(Suite *suite)
{
    TCase *making = new_case(suite, "making"), *batches = new_case(suite, "batches");
    TCase *results = new_case(suite, "results");

    tcase_add_loop_test(making, a_wrong_descriptor_makes_no_plan, 0, WRONG_PLANS);
    tcase_add_test(making, a_layer_that_does_not_fit_the_input_size_is_named);
    tcase_add_test(making, a_plan_describes_its_ops_a_line_each);
    tcase_add_test(making, a_plan_counts_its_multiplications);
    tcase_add_test(making, a_plan_says_what_its_work_takes_at_the_peak);
    tcase_add_test(making, a_plan_in_use_is_not_measured);
    tcase_add_test(making, shapes_choose_the_algorithm);
    tcase_add_test(making, shapes_choose_the_points);
    tcase_add_test(making, plans_do_not_share_what_differs);
    tcase_add_test(making, the_description_of_a_plan_names_its_layers);
    tcase_add_test(making, a_training_plan_holds_more_bytes_and_a_larger_batch_not_many_more);
    tcase_add_test(making, a_plan_whose_bytes_overflow_is_refused);
    tcase_add_loop_test(batches, a_wrong_batch_is_refused_and_the_last_run_stays, 0, WRONG_BATCHES);
    tcase_add_loop_test(batches, a_tensor_of_another_shape_or_type_is_refused, 0, WRONG_TENSORS);
    tcase_add_test(batches, a_tensor_gives_the_bits_of_its_memory);
    tcase_add_test(batches, stored_pixels_are_scaled_and_shifted);
    tcase_add_loop_test(batches, a_label_out_of_range_is_refused, 0, 4);
    tcase_add_test(results, before_the_first_run_there_is_nothing_to_read);
    tcase_add_test(results, a_wrong_number_of_values_is_refused);
    tcase_add_test(results, log_probabilities_and_classes_follow_from_the_scores);
    tcase_add_test(results, the_class_is_the_first_largest_score);
    tcase_add_test(results, an_evaluation_is_the_mean_of_its_images);
    tcase_add_test(results, equal_scores_count_as_flat_and_as_the_first_class);
    tcase_add_test(results, nan_is_no_correct_score);
    tcase_add_test(results, only_an_inference_plan_with_a_loss_evaluates);
    tcase_add_test(results, an_evaluation_needs_no_result);
    tcase_add_loop_test(results, a_relu_clips_what_was_kept_before_it, 0, 2);
    tcase_add_test(results, keeping_changes_no_bits);
    tcase_add_test(results, a_cheap_output_is_made_again_with_the_same_bits);
    tcase_add_loop_test(results, keeping_what_is_between_fused_layers_changes_no_order, 0,
                        FUSED_NETS);
    tcase_add_test(results, a_dropout_behind_a_max_pool_is_part_of_it);
    tcase_add_test(results, the_kept_output_before_the_loss_is_the_scores);
    tcase_add_loop_test(results, dropout_scales_in_training_and_does_nothing_in_inference, 0, 2);
    tcase_add_loop_test(results, a_plan_tells_the_shapes_of_its_outputs, 0, 4);
    tcase_add_test(results, a_layer_that_has_vanished_has_a_shape);
    tcase_add_test(results, only_what_was_asked_for_is_kept);
}

static void add_steps(Suite *suite)
{
    TCase *gradients = new_case(suite, "gradients"), *steps = new_case(suite, "steps");
    TCase *sharing = new_case(suite, "sharing");

    tcase_add_test(gradients, backward_needs_a_forward_before_it);
    tcase_add_test(gradients, backward_refuses_parameters_that_have_changed_since_forward);
    tcase_add_test(gradients, backward_starts_from_labels_or_from_a_score_gradient);
    tcase_add_test(gradients, a_network_without_loss_takes_a_score_gradient_only);
    tcase_add_test(gradients, labels_mean_the_gradient_of_the_mean_cross_entropy);
    tcase_add_test(gradients, the_same_gradient_added_again_is_exactly_twice_as_large);
    tcase_add_test(gradients, gradients_of_two_batches_add_up);
    tcase_add_test(gradients, the_input_gradient_of_a_linear_network_is_its_weights);
    tcase_add_test(gradients, the_input_gradient_must_be_asked_for);
    tcase_add_test(gradients, the_input_gradient_is_that_of_the_last_backward);
    tcase_add_test(gradients, gradients_of_layers_are_parts_of_the_arena);
    tcase_add_test(steps, forward_backward_and_update_are_a_step);
    tcase_add_test(steps, another_step_draws_other_dropout);
    tcase_add_test(steps, a_part_of_a_batch_draws_the_dropout_of_its_position);
    tcase_add_test(steps, plan_and_optimizer_must_be_of_one_network);
    tcase_add_loop_test(steps, a_step_whose_loss_is_not_finite_changes_nothing, 0, 4);
    tcase_add_test(steps, a_backward_whose_loss_is_not_finite_leaves_no_gradient);
    tcase_add_loop_test(steps, an_update_refuses_a_gradient_that_is_not_finite, 0, 3);
    tcase_add_test(steps, a_step_whose_gradient_is_not_finite_is_named_with_its_layer);
    tcase_add_test(sharing, one_network_predicts_at_two_sizes);
    tcase_add_test(sharing, a_training_step_needs_the_network_for_itself);
    tcase_add_test(sharing, while_a_network_is_changed_no_plan_runs);
    tcase_add_test(sharing, a_plan_at_work_refuses_another_thread);
    tcase_add_test(sharing, plans_of_one_network_predict_at_the_same_time);
}

Suite *plan_suite(void)
{
    Suite *suite = suite_create("plan");

    add_runs(suite);
    add_steps(suite);
    return suite;
}
