/* SPDX-License-Identifier: MIT */
#include "suites.h"
#include "test.h"

#include "core/trainer.h"

#include <math.h>
#include <pthread.h>
#include <stdbool.h>

/* Ten images of 1x2x3 and three classes, given by a callback that takes notes. */
enum {
    COUNT = 10,
    PIXELS = 6,
    CLASSES = 3,
    PARAMETERS = 4 * PIXELS + 4 + CLASSES * 4 + CLASSES,
    BATCH = 4, /* so that an epoch has batches of 4, 4 and 2 */
    BATCHES = 3
};

static nin_context *context;
static nin_network *network;
static nin_plan *plan;
static nin_optimizer *optimizer;
static nin_dataset *dataset;

/* What the callback of the data set has been asked for, and what it shall do. */
static struct {
    int64_t seen[4096];
    int count;
    int fail_at;          /* this call fails; -1: none */
    nin_status status;    /* with this */
    int32_t label;        /* given in place of the right one; -1: the right one */
    float pixel;          /* added to every pixel */
    void (*meddle)(void); /* called first; NULL: nothing is */
} notes;

static float pixel(int64_t image, int64_t k)
{
    return sinf((float)(7 * image + 3 * k)) + (image % CLASSES == k % CLASSES ? 1.0f : 0.0f);
}

static nin_status give(void *image, int32_t *label, int64_t index, void *user)
{
    float *target = image;

    ck_assert_ptr_eq(user, &notes);
    if (notes.meddle != NULL)
        notes.meddle();
    if (notes.count < 4096)
        notes.seen[notes.count] = index;
    if (notes.count++ == notes.fail_at)
        return notes.status;
    for (int64_t k = 0; k < PIXELS; k++)
        target[k] = pixel(index, k) + notes.pixel;
    *label = notes.label >= 0 ? notes.label : (int32_t)(index % CLASSES);
    return NIN_OK;
}

static nin_dataset *make_dataset(int64_t count, int32_t width)
{
    nin_dataset *made = NULL;

    ASSERT_OK(nin_dataset_create_callback(
        &made, NIN_DESC(nin_callback_desc, .sample = give, .user = &notes, .count = count,
                        .channels = 1, .height = 2, .width = width)));
    return made;
}

/* dropout > 0 or not, with a ReLU on the scores or not. */
static nin_network *make_network(double drop, bool relu)
{
    nin_builder *builder = NULL;
    nin_network *made = NULL;

    ASSERT_OK(nin_builder_create(&builder, context,
                                 NIN_DESC(nin_input_desc, .channels = 1, .height = 2, .width = 3)));
    nin_builder_dense(builder, "hidden", NIN_DESC(nin_dense_desc, .units = 4));
    nin_builder_relu(builder, "relu");
    nin_builder_dropout(builder, "drop", drop);
    nin_builder_dense(builder, "class", NIN_DESC(nin_dense_desc, .units = CLASSES));
    if (relu)
        nin_builder_relu(builder, "dead");
    nin_builder_softmax_loss(builder, "loss");
    ASSERT_OK(nin_builder_finish(&made, builder));
    nin_builder_destroy(builder);
    return made;
}

static void setup(void)
{
    memset(&notes, 0, sizeof notes);
    notes.fail_at = -1;
    notes.label = -1;
    ASSERT_OK(nin_context_create(&context, NIN_DESC(nin_context_desc, .threads = 2, .seed = 3)));
    network = make_network(0.25, false);
    ASSERT_OK(nin_plan_create(&plan, network,
                              NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = BATCH)));
    ASSERT_OK(nin_optimizer_create_sgd(&optimizer, network,
                                       NIN_DESC(nin_sgd_desc, .rate = 0.1, .momentum = 0.9)));
    dataset = make_dataset(COUNT, 3);
}

static void teardown(void)
{
    nin_dataset_destroy(dataset);
    nin_optimizer_destroy(optimizer);
    nin_plan_destroy(plan);
    nin_network_destroy(network);
    nin_context_destroy(context);
}

static nin_trainer *make_trainer(nin_scheduler *scheduler, const nin_trainer_desc *desc)
{
    nin_trainer *trainer = NULL;

    ASSERT_OK(nin_trainer_create(&trainer, plan, optimizer, scheduler, dataset, desc));
    return trainer;
}

static void epochs(nin_trainer *trainer, int count)
{
    for (int i = 0; i < count; i++)
        ASSERT_OK(nin_trainer_epoch(NULL, trainer));
}

static nin_epoch_info curve(const nin_trainer *trainer, int64_t i)
{
    nin_epoch_info info = {.struct_size = sizeof info};

    ASSERT_OK(nin_trainer_curve(&info, trainer, i));
    return info;
}

static void read_parameters(float target[PARAMETERS])
{
    nin_layer *hidden = nin_network_find(network, "hidden");
    nin_layer *class = nin_network_find(network, "class");

    ck_assert_uint_eq(nin_network_parameter_count(network), PARAMETERS);
    ASSERT_OK(nin_layer_read(hidden, NIN_WEIGHT, target, 4 * PIXELS));
    ASSERT_OK(nin_layer_read(hidden, NIN_BIAS, target + 4 * PIXELS, 4));
    ASSERT_OK(nin_layer_read(class, NIN_WEIGHT, target + 4 * PIXELS + 4, CLASSES * 4));
    ASSERT_OK(nin_layer_read(class, NIN_BIAS, target + PARAMETERS - CLASSES, CLASSES));
}

static void assert_place(const nin_trainer *trainer, int64_t closed, int64_t steps, int64_t batch)
{
    ck_assert_int_eq(nin_trainer_epochs(trainer), closed);
    ck_assert_int_eq(nin_trainer_steps(trainer), steps);
    ck_assert_int_eq(nin_trainer_batch(trainer), batch);
}

/* What a run of three epochs that nothing interrupts ends with; everything starts anew. */
static void train_without_interruption(float target[PARAMETERS])
{
    nin_trainer *trainer;

    trainer = make_trainer(NULL, NULL);
    epochs(trainer, 3);
    read_parameters(target);
    nin_trainer_destroy(trainer);
    teardown();
    setup();
}

/* ---- the order of images ------------------------------------------------------------------- */

/* The images of epoch i, as the callback has seen them, each of them once. */
static const int64_t *order_of_epoch(int i)
{
    const int64_t *order = notes.seen + i * COUNT;
    bool seen[COUNT] = {false};

    ck_assert_int_ge(notes.count, (i + 1) * COUNT);
    for (int k = 0; k < COUNT; k++) {
        ck_assert(order[k] >= 0 && order[k] < COUNT && !seen[order[k]]);
        seen[order[k]] = true;
    }
    return order;
}

static bool same_order(const int64_t *a, const int64_t *b)
{
    return memcmp(a, b, COUNT * sizeof *a) == 0;
}

START_TEST(every_epoch_visits_all_images_once_in_a_new_order)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);
    int64_t steps = 0;

    epochs(trainer, 4);
    ck_assert_int_eq(notes.count, 4 * COUNT);
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < i; k++)
            ck_assert(!same_order(order_of_epoch(i), order_of_epoch(k)));
        steps += BATCHES;
        ck_assert_int_eq(curve(trainer, i).steps, steps);
    }
    nin_trainer_destroy(trainer);
}
END_TEST

/* The first epoch's order with a seed of the trainer's own. */
static const int64_t *order_of_seed(uint32_t seed)
{
    nin_trainer *trainer =
        make_trainer(NULL, NIN_DESC(nin_trainer_desc, .own_seed = 1, .seed = seed));
    const int64_t *order;

    notes.count = notes.count / COUNT * COUNT;
    epochs(trainer, 1);
    order = order_of_epoch(notes.count / COUNT - 1);
    nin_trainer_destroy(trainer);
    return order;
}

