/* SPDX-License-Identifier: MIT */
#include "suites.h"
#include "test.h"

#include <math.h>

/* Two layers: parameters 0 to 5 and 6 to 11 are weights, 12 and 13 the biases behind the second. */
enum {
    WEIGHTS = 6,
    BIASES = 2,
    FIRST = 0,
    SECOND = WEIGHTS,
    BIAS = 2 * WEIGHTS,
    PARAMETERS = 2 * WEIGHTS + BIASES
};

static nin_context *context;
static nin_network *network;
static nin_plan *plan;
static nin_layer *first, *second;

static nin_network *make_network(void)
{
    nin_builder *builder = NULL;
    nin_network *made = NULL;

    ASSERT_OK(nin_builder_create(&builder, context,
                                 NIN_DESC(nin_input_desc, .channels = 2, .height = 1, .width = 1)));
    nin_builder_conv2d(builder, "first", NIN_DESC(nin_conv2d_desc, .filters = 3, .no_bias = 1));
    nin_builder_conv2d(builder, "second", NIN_DESC(nin_conv2d_desc, .filters = 2));
    ASSERT_OK(nin_builder_finish(&made, builder));
    nin_builder_destroy(builder);
    return made;
}

static void setup(void)
{
    ASSERT_OK(nin_context_create(&context, NIN_DESC(nin_context_desc, .threads = 1, .seed = 3)));
    network = make_network();
    first = nin_network_find(network, "first");
    second = nin_network_find(network, "second");
    ASSERT_OK(nin_plan_create(&plan, network,
                              NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = 1)));
}

static void teardown(void)
{
    nin_plan_destroy(plan);
    nin_network_destroy(network);
    nin_context_destroy(context);
}

static nin_optimizer *make_optimizer(const nin_sgd_desc *desc)
{
    nin_optimizer *optimizer = NULL;

    ASSERT_OK(nin_optimizer_create_sgd(&optimizer, network, desc));
    return optimizer;
}

static void read_parameters(float p[PARAMETERS])
{
    ASSERT_OK(nin_layer_read(first, NIN_WEIGHT, p + FIRST, WEIGHTS));
    ASSERT_OK(nin_layer_read(second, NIN_WEIGHT, p + SECOND, WEIGHTS));
    ASSERT_OK(nin_layer_read(second, NIN_BIAS, p + BIAS, BIASES));
}

static void read_momentum(nin_optimizer *optimizer, float m[PARAMETERS])
{
    nin_tensor *momentum = NULL;

    ASSERT_OK(nin_optimizer_momentum(&momentum, optimizer, NULL, NIN_WEIGHT));
    ASSERT_OK(nin_tensor_read(momentum, m, PARAMETERS * sizeof *m));
}

/* Gives the plan a gradient of our own: a backward pass, then what it found is replaced. */
static void set_gradient(const float g[PARAMETERS])
{
    const float image[2] = {1.0f, 1.0f}, scores[2] = {0.0f, 0.0f};
    nin_tensor *gradient = NULL;

    ASSERT_OK(nin_plan_forward(plan, NIN_DESC(nin_batch_desc, .images = image, .count = 1)));
    ASSERT_OK(nin_plan_backward(NULL, plan, NIN_DESC(nin_backward_desc, .score_gradient = scores)));
    ASSERT_OK(nin_plan_gradient(&gradient, plan, NULL, NIN_WEIGHT));
    ASSERT_OK(nin_tensor_write(gradient, g, PARAMETERS * sizeof *g));
}

/* The gradient of step t. */
static void make_gradient(float g[PARAMETERS], int t)
{
    for (int i = 0; i < PARAMETERS; i++)
        g[i] = sinf((float)(i + 5 * t)) * (i % 3 == 0 ? 2.0f : 0.1f);
}

static void update(nin_optimizer *optimizer, int t)
{
    float g[PARAMETERS];

    make_gradient(g, t);
    set_gradient(g);
    ASSERT_OK(nin_optimizer_update(optimizer, plan));
}

