/* SPDX-License-Identifier: MIT */
/* NIN_BF16 on a CUDA device, and NIN_TF32, whose kernels are the same. Small whole numbers are bf16
 * and TF32 as well as float, and so are their sums and products as long as they stay small:
 * networks that have nothing else give the same bits in all, whatever the order of sums, with
 * cuBLAS's products as with those of libnin's own kernels. What is rounded otherwise is looked at
 * in suite cuda, but for how far the two are apart. */
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
#include <string.h>

enum {
    BATCH = 5,
    SMALL = 13 /* the height of maps that are quickly done */
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

static void pointwise(nin_builder *builder, const char *name, int32_t filters, int32_t no_bias)
{
    nin_builder_conv2d(
        builder, name,
        NIN_DESC(nin_conv2d_desc, .filters = filters, .kernel = 1, .no_bias = no_bias));
}

static void ten(nin_builder *builder)
{
    pointwise(builder, "ten", 10, 0);
}

static void ten_without_bias(nin_builder *builder)
{
    pointwise(builder, "ten", 10, 1);
}

static void three_by_three(nin_builder *builder)
{
    nin_builder_conv2d(builder, "three", NIN_DESC(nin_conv2d_desc, .filters = 24, .kernel = 3));
    nin_builder_relu(builder, "relu3");
    ten(builder);
}

static void strided(nin_builder *builder)
{
    nin_builder_conv2d(builder, "strided",
                       NIN_DESC(nin_conv2d_desc, .filters = 16, .kernel = 3, .stride = 2));
    nin_builder_relu(builder, "relu2");
    nin_builder_conv2d(
        builder, "skipping",
        NIN_DESC(nin_conv2d_desc, .filters = 8, .kernel = 1, .stride = 2, .no_bias = 1));
    nin_builder_conv2d(builder, "wide",
                       NIN_DESC(nin_conv2d_desc, .filters = 8, .kernel = 3, .pad = 2));
    nin_builder_relu(builder, "relu3");
    ten(builder);
}

static void ten_and_average_pool(nin_builder *builder)
{
    ten(builder);
    nin_builder_relu(builder, "last");
    average_pool(builder);
}

static void average_pool_and_ten(nin_builder *builder)
{
    average_pool(builder);
    ten(builder);
}

static void forty_and_max_pool(nin_builder *builder)
{
    pointwise(builder, "forty", 40, 0);
    nin_builder_relu(builder, "last");
    nin_builder_max_pool(builder, "top", NIN_DESC(nin_pool_desc, .kernel = 2, .stride = 2));
}

static void three_layers(nin_builder *builder)
{
    pointwise(builder, "second", 40, 0);
    nin_builder_relu(builder, "relu2");
    pointwise(builder, "third", 24, 1);
    nin_builder_relu(builder, "relu3");
    pointwise(builder, "fourth", 16, 0);
    nin_builder_relu(builder, "last");
}

static void seven_of_nine(nin_builder *builder)
{
    pointwise(builder, "nine", 9, 0);
    nin_builder_relu(builder, "relu9");
    pointwise(builder, "seven", 7, 0);
}

static const struct net {
    int32_t channels, filters, kernel, no_bias;
    describe_function between, end;
    int direct; /* convolutions that are libnin's own kernels' */
    int sparse; /* so many times fewer parameters are not 0 */
    int32_t height, width;
    int more;   /* convolutions that are libnin's own kernels' in NIN_TF32 only */
    bool asked; /* these kernels are for NIN_ALGORITHM_DIRECT only */
} nets[] = {
    {1, 5, 5, 0, nothing, second, 1, 1, 9, 7, 0, false},
    {3, 8, 3, 0, nothing, second, 1, 1, 9, 7, 0, false},
    {8, 16, 3, 0, nothing, second, 0, 1, 9, 7, 0, false},
    {16, 8, 1, 0, nothing, dense, 1, 1, 9, 7, 0, false},
    {4, 8, 3, 1, nothing, second, 1, 1, 9, 7, 0, false},
    {3, 5, 3, 0, relu, second, 1, 1, 9, 7, 0, false},
    {3, 8, 3, 0, dropout, second, 1, 1, 9, 7, 0, false},
    {3, 5, 3, 0, max_pool, second, 1, 1, 9, 7, 0, false},
    {3, 8, 3, 0, max_pool, second, 1, 1, 9, 7, 0, false},
    {2, 8, 3, 1, max_pool, dense, 1, 1, 9, 7, 0, false},
    {3, 5, 2, 0, max_pool_and_dropout, second, 1, 1, 9, 7, 0, false},
    {1, 12, 3, 0, max_pool_and_dropout, dense, 1, 1, 9, 7, 0, false},
    {2, 8, 3, 0, average_pool, dense, 1, 1, 9, 7, 0, false},
    {3, 5, 3, 0, average_pool, second, 1, 1, 9, 7, 0, false},
    {3, 5, 3, 0, relu_and_dense, nothing, 1, 1, 9, 7, 0, false},
    {3, 8, 3, 0, dense_and_relu, nothing, 1, 1, 9, 7, 0, false},
    {3, 5, 3, 0, nothing, nothing, 1, 1, 9, 7, 0, false},
    {3, 8, 3, 0, nothing, max_pool, 1, 1, 9, 7, 0, false},
    {3, 5, 3, 0, nothing, max_pool_and_dropout, 1, 1, 9, 7, 0, false},
    {3, 5, 3, 0, nothing, average_pool, 1, 1, 9, 7, 0, false},
    {3, 8, 3, 0, nothing, relu, 1, 1, 9, 7, 0, false},
    {3, 8, 3, 0, nothing, dropout, 1, 1, 9, 7, 0, false},
    {8, 16, 1, 0, nothing, nothing, 1, 1, 9, 7, 0, false},
    {16, 24, 1, 1, nothing, ten, 2, 1, 9, 7, 0, false},
    {16, 24, 1, 0, nothing, ten_without_bias, 2, 1, 9, 7, 0, false},
    {24, 16, 1, 0, nothing, three_layers, 4, 2, 9, 7, 0, false},
    {8, 24, 3, 0, nothing, three_layers, 3, 2, 9, 7, 0, false},
    {8, 16, 3, 0, max_pool, ten_and_average_pool, 1, 1, 9, 7, 0, false},
    {8, 48, 1, 0, average_pool, forty_and_max_pool, 2, 2, 9, 7, 0, false},
    {16, 8, 1, 0, max_pool_and_dropout, forty_and_max_pool, 2, 1, 9, 7, 0, false},
    {8, 16, 1, 0, nothing, seven_of_nine, 2, 1, 9, 7, 0, false},
    {136, 200, 1, 0, nothing, ten, 2, 6, 9, 7, 0, false},
    {256, 104, 1, 0, nothing, ten, 2, 6, 9, 7, 0, false},
    {264, 8, 1, 0, nothing, ten, 1, 3, 9, 7, 0, false},
    {8, 264, 1, 0, nothing, ten, 0, 6, 9, 7, 0, false},
    {3, 40, 5, 0, max_pool, ten, 2, 1, 9, 7, 0, false},
    {4, 104, 3, 0, nothing, ten, 2, 2, 9, 7, 0, false},
    {4, 8, 5, 0, nothing, ten, 1, 1, 9, 7, 0, false},
    {12, 20, 1, 0, nothing, ten, 0, 1, 9, 7, 2, false},
    {4, 36, 1, 0, average_pool, forty_and_max_pool, 0, 2, 9, 7, 2, false},
    {8, 3, 1, 0, average_pool, dense, 2, 1, 7, 7, 0, false},
    {8, 16, 3, 0, nothing, second, 2, 1, 9, 7, 0, true},
    {16, 8, 5, 0, nothing, ten, 2, 1, 9, 7, 0, true},
    {8, 8, 2, 1, dropout, second, 2, 1, 9, 7, 0, true},
    {3, 8, 3, 0, nothing, three_by_three, 3, 2, 9, 7, 0, true},
    {3, 8, 3, 0, max_pool_and_dropout, three_by_three, 3, 1, 9, 7, 0, true},
    {16, 40, 3, 0, max_pool, three_by_three, 3, 4, 9, 7, 0, true},
    {8, 8, 3, 0, nothing, strided, 5, 1, 9, 7, 0, true},
    {4, 24, 3, 0, dropout, strided, 5, 1, 13, 11, 0, true},
    {12, 20, 3, 0, nothing, ten, 0, 2, 9, 7, 2, true},
    {24, 12, 3, 0, nothing, ten, 1, 2, 9, 7, 1, true},
    {8, 264, 3, 0, nothing, ten, 0, 6, 9, 7, 0, true},
    {264, 8, 3, 0, nothing, ten, 2, 9, 9, 7, 0, true},
    {40, 200, 3, 0, average_pool, ten, 2, 6, 9, 7, 0, true},
    {8, 16, 3, 0, nothing, nothing, 1, 1, 9, 7, 0, true},
    {8, 16, 5, 0, nothing, dense, 1, 1, 2, 3, 0, true},
    {96, 64, 1, 0, nothing, ten, 2, 4, 60, 57, 0, false},
    {64, 96, 1, 0, nothing, ten, 2, 4, 60, 57, 0, false},
    {48, 128, 1, 0, nothing, ten, 2, 4, 60, 57, 0, false},
    {128, 48, 1, 0, nothing, ten_and_average_pool, 2, 4, 60, 57, 0, false},
    {1, 64, 5, 1, nothing, ten, 2, 2, 60, 57, 0, false},
    {8, 64, 3, 0, nothing, ten, 2, 3, 60, 57, 0, true},
    {8, 96, 3, 1, nothing, ten, 2, 3, 60, 57, 0, true},
    {8, 128, 3, 0, nothing, ten, 2, 3, 60, 57, 0, true},
};

enum {
    NETS = sizeof nets / sizeof nets[0],
    LARGE = 7 /* the last ones, which take long; one of a larger map is before them */
};

/* Tests go over all nets in NIN_BF16, and then in NIN_TF32. */
static const struct net *net_of(int i)
{
    return &nets[i % NETS];
}

static nin_precision precision_of(int i)
{
    return i < NETS ? NIN_BF16 : NIN_TF32;
}

static nin_algorithm own_of(const struct net *net)
{
    return net->asked ? NIN_ALGORITHM_DIRECT : NIN_ALGORITHM_AUTO;
}

static int direct_of(const struct net *net, nin_precision precision)
{
    return net->direct + (precision == NIN_TF32 ? net->more : 0);
}

static nin_network *build(nin_context *context, const struct net *net)
{
    nin_builder *builder = NULL;
    nin_network *network = NULL;

    ASSERT_OK(nin_builder_create(&builder, context,
                                 NIN_DESC(nin_input_desc, .channels = net->channels,
                                          .height = net->height, .width = net->width)));
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

/* How many convolutions of the plan go by kernels of libnin's own. */
static int count_direct(const nin_plan *plan)
{
    static char text[4096];
    int count = 0;

    ck_assert_uint_lt(nin_plan_describe(plan, text, sizeof text), sizeof text);
    for (const char *at = text; (at = strstr(at, " direct ")) != NULL; at++)
        count++;
    return count;
}

/* What is done with a network. */
struct how {
    nin_precision precision;
    nin_algorithm algorithm;
    bool fractions;  /* parameters and images are positive, not whole numbers */
    bool accumulate; /* the gradient twice */
};

static float *parameters_of(const struct net *net, size_t count, struct how how)
{
    float *parameters;

    if (!how.fractions)
        return whole_numbers(count, 2, 15 / net->sparse, 1);
    parameters = new_floats(count);
    nin__rng_uniform(parameters, count, 0.25, 5, 1);
    for (size_t i = 0; i < count; i++)
        parameters[i] = fabsf(parameters[i]);
    return parameters;
}

static float *images_of(const struct outcome *o, struct how how)
{
    float *images;

    if (!how.fractions)
        return whole_numbers(o->input_count, 3, 60, 2);
    images = new_floats(o->input_count);
    nin__rng_uniform(images, o->input_count, 1.0, 5, 2);
    for (size_t i = 0; i < o->input_count; i++)
        images[i] = fabsf(images[i]);
    return images;
}

static void go(nin_plan *plan, const struct outcome *o, struct how how)
{
    float *images = images_of(o, how);
    float *score_gradient = whole_numbers(o->score_count, 2, 50, 3);

    ASSERT_OK(nin_plan_forward(plan, NIN_DESC(nin_batch_desc, .images = images, .dtype = NIN_F32,
                                              .count = BATCH, .step = 4)));
    for (int32_t accumulate = 0; accumulate <= (how.accumulate ? 1 : 0); accumulate++)
        ASSERT_OK(nin_plan_backward(NULL, plan,
                                    NIN_DESC(nin_backward_desc, .score_gradient = score_gradient,
                                             .accumulate = accumulate)));
    free(images);
    free(score_gradient);
}

static struct outcome run(const struct net *net, struct how how)
{
    nin_context *context = NULL;
    nin_network *network;
    nin_plan *plan = NULL;
    struct outcome o = {.input_count = (size_t)BATCH * (size_t)net->height * (size_t)net->width *
                                       (size_t)net->channels};
    float *parameters;

    ASSERT_OK(nin_context_create(&context,
                                 NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CUDA, .seed = 3)));
    network = build(context, net);
    o.parameter_count = nin_network_parameter_count(network);
    parameters = parameters_of(net, o.parameter_count, how);
    ASSERT_OK(nin__network_upload(network, parameters));
    ASSERT_OK(nin_plan_create(&plan, network,
                              NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = BATCH,
                                       .precision = how.precision, .algorithm = how.algorithm,
                                       .input_gradient = 1)));
    ck_assert_int_eq(count_direct(plan),
                     how.algorithm == NIN_ALGORITHM_GEMM ? 0 : direct_of(net, how.precision));
    o.score_count = nin__shape_size(plan->scores) * BATCH;
    go(plan, &o, how);
    read_outcome(&o, plan);
    free(parameters);
    nin_plan_destroy(plan);
    nin_network_destroy(network);
    nin_context_destroy(context);
    return o;
}

