/* SPDX-License-Identifier: MIT */
#include "suites.h"
#include "test.h"

#include <math.h>
#include <stdbool.h>

static nin_context *context;
static nin_network *network;
static nin_optimizer *optimizer; /* of rate 0.1 */

static void setup(void)
{
    nin_builder *builder = NULL;

    ASSERT_OK(nin_context_create(&context, NIN_DESC(nin_context_desc, .threads = 1)));
    ASSERT_OK(nin_builder_create(&builder, context,
                                 NIN_DESC(nin_input_desc, .channels = 1, .height = 1, .width = 1)));
    nin_builder_conv2d(builder, "conv", NIN_DESC(nin_conv2d_desc, .filters = 1));
    ASSERT_OK(nin_builder_finish(&network, builder));
    nin_builder_destroy(builder);
    ASSERT_OK(nin_optimizer_create_sgd(&optimizer, network, NIN_DESC(nin_sgd_desc, .rate = 0.1)));
}

static void teardown(void)
{
    nin_optimizer_destroy(optimizer);
    nin_network_destroy(network);
    nin_context_destroy(context);
}

static double rate(void)
{
    return nin_optimizer_rate(optimizer);
}

static nin_scheduler *plateau(const nin_plateau_desc *desc)
{
    nin_scheduler *scheduler = NULL;

    ASSERT_OK(nin_scheduler_create_plateau(&scheduler, optimizer, desc));
    return scheduler;
}

static void advance(nin_scheduler *scheduler, double metric, int times)
{
    for (int i = 0; i < times; i++)
        nin_scheduler_advance(scheduler, metric);
}

/* ---- plateau ------------------------------------------------------------------------------- */

/* torch.optim.lr_scheduler.ReduceLROnPlateau, mode 'max', as its documentation has it. */
struct machine {
    double factor, threshold, min_rate;
    int patience, cooldown;
    double best, rate;
    int bad, cool;
};

static void advance_machine(struct machine *s, double metric)
{
    bool better = metric > s->best * (1.0 + s->threshold);

    s->best = better ? metric : s->best;
    s->bad = better ? 0 : s->bad + 1;
    if (s->cool > 0) {
        s->cool--;
        s->bad = 0;
    }
    if (s->bad > s->patience) {
        double lower = fmax(s->rate * s->factor, s->min_rate);

        s->rate = s->rate - lower > 1e-8 ? lower : s->rate;
        s->cool = s->cooldown;
        s->bad = 0;
    }
}

static const struct {
    nin_plateau_desc desc;
    struct machine machine;
} plateaus[] = {
    {{.unit = NIN_PER_EPOCH}, {0.1, 1e-4, 0.0, 10, 0, -INFINITY, 0.1, 0, 0}},
    {{.patience = 2, .cooldown = 3}, {0.1, 1e-4, 0.0, 2, 3, -INFINITY, 0.1, 0, 0}},
    {{.factor = 0.5, .no_patience = 1, .cooldown = 1},
     {0.5, 1e-4, 0.0, 0, 1, -INFINITY, 0.1, 0, 0}},
    {{.factor = 0.9, .patience = 1, .threshold = 0.2, .min_rate = 0.03},
     {0.9, 0.2, 0.03, 1, 0, -INFINITY, 0.1, 0, 0}},
    {{.factor = 0.99, .no_patience = 1, .no_threshold = 1},
     {0.99, 0.0, 0.0, 0, 0, -INFINITY, 0.1, 0, 0}},
};

enum {
    PLATEAUS = sizeof plateaus / sizeof plateaus[0]
};

/* Metrics that rise, stay, fall, jump, and are now and then NaN or infinite. */
static double metric_at(int t)
{
    double wave = 100.0 + 0.5 * t + 3.0 * sin(0.37 * t) + (t / 40 % 2 == 0 ? 0.02 * t : -30.0);

    if (t % 31 == 7)
        return NAN;
    if (t % 97 == 50)
        return -INFINITY;
    return t % 5 == 0 ? floor(wave) : wave;
}

