/* SPDX-License-Identifier: MIT */
/* Checkpoints: runs that go on, runs that are others, hostile files, and saves that are killed. */
#include "files.h"
#include "rig.h"
#include "test.h"

#include "core/plan.h"
#include "core/trainer.h"
#include "file/json.h"

#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

Suite *checkpoint_suite(void);

/* ---- runs ----------------------------------------------------------------------------------- */

enum {
    IMAGES = 22, /* of most runs */
    MANY_IMAGES = 440,
    PIXELS = 2 * 6 * 6
};

static unsigned char pixels[MANY_IMAGES * PIXELS];
static int32_t labels[MANY_IMAGES];

static void fill_images(void)
{
    uint32_t state = 1;

    for (size_t i = 0; i < sizeof pixels; i++) {
        state = state * 1664525u + 1013904223u;
        pixels[i] = (unsigned char)(state >> 24);
    }
    for (int i = 0; i < MANY_IMAGES; i++)
        labels[i] = i % 3;
}

static nin_status sample(void *image, int32_t *label, int64_t index, void *user)
{
    (void)user;
    memcpy(image, pixels + index * PIXELS, PIXELS);
    *label = labels[index];
    return NIN_OK;
}

/* What a run is made with; zero is what most tests want. */
struct choice {
    int32_t filters, batch, no_shuffle, lanes, threads, images;
    int32_t unit; /* images of a unit of sums, in place of the rule's */
    nin_algorithm algorithm;
    nin_precision precision;
    double rate, momentum, weight_decay;
    double scheduled_rate; /* set between the optimizer's start and the scheduler's */
    const char *id;        /* of a data set by callback */
    char scheduler;        /* 0: plateau, '-': none, 's': steps, 'c': cosine */
    double factor;
    uint32_t seed;
};

struct run {
    nin_context *context;
    nin_network *network;
    nin_plan *plan;
    nin_optimizer *optimizer;
    nin_scheduler *scheduler;
    nin_dataset *dataset;
    nin_trainer *trainer;
};

static void make_scheduler(struct run *run, const struct choice *choice)
{
    const int64_t milestones[] = {2, 5};

    if (choice->scheduler == 0)
        ASSERT_OK(nin_scheduler_create_plateau(
            &run->scheduler, run->optimizer,
            NIN_DESC(nin_plateau_desc, .factor = choice->factor == 0 ? 0.5 : choice->factor,
                     .no_patience = 1, .cooldown = 1)));
    if (choice->scheduler == 's')
        ASSERT_OK(nin_scheduler_create_steps(
            &run->scheduler, run->optimizer,
            NIN_DESC(nin_steps_desc, .milestones = milestones, .count = 2)));
    if (choice->scheduler == 'c')
        ASSERT_OK(nin_scheduler_create_cosine(
            &run->scheduler, run->optimizer,
            NIN_DESC(nin_cosine_desc, .unit = NIN_PER_STEP, .total = 20, .warm_up = 3)));
}

static void make_dataset(struct run *run, const struct choice *choice)
{
    int64_t count = choice->images == 0 ? IMAGES : choice->images;

    if (choice->id != NULL)
        ASSERT_OK(nin_dataset_create_callback(
            &run->dataset,
            NIN_DESC(nin_callback_desc, .sample = sample, .count = count, .channels = 2,
                     .height = 6, .width = 6, .dtype = NIN_U8, .id = choice->id)));
    else
        ASSERT_OK(nin_dataset_create_arrays(
            &run->dataset,
            NIN_DESC(nin_arrays_desc, .images = pixels, .dtype = NIN_U8, .labels = labels,
                     .count = count, .channels = 2, .height = 6, .width = 6)));
}

static struct run start(struct choice choice)
{
    struct run run = {0};

    ASSERT_OK(nin_context_create(&run.context,
                                 NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CPU,
                                          .threads = choice.threads == 0 ? 1 : choice.threads,
                                          .seed = choice.seed)));
    run.network = make_network(run.context, choice.filters == 0 ? 5 : choice.filters);
    ASSERT_OK(nin__plan_create(&run.plan, run.network,
                               NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = 8,
                                        .lanes = choice.lanes, .algorithm = choice.algorithm,
                                        .precision = choice.precision),
                               &(struct nin__compile_options){.unit = choice.unit}));
    ASSERT_OK(nin_optimizer_create_sgd(
        &run.optimizer, run.network,
        NIN_DESC(nin_sgd_desc, .rate = choice.rate == 0 ? 0.05 : choice.rate,
                 .momentum = choice.momentum == 0 ? 0.9 : choice.momentum,
                 .weight_decay = choice.weight_decay)));
    if (choice.scheduled_rate != 0)
        ASSERT_OK(nin_optimizer_set_rate(run.optimizer, choice.scheduled_rate));
    make_scheduler(&run, &choice);
    make_dataset(&run, &choice);
    ASSERT_OK(
        nin_trainer_create(&run.trainer, run.plan, run.optimizer, run.scheduler, run.dataset,
                           NIN_DESC(nin_trainer_desc, .batch = choice.batch == 0 ? 6 : choice.batch,
                                    .no_shuffle = choice.no_shuffle)));
    return run;
}