/* Bit for bit, and not all are 0. */
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

static void check_outcome(const struct outcome *got, const struct outcome *wanted)
{
    check_same(got->scores, wanted->scores, wanted->score_count, "score");
    check_same(got->gradient, wanted->gradient, wanted->parameter_count, "gradient");
    check_same(got->input_gradient, wanted->input_gradient, wanted->input_count,
               "input's gradient");
}

static void check_whole_numbers(const struct net *net, nin_precision precision,
                                nin_algorithm algorithm, bool accumulate)
{
    struct how how = {NIN_FP32, NIN_ALGORITHM_GEMM, false, accumulate};
    struct outcome wanted = run(net, how), got;

    how.precision = precision;
    how.algorithm = algorithm;
    got = run(net, how);
    check_outcome(&got, &wanted);
    free_outcome(&wanted);
    free_outcome(&got);
}

START_TEST(small_whole_numbers_are_exact)
{
    use_a_device_module();
    check_whole_numbers(net_of(_i), precision_of(_i), NIN_ALGORITHM_GEMM, false);
    check_whole_numbers(net_of(_i), precision_of(_i), own_of(net_of(_i)), _i % 2 == 1);
}
END_TEST

/* Root mean square of the differences, relative to that of what is wanted. */
static double difference(const float *got, const float *wanted, size_t count)
{
    double sum = 0.0, all = 0.0;

    for (size_t i = 0; i < count; i++) {
        sum += (double)(got[i] - wanted[i]) * (double)(got[i] - wanted[i]);
        all += (double)wanted[i] * (double)wanted[i];
    }
    ck_assert(all > 0.0);
    return sqrt(sum / all);
}