START_TEST(a_trainer_tells_its_seed)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);

    ck_assert_uint_eq(nin_trainer_seed(trainer), nin_context_seed(context));
    nin_trainer_destroy(trainer);
    trainer = make_trainer(NULL, NIN_DESC(nin_trainer_desc, .own_seed = 1, .seed = UINT32_MAX));
    ck_assert_uint_eq(nin_trainer_seed(trainer), UINT32_MAX);
    nin_trainer_destroy(trainer);
}
END_TEST

START_TEST(the_order_follows_from_the_seed)
{
    const int64_t *three = order_of_seed(3), *again = order_of_seed(3), *zero = order_of_seed(0);
    nin_trainer *trainer = make_trainer(NULL, NULL);

    epochs(trainer, 1); /* the context's seed is 3 too */
    ck_assert(same_order(three, again));
    ck_assert(!same_order(three, zero));
    ck_assert(same_order(three, order_of_epoch(3)));
    nin_trainer_destroy(trainer);
}
END_TEST

START_TEST(without_shuffling_images_come_as_they_are_stored)
{
    nin_trainer *trainer = make_trainer(NULL, NIN_DESC(nin_trainer_desc, .no_shuffle = 1));

    epochs(trainer, 2);
    for (int i = 0; i < 2 * COUNT; i++)
        ck_assert_int_eq(notes.seen[i], i % COUNT);
    nin_trainer_destroy(trainer);
}
END_TEST

/* Parameters after an epoch in stored order, so that only dropout can differ. */
static void train_with_seed(uint32_t seed, float target[PARAMETERS])
{
    nin_trainer *trainer;

    teardown();
    setup();
    trainer = make_trainer(
        NULL, NIN_DESC(nin_trainer_desc, .no_shuffle = 1, .own_seed = 1, .seed = seed));
    epochs(trainer, 1);
    read_parameters(target);
    nin_trainer_destroy(trainer);
}

START_TEST(dropout_follows_from_the_seed_too)
{
    float seven[PARAMETERS], again[PARAMETERS], eight[PARAMETERS];

    train_with_seed(7, seven);
    train_with_seed(7, again);
    train_with_seed(8, eight);
    ck_assert_mem_eq(seven, again, sizeof seven);
    ck_assert_mem_ne(seven, eight, sizeof seven);
}
END_TEST

/* torch.chunk: images, largest batch, batches, size, size of the last one. */
static const int32_t chunks[][5] = {
    {9, 4, 3, 3, 3},   {129, 128, 2, 65, 64}, {1000, 128, 8, 125, 125},  {7, 7, 1, 7, 7},
    {5, 100, 1, 5, 5}, {10, 1, 10, 1, 1},     {2000, 128, 16, 125, 125},
};

START_TEST(an_epoch_is_cut_into_batches_of_even_size)
{
    const int32_t *c = chunks[_i];
    nin_dataset *set = make_dataset(c[0], 3);
    nin_trainer *trainer = NULL;
    nin_plan *wide = NULL;
    nin_result result = {.struct_size = sizeof result};

    ASSERT_OK(nin_plan_create(&wide, network,
                              NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = c[1])));
    ASSERT_OK(nin_trainer_create(&trainer, wide, optimizer, NULL, set, NULL));
    for (int32_t i = 0; i < c[2]; i++) {
        assert_place(trainer, 0, i, i);
        ASSERT_OK(nin_trainer_step(&result, trainer));
        ck_assert_int_eq(result.count, i + 1 < c[2] ? c[3] : c[4]);
    }
    assert_place(trainer, 1, c[2], 0);
    nin_trainer_destroy(trainer);
    nin_plan_destroy(wide);
    nin_dataset_destroy(set);
}
END_TEST

START_TEST(a_trainer_can_take_smaller_batches_than_its_plan)
{
    nin_trainer *trainer = make_trainer(NULL, NIN_DESC(nin_trainer_desc, .batch = 3));
    nin_result result = {.struct_size = sizeof result};

    ASSERT_OK(nin_trainer_step(&result, trainer));
    ck_assert_int_eq(result.count, 3); /* ceil(10 / ceil(10 / 3)) */
    epochs(trainer, 1);
    ck_assert_int_eq(nin_trainer_steps(trainer), 4);
    nin_trainer_destroy(trainer);
}
END_TEST

/* ---- the curve ----------------------------------------------------------------------------- */

START_TEST(the_curve_sums_the_steps_of_an_epoch_up)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);
    double loss = 0.0, metric = 0.0;
    int64_t correct = 0;
    nin_epoch_info info;

    for (int i = 0; i < BATCHES; i++) {
        nin_result result = {.struct_size = sizeof result};

        ASSERT_OK(nin_trainer_step(&result, trainer));
        loss += result.loss * (double)result.count;
        metric += (double)((float)result.correct / (float)result.count);
        correct += result.correct;
    }
    info = curve(trainer, 0);
    ck_assert_int_eq(info.epoch, 1);
    ck_assert_int_eq(info.steps, BATCHES);
    ck_assert(info.rate == 0.1);
    ck_assert_double_eq_tol(info.loss, loss / COUNT, 1e-12);
    ck_assert(info.metric == metric);
    ck_assert_int_eq(info.correct, correct);
    ck_assert_int_eq(info.count, COUNT);
    ck_assert_int_eq(info.test_count, 0);
    ck_assert(info.seconds > 0.0);
    ck_assert_int_eq(info.health, NIN_HEALTHY);
    nin_trainer_destroy(trainer);
}
END_TEST

/* Thirds are not exact in single precision. */
START_TEST(the_metric_adds_accuracies_of_single_precision)
{
    nin_trainer *trainer = make_trainer(NULL, NIN_DESC(nin_trainer_desc, .batch = 3));
    int thirds = 0;

    for (int i = 0; i < 8; i++) {
        double metric = 0.0;

        while (nin_trainer_epochs(trainer) == i) {
            nin_result result = {.struct_size = sizeof result};

            ASSERT_OK(nin_trainer_step(&result, trainer));
            metric += (double)((float)result.correct / (float)result.count);
            thirds += result.correct % 3 != 0;
        }
        ck_assert(curve(trainer, i).metric == metric);
    }
    ck_assert_int_gt(thirds, 0);
    nin_trainer_destroy(trainer);
}
END_TEST

START_TEST(an_epoch_gives_the_curves_numbers_from_wherever_it_starts)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);
    nin_result result = {.struct_size = sizeof result};

    ASSERT_OK(nin_trainer_step(NULL, trainer));
    ASSERT_OK(nin_trainer_epoch(&result, trainer));
    assert_place(trainer, 1, BATCHES, 0);
    ck_assert(result.loss == curve(trainer, 0).loss);
    ck_assert_int_eq(result.correct, curve(trainer, 0).correct);
    ck_assert_int_eq(result.count, COUNT);
    ck_assert_int_eq(result.flat, 0);
    nin_trainer_destroy(trainer);
}
END_TEST

START_TEST(the_curve_has_no_entry_of_an_open_epoch)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);
    nin_epoch_info info = {.struct_size = sizeof info};

    ASSERT_OK(nin_trainer_step(NULL, trainer));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "the curve has 0 epochs, there is no entry 0",
                 nin_trainer_curve(&info, trainer, 0));
    epochs(trainer, 20);
    ck_assert_int_eq(curve(trainer, 19).epoch, 20);
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "no entry 20", nin_trainer_curve(&info, trainer, 20));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "no entry -1", nin_trainer_curve(&info, trainer, -1));
    nin_trainer_destroy(trainer);
    nin_trainer_destroy(NULL);
}
END_TEST

