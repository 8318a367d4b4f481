/* SPDX-License-Identifier: MIT */
/* Stretches: steps that a device takes by itself give what single steps give, to the bit, whether
 * all is well or not; the host hears of them on the way, and waits once. On the stand-in; the case `training` with
 * NIN_TEST_DEVICE=cuda on what the machine has. */
#include "cuda_on_cpu/stand_in.h"
#include "device.h"
#include "rig.h"
#include "sanitized.h"
#include "suites.h"
#include "test.h"

#include "core/trainer.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    SAMPLES = 50, /* of a run, unless it wants others */
    MOST = 130,
    PIXELS = 2 * 16 * 16,
    ALONE = 1 /* a wait, and no more, for a whole stretch */
};

/* ---- a run ----------------------------------------------------------------------------------- */

enum pace {
    STEADY,
    COSINE_PER_STEP,
    DROPS_PER_STEP,
    PLATEAU_PER_STEP, /* which sees each result: there are no stretches */
    PLATEAU_PER_EPOCH,
    PACES
};

struct run {
    struct rig rig;
    nin_dataset *dataset;
    nin_scheduler *scheduler;
    nin_trainer *trainer;
};

struct run_desc {
    enum pace pace;
    nin_dtype dtype;
    int32_t batch, samples;
    void *stream; /* the caller's */
    bool apart;   /* images stay the host's */
    nin_precision precision;
    bool direct;     /* NIN_ALGORITHM_DIRECT, on RIG_EIGHTS */
    int64_t stretch; /* steps at most; 0: an epoch */
};

static float pixels[MOST * PIXELS];
static uint8_t bytes[MOST * PIXELS];
static int32_t labels[MOST];

static void setup(void)
{
    for (size_t i = 0; i < MOST * PIXELS; i++) {
        pixels[i] = (float)(i * 37 % 101) / 101.0f - 0.5f;
        bytes[i] = (uint8_t)(i * 29 % 251);
    }
    for (int32_t i = 0; i < MOST; i++)
        labels[i] = i * 3 % 5;
    use_a_device_module();
}

static void setup_stand_in(void)
{
    setup();
    use_module("stand_in");
}

static void make_scheduler(struct run *run, enum pace pace)
{
    nin_optimizer *optimizer = run->rig.optimizer;

    if (pace == COSINE_PER_STEP)
        ASSERT_OK(nin_scheduler_create_cosine(
            &run->scheduler, optimizer,
            NIN_DESC(nin_cosine_desc, .unit = NIN_PER_STEP, .total = 30, .warm_up = 4)));
    if (pace == DROPS_PER_STEP)
        ASSERT_OK(nin_scheduler_create_steps(
            &run->scheduler, optimizer,
            NIN_DESC(nin_steps_desc, .unit = NIN_PER_STEP, .factor = 0.5,
                     .milestones = (const int64_t[]){2, 9, 16}, .count = 3)));
    if (pace == PLATEAU_PER_STEP || pace == PLATEAU_PER_EPOCH)
        ASSERT_OK(nin_scheduler_create_plateau(
            &run->scheduler, optimizer,
            NIN_DESC(nin_plateau_desc,
                     .unit = pace == PLATEAU_PER_STEP ? NIN_PER_STEP : NIN_PER_EPOCH, .factor = 0.5,
                     .no_patience = 1)));
}

static void make_run(struct run *run, const struct run_desc *desc)
{
    const struct rig_desc rig = {.net = desc->direct ? RIG_EIGHTS : RIG_SMALL,
                                 .mode = NIN_TRAIN,
                                 .device = NIN_DEVICE_CUDA,
                                 .cuda_stream = desc->stream,
                                 .threads = 1,
                                 .precision = desc->precision,
                                 .algorithm =
                                     desc->direct ? NIN_ALGORITHM_DIRECT : NIN_ALGORITHM_AUTO,
                                 .batch = desc->batch};

    memset(run, 0, sizeof *run);
    rig_make(&run->rig, &rig);
    make_scheduler(run, desc->pace);
    ASSERT_OK(nin_dataset_create_arrays(
        &run->dataset,
        NIN_DESC(nin_arrays_desc, .channels = 2, .height = 16, .width = 16, .dtype = desc->dtype,
                 .images = desc->dtype == NIN_U8 ? (const void *)bytes : pixels, .labels = labels,
                 .count = desc->samples > 0 ? desc->samples : SAMPLES)));
    ASSERT_OK(nin_trainer_create(&run->trainer, run->rig.plan, run->rig.optimizer, run->scheduler,
                                 run->dataset, NULL));
    run->trainer->ahead.hidden.apart = desc->apart;
    run->trainer->ahead.hidden.steps = desc->stretch;
}

static void free_run(struct run *run)
{
    nin_trainer_destroy(run->trainer);
    nin_dataset_destroy(run->dataset);
    nin_scheduler_destroy(run->scheduler);
    rig_free(&run->rig);
}

/* ---- what it has come to --------------------------------------------------------------------- */

static uint64_t hash_tensor(uint64_t hash, const nin_tensor *tensor, size_t count)
{
    float *values = malloc(count * sizeof *values);

    ck_assert_ptr_nonnull(values);
    ASSERT_OK(nin_tensor_read(tensor, values, count * sizeof *values));
    hash = rig_hash(hash, values, count * sizeof *values);
    free(values);
    return hash;
}

