/* SPDX-License-Identifier: MIT */
#include "suites.h"
#include "test.h"

#include <math.h>
#include <stdbool.h>

static nin_context *context;

static void make_context(void)
{
    ASSERT_OK(nin_context_create(&context, NIN_DESC(nin_context_desc, .threads = 1, .seed = 5)));
}

static void destroy_context(void)
{
    nin_context_destroy(context);
}

static nin_builder *start(int32_t channels, int32_t height, int32_t width)
{
    nin_builder *builder = NULL;

    ASSERT_OK(nin_builder_create(
        &builder, context,
        NIN_DESC(nin_input_desc, .channels = channels, .height = height, .width = width)));
    return builder;
}

static nin_network *finish(nin_builder *builder)
{
    nin_network *network = NULL;

    ASSERT_OK(nin_builder_finish(&network, builder));
    nin_builder_destroy(builder);
    return network;
}

static nin_layer_info describe(nin_network *network, const char *name)
{
    nin_layer_info info = {.struct_size = sizeof info};

    ck_assert_msg(nin_network_find(network, name) != NULL, "no layer '%s'", name);
    ASSERT_OK(nin_layer_describe(&info, nin_network_find(network, name)));
    return info;
}

/* ---- ranges -------------------------------------------------------------------------------- */

static const struct {
    nin_conv2d_desc desc;
    const char *words;
} wrong_convs[] = {
    {{.filters = 0}, "conv2d 'layer': filters 0 is outside 1 to "},
    {{.filters = -3}, "conv2d 'layer': filters -3 is outside 1 to "},
    {{.filters = INT32_MAX}, "conv2d 'layer': filters 2147483647 is outside 1 to "},
    {{.filters = 1, .kernel = -1}, "conv2d 'layer': kernel -1 is outside 1 to "},
    {{.filters = 1, .stride = -2}, "conv2d 'layer': stride -2 is outside 1 to "},
    {{.filters = 1, .kernel = 3, .pad = 3}, "conv2d 'layer': pad 3 is outside 0 to 2"},
    {{.filters = 1, .pad = 1}, "conv2d 'layer': pad 1 is outside 0 to 0"},
    {{.filters = 1, .pad = -1}, "conv2d 'layer': pad -1 is outside 0 to 0"},
    {{.filters = 1, .no_bias = 2}, "conv2d 'layer': no_bias 2 is outside 0 to 1"},
    {{.filters = 1, .kernel = 7}, "conv2d 'layer': kernel 7 does not fit input 5x6 with pad 0"},
    {{.filters = 1, .kernel = 11, .pad = 2}, "kernel 11 does not fit input 5x6 with pad 2"},
};

static const struct {
    nin_pool_desc desc;
    const char *words;
} wrong_pools[] = {
    {{.kernel = 0}, "_pool 'layer': kernel 0 is outside 1 to "},
    {{.kernel = -1}, "_pool 'layer': kernel -1 is outside 1 to "},
    {{.kernel = 2, .stride = -1}, "_pool 'layer': stride -1 is outside 1 to "},
    {{.kernel = 3, .pad = 2}, "_pool 'layer': pad 2 is outside 0 to 1"},
    {{.kernel = 2, .pad = -1}, "_pool 'layer': pad -1 is outside 0 to 1"},
    {{.kernel = 2, .round_up = 2}, "_pool 'layer': round_up 2 is outside 0 to 1"},
    {{.kernel = 6}, "_pool 'layer': kernel 6 does not fit input 5x6 with pad 0"},
};

enum {
    WRONG_CONVS = sizeof wrong_convs / sizeof wrong_convs[0],
    WRONG_POOLS = sizeof wrong_pools / sizeof wrong_pools[0]
};

START_TEST(a_wrong_convolution_is_refused_by_name_value_and_rule)
{
    nin_builder *builder = start(1, 5, 6);
    nin_conv2d_desc desc = wrong_convs[_i].desc;

    desc.struct_size = sizeof desc;
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, wrong_convs[_i].words,
                 nin_builder_conv2d(builder, "layer", &desc));
    nin_builder_destroy(builder);
}
END_TEST

