/* SPDX-License-Identifier: MIT */
/* NIN_BF16 on a CUDA device. Small whole numbers are bf16 as well as float, and so are their sums and products as
 * long as they stay small: networks that have nothing else give the same bits in both, whatever the order of sums.
 * What is rounded otherwise is looked at in suite cuda. */
#include "device.h"
#include "suites.h"
#include "test.h"

#include "core/network.h"
#include "core/plan.h"
#include "core/rng.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    BATCH = 5
};

static const float KEEP = 0.5f; /* of dropout: what is kept is doubled */

/* What stands between two convolutions, or at the end behind the first. */
typedef void (*describe_function)(nin_builder *builder);

static void nothing(nin_builder *builder)
{
    (void)builder;
}

static void relu(nin_builder *builder)
{
    nin_builder_average_pool(builder, "one", NIN_DESC(nin_pool_desc, .kernel = 1, .stride = 1));
    nin_builder_relu(builder, "relu");
}

static void dropout(nin_builder *builder)
{
    nin_builder_dropout(builder, "drop", KEEP);
}

static void max_pool(nin_builder *builder)
{
    nin_builder_max_pool(builder, "max",
                         NIN_DESC(nin_pool_desc, .kernel = 3, .stride = 2, .pad = 1));
}

static void max_pool_and_dropout(nin_builder *builder)
{
    max_pool(builder);
    dropout(builder);
}

static void average_pool(nin_builder *builder)
{
    nin_builder_average_pool(builder, "mean", NIN_DESC(nin_pool_desc, .kernel = 2, .stride = 2));
}

static void second(nin_builder *builder)
{
    nin_builder_conv2d(builder, "second",
                       NIN_DESC(nin_conv2d_desc, .filters = 6, .kernel = 3, .stride = 2, .pad = 1));
}

static void dense(nin_builder *builder)
{
    nin_builder_dense(builder, "dense", NIN_DESC(nin_dense_desc, .units = 7));
}

static void relu_and_dense(nin_builder *builder)
{
    nin_builder_relu(builder, "relu");
    dense(builder);
}

static void dense_and_relu(nin_builder *builder)
{
    dense(builder);
    nin_builder_relu(builder, "last");
}

static const struct net {
    int32_t channels, filters, kernel, no_bias;
    describe_function between, end;
} nets[] = {
    {1, 5, 5, 0, nothing, second},
    {3, 8, 3, 0, nothing, second},
    {8, 16, 3, 0, nothing, second},
    {16, 8, 1, 0, nothing, dense},
    {4, 8, 3, 1, nothing, second},
    {3, 5, 3, 0, relu, second},
    {3, 8, 3, 0, dropout, second},
    {3, 5, 3, 0, max_pool, second},
    {3, 8, 3, 0, max_pool, second},
    {2, 8, 3, 1, max_pool, dense},
    {3, 5, 2, 0, max_pool_and_dropout, second},
    {1, 12, 3, 0, max_pool_and_dropout, dense},
    {2, 8, 3, 0, average_pool, dense},
    {3, 5, 3, 0, average_pool, second},
    {3, 5, 3, 0, relu_and_dense, nothing},
    {3, 8, 3, 0, dense_and_relu, nothing},
    {3, 5, 3, 0, nothing, nothing},
    {3, 8, 3, 0, nothing, max_pool},
    {3, 5, 3, 0, nothing, max_pool_and_dropout},
    {3, 5, 3, 0, nothing, average_pool},
    {3, 8, 3, 0, nothing, relu},
    {3, 8, 3, 0, nothing, dropout},
};

static nin_network *build(nin_context *context, const struct net *net)
{
    nin_builder *builder = NULL;
    nin_network *network = NULL;

    ASSERT_OK(nin_builder_create(
        &builder, context,
        NIN_DESC(nin_input_desc, .channels = net->channels, .height = 9, .width = 7)));
    nin_builder_conv2d(builder, "first",
                       NIN_DESC(nin_conv2d_desc, .filters = net->filters, .kernel = net->kernel,
                                .pad = net->kernel / 2, .no_bias = net->no_bias));
    if (net->between == nothing || net->between == max_pool)
        nin_builder_relu(builder, "rectified");
    net->between(builder);
    net->end(builder);
    ASSERT_OK(nin_builder_finish(&network, builder));
    nin_builder_destroy(builder);
    return network;
}

static float *new_floats(size_t count)
{
    float *floats = calloc(count + 1, sizeof *floats);

    ck_assert_ptr_nonnull(floats);
    return floats;
}

/* Whole numbers from -most to most; of a hundred so many are not 0. */
static float *whole_numbers(size_t count, int most, int percent, uint32_t stream)
{
    float *numbers = new_floats(count), *chance = new_floats(count);

    nin__rng_uniform(numbers, count, 1.0, 5, stream);
    nin__rng_uniform(chance, count, 1.0, 6, stream);
    for (size_t i = 0; i < count; i++)
        numbers[i] =
            chance[i] < (float)percent / 50.0f - 1.0f ? nearbyintf(numbers[i] * (float)most) : 0.0f;
    free(chance);
    return numbers;
}

/* Everything that a forward pass and a backward one give. */
struct outcome {
    float *scores, *gradient, *input_gradient;
    size_t score_count, parameter_count, input_count;
};

static void free_outcome(struct outcome *outcome)
{
    free(outcome->scores);
    free(outcome->gradient);
    free(outcome->input_gradient);
}

