/* SPDX-License-Identifier: MIT */
/* Several threads on one network: predictions at the same time, one set of weights, and who meets
 * whom with NIN_BUSY. */
#include "interpose.h"
#include "rig.h"
#include "sanitized.h"
#include "suites.h"

#include "core/prepared.h"
#include "core/rng.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    PREDICTORS = 4
};

static nin_context *make_context(void)
{
    nin_context *context = NULL;

    ASSERT_OK(nin_context_create(
        &context, NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CPU, .threads = 1, .seed = 3)));
    return context;
}

static void start(pthread_t *thread, void *(*serve)(void *), void *argument)
{
    ck_assert_int_eq(pthread_create(thread, NULL, serve, argument), 0);
}

static int value(atomic_int *number)
{
    return atomic_load(number);
}

static void pause_us(long microseconds)
{
    const struct timespec time = {.tv_nsec = microseconds * 1000};

    nanosleep(&time, NULL);
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- a backend that counts and waits ------------------------------------------------------- */

/* The CPU backend, but it counts the forms of weights that it prepares, and runs can be made to
 * wait. */
static struct nin__backend backend;
static atomic_int prepared, runs_inside;
static atomic_int hold_runs; /* runs wait while this is not 0 */

static nin_status count_prepare(struct nin__executable *executable, const float *parameters,
                                void *const *targets)
{
    int32_t count;

    nin__cpu_backend.forms(executable, &count);
    for (int32_t i = 0; i < count; i++)
        atomic_fetch_add(&prepared, targets[i] != NULL);
    return nin__cpu_backend.prepare(executable, parameters, targets);
}

static nin_status wait_and_run(struct nin__executable *executable, const struct nin__run *run)
{
    nin_status status;

    atomic_fetch_add(&runs_inside, 1);
    while (value(&hold_runs) != 0)
        pause_us(100);
    status = nin__cpu_backend.run(executable, run);
    atomic_fetch_sub(&runs_inside, 1);
    return status;
}

static void watch(nin_context *context)
{
    backend = nin__cpu_backend;
    backend.prepare = count_prepare;
    backend.run = wait_and_run;
    context->backend = &backend;
    atomic_store(&prepared, 0);
    atomic_store(&hold_runs, 0);
}

static void wait_for_runs(int count)
{
    while (value(&runs_inside) != count)
        pause_us(100);
}

/* ---- four predictors of one large network -------------------------------------------------- */

/* 8x8x8, 8.2 million parameters, 33 MB, and as much again when they are prepared. */
static nin_network *make_large(nin_context *context)
{
    nin_builder *builder = NULL;
    nin_network *network = NULL;

    ASSERT_OK(nin_builder_create(&builder, context,
                                 NIN_DESC(nin_input_desc, .channels = 8, .height = 8, .width = 8)));
    nin_builder_conv2d(
        builder, "wide",
        NIN_DESC(nin_conv2d_desc, .filters = 1024, .kernel = 3, .stride = 2, .pad = 1));
    nin_builder_relu(builder, "relu");
    nin_builder_max_pool(builder, "pool", NIN_DESC(nin_pool_desc, .kernel = 2));
    nin_builder_conv2d(builder, "deep",
                       NIN_DESC(nin_conv2d_desc, .filters = 880, .kernel = 3, .pad = 1));
    nin_builder_global_average_pool(builder, "average");
    ASSERT_OK(nin_builder_finish(&network, builder));
    nin_builder_destroy(builder);
    ck_assert_uint_ge(nin_network_parameter_count(network) * sizeof(float), 30000000);
    return network;
}

/* A thread that predicts its own images. */
struct predictor {
    nin_plan *plan;
    float images[2 * 8 * 8 * 8];
    float scores[2 * 880];
    nin_status status;
};

static void *predict(void *argument)
{
    struct predictor *self = argument;

    self->status =
        nin_plan_forward(self->plan, NIN_DESC(nin_batch_desc, .images = self->images, .count = 2));
    if (self->status == NIN_OK)
        self->status =
            nin_plan_scores(self->plan, self->scores, sizeof self->scores / sizeof *self->scores);
    return NULL;
}

static void make_predictor(struct predictor *self, nin_network *network, uint32_t number)
{
    memset(self, 0, sizeof *self);
    ASSERT_OK(nin_plan_create(&self->plan, network, NIN_DESC(nin_plan_desc, .max_batch = 2)));
    nin__rng_uniform(self->images, sizeof self->images / sizeof *self->images, 1.0, 5, number);
}

/* All inside the backend at the same time. */
static void predict_together(struct predictor predictors[PREDICTORS])
{
    pthread_t threads[PREDICTORS];

    atomic_store(&hold_runs, 1);
    for (int i = 0; i < PREDICTORS; i++)
        start(&threads[i], predict, &predictors[i]);
    wait_for_runs(PREDICTORS);
    atomic_store(&hold_runs, 0);
    for (int i = 0; i < PREDICTORS; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_int_eq(predictors[i].status, NIN_OK);
    }
}

/* One after another, each by a plan that serves all. */
static void check_scores(const struct predictor predictors[PREDICTORS], nin_network *network)
{
    struct predictor alone;

    make_predictor(&alone, network, 0);
    for (int i = 0; i < PREDICTORS; i++) {
        memcpy(alone.images, predictors[i].images, sizeof alone.images);
        predict(&alone);
        ck_assert_int_eq(alone.status, NIN_OK);
        ck_assert_mem_eq(alone.scores, predictors[i].scores, sizeof alone.scores);
    }
    nin_plan_destroy(alone.plan);
}

START_TEST(predictions_together)
{
    static struct predictor predictors[PREDICTORS];
    nin_context *context = make_context();
    nin_network *network;

    watch(context);
    network = make_large(context);
    for (uint32_t i = 0; i < PREDICTORS; i++)
        make_predictor(&predictors[i], network, i);
    for (int round = 0; round < 3; round++) {
        predict_together(predictors);
        check_scores(predictors, network);
    }
    ck_assert_mem_ne(predictors[0].scores, predictors[1].scores, sizeof predictors[0].scores);
    for (int i = 0; i < PREDICTORS; i++)
        nin_plan_destroy(predictors[i].plan);
    nin_network_destroy(network);
    nin_context_destroy(context);
}
END_TEST

/* The forms that hang on a network, each used by so many plans. */
static int count_forms(const nin_network *network, int plans)
{
    int count = 0;

    for (const struct nin__prepared *form = network->prepared; form != NULL; form = form->next) {
        ck_assert_int_eq(form->plans, plans);
        count++;
    }
    return count;
}

START_TEST(weights_prepared_once)
{
    static struct predictor predictors[PREDICTORS];
    nin_context *context = make_context();
    float bias[880] = {1.0f};
    nin_network *network;

    watch(context);
    network = make_large(context);
    for (uint32_t i = 0; i < PREDICTORS; i++)
        make_predictor(&predictors[i], network, i);
    ck_assert_int_eq(count_forms(network, PREDICTORS), 2); /* wide's and deep's */
    ck_assert_int_eq(value(&prepared), 0);
    predict_together(predictors);
    predict_together(predictors);
    ck_assert_int_eq(value(&prepared), 2);

    ASSERT_OK(nin_layer_write(nin_network_find(network, "deep"), NIN_BIAS, bias, 880));
    predict_together(predictors);
    ck_assert_int_eq(value(&prepared), 4);
    check_scores(predictors, network);

    for (int i = 0; i < PREDICTORS; i++) {
        ck_assert_int_eq(count_forms(network, PREDICTORS - i), 2);
        nin_plan_destroy(predictors[i].plan);
    }
    ck_assert_ptr_null(network->prepared);
    nin_network_destroy(network);
    nin_context_destroy(context);
}
END_TEST

/* What a training plan adds: deep's weights for the gradient of its input. */
START_TEST(training_prepares_no_form_again)
{
    static struct predictor predictor;
    nin_context *context = make_context();
    nin_plan *train = NULL;
    nin_network *network;
    float gradient[2 * 880] = {1.0f};

    watch(context);
    network = make_large(context);
    make_predictor(&predictor, network, 0);
    predict(&predictor);
    ck_assert_int_eq(value(&prepared), 2);

    ASSERT_OK(nin_plan_create(&train, network,
                              NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = 2)));
    ASSERT_OK(
        nin_plan_forward(train, NIN_DESC(nin_batch_desc, .images = predictor.images, .count = 2)));
    ck_assert_int_eq(value(&prepared), 3);
    ASSERT_OK(
        nin_plan_backward(NULL, train, NIN_DESC(nin_backward_desc, .score_gradient = gradient)));
    predict(&predictor);
    ck_assert_int_eq(value(&prepared), 3);
    nin_plan_destroy(predictor.plan);
    ck_assert_int_eq(count_forms(network, 1), 3);
    nin_plan_destroy(train);
    ck_assert_ptr_null(network->prepared);
    nin_network_destroy(network);
    nin_context_destroy(context);
}
END_TEST