/* ---- the formula --------------------------------------------------------------------------- */

struct multipliers {
    double rate, decay;
};

/* The header's formula in double precision, for the parameters from `from` to before `end`. */
static void reference(double *p, double *m, const float *g, int from, int end,
                      const nin_sgd_desc *desc, struct multipliers by)
{
    for (int i = from; i < end; i++) {
        double d = (double)g[i] + desc->weight_decay * by.decay * p[i];

        m[i] = desc->momentum * m[i] + d;
        p[i] -= desc->rate * by.rate * (desc->nesterov ? d + desc->momentum * m[i] : m[i]);
    }
}

static const struct {
    nin_sgd_desc desc;
    struct multipliers first, second, bias;
} recipes[] = {
    {{.rate = 0.1}, {1, 1}, {1, 1}, {1, 1}},
    {{.rate = 0.1, .momentum = 0.9}, {1, 1}, {1, 1}, {1, 1}},
    {{.rate = 0.1, .momentum = 0.9, .nesterov = 1}, {1, 1}, {1, 1}, {1, 1}},
    {{.rate = 0.1, .weight_decay = 0.05}, {1, 1}, {1, 1}, {1, 1}},
    {{.rate = 0.1, .momentum = 0.9, .nesterov = 1, .weight_decay = 0.05}, {1, 1}, {1, 1}, {1, 1}},
    {{.rate = 0.01, .momentum = 0.9, .weight_decay = 0.01}, {1, 1}, {0.1, 1}, {2, 0}},
    {{.rate = 0.5, .momentum = 0.5, .weight_decay = 0.1}, {0, 3}, {1, 0}, {0.25, 2}},
};

enum {
    RECIPES = sizeof recipes / sizeof recipes[0],
    STEPS = 20
};

static void set_multipliers(nin_optimizer *optimizer, int i)
{
    ASSERT_OK(nin_optimizer_set_multipliers(optimizer, first, NIN_WEIGHT, recipes[i].first.rate,
                                            recipes[i].first.decay));
    ASSERT_OK(nin_optimizer_set_multipliers(optimizer, second, NIN_WEIGHT, recipes[i].second.rate,
                                            recipes[i].second.decay));
    ASSERT_OK(nin_optimizer_set_multipliers(optimizer, second, NIN_BIAS, recipes[i].bias.rate,
                                            recipes[i].bias.decay));
}

START_TEST(updates_follow_the_documented_formula)
{
    nin_sgd_desc desc = recipes[_i].desc;
    nin_optimizer *optimizer;
    double p[PARAMETERS], m[PARAMETERS] = {0};
    float got[PARAMETERS], momentum[PARAMETERS], g[PARAMETERS];

    desc.struct_size = sizeof desc;
    optimizer = make_optimizer(&desc);
    set_multipliers(optimizer, _i);
    read_parameters(got);
    for (int i = 0; i < PARAMETERS; i++)
        p[i] = (double)got[i];
    for (int t = 0; t < STEPS; t++) {
        make_gradient(g, t);
        update(optimizer, t);
        reference(p, m, g, FIRST, SECOND, &desc, recipes[_i].first);
        reference(p, m, g, SECOND, BIAS, &desc, recipes[_i].second);
        reference(p, m, g, BIAS, PARAMETERS, &desc, recipes[_i].bias);
    }
    read_parameters(got);
    read_momentum(optimizer, momentum);
    for (int i = 0; i < PARAMETERS; i++) {
        ck_assert_double_eq_tol(got[i], p[i], 1e-6 * STEPS);
        ck_assert_double_eq_tol(momentum[i], m[i], 1e-6 * STEPS);
    }
    nin_optimizer_destroy(optimizer);
}
END_TEST