START_TEST(an_epoch_counts_its_flat_images)
{
    nin_trainer *trainer = make_trainer(NULL, NIN_DESC(nin_trainer_desc, .no_shuffle = 1));
    const float zeros[4 * PIXELS] = {0};
    nin_result step = {.struct_size = sizeof step}, epoch = {.struct_size = sizeof epoch};

    /* All scores are 0 until the first update, which moves the biases of the classes. */
    ASSERT_OK(nin_layer_write(nin_network_find(network, "class"), NIN_WEIGHT, zeros, 4 * CLASSES));
    ASSERT_OK(nin_trainer_step(&step, trainer));
    ck_assert_int_eq(step.flat, BATCH);
    ASSERT_OK(nin_trainer_epoch(&epoch, trainer));
    ck_assert_int_eq(curve(trainer, 0).health, NIN_HEALTHY); /* not all were */
    ck_assert_int_eq(epoch.flat, BATCH);
    nin_trainer_destroy(trainer);
}
END_TEST

/* ---- schedulers ---------------------------------------------------------------------------- */

START_TEST(a_scheduler_per_step_advances_with_every_step)
{
    const int64_t milestones[] = {2, BATCHES};
    nin_scheduler *scheduler = NULL;
    nin_trainer *trainer;

    ASSERT_OK(
        nin_scheduler_create_steps(&scheduler, optimizer,
                                   NIN_DESC(nin_steps_desc, .unit = NIN_PER_STEP,
                                            .milestones = milestones, .count = 2, .factor = 0.5)));
    trainer = make_trainer(scheduler, NULL);
    for (int step = 1; step <= 2 * BATCHES; step++) {
        ASSERT_OK(nin_trainer_step(NULL, trainer));
        ck_assert(nin_optimizer_rate(optimizer) == (step < 2 ? 0.1 : step < 3 ? 0.05 : 0.025));
    }
    ck_assert(curve(trainer, 0).rate == 0.05); /* of the epoch's last step, not of the next */
    ck_assert(curve(trainer, 1).rate == 0.025);
    nin_trainer_destroy(trainer);
    nin_scheduler_destroy(scheduler);
}
END_TEST

START_TEST(a_scheduler_per_epoch_advances_when_the_epoch_closes)
{
    const int64_t milestones[] = {1};
    nin_scheduler *scheduler = NULL;
    nin_trainer *trainer;

    ASSERT_OK(nin_scheduler_create_steps(
        &scheduler, optimizer,
        NIN_DESC(nin_steps_desc, .milestones = milestones, .count = 1, .factor = 0.5)));
    trainer = make_trainer(scheduler, NULL);
    for (int step = 1; step <= BATCHES; step++) {
        ck_assert(nin_optimizer_rate(optimizer) == 0.1);
        ASSERT_OK(nin_trainer_step(NULL, trainer));
    }
    ck_assert(nin_optimizer_rate(optimizer) == 0.05);
    ck_assert(curve(trainer, 0).rate == 0.1);
    nin_trainer_destroy(trainer);
    nin_scheduler_destroy(scheduler);
}
END_TEST

/* The plateau sees the epoch's metric: it reduces where a copy that is fed from the curve does. */
START_TEST(the_plateau_scheduler_sees_the_metric_of_the_curve)
{
    const nin_plateau_desc desc = {
        .struct_size = sizeof desc, .factor = 0.5, .patience = 1, .threshold = 0.05};
    nin_optimizer *copy = NULL;
    nin_scheduler *scheduler = NULL, *fed = NULL;
    nin_trainer *trainer;

    ASSERT_OK(nin_optimizer_create_sgd(&copy, network, NIN_DESC(nin_sgd_desc, .rate = 0.1)));
    ASSERT_OK(nin_scheduler_create_plateau(&scheduler, optimizer, &desc));
    ASSERT_OK(nin_scheduler_create_plateau(&fed, copy, &desc));
    trainer = make_trainer(scheduler, NULL);
    for (int i = 0; i < 20; i++) {
        epochs(trainer, 1);
        nin_scheduler_advance(fed, curve(trainer, i).metric);
        ck_assert(nin_optimizer_rate(optimizer) == nin_optimizer_rate(copy));
    }
    ck_assert(nin_optimizer_rate(copy) < 0.1);
    nin_trainer_destroy(trainer);
    nin_scheduler_destroy(scheduler);
    nin_scheduler_destroy(fed);
    nin_optimizer_destroy(copy);
}
END_TEST

/* ---- fit ----------------------------------------------------------------------------------- */

START_TEST(fit_trains_until_an_epoch_of_the_curve)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);
    nin_fit_end end = NIN_FIT_STOPPED;

    ASSERT_OK(nin_trainer_fit(&end, trainer, NIN_DESC(nin_fit_desc, .epochs = 2)));
    ck_assert_int_eq(end, NIN_FIT_EPOCHS);
    assert_place(trainer, 2, 2 * BATCHES, 0);
    ASSERT_OK(nin_trainer_fit(&end, trainer, NIN_DESC(nin_fit_desc, .epochs = 2)));
    ck_assert_int_eq(end, NIN_FIT_EPOCHS);
    assert_place(trainer, 2, 2 * BATCHES, 0);
    ASSERT_OK(nin_trainer_fit(NULL, trainer, NIN_DESC(nin_fit_desc, .epochs = 3)));
    assert_place(trainer, 3, 3 * BATCHES, 0);
    nin_trainer_destroy(trainer);
}
END_TEST

START_TEST(fit_looks_at_the_rate_between_epochs)
{
    const int64_t milestones[] = {1, BATCHES + 1};
    nin_scheduler *scheduler = NULL;
    nin_fit_end end = NIN_FIT_STOPPED;
    nin_trainer *trainer;

    ASSERT_OK(nin_scheduler_create_steps(
        &scheduler, optimizer,
        NIN_DESC(nin_steps_desc, .unit = NIN_PER_STEP, .milestones = milestones, .count = 2)));
    trainer = make_trainer(scheduler, NULL);
    ASSERT_OK(
        nin_trainer_fit(&end, trainer, NIN_DESC(nin_fit_desc, .epochs = 9, .stop_rate = 0.0011)));
    ck_assert_int_eq(end, NIN_FIT_RATE);
    assert_place(trainer, 2, 2 * BATCHES, 0); /* not in the middle of epoch 2 */
    ASSERT_OK(nin_trainer_fit(&end, trainer, NIN_DESC(nin_fit_desc, .stop_rate = 0.0011)));
    assert_place(trainer, 2, 2 * BATCHES, 0);
    nin_trainer_destroy(trainer);
    nin_scheduler_destroy(scheduler);
}
END_TEST

/* An epoch that was interrupted is finished, also when the rate has come down in it meanwhile. */
START_TEST(fit_finishes_an_interrupted_epoch_before_it_looks_at_the_rate)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);
    nin_fit_end end = NIN_FIT_STOPPED;

    ASSERT_OK(nin_trainer_step(NULL, trainer));
    ASSERT_OK(nin_trainer_fit(&end, trainer, NIN_DESC(nin_fit_desc, .stop_rate = 1.0)));
    ck_assert_int_eq(end, NIN_FIT_RATE);
    assert_place(trainer, 1, BATCHES, 0);
    nin_trainer_destroy(trainer);
}
END_TEST

/* The rate must be above stop_rate: equal is enough to stop. */
START_TEST(fit_trains_nothing_at_the_stop_rate)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);
    nin_fit_end end = NIN_FIT_STOPPED;

    ASSERT_OK(nin_trainer_fit(&end, trainer, NIN_DESC(nin_fit_desc, .stop_rate = 0.1)));
    ck_assert_int_eq(end, NIN_FIT_RATE);
    assert_place(trainer, 0, 0, 0);
    nin_trainer_destroy(trainer);
}
END_TEST