static void end(struct run *run)
{
    nin_trainer_destroy(run->trainer);
    nin_dataset_destroy(run->dataset);
    nin_scheduler_destroy(run->scheduler);
    nin_optimizer_destroy(run->optimizer);
    nin_plan_destroy(run->plan);
    nin_network_destroy(run->network);
    nin_context_destroy(run->context);
}

static void train(struct run *run, int64_t steps)
{
    while (nin_trainer_steps(run->trainer) < steps)
        ASSERT_OK(nin_trainer_step(NULL, run->trainer));
}

/* Everything but the seconds, which no two runs share. */
static void assert_same_runs(const struct run *a, const struct run *b)
{
    struct nin__progress p = a->trainer->progress, q = b->trainer->progress;

    assert_same_parameters(a->network, b->network);
    ck_assert_mem_eq(a->optimizer->momentum, b->optimizer->momentum,
                     a->network->parameter_count * sizeof(float));
    ck_assert_mem_eq(a->optimizer->layers, b->optimizer->layers,
                     (size_t)a->network->layer_count * sizeof *a->optimizer->layers);
    ck_assert_mem_eq(&a->optimizer->rate, &b->optimizer->rate, sizeof(double));
    if (a->scheduler != NULL) {
        ck_assert_mem_eq(&a->scheduler->state, &b->scheduler->state, sizeof a->scheduler->state);
        ck_assert_mem_eq(&a->scheduler->base_rate, &b->scheduler->base_rate, sizeof(double));
    }
    p.sums.seconds = q.sums.seconds = 0.0;
    ck_assert_uint_eq(p.seed, q.seed);
    ck_assert_int_eq(p.stalled, q.stalled);
    ck_assert_int_eq(p.due, q.due);
    ck_assert_int_eq(p.epoch, q.epoch);
    ck_assert_int_eq(p.batch, q.batch);
    ck_assert_int_eq(p.step, q.step);
    ck_assert_mem_eq(&p.rate, &q.rate, sizeof p.rate);
    ck_assert_mem_eq(&p.sums, &q.sums, sizeof p.sums);
    for (int64_t i = 0; i < p.epoch; i++) {
        nin_epoch_info x = {.struct_size = sizeof x}, y = {.struct_size = sizeof y};

        ASSERT_OK(nin_trainer_curve(&x, a->trainer, i));
        ASSERT_OK(nin_trainer_curve(&y, b->trainer, i));
        ck_assert_int_eq(x.epoch, y.epoch);
        ck_assert_int_eq(x.steps, y.steps);
        ck_assert_int_eq(x.count, y.count);
        ck_assert_int_eq(x.correct, y.correct);
        ck_assert_mem_eq(&x.rate, &y.rate, sizeof x.rate);
        ck_assert_mem_eq(&x.loss, &y.loss, sizeof x.loss);
        ck_assert_mem_eq(&x.metric, &y.metric, sizeof x.metric);
        ck_assert_int_eq(x.test_count, y.test_count);
        ck_assert_int_eq(x.test_correct, y.test_correct);
        ck_assert_mem_eq(&x.test_loss, &y.test_loss, sizeof x.test_loss);
        ck_assert_int_eq(x.health, y.health);
    }
}

/* Steps after which a run is cut: the start, inside and at the end of an epoch, after a
 * reduction. */
static const int64_t cuts[] = {0, 1, 3, 4, 5, 8, 11, 16};

static const struct choice kinds_of_run[] = {
    {0}, {.scheduler = '-'}, {.scheduler = 's'}, {.scheduler = 'c'}, {.id = "some data"},
};

START_TEST(run_goes_on)
{
    const int64_t whole = 21;
    const char *path = in_folder("checkpoint");
    struct choice choice = kinds_of_run[_i];
    struct run straight = start(choice);
    const nin_layer *conv = nin_network_find(straight.network, "conv1");

    ASSERT_OK(nin_optimizer_set_multipliers(straight.optimizer, conv, NIN_BIAS, 2.0, 0.0));
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        struct choice other = choice;
        struct run resumed;

        train(&straight, cuts[i]);
        ASSERT_OK(nin_trainer_save(straight.trainer, path));
        other.threads = 3;
        other.seed = 99; /* other weights, and another order until the checkpoint's seed is there */
        resumed = start(other);
        train(&resumed, i % 3 == 0 ? 7 : 0);
        ASSERT_OK(nin_trainer_restore(resumed.trainer, path, NULL));
        assert_same_runs(&straight, &resumed);
        train(&resumed, whole);
        if (i + 1 == sizeof cuts / sizeof cuts[0]) {
            train(&straight, whole);
            assert_same_runs(&straight, &resumed);
        } else {
            struct run fresh = start(choice);

            conv = nin_network_find(fresh.network, "conv1");
            ASSERT_OK(nin_optimizer_set_multipliers(fresh.optimizer, conv, NIN_BIAS, 2.0, 0.0));
            train(&fresh, whole);
            assert_same_runs(&fresh, &resumed);
            end(&fresh);
        }
        end(&resumed);
    }
    end(&straight);
}
END_TEST