START_TEST(plateau_is_the_state_machine_of_pytorch)
{
    nin_plateau_desc desc = plateaus[_i].desc;
    struct machine machine = plateaus[_i].machine;
    nin_scheduler *scheduler;

    desc.struct_size = sizeof desc;
    scheduler = plateau(&desc);
    ck_assert(rate() == 0.1);
    for (int t = 0; t < 600; t++) {
        double metric = metric_at(t);

        nin_scheduler_advance(scheduler, metric);
        advance_machine(&machine, metric);
        ck_assert_msg(rate() == machine.rate, "unit %d, metric %g: rate %.17g, not %.17g", t,
                      metric, rate(), machine.rate);
    }
    nin_scheduler_destroy(scheduler);
}
END_TEST

START_TEST(the_eleventh_bad_unit_reduces_by_default)
{
    nin_scheduler *scheduler = plateau(NULL);

    advance(scheduler, 5.0, 11); /* the first is better than nothing */
    ck_assert(rate() == 0.1);
    advance(scheduler, 5.0, 1);
    ck_assert(rate() == 0.1 * 0.1);
    advance(scheduler, 5.0, 10);
    ck_assert(rate() == 0.1 * 0.1);
    advance(scheduler, 5.0, 1);
    ck_assert(rate() == 0.1 * 0.1 * 0.1);
    nin_scheduler_destroy(scheduler);
}
END_TEST

START_TEST(an_equal_or_hardly_better_unit_is_bad)
{
    nin_scheduler *scheduler = plateau(NIN_DESC(nin_plateau_desc, .no_patience = 1));

    advance(scheduler, 100.0, 1);
    advance(scheduler, 100.02, 1);
    ck_assert(rate() == 0.1);
    advance(scheduler, 100.03, 1); /* less than a ten-thousandth more */
    ck_assert(rate() < 0.1);
    nin_scheduler_destroy(scheduler);
}
END_TEST

START_TEST(without_threshold_any_gain_counts_but_not_an_equal_unit)
{
    nin_scheduler *scheduler =
        plateau(NIN_DESC(nin_plateau_desc, .no_patience = 1, .no_threshold = 1));

    advance(scheduler, 100.0, 1);
    advance(scheduler, nextafter(100.0, 200.0), 1);
    ck_assert(rate() == 0.1);
    advance(scheduler, nextafter(100.0, 200.0), 1);
    ck_assert(rate() < 0.1);
    nin_scheduler_destroy(scheduler);
}
END_TEST

START_TEST(nan_is_never_better)
{
    nin_scheduler *scheduler = plateau(NIN_DESC(nin_plateau_desc, .patience = 2));

    advance(scheduler, NAN, 2); /* not even as the first */
    ck_assert(rate() == 0.1);
    advance(scheduler, NAN, 1);
    ck_assert(rate() < 0.1);
    nin_scheduler_destroy(scheduler);
}
END_TEST

START_TEST(the_best_metric_outlives_a_reduction)
{
    nin_scheduler *scheduler = plateau(NIN_DESC(nin_plateau_desc, .factor = 0.5, .patience = 1));

    advance(scheduler, 100.0, 1);
    advance(scheduler, 50.0, 2);
    ck_assert(rate() == 0.05);
    advance(scheduler, 90.0, 2); /* better than since, but not than the best */
    ck_assert(rate() == 0.025);
    nin_scheduler_destroy(scheduler);
}
END_TEST

START_TEST(units_of_cool_down_are_not_counted)
{
    nin_scheduler *scheduler =
        plateau(NIN_DESC(nin_plateau_desc, .factor = 0.5, .patience = 1, .cooldown = 3));

    advance(scheduler, 100.0, 3);
    ck_assert(rate() == 0.05);
    advance(scheduler, 100.0, 3 + 1);
    ck_assert(rate() == 0.05);
    advance(scheduler, 100.0, 1);
    ck_assert(rate() == 0.025);
    nin_scheduler_destroy(scheduler);
}
END_TEST