START_TEST(the_first_momentum_is_the_gradient_itself)
{
    nin_optimizer *optimizer = make_optimizer(NIN_DESC(nin_sgd_desc, .momentum = 0.9));
    float g[PARAMETERS], m[PARAMETERS];

    make_gradient(g, 0);
    update(optimizer, 0);
    read_momentum(optimizer, m);
    ck_assert_mem_eq(m, g, sizeof m);
    nin_optimizer_destroy(optimizer);
}
END_TEST

START_TEST(a_change_of_the_rate_acts_at_once_and_leaves_the_momentum)
{
    nin_optimizer *optimizer = make_optimizer(NIN_DESC(nin_sgd_desc, .rate = 1.0, .momentum = 0.5));
    const float zero[PARAMETERS] = {0};
    float before[PARAMETERS], m[PARAMETERS], after[PARAMETERS];

    update(optimizer, 0);
    ASSERT_OK(nin_optimizer_set_rate(optimizer, 0.125));
    read_momentum(optimizer, m);
    read_parameters(before);
    set_gradient(zero);
    ASSERT_OK(nin_optimizer_update(optimizer, plan));
    read_parameters(after);
    for (int i = 0; i < PARAMETERS; i++)
        ck_assert_double_eq_tol(after[i], (double)before[i] - 0.125 * 0.5 * (double)m[i], 1e-6);
    nin_optimizer_destroy(optimizer);
}
END_TEST

START_TEST(a_rate_of_0_changes_no_parameter_but_the_momentum)
{
    nin_optimizer *optimizer = make_optimizer(NIN_DESC(nin_sgd_desc, .momentum = 0.9));
    float before[PARAMETERS], after[PARAMETERS], m[PARAMETERS], g[PARAMETERS];

    ASSERT_OK(nin_optimizer_set_rate(optimizer, 0.0));
    ck_assert(nin_optimizer_rate(optimizer) == 0.0);
    read_parameters(before);
    update(optimizer, 0);
    read_parameters(after);
    ck_assert_mem_eq(before, after, sizeof before);
    make_gradient(g, 0);
    read_momentum(optimizer, m);
    ck_assert_mem_eq(m, g, sizeof m);
    nin_optimizer_destroy(optimizer);
}
END_TEST

START_TEST(a_rate_multiplier_of_0_freezes_one_parameter)
{
    nin_optimizer *optimizer =
        make_optimizer(NIN_DESC(nin_sgd_desc, .momentum = 0.9, .weight_decay = 0.1));
    float before[PARAMETERS], after[PARAMETERS];

    ASSERT_OK(nin_optimizer_set_multipliers(optimizer, second, NIN_WEIGHT, 0.0, 1.0));
    read_parameters(before);
    for (int t = 0; t < 3; t++)
        update(optimizer, t);
    read_parameters(after);
    for (int i = 0; i < PARAMETERS; i++)
        ck_assert((before[i] == after[i]) == (i >= SECOND && i < BIAS));
    nin_optimizer_destroy(optimizer);
}
END_TEST

START_TEST(an_update_raises_the_parameter_version)
{
    nin_optimizer *optimizer = make_optimizer(NULL);
    uint64_t version = nin_network_parameter_version(network);

    update(optimizer, 0);
    ck_assert_uint_gt(nin_network_parameter_version(network), version);
    nin_optimizer_destroy(optimizer);
}
END_TEST

/* ---- making one ---------------------------------------------------------------------------- */

START_TEST(by_default_the_rate_is_a_hundredth_and_there_is_no_momentum)
{
    nin_optimizer *optimizer = make_optimizer(NULL);
    float before[PARAMETERS], after[PARAMETERS], g[PARAMETERS];

    ck_assert(nin_optimizer_rate(optimizer) == 0.01);
    read_parameters(before);
    make_gradient(g, 0);
    update(optimizer, 0);
    update(optimizer, 0);
    read_parameters(after);
    for (int i = 0; i < PARAMETERS; i++)
        ck_assert_double_eq_tol(after[i], (double)before[i] - 0.02 * (double)g[i], 1e-6);
    nin_optimizer_destroy(optimizer);
    nin_optimizer_destroy(NULL);
}
END_TEST