START_TEST(a_wrong_pool_is_refused_by_name_value_and_rule)
{
    nin_builder *max = start(1, 5, 6), *average = start(1, 5, 6);
    nin_pool_desc desc = wrong_pools[_i].desc;

    desc.struct_size = sizeof desc;
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, wrong_pools[_i].words,
                 nin_builder_max_pool(max, "layer", &desc));
    ck_assert_ptr_nonnull(strstr(nin_last_error(), "max_pool"));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, wrong_pools[_i].words,
                 nin_builder_average_pool(average, "layer", &desc));
    ck_assert_ptr_nonnull(strstr(nin_last_error(), "average_pool"));
    nin_builder_destroy(max);
    nin_builder_destroy(average);
}
END_TEST

START_TEST(only_an_average_pool_can_exclude_padding)
{
    const nin_pool_desc desc = {.struct_size = sizeof desc, .kernel = 2, .exclude_padding = 1};
    nin_builder *builder = start(1, 5, 6);

    ASSERT_OK(nin_builder_average_pool(builder, "average", &desc));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "max_pool 'max': exclude_padding 1",
                 nin_builder_max_pool(builder, "max", &desc));
    nin_builder_destroy(builder);
}
END_TEST

START_TEST(a_wrong_dense_layer_is_refused_by_name_value_and_rule)
{
    nin_builder *no_units = start(1, 5, 6), *no_flag = start(1, 5, 6);

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "dense 'layer': units 0 is outside 1 to ",
                 nin_builder_dense(no_units, "layer", NIN_DESC(nin_dense_desc, .units = 0)));
    ASSERT_FAILS(
        NIN_INVALID_ARGUMENT, "dense 'layer': no_bias -1 is outside 0 to 1",
        nin_builder_dense(no_flag, "layer", NIN_DESC(nin_dense_desc, .units = 1, .no_bias = -1)));
    nin_builder_destroy(no_units);
    nin_builder_destroy(no_flag);
}
END_TEST

START_TEST(dropout_takes_probabilities_below_1)
{
    static const double wrong[] = {-0.1, 1.0, 1.5, NAN, INFINITY, -INFINITY};
    nin_builder *builder = start(1, 5, 6);

    ASSERT_OK(nin_builder_dropout(builder, "none", 0.0));
    ASSERT_OK(nin_builder_dropout(builder, "nearly_all", 1.0 - 0x1p-53));
    nin_builder_destroy(builder);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        builder = start(1, 5, 6);
        ASSERT_FAILS(NIN_INVALID_ARGUMENT, "dropout 'layer': drop ",
                     nin_builder_dropout(builder, "layer", wrong[i]));
        ck_assert_ptr_nonnull(strstr(nin_last_error(), "0 <= drop < 1"));
        nin_builder_destroy(builder);
    }
}
END_TEST

static const struct {
    nin_init_desc init;
    const char *words;
} wrong_inits[] = {
    {{.weights = (nin_init)6}, "weights: 6 is no nin_init"},
    {{.biases = (nin_init)-1}, "biases: -1 is no nin_init"},
    {{.weights = NIN_INIT_NORMAL}, "weights: scale 0, but it must be positive"},
    {{.biases = NIN_INIT_UNIFORM, .bias_scale = -1.0}, "biases: scale -1, but it must be positive"},
    {{.weights = NIN_INIT_UNIFORM, .weight_scale = INFINITY}, "weights: scale inf"},
    {{.weights = NIN_INIT_HE, .weight_scale = 0.1}, "weights: scale 0.1, but it must be 0"},
    {{.bias_scale = NAN}, "biases: scale "},
};

enum {
    WRONG_INITS = sizeof wrong_inits / sizeof wrong_inits[0]
};

START_TEST(a_wrong_way_to_start_is_refused)
{
    nin_builder *conv = start(1, 5, 6), *dense = start(1, 5, 6);
    nin_init_desc init = wrong_inits[_i].init;

    init.struct_size = sizeof init;
    ASSERT_FAILS(
        NIN_INVALID_ARGUMENT, wrong_inits[_i].words,
        nin_builder_conv2d(conv, "layer", NIN_DESC(nin_conv2d_desc, .filters = 1, .init = &init)));
    ASSERT_FAILS(
        NIN_INVALID_ARGUMENT, wrong_inits[_i].words,
        nin_builder_dense(dense, "layer", NIN_DESC(nin_dense_desc, .units = 1, .init = &init)));
    nin_builder_destroy(conv);
    nin_builder_destroy(dense);
}
END_TEST