START_TEST(the_rate_stops_at_its_minimum)
{
    nin_scheduler *scheduler =
        plateau(NIN_DESC(nin_plateau_desc, .no_patience = 1, .min_rate = 0.004));

    advance(scheduler, 1.0, 2);
    ck_assert(rate() == 0.1 * 0.1);
    advance(scheduler, 1.0, 1);
    ck_assert(rate() == 0.004);
    advance(scheduler, 1.0, 5);
    ck_assert(rate() == 0.004);
    ASSERT_OK(nin_optimizer_set_rate(optimizer, 0.001)); /* the user's, below the minimum */
    advance(scheduler, 1.0, 5);
    ck_assert(rate() == 0.001);
    nin_scheduler_destroy(scheduler);
}
END_TEST

START_TEST(a_change_of_1e_8_or_less_is_not_made)
{
    nin_scheduler *scheduler = plateau(NIN_DESC(nin_plateau_desc, .factor = 0.5, .no_patience = 1));

    ASSERT_OK(nin_optimizer_set_rate(optimizer, 1.9e-8));
    advance(scheduler, 1.0, 3);
    ck_assert(rate() == 1.9e-8);
    ASSERT_OK(nin_optimizer_set_rate(optimizer, 2.1e-8));
    advance(scheduler, 1.0, 1);
    ck_assert(rate() == 2.1e-8 * 0.5);
    nin_scheduler_destroy(scheduler);
}
END_TEST

/* ---- steps --------------------------------------------------------------------------------- */

START_TEST(each_milestone_multiplies_the_rate)
{
    int64_t milestones[] = {1, 4, 5};
    const int passed[] = {0, 1, 1, 1, 2, 3, 3, 3};
    nin_scheduler *scheduler = NULL;

    ASSERT_OK(nin_scheduler_create_steps(
        &scheduler, optimizer,
        NIN_DESC(nin_steps_desc, .milestones = milestones, .count = 3, .factor = 0.5)));
    memset(milestones, 0, sizeof milestones); /* they were copied */
    for (int t = 0; t < 8; t++) {
        ck_assert(rate() == ldexp(0.1, -passed[t]));
        nin_scheduler_advance(scheduler, NAN);
    }
    nin_scheduler_destroy(scheduler);
}
END_TEST

START_TEST(by_default_a_milestone_divides_by_ten)
{
    const int64_t milestones[] = {2};
    nin_scheduler *scheduler = NULL;

    ASSERT_OK(nin_scheduler_create_steps(
        &scheduler, optimizer, NIN_DESC(nin_steps_desc, .milestones = milestones, .count = 1)));
    advance(scheduler, 0.0, 2);
    ck_assert(rate() == 0.1 * 0.1);
    nin_scheduler_destroy(scheduler);
}
END_TEST

/* ---- cosine -------------------------------------------------------------------------------- */

static const nin_cosine_desc cosines[] = {
    {.total = 10},
    {.total = 10, .warm_up = 4},
    {.total = 7, .warm_up = 6, .end_rate = 0.02},
    {.total = 100, .warm_up = 1, .end_rate = 0.5},
    {.total = 1},
};

enum {
    COSINES = sizeof cosines / sizeof cosines[0]
};

static double cosine_rate(const nin_cosine_desc *desc, int64_t t)
{
    const double pi = 3.14159265358979323846, r = 0.1;

    if (t < desc->warm_up)
        return r * (double)(t + 1) / (double)desc->warm_up;
    if (t >= desc->total)
        return desc->end_rate;
    return desc->end_rate + (r - desc->end_rate) *
                                (1.0 + cos(pi * (double)(t - desc->warm_up) /
                                           (double)(desc->total - desc->warm_up))) /
                                2.0;
}

START_TEST(cosine_follows_its_closed_form_from_the_first_unit_on)
{
    nin_cosine_desc desc = cosines[_i];
    nin_scheduler *scheduler = NULL;

    desc.struct_size = sizeof desc;
    ASSERT_OK(nin_scheduler_create_cosine(&scheduler, optimizer, &desc));
    for (int64_t t = 0; t < desc.total + 3; t++) {
        ck_assert_double_eq_tol(rate(), cosine_rate(&desc, t), 1e-15);
        nin_scheduler_advance(scheduler, NAN);
    }
    ck_assert(rate() == desc.end_rate);
    nin_scheduler_destroy(scheduler);
}
END_TEST