static const struct {
    nin_sgd_desc desc;
    const char *words;
} wrong[] = {
    {{.rate = -0.1}, "rate -0.1 is negative"},
    {{.rate = NAN}, "rate"},
    {{.rate = INFINITY}, "rate inf is no finite float"},
    {{.rate = 1e300}, "rate 1e+300 is no finite float"},
    {{.momentum = -0.1}, "momentum -0.1 is outside 0 <= momentum < 1"},
    {{.momentum = 1.0}, "momentum 1 is outside 0 <= momentum < 1"},
    {{.momentum = NAN}, "momentum"},
    {{.weight_decay = -1e-4}, "weight_decay -0.0001 is negative"},
    {{.weight_decay = NAN}, "weight_decay"},
    {{.weight_decay = INFINITY}, "weight_decay inf"},
    {{.nesterov = 1}, "nesterov 1; 0, or 1 with a momentum"},
    {{.nesterov = 2, .momentum = 0.9}, "nesterov 2"},
};

enum {
    WRONG = sizeof wrong / sizeof wrong[0]
};

START_TEST(a_wrong_descriptor_makes_no_optimizer)
{
    nin_sgd_desc desc = wrong[_i].desc;
    nin_optimizer *optimizer = NULL;

    desc.struct_size = sizeof desc;
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, wrong[_i].words,
                 nin_optimizer_create_sgd(&optimizer, network, &desc));
    ck_assert_ptr_null(optimizer);
}
END_TEST

START_TEST(a_wrong_rate_changes_nothing)
{
    static const double rates[] = {-0.1, NAN, INFINITY, -INFINITY};
    nin_optimizer *optimizer = make_optimizer(NIN_DESC(nin_sgd_desc, .rate = 0.25));

    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++)
        ASSERT_FAILS(NIN_INVALID_ARGUMENT, "rate", nin_optimizer_set_rate(optimizer, rates[i]));
    ck_assert(nin_optimizer_rate(optimizer) == 0.25);
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "NULL", nin_optimizer_set_rate(NULL, 0.1));
    nin_optimizer_destroy(optimizer);
}
END_TEST

START_TEST(wrong_multipliers_are_refused)
{
    static const double numbers[] = {-1.0, NAN, INFINITY};
    nin_network *other = make_network();
    nin_optimizer *optimizer = make_optimizer(NULL);

    for (int i = 0; i < 3; i++) {
        ASSERT_FAILS(NIN_INVALID_ARGUMENT, "layer 'second': multipliers",
                     nin_optimizer_set_multipliers(optimizer, second, NIN_BIAS, numbers[i], 1.0));
        ASSERT_FAILS(NIN_INVALID_ARGUMENT, "layer 'second': multipliers",
                     nin_optimizer_set_multipliers(optimizer, second, NIN_BIAS, 1.0, numbers[i]));
    }
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "conv2d 'first' has no biases",
                 nin_optimizer_set_multipliers(optimizer, first, NIN_BIAS, 1.0, 1.0));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "2 is no nin_parameter",
                 nin_optimizer_set_multipliers(optimizer, first, (nin_parameter)2, 1.0, 1.0));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "another network",
                 nin_optimizer_set_multipliers(optimizer, nin_network_layer(other, 0), NIN_WEIGHT,
                                               1.0, 1.0));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "NULL",
                 nin_optimizer_set_multipliers(optimizer, NULL, NIN_WEIGHT, 1.0, 1.0));
    nin_optimizer_destroy(optimizer);
    nin_network_destroy(other);
}
END_TEST