static void check_near(const float *got, const float *wanted, size_t count, double bound,
                       const char *what)
{
    double apart = difference(got, wanted, count);

    ck_assert_msg(apart < bound, "%s: %g", what, apart);
}

/* The order of blocks and threads is another one in each run of the stand-in's. */
START_TEST(no_order_of_threads_is_part_of_the_bits)
{
    const struct net *net = net_of(_i);
    struct how how = {precision_of(_i), own_of(net), true, false};
    struct outcome first, second;

    if (direct_of(net, how.precision) == 0 || net->height > SMALL)
        return;
    use_a_device_module();
    first = run(net, how);
    second = run(net, how);
    check_outcome(&second, &first);
    free_outcome(&first);
    free_outcome(&second);
}
END_TEST

static bool has_max_pool(const struct net *net)
{
    return net->between == max_pool || net->between == max_pool_and_dropout ||
           net->end == max_pool || net->end == max_pool_and_dropout ||
           net->end == forty_and_max_pool;
}

/* Nothing is negative, so no ReLU decides otherwise; but of nearly equal numbers another may be the
 * largest. In NIN_TF32 cuBLAS may cut bits off where kernels round. */
START_TEST(kernels_and_cublas_round_alike)
{
    const struct net *net = net_of(_i);
    struct how how = {precision_of(_i), NIN_ALGORITHM_GEMM, true, false};
    double bound = how.precision == NIN_BF16 ? 1e-2 : 4e-3;
    struct outcome wanted, got;

    if (direct_of(net, how.precision) == 0 || net->height > SMALL)
        return;
    use_a_device_module();
    wanted = run(net, how);
    how.algorithm = own_of(net);
    got = run(net, how);
    check_near(got.scores, wanted.scores, wanted.score_count, bound, "scores");
    if (!has_max_pool(net)) {
        check_near(got.gradient, wanted.gradient, wanted.parameter_count, bound, "gradient");
        check_near(got.input_gradient, wanted.input_gradient, wanted.input_count, bound,
                   "input's gradient");
    }
    free_outcome(&wanted);
    free_outcome(&got);
}
END_TEST