START_TEST(a_wrong_way_to_start_names_the_layer)
{
    const nin_init_desc init = {.struct_size = sizeof init, .weights = NIN_INIT_NORMAL};
    nin_builder *builder = start(1, 5, 6);

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "'layer'",
                 nin_builder_conv2d(builder, "layer",
                                    NIN_DESC(nin_conv2d_desc, .filters = 1, .init = &init)));
    nin_builder_destroy(builder);
}
END_TEST

static const struct {
    nin_input_desc input;
    const char *words;
} wrong_inputs[] = {
    {{.channels = 0, .height = 1, .width = 1}, "channels 0 is outside 1 to "},
    {{.channels = 1, .height = -1, .width = 1}, "height -1 is outside 1 to "},
    {{.channels = 1, .height = 1, .width = 0}, "width 0 is outside 1 to "},
    {{.channels = 1 << 11, .height = 1 << 10, .width = 1 << 10}, "has 2^31 elements or more"},
    {{.channels = 1, .height = 1, .width = 1, .scale = NAN}, "is no finite float"},
    {{.channels = 1, .height = 1, .width = 1, .shift = INFINITY}, "is no finite float"},
};

enum {
    WRONG_INPUTS = sizeof wrong_inputs / sizeof wrong_inputs[0]
};

START_TEST(a_wrong_input_makes_no_builder)
{
    nin_input_desc input = wrong_inputs[_i].input;
    nin_builder *builder = NULL;

    input.struct_size = sizeof input;
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, wrong_inputs[_i].words,
                 nin_builder_create(&builder, context, &input));
    ck_assert_ptr_null(builder);
}
END_TEST

START_TEST(what_would_not_fit_into_memory_is_refused)
{
    nin_builder *outputs = start(1, 1 << 15, 1 << 15), *weights = start(1 << 16, 1, 1);

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "conv2d 'wide': its output has 2^31 elements or more",
                 nin_builder_conv2d(outputs, "wide", NIN_DESC(nin_conv2d_desc, .filters = 2)));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "dense 'heavy': it has 2^31 weights or more",
                 nin_builder_dense(weights, "heavy", NIN_DESC(nin_dense_desc, .units = 1 << 15)));
    nin_builder_destroy(outputs);
    nin_builder_destroy(weights);
}
END_TEST

/* ---- the first failure --------------------------------------------------------------------- */

START_TEST(a_builder_keeps_its_first_failure_and_its_sentence)
{
    static const char first[] = "conv2d 'bad': filters 0";
    nin_builder *builder = start(1, 5, 6), *other = start(1, 5, 6);
    nin_network *network = NULL;

    ASSERT_OK(nin_builder_relu(builder, "good"));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, first,
                 nin_builder_conv2d(builder, "bad", NIN_DESC(nin_conv2d_desc, .filters = 0)));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "drop 2", nin_builder_dropout(other, "worse", 2.0));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, first, nin_builder_relu(builder, "fine"));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, first, nin_builder_dropout(builder, "worse", 2.0));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, first, nin_builder_finish(&network, builder));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, first, nin_builder_finish(&network, builder));
    ck_assert_ptr_null(network);
    nin_builder_destroy(builder);
    nin_builder_destroy(other);
}
END_TEST

START_TEST(a_network_needs_a_layer_which_may_still_come)
{
    nin_builder *builder = start(1, 5, 6);
    nin_network *network = NULL;

    ASSERT_FAILS(NIN_INVALID_STATE, "at least one layer", nin_builder_finish(&network, builder));
    ck_assert_ptr_null(network);
    ASSERT_OK(nin_builder_relu(builder, "relu"));
    network = finish(builder);
    ck_assert_uint_eq(nin_network_layer_count(network), 1);
    ck_assert_uint_eq(nin_network_parameter_count(network), 0);
    nin_network_destroy(network);
}
END_TEST