/* After epoch 3, at batch 200, when the plateau scheduler has reduced the rate once. */
START_TEST(run_goes_on_far_into_an_epoch)
{
    const struct choice choice = {.images = MANY_IMAGES, .batch = 2};
    const int64_t cut = 3 * 220 + 200, whole = 6 * 220;
    const char *path = in_folder("checkpoint");
    struct run straight = start(choice), resumed = start(choice);

    train(&straight, cut);
    ck_assert_int_eq(nin_trainer_epochs(straight.trainer), 3);
    ck_assert_int_eq(nin_trainer_batch(straight.trainer), 200);
    ck_assert_double_eq(nin_optimizer_rate(straight.optimizer), 0.05 * 0.5);
    ASSERT_OK(nin_trainer_save(straight.trainer, path));
    train(&straight, whole);
    ASSERT_OK(nin_trainer_restore(resumed.trainer, path, NULL));
    train(&resumed, whole);
    assert_same_runs(&straight, &resumed);
    end(&straight);
    end(&resumed);
}
END_TEST

/* What the callbacks of a fit do and see. */
struct watch {
    nin_trainer *trainer;
    int64_t save_at; /* this step saves a checkpoint */
    int64_t epochs;  /* seen, with their evaluation */
};

static nin_status save_at(const nin_step_info *info, void *user)
{
    const struct watch *watch = user;

    return info->step == watch->save_at ? nin_trainer_save(watch->trainer, in_folder("checkpoint"))
                                        : NIN_OK;
}

static nin_status see_epoch(const nin_epoch_info *info, void *user)
{
    struct watch *watch = user;

    ck_assert_int_eq(info->test_count, IMAGES);
    watch->epochs++;
    return NIN_OK;
}

enum {
    TESTED_EPOCHS = 3,
    TESTED_STEPS = 4 * TESTED_EPOCHS
};

static int64_t fit_with_evaluation(struct run *run, int64_t save)
{
    struct watch watch = {.trainer = run->trainer, .save_at = save};
    nin_plan *infer = NULL;

    ASSERT_OK(nin_plan_create(&infer, run->network, NIN_DESC(nin_plan_desc, .max_batch = 8)));
    ASSERT_OK(nin_trainer_fit(NULL, run->trainer,
                              NIN_DESC(nin_fit_desc, .epochs = TESTED_EPOCHS, .test_plan = infer,
                                       .test_set = run->dataset, .on_step = save_at,
                                       .on_epoch = see_epoch, .user = &watch)));
    nin_plan_destroy(infer);
    return watch.epochs;
}

/* Saved after each step in turn, also after the last one of an epoch, whose evaluation is then
 * still to come. */
START_TEST(evaluations_go_on)
{
    struct run straight = start((struct choice){0}), resumed = start((struct choice){0});

    ck_assert_int_eq(fit_with_evaluation(&straight, _i), TESTED_EPOCHS);
    ASSERT_OK(nin_trainer_restore(resumed.trainer, in_folder("checkpoint"), NULL));
    ck_assert_int_eq(fit_with_evaluation(&resumed, 0), TESTED_EPOCHS - (_i - 1) / 4);
    assert_same_runs(&straight, &resumed);
    end(&straight);
    end(&resumed);
}
END_TEST

/* The rate that a schedule starts from is part of where a run is, and not of its recipe. */
START_TEST(schedule_goes_on_from_its_own_rate)
{
    const char schedulers[] = {'s', 'c'};
    struct choice choice = {.scheduler = schedulers[_i]};
    struct run straight = start(choice), resumed;

    choice.scheduled_rate = 0.2;
    resumed = start(choice);
    train(&straight, 2);
    ASSERT_OK(nin_trainer_save(straight.trainer, in_folder("checkpoint")));
    ASSERT_OK(nin_trainer_restore(resumed.trainer, in_folder("checkpoint"), NULL));
    train(&straight, 22); /* past warm-up and milestones */
    train(&resumed, 22);
    assert_same_runs(&straight, &resumed);
    end(&straight);
    end(&resumed);
}
END_TEST

START_TEST(seed_is_the_checkpoints)
{
    struct run run = start((struct choice){.seed = 7}), other = start((struct choice){.seed = 99});

    ASSERT_OK(nin_trainer_save(run.trainer, in_folder("checkpoint")));
    ck_assert_uint_eq(nin_trainer_seed(other.trainer), 99);
    ASSERT_OK(nin_trainer_restore(other.trainer, in_folder("checkpoint"), NULL));
    ck_assert_uint_eq(nin_trainer_seed(other.trainer), 7);
    end(&other);
    end(&run);
}
END_TEST