static const struct {
    nin_fit_desc desc;
    const char *words;
} wrong_fits[] = {
    {{.stall_epochs = 3}, "would never end"},
    {{.epochs = -1}, "epochs -1"},
    {{.epochs = 1, .stall_epochs = -1}, "stall_epochs -1"},
    {{.epochs = 1, .stop_rate = -1.0}, "stop_rate -1"},
    {{.epochs = 1, .stop_rate = NAN}, "stop_rate"},
    {{.epochs = 1, .step_interval = -1}, "step_interval -1 is negative"},
};

enum {
    WRONG_FITS = sizeof wrong_fits / sizeof wrong_fits[0]
};

START_TEST(a_wrong_fit_trains_nothing)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);
    nin_fit_desc desc = wrong_fits[_i].desc;
    nin_fit_end end = NIN_FIT_STOPPED;

    desc.struct_size = sizeof desc;
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, wrong_fits[_i].words, nin_trainer_fit(&end, trainer, &desc));
    assert_place(trainer, 0, 0, 0);
    nin_trainer_destroy(trainer);
}
END_TEST

/* ---- callbacks ----------------------------------------------------------------------------- */

/* What the callbacks of a fit have been given, and when they shall say something. */
struct diary {
    nin_step_info steps[64];
    nin_epoch_info epochs[16];
    int step_count, epoch_count;
    int step_at, epoch_at; /* this call, from 1, gives status back; 0: none */
    nin_status status;
};

static nin_status note_step(const nin_step_info *info, void *user)
{
    struct diary *diary = user;

    ck_assert_uint_eq(info->struct_size, sizeof *info);
    diary->steps[diary->step_count++] = *info;
    return diary->step_count == diary->step_at ? diary->status : NIN_OK;
}

static nin_status note_epoch(const nin_epoch_info *info, void *user)
{
    struct diary *diary = user;

    ck_assert_uint_eq(info->struct_size, sizeof *info);
    diary->epochs[diary->epoch_count++] = *info;
    return diary->epoch_count == diary->epoch_at ? diary->status : NIN_OK;
}

static nin_status fit(nin_fit_end *end, nin_trainer *trainer, struct diary *diary)
{
    return nin_trainer_fit(end, trainer,
                           NIN_DESC(nin_fit_desc, .epochs = 3, .on_step = note_step,
                                    .on_epoch = note_epoch, .user = diary));
}

START_TEST(callbacks_see_every_step_and_every_epoch)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);
    struct diary diary = {.status = NIN_OK};

    ASSERT_OK(fit(NULL, trainer, &diary));
    ck_assert_int_eq(diary.step_count, 3 * BATCHES);
    ck_assert_int_eq(diary.epoch_count, 3);
    for (int i = 0; i < 3 * BATCHES; i++) {
        const nin_step_info *info = &diary.steps[i];

        ck_assert_int_eq(info->epoch, i / BATCHES + 1);
        ck_assert_int_eq(info->batch, i % BATCHES + 1);
        ck_assert_int_eq(info->batches, BATCHES);
        ck_assert_int_eq(info->images, i % BATCHES == 2 ? COUNT : BATCH * (i % BATCHES + 1));
        ck_assert_int_eq(info->step, i + 1);
        ck_assert(info->rate == 0.1);
        ck_assert(info->loss > 0.0 && info->accuracy >= 0.0 && info->accuracy <= 1.0);
    }
    for (int i = 0; i < 3; i++) {
        const nin_epoch_info info = curve(trainer, i);
        const nin_step_info *last = &diary.steps[BATCHES * i + 2];

        ck_assert_mem_eq(&diary.epochs[i], &info, sizeof info);
        ck_assert(last->mean_loss == info.loss);
        ck_assert(last->mean_accuracy == (double)info.correct / COUNT);
    }
    nin_trainer_destroy(trainer);
}
END_TEST

START_TEST(the_means_of_a_step_are_those_of_the_epoch_so_far)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);
    struct diary diary = {.status = NIN_OK};
    const nin_step_info *s = diary.steps;

    ASSERT_OK(fit(NULL, trainer, &diary));
    ck_assert(s[0].mean_loss == s[0].loss && s[0].mean_accuracy == s[0].accuracy);
    ck_assert_double_eq_tol(s[1].mean_loss, (s[0].loss + s[1].loss) / 2.0, 1e-12);
    ck_assert_double_eq_tol(s[1].mean_accuracy, (s[0].accuracy + s[1].accuracy) / 2.0, 1e-12);
    ck_assert(s[3].mean_loss == s[3].loss);
    nin_trainer_destroy(trainer);
}
END_TEST

/* Of three batches, the last always. */
START_TEST(a_callback_may_pass_over_steps)
{
    static const struct {
        int64_t interval;
        int calls, batches[3];
    } cases[] = {{0, 3, {1, 2, 3}}, {1, 3, {1, 2, 3}}, {2, 2, {2, 3}}, {3, 1, {3}}, {99, 1, {3}}};
    const int calls = cases[_i].calls;
    nin_trainer *trainer = make_trainer(NULL, NULL);
    struct diary diary = {.status = NIN_OK}, all = {.status = NIN_OK};

    ASSERT_OK(nin_trainer_fit(NULL, trainer,
                              NIN_DESC(nin_fit_desc, .epochs = 2, .on_step = note_step,
                                       .on_epoch = note_epoch, .user = &diary,
                                       .step_interval = cases[_i].interval)));
    nin_trainer_destroy(trainer);
    teardown();
    setup();
    trainer = make_trainer(NULL, NULL);
    ASSERT_OK(fit(NULL, trainer, &all));
    ck_assert_int_eq(diary.step_count, 2 * calls);
    ck_assert_int_eq(diary.epoch_count, 2);
    for (int i = 0; i < 2 * calls; i++) {
        const int batch = cases[_i].batches[i % calls];

        ck_assert_mem_eq(&diary.steps[i], &all.steps[i / calls * BATCHES + batch - 1],
                         sizeof diary.steps[i]);
    }
    nin_trainer_destroy(trainer);
}
END_TEST

/* Stops after each step in turn; what is then left to do leads to the same bits. */
START_TEST(a_step_callback_stops_in_good_order)
{
    struct diary diary = {.step_at = _i, .status = NIN_STOP};
    float expected[PARAMETERS], got[PARAMETERS];
    nin_fit_end end = NIN_FIT_RATE;
    nin_trainer *trainer;

    train_without_interruption(expected);
    trainer = make_trainer(NULL, NULL);
    ASSERT_OK(fit(&end, trainer, &diary));
    ck_assert_int_eq(end, NIN_FIT_STOPPED);
    assert_place(trainer, _i / BATCHES, _i, _i % BATCHES);
    ck_assert_int_eq(diary.epoch_count, _i / BATCHES);
    ASSERT_OK(fit(&end, trainer, &diary));
    ck_assert_int_eq(end, NIN_FIT_EPOCHS);
    ck_assert_int_eq(diary.step_count, 3 * BATCHES);
    ck_assert_int_eq(diary.epoch_count, 3);
    read_parameters(got);
    ck_assert_mem_eq(got, expected, sizeof got);
    nin_trainer_destroy(trainer);
}
END_TEST

