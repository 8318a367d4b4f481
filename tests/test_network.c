/* SPDX-License-Identifier: MIT */
#include "core/network.h"

#include "suites.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>

static nin_context *context;

static void make_context(void)
{
    ASSERT_OK(nin_context_create(&context, NIN_DESC(nin_context_desc, .threads = 2, .seed = 5)));
}

static void destroy_context(void)
{
    nin_context_destroy(context);
}

static nin_network *preset(uint32_t seed)
{
    nin_context *own = NULL;
    nin_network *network = NULL;

    ASSERT_OK(nin_context_create(&own, NIN_DESC(nin_context_desc, .seed = seed)));
    ASSERT_OK(nin_network_create_preset(&network, own, "mnist"));
    nin_context_destroy(own);
    return network;
}

/* A convolution and a dense layer that start as init says. */
static nin_network *small(const nin_init_desc *init)
{
    nin_builder *builder = NULL;
    nin_network *network = NULL;

    ASSERT_OK(nin_builder_create(&builder, context,
                                 NIN_DESC(nin_input_desc, .channels = 5, .height = 4, .width = 6)));
    nin_builder_conv2d(builder, "conv",
                       NIN_DESC(nin_conv2d_desc, .filters = 40, .kernel = 3, .init = init));
    nin_builder_relu(builder, "relu");
    nin_builder_dense(builder, "dense", NIN_DESC(nin_dense_desc, .units = 50, .init = init));
    nin_builder_relu(builder, "relu2");
    nin_builder_conv2d(builder, "last", NIN_DESC(nin_conv2d_desc, .filters = 3, .no_bias = 1));
    ASSERT_OK(nin_builder_finish(&network, builder));
    nin_builder_destroy(builder);
    return network;
}

static nin_layer_info describe(const nin_layer *layer)
{
    nin_layer_info info = {.struct_size = sizeof info};

    ck_assert_ptr_nonnull(layer);
    ASSERT_OK(nin_layer_describe(&info, layer));
    return info;
}

static size_t count_of(const nin_layer *layer, nin_parameter which)
{
    const nin_layer_info info = describe(layer);

    return (size_t)(which == NIN_WEIGHT ? info.weight_count : info.bias_count);
}

/* A layer's weights or biases; free them. */
static float *values_of(const nin_layer *layer, nin_parameter which)
{
    size_t count = count_of(layer, which);
    float *values = malloc(count * sizeof *values);

    ck_assert_ptr_nonnull(values);
    ASSERT_OK(nin_layer_read(layer, which, values, count));
    return values;
}

/* All parameters, layer by layer, weights, then biases; free them. */
static float *parameters_of(nin_network *network)
{
    float *all = malloc((nin_network_parameter_count(network) + 1) * sizeof *all), *next = all;

    ck_assert_ptr_nonnull(all);
    for (size_t i = 0; i < nin_network_layer_count(network); i++)
        for (int which = NIN_WEIGHT; which <= NIN_BIAS; which++) {
            const nin_layer *layer = nin_network_layer(network, i);
            size_t count = count_of(layer, (nin_parameter)which);

            if (count > 0)
                ASSERT_OK(nin_layer_read(layer, (nin_parameter)which, next, count));
            next += count;
        }
    ck_assert_uint_eq((size_t)(next - all), nin_network_parameter_count(network));
    return all;
}

static bool same_parameters(nin_network *a, nin_network *b)
{
    size_t count = nin_network_parameter_count(a);
    float *of_a = parameters_of(a), *of_b = parameters_of(b);
    bool same =
        count == nin_network_parameter_count(b) && memcmp(of_a, of_b, count * sizeof *of_a) == 0;

    free(of_a);
    free(of_b);
    return same;
}

/* ---- the preset ---------------------------------------------------------------------------- */

START_TEST(presets_have_names)
{
    nin_network *network = NULL;

    ck_assert_str_eq(nin_preset_name(0), "mnist");
    ck_assert_str_eq(nin_preset_name(1), "cifar10");
    ck_assert_ptr_null(nin_preset_name(2));
    ck_assert_ptr_null(nin_preset_name(SIZE_MAX));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "there is no preset 'cifar'",
                 nin_network_create_preset(&network, context, "cifar"));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "NULL", nin_network_create_preset(&network, context, NULL));
    ck_assert_ptr_null(network);
}
END_TEST