/* ---- memory -------------------------------------------------------------------------------- */

static int64_t resident_bytes(void)
{
    long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%ld %ld", &total, &resident), 2);
    fclose(file);
    return (int64_t)resident * sysconf(_SC_PAGESIZE);
}

/* What the process holds, and what its plans say that they hold. */
struct footprint {
    int64_t heap, resident, plans;
};

static struct footprint measure(const struct predictor *predictors, int count)
{
    struct footprint now = {interpose_counts().bytes, resident_bytes(), 0};

    for (int i = 0; i < count; i++)
        now.plans += (int64_t)nin_plan_bytes(predictors[i].plan);
    return now;
}

START_TEST(one_copy_of_weights)
{
    static struct predictor predictors[PREDICTORS];
    nin_context *context = make_context();
    struct footprint first, last;
    nin_network *network;
    int64_t copy;

    watch(context);
    network = make_large(context);
    copy = (int64_t)(nin_network_parameter_count(network) * sizeof(float));
    make_predictor(&predictors[0], network, 0);
    predict(&predictors[0]);
    first = measure(predictors, 1);
    for (uint32_t i = 1; i < PREDICTORS; i++)
        make_predictor(&predictors[i], network, i);
    predict_together(predictors);
    last = measure(predictors, PREDICTORS);
    ck_assert_int_lt(last.plans - first.plans, copy);
    if (interpose_works()) {
        ck_assert_int_lt(last.heap - first.heap, copy);
        ck_assert_int_lt(last.resident - first.resident, copy);
        ck_assert_int_gt(first.resident, 2 * copy); /* parameters, and what prepare made of them */
    }
    for (int i = 0; i < PREDICTORS; i++)
        nin_plan_destroy(predictors[i].plan);
    nin_network_destroy(network);
    nin_context_destroy(context);
}
END_TEST