START_TEST(checkpoint_is_a_network)
{
    struct run run = start((struct choice){0});
    nin_network *loaded;

    train(&run, 6);
    ASSERT_OK(nin_trainer_save(run.trainer, in_folder("checkpoint")));
    ASSERT_OK(nin_network_load(&loaded, run.context, in_folder("checkpoint")));
    assert_same_parameters(run.network, loaded);
    nin_network_destroy(loaded);
    ASSERT_OK(nin_network_save(run.network, in_folder("network")));
    ASSERT_FAILS(NIN_BAD_FORMAT, "is no checkpoint",
                 nin_trainer_restore(run.trainer, in_folder("network"), NULL));
    end(&run);
}
END_TEST

/* A curve may hold what an evaluation of a ruined network gives. */
START_TEST(curve_of_a_ruined_run)
{
    struct run run = start((struct choice){0});

    train(&run, 8);
    run.trainer->curve[0].test_loss = NAN;
    run.trainer->curve[0].test_count = 22;
    run.trainer->curve[0].test_correct = 4;
    run.trainer->curve[0].health = NIN_DEAD_MAPS;
    run.trainer->curve[1].test_loss = INFINITY;
    ASSERT_OK(nin_trainer_save(run.trainer, in_folder("ruined")));
    memset(run.trainer->curve, 0, 2 * sizeof *run.trainer->curve);
    ASSERT_OK(nin_trainer_restore(run.trainer, in_folder("ruined"), NULL));
    ck_assert(isnan(run.trainer->curve[0].test_loss));
    ck_assert_int_eq(run.trainer->curve[0].test_count, 22);
    ck_assert_int_eq(run.trainer->curve[0].test_correct, 4);
    ck_assert_int_eq(run.trainer->curve[0].health, NIN_DEAD_MAPS);
    ck_assert_double_eq(run.trainer->curve[1].test_loss, INFINITY);
    end(&run);
}
END_TEST

static const struct {
    struct choice choice;
    const char *words;
} mismatches[] = {
    {{.filters = 6}, "network: layers[0].filters is 5 there, 6 here"},
    {{.images = 20}, "data_set.count is 22 there, 20 here"},
    {{.id = "some"}, "data_set.id is absent there, 'some' here"},
    {{.batch = 7}, "batch is 6 there, 7 here"},
    {{.no_shuffle = 1}, "recipe.shuffle is true there, false here"},
    {{.rate = 0.1}, "recipe.optimizer.rate is 0.05 there, 0.1 here"},
    {{.momentum = 0.5}, "recipe.optimizer.momentum is 0.9 there, 0.5 here"},
    {{.weight_decay = 1e-4}, "recipe.optimizer.weight_decay is 0 there, 0.0001 here"},
    {{.scheduler = '-'}, "recipe.scheduler.kind is 'plateau' there, 'none' here"},
    {{.scheduler = 's'}, "recipe.scheduler.kind is 'plateau' there, 'steps' here"},
    {{.factor = 0.25}, "recipe.scheduler.factor is 0.5 there, 0.25 here"},
    {{.lanes = 4}, "lanes.count is 16 there, 4 here"},
    {{.unit = 2}, "lanes.sums is 'images: units of 6 in 16 lanes"},
};

START_TEST(another_run)
{
    const char *path = in_folder("checkpoint"), *before = in_folder("before");
    const char *after = in_folder("after");
    struct run run = start((struct choice){0}), other = start(mismatches[_i].choice);

    train(&run, 6);
    train(&other, 5);
    ASSERT_OK(nin_trainer_save(run.trainer, path));
    ASSERT_OK(nin_trainer_save(other.trainer, before));
    ASSERT_FAILS(NIN_MISMATCH, mismatches[_i].words,
                 nin_trainer_restore(other.trainer, path, NULL));
    ASSERT_OK(nin_trainer_save(other.trainer, after));
    assert_same_files(before, after);
    end(&other);
    end(&run);
}
END_TEST

START_TEST(another_data_set)
{
    struct run run = start((struct choice){0}), other;
    struct run left = start((struct choice){.id = "left % \x01"});
    struct run right = start((struct choice){.id = "right"});

    ASSERT_OK(nin_trainer_save(run.trainer, in_folder("checkpoint")));
    pixels[100] ^= 1;
    other = start((struct choice){0});
    ASSERT_FAILS(NIN_MISMATCH, "data_set.crc32 is ",
                 nin_trainer_restore(other.trainer, in_folder("checkpoint"), NULL));
    end(&other);
    pixels[100] ^= 1;
    ASSERT_OK(nin_trainer_restore(run.trainer, in_folder("checkpoint"), NULL));
    ASSERT_OK(nin_trainer_save(left.trainer, in_folder("left")));
    ASSERT_OK(nin_trainer_restore(left.trainer, in_folder("left"), NULL));
    ASSERT_FAILS(NIN_MISMATCH, "data_set.id is 'left %25 %01' there, 'right' here",
                 nin_trainer_restore(right.trainer, in_folder("left"), NULL));
    end(&right);
    end(&left);
    end(&run);
}
END_TEST