/* In the middle between two numbers of TF32: whatever is multiplied becomes the one further from 0,
 * and what is not, the gradient of a bias, stays as it is. */
START_TEST(tf32_rounds_away_from_zero)
{
    enum {
        CHANNELS = 4
    };
    const float middle = 1.0f + 0x1p-11f, up = 1.0f + 0x1p-10f;
    const float images[CHANNELS] = {1.0f, middle, -middle, 0.0f};
    const float score_gradient[CHANNELS] = {middle, -middle, 0.0f, 1.0f};
    float parameters[CHANNELS * (CHANNELS + 1)] = {0}, gradient[CHANNELS * (CHANNELS + 1)];
    float scores[CHANNELS], input_gradient[CHANNELS];
    nin_context *context = NULL;
    nin_builder *builder = NULL;
    nin_network *network = NULL;
    nin_plan *plan = NULL;
    nin_tensor *tensor = NULL;

    use_a_device_module();
    for (int i = 0; i < CHANNELS; i++)
        parameters[i * CHANNELS + i] = i == 0 ? middle : 1.0f;
    ASSERT_OK(nin_context_create(&context, NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CUDA)));
    ASSERT_OK(nin_builder_create(
        &builder, context,
        NIN_DESC(nin_input_desc, .channels = CHANNELS, .height = 1, .width = 1)));
    pointwise(builder, "pixel", CHANNELS, 0);
    ASSERT_OK(nin_builder_finish(&network, builder));
    ASSERT_OK(nin__network_upload(network, parameters));
    ASSERT_OK(nin_plan_create(
        &plan, network,
        NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .precision = NIN_TF32, .input_gradient = 1)));
    ASSERT_OK(nin_plan_forward(
        plan, NIN_DESC(nin_batch_desc, .images = images, .dtype = NIN_F32, .count = 1)));
    ASSERT_OK(nin_plan_backward(NULL, plan,
                                NIN_DESC(nin_backward_desc, .score_gradient = score_gradient)));
    ASSERT_OK(nin_plan_scores(plan, scores, CHANNELS));
    ASSERT_OK(nin_plan_input_gradient(plan, input_gradient, CHANNELS));
    ASSERT_OK(nin_plan_gradient(&tensor, plan, NULL, NIN_WEIGHT));
    ASSERT_OK(nin_tensor_read(tensor, gradient, sizeof gradient));
    ck_assert_float_eq(scores[0], up);
    ck_assert_float_eq(scores[1], up);
    ck_assert_float_eq(scores[2], -up);
    ck_assert_float_eq(input_gradient[0], up * up);
    ck_assert_float_eq(input_gradient[1], -up);
    ck_assert_float_eq(gradient[0], up);
    ck_assert_float_eq(gradient[CHANNELS + 1], -up * up);
    ck_assert_float_eq(gradient[CHANNELS * CHANNELS], middle);
    ck_assert_float_eq(gradient[CHANNELS * CHANNELS + 1], -middle);
    nin_plan_destroy(plan);
    nin_network_destroy(network);
    nin_builder_destroy(builder);
    nin_context_destroy(context);
}
END_TEST