/* ---- who meets whom ------------------------------------------------------------------------ */

/* A training set-up, and a predictor of its network, both in a context that can hold runs. */
static struct {
    struct rig trainer;
    nin_plan *predictor, *other;
    nin_status status; /* of the call that another thread makes */
} pair;

static void make_pair(void)
{
    rig_make(&pair.trainer, &(struct rig_desc){.mode = NIN_TRAIN, .threads = 2, .batch = 6});
    watch(pair.trainer.context);
    ASSERT_OK(nin_plan_create(&pair.predictor, pair.trainer.network,
                              NIN_DESC(nin_plan_desc, .max_batch = 6)));
    ASSERT_OK(nin_plan_create(&pair.other, pair.trainer.network,
                              NIN_DESC(nin_plan_desc, .max_batch = 6)));
}

static void free_pair(void)
{
    nin_plan_destroy(pair.predictor);
    nin_plan_destroy(pair.other);
    rig_free(&pair.trainer);
}

static nin_status forward(nin_plan *plan)
{
    nin_batch_desc batch = {
        .struct_size = sizeof batch, .images = pair.trainer.images, .dtype = NIN_F32, .count = 6};

    return nin_plan_forward(plan, &batch);
}

static nin_status step(void)
{
    nin_batch_desc batch = {
        .struct_size = sizeof batch, .images = pair.trainer.images, .dtype = NIN_F32, .count = 6};

    return nin_plan_step(NULL, pair.trainer.plan, pair.trainer.optimizer, &batch,
                         pair.trainer.labels);
}

static void *step_elsewhere(void *nothing)
{
    (void)nothing;
    pair.status = step();
    return NULL;
}