/* A callback's data are known by the id, and without one by their count and shape alone. */
START_TEST(data_sets_without_an_id)
{
    struct run run = start((struct choice){.id = ""}), other = start((struct choice){.id = ""});
    struct run named = start((struct choice){.id = "named"});
    struct run longer = start((struct choice){.id = "", .images = IMAGES + 1});

    ASSERT_OK(nin_trainer_save(run.trainer, in_folder("checkpoint")));
    ASSERT_OK(nin_trainer_restore(other.trainer, in_folder("checkpoint"), NULL));
    ASSERT_FAILS(NIN_MISMATCH, "data_set.id is '' there, 'named' here",
                 nin_trainer_restore(named.trainer, in_folder("checkpoint"), NULL));
    ASSERT_FAILS(NIN_MISMATCH, "data_set.count is 22 there, 23 here",
                 nin_trainer_restore(longer.trainer, in_folder("checkpoint"), NULL));
    end(&longer);
    end(&named);
    end(&other);
    end(&run);
}
END_TEST

/* Another algorithm may add up in another order, so both are taken or refused together. */
static const struct {
    struct choice choice;
    const char *words;
} algorithms[] = {
    {{.algorithm = NIN_ALGORITHM_GEMM}, "algorithm is 'auto' there, 'gemm' here"},
    {{.unit = 2}, "lanes.sums is 'images: units of 6 in 16 lanes"},
    {{.algorithm = NIN_ALGORITHM_DIRECT, .unit = 3}, "algorithm is 'auto' there, 'direct' here"},
};

START_TEST(another_algorithm)
{
    struct run run = start((struct choice){0}), other = start(algorithms[_i].choice);
    const char *path = in_folder("checkpoint");

    train(&run, 3);
    ASSERT_OK(nin_trainer_save(run.trainer, path));
    ASSERT_FAILS(NIN_MISMATCH, algorithms[_i].words,
                 nin_trainer_restore(other.trainer, path, NULL));
    ASSERT_OK(
        nin_trainer_restore(other.trainer, path, NIN_DESC(nin_restore_desc, .other_algorithm = 1)));
    assert_same_runs(&run, &other);
    ASSERT_OK(nin_trainer_epoch(NULL, other.trainer));
    ASSERT_FAILS(
        NIN_INVALID_ARGUMENT, "other_algorithm 2",
        nin_trainer_restore(other.trainer, path, NIN_DESC(nin_restore_desc, .other_algorithm = 2)));
    end(&other);
    end(&run);
}
END_TEST

/* Texts too long for a sentence are shown from the word on that is another. */
START_TEST(long_texts)
{
    char ours[200] = "", theirs[200] = "";
    struct nin__difference difference;
    json_t *a, *b;

    for (int i = 0; i < 16; i++)
        strcat(ours, "a segment ");
    strcpy(theirs, ours);
    a = json_pack("{s:s}", "sums", strcat(ours, "fused"));
    b = json_pack("{s:s}", "sums", strcat(theirs, "rounded"));
    ck_assert(nin__json_differ(&difference, a, b));
    ck_assert_str_eq(difference.path, "sums");
    ck_assert_str_eq(difference.ours, "'... fused'");
    ck_assert_str_eq(difference.theirs, "'... rounded'");
    json_decref(a);
    json_decref(b);
}
END_TEST

/* bf16 gives other bits. */
START_TEST(another_precision)
{
    struct run run, other;

    if (rig_bf16(NIN_BF16) == NULL)
        return; /* not on this processor */
    run = start((struct choice){.precision = NIN_BF16});
    other = start((struct choice){0});
    train(&run, 3);
    ASSERT_OK(nin_trainer_save(run.trainer, in_folder("checkpoint")));
    ASSERT_FAILS(NIN_MISMATCH, "precision is 'bf16' there, 'fp32' here",
                 nin_trainer_restore(other.trainer, in_folder("checkpoint"),
                                     NIN_DESC(nin_restore_desc, .other_algorithm = 1)));
    end(&other);
    other = start((struct choice){.precision = NIN_BF16});
    ASSERT_OK(nin_trainer_restore(other.trainer, in_folder("checkpoint"), NULL));
    assert_same_runs(&run, &other);
    end(&other);
    end(&run);
}
END_TEST

/* The algorithm is all that may be another. */
START_TEST(another_algorithm_of_another_run)
{
    struct run run = start((struct choice){0}), other = start((struct choice){.lanes = 4});

    ASSERT_OK(nin_trainer_save(run.trainer, in_folder("checkpoint")));
    ASSERT_FAILS(NIN_MISMATCH, "lanes.count is 16 there, 4 here",
                 nin_trainer_restore(other.trainer, in_folder("checkpoint"),
                                     NIN_DESC(nin_restore_desc, .other_algorithm = 1)));
    end(&other);
    end(&run);
}
END_TEST

START_TEST(busy_checkpoints)
{
    struct run run = start((struct choice){0});
    const char *path = in_folder("checkpoint");

    ASSERT_OK(nin_trainer_save(run.trainer, path));
    ASSERT_OK(nin__network_hold(run.network));
    ASSERT_FAILS(NIN_BUSY, "", nin_trainer_save(run.trainer, path));
    nin__network_unhold(run.network);
    train(&run, 2);
    ASSERT_OK(nin__network_share(run.network));
    ASSERT_FAILS(NIN_BUSY, "", nin_trainer_restore(run.trainer, path, NULL));
    nin__network_unshare(run.network);
    ck_assert_int_eq(nin_trainer_steps(run.trainer), 2);
    end(&run);
}
END_TEST