static const struct {
    const char *name;
    nin_layer_kind kind;
    int64_t output[3];
    int64_t weights, biases;
} mnist[] = {
    {"conv1", NIN_LAYER_CONV2D, {96, 28, 28}, 2400, 96},
    {"conv1.relu", NIN_LAYER_RELU, {96, 28, 28}, 0, 0},
    {"cccp1", NIN_LAYER_CONV2D, {64, 28, 28}, 6144, 64},
    {"cccp1.relu", NIN_LAYER_RELU, {64, 28, 28}, 0, 0},
    {"cccp2", NIN_LAYER_CONV2D, {48, 28, 28}, 3072, 48},
    {"cccp2.relu", NIN_LAYER_RELU, {48, 28, 28}, 0, 0},
    {NULL, NIN_LAYER_MAX_POOL, {48, 14, 14}, 0, 0},
    {NULL, NIN_LAYER_DROPOUT, {48, 14, 14}, 0, 0},
    {"conv2", NIN_LAYER_CONV2D, {128, 14, 14}, 153600, 128},
    {"conv2.relu", NIN_LAYER_RELU, {128, 14, 14}, 0, 0},
    {"cccp3", NIN_LAYER_CONV2D, {96, 14, 14}, 12288, 96},
    {"cccp3.relu", NIN_LAYER_RELU, {96, 14, 14}, 0, 0},
    {"cccp4", NIN_LAYER_CONV2D, {48, 14, 14}, 4608, 48},
    {"cccp4.relu", NIN_LAYER_RELU, {48, 14, 14}, 0, 0},
    {NULL, NIN_LAYER_MAX_POOL, {48, 7, 7}, 0, 0},
    {NULL, NIN_LAYER_DROPOUT, {48, 7, 7}, 0, 0},
    {"conv3", NIN_LAYER_CONV2D, {128, 7, 7}, 153600, 128},
    {"conv3.relu", NIN_LAYER_RELU, {128, 7, 7}, 0, 0},
    {"cccp5", NIN_LAYER_CONV2D, {96, 7, 7}, 12288, 96},
    {"cccp5.relu", NIN_LAYER_RELU, {96, 7, 7}, 0, 0},
    {"cccp6", NIN_LAYER_CONV2D, {10, 7, 7}, 960, 10},
    {NULL, NIN_LAYER_GLOBAL_AVERAGE_POOL, {10, 1, 1}, 0, 0},
    {NULL, NIN_LAYER_SOFTMAX_LOSS, {10, 1, 1}, 0, 0},
};

enum {
    MNIST_LAYERS = sizeof mnist / sizeof mnist[0]
};

/* Sizes and the total of the authors' cifar-10_def: pooling that rounds up, a ReLU on the class
 * maps. */
START_TEST(the_cifar10_preset_has_the_layers_of_the_authors)
{
    nin_layer_info info = {.struct_size = sizeof info};
    nin_network *network = NULL;

    ASSERT_OK(nin_network_create_preset(&network, context, "cifar10"));
    ck_assert_uint_eq(nin_network_parameter_count(network), 966986);
    ASSERT_OK(nin_layer_describe(&info, nin_network_find(network, "pool1")));
    ck_assert_int_eq(info.output[1], 16);
    ASSERT_OK(nin_layer_describe(&info, nin_network_find(network, "conv3")));
    ck_assert_int_eq(info.weight_shape[2], 3);
    ck_assert_int_eq(info.output[1], 8);
    ck_assert_ptr_nonnull(nin_network_find(network, "cccp6.relu"));
    nin_network_destroy(network);
}
END_TEST