/* The gradients of scores are floats, of which a bias adds up what stands there; whatever is
 * multiplied is rounded. */
START_TEST(a_bias_adds_gradients_of_scores_as_they_are)
{
    enum {
        CHANNELS = 8,
        PIXELS = 9
    };
    static const nin_algorithm algorithms[] = {NIN_ALGORITHM_AUTO, NIN_ALGORITHM_GEMM,
                                               NIN_ALGORITHM_DIRECT};
    const int32_t kernel = _i % 2 == 0 ? 1 : 3;
    const float odd = 1.0f + 0x1p-10f; /* between two numbers of bf16 */
    float images[CHANNELS * PIXELS] = {0}, score_gradient[CHANNELS * PIXELS] = {0};
    float gradient[CHANNELS];
    nin_context *context = NULL;
    nin_builder *builder = NULL;
    nin_network *network = NULL;
    nin_plan *plan = NULL;
    nin_tensor *tensor = NULL;

    use_a_device_module();
    for (int i = 0; i < CHANNELS; i++)
        score_gradient[i * PIXELS + i] = i % 2 == 0 ? odd : -odd;
    ASSERT_OK(nin_context_create(&context, NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CUDA)));
    ASSERT_OK(nin_builder_create(
        &builder, context,
        NIN_DESC(nin_input_desc, .channels = CHANNELS, .height = 3, .width = 3)));
    nin_builder_conv2d(
        builder, "scores",
        NIN_DESC(nin_conv2d_desc, .filters = CHANNELS, .kernel = kernel, .pad = kernel / 2));
    ASSERT_OK(nin_builder_finish(&network, builder));
    ASSERT_OK(nin_plan_create(&plan, network,
                              NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .precision = NIN_BF16,
                                       .algorithm = algorithms[_i / 2])));
    ASSERT_OK(nin_plan_forward(
        plan, NIN_DESC(nin_batch_desc, .images = images, .dtype = NIN_F32, .count = 1)));
    for (int32_t times = 1; times <= 2; times++) {
        ASSERT_OK(nin_plan_backward(NULL, plan,
                                    NIN_DESC(nin_backward_desc, .score_gradient = score_gradient,
                                             .accumulate = times > 1)));
        ASSERT_OK(nin_plan_gradient(&tensor, plan, nin_network_layer(network, 0), NIN_BIAS));
        ASSERT_OK(nin_tensor_read(tensor, gradient, sizeof gradient));
        for (int i = 0; i < CHANNELS; i++)
            ck_assert_float_eq(gradient[i], (float)times * (i % 2 == 0 ? odd : -odd));
    }
    nin_plan_destroy(plan);
    nin_network_destroy(network);
    nin_builder_destroy(builder);
    nin_context_destroy(context);
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