START_TEST(an_epoch_callback_stops_in_good_order)
{
    struct diary diary = {.epoch_at = 2, .status = NIN_STOP};
    nin_trainer *trainer = make_trainer(NULL, NULL);
    nin_fit_end end = NIN_FIT_RATE;

    ASSERT_OK(fit(&end, trainer, &diary));
    ck_assert_int_eq(end, NIN_FIT_STOPPED);
    assert_place(trainer, 2, 2 * BATCHES, 0);
    ASSERT_OK(fit(&end, trainer, &diary));
    ck_assert_int_eq(end, NIN_FIT_EPOCHS);
    ck_assert_int_eq(diary.epoch_count, 3);
    nin_trainer_destroy(trainer);
}
END_TEST

START_TEST(any_other_status_of_a_callback_comes_back_unchanged)
{
    static const int statuses[] = {NIN_IO, NIN_INVALID_ARGUMENT, 4711};
    struct diary at_step = {.step_at = 4, .status = (nin_status)statuses[_i]};
    struct diary at_epoch = {.epoch_at = 1, .status = (nin_status)statuses[_i]};
    nin_trainer *trainer = make_trainer(NULL, NULL);

    ck_assert_int_eq((int)fit(NULL, trainer, &at_step), statuses[_i]);
    assert_place(trainer, 1, 4, 1);
    ck_assert_int_eq((int)fit(NULL, trainer, &at_epoch), statuses[_i]);
    assert_place(trainer, 2, 2 * BATCHES, 0);
    nin_trainer_destroy(trainer);
}
END_TEST

/* It has no sentence of ours, but neither has it the one of an older failure. */
START_TEST(a_callbacks_status_does_not_bring_an_older_sentence_back)
{
    struct diary diary = {.step_at = 1, .status = NIN_IO};
    nin_trainer *trainer = make_trainer(NULL, NULL);

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "rate -1", nin_optimizer_set_rate(optimizer, -1.0));
    ck_assert_int_eq(fit(NULL, trainer, &diary), NIN_IO);
    ck_assert_ptr_null(strstr(nin_last_error(), "rate -1"));
    nin_trainer_destroy(trainer);
}
END_TEST

/* ---- evaluation ---------------------------------------------------------------------------- */

static nin_plan *test_plan(void)
{
    nin_plan *made = NULL;

    ASSERT_OK(nin_plan_create(&made, network, NIN_DESC(nin_plan_desc, .max_batch = BATCH)));
    return made;
}

START_TEST(fit_evaluates_after_each_epoch)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);
    nin_dataset *test_set = make_dataset(7, 3);
    nin_plan *infer = test_plan();
    nin_result result = {.struct_size = sizeof result};
    struct diary diary = {.status = NIN_OK};

    for (int i = 1; i <= 2; i++) {
        ASSERT_OK(nin_trainer_fit(NULL, trainer,
                                  NIN_DESC(nin_fit_desc, .epochs = i, .test_plan = infer,
                                           .test_set = test_set, .on_epoch = note_epoch,
                                           .user = &diary)));
        ASSERT_OK(nin_evaluate(&result, infer, test_set));
        ck_assert_int_eq(curve(trainer, i - 1).test_count, 7);
        ck_assert_int_eq(curve(trainer, i - 1).test_correct, result.correct);
        ck_assert(curve(trainer, i - 1).test_loss == result.loss);
        ck_assert(diary.epochs[i - 1].test_loss == result.loss);
    }
    nin_plan_destroy(infer);
    nin_dataset_destroy(test_set);
    nin_trainer_destroy(trainer);
}
END_TEST

/* The last on_step of the first epoch fails. */
static void fit_until_a_failure(nin_trainer *trainer, const nin_fit_desc *desc)
{
    nin_fit_desc failing = *desc;
    struct diary diary = {.step_at = BATCHES, .status = NIN_IO};

    failing.on_step = note_step;
    failing.user = &diary;
    ck_assert_int_eq(nin_trainer_fit(NULL, trainer, &failing), NIN_IO);
    assert_place(trainer, 1, BATCHES, 0);
    ck_assert_int_eq(curve(trainer, 0).test_count, 0);
}

START_TEST(an_evaluation_that_is_due_comes_first)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);
    nin_plan *infer = test_plan();
    struct diary diary = {.status = NIN_OK};
    nin_fit_desc desc = {.struct_size = sizeof desc,
                         .epochs = 1,
                         .test_plan = infer,
                         .test_set = dataset,
                         .on_epoch = note_epoch,
                         .user = &diary};
    nin_result result = {.struct_size = sizeof result};

    fit_until_a_failure(trainer, &desc);
    ASSERT_OK(nin_evaluate(&result, infer, dataset));
    ASSERT_OK(nin_trainer_fit(NULL, trainer, &desc));
    assert_place(trainer, 1, BATCHES, 0);
    ck_assert_int_eq(diary.epoch_count, 1);
    ck_assert_int_eq(curve(trainer, 0).test_count, COUNT);
    ck_assert(curve(trainer, 0).test_loss == result.loss);
    ASSERT_OK(nin_trainer_fit(NULL, trainer, &desc));
    ck_assert_int_eq(diary.epoch_count, 1); /* it is due once */
    nin_plan_destroy(infer);
    nin_trainer_destroy(trainer);
}
END_TEST

START_TEST(an_evaluation_of_parameters_that_are_gone_is_not_made_up_for)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);
    nin_plan *infer = test_plan();
    const nin_fit_desc desc = {
        .struct_size = sizeof desc, .epochs = 2, .test_plan = infer, .test_set = dataset};

    fit_until_a_failure(trainer, &desc);
    ASSERT_OK(nin_trainer_step(NULL, trainer));
    ASSERT_OK(nin_trainer_fit(NULL, trainer, &desc));
    ck_assert_int_eq(curve(trainer, 0).test_count, 0);
    ck_assert_int_eq(curve(trainer, 1).test_count, COUNT);
    nin_plan_destroy(infer);
    nin_trainer_destroy(trainer);
}
END_TEST

START_TEST(an_evaluation_runs_over_the_whole_set)
{
    nin_plan *infer = test_plan();
    nin_result whole = {.struct_size = sizeof whole};
    double loss = 0.0;
    int64_t correct = 0;

    ASSERT_OK(nin_evaluate(&whole, infer, dataset));
    for (int64_t i = 0; i < COUNT; i++) {
        const int32_t label = (int32_t)(i % CLASSES);
        nin_result one = {.struct_size = sizeof one};
        float image[PIXELS];

        ck_assert_int_eq(notes.seen[i], i);
        for (int64_t k = 0; k < PIXELS; k++)
            image[k] = pixel(i, k);
        ASSERT_OK(nin_plan_evaluate(&one, infer,
                                    NIN_DESC(nin_batch_desc, .images = image, .count = 1), &label));
        loss += one.loss / COUNT;
        correct += one.correct;
    }
    ck_assert_double_eq_tol(whole.loss, loss, 1e-6);
    ck_assert_int_eq(whole.correct, correct);
    ck_assert_int_eq(whole.count, COUNT);
    nin_plan_destroy(infer);
}
END_TEST