static void *predict_elsewhere(void *nothing)
{
    (void)nothing;
    pair.status = forward(pair.predictor);
    return NULL;
}

/* Another thread stands in the middle of its call until release. */
static pthread_t hold(void *(*call)(void *))
{
    pthread_t thread;

    atomic_store(&hold_runs, 1);
    start(&thread, call, NULL);
    wait_for_runs(1);
    return thread;
}

static void release(pthread_t thread)
{
    atomic_store(&hold_runs, 0);
    pthread_join(thread, NULL);
    ck_assert_int_eq(pair.status, NIN_OK);
}

START_TEST(step_keeps_all_out)
{
    nin_layer *layer;
    uint64_t version;
    float bias[8];
    pthread_t thread;

    make_pair();
    layer = nin_network_find(pair.trainer.network, "one.conv");
    version = nin_network_parameter_version(pair.trainer.network);
    thread = hold(step_elsewhere);
    for (int i = 0; i < 100; i++) {
        ASSERT_FAILS(NIN_BUSY, "the network is being", forward(pair.predictor));
        ASSERT_FAILS(NIN_BUSY, "the network is being", nin_layer_read(layer, NIN_BIAS, bias, 8));
        ASSERT_FAILS(NIN_BUSY, "the network is being", nin_layer_write(layer, NIN_BIAS, bias, 8));
        ASSERT_FAILS(NIN_BUSY, "the network is being",
                     nin_network_initialise(pair.trainer.network, NULL, 1));
        ASSERT_FAILS(NIN_BUSY, "the plan is being", step());
        ASSERT_FAILS(NIN_BUSY, "the plan is being", forward(pair.trainer.plan));
    }
    ck_assert_uint_eq(nin_network_parameter_version(pair.trainer.network), version);
    release(thread);
    ck_assert_uint_eq(nin_network_parameter_version(pair.trainer.network), version + 1);
    ASSERT_OK(forward(pair.predictor));
    ASSERT_OK(nin_layer_read(layer, NIN_BIAS, bias, 8));
    ASSERT_OK(step());
    free_pair();
}
END_TEST

START_TEST(prediction_keeps_changes_out)
{
    nin_layer *layer;
    float bias[8] = {0.5f}, scores[6 * 5];
    pthread_t thread;

    make_pair();
    layer = nin_network_find(pair.trainer.network, "one.conv");
    rig_batch(&pair.trainer, 0, 6);
    thread = hold(predict_elsewhere);
    for (int i = 0; i < 100; i++) {
        ASSERT_FAILS(NIN_BUSY, "the network is being", step());
        ASSERT_FAILS(NIN_BUSY, "the network is being", nin_layer_write(layer, NIN_BIAS, bias, 8));
        ASSERT_FAILS(NIN_BUSY, "the network is being",
                     nin_network_initialise(pair.trainer.network, NULL, 1));
        ASSERT_FAILS(NIN_BUSY, "the plan is being", forward(pair.predictor));
        ASSERT_FAILS(NIN_BUSY, "the plan is being", nin_plan_scores(pair.predictor, scores, 30));
        ASSERT_OK(nin_layer_read(layer, NIN_BIAS, bias, 8));
    }
    release(thread);

    /* readers share */
    thread = hold(predict_elsewhere);
    atomic_store(&hold_runs, 0);
    ASSERT_OK(forward(pair.other));
    release(thread);
    ASSERT_OK(nin_plan_scores(pair.predictor, scores, 30));
    ASSERT_OK(step());
    free_pair();
}
END_TEST

/* A call that found the network busy leaves its plan as it was. */
START_TEST(busy_leaves_scores)
{
    float before[6 * 5], after[6 * 5];
    pthread_t thread;

    make_pair();
    rig_batch(&pair.trainer, 0, 6);
    ASSERT_OK(forward(pair.predictor));
    ASSERT_OK(nin_plan_scores(pair.predictor, before, 30));
    thread = hold(step_elsewhere);
    rig_batch(&pair.trainer, 0, 6);
    ck_assert_int_eq(forward(pair.predictor), NIN_BUSY);
    ASSERT_OK(nin_plan_scores(pair.predictor, after, 30));
    ck_assert_mem_eq(before, after, sizeof before);
    release(thread);
    free_pair();
}
END_TEST