/* Parameters, momentum, rate, the curve and the running epoch's sums, but for their seconds. */
static uint64_t bits_of(const struct run *run)
{
    struct nin__epoch_sums sums = run->trainer->progress.sums;
    const size_t count = nin_network_parameter_count(run->rig.network);
    float *parameters = rig_parameters(run->rig.network);
    uint64_t hash = rig_hash(RIG_HASH, parameters, count * sizeof *parameters);
    nin_tensor *momentum = NULL;
    const double rate = nin_optimizer_rate(run->rig.optimizer);

    free(parameters);
    ASSERT_OK(nin_optimizer_momentum(&momentum, run->rig.optimizer, NULL, NIN_WEIGHT));
    hash = rig_hash(hash_tensor(hash, momentum, count), &rate, sizeof rate);
    for (int64_t i = 0; i < nin_trainer_epochs(run->trainer); i++) {
        nin_epoch_info info = {.struct_size = sizeof info};

        ASSERT_OK(nin_trainer_curve(&info, run->trainer, i));
        info.seconds = 0.0;
        hash = rig_hash(hash, &info.epoch, sizeof info - sizeof info.struct_size);
    }
    sums.seconds = 0.0;
    return rig_hash(hash, &sums, sizeof sums);
}

/* And what can be read of the last step. */
static void assert_same(const struct run *got, const struct run *wanted)
{
    size_t values;
    float *a, *b;

    ck_assert_int_eq(nin_trainer_steps(got->trainer), nin_trainer_steps(wanted->trainer));
    ck_assert_int_eq(nin_trainer_epochs(got->trainer), nin_trainer_epochs(wanted->trainer));
    ck_assert_int_eq(nin_trainer_batch(got->trainer), nin_trainer_batch(wanted->trainer));
    ck_assert_uint_eq(bits_of(got), bits_of(wanted));
    ck_assert_int_eq(got->rig.plan->images, wanted->rig.plan->images);
    a = rig_scores(got->rig.plan, got->rig.plan->images, &values);
    b = rig_scores(wanted->rig.plan, wanted->rig.plan->images, &values);
    ck_assert_mem_eq(a, b, values * sizeof *a);
    free(a);
    free(b);
    a = rig_gradient(&got->rig);
    b = rig_gradient(&wanted->rig);
    ck_assert_mem_eq(a, b, nin_network_parameter_count(got->rig.network) * sizeof *a);
    free(a);
    free(b);
}

static int waits(void)
{
    int (*function)(void);

    find_function(&function, "stand_in_waits");
    return function();
}

/* That the host has waited for: one a step where it feeds the device. */
static int event_waits(void)
{
    int (*function)(void);

    find_function(&function, "stand_in_event_waits");
    return function();
}

static size_t fetched_bytes(void)
{
    size_t (*function)(void);

    find_function(&function, "stand_in_fetched");
    return function();
}

static int launched_graphs(void)
{
    int (*function)(void);

    find_function(&function, "stand_in_graphs");
    return function();
}

/* ---- the same bits --------------------------------------------------------------------------- */

static void take_steps(const struct run *run, int64_t steps)
{
    for (int64_t i = 0; i < steps; i++)
        ASSERT_OK(nin_trainer_step(NULL, run->trainer));
}

/* To the end of the running epoch; look: the steps after which the host hears of them, 0: the
 * usual. */
static nin_status train_an_epoch(const struct run *run, int64_t look)
{
    const int64_t epochs = nin_trainer_epochs(run->trainer) + 1;

    if (look == 0)
        return nin_trainer_epoch(NULL, run->trainer);
    return nin_trainer_fit(NULL, run->trainer,
                           NIN_DESC(nin_fit_desc, .epochs = epochs, .step_interval = look));
}

/* Thirteen batches an epoch, the last of which is smaller; the first epoch goes on from its
 * third. */
START_TEST(epochs_have_the_bits_of_single_steps)
{
    const struct run_desc desc = {
        .pace = (enum pace)(_i % PACES), .dtype = _i / PACES == 0 ? NIN_F32 : NIN_U8, .batch = 4};
    struct run single, epochs;

    make_run(&single, &desc);
    make_run(&epochs, &desc);
    take_steps(&epochs, 2);
    take_steps(&single, 13);
    ASSERT_OK(nin_trainer_epoch(NULL, epochs.trainer));
    assert_same(&epochs, &single);
    for (int i = 0; i < 2; i++) {
        take_steps(&single, 13);
        ASSERT_OK(nin_trainer_epoch(NULL, epochs.trainer));
        assert_same(&epochs, &single);
    }
    free_run(&single);
    free_run(&epochs);
}
END_TEST

/* A step after an epoch, an epoch after a step, and all of it call by call. */
START_TEST(neither_a_graph_nor_a_change_of_pace_is_part_of_the_bits)
{
    const struct run_desc desc = {.batch = 7};
    struct run single, mixed;

    make_run(&single, &desc);
    take_steps(&single, 4 * 8 + 3);
    setenv("NIN_CUDA_GRAPH", _i == 0 ? "1" : "0", 1);
    make_run(&mixed, &desc);
    for (int i = 0; i < 4; i++) {
        take_steps(&mixed, i);
        ASSERT_OK(nin_trainer_epoch(NULL, mixed.trainer));
    }
    take_steps(&mixed, 3);
    unsetenv("NIN_CUDA_GRAPH");
    assert_same(&mixed, &single);
    free_run(&single);
    free_run(&mixed);
}
END_TEST

/* Images that stay the host's: more and fewer batches than there are slots for twice, the last one
 * smaller or not. */