START_TEST(a_test_plan_must_fit_the_trainer)
{
    nin_network *other = make_network(0.0, false);
    nin_dataset *wide = make_dataset(7, 4);
    nin_trainer *trainer = make_trainer(NULL, NULL);
    nin_plan *infer = test_plan(), *others = NULL;

    ASSERT_OK(nin_plan_create(&others, other, NULL));
    ASSERT_FAILS(
        NIN_INVALID_ARGUMENT, "test_plan and test_set go together",
        nin_trainer_fit(NULL, trainer, NIN_DESC(nin_fit_desc, .epochs = 1, .test_plan = infer)));
    ASSERT_FAILS(
        NIN_INVALID_ARGUMENT, "test_plan and test_set go together",
        nin_trainer_fit(NULL, trainer, NIN_DESC(nin_fit_desc, .epochs = 1, .test_set = dataset)));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "inference plan of the trainer's network",
                 nin_trainer_fit(
                     NULL, trainer,
                     NIN_DESC(nin_fit_desc, .epochs = 1, .test_plan = plan, .test_set = dataset)));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "inference plan of the trainer's network",
                 nin_trainer_fit(NULL, trainer,
                                 NIN_DESC(nin_fit_desc, .epochs = 1, .test_plan = others,
                                          .test_set = dataset)));
    ASSERT_FAILS(
        NIN_INVALID_ARGUMENT, "images of 1x2x4, the plan takes 1x2x3",
        nin_trainer_fit(NULL, trainer,
                        NIN_DESC(nin_fit_desc, .epochs = 1, .test_plan = infer, .test_set = wide)));
    assert_place(trainer, 0, 0, 0);
    nin_trainer_destroy(trainer);
    nin_plan_destroy(infer);
    nin_plan_destroy(others);
    nin_dataset_destroy(wide);
    nin_network_destroy(other);
}
END_TEST

/* ---- health -------------------------------------------------------------------------------- */

/* Weights so small, and a rate so small, that the loss stays at ln 3. */
static void stay_at_chance(void)
{
    const nin_init_desc init = {
        .struct_size = sizeof init, .weights = NIN_INIT_NORMAL, .weight_scale = 1e-3};

    ASSERT_OK(nin_network_initialise(network, &init, 1));
    ASSERT_OK(nin_optimizer_set_rate(optimizer, 1e-9));
}

START_TEST(a_loss_that_stays_at_chance_is_stalled)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);

    stay_at_chance();
    ASSERT_OK(
        nin_trainer_fit(NULL, trainer, NIN_DESC(nin_fit_desc, .epochs = 4, .stall_epochs = 3)));
    ck_assert_double_eq_tol(curve(trainer, 0).loss, log(CLASSES), 0.02);
    ck_assert_int_eq(curve(trainer, 1).health, NIN_HEALTHY);
    ck_assert_int_eq(curve(trainer, 2).health, NIN_STALLED);
    ck_assert_int_eq(curve(trainer, 3).health, NIN_STALLED);
    nin_trainer_destroy(trainer);
}
END_TEST

START_TEST(by_default_the_tenth_epoch_at_chance_is_stalled)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);

    stay_at_chance();
    ASSERT_OK(nin_trainer_fit(NULL, trainer, NIN_DESC(nin_fit_desc, .epochs = 10)));
    ck_assert_int_eq(curve(trainer, 8).health, NIN_HEALTHY);
    ck_assert_int_eq(curve(trainer, 9).health, NIN_STALLED);
    nin_trainer_destroy(trainer);
}
END_TEST

START_TEST(the_stall_epochs_of_one_fit_are_not_those_of_the_next)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);

    stay_at_chance();
    ASSERT_OK(
        nin_trainer_fit(NULL, trainer, NIN_DESC(nin_fit_desc, .epochs = 2, .stall_epochs = 2)));
    ck_assert_int_eq(curve(trainer, 1).health, NIN_STALLED);
    ASSERT_OK(nin_trainer_fit(NULL, trainer, NIN_DESC(nin_fit_desc, .epochs = 3)));
    ck_assert_int_eq(curve(trainer, 2).health, NIN_HEALTHY); /* 0 means 10 */
    nin_trainer_destroy(trainer);
}
END_TEST

START_TEST(a_loss_that_stays_elsewhere_is_not_stalled)
{
    const float biases[CLASSES] = {1.0f, 0.0f, 0.0f}; /* a loss 0.05 above ln 3 */
    nin_trainer *trainer = make_trainer(NULL, NULL);

    stay_at_chance();
    ASSERT_OK(nin_layer_write(nin_network_find(network, "class"), NIN_BIAS, biases, CLASSES));
    ASSERT_OK(
        nin_trainer_fit(NULL, trainer, NIN_DESC(nin_fit_desc, .epochs = 2, .stall_epochs = 1)));
    ck_assert_double_eq_tol(curve(trainer, 1).loss, log(CLASSES) + 0.053, 0.01);
    ck_assert_int_eq(curve(trainer, 1).health, NIN_HEALTHY);
    nin_trainer_destroy(trainer);
}
END_TEST

START_TEST(scores_that_are_all_equal_are_dead_maps)
{
    const float below_zero[CLASSES] = {-1e6f, -1e6f, -1e6f};
    nin_network *dead = make_network(0.0, true);
    nin_optimizer *sgd = NULL;
    nin_trainer *trainer = NULL;
    nin_plan *train = NULL;
    nin_result result = {.struct_size = sizeof result};

    ASSERT_OK(nin_layer_write(nin_network_find(dead, "class"), NIN_BIAS, below_zero, CLASSES));
    ASSERT_OK(nin_plan_create(&train, dead, NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN)));
    ASSERT_OK(nin_optimizer_create_sgd(&sgd, dead, NULL));
    ASSERT_OK(nin_trainer_create(&trainer, train, sgd, NULL, dataset, NULL));
    ASSERT_OK(nin_trainer_epoch(&result, trainer));
    ck_assert_int_eq(curve(trainer, 0).health, NIN_DEAD_MAPS);
    ck_assert_int_eq(result.flat, COUNT);
    nin_trainer_destroy(trainer);
    nin_optimizer_destroy(sgd);
    nin_plan_destroy(train);
    nin_network_destroy(dead);
}
END_TEST

/* ---- failures ------------------------------------------------------------------------------ */

/* Call _i of the data set fails once; the step is made again, and all bits are as without it. */
START_TEST(a_data_set_that_fails_leaves_the_trainer_where_it_was)
{
    float expected[PARAMETERS], got[PARAMETERS];
    nin_trainer *trainer;
    int failures = 0;

    train_without_interruption(expected);
    notes.fail_at = 5 * _i;
    notes.status = _i % 2 == 0 ? NIN_IO : (nin_status)4711;
    trainer = make_trainer(NULL, NULL);
    while (nin_trainer_epochs(trainer) < 3) {
        int64_t steps = nin_trainer_steps(trainer), batch = nin_trainer_batch(trainer);
        int64_t closed = nin_trainer_epochs(trainer);
        nin_status status = nin_trainer_step(NULL, trainer);

        if (status == NIN_OK)
            continue;
        ck_assert_int_eq((int)status, (int)notes.status);
        assert_place(trainer, closed, steps, batch);
        failures++;
    }
    ck_assert_int_eq(failures, 1);
    read_parameters(got);
    ck_assert_mem_eq(got, expected, sizeof got);
    nin_trainer_destroy(trainer);
}
END_TEST

START_TEST(an_epoch_or_a_fit_fails_at_the_step_that_failed)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);

    notes.fail_at = BATCH; /* the first image of the second batch */
    notes.status = NIN_IO;
    ASSERT_FAILS(NIN_IO, "image ", nin_trainer_epoch(NULL, trainer));
    assert_place(trainer, 0, 1, 1);
    notes.fail_at = notes.count + BATCH;
    ASSERT_FAILS(NIN_IO, "image ",
                 nin_trainer_fit(NULL, trainer, NIN_DESC(nin_fit_desc, .epochs = 2)));
    assert_place(trainer, 0, 2, 2);
    ASSERT_OK(nin_trainer_fit(NULL, trainer, NIN_DESC(nin_fit_desc, .epochs = 2)));
    assert_place(trainer, 2, 2 * BATCHES, 0);
    nin_trainer_destroy(trainer);
}
END_TEST