START_TEST(a_builder_can_be_finished_again)
{
    nin_builder *builder = start(1, 5, 6);
    nin_network *first = NULL, *second;
    float a[2], b[2], other[2] = {7.0f, 7.0f};

    nin_builder_conv2d(builder, "conv", NIN_DESC(nin_conv2d_desc, .filters = 2));
    ASSERT_OK(nin_builder_finish(&first, builder));
    ASSERT_OK(nin_builder_relu(builder, "more"));
    second = finish(builder);
    ck_assert_uint_eq(nin_network_layer_count(first), 1);
    ck_assert_uint_eq(nin_network_layer_count(second), 2);
    ASSERT_OK(nin_layer_read(nin_network_layer(first, 0), NIN_WEIGHT, a, 2));
    ASSERT_OK(nin_layer_write(nin_network_layer(first, 0), NIN_WEIGHT, other, 2));
    ASSERT_OK(nin_layer_read(nin_network_layer(second, 0), NIN_WEIGHT, b, 2));
    ck_assert_mem_eq(a, b, sizeof a);
    nin_network_destroy(first);
    nin_network_destroy(second);
    nin_builder_destroy(NULL);
}
END_TEST

START_TEST(a_null_argument_is_refused)
{
    nin_builder *builder = NULL;
    nin_network *network = NULL;

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "NULL", nin_builder_create(&builder, context, NULL));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "NULL", nin_builder_relu(NULL, "relu"));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "NULL", nin_builder_finish(&network, NULL));
    builder = start(1, 5, 6);
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "NULL", nin_builder_finish(NULL, builder));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "NULL", nin_builder_conv2d(builder, "conv", NULL));
    nin_builder_destroy(builder);
}
END_TEST

/* ---- names --------------------------------------------------------------------------------- */

#define NAME_63 "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

START_TEST(every_allowed_name_is_taken)
{
    static const char *const names[] = {"a", "Z", "0", ".", "-", "_", "a.b-c_D.9", NAME_63};
    nin_builder *builder = start(1, 5, 6);
    nin_network *network;

    for (int i = 0; i < 8; i++)
        ASSERT_OK(nin_builder_relu(builder, names[i]));
    network = finish(builder);
    for (size_t i = 0; i < 8; i++)
        ck_assert_str_eq(nin_layer_name(nin_network_layer(network, i)), names[i]);
    nin_network_destroy(network);
}
END_TEST

START_TEST(a_name_of_other_characters_or_lengths_is_refused)
{
    static const char *const names[] = {NULL,  "",    " ",        "a b",
                                        "a/b", "a\n", "\xc3\xa4", NAME_63 "x"};
    nin_builder *builder = start(1, 5, 6);

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "name", nin_builder_relu(builder, names[_i]));
    nin_builder_destroy(builder);
}
END_TEST

START_TEST(a_name_twice_is_refused)
{
    nin_builder *builder = start(1, 5, 6);

    ASSERT_OK(nin_builder_relu(builder, "same"));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "the name 'same' is taken",
                 nin_builder_dropout(builder, "same", 0.5));
    nin_builder_destroy(builder);
}
END_TEST

/* ---- the loss ------------------------------------------------------------------------------ */

START_TEST(nothing_may_follow_the_loss)
{
    nin_builder *builder = start(3, 1, 1);

    ASSERT_OK(nin_builder_softmax_loss(builder, "loss"));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "relu 'late': nothing may follow the loss 'loss'",
                 nin_builder_relu(builder, "late"));
    nin_builder_destroy(builder);
}
END_TEST

START_TEST(the_loss_needs_maps_of_1x1)
{
    nin_builder *builder = start(3, 2, 1);

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "softmax_loss 'loss': needs maps of 1x1, gets 2x1",
                 nin_builder_softmax_loss(builder, "loss"));
    nin_builder_destroy(builder);
}
END_TEST

/* ---- mlpconv ------------------------------------------------------------------------------- */

static const int32_t widths[] = {6, 5, 4};

static void assert_names(nin_network *network, const char *const *names, size_t count)
{
    ck_assert_uint_eq(nin_network_layer_count(network), count);
    for (size_t i = 0; i < count; i++)
        ck_assert_str_eq(nin_layer_name(nin_network_layer(network, i)), names[i]);
}