/* Saves after the third step, and after the fifth goes back to there. */
static nin_status go_back_once(const nin_step_info *info, void *user)
{
    static int times;
    nin_trainer *trainer = user;

    if (info->step == 3 && times == 0)
        return nin_trainer_save(trainer, in_folder("third"));
    if (info->step == 5 && times++ == 0)
        return nin_trainer_restore(trainer, in_folder("third"), NULL);
    return NIN_OK;
}

START_TEST(callbacks_save_and_restore)
{
    struct run run = start((struct choice){0}), straight = start((struct choice){0});

    ASSERT_OK(nin_trainer_fit(
        NULL, run.trainer,
        NIN_DESC(nin_fit_desc, .epochs = 2, .on_step = go_back_once, .user = run.trainer)));
    ASSERT_OK(nin_trainer_fit(NULL, straight.trainer, NIN_DESC(nin_fit_desc, .epochs = 2)));
    ck_assert_int_eq(nin_trainer_steps(run.trainer), nin_trainer_steps(straight.trainer));
    assert_same_parameters(run.network, straight.network);
    end(&straight);
    end(&run);
}
END_TEST

/* Places in the header of a checkpoint after 6 steps of 4 an epoch. */
static const struct {
    const char *from, *to, *words;
} states[] = {
    {"{\\\"format\\\":1,\\\"run", "{\\\"format\\\":2,\\\"run", "'format' is no integer"},
    {"\\\"state\\\":{", "\\\"more\\\":1,\\\"state\\\":{", "does not know"},
    {"\\\"state\\\":{", "\\\"state\\\":{\\\"more\\\":1,", "does not know"},
    {"\\\"state\\\":{", "\\\"state\\\":1,\\\"stale\\\":{", "does not know"},
    {"\\\"seed\\\":0", "\\\"seed\\\":-1", "'seed' is no integer"},
    {"\\\"seed\\\":0", "\\\"seed\\\":4294967296", "'seed' is no integer"},
    {"\\\"epoch\\\":1", "\\\"epoch\\\":-1", "'epoch' is no integer"},
    {"\\\"epoch\\\":1", "\\\"epoch\\\":4611686018427387904", "'epoch' is no integer"},
    {"\\\"epoch\\\":1", "\\\"epoch\\\":0", "'step' is no integer"},
    {"\\\"batch\\\":2,\\\"due", "\\\"batch\\\":4,\\\"due", "'batch' is no integer"},
    {"\\\"batch\\\":2,\\\"due", "\\\"batch\\\":-1,\\\"due", "'batch' is no integer"},
    {"\\\"batch\\\":2,\\\"due", "\\\"batch\\\":1,\\\"due", "'step' is no integer"},
    {"\\\"step\\\":6", "\\\"step\\\":7", "'step' is no integer"},
    {"\\\"step\\\":6", "\\\"step\\\":-6", "'step' is no integer"},
    {"\\\"stalled\\\":", "\\\"stalled\\\":2", "'stalled' is no integer"},
    {"\\\"due\\\":false", "\\\"due\\\":0", "'due' is neither true nor false"},
    {"\\\"due\\\":false", "\\\"due\\\":true", "'due' is true inside an epoch"},
    {"\\\"count\\\":12", "\\\"count\\\":13", "'count' is no integer"},
    {"\\\"flat\\\":0", "\\\"flat\\\":13", "'flat' is no integer"},
    {"\\\"bad\\\":", "\\\"bad\\\":-1,\\\"worse\\\":", "scheduler"},
    {"\\\"cool\\\":", "\\\"cool\\\":99999999999", "'cool' is no integer"},
    {"\\\"units\\\":1", "\\\"units\\\":-1", "'units' is no integer"},
    {"\\\"best\\\":\\\"", "\\\"best\\\":\\\"7ff8000000000000\\\",\\\"was\\\":\\\"", "is no number"},
    {"\\\"rate\\\":\\\"3fa", "\\\"rate\\\":\\\"bfa", "'rate' is negative or not finite"},
    {"\\\"rate\\\":\\\"3fa999", "\\\"rate\\\":\\\"7ff000", "'rate' is negative or not finite"},
    {"\\\"rate\\\":\\\"3fa", "\\\"rate\\\":\\\"3FA", "not 16 hexadecimal digits"},
    {"\\\"rate\\\":\\\"3fa", "\\\"rate\\\":\\\"fa", "not 16 hexadecimal digits"},
    {"\\\"rate\\\":\\\"", "\\\"rate\\\":7,\\\"rite\\\":\\\"", "'rate' is no string"},
    {"\\\"base_rate\\\":\\\"3fa", "\\\"base_rate\\\":\\\"7ff", "negative or not finite"},
    {"\"curve\"", "\"cured\"", "no tensor 'curve'"},
    {"\"curve\":{\"data_offsets\":[0,88],\"dtype\":\"F64\",\"shape\":[1,11]}",
     "\"curve\":{\"data_offsets\":[0,88],\"dtype\":\"F64\",\"shape\":[11,1]}", "another shape"},
    {"\"curve\":{\"data_offsets\":[0,88],\"dtype\":\"F64\"",
     "\"curve\":{\"data_offsets\":[0,88],\"dtype\":\"I64\"", "is of type I64"},
    {"\"multipliers\"", "\"multiplier\"", "no tensor 'multipliers'"},
    {"\"conv1.weight.momentum\"", "\"conv1.weight.momentun\"", "no tensor 'conv1.weight.momentum'"},
    {"\"conv1.bias\"", "\"conv1.biase\"", "no tensor 'conv1.bias'"},
    {"\\\"run\\\":{", "\\\"run\\\":[],\\\"rerun\\\":{", "does not know"},
    {"\"architecture\"", "\"architexture\"", "has no architecture"},
};