START_TEST(a_label_that_the_network_does_not_know_fails_the_step)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);
    nin_plan *infer = test_plan();
    nin_result result = {.struct_size = sizeof result};

    notes.label = CLASSES;
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "label 3", nin_trainer_step(NULL, trainer));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "label 3", nin_evaluate(&result, infer, dataset));
    assert_place(trainer, 0, 0, 0);
    nin_plan_destroy(infer);
    nin_trainer_destroy(trainer);
}
END_TEST

START_TEST(a_loss_that_is_not_finite_fails_the_step_and_changes_nothing)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);
    float before[PARAMETERS], after[PARAMETERS];

    epochs(trainer, 1);
    read_parameters(before);
    notes.pixel = NAN;
    ASSERT_FAILS(NIN_NOT_FINITE, "step 3", nin_trainer_step(NULL, trainer));
    assert_place(trainer, 1, BATCHES, 0);
    read_parameters(after);
    ck_assert_mem_eq(before, after, sizeof before);
    nin_trainer_destroy(trainer);
}
END_TEST

/* ---- what does not fit together ------------------------------------------------------------ */

static const nin_trainer_desc wrong_descs[] = {
    {.batch = BATCH + 1}, {.batch = -1}, {.seed = 7}, /* without own_seed */
};

START_TEST(a_wrong_descriptor_makes_no_trainer)
{
    static const char *const words[] = {"batch 5, the plan takes 1 to 4",
                                        "batch -1, the plan takes 1 to 4",
                                        "seed 7 without own_seed"};
    nin_trainer_desc desc = wrong_descs[_i];
    nin_trainer *trainer = NULL;

    desc.struct_size = sizeof desc;
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, words[_i],
                 nin_trainer_create(&trainer, plan, optimizer, NULL, dataset, &desc));
    ck_assert_ptr_null(trainer);
}
END_TEST

START_TEST(plan_optimizer_and_scheduler_must_belong_together)
{
    nin_network *other = make_network(0.0, false);
    nin_optimizer *others = NULL;
    nin_scheduler *scheduler = NULL;
    nin_trainer *trainer = NULL;
    nin_plan *infer = test_plan();

    ASSERT_OK(nin_optimizer_create_sgd(&others, other, NULL));
    ASSERT_OK(nin_scheduler_create_plateau(&scheduler, others, NULL));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "needs a training plan",
                 nin_trainer_create(&trainer, infer, optimizer, NULL, dataset, NULL));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "plan and optimizer are of two networks",
                 nin_trainer_create(&trainer, plan, others, NULL, dataset, NULL));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "the scheduler is of another optimizer",
                 nin_trainer_create(&trainer, plan, optimizer, scheduler, dataset, NULL));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "NULL",
                 nin_trainer_create(&trainer, plan, optimizer, NULL, NULL, NULL));
    ck_assert_ptr_null(trainer);
    nin_plan_destroy(infer);
    nin_scheduler_destroy(scheduler);
    nin_optimizer_destroy(others);
    nin_network_destroy(other);
}
END_TEST

START_TEST(images_and_classes_must_fit_the_plan)
{
    static const float images[2 * PIXELS];
    static const int32_t labels[2] = {0, CLASSES};
    nin_dataset *wide = make_dataset(COUNT, 4), *many = NULL;
    nin_trainer *trainer = NULL;
    nin_plan *infer = test_plan();
    nin_result result = {.struct_size = sizeof result};

    ASSERT_OK(nin_dataset_create_arrays(&many, NIN_DESC(nin_arrays_desc, .images = images,
                                                        .labels = labels, .count = 2, .channels = 1,
                                                        .height = 2, .width = 3)));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "images of 1x2x4, the plan takes 1x2x3",
                 nin_trainer_create(&trainer, plan, optimizer, NULL, wide, NULL));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "labels up to 3, the network 3 classes",
                 nin_trainer_create(&trainer, plan, optimizer, NULL, many, NULL));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "images of 1x2x4", nin_evaluate(&result, infer, wide));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "labels up to 3", nin_evaluate(&result, infer, many));
    ck_assert_ptr_null(trainer);
    nin_plan_destroy(infer);
    nin_dataset_destroy(wide);
    nin_dataset_destroy(many);
}
END_TEST

START_TEST(a_network_without_loss_is_neither_trained_nor_evaluated)
{
    nin_builder *builder = NULL;
    nin_network *plain = NULL;
    nin_optimizer *sgd = NULL;
    nin_trainer *trainer = NULL;
    nin_plan *train = NULL, *infer = NULL;
    nin_result result = {.struct_size = sizeof result};

    ASSERT_OK(nin_builder_create(&builder, context,
                                 NIN_DESC(nin_input_desc, .channels = 1, .height = 2, .width = 3)));
    nin_builder_dense(builder, "class", NIN_DESC(nin_dense_desc, .units = CLASSES));
    ASSERT_OK(nin_builder_finish(&plain, builder));
    nin_builder_destroy(builder);
    ASSERT_OK(nin_plan_create(&train, plain, NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN)));
    ASSERT_OK(nin_optimizer_create_sgd(&sgd, plain, NULL));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "no softmax loss",
                 nin_trainer_create(&trainer, train, sgd, NULL, dataset, NULL));
    ASSERT_OK(nin_plan_create(&infer, plain, NULL));
    ASSERT_FAILS(NIN_INVALID_STATE, "no softmax loss", nin_evaluate(&result, infer, dataset));
    ASSERT_FAILS(NIN_INVALID_STATE, "training plan", nin_evaluate(&result, plan, dataset));
    nin_plan_destroy(infer);
    nin_optimizer_destroy(sgd);
    nin_plan_destroy(train);
    nin_network_destroy(plain);
}
END_TEST

/* ---- one call at a time -------------------------------------------------------------------- */

/* A trainer that is called while it is at work. */
static nin_trainer *meddled;

static void call_all(void)
{
    static const nin_fit_desc one = {.struct_size = sizeof one, .epochs = 1};
    nin_fit_end end = NIN_FIT_RATE;

    ASSERT_FAILS(NIN_BUSY, "the trainer", nin_trainer_step(NULL, meddled));
    ASSERT_FAILS(NIN_BUSY, "the trainer", nin_trainer_epoch(NULL, meddled));
    ASSERT_FAILS(NIN_BUSY, "the trainer", nin_trainer_fit(&end, meddled, &one));
    ASSERT_FAILS(NIN_BUSY, "the trainer", nin_trainer_save(meddled, "/no such folder/run"));
    ASSERT_FAILS(NIN_BUSY, "the trainer",
                 nin_trainer_restore(meddled, "/no such folder/run", NULL));
    ck_assert_int_eq(end, NIN_FIT_RATE);
}

static void *call_in_thread(void *unused)
{
    call_all();
    return unused;
}

static void call_elsewhere(void)
{
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, call_in_thread, NULL), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

/* From the data set's callback, in a step, an epoch, a fit and its evaluation; then from another
 * thread. */
START_TEST(a_trainer_at_work_is_busy)
{
    float expected[PARAMETERS], got[PARAMETERS];
    nin_plan *test = NULL;

    train_without_interruption(expected);
    ASSERT_OK(nin_plan_create(&test, network,
                              NIN_DESC(nin_plan_desc, .mode = NIN_INFER, .max_batch = 4)));
    meddled = make_trainer(NULL, NULL);
    notes.meddle = _i == 0 ? call_all : call_elsewhere;
    ASSERT_OK(nin_trainer_step(NULL, meddled));
    ASSERT_OK(nin_trainer_epoch(NULL, meddled));
    ASSERT_OK(nin_trainer_fit(
        NULL, meddled,
        NIN_DESC(nin_fit_desc, .epochs = 3, .test_plan = test, .test_set = dataset)));
    assert_place(meddled, 3, 3 * BATCHES, 0);
    ck_assert_int_eq(notes.count, 5 * COUNT); /* three times trained with, twice tested */
    read_parameters(got);
    ck_assert_mem_eq(got, expected, sizeof got);
    nin_trainer_destroy(meddled);
    nin_plan_destroy(test);
}
END_TEST