START_TEST(momentum_has_a_part_for_each_parameter)
{
    nin_network *other = make_network();
    nin_optimizer *optimizer = make_optimizer(NIN_DESC(nin_sgd_desc, .momentum = 0.9));
    nin_tensor *biases = NULL, *none = NULL;
    float m[PARAMETERS], of_biases[BIASES];

    update(optimizer, 0);
    read_momentum(optimizer, m);
    ASSERT_OK(nin_optimizer_momentum(&biases, optimizer, second, NIN_BIAS));
    ASSERT_OK(nin_tensor_read(biases, of_biases, sizeof of_biases));
    ck_assert_mem_eq(of_biases, m + BIAS, sizeof of_biases);
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "conv2d 'first' has no biases",
                 nin_optimizer_momentum(&none, optimizer, first, NIN_BIAS));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "another network",
                 nin_optimizer_momentum(&none, optimizer, nin_network_layer(other, 0), NIN_WEIGHT));
    ck_assert_ptr_null(none);
    nin_optimizer_destroy(optimizer);
    nin_network_destroy(other);
}
END_TEST

/* ---- what an update refuses ---------------------------------------------------------------- */

START_TEST(an_update_needs_a_gradient)
{
    nin_optimizer *optimizer = make_optimizer(NULL);
    const float image[2] = {1.0f, 1.0f};
    nin_plan *infer = NULL;
    float before[PARAMETERS], after[PARAMETERS];

    read_parameters(before);
    ASSERT_FAILS(NIN_INVALID_STATE, "no gradient", nin_optimizer_update(optimizer, plan));
    ASSERT_OK(nin_plan_forward(plan, NIN_DESC(nin_batch_desc, .images = image, .count = 1)));
    ASSERT_FAILS(NIN_INVALID_STATE, "no gradient", nin_optimizer_update(optimizer, plan));
    ASSERT_OK(nin_plan_create(&infer, network, NULL));
    ASSERT_FAILS(NIN_INVALID_STATE, "no gradient", nin_optimizer_update(optimizer, infer));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "NULL", nin_optimizer_update(optimizer, NULL));
    read_parameters(after);
    ck_assert_mem_eq(before, after, sizeof before);
    nin_plan_destroy(infer);
    nin_optimizer_destroy(optimizer);
}
END_TEST

START_TEST(an_update_from_another_networks_plan_is_refused)
{
    nin_network *other = make_network();
    nin_optimizer *optimizer = NULL;
    float g[PARAMETERS];

    ASSERT_OK(nin_optimizer_create_sgd(&optimizer, other, NULL));
    make_gradient(g, 0);
    set_gradient(g);
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "two networks", nin_optimizer_update(optimizer, plan));
    nin_optimizer_destroy(optimizer);
    nin_network_destroy(other);
}
END_TEST

Suite *optimizer_suite(void)
{
    Suite *suite = suite_create("optimizer");
    TCase *updates = tcase_create("updates"), *rules = tcase_create("rules");

    tcase_add_checked_fixture(updates, setup, teardown);
    tcase_add_loop_test(updates, updates_follow_the_documented_formula, 0, RECIPES);
    tcase_add_test(updates, the_first_momentum_is_the_gradient_itself);
    tcase_add_test(updates, a_change_of_the_rate_acts_at_once_and_leaves_the_momentum);
    tcase_add_test(updates, a_rate_of_0_changes_no_parameter_but_the_momentum);
    tcase_add_test(updates, a_rate_multiplier_of_0_freezes_one_parameter);
    tcase_add_test(updates, an_update_raises_the_parameter_version);
    tcase_add_checked_fixture(rules, setup, teardown);
    tcase_add_test(rules, by_default_the_rate_is_a_hundredth_and_there_is_no_momentum);
    tcase_add_loop_test(rules, a_wrong_descriptor_makes_no_optimizer, 0, WRONG);
    tcase_add_test(rules, a_wrong_rate_changes_nothing);
    tcase_add_test(rules, wrong_multipliers_are_refused);
    tcase_add_test(rules, momentum_has_a_part_for_each_parameter);
    tcase_add_test(rules, an_update_needs_a_gradient);
    tcase_add_test(rules, an_update_from_another_networks_plan_is_refused);
    suite_add_tcase(suite, updates);
    suite_add_tcase(suite, rules);
    return suite;
}