/* The bias's gradient of a convolution of many pixels, whose parts blocks add up, before a dense
 * layer of few channels. All scores have gradient 1, all weights are 1, and so is each average; the
 * gradient of the bias is a sum over images and classes, whatever is done with rounding. */
START_TEST(a_dense_layer_of_few_channels_leaves_other_memory_alone)
{
    enum {
        IMAGES = 512,
        CLASSES = 10,
        CHANNELS = 8,
        FILTERS = 4,
        SIDE = 16
    };
    static float images[IMAGES * CHANNELS * SIDE * SIDE], score_gradient[IMAGES * CLASSES],
        gradient[1024];
    nin_context *context = NULL;
    nin_builder *builder = NULL;
    nin_network *network = NULL;
    nin_plan *plan = NULL;
    nin_tensor *tensor = NULL;
    size_t count;
    float *ones;

    use_a_device_module();
    ASSERT_OK(nin_context_create(&context, NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CUDA)));
    ASSERT_OK(nin_builder_create(
        &builder, context,
        NIN_DESC(nin_input_desc, .channels = CHANNELS, .height = SIDE, .width = SIDE)));
    nin_builder_conv2d(builder, "conv",
                       NIN_DESC(nin_conv2d_desc, .filters = FILTERS, .kernel = 3, .pad = 1));
    nin_builder_average_pool(builder, "mean", NIN_DESC(nin_pool_desc, .kernel = 4, .stride = 4));
    nin_builder_dense(builder, "dense", NIN_DESC(nin_dense_desc, .units = CLASSES));
    ASSERT_OK(nin_builder_finish(&network, builder));
    count = nin_network_parameter_count(network);
    ck_assert_uint_lt(count, sizeof gradient / sizeof gradient[0]);
    ones = new_floats(count);
    for (size_t i = 0; i < count; i++)
        ones[i] = 1.0f;
    for (size_t i = 0; i < IMAGES * CLASSES; i++)
        score_gradient[i] = 1.0f;
    ASSERT_OK(nin__network_upload(network, ones));
    ASSERT_OK(nin_plan_create(
        &plan, network,
        NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = IMAGES, .precision = NIN_BF16)));
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(nin_plan_forward(
            plan, NIN_DESC(nin_batch_desc, .images = images, .dtype = NIN_F32, .count = IMAGES)));
        ASSERT_OK(nin_plan_backward(NULL, plan,
                                    NIN_DESC(nin_backward_desc, .score_gradient = score_gradient)));
        ASSERT_OK(nin_plan_gradient(&tensor, plan, NULL, NIN_WEIGHT));
        ASSERT_OK(nin_tensor_read(tensor, gradient, count * sizeof *gradient));
        for (int f = 0; f < FILTERS; f++) /* of 16 averages, in each class */
            ck_assert_float_eq(gradient[FILTERS * CHANNELS * 9 + f],
                               (float)(16 * IMAGES * CLASSES));
    }
    free(ones);
    nin_plan_destroy(plan);
    nin_network_destroy(network);
    nin_builder_destroy(builder);
    nin_context_destroy(context);
}
END_TEST