/* A step more after the first one; an epoch more after the first one. */
static nin_status step_once(const nin_step_info *info, void *user)
{
    return info->step == 1 ? nin_trainer_step(NULL, user) : NIN_OK;
}

static nin_status fit_once(const nin_epoch_info *info, void *user)
{
    if (info->epoch > 1)
        return NIN_OK;
    return nin_trainer_fit(NULL, user, NIN_DESC(nin_fit_desc, .epochs = 2, .stall_epochs = 1));
}

START_TEST(the_callbacks_of_a_fit_may_call_the_trainer)
{
    float expected[PARAMETERS], got[PARAMETERS];
    nin_trainer *trainer;

    train_without_interruption(expected);
    trainer = make_trainer(NULL, NULL);
    ASSERT_OK(
        nin_trainer_fit(NULL, trainer,
                        NIN_DESC(nin_fit_desc, .epochs = 3, .stall_epochs = 7, .on_step = step_once,
                                 .on_epoch = fit_once, .user = trainer)));
    assert_place(trainer, 3, 3 * BATCHES, 0);
    ck_assert_int_eq(trainer->stall_epochs, 7); /* of the outer fit, whose epoch was the last */
    read_parameters(got);
    ck_assert_mem_eq(got, expected, sizeof got);
    nin_trainer_destroy(trainer);
}
END_TEST

/* As another thread would take it, and keep it. */
static nin_status take_trainer(const nin_step_info *info, void *user)
{
    (void)info;
    return nin__trainer_enter(user);
}

START_TEST(a_fit_whose_trainer_is_taken_ends)
{
    nin_trainer *trainer = make_trainer(NULL, NULL);

    ASSERT_FAILS(NIN_BUSY, "the trainer",
                 nin_trainer_fit(NULL, trainer,
                                 NIN_DESC(nin_fit_desc, .epochs = 1, .on_step = take_trainer,
                                          .user = trainer)));
    assert_place(trainer, 0, 1, 1);
    ASSERT_FAILS(NIN_BUSY, "the trainer", nin_trainer_step(NULL, trainer)); /* it is not let go */
    nin__trainer_leave(trainer);
    epochs(trainer, 1);
    assert_place(trainer, 1, BATCHES, 0);
    nin_trainer_destroy(trainer);
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

static void add_calls(Suite *suite)
{
    TCase *calls = new_case(suite, "calls");

    tcase_add_loop_test(calls, a_trainer_at_work_is_busy, 0, 2);
    tcase_add_test(calls, the_callbacks_of_a_fit_may_call_the_trainer);
    tcase_add_test(calls, a_fit_whose_trainer_is_taken_ends);
}

static void add_epochs(Suite *suite)
{
    TCase *order = new_case(suite, "order"), *curves = new_case(suite, "curve");
    TCase *rules = new_case(suite, "rules");

    tcase_add_test(order, every_epoch_visits_all_images_once_in_a_new_order);
    tcase_add_test(order, a_trainer_tells_its_seed);
    tcase_add_test(order, the_order_follows_from_the_seed);
    tcase_add_test(order, without_shuffling_images_come_as_they_are_stored);
    tcase_add_test(order, dropout_follows_from_the_seed_too);
    tcase_add_loop_test(order, an_epoch_is_cut_into_batches_of_even_size, 0,
                        sizeof chunks / sizeof chunks[0]);
    tcase_add_test(order, a_trainer_can_take_smaller_batches_than_its_plan);
    tcase_add_test(curves, the_curve_sums_the_steps_of_an_epoch_up);
    tcase_add_test(curves, the_metric_adds_accuracies_of_single_precision);
    tcase_add_test(curves, an_epoch_gives_the_curves_numbers_from_wherever_it_starts);
    tcase_add_test(curves, the_curve_has_no_entry_of_an_open_epoch);
    tcase_add_test(curves, an_epoch_counts_its_flat_images);
    tcase_add_test(curves, a_scheduler_per_step_advances_with_every_step);
    tcase_add_test(curves, a_scheduler_per_epoch_advances_when_the_epoch_closes);
    tcase_add_test(curves, the_plateau_scheduler_sees_the_metric_of_the_curve);
    tcase_add_loop_test(rules, a_wrong_descriptor_makes_no_trainer, 0, 3);
    tcase_add_test(rules, plan_optimizer_and_scheduler_must_belong_together);
    tcase_add_test(rules, images_and_classes_must_fit_the_plan);
    tcase_add_test(rules, a_network_without_loss_is_neither_trained_nor_evaluated);
}

static void add_fits(Suite *suite)
{
    TCase *fits = new_case(suite, "fit"), *tests = new_case(suite, "evaluation");
    TCase *health = new_case(suite, "health"), *failures = new_case(suite, "failures");

    tcase_add_test(fits, fit_trains_until_an_epoch_of_the_curve);
    tcase_add_test(fits, fit_looks_at_the_rate_between_epochs);
    tcase_add_test(fits, fit_finishes_an_interrupted_epoch_before_it_looks_at_the_rate);
    tcase_add_test(fits, fit_trains_nothing_at_the_stop_rate);
    tcase_add_loop_test(fits, a_wrong_fit_trains_nothing, 0, WRONG_FITS);
    tcase_add_test(fits, callbacks_see_every_step_and_every_epoch);
    tcase_add_test(fits, the_means_of_a_step_are_those_of_the_epoch_so_far);
    tcase_add_loop_test(fits, a_callback_may_pass_over_steps, 0, 5);
    tcase_add_loop_test(fits, a_step_callback_stops_in_good_order, 1, 3 * BATCHES);
    tcase_add_test(fits, an_epoch_callback_stops_in_good_order);
    tcase_add_loop_test(fits, any_other_status_of_a_callback_comes_back_unchanged, 0, 3);
    tcase_add_test(fits, a_callbacks_status_does_not_bring_an_older_sentence_back);
    tcase_add_test(tests, fit_evaluates_after_each_epoch);
    tcase_add_test(tests, an_evaluation_that_is_due_comes_first);
    tcase_add_test(tests, an_evaluation_of_parameters_that_are_gone_is_not_made_up_for);
    tcase_add_test(tests, an_evaluation_runs_over_the_whole_set);
    tcase_add_test(tests, a_test_plan_must_fit_the_trainer);
    tcase_add_test(health, a_loss_that_stays_at_chance_is_stalled);
    tcase_add_test(health, by_default_the_tenth_epoch_at_chance_is_stalled);
    tcase_add_test(health, the_stall_epochs_of_one_fit_are_not_those_of_the_next);
    tcase_add_test(health, a_loss_that_stays_elsewhere_is_not_stalled);
    tcase_add_test(health, scores_that_are_all_equal_are_dead_maps);
    tcase_add_loop_test(failures, a_data_set_that_fails_leaves_the_trainer_where_it_was, 0, 6);
    tcase_add_test(failures, an_epoch_or_a_fit_fails_at_the_step_that_failed);
    tcase_add_test(failures, a_label_that_the_network_does_not_know_fails_the_step);
    tcase_add_test(failures, a_loss_that_is_not_finite_fails_the_step_and_changes_nothing);
}

Suite *trainer_suite(void)
{
    Suite *suite = suite_create("trainer");

    add_epochs(suite);
    add_fits(suite);
    add_calls(suite);
    return suite;
}