START_TEST(an_mlpconv_becomes_convolutions_with_relus)
{
    static const char *const names[] = {"b.conv",       "b.conv.relu", "b.cccp1",
                                        "b.cccp1.relu", "b.cccp2",     "b.cccp2.relu"};
    static const int64_t first[4] = {6, 3, 5, 5}, second[4] = {5, 6, 1, 1}, output[3] = {6, 4, 5};
    nin_builder *builder = start(3, 8, 10);
    nin_network *network;

    ASSERT_OK(nin_builder_mlpconv(builder, "b",
                                  NIN_DESC(nin_mlpconv_desc, .widths = widths, .count = 3,
                                           .kernel = 5, .stride = 2, .pad = 2)));
    network = finish(builder);
    assert_names(network, names, 6);
    ck_assert_mem_eq(describe(network, "b.conv").weight_shape, first, sizeof first);
    ck_assert_mem_eq(describe(network, "b.conv").output, output, sizeof output);
    ck_assert_mem_eq(describe(network, "b.cccp1").weight_shape, second, sizeof second);
    ck_assert_int_eq(describe(network, "b.cccp2").output[0], 4);
    ck_assert_int_eq(describe(network, "b.cccp2.relu").kind, NIN_LAYER_RELU);
    nin_network_destroy(network);
}
END_TEST

START_TEST(an_mlpconv_takes_names_and_can_end_without_relu)
{
    static const char *const given[] = {"conv3", "cccp5", "cccp6"};
    static const char *const names[] = {"conv3", "conv3.relu", "cccp5", "cccp5.relu", "cccp6"};
    nin_builder *builder = start(3, 8, 10);
    nin_network *network;

    ASSERT_OK(nin_builder_mlpconv(builder, "b",
                                  NIN_DESC(nin_mlpconv_desc, .widths = widths, .count = 3,
                                           .no_last_relu = 1, .names = given)));
    network = finish(builder);
    assert_names(network, names, 5);
    nin_network_destroy(network);
}
END_TEST

START_TEST(an_mlpconv_starts_as_its_descriptor_says)
{
    const nin_init_desc init = {
        .struct_size = sizeof init, .biases = NIN_INIT_UNIFORM, .bias_scale = 0.5};
    nin_builder *builder = start(3, 8, 10);
    nin_network *network;
    float biases[4];

    ASSERT_OK(nin_builder_mlpconv(
        builder, "b", NIN_DESC(nin_mlpconv_desc, .widths = widths, .count = 3, .init = &init)));
    network = finish(builder);
    ASSERT_OK(nin_layer_read(nin_network_find(network, "b.cccp2"), NIN_BIAS, biases, 4));
    for (int i = 0; i < 4; i++)
        ck_assert(biases[i] != 0.0f && fabsf(biases[i]) <= 0.5f);
    nin_network_destroy(network);
}
END_TEST

static const int32_t wrong_widths[] = {6, 0, 4};
static const char *const twice[] = {"x", "x", "z"};
static const char *const too_long[] = {"x", NAME_63 "y", "z"};
static const char *const missing[] = {"x", NULL, "z"};
static const char *const odd[] = {"x", "y", "z z"};

static const struct {
    nin_mlpconv_desc desc;
    const char *words;
} wrong_mlpconvs[] = {
    {{.count = 3}, "mlpconv 'b': widths is NULL"},
    {{.widths = widths}, "mlpconv 'b': needs 1 to "},
    {{.widths = widths, .count = -1}, "mlpconv 'b': needs 1 to "},
    {{.widths = wrong_widths, .count = 3}, "conv2d 'b.cccp1': filters 0 is outside 1 to "},
    {{.widths = widths, .count = 3, .kernel = -1}, "conv2d 'b.conv': kernel -1 is outside 1 to "},
    {{.widths = widths, .count = 3, .kernel = 11}, "conv2d 'b.conv': kernel 11 does not fit"},
    {{.widths = widths, .count = 3, .names = twice}, "the name 'x' is taken"},
    {{.widths = widths, .count = 3, .names = too_long}, "longer than 63 characters"},
    {{.widths = widths, .count = 3, .names = missing}, "mlpconv 'b': names[1] is NULL"},
    {{.widths = widths, .count = 3, .names = odd}, "the name 'z z' is not"},
};