START_TEST(the_mnist_preset_has_the_layers_of_the_paper)
{
    nin_network *network = preset(1);

    ck_assert_uint_eq(nin_network_layer_count(network), MNIST_LAYERS);
    ck_assert_uint_eq(nin_network_parameter_count(network), 349674);
    for (size_t i = 0; i < MNIST_LAYERS; i++) {
        const nin_layer *layer = nin_network_layer(network, i);
        const nin_layer_info info = describe(layer);

        if (mnist[i].name != NULL)
            ck_assert_str_eq(info.name, mnist[i].name);
        ck_assert_str_eq(info.name, nin_layer_name(layer));
        ck_assert_ptr_eq(nin_network_find(network, info.name), layer);
        ck_assert_int_eq(info.kind, mnist[i].kind);
        ck_assert_int_eq(nin_layer_get_kind(layer), mnist[i].kind);
        ck_assert_mem_eq(info.output, mnist[i].output, sizeof info.output);
        ck_assert_int_eq(info.weight_count, mnist[i].weights);
        ck_assert_int_eq(info.bias_count, mnist[i].biases);
        if (i > 0)
            ck_assert_mem_eq(info.input, mnist[i - 1].output, sizeof info.input);
    }
    nin_network_destroy(network);
}
END_TEST

START_TEST(the_mnist_preset_scales_pixels_to_minus_1_to_1)
{
    nin_network *network = preset(1);
    nin_network_info info = {.struct_size = sizeof info};

    ASSERT_OK(nin_network_describe(&info, network));
    ck_assert(info.scale == 1.0 / 127.5 && info.shift == -1.0);
    ck_assert(info.channels == 1 && info.height == 28 && info.width == 28);
    ck_assert_int_eq(info.layer_count, MNIST_LAYERS);
    ck_assert_int_eq(info.parameter_count, 349674);
    ck_assert_int_eq(describe(nin_network_layer(network, 0)).input[0], 1);
    nin_network_destroy(network);
}
END_TEST

START_TEST(a_network_describes_itself)
{
    nin_network *network = small(NULL);
    nin_network_info info = {.struct_size = sizeof info};

    ASSERT_OK(nin_network_describe(&info, network));
    ck_assert(info.channels == 5 && info.height == 4 && info.width == 6);
    ck_assert(info.scale == 1.0 / 255.0 && info.shift == 0.0);
    ck_assert_int_eq(info.layer_count, 5);
    ck_assert_uint_eq((size_t)info.parameter_count, nin_network_parameter_count(network));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "network", nin_network_describe(&info, NULL));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "nin_network_info", nin_network_describe(NULL, network));
    nin_network_destroy(network);
}
END_TEST

/* ---- how parameters start ------------------------------------------------------------------ */

/* Mean and standard deviation within five standard errors, the fourth moment near that of a normal
 * distribution. */
static void assert_normal(const nin_layer *layer, double std)
{
    float *values = values_of(layer, NIN_WEIGHT);
    size_t count = count_of(layer, NIN_WEIGHT);
    double n = (double)count, sum = 0.0, squares = 0.0, fourths = 0.0;

    for (size_t i = 0; i < count; i++) {
        double z = (double)values[i] / std;

        sum += z;
        squares += z * z;
        fourths += z * z * z * z;
    }
    ck_assert_double_eq_tol(sum / n, 0.0, 5.0 / sqrt(n));
    ck_assert_double_eq_tol(squares / n, 1.0, 5.0 * sqrt(2.0 / n));
    ck_assert_double_eq_tol(fourths / n, 3.0, 5.0 * sqrt(96.0 / n));
    free(values);
}

/* Within the bound, near to it on both sides, and of the mean and variance of U(-bound, bound). */
static void assert_uniform(const nin_layer *layer, nin_parameter which, double bound)
{
    float *values = values_of(layer, which);
    size_t count = count_of(layer, which);
    double n = (double)count, sum = 0.0, squares = 0.0, low = 0.0, high = 0.0;

    for (size_t i = 0; i < count; i++) {
        double z = (double)values[i] / bound;

        sum += z;
        squares += z * z;
        low = fmin(low, z);
        high = fmax(high, z);
    }
    ck_assert(low >= -1.0 - 1e-7 && high <= 1.0 + 1e-7);
    ck_assert(low < -1.0 + 20.0 / n && high > 1.0 - 20.0 / n);
    ck_assert_double_eq_tol(sum / n, 0.0, 5.0 / sqrt(3.0 * n));
    ck_assert_double_eq_tol(squares / n, 1.0 / 3.0, 5.0 * sqrt(4.0 / 45.0 / n));
    free(values);
}

static void assert_zero(const nin_layer *layer, nin_parameter which)
{
    float *values = values_of(layer, which);

    for (size_t i = 0; i < count_of(layer, which); i++)
        ck_assert(values[i] == 0.0f);
    free(values);
}