/* ---- all at once --------------------------------------------------------------------------- */

enum {
    IMAGES = 5,
    MAX_VERSIONS = 20000,
    LEAST = 10
};

/* One training and two predicting threads on one network. Each prediction is noted under the
 * parameter version that it ran on. */
static struct {
    struct rig rig;
    nin_plan *plans[2];
    uint64_t first_version;
    uint64_t scores[2][MAX_VERSIONS]; /* a hash; 0: none */
    atomic_int steps, busy_steps, predictions, busy_predictions;
    atomic_int failures; /* a status that is neither OK nor BUSY, or other bits of one version */
    atomic_bool stop;
} crowd;

static const float *crowd_images(void)
{
    static float images[IMAGES * 2 * 16 * 16];

    if (images[0] == 0.0f)
        nin__rng_uniform(images, sizeof images / sizeof *images, 1.0, 8, 1);
    return images;
}

/* The scores' bits and the parameter version; NIN_BUSY if a step is in the way. */
static nin_status crowd_predict(nin_plan *plan, uint64_t *hash, uint64_t *version)
{
    float scores[IMAGES * 5];
    nin_status status =
        nin_plan_forward(plan, NIN_DESC(nin_batch_desc, .images = crowd_images(), .count = IMAGES));

    if (status == NIN_OK)
        status = nin_plan_scores(plan, scores, IMAGES * 5);
    *hash = rig_hash(RIG_HASH, scores, sizeof scores);
    *version = plan->run_version;
    return status;
}

static void note(int who, uint64_t hash, uint64_t version)
{
    uint64_t number = version - crowd.first_version;

    if (number >= MAX_VERSIONS ||
        (crowd.scores[who][number] != 0 && crowd.scores[who][number] != hash))
        atomic_fetch_add(&crowd.failures, 1);
    else
        crowd.scores[who][number] = hash;
}

static void *crowd_serve(void *argument)
{
    int who = *(int *)argument;

    while (!atomic_load(&crowd.stop)) {
        uint64_t hash, version;
        nin_status status = crowd_predict(crowd.plans[who], &hash, &version);

        if (status == NIN_OK)
            note(who, hash, version);
        else if (status != NIN_BUSY)
            atomic_fetch_add(&crowd.failures, 1);
        atomic_fetch_add(status == NIN_OK ? &crowd.predictions : &crowd.busy_predictions, 1);
        pause_us(status == NIN_OK ? 200 : 20);
    }
    return NULL;
}

static void *crowd_train(void *nothing)
{
    (void)nothing;
    while (!atomic_load(&crowd.stop)) {
        int number = value(&crowd.steps);
        nin_batch_desc batch = rig_batch(&crowd.rig, number, 8);
        nin_status status =
            number + 1 < MAX_VERSIONS
                ? nin_plan_step(NULL, crowd.rig.plan, crowd.rig.optimizer, &batch, crowd.rig.labels)
                : NIN_BUSY;

        if (status != NIN_OK && status != NIN_BUSY)
            atomic_fetch_add(&crowd.failures, 1);
        atomic_fetch_add(status == NIN_OK ? &crowd.steps : &crowd.busy_steps, 1);
        pause_us(status == NIN_OK ? 300 : 20);
    }
    return NULL;
}

static const struct rig_desc crowd_rig = {.mode = NIN_TRAIN, .threads = 2, .batch = 8};

