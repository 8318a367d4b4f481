/* SPDX-License-Identifier: MIT */
/* libnin against PyTorch: the golden files, made by tests/golden/make.py in double precision. */
#include "test_parity.h"

#include "suites.h"

#include "data/dataset.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- golden files and deviations ----------------------------------------------------------- */

golden *parity_open(const char *name)
{
    char path[64];
    golden *file;

    snprintf(path, sizeof path, "tests/golden/%s.gold", name);
    file = golden_open(path);
    ck_assert_msg(file != NULL, "%s can't be read from here", path);
    return file;
}

const golden_array *parity_find(const golden *file, uint32_t dtype, const char *format, ...)
{
    const golden_array *array;
    char name[96];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    array = golden_find(file, name);
    ck_assert_msg(array != NULL && array->dtype == dtype, "no '%s' of type %u", name,
                  (unsigned)dtype);
    return array;
}

double parity_value(const golden_array *array, size_t i)
{
    if (array->dtype == GOLDEN_F32)
        return ((const float *)array->data)[i];
    return ((const double *)array->data)[i];
}

void parity_add(struct parity_sums *sums, const float *got, const golden_array *want)
{
    for (size_t i = 0; i < want->count; i++) {
        double value = parity_value(want, i), difference = got[i] - value;

        sums->difference += difference * difference;
        sums->wanted += value * value;
    }
}

double parity_deviation(struct parity_sums sums)
{
    return sqrt(sums.difference / sums.wanted);
}

void parity_check(double deviation, double bound, const char *format, ...)
{
    va_list arguments;
    char name[96];

    va_start(arguments, format);
    vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    if (getenv("NIN_PARITY_REPORT") != NULL)
        fprintf(stderr, "%-32s %8.1e of %8.1e\n", name, deviation, bound);
    ck_assert_msg(deviation <= bound, "%s: the deviation is %.2e, not within %.2e", name, deviation,
                  bound);
}

float *parity_floats(size_t count)
{
    float *floats = malloc(count * sizeof *floats);

    ck_assert_ptr_nonnull(floats);
    return floats;
}

/* ---- how an epoch is cut into batches ------------------------------------------------------ */

START_TEST(batches_are_the_pieces_of_torch_chunk)
{
    golden *file = parity_open("chunks");
    const golden_array *table = parity_find(file, GOLDEN_I32, "chunks");

    ck_assert_uint_eq(table->dims[1], 5);
    for (size_t i = 0; i < table->count; i += 5) {
        const int32_t *row = (const int32_t *)table->data + i; /* images batch pieces piece last */
        struct nin__batches batches = nin__batches(row[0], row[1]);
        int64_t first;
        int32_t images;

        ck_assert_int_eq(batches.pieces, row[2]);
        ck_assert_int_eq(batches.size, row[3]);
        nin__batch_range(batches, row[0], batches.pieces - 1, &first, &images);
        ck_assert_int_eq(images, row[4]);
        ck_assert_int_eq(first + images, row[0]);
    }
    golden_close(file);
}
END_TEST

/* ---- schedulers ---------------------------------------------------------------------------- */

static golden *rates;
static nin_optimizer *sgd; /* of the network: there for its rate */

/* An optimizer that starts at the first value of a scheduler's configuration. */
static const double *start(const char *config)
{
    nin_context *context = NULL;
    nin_builder *builder = NULL;
    nin_network *network = NULL;
    const double *values;

    rates = parity_open("plateau");
    values = parity_find(rates, GOLDEN_F64, "%s", config)->data;
    ASSERT_OK(nin_context_create(&context, NULL));
    ASSERT_OK(nin_builder_create(&builder, context,
                                 NIN_DESC(nin_input_desc, .channels = 1, .height = 1, .width = 1)));
    ASSERT_OK(nin_builder_dense(builder, "dense", NIN_DESC(nin_dense_desc, .units = 1)));
    ASSERT_OK(nin_builder_finish(&network, builder));
    ASSERT_OK(nin_optimizer_create_sgd(&sgd, network, NIN_DESC(nin_sgd_desc, .rate = values[0])));
    nin_network_destroy(network);
    nin_builder_destroy(builder);
    nin_context_destroy(context);
    return values;
}

/* The scheduler's rates are those of the record, up to the relative tolerance. Destroys all. */
static void follow(nin_scheduler *scheduler, const char *record, const double *metric,
                   double tolerance)
{
    const golden_array *want = parity_find(rates, GOLDEN_F64, "%s", record);

    for (size_t i = 0; i < want->count; i++) {
        nin_scheduler_advance(scheduler, metric != NULL ? metric[i] : 0.0);
        parity_check(fabs(nin_optimizer_rate(sgd) / parity_value(want, i) - 1.0), tolerance,
                     "%s[%zu]", record, i);
    }
    nin_scheduler_destroy(scheduler);
    nin_optimizer_destroy(sgd);
    golden_close(rates);
}