static void read_outcome(struct outcome *o, nin_plan *plan)
{
    nin_tensor *gradient = NULL;

    o->scores = new_floats(o->score_count);
    o->gradient = new_floats(o->parameter_count);
    o->input_gradient = new_floats(o->input_count);
    ASSERT_OK(nin_plan_scores(plan, o->scores, o->score_count));
    ASSERT_OK(nin_plan_gradient(&gradient, plan, NULL, NIN_WEIGHT));
    ASSERT_OK(nin_tensor_read(gradient, o->gradient, o->parameter_count * sizeof *o->gradient));
    ASSERT_OK(nin_plan_input_gradient(plan, o->input_gradient, o->input_count));
}

static struct outcome run(const struct net *net, nin_precision precision)
{
    nin_context *context = NULL;
    nin_network *network;
    nin_plan *plan = NULL;
    struct outcome o = {.input_count = (size_t)BATCH * 9 * 7 * (size_t)net->channels};
    float *parameters, *images, *score_gradient;

    ASSERT_OK(nin_context_create(&context,
                                 NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CUDA, .seed = 3)));
    network = build(context, net);
    o.parameter_count = nin_network_parameter_count(network);
    parameters = whole_numbers(o.parameter_count, 2, 15, 1);
    ASSERT_OK(nin__network_upload(network, parameters));
    ASSERT_OK(nin_plan_create(&plan, network,
                              NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = BATCH,
                                       .precision = precision, .algorithm = NIN_ALGORITHM_GEMM,
                                       .input_gradient = 1)));
    o.score_count = nin__shape_size(plan->scores) * BATCH;
    images = whole_numbers(o.input_count, 3, 60, 2);
    score_gradient = whole_numbers(o.score_count, 2, 50, 3);
    ASSERT_OK(nin_plan_forward(plan, NIN_DESC(nin_batch_desc, .images = images, .dtype = NIN_F32,
                                              .count = BATCH, .step = 4)));
    ASSERT_OK(nin_plan_backward(NULL, plan,
                                NIN_DESC(nin_backward_desc, .score_gradient = score_gradient)));
    read_outcome(&o, plan);
    free(parameters);
    free(images);
    free(score_gradient);
    nin_plan_destroy(plan);
    nin_network_destroy(network);
    nin_context_destroy(context);
    return o;
}

/* Every number is a bf16, too, and not all are 0. */
static void check_same(const float *got, const float *wanted, size_t count, const char *what)
{
    bool none = true;

    for (size_t i = 0; i < count; i++) {
        ck_assert_msg(got[i] == wanted[i], "%s %zu: %g in place of %g", what, i, (double)got[i],
                      (double)wanted[i]);
        none = none && wanted[i] == 0.0f;
    }
    ck_assert_msg(!none, "%s: nothing but 0", what);
}

START_TEST(small_whole_numbers_are_exact)
{
    struct outcome wanted, got;

    use_a_device_module();
    wanted = run(&nets[_i], NIN_FP32);
    got = run(&nets[_i], NIN_BF16);
    check_same(got.scores, wanted.scores, wanted.score_count, "score");
    check_same(got.gradient, wanted.gradient, wanted.parameter_count, "gradient");
    check_same(got.input_gradient, wanted.input_gradient, wanted.input_count, "input's gradient");
    free_outcome(&wanted);
    free_outcome(&got);
}
END_TEST

/* A kernel makes the forms of 32 layers' weights. Each layer here doubles, or halves. */
START_TEST(many_layers_have_their_weights)
{
    enum {
        LAYERS = 34
    };
    const float images[] = {1.0f, -2.0f, 3.0f, 0.5f};
    float parameters[LAYERS], scores[4];
    nin_context *context = NULL;
    nin_builder *builder = NULL;
    nin_network *network = NULL;
    nin_plan *plan = NULL;

    use_a_device_module();
    ASSERT_OK(nin_context_create(&context, NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CUDA)));
    ASSERT_OK(nin_builder_create(&builder, context,
                                 NIN_DESC(nin_input_desc, .channels = 1, .height = 2, .width = 2)));
    for (int i = 0; i < LAYERS; i++) {
        char name[16];

        snprintf(name, sizeof name, "layer%d", i);
        nin_builder_conv2d(builder, name,
                           NIN_DESC(nin_conv2d_desc, .filters = 1, .kernel = 1, .no_bias = 1));
        parameters[i] = i % 2 == 0 ? 2.0f : 0.5f;
    }
    ASSERT_OK(nin_builder_finish(&network, builder));
    ASSERT_OK(nin__network_upload(network, parameters));
    ASSERT_OK(nin_plan_create(&plan, network, NIN_DESC(nin_plan_desc, .precision = NIN_BF16)));
    ASSERT_OK(nin_plan_forward(
        plan, NIN_DESC(nin_batch_desc, .images = images, .dtype = NIN_F32, .count = 1)));
    ASSERT_OK(nin_plan_scores(plan, scores, 4));
    for (int i = 0; i < 4; i++)
        ck_assert_float_eq(scores[i], images[i]);
    nin_plan_destroy(plan);
    nin_network_destroy(network);
    nin_builder_destroy(builder);
    nin_context_destroy(context);
}
END_TEST

struct Suite *cuda_bf16_suite(void)
{
    Suite *suite = suite_create("cuda_bf16");
    TCase *tests = tcase_create("bf16");

    tcase_set_tags(tests, "cuda");
    tcase_add_loop_test(tests, small_whole_numbers_are_exact, 0, sizeof nets / sizeof nets[0]);
    tcase_add_test(tests, many_layers_have_their_weights);
    suite_add_tcase(suite, tests);
    return suite;
}