static void crowd_run(double duration)
{
    static int numbers[2] = {0, 1};
    double end = seconds() + duration, give_up = seconds() + 40.0;
    pthread_t trainer, predictors[2];

    start(&trainer, crowd_train, NULL);
    for (int i = 0; i < 2; i++)
        start(&predictors[i], crowd_serve, &numbers[i]);
    while (seconds() < end ||
           (seconds() < give_up &&
            (value(&crowd.steps) < LEAST || value(&crowd.predictions) < LEAST ||
             value(&crowd.busy_steps) == 0 || value(&crowd.busy_predictions) == 0)))
        pause_us(5000);
    atomic_store(&crowd.stop, true);
    pthread_join(trainer, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(predictors[i], NULL);
}

/* The same training again, alone: what a prediction of each version must be. */
static int crowd_check(void)
{
    uint64_t hash, version;
    nin_plan *plan = NULL;
    int compared = 0;
    struct rig rig;

    rig_make(&rig, &crowd_rig);
    ASSERT_OK(nin_plan_create(&plan, rig.network, NIN_DESC(nin_plan_desc, .max_batch = IMAGES)));
    for (int s = 0; s <= value(&crowd.steps); s++) {
        ASSERT_OK(crowd_predict(plan, &hash, &version));
        ck_assert_uint_eq(version, crowd.first_version + (uint64_t)s);
        for (int i = 0; i < 2; i++)
            if (crowd.scores[i][s] != 0) {
                ck_assert_uint_eq(crowd.scores[i][s], hash);
                compared++;
            }
        rig_step(&rig, s, 8);
    }
    nin_plan_destroy(plan);
    rig_free(&rig);
    return compared;
}

START_TEST(training_and_predicting)
{
    rig_make(&crowd.rig, &crowd_rig);
    crowd.first_version = nin_network_parameter_version(crowd.rig.network);
    crowd_images();
    for (int i = 0; i < 2; i++)
        ASSERT_OK(nin_plan_create(&crowd.plans[i], crowd.rig.network,
                                  NIN_DESC(nin_plan_desc, .max_batch = IMAGES)));
    crowd_run(1.5);
    ck_assert_int_eq(value(&crowd.failures), 0);
    ck_assert_int_ge(value(&crowd.steps), LEAST);
    ck_assert_int_ge(value(&crowd.predictions), LEAST);
    ck_assert_int_gt(value(&crowd.busy_steps), 0);
    ck_assert_int_gt(value(&crowd.busy_predictions), 0);
    ck_assert_uint_eq(nin_network_parameter_version(crowd.rig.network),
                      crowd.first_version + (uint64_t)value(&crowd.steps));
    ck_assert_int_ge(crowd_check(), 2);
    for (int i = 0; i < 2; i++)
        nin_plan_destroy(crowd.plans[i]);
    rig_free(&crowd.rig);
}
END_TEST

/* Plans come and go while others run. */
static void *plans_come_and_go(void *argument)
{
    nin_network *network = argument;

    for (int i = 0; i < (SANITIZED ? 10 : 30); i++) {
        uint64_t hash, version;
        nin_plan *plan = NULL;

        if (nin_plan_create(&plan, network, NIN_DESC(nin_plan_desc, .max_batch = IMAGES)) != NIN_OK)
            return network;
        if (crowd_predict(plan, &hash, &version) != NIN_OK)
            return network;
        nin_plan_destroy(plan);
    }
    return NULL;
}

START_TEST(plans_made_together)
{
    nin_context *context = make_context();
    nin_network *network = rig_network(context, RIG_SMALL);
    pthread_t threads[PREDICTORS];
    void *failed = NULL;

    crowd_images();
    for (int i = 0; i < PREDICTORS; i++)
        start(&threads[i], plans_come_and_go, network);
    for (int i = 0; i < PREDICTORS; i++) {
        pthread_join(threads[i], &failed);
        ck_assert_ptr_null(failed);
    }
    ck_assert_ptr_null(network->prepared);
    nin_network_destroy(network);
    nin_context_destroy(context);
}
END_TEST

Suite *sharing_suite(void)
{
    Suite *suite = suite_create("sharing");
    TCase *tc = tcase_create("weights");

    tcase_add_test(tc, predictions_together);
    tcase_add_test(tc, weights_prepared_once);
    tcase_add_test(tc, training_prepares_no_form_again);
    tcase_add_test(tc, one_copy_of_weights);
    suite_add_tcase(suite, tc);

    tc = tcase_create("busy");
    tcase_add_test(tc, step_keeps_all_out);
    tcase_add_test(tc, prediction_keeps_changes_out);
    tcase_add_test(tc, busy_leaves_scores);
    suite_add_tcase(suite, tc);

    tc = tcase_create("crowd");
    tcase_add_test(tc, training_and_predicting);
    tcase_add_test(tc, plans_made_together);
    suite_add_tcase(suite, tc);
    return suite;
}