START_TEST(crafted_checkpoints)
{
    const char *whole = in_folder("whole"), *edited = in_folder("edited");
    const char *after = in_folder("after");
    struct run run = start((struct choice){0});
    struct bytes bytes;

    train(&run, 6);
    ASSERT_OK(nin_trainer_save(run.trainer, whole));
    bytes = read_bytes(whole);
    write_edited(edited, &bytes, states[_i].from, states[_i].to);
    ASSERT_FAILS(NIN_BAD_FORMAT, states[_i].words, nin_trainer_restore(run.trainer, edited, NULL));
    ASSERT_OK(nin_trainer_save(run.trainer, after));
    assert_same_files(whole, after);
    free(bytes.data);
    end(&run);
}
END_TEST

/* One number of the curve's row, which is the first of the elements, is one that cannot be. */
START_TEST(crafted_curves)
{
    static const struct {
        int column;
        double value;
    } wrong[] = {{0, 5},   {0, -4},    {0, NAN},  {1, -1}, {1, INFINITY},
                 {2, NAN}, {3, 23},    {3, 0.5},  {4, 21}, {5, -NAN},
                 {6, -1},  {6, 1e300}, {7, 1e10}, {10, 3}, {10, -1}};
    const char *whole = in_folder("whole"), *edited = in_folder("edited");
    struct run run = start((struct choice){0});

    train(&run, 6);
    ASSERT_OK(nin_trainer_save(run.trainer, whole));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct bytes bytes = read_bytes(whole);

        memcpy(bytes.data + 8 + header_length(&bytes) + 8 * wrong[i].column, &wrong[i].value, 8);
        write_bytes(edited, bytes.data, bytes.count);
        ASSERT_FAILS(NIN_BAD_FORMAT, "curve: the row of epoch 1 cannot be",
                     nin_trainer_restore(run.trainer, edited, NULL));
        free(bytes.data);
    }
    end(&run);
}
END_TEST

START_TEST(crafted_multipliers)
{
    static const double wrong[] = {-1.0, NAN, INFINITY};
    const char *edited = in_folder("edited");
    struct run run = start((struct choice){0});

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct bytes bytes;

        ASSERT_OK(nin_trainer_save(run.trainer, edited));
        bytes = read_bytes(edited);
        memcpy(bytes.data + 8 + header_length(&bytes) + 8 * i, &wrong[i], 8);
        write_bytes(edited, bytes.data, bytes.count);
        ASSERT_FAILS(NIN_BAD_FORMAT, "multipliers: one is",
                     nin_trainer_restore(run.trainer, edited, NULL));
        free(bytes.data);
    }
    end(&run);
}
END_TEST

/* Whatever a byte of the header becomes: a status, and a trainer that goes on. */
START_TEST(flipped_checkpoints)
{
    const char *whole = in_folder("whole"), *flipped = in_folder("flipped");
    struct run run = start((struct choice){0});
    struct bytes bytes;

    train(&run, 6);
    ASSERT_OK(nin_trainer_save(run.trainer, whole));
    bytes = read_bytes(whole);
    for (size_t i = 0; i < 8 + header_length(&bytes); i++) {
        unsigned char mask = (unsigned char)(1u << i % 6);
        nin_status status;

        bytes.data[i] ^= mask;
        write_bytes(flipped, bytes.data, bytes.count);
        status = nin_trainer_restore(run.trainer, flipped, NULL);
        ck_assert_msg(status == NIN_OK || status == NIN_BAD_FORMAT || status == NIN_MISMATCH, "%s",
                      nin_last_error());
        if (status == NIN_OK)
            ASSERT_OK(nin_trainer_epoch(NULL, run.trainer));
        bytes.data[i] ^= mask;
    }
    for (size_t count = 0; count < bytes.count; count += 7) {
        write_bytes(flipped, bytes.data, count);
        ASSERT_FAILS(NIN_BAD_FORMAT, "", nin_trainer_restore(run.trainer, flipped, NULL));
    }
    free(bytes.data);
    end(&run);
}
END_TEST

/* ---- killed ---------------------------------------------------------------------------------- */