/* Plateau and steps multiply as PyTorch does, so that no bit may differ. */
START_TEST(plateau_is_reduce_lr_on_plateau)
{
    static const char *const names[] = {"default", "cooldown"};
    char config[48], record[48];
    nin_scheduler *scheduler = NULL;
    const double *values;

    snprintf(config, sizeof config, "plateau.%s.config", names[_i]);
    snprintf(record, sizeof record, "plateau.%s.rates", names[_i]);
    values = start(config); /* rate factor patience threshold cooldown min_rate eps */
    ASSERT_OK(nin_scheduler_create_plateau(
        &scheduler, sgd,
        NIN_DESC(nin_plateau_desc, .factor = values[1], .patience = (int32_t)values[2],
                 .threshold = values[3], .cooldown = (int32_t)values[4], .min_rate = values[5])));
    ck_assert_double_eq(values[6], 1e-8);
    follow(scheduler, record, parity_find(rates, GOLDEN_F64, "plateau.metric")->data, 0.0);
}
END_TEST

START_TEST(all_defaults_are_those_of_reduce_lr_on_plateau)
{
    nin_scheduler *scheduler = NULL;

    start("plateau.default.config");
    ASSERT_OK(nin_scheduler_create_plateau(&scheduler, sgd, NULL));
    follow(scheduler, "plateau.default.rates",
           parity_find(rates, GOLDEN_F64, "plateau.metric")->data, 0.0);
}
END_TEST

START_TEST(steps_are_multi_step_lr)
{
    const double *values = start("steps.config"); /* rate gamma */
    const golden_array *steps = parity_find(rates, GOLDEN_I32, "steps.milestones");
    nin_scheduler *scheduler = NULL;
    int64_t milestones[8];

    ck_assert_uint_le(steps->count, sizeof milestones / sizeof milestones[0]);
    for (size_t i = 0; i < steps->count; i++)
        milestones[i] = ((const int32_t *)steps->data)[i];
    ASSERT_OK(
        nin_scheduler_create_steps(&scheduler, sgd,
                                   NIN_DESC(nin_steps_desc, .milestones = milestones,
                                            .count = (int32_t)steps->count, .factor = values[1])));
    follow(scheduler, "steps.rates", NULL, 0.0);
}
END_TEST

/* PyTorch makes each rate from the one before it, so that its rounding errors add up. */
START_TEST(cosine_is_cosine_annealing_lr)
{
    const double *values = start("cosine.config"); /* rate min_rate period */
    nin_scheduler *scheduler = NULL;

    ASSERT_OK(nin_scheduler_create_cosine(
        &scheduler, sgd,
        NIN_DESC(nin_cosine_desc, .total = (int64_t)values[2], .end_rate = values[1])));
    ck_assert_double_eq(nin_optimizer_rate(sgd), values[0]);
    follow(scheduler, "cosine.rates", NULL, 1e-13);
}
END_TEST

START_TEST(warm_up_is_linear_lr)
{
    const double *values = start("warmup.config"); /* rate min_rate period warm_up */
    nin_scheduler *scheduler = NULL;

    ASSERT_OK(nin_scheduler_create_cosine(
        &scheduler, sgd,
        NIN_DESC(nin_cosine_desc, .total = (int64_t)(values[2] + values[3]),
                 .warm_up = (int64_t)values[3], .end_rate = values[1])));
    ck_assert_double_eq(nin_optimizer_rate(sgd), values[0] / values[3]);
    follow(scheduler, "warmup.rates", NULL, 1e-13);
}
END_TEST

/* ---- suite --------------------------------------------------------------------------------- */

static TCase *schedules_case(void)
{
    TCase *tc = tcase_create("schedules");

    tcase_add_test(tc, batches_are_the_pieces_of_torch_chunk);
    tcase_add_loop_test(tc, plateau_is_reduce_lr_on_plateau, 0, 2);
    tcase_add_test(tc, all_defaults_are_those_of_reduce_lr_on_plateau);
    tcase_add_test(tc, steps_are_multi_step_lr);
    tcase_add_test(tc, cosine_is_cosine_annealing_lr);
    tcase_add_test(tc, warm_up_is_linear_lr);
    return tc;
}

Suite *parity_suite(void)
{
    Suite *suite = suite_create("parity");

    suite_add_tcase(suite, parity_layers_case());
    suite_add_tcase(suite, schedules_case());
    suite_add_tcase(suite, parity_training_case());
    return suite;
}