START_TEST(batches_that_are_fed_have_the_bits_of_single_steps)
{
    static const struct run_desc descs[] = {
        {.apart = true, .batch = 4, .pace = COSINE_PER_STEP},
        {.apart = true, .batch = 11, .pace = PLATEAU_PER_EPOCH},
        {.apart = true, .batch = 4, .precision = NIN_BF16},
        {.apart = true, .batch = 7, .dtype = NIN_U8, .pace = DROPS_PER_STEP},
        {.apart = true, .batch = 10},
        {.apart = true, .batch = 2, .dtype = NIN_U8},
        {.apart = true, .batch = 1},
        {.apart = true, .batch = 4, .precision = NIN_TF32, .dtype = NIN_U8},
        {.apart = true, .batch = 4, .precision = NIN_TF32, .direct = true},
        {.apart = true, .batch = 7, .precision = NIN_BF16, .direct = true},
    };
    const struct run_desc *desc = &descs[_i];
    const int32_t steps = (SAMPLES - 1) / desc->batch + 1;
    struct run single, fed, resident;

    make_run(&single, desc);
    make_run(&fed, desc);
    take_steps(&single, 3 * steps);
    take_steps(&fed, 1);
    for (int i = 0; i < 3; i++)
        ASSERT_OK(nin_trainer_epoch(NULL, fed.trainer));
    assert_same(&fed, &single);
    free_run(&single);
    make_run(&resident, &(struct run_desc){.batch = desc->batch,
                                           .dtype = desc->dtype,
                                           .pace = desc->pace,
                                           .precision = desc->precision,
                                           .direct = desc->direct});
    for (int i = 0; i < 3; i++)
        ASSERT_OK(nin_trainer_epoch(NULL, resident.trainer));
    assert_same(&fed, &resident);
    free_run(&fed);
    free_run(&resident);
}
END_TEST

/* Where the rates of an epoch are too many at once. */
START_TEST(stretches_may_be_cut)
{
    const struct run_desc desc = {
        .apart = _i == 1, .batch = 4, .pace = COSINE_PER_STEP, .stretch = 5};
    struct run single, cut;

    make_run(&single, &desc);
    make_run(&cut, &desc);
    take_steps(&single, 2 * 13);
    for (int i = 0; i < 2; i++)
        ASSERT_OK(nin_trainer_epoch(NULL, cut.trainer));
    ck_assert_int_eq(cut.trainer->ahead.steps, 5);
    assert_same(&cut, &single);
    free_run(&single);
    free_run(&cut);
}
END_TEST

/* After each step, now and then, once in an epoch, never. */
START_TEST(looks_are_no_part_of_the_bits)
{
    static const struct {
        int64_t look;
        int steps; /* of an epoch */
        struct run_desc run;
    } cases[] = {
        {1, 13, {.batch = 4, .pace = COSINE_PER_STEP}},
        {3, 13, {.batch = 4, .pace = DROPS_PER_STEP, .apart = true}},
        {3, 13, {.batch = 4, .stretch = 5}},
        {1000, 13, {.batch = 4, .pace = PLATEAU_PER_EPOCH}},
        {64, MOST, {.batch = 1, .samples = MOST}},
        {1, 50, {.batch = 1, .apart = true}},
    };
    struct run single, looked;

    make_run(&single, &cases[_i].run);
    make_run(&looked, &cases[_i].run);
    take_steps(&looked, 1);
    for (int i = 0; i < 2; i++) {
        take_steps(&single, cases[_i].steps);
        ASSERT_OK(train_an_epoch(&looked, cases[_i].look));
        assert_same(&looked, &single);
    }
    free_run(&single);
    free_run(&looked);
}
END_TEST

/* Batches after which on_step was called. */
struct noted {
    int64_t last; /* step */
    int count;
    int64_t batches[16];
};

static nin_status note_step(const nin_step_info *info, void *user)
{
    struct noted *noted = user;

    ck_assert_int_lt(noted->count, 16);
    noted->batches[noted->count++] = info->batch;
    noted->last = info->step;
    return NIN_OK;
}

START_TEST(a_fit_has_them_too)
{
    const struct run_desc desc = {.pace = COSINE_PER_STEP, .batch = 4};
    struct run single, fit;
    struct noted noted = {0};

    make_run(&single, &desc);
    make_run(&fit, &desc);
    take_steps(&single, 39);
    ASSERT_OK(nin_trainer_fit(NULL, fit.trainer, NIN_DESC(nin_fit_desc, .epochs = 2)));
    take_steps(&fit, 2); /* the first interval is a shorter one */
    ASSERT_OK(nin_trainer_fit(NULL, fit.trainer,
                              NIN_DESC(nin_fit_desc, .epochs = 3, .on_step = note_step,
                                       .step_interval = 5, .user = &noted)));
    ck_assert_int_eq(noted.last, 39);
    ck_assert_int_eq(noted.count, 3);
    ck_assert(noted.batches[0] == 5 && noted.batches[1] == 10 && noted.batches[2] == 13);
    assert_same(&fit, &single);
    free_run(&single);
    free_run(&fit);
}
END_TEST

/* ---- waits ----------------------------------------------------------------------------------- */

static int waits_of_an_epoch(struct run *run)
{
    int before = waits();

    ASSERT_OK(nin_trainer_epoch(NULL, run->trainer));
    return waits() - before;
}

START_TEST(the_host_waits_once_an_epoch)
{
    static const int32_t batches[] = {1, 2, 7, 25};

    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
        struct run run;

        make_run(&run, &(struct run_desc){.pace = COSINE_PER_STEP, .batch = batches[i]});
        (void)waits_of_an_epoch(&run); /* the data set goes up */
        ck_assert_int_eq(waits_of_an_epoch(&run), ALONE);
        ck_assert_int_eq(waits_of_an_epoch(&run), ALONE);
        free_run(&run);
    }
    ck_assert_int_eq(alive(), 0);
}
END_TEST