/* Where a pool finishes what a convolution leaves to it, and where the output is wanted as it
 * is. */
START_TEST(keeping_an_output_changes_no_bits)
{
    static const char *const names[] = {"rectified"};
    static const struct net net = {16, 12, 3, 0, nothing, average_pool_and_ten,
                                   0,  1,  9, 7, 0,       false};
    static float images[BATCH * 16 * 9 * 7], scores[2][BATCH * 10 * 4 * 3];
    nin_context *context = NULL;
    nin_network *network;
    float *parameters;

    use_a_device_module();
    nin__rng_uniform(images, sizeof images / sizeof images[0], 1.0, 5, 1);
    ASSERT_OK(nin_context_create(&context, NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CUDA)));
    network = build(context, &net);
    parameters = new_floats(nin_network_parameter_count(network));
    nin__rng_uniform(parameters, nin_network_parameter_count(network), 0.25, 5, 2);
    ASSERT_OK(nin__network_upload(network, parameters));
    free(parameters);
    for (int keep = 0; keep < 2; keep++) {
        nin_plan *plan = NULL;

        ASSERT_OK(nin_plan_create(&plan, network,
                                  NIN_DESC(nin_plan_desc, .precision = NIN_BF16, .keep = names,
                                           .keep_count = keep, .max_batch = BATCH)));
        ASSERT_OK(nin_plan_forward(
            plan, NIN_DESC(nin_batch_desc, .images = images, .dtype = NIN_F32, .count = BATCH)));
        ASSERT_OK(nin_plan_scores(plan, scores[keep], nin__shape_size(plan->scores) * BATCH));
        nin_plan_destroy(plan);
    }
    ck_assert_float_ne(scores[0][0], 0.0f);
    ck_assert_mem_eq(scores[0], scores[1], sizeof scores[0]);
    nin_network_destroy(network);
    nin_context_destroy(context);
}
END_TEST