/* ---- descriptors --------------------------------------------------------------------------- */

START_TEST(a_scheduler_knows_its_unit)
{
    const int64_t milestones[] = {2};
    const nin_unit unit = _i == 0 ? NIN_PER_EPOCH : NIN_PER_STEP;
    nin_scheduler *scheduler = plateau(NIN_DESC(nin_plateau_desc, .unit = unit));

    ck_assert_int_eq(nin_scheduler_unit(scheduler), unit);
    nin_scheduler_destroy(scheduler);
    ASSERT_OK(nin_scheduler_create_steps(
        &scheduler, optimizer,
        NIN_DESC(nin_steps_desc, .unit = unit, .milestones = milestones, .count = 1)));
    ck_assert_int_eq(nin_scheduler_unit(scheduler), unit);
    nin_scheduler_destroy(scheduler);
    ASSERT_OK(nin_scheduler_create_cosine(&scheduler, optimizer,
                                          NIN_DESC(nin_cosine_desc, .unit = unit, .total = 1)));
    ck_assert_int_eq(nin_scheduler_unit(scheduler), unit);
    nin_scheduler_destroy(scheduler);
    nin_scheduler_destroy(NULL);
}
END_TEST

static const struct {
    nin_plateau_desc desc;
    const char *words;
} wrong_plateaus[] = {
    {{.unit = (nin_unit)2}, "plateau: 2 is no nin_unit"},
    {{.factor = 1.0}, "factor 1 is outside 0 < factor < 1"},
    {{.factor = -0.1}, "factor -0.1 is outside 0 < factor < 1"},
    {{.factor = NAN}, "factor"},
    {{.patience = -1}, "patience -1"},
    {{.patience = 3, .no_patience = 1}, "patience 3 with no_patience 1"},
    {{.threshold = -1e-4}, "threshold -0.0001"},
    {{.threshold = INFINITY}, "threshold inf"},
    {{.threshold = 0.1, .no_threshold = 1}, "threshold 0.1 with no_threshold 1"},
    {{.cooldown = -1}, "cooldown -1"},
    {{.min_rate = -1.0}, "min_rate -1 is negative"},
    {{.min_rate = INFINITY}, "min_rate inf is no finite float"},
    {{.min_rate = NAN}, "min_rate"},
};

static const int64_t zero[] = {0}, falling[] = {5, 3}, twice[] = {3, 3};

static const struct {
    nin_steps_desc desc;
    const char *words;
} wrong_steps[] = {
    {{.milestones = twice, .count = 1, .unit = (nin_unit)-1}, "steps: -1 is no nin_unit"},
    {{.milestones = twice}, "at least one milestone"},
    {{.count = 1}, "at least one milestone"},
    {{.milestones = twice, .count = -1}, "at least one milestone"},
    {{.milestones = zero, .count = 1}, "milestone 0 at place 0"},
    {{.milestones = falling, .count = 2}, "milestone 3 at place 1"},
    {{.milestones = twice, .count = 2}, "milestone 3 at place 1"},
    {{.milestones = twice, .count = 1, .factor = -1.0}, "factor -1 is negative"},
    {{.milestones = twice, .count = 1, .factor = INFINITY}, "factor inf is no finite float"},
};

static const struct {
    nin_cosine_desc desc;
    const char *words;
} wrong_cosines[] = {
    {{.total = 5, .unit = (nin_unit)7}, "cosine: 7 is no nin_unit"},
    {{.total = 0}, "warm_up 0 of total 0 units"},
    {{.total = -5}, "warm_up 0 of total -5 units"},
    {{.total = 5, .warm_up = 5}, "warm_up 5 of total 5 units"},
    {{.total = 5, .warm_up = -1}, "warm_up -1 of total 5 units"},
    {{.total = 5, .end_rate = -0.1}, "end_rate -0.1"},
    {{.total = 5, .end_rate = NAN}, "end_rate"},
};