/* And for the slot of each batch, which has long been free if the host is slower than the
 * device. */
START_TEST(a_host_that_feeds_waits_once_an_epoch)
{
    static const int32_t batches[] = {1, 2, 7, 10};

    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
        const int steps = (SAMPLES - 1) / batches[i] + 1;
        struct run run;
        int before;

        make_run(&run, &(struct run_desc){.apart = true, .batch = batches[i]});
        (void)waits_of_an_epoch(&run);
        before = event_waits();
        ck_assert_int_eq(waits_of_an_epoch(&run), ALONE);
        ck_assert_int_eq(event_waits() - before, steps);
        free_run(&run);
    }
    ck_assert_int_eq(alive(), 0);
}
END_TEST

/* On a device that does nothing before somebody waits: a copy, a step or the host that is not kept
 * back comes too early. */
START_TEST(who_feeds_and_who_is_fed_wait_for_each_other)
{
    const struct run_desc desc = {.batch = _i == 0 ? 2 : 4, .apart = true};
    struct run single, fed;

    setenv("NIN_CUDA_LATE", "1", 1);
    make_run(&single, &desc);
    take_steps(&single, (SAMPLES - 1) / desc.batch + 1);
    make_run(&fed, &desc);
    ASSERT_OK(nin_trainer_epoch(NULL, fed.trainer));
    assert_same(&fed, &single);
    free_run(&single);
    free_run(&fed);
    unsetenv("NIN_CUDA_LATE");
}
END_TEST

START_TEST(the_host_waits_once_a_stretch)
{
    struct run run;

    make_run(&run, &(struct run_desc){.batch = 4, .stretch = 5});
    (void)waits_of_an_epoch(&run);
    ck_assert_int_eq(waits_of_an_epoch(&run), 3 * ALONE);
    free_run(&run);
}
END_TEST

/* Of the plan, by the caller: the stretch after it has nothing to do with it. */
START_TEST(a_bad_step_before_is_forgotten)
{
    nin_batch_desc batch;
    struct run run;

    make_run(&run, &(struct run_desc){.batch = 4});
    (void)waits_of_an_epoch(&run);
    batch = rig_batch(&run.rig, 0, 4);
    run.rig.images[0] = NAN;
    ck_assert_int_eq(nin_plan_step(NULL, run.rig.plan, run.rig.optimizer, &batch, run.rig.labels),
                     NIN_NOT_FINITE);
    ck_assert_int_eq(waits_of_an_epoch(&run), ALONE);
    free_run(&run);
}
END_TEST

/* With a callback after every five of thirteen: three stretches. */
START_TEST(the_host_waits_once_an_interval)
{
    struct run run;
    struct noted noted = {0};
    int before;

    make_run(&run, &(struct run_desc){.batch = 4});
    (void)waits_of_an_epoch(&run);
    before = waits();
    ASSERT_OK(nin_trainer_fit(NULL, run.trainer,
                              NIN_DESC(nin_fit_desc, .epochs = 2, .on_step = note_step,
                                       .step_interval = 5, .user = &noted)));
    ck_assert_int_eq(waits() - before, 3 * ALONE);
    free_run(&run);
}
END_TEST

/* ---- what is heard on the way ---------------------------------------------------------------- */

struct heard {
    int waits; /* before the stretch */
    int64_t steps, early;
    int32_t images;
    double losses[MOST];
};

static void hear(void *user, const double *losses, const uint8_t *marks, int32_t images)
{
    struct heard *heard = user;

    heard->early += waits() == heard->waits;
    heard->steps++;
    for (int32_t i = 0; i < images; i++) {
        ck_assert_int_eq(marks[i] & ~(NIN__CORRECT | NIN__FLAT), 0);
        heard->losses[heard->images++] = losses[i];
    }
}

/* The steps of an epoch once more, as the trainer has begun it, but with another ear. Gives how many
 * have been taken. */
static int64_t hear_an_epoch(struct heard *heard, const struct run *run, int64_t look)
{
    struct nin__stretch stretch = {.resident = run->trainer->ahead.resident,
                                   .batch = (int32_t)run->trainer->batches.size,
                                   .look = look,
                                   .rates = run->trainer->ahead.rates,
                                   .take = hear,
                                   .taker = heard};
    int64_t done = 0;

    memset(heard, 0, sizeof *heard);
    heard->waits = waits();
    stretch.run.images = (struct nin__images){.base = pixels,
                                              .index = run->trainer->order,
                                              .dtype = NIN_F32,
                                              .count = (int32_t)run->dataset->info.count};
    ASSERT_OK(nin__plan_steps(&done, run->rig.plan, run->rig.optimizer, &stretch));
    ck_assert_int_eq(heard->steps, done);
    ck_assert_int_eq(waits() - heard->waits, ALONE);
    return done;
}

/* The host does not wait for what it hears, so how much that is depends on how fast the device is:
 * but never more than what has been looked for. Nothing comes down twice. */