/* What is not named is in the case "more", for it takes long. */
static void add_loops(TCase *tests, TCase *more, int first)
{
    const int some[] = {first + 22, first + 30}, small = first + NETS - LARGE, end = first + NETS;

    tcase_add_loop_test(tests, small_whole_numbers_are_exact, first, small);
    tcase_add_loop_test(more, small_whole_numbers_are_exact, small, end);
    tcase_add_loop_test(tests, no_order_of_threads_is_part_of_the_bits, some[0], some[1]);
    tcase_add_loop_test(more, no_order_of_threads_is_part_of_the_bits, first, some[0]);
    tcase_add_loop_test(more, no_order_of_threads_is_part_of_the_bits, some[1], end);
    tcase_add_loop_test(tests, kernels_and_cublas_round_alike, some[0], some[1]);
    tcase_add_loop_test(more, kernels_and_cublas_round_alike, first, some[0]);
    tcase_add_loop_test(more, kernels_and_cublas_round_alike, some[1], end);
}

struct Suite *cuda_bf16_suite(void)
{
    Suite *suite = suite_create("cuda_bf16");
    TCase *bf16 = tcase_create("bf16"), *tf32 = tcase_create("tf32"), *more = tcase_create("more");

    tcase_set_tags(bf16, "cuda");
    tcase_set_tags(tf32, "cuda");
    tcase_set_tags(more, "cuda long");
    add_loops(bf16, more, 0);
    add_loops(tf32, more, NETS);
    tcase_add_loop_test(bf16, a_bias_adds_gradients_of_scores_as_they_are, 0, 6);
    tcase_add_test(bf16, many_layers_have_their_weights);
    tcase_add_test(bf16, a_dense_layer_of_few_channels_leaves_other_memory_alone);
    tcase_add_test(bf16, keeping_an_output_changes_no_bits);
    tcase_add_test(tf32, tf32_rounds_away_from_zero);
    suite_add_tcase(suite, bf16);
    suite_add_tcase(suite, tf32);
    suite_add_tcase(suite, more);
    return suite;
}