enum {
    WRONG_MLPCONVS = sizeof wrong_mlpconvs / sizeof wrong_mlpconvs[0]
};

START_TEST(a_wrong_mlpconv_is_refused)
{
    nin_builder *builder = start(3, 8, 10);
    nin_mlpconv_desc desc = wrong_mlpconvs[_i].desc;

    desc.struct_size = sizeof desc;
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, wrong_mlpconvs[_i].words,
                 nin_builder_mlpconv(builder, "b", &desc));
    nin_builder_destroy(builder);
}
END_TEST

/* ---- output sizes -------------------------------------------------------------------------- */

/* How many windows lie in a padded line, by trying: whole ones, or with round_up all up to the one
 * that reaches the end, as long as they start before the padding behind the line. */
static int64_t count_windows(int32_t size, int32_t kernel, int32_t stride, int32_t pad,
                             int round_up)
{
    int64_t count = 0;

    for (int32_t start = 0;; start += stride) {
        bool whole = start + kernel <= size + 2 * pad;
        bool reached = start > 0 && start - stride + kernel >= size + 2 * pad;

        if (round_up ? reached || start >= size + pad : !whole)
            return count;
        count++;
    }
}

static void check_pool(int32_t size, int32_t kernel, int32_t stride, int32_t pad, int round_up)
{
    nin_builder *builder = start(2, size, kernel);
    nin_network *network;
    nin_layer_info info;

    ASSERT_OK(nin_builder_max_pool(builder, "pool",
                                   NIN_DESC(nin_pool_desc, .kernel = kernel, .stride = stride,
                                            .pad = pad, .round_up = round_up)));
    network = finish(builder);
    info = describe(network, "pool");
    ck_assert_int_eq(info.output[0], 2);
    ck_assert_msg(info.output[1] == count_windows(size, kernel, stride, pad, round_up),
                  "size %d, kernel %d, stride %d, pad %d, round_up %d: %d", size, kernel, stride,
                  pad, round_up, (int)info.output[1]);
    nin_network_destroy(network);
}

START_TEST(pools_have_the_windows_of_both_size_rules)
{
    const int round_up = _i;

    for (int32_t kernel = 1; kernel <= 5; kernel++)
        for (int32_t stride = 1; stride <= 4; stride++)
            for (int32_t pad = 0; pad <= kernel / 2; pad++)
                for (int32_t size = kernel; size <= 12; size++)
                    check_pool(size, kernel, stride, pad, round_up);
}
END_TEST

/* The sizes that networks in the wild depend on: size, kernel, stride, pad, round_up, output. */
static const int32_t known[][6] = {
    {28, 3, 2, 0, 1, 14}, {14, 3, 2, 0, 1, 7},  {32, 3, 2, 0, 1, 16}, {28, 3, 2, 0, 0, 13},
    {32, 3, 2, 0, 0, 15}, {28, 3, 2, 1, 0, 14}, {14, 3, 2, 1, 0, 7},  {54, 3, 2, 0, 1, 27},
    {13, 3, 2, 0, 1, 6},  {3, 2, 2, 1, 1, 2},   {4, 2, 2, 1, 1, 3},   {7, 7, 7, 0, 0, 1},
};

START_TEST(known_pools_have_their_known_sizes)
{
    const int32_t *k = known[_i];

    ck_assert_int_eq(count_windows(k[0], k[1], k[2], k[3], k[4]), k[5]);
    check_pool(k[0], k[1], k[2], k[3], k[4]);
}
END_TEST