START_TEST(results_come_while_the_device_is_at_work)
{
    static const struct {
        int64_t look;
        int32_t batch, samples;
        bool late;           /* the device does nothing before somebody waits */
        int64_t least, most; /* steps that are heard of before the end */
    } cases[] = {{1, 1, 50, false, 25, 48}, {3, 1, 50, false, 25, 45},
                 {3, 4, 50, false, 3, 9},   {64, 1, MOST, false, 64, 64},
                 {64, 1, 50, false, 0, 0},  {1000, 1, 50, false, 0, 0},
                 {1, 1, 50, true, 0, 0}};
    const size_t bad = 2 * sizeof(uint64_t), good = sizeof(uint32_t);
    const int64_t steps = (cases[_i].samples - 1) / cases[_i].batch + 1;
    const size_t looks = (size_t)((steps - 1) / cases[_i].look);
    struct heard heard;
    struct run run;
    size_t fetched;
    int events;

    make_run(&run, &(struct run_desc){.batch = cases[_i].batch, .samples = cases[_i].samples});
    ASSERT_OK(nin_trainer_epoch(NULL, run.trainer));
    setenv("NIN_CUDA_LATE", cases[_i].late ? "1" : "0", 1);
    fetched = fetched_bytes();
    events = event_waits();
    ck_assert_int_eq(hear_an_epoch(&heard, &run, cases[_i].look), steps);
    ck_assert_int_eq(heard.images, cases[_i].samples);
    unsetenv("NIN_CUDA_LATE");
    ck_assert_int_ge(heard.early, cases[_i].least);
    ck_assert_int_le(heard.early, cases[_i].most);
    ck_assert_int_eq(event_waits(), events);
    ck_assert_uint_eq(fetched_bytes() - fetched,
                      looks * (bad + good) + good +
                          (size_t)cases[_i].samples * (sizeof(double) + sizeof(uint8_t)));
    free_run(&run);
}
END_TEST

/* Of steps before it all is heard, though the device also goes through steps after it. */
START_TEST(nothing_is_heard_of_a_bad_step)
{
    const int32_t bad = 25; /* which is in the middle of the order */
    struct heard heard;
    struct run run;
    int64_t place = 0;
    int before;

    pixels[bad * PIXELS] = NAN;
    make_run(&run, &(struct run_desc){.batch = 1});
    ck_assert_int_eq(nin_trainer_epoch(NULL, run.trainer), NIN_NOT_FINITE);
    while (run.trainer->order[place] != bad)
        place++;
    ck_assert(place > 8 && place < SAMPLES - 8);
    before = launched_graphs();
    ck_assert_int_eq(hear_an_epoch(&heard, &run, _i), place);
    ck_assert_int_gt(launched_graphs() - before, place + 1);
    ck_assert_int_eq(heard.images, place);
    for (int64_t i = 0; i < place; i++)
        ck_assert(isfinite(heard.losses[i]));
    free_run(&run);
}
END_TEST

/* ---- a data set that does not fit ------------------------------------------------------------ */

static void leave_memory(size_t left)
{
    size_t (*taken)(void);
    char kib[32];

    find_function(&taken, "stand_in_taken");
    snprintf(kib, sizeof kib, "%zu", (taken() + left + 1023) / 1024);
    setenv("NIN_CUDA_MEMORY", kib, 1);
}

/* A data set may have half of what the device has left: here that is less than all images, more
 * than four batches. */
START_TEST(a_data_set_that_does_not_fit_is_fed)
{
    const struct run_desc desc = {.pace = COSINE_PER_STEP, .batch = 4};
    struct run single, epochs;
    int before;

    make_run(&single, &desc);
    take_steps(&single, 2 * 13);
    make_run(&epochs, &desc);
    leave_memory(2 * SAMPLES * PIXELS * sizeof *pixels - 1024);
    (void)waits_of_an_epoch(&epochs);
    before = event_waits();
    ck_assert_int_eq(waits_of_an_epoch(&epochs), ALONE);
    ck_assert_int_eq(event_waits() - before, 13);
    assert_same(&epochs, &single);
    free_run(&single);
    free_run(&epochs);
    ck_assert_int_eq(alive(), 0);
}
END_TEST

/* Here there is no room even for four batches, or there are no more than four. */
START_TEST(a_data_set_that_is_not_fed_is_taken_step_by_step)
{
    static const int32_t batches[] = {4, 13};
    const struct run_desc desc = {.batch = batches[_i], .apart = _i == 1};
    const int steps = (SAMPLES - 1) / desc.batch + 1;
    struct run single, epochs;

    make_run(&single, &desc);
    take_steps(&single, 2 * steps);
    make_run(&epochs, &desc);
    if (_i == 0)
        leave_memory(2 * (4 * 4 * PIXELS * sizeof *pixels));
    (void)waits_of_an_epoch(&epochs);
    ck_assert_int_ge(waits_of_an_epoch(&epochs), steps);
    ck_assert_int_eq(event_waits(), 0);
    assert_same(&epochs, &single);
    free_run(&single);
    free_run(&epochs);
    ck_assert_int_eq(alive(), 0);
}
END_TEST

/* A callback's images may be other ones each time. */
static nin_status give(void *image, int32_t *label, int64_t index, void *user)
{
    int *calls = user;

    memcpy(image, pixels + (size_t)index * PIXELS, PIXELS * sizeof *pixels);
    *label = labels[index];
    ++*calls;
    return NIN_OK;
}

START_TEST(a_callback_is_asked_in_each_epoch)
{
    const struct run_desc desc = {.batch = 4};
    struct run single, epochs;
    int calls = 0;

    make_run(&single, &desc);
    take_steps(&single, 2 * 13);
    make_run(&epochs, &desc);
    nin_trainer_destroy(epochs.trainer);
    nin_dataset_destroy(epochs.dataset);
    ASSERT_OK(nin_dataset_create_callback(
        &epochs.dataset, NIN_DESC(nin_callback_desc, .sample = give, .user = &calls, .channels = 2,
                                  .height = 16, .width = 16, .count = SAMPLES)));
    ASSERT_OK(nin_trainer_create(&epochs.trainer, epochs.rig.plan, epochs.rig.optimizer, NULL,
                                 epochs.dataset, NULL));
    for (int i = 0; i < 2; i++)
        ASSERT_OK(nin_trainer_epoch(NULL, epochs.trainer));
    ck_assert_int_eq(calls, 2 * SAMPLES);
    assert_same(&epochs, &single);
    free_run(&single);
    free_run(&epochs);
}
END_TEST