enum {
    WRONG_PLATEAUS = sizeof wrong_plateaus / sizeof wrong_plateaus[0],
    WRONG_STEPS = sizeof wrong_steps / sizeof wrong_steps[0],
    WRONG_COSINES = sizeof wrong_cosines / sizeof wrong_cosines[0]
};

START_TEST(a_wrong_plateau_is_refused_and_the_rate_stays)
{
    nin_plateau_desc desc = wrong_plateaus[_i].desc;
    nin_scheduler *scheduler = NULL;

    desc.struct_size = sizeof desc;
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, wrong_plateaus[_i].words,
                 nin_scheduler_create_plateau(&scheduler, optimizer, &desc));
    ck_assert_ptr_null(scheduler);
    ck_assert(rate() == 0.1);
}
END_TEST

START_TEST(wrong_steps_are_refused_and_the_rate_stays)
{
    nin_steps_desc desc = wrong_steps[_i].desc;
    nin_scheduler *scheduler = NULL;

    desc.struct_size = sizeof desc;
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, wrong_steps[_i].words,
                 nin_scheduler_create_steps(&scheduler, optimizer, &desc));
    ck_assert_ptr_null(scheduler);
    ck_assert(rate() == 0.1);
}
END_TEST

START_TEST(a_wrong_cosine_is_refused_and_the_rate_stays)
{
    nin_cosine_desc desc = wrong_cosines[_i].desc;
    nin_scheduler *scheduler = NULL;

    desc.struct_size = sizeof desc;
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, wrong_cosines[_i].words,
                 nin_scheduler_create_cosine(&scheduler, optimizer, &desc));
    ck_assert_ptr_null(scheduler);
    ck_assert(rate() == 0.1);
}
END_TEST

static TCase *plateau_cases(void)
{
    TCase *cases = tcase_create("plateau");

    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_loop_test(cases, plateau_is_the_state_machine_of_pytorch, 0, PLATEAUS);
    tcase_add_test(cases, the_eleventh_bad_unit_reduces_by_default);
    tcase_add_test(cases, an_equal_or_hardly_better_unit_is_bad);
    tcase_add_test(cases, without_threshold_any_gain_counts_but_not_an_equal_unit);
    tcase_add_test(cases, nan_is_never_better);
    tcase_add_test(cases, the_best_metric_outlives_a_reduction);
    tcase_add_test(cases, units_of_cool_down_are_not_counted);
    tcase_add_test(cases, the_rate_stops_at_its_minimum);
    tcase_add_test(cases, a_change_of_1e_8_or_less_is_not_made);
    tcase_add_loop_test(cases, a_wrong_plateau_is_refused_and_the_rate_stays, 0, WRONG_PLATEAUS);
    return cases;
}

Suite *scheduler_suite(void)
{
    Suite *suite = suite_create("scheduler");
    TCase *steps = tcase_create("steps"), *cosine = tcase_create("cosine");

    tcase_add_checked_fixture(steps, setup, teardown);
    tcase_add_test(steps, each_milestone_multiplies_the_rate);
    tcase_add_test(steps, by_default_a_milestone_divides_by_ten);
    tcase_add_loop_test(steps, wrong_steps_are_refused_and_the_rate_stays, 0, WRONG_STEPS);
    tcase_add_checked_fixture(cosine, setup, teardown);
    tcase_add_loop_test(cosine, cosine_follows_its_closed_form_from_the_first_unit_on, 0, COSINES);
    tcase_add_loop_test(cosine, a_wrong_cosine_is_refused_and_the_rate_stays, 0, WRONG_COSINES);
    tcase_add_loop_test(cosine, a_scheduler_knows_its_unit, 0, 2);
    suite_add_tcase(suite, plateau_cases());
    suite_add_tcase(suite, steps);
    suite_add_tcase(suite, cosine);
    return suite;
}