START_TEST(the_mnist_preset_starts_as_documented)
{
    nin_network *network = preset(1);

    for (size_t i = 0; i < nin_network_layer_count(network); i++) {
        const nin_layer *layer = nin_network_layer(network, i);
        const nin_layer_info info = describe(layer);

        if (info.weight_count == 0)
            continue;
        assert_normal(layer, 0.05);
        assert_uniform(layer, NIN_BIAS,
                       1.0 / sqrt((double)info.weight_count / (double)info.bias_count));
    }
    nin_network_destroy(network);
}
END_TEST

START_TEST(by_default_weights_are_he_and_biases_zero)
{
    nin_network *network = small(NULL);

    assert_normal(nin_network_find(network, "conv"), sqrt(2.0 / (5 * 3 * 3)));
    assert_zero(nin_network_find(network, "conv"), NIN_BIAS);
    assert_normal(nin_network_find(network, "dense"), sqrt(2.0 / (40 * 2 * 4)));
    assert_zero(nin_network_find(network, "dense"), NIN_BIAS);
    nin_network_destroy(network);
}
END_TEST

START_TEST(a_layer_starts_as_it_was_described)
{
    const nin_init_desc init = {.struct_size = sizeof init,
                                .weights = NIN_INIT_UNIFORM,
                                .weight_scale = 0.25,
                                .biases = NIN_INIT_FAN_IN};
    nin_network *network = small(&init);

    assert_uniform(nin_network_find(network, "dense"), NIN_WEIGHT, 0.25);
    assert_uniform(nin_network_find(network, "dense"), NIN_BIAS, 1.0 / sqrt(40 * 2 * 4));
    assert_uniform(nin_network_find(network, "conv"), NIN_BIAS, 1.0 / sqrt(5 * 3 * 3));
    nin_network_destroy(network);
}
END_TEST

START_TEST(the_same_seed_gives_the_same_bits)
{
    nin_network *a = preset(42), *b = preset(42), *other = preset(43);

    ck_assert(same_parameters(a, b));
    ck_assert(!same_parameters(a, other));
    nin_network_destroy(a);
    nin_network_destroy(b);
    nin_network_destroy(other);
}
END_TEST

START_TEST(no_two_layers_draw_the_same_numbers)
{
    nin_network *network = preset(1);
    float *a = values_of(nin_network_find(network, "cccp3"), NIN_WEIGHT);
    float *b = values_of(nin_network_find(network, "cccp5"), NIN_WEIGHT);

    ck_assert_mem_ne(a, b, 16 * sizeof *a);
    free(a);
    free(b);
    nin_network_destroy(network);
}
END_TEST

START_TEST(initialise_draws_what_another_seed_would_have_drawn)
{
    nin_network *network = preset(1), *other = preset(2);

    ASSERT_OK(nin_network_initialise(network, NULL, 2));
    ck_assert(same_parameters(network, other));
    nin_network_destroy(network);
    nin_network_destroy(other);
}
END_TEST

START_TEST(initialise_can_start_all_layers_in_another_way)
{
    const nin_init_desc init = {.struct_size = sizeof init,
                                .weights = NIN_INIT_ZERO,
                                .biases = NIN_INIT_UNIFORM,
                                .bias_scale = 2.0};
    nin_network *network = small(NULL);

    ASSERT_OK(nin_network_initialise(network, &init, 1));
    assert_zero(nin_network_find(network, "conv"), NIN_WEIGHT);
    assert_zero(nin_network_find(network, "last"), NIN_WEIGHT);
    assert_uniform(nin_network_find(network, "dense"), NIN_BIAS, 2.0);
    nin_network_destroy(network);
}
END_TEST

START_TEST(a_refused_initialise_changes_nothing)
{
    const nin_init_desc init = {.struct_size = sizeof init, .weights = NIN_INIT_NORMAL};
    nin_network *network = small(NULL), *same = small(NULL);
    const uint64_t version = nin_network_parameter_version(network);

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "scale 0", nin_network_initialise(network, &init, 1));
    ck_assert_uint_eq(nin_network_parameter_version(network), version);
    ck_assert(same_parameters(network, same));
    nin_network_destroy(network);
    nin_network_destroy(same);
}
END_TEST

/* ---- layers and their parameters ----------------------------------------------------------- */