/* ---- a bad step ------------------------------------------------------------------------------ */

/* Steps until one fails: so many have been taken. */
static int64_t steps_until_failure(const struct run *run, char sentence[512])
{
    while (nin_trainer_step(NULL, run->trainer) == NIN_OK)
        ck_assert_int_lt(nin_trainer_steps(run->trainer), 1000);
    snprintf(sentence, 512, "%s", nin_last_error());
    return nin_trainer_steps(run->trainer);
}

/* One image is bad, wherever the shuffle puts it, also in the smaller last batch, and however often
 * the host looks. The second try fails as the first one. */
START_TEST(an_epoch_fails_at_the_step_that_fails)
{
    const int image = _i / 2, look = _i / 2 % 4;
    const struct run_desc desc = {.pace = COSINE_PER_STEP, .batch = 4, .apart = _i % 2 == 1};
    struct run single, epochs;
    char sentence[512];
    int64_t steps;

    for (size_t i = 0; i < PIXELS; i++)
        pixels[(size_t)image * PIXELS + i] = 3e38f;
    make_run(&single, &desc);
    make_run(&epochs, &desc);
    steps = steps_until_failure(&single, sentence);
    ck_assert_msg(strstr(sentence, "the loss of step") != NULL, "%s", sentence);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(train_an_epoch(&epochs, look), NIN_NOT_FINITE);
        ck_assert_str_eq(nin_last_error(), sentence);
        ck_assert_int_eq(nin_trainer_steps(epochs.trainer), steps);
        ck_assert_uint_eq(bits_of(&epochs), bits_of(&single));
    }
    free_run(&single);
    free_run(&epochs);
}
END_TEST

/* A network whose loss is finite on images of 1e38, but not the gradient of its weights. */
static void make_steep(struct run *run)
{
    static const float weights[] = {1e-36f, 1e-36f, 1e-36f, 1e-36f};
    static const float classes[] = {1e4f, 0.0f, -1e4f, 0.0f};
    struct rig *rig = &run->rig;
    nin_builder *builder = NULL;

    memset(run, 0, sizeof *run);
    ASSERT_OK(nin_context_create(&rig->context,
                                 NIN_DESC(nin_context_desc, .seed = 3, .device = NIN_DEVICE_CUDA)));
    ASSERT_OK(
        nin_builder_create(&builder, rig->context,
                           NIN_DESC(nin_input_desc, .channels = 2, .height = 16, .width = 16)));
    nin_builder_conv2d(builder, "steep", NIN_DESC(nin_conv2d_desc, .filters = 2, .kernel = 1));
    nin_builder_conv2d(builder, "class", NIN_DESC(nin_conv2d_desc, .filters = 2, .kernel = 1));
    nin_builder_global_average_pool(builder, "average");
    nin_builder_softmax_loss(builder, "loss");
    ASSERT_OK(nin_builder_finish(&rig->network, builder));
    nin_builder_destroy(builder);
    ASSERT_OK(nin_layer_write(nin_network_find(rig->network, "steep"), NIN_WEIGHT, weights, 4));
    ASSERT_OK(nin_layer_write(nin_network_find(rig->network, "class"), NIN_WEIGHT, classes, 4));
    ASSERT_OK(nin_plan_create(&rig->plan, rig->network,
                              NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = 4)));
    ASSERT_OK(nin_optimizer_create_sgd(&rig->optimizer, rig->network,
                                       NIN_DESC(nin_sgd_desc, .rate = 1e-9)));
    ASSERT_OK(nin_dataset_create_arrays(
        &run->dataset, NIN_DESC(nin_arrays_desc, .channels = 2, .height = 16, .width = 16,
                                .images = pixels, .labels = labels, .count = SAMPLES)));
    ASSERT_OK(nin_trainer_create(&run->trainer, rig->plan, rig->optimizer, NULL, run->dataset,
                                 NIN_DESC(nin_trainer_desc, .no_shuffle = 1)));
}

START_TEST(a_gradient_is_as_bad_as_a_loss)
{
    struct run single, epochs;
    char sentence[512];
    int64_t steps;

    memset(pixels, 0, sizeof pixels);
    for (size_t i = 0; i < PIXELS; i++)
        pixels[23 * PIXELS + i] = 1e38f;
    for (int32_t i = 0; i < SAMPLES; i++)
        labels[i] = i % 2;
    make_steep(&single);
    make_steep(&epochs);
    epochs.trainer->ahead.hidden.apart = _i == 1;
    steps = steps_until_failure(&single, sentence);
    ck_assert_msg(strstr(sentence, "the gradient of layer 'steep'") != NULL, "%s", sentence);
    ck_assert_int_eq(steps, 23 / 4);
    ck_assert_int_eq(nin_trainer_epoch(NULL, epochs.trainer), NIN_NOT_FINITE);
    ck_assert_str_eq(nin_last_error(), sentence);
    ck_assert_int_eq(nin_trainer_steps(epochs.trainer), steps);
    ck_assert_uint_eq(bits_of(&epochs), bits_of(&single));
    free_run(&single);
    free_run(&epochs);
}
END_TEST

/* The host looks now and then, without a wait, and starts no more steps that would change nothing:
 * after every 64, or as the caller of fit wishes. */