START_TEST(a_convolution_has_whole_windows_only)
{
    for (int32_t kernel = 1; kernel <= 5; kernel++)
        for (int32_t stride = 1; stride <= 4; stride++)
            for (int32_t pad = 0; pad < kernel; pad++) {
                nin_builder *builder = start(2, 9, 5);
                nin_network *network;

                ASSERT_OK(
                    nin_builder_conv2d(builder, "conv",
                                       NIN_DESC(nin_conv2d_desc, .filters = 3, .kernel = kernel,
                                                .stride = stride, .pad = pad)));
                network = finish(builder);
                ck_assert_int_eq(describe(network, "conv").output[1],
                                 count_windows(9, kernel, stride, pad, 0));
                ck_assert_int_eq(describe(network, "conv").output[2],
                                 count_windows(5, kernel, stride, pad, 0));
                nin_network_destroy(network);
            }
}
END_TEST

START_TEST(a_pool_without_stride_moves_by_its_kernel)
{
    nin_builder *builder = start(2, 9, 9);
    nin_network *network;

    ASSERT_OK(nin_builder_average_pool(builder, "pool", NIN_DESC(nin_pool_desc, .kernel = 3)));
    network = finish(builder);
    ck_assert_int_eq(describe(network, "pool").output[1], 3);
    nin_network_destroy(network);
}
END_TEST

static TCase *range_cases(void)
{
    TCase *ranges = tcase_create("ranges");

    tcase_add_checked_fixture(ranges, make_context, destroy_context);
    tcase_add_loop_test(ranges, a_wrong_convolution_is_refused_by_name_value_and_rule, 0,
                        WRONG_CONVS);
    tcase_add_loop_test(ranges, a_wrong_pool_is_refused_by_name_value_and_rule, 0, WRONG_POOLS);
    tcase_add_test(ranges, only_an_average_pool_can_exclude_padding);
    tcase_add_test(ranges, a_wrong_dense_layer_is_refused_by_name_value_and_rule);
    tcase_add_test(ranges, dropout_takes_probabilities_below_1);
    tcase_add_loop_test(ranges, a_wrong_way_to_start_is_refused, 0, WRONG_INITS);
    tcase_add_test(ranges, a_wrong_way_to_start_names_the_layer);
    tcase_add_loop_test(ranges, a_wrong_input_makes_no_builder, 0, WRONG_INPUTS);
    tcase_add_test(ranges, what_would_not_fit_into_memory_is_refused);
    return ranges;
}

static TCase *rule_cases(void)
{
    TCase *rules = tcase_create("rules");

    tcase_add_checked_fixture(rules, make_context, destroy_context);
    tcase_add_test(rules, a_builder_keeps_its_first_failure_and_its_sentence);
    tcase_add_test(rules, a_network_needs_a_layer_which_may_still_come);
    tcase_add_test(rules, a_builder_can_be_finished_again);
    tcase_add_test(rules, a_null_argument_is_refused);
    tcase_add_test(rules, every_allowed_name_is_taken);
    tcase_add_loop_test(rules, a_name_of_other_characters_or_lengths_is_refused, 0, 8);
    tcase_add_test(rules, a_name_twice_is_refused);
    tcase_add_test(rules, nothing_may_follow_the_loss);
    tcase_add_test(rules, the_loss_needs_maps_of_1x1);
    return rules;
}

static TCase *shape_cases(void)
{
    TCase *shapes = tcase_create("shapes");

    tcase_add_checked_fixture(shapes, make_context, destroy_context);
    tcase_add_test(shapes, an_mlpconv_becomes_convolutions_with_relus);
    tcase_add_test(shapes, an_mlpconv_takes_names_and_can_end_without_relu);
    tcase_add_test(shapes, an_mlpconv_starts_as_its_descriptor_says);
    tcase_add_loop_test(shapes, a_wrong_mlpconv_is_refused, 0, WRONG_MLPCONVS);
    tcase_add_loop_test(shapes, pools_have_the_windows_of_both_size_rules, 0, 2);
    tcase_add_loop_test(shapes, known_pools_have_their_known_sizes, 0,
                        sizeof known / sizeof known[0]);
    tcase_add_test(shapes, a_convolution_has_whole_windows_only);
    tcase_add_test(shapes, a_pool_without_stride_moves_by_its_kernel);
    return shapes;
}

Suite *builder_suite(void)
{
    Suite *suite = suite_create("builder");

    suite_add_tcase(suite, range_cases());
    suite_add_tcase(suite, rule_cases());
    suite_add_tcase(suite, shape_cases());
    return suite;
}