START_TEST(weights_are_described_as_oihw)
{
    static const int64_t conv[4] = {40, 5, 3, 3}, dense[4] = {50, 40, 2, 4}, none[4] = {0};
    nin_network *network = small(NULL);

    ck_assert_mem_eq(describe(nin_network_find(network, "conv")).weight_shape, conv, sizeof conv);
    ck_assert_mem_eq(describe(nin_network_find(network, "dense")).weight_shape, dense,
                     sizeof dense);
    ck_assert_mem_eq(describe(nin_network_find(network, "relu")).weight_shape, none, sizeof none);
    ck_assert_int_eq(describe(nin_network_find(network, "last")).bias_count, 0);
    nin_network_destroy(network);
}
END_TEST

START_TEST(a_layer_that_is_not_there_is_null)
{
    nin_network *network = small(NULL);

    ck_assert_ptr_null(nin_network_layer(network, nin_network_layer_count(network)));
    ck_assert_ptr_null(nin_network_layer(network, SIZE_MAX));
    ck_assert_ptr_null(nin_network_find(network, "con"));
    ck_assert_ptr_null(nin_network_find(network, "conv "));
    ck_assert_ptr_null(nin_network_find(network, ""));
    nin_network_destroy(network);
    nin_network_destroy(NULL);
}
END_TEST

START_TEST(what_was_written_is_read_and_nothing_else_changes)
{
    nin_network *network = small(NULL), *same = small(NULL);
    nin_layer *dense = nin_network_find(network, "dense");
    const uint64_t version = nin_network_parameter_version(network);
    float biases[50], *read;

    for (int i = 0; i < 50; i++)
        biases[i] = (float)i - 7.5f;
    ASSERT_OK(nin_layer_write(dense, NIN_BIAS, biases, 50));
    ck_assert_uint_gt(nin_network_parameter_version(network), version);
    read = values_of(dense, NIN_BIAS);
    ck_assert_mem_eq(read, biases, sizeof biases);
    free(read);
    ASSERT_OK(nin_layer_write(dense, NIN_BIAS, (const float[50]){0}, 50));
    ck_assert(same_parameters(network, same));
    nin_network_destroy(network);
    nin_network_destroy(same);
}
END_TEST

START_TEST(a_wrong_count_or_parameter_is_refused)
{
    static const float values[60] = {7.0f};
    nin_network *network = small(NULL), *same = small(NULL);
    nin_layer *dense = nin_network_find(network, "dense");
    const uint64_t version = nin_network_parameter_version(network);
    float target[60];

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "dense 'dense' has 50 biases, not 51",
                 nin_layer_write(dense, NIN_BIAS, values, 51));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "dense 'dense' has 50 biases, not 49",
                 nin_layer_read(dense, NIN_BIAS, target, 49));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "relu 'relu' has no weights",
                 nin_layer_write(nin_network_find(network, "relu"), NIN_WEIGHT, values, 0));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "conv2d 'last' has no biases",
                 nin_layer_read(nin_network_find(network, "last"), NIN_BIAS, target, 3));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "dense 'dense': 2 is no nin_parameter",
                 nin_layer_write(dense, (nin_parameter)2, values, 50));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "NULL", nin_layer_write(dense, NIN_BIAS, NULL, 50));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "NULL", nin_layer_read(NULL, NIN_BIAS, target, 50));
    ck_assert_uint_eq(nin_network_parameter_version(network), version);
    ck_assert(same_parameters(network, same));
    nin_network_destroy(network);
    nin_network_destroy(same);
}
END_TEST

START_TEST(every_change_raises_the_version_and_no_reading_does)
{
    nin_network *network = small(NULL);
    nin_layer *dense = nin_network_find(network, "dense");
    float *biases = values_of(dense, NIN_BIAS);
    const uint64_t first = nin_network_parameter_version(network);
    uint64_t second;

    free(values_of(dense, NIN_WEIGHT));
    ck_assert_uint_eq(nin_network_parameter_version(network), first);
    ASSERT_OK(nin_layer_write(dense, NIN_BIAS, biases, 50)); /* the same values: a change all the
                                                                same */
    second = nin_network_parameter_version(network);
    ck_assert_uint_gt(second, first);
    ASSERT_OK(nin_network_initialise(network, NULL, 1));
    ck_assert_uint_gt(nin_network_parameter_version(network), second);
    free(biases);
    nin_network_destroy(network);
}
END_TEST