START_TEST(a_bad_step_is_noticed_on_the_way)
{
    static const struct {
        int64_t interval; /* 0: an epoch without fit */
        bool apart;
        int least, most; /* steps that are started as graphs */
    } cases[] = {
        {0, false, 64, 128}, {0, true, 64, 128}, {4, false, 32, 48}, {1000, false, 390, 400}};
    static float many[400 * PIXELS];
    static int32_t classes[400];
    nin_fit_desc fit = {.struct_size = sizeof fit, .epochs = 1};
    struct run run;
    int before;

    make_run(&run, &(struct run_desc){.batch = 1});
    nin_trainer_destroy(run.trainer);
    nin_dataset_destroy(run.dataset);
    many[30 * PIXELS] = NAN;
    ASSERT_OK(nin_dataset_create_arrays(
        &run.dataset, NIN_DESC(nin_arrays_desc, .channels = 2, .height = 16, .width = 16,
                               .images = many, .labels = classes, .count = 400)));
    ASSERT_OK(nin_trainer_create(&run.trainer, run.rig.plan, run.rig.optimizer, NULL, run.dataset,
                                 NIN_DESC(nin_trainer_desc, .no_shuffle = 1)));
    run.trainer->ahead.hidden.apart = cases[_i].apart;
    fit.step_interval = cases[_i].interval;
    before = launched_graphs();
    ASSERT_FAILS(NIN_NOT_FINITE, "the loss of step 30 is",
                 fit.step_interval == 0 ? nin_trainer_epoch(NULL, run.trainer)
                                        : nin_trainer_fit(NULL, run.trainer, &fit));
    ck_assert_int_ge(launched_graphs() - before, cases[_i].least - 2);
    ck_assert_int_le(launched_graphs() - before, cases[_i].most);
    free_run(&run);
}
END_TEST

/* Arrays that have been changed although they must not be: no label is used as a place that is
 * none. */
START_TEST(a_label_that_has_become_wrong_fails_its_step)
{
    struct run run;

    make_run(&run, &(struct run_desc){.batch = 4, .apart = _i == 1});
    labels[17] = 5;
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "label 5 of image", nin_trainer_epoch(NULL, run.trainer));
    labels[17] = 0;
    ASSERT_OK(nin_trainer_epoch(NULL, run.trainer));
    free_run(&run);
}
END_TEST

/* ---- failures -------------------------------------------------------------------------------- */

/* Two epochs, each tried again; false if the device cannot be used any more. */
static bool train_in_spite(const struct run *run, int64_t look, int *failures)
{
    for (int tries = 0; nin_trainer_epochs(run->trainer) < 2; tries++) {
        ck_assert_int_lt(tries, 4);
        if (train_an_epoch(run, look) == NIN_OK)
            continue;
        ++*failures;
        ck_assert_str_ne(nin_last_error(), "");
        if (strstr(nin_last_error(), "can no longer be used") != NULL)
            return false;
    }
    return true;
}

/* Of a device with a context, so that its module is open. */
static void *make_stream(void)
{
    void *(*create)(void);
    struct run run;

    make_run(&run, &(struct run_desc){.batch = 2});
    find_function(&create, "stand_in_stream_create");
    free_run(&run);
    return create();
}

/* Each call of CUDA fails once: then the trainer is where it was, and what is left to do leads to
 * the same bits. Or the results of steps do not come, or cuBLAS does not come back from a capture:
 * then nothing goes on. */
START_TEST(every_failure_is_survived)
{
    static const struct {
        int streams; /* of the caller's */
        bool fed;
        int64_t look; /* the usual one is none in so few steps */
        nin_precision precision;
    } cases[] = {{0, false, 0, NIN_FP32}, {1, false, 0, NIN_FP32}, {0, true, 0, NIN_FP32},
                 {1, true, 0, NIN_BF16},  {0, false, 1, NIN_FP32}, {1, true, 1, NIN_FP32}};
    const int streams = cases[_i].streams;
    const struct run_desc desc = {.pace = COSINE_PER_STEP,
                                  .precision = cases[_i].precision,
                                  .batch = 2,
                                  .samples = cases[_i].fed ? 9 : 5,
                                  .apart = cases[_i].fed,
                                  .stream = streams == 0 ? NULL : make_stream()};
    int calls = 1, lost = 0, failures = 0;
    uint64_t wanted = 0;
    int (*fail_at)(int);

    for (int n = 0; n <= calls; n++) {
        struct run run;

        make_run(&run, &desc);
        find_function(&fail_at, "stand_in_fail");
        fail_at(n);
        if (!train_in_spite(&run, cases[_i].look, &failures))
            lost++;
        else if (n > 0)
            ck_assert_msg(bits_of(&run) == wanted, "failure %d has left other bits", n);
        if (n == 0) {
            calls = fail_at(0);
            wanted = bits_of(&run);
        }
        fail_at(0);
        free_run(&run);
        ck_assert_msg(alive() == streams, "failure %d leaves %d things behind", n,
                      alive() - streams);
    }
    ck_assert_int_gt(calls, 100);
    ck_assert_int_gt(failures, calls / 4);
    /* two epochs with three copies and a wait each; two captures with a stream and a workspace
     * each */
    ck_assert_int_eq(lost, 2 * 4 + streams * 2 * 2);
}
END_TEST

/* Of the device, by the application; or an error that CUDA does not recover from. Nothing that is
 * gone is touched. */