/* Trains and saves until it is killed. Nothing in here may return. */
static void save_for_ever(const char *path)
{
    struct run run = start((struct choice){0});

    if (access(path, F_OK) == 0)
        ASSERT_OK(nin_trainer_restore(run.trainer, path, NULL));
    for (;;) {
        ASSERT_OK(nin_trainer_step(NULL, run.trainer));
        ASSERT_OK(nin_trainer_save(run.trainer, path));
    }
}

/* A file that is replaced becomes another inode. */
static ino_t inode(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 ? status.st_ino : 0;
}

/* Kills a child that saves, some time after its first save. */
static void kill_after(const char *path, long microseconds)
{
    const struct timespec poll = {0, 1000000}, time = {0, microseconds * 1000};
    const ino_t before = inode(path);
    pid_t child = fork();
    int status;

    ck_assert_int_ge(child, 0);
    if (child == 0) {
        save_for_ever(path);
        _exit(1);
    }
    while (inode(path) == before && waitpid(child, &status, WNOHANG) == 0)
        nanosleep(&poll, NULL);
    nanosleep(&time, NULL);
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status));
}

/* After any kill there is a checkpoint, and it is that of an undisturbed run. */
START_TEST(killed_while_saving)
{
    const char *path = in_folder("checkpoint");
    struct run straight, restored;
    int64_t last = 0;

    for (int i = 0; i < 20; i++) {
        kill_after(path, 3700 * i % 20000);
        restored = start((struct choice){0});
        ASSERT_OK(nin_trainer_restore(restored.trainer, path, NULL));
        ck_assert_int_gt(nin_trainer_steps(restored.trainer), last);
        last = nin_trainer_steps(restored.trainer);
        straight = start((struct choice){0});
        train(&straight, last);
        assert_same_runs(&straight, &restored);
        end(&straight);
        end(&restored);
    }
}
END_TEST

/* ---- memory --------------------------------------------------------------------------------- */

static int allocations_left;

static void *failing_malloc(size_t size)
{
    return allocations_left-- > 0 ? malloc(size) : NULL;
}

/* Each allocation of jansson fails once while a checkpoint is written: the old one stays. (Its
 * parser has assertions that fail without memory, so reading cannot be tested like this.) */
START_TEST(no_memory_for_json)
{
    const char *path = in_folder("checkpoint"), *copy = in_folder("copy");
    struct run run = start((struct choice){0});
    nin_status status = NIN_OUT_OF_MEMORY;

    ASSERT_OK(nin_trainer_save(run.trainer, path));
    ASSERT_OK(nin_trainer_save(run.trainer, copy));
    train(&run, 6);
    for (int n = 0; status != NIN_OK; n++) {
        allocations_left = n;
        json_set_alloc_funcs(failing_malloc, free);
        status = nin_trainer_save(run.trainer, path);
        json_set_alloc_funcs(malloc, free);
        ck_assert_msg(status == NIN_OK || status == NIN_OUT_OF_MEMORY, "%d: %s", n,
                      nin_last_error());
        if (status != NIN_OK)
            assert_same_files(path, copy);
    }
    ck_assert_int_eq(count_files(), 2);
    end(&run);
}
END_TEST

/* ---- suite ---------------------------------------------------------------------------------- */

#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

Suite *checkpoint_suite(void)
{
    Suite *suite = suite_create("checkpoint");
    TCase *tests = tcase_create("checkpoints");

    tcase_add_checked_fixture(tests, make_folder, remove_folder);
    tcase_add_checked_fixture(tests, fill_images, NULL);
    tcase_add_loop_test(tests, run_goes_on, 0, COUNT(kinds_of_run));
    tcase_add_test(tests, run_goes_on_far_into_an_epoch);
    tcase_add_loop_test(tests, evaluations_go_on, 1, TESTED_STEPS + 1);
    tcase_add_loop_test(tests, schedule_goes_on_from_its_own_rate, 0, 2);
    tcase_add_test(tests, seed_is_the_checkpoints);
    tcase_add_test(tests, checkpoint_is_a_network);
    tcase_add_test(tests, curve_of_a_ruined_run);
    tcase_add_loop_test(tests, another_run, 0, COUNT(mismatches));
    tcase_add_test(tests, another_data_set);
    tcase_add_test(tests, data_sets_without_an_id);
    tcase_add_loop_test(tests, another_algorithm, 0, COUNT(algorithms));
    tcase_add_test(tests, another_precision);
    tcase_add_test(tests, long_texts);
    tcase_add_test(tests, another_algorithm_of_another_run);
    tcase_add_test(tests, busy_checkpoints);
    tcase_add_test(tests, callbacks_save_and_restore);
    tcase_add_loop_test(tests, crafted_checkpoints, 0, COUNT(states));
    tcase_add_test(tests, crafted_curves);
    tcase_add_test(tests, crafted_multipliers);
    tcase_add_test(tests, flipped_checkpoints);
    tcase_add_test(tests, killed_while_saving);
    tcase_add_test(tests, no_memory_for_json);
    suite_add_tcase(suite, tests);
    return suite;
}