/* ---- sharing and holding ------------------------------------------------------------------- */

START_TEST(while_others_share_a_network_it_is_read_but_not_changed)
{
    nin_network *network = small(NULL), *same = small(NULL);
    nin_layer *dense = nin_network_find(network, "dense");
    float *biases = values_of(dense, NIN_BIAS);

    ASSERT_OK(nin__network_share(network));
    ASSERT_OK(nin__network_share(network));
    ASSERT_OK(nin_layer_read(dense, NIN_BIAS, biases, 50));
    ASSERT_FAILS(NIN_BUSY, "the network is being used",
                 nin_layer_write(dense, NIN_BIAS, (const float[50]){1.0f}, 50));
    ASSERT_FAILS(NIN_BUSY, "the network is being used", nin_network_initialise(network, NULL, 9));
    nin__network_unshare(network);
    ASSERT_FAILS(NIN_BUSY, "the network is being used",
                 nin_layer_write(dense, NIN_BIAS, (const float[50]){1.0f}, 50));
    nin__network_unshare(network);
    ck_assert(same_parameters(network, same));
    ASSERT_OK(nin_layer_write(dense, NIN_BIAS, biases, 50));
    free(biases);
    nin_network_destroy(network);
    nin_network_destroy(same);
}
END_TEST

START_TEST(while_another_holds_a_network_it_is_not_even_read)
{
    nin_network *network = small(NULL);
    nin_layer *dense = nin_network_find(network, "dense");
    float biases[50] = {7.0f};

    ASSERT_OK(nin__network_hold(network));
    ASSERT_FAILS(NIN_BUSY, "the network is being changed",
                 nin_layer_read(dense, NIN_BIAS, biases, 50));
    ASSERT_FAILS(NIN_BUSY, "the network is being", nin_layer_write(dense, NIN_BIAS, biases, 50));
    ASSERT_FAILS(NIN_BUSY, "the network is being", nin_network_initialise(network, NULL, 9));
    ck_assert(biases[0] == 7.0f);
    nin__network_unhold(network);
    ASSERT_OK(nin_layer_read(dense, NIN_BIAS, biases, 50));
    nin_network_destroy(network);
}
END_TEST

Suite *network_suite(void)
{
    Suite *suite = suite_create("network");
    TCase *starts = tcase_create("starts"), *layers = tcase_create("layers");

    tcase_add_checked_fixture(starts, make_context, destroy_context);
    tcase_add_test(starts, presets_have_names);
    tcase_add_test(starts, the_mnist_preset_has_the_layers_of_the_paper);
    tcase_add_test(starts, the_cifar10_preset_has_the_layers_of_the_authors);
    tcase_add_test(starts, the_mnist_preset_scales_pixels_to_minus_1_to_1);
    tcase_add_test(starts, a_network_describes_itself);
    tcase_add_test(starts, the_mnist_preset_starts_as_documented);
    tcase_add_test(starts, by_default_weights_are_he_and_biases_zero);
    tcase_add_test(starts, a_layer_starts_as_it_was_described);
    tcase_add_test(starts, the_same_seed_gives_the_same_bits);
    tcase_add_test(starts, no_two_layers_draw_the_same_numbers);
    tcase_add_test(starts, initialise_draws_what_another_seed_would_have_drawn);
    tcase_add_test(starts, initialise_can_start_all_layers_in_another_way);
    tcase_add_test(starts, a_refused_initialise_changes_nothing);
    tcase_add_checked_fixture(layers, make_context, destroy_context);
    tcase_add_test(layers, weights_are_described_as_oihw);
    tcase_add_test(layers, a_layer_that_is_not_there_is_null);
    tcase_add_test(layers, what_was_written_is_read_and_nothing_else_changes);
    tcase_add_test(layers, a_wrong_count_or_parameter_is_refused);
    tcase_add_test(layers, every_change_raises_the_version_and_no_reading_does);
    tcase_add_test(layers, while_others_share_a_network_it_is_read_but_not_changed);
    tcase_add_test(layers, while_another_holds_a_network_it_is_not_even_read);
    suite_add_tcase(suite, starts);
    suite_add_tcase(suite, layers);
    return suite;
}