START_TEST(a_feed_ends_with_its_device)
{
    const char *function = _i == 0 ? "stand_in_reset" : "stand_in_break";
    void (*end)(void);
    struct run run;

    make_run(&run, &(struct run_desc){.batch = 4, .apart = true});
    ASSERT_OK(nin_trainer_epoch(NULL, run.trainer));
    find_function(&end, function);
    end();
    for (int i = 0; i < 2; i++)
        ASSERT_FAILS(NIN_BACKEND_FAILED, "can no longer be used",
                     nin_trainer_epoch(NULL, run.trainer));
    free_run(&run);
    ck_assert_int_eq(alive(), 0);
}
END_TEST

/* ---- two at once ----------------------------------------------------------------------------- */

static void *train_three_epochs(void *user)
{
    const struct run *run = user;

    for (int i = 0; i < 3; i++)
        if (nin_trainer_epoch(NULL, run->trainer) != NIN_OK)
            return user;
    return NULL;
}

/* Two trainers of a context: what one starts comes between the other's steps. */
START_TEST(two_of_a_context_do_not_disturb_each_other)
{
    const struct run_desc desc = {.batch = 4}, fed = {.batch = 4, .apart = true};
    struct run single, first, second;
    void *failed = NULL;
    pthread_t thread;

    make_run(&single, &desc);
    take_steps(&single, 3 * 13);
    make_run(&first, &desc);
    make_run(&second, &fed);
    ck_assert_int_eq(pthread_create(&thread, NULL, train_three_epochs, &second), 0);
    ck_assert_ptr_null(train_three_epochs(&first));
    ck_assert_int_eq(pthread_join(thread, &failed), 0);
    ck_assert_ptr_null(failed);
    assert_same(&first, &single);
    assert_same(&second, &single);
    free_run(&single);
    free_run(&first);
    free_run(&second);
}
END_TEST

Suite *stretch_suite(void)
{
    Suite *suite = suite_create("stretch");
    TCase *training = tcase_create("training"), *stand_in = tcase_create("stand-in");
    TCase *failures = tcase_create("failures"), *more = tcase_create("more");

    tcase_add_checked_fixture(training, setup, NULL);
    tcase_add_loop_test(training, epochs_have_the_bits_of_single_steps, 0, 3);
    tcase_add_loop_test(training, neither_a_graph_nor_a_change_of_pace_is_part_of_the_bits, 0, 1);
    tcase_add_test(training, a_fit_has_them_too);
    tcase_add_test(training, a_callback_is_asked_in_each_epoch);
    tcase_add_loop_test(training, an_epoch_fails_at_the_step_that_fails, 2, 4);
    tcase_add_loop_test(training, a_gradient_is_as_bad_as_a_loss, 0, 2);
    tcase_add_loop_test(training, a_label_that_has_become_wrong_fails_its_step, 0, 2);
    tcase_add_loop_test(training, batches_that_are_fed_have_the_bits_of_single_steps, 0, 3);
    tcase_add_loop_test(training, stretches_may_be_cut, 0, 2);
    tcase_add_loop_test(training, looks_are_no_part_of_the_bits, 0, 5);
    tcase_add_test(training, two_of_a_context_do_not_disturb_each_other);
    tcase_add_checked_fixture(more, setup, NULL);
    tcase_set_tags(training, "cuda");
    tcase_set_tags(stand_in, "cuda");
    tcase_set_tags(more, "cuda long");
    tcase_add_loop_test(more, neither_a_graph_nor_a_change_of_pace_is_part_of_the_bits, 1, 2);
    tcase_add_loop_test(training, batches_that_are_fed_have_the_bits_of_single_steps, 8, 10);
    tcase_add_loop_test(more, batches_that_are_fed_have_the_bits_of_single_steps, 3, 8);
    tcase_add_loop_test(more, epochs_have_the_bits_of_single_steps, 3, 2 * PACES);
    tcase_add_loop_test(more, looks_are_no_part_of_the_bits, 5, 6);
    tcase_add_loop_test(more, an_epoch_fails_at_the_step_that_fails, 4, 32);
    tcase_add_checked_fixture(stand_in, setup_stand_in, NULL);
    tcase_add_test(stand_in, the_host_waits_once_an_epoch);
    tcase_add_test(stand_in, a_bad_step_before_is_forgotten);
    tcase_add_test(stand_in, the_host_waits_once_an_interval);
    tcase_add_test(stand_in, a_host_that_feeds_waits_once_an_epoch);
    tcase_add_loop_test(stand_in, who_feeds_and_who_is_fed_wait_for_each_other, 0, 2);
    tcase_add_test(stand_in, the_host_waits_once_a_stretch);
    tcase_add_loop_test(stand_in, results_come_while_the_device_is_at_work, 0, 7);
    tcase_add_loop_test(stand_in, nothing_is_heard_of_a_bad_step, 1, 4);
    tcase_add_test(stand_in, a_data_set_that_does_not_fit_is_fed);
    tcase_add_loop_test(stand_in, a_feed_ends_with_its_device, 0, 2);
    tcase_add_loop_test(stand_in, a_data_set_that_is_not_fed_is_taken_step_by_step, 0, 2);
    tcase_add_loop_test(stand_in, a_bad_step_is_noticed_on_the_way, 0, 4);
    tcase_add_checked_fixture(failures, setup_stand_in, NULL);
    tcase_set_timeout(failures, SANITIZED ? 3600 : 600);
    tcase_set_tags(failures, "cuda long");
    tcase_add_loop_test(failures, every_failure_is_survived, 0, 6);
    suite_add_tcase(suite, training);
    suite_add_tcase(suite, more);
    suite_add_tcase(suite, stand_in);
    suite_add_tcase(suite, failures);
    return suite;
}
