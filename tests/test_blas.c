/* SPDX-License-Identifier: MIT */
/* OpenBLAS's number of threads: 1 inside a run, what it was outside, and no part of the bits. With
 * its OpenMP build each thread has its own: 1 in every worker, of which the caller is one, and what
 * it was behind the run. (To test with that build: LD_LIBRARY_PATH with the folder of its
 * libopenblas.so.0.) */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "rig.h"
#include "sanitized.h"
#include "suites.h"

#include "cpu/cpu.h"

#include <cblas.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What openblas_get_parallel answers. */
enum {
    PTHREADS = 1,
    OPENMP = 2
};

/* How many threads a product of this thread would have. */
static int threads_here(void)
{
    void *symbol =
        openblas_get_parallel() == OPENMP ? dlsym(RTLD_DEFAULT, "omp_get_max_threads") : NULL;
    int (*of_openmp)(void);

    memcpy(&of_openmp, &symbol, sizeof of_openmp);
    return of_openmp == NULL ? openblas_get_num_threads() : of_openmp();
}

/* ---- a look into a run --------------------------------------------------------------------- */

/* The input's kernel, but it looks at the setting, and waits as long as the run is held. */
static struct cpu_algorithm looking;
static void (*look_away)(const struct cpu_call *call);
static atomic_int looks;
static atomic_int others; /* looks that found another number than 1 */
enum {
    STEPS = 16
};
static atomic_uint held; /* bit s: the workers of step s wait in it */
static atomic_int held_workers[STEPS];

static int value(atomic_int *number)
{
    return atomic_load(number);
}

static void pause_a_little(void)
{
    const struct timespec time = {.tv_nsec = 100000};

    nanosleep(&time, NULL);
}

static void look(const struct cpu_call *call)
{
    const int64_t step = call->run->step;

    atomic_fetch_add(&looks, 1);
    if (threads_here() != 1)
        atomic_fetch_add(&others, 1);
    atomic_fetch_add(&held_workers[step], 1);
    while ((atomic_load(&held) >> step) & 1u)
        pause_a_little();
    atomic_fetch_sub(&held_workers[step], 1);
    look_away(call);
}

static void look_into(nin_plan *plan)
{
    struct cpu_op *op = &plan->executable->ops[0];

    looking = *op->algorithm;
    if (looking.forward != look)
        look_away = looking.forward;
    looking.forward = look;
    op->algorithm = &looking;
}

static void make_rig(struct rig *rig)
{
    rig_make(rig,
             &(struct rig_desc){
                 .mode = NIN_TRAIN, .threads = 2, .batch = 20, .algorithm = NIN_ALGORITHM_GEMM});
    look_into(rig->plan);
    atomic_store(&looks, 0);
    atomic_store(&others, 0);
}

/* The settings to be tried: those that this build of OpenBLAS can have. */
static bool can_set(int threads)
{
    openblas_set_num_threads(threads);
    return openblas_get_num_threads() == threads;
}

START_TEST(setting_is_kept)
{
    for (int threads = 1; threads <= 3; threads++) {
        struct rig rig;
        float *scores;
        size_t values;

        if (!can_set(threads))
            continue;
        make_rig(&rig);
        ck_assert_int_eq(threads_here(), threads);
        for (int s = 0; s < 3; s++) {
            rig_step(&rig, s, 20);
            ck_assert_int_eq(threads_here(), threads);
        }
        rig_backward(&rig, 3, 17);
        ck_assert_int_eq(threads_here(), threads);
        scores = rig_scores(rig.plan, 17, &values);
        free(scores);
        ck_assert_int_gt(value(&looks), 0);
        ck_assert_int_eq(value(&others), 0);
        rig_free(&rig);
        ck_assert_int_eq(threads_here(), threads);
    }
}
END_TEST

/* A refused call changes nothing either. */
START_TEST(setting_is_kept_by_failures)
{
    nin_batch_desc batch;
    struct rig rig;

    ck_assert(can_set(2));
    make_rig(&rig);
    batch = rig_batch(&rig, 0, 20);
    rig.labels[3] = 99;
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "label 99",
                 nin_plan_step(NULL, rig.plan, rig.optimizer, &batch, rig.labels));
    rig.labels[3] = 1;
    for (size_t i = 0; i < 100; i++)
        rig.images[i] = 3e38f;
    ck_assert_int_eq(nin_plan_step(NULL, rig.plan, rig.optimizer, &batch, rig.labels),
                     NIN_NOT_FINITE);
    ck_assert_int_eq(openblas_get_num_threads(), 2);
    rig_free(&rig);
}
END_TEST

/* ---- runs that overlap --------------------------------------------------------------------- */

struct stepper {
    struct rig rig;
    nin_batch_desc batch;
    pthread_t thread;
    nin_status status;
};

static void *serve(void *argument)
{
    struct stepper *self = argument;

    self->status =
        nin_plan_step(NULL, self->rig.plan, self->rig.optimizer, &self->batch, self->rig.labels);
    return NULL;
}

/* Begins a step, in which both workers wait. */
static void begin(struct stepper *stepper, int64_t step)
{
    make_rig(&stepper->rig);
    stepper->batch = rig_batch(&stepper->rig, step, 20);
    atomic_fetch_or(&held, 1u << step);
    ck_assert_int_eq(pthread_create(&stepper->thread, NULL, serve, stepper), 0);
    while (value(&held_workers[step]) < 2)
        pause_a_little();
}

/* Lets it go on to its end. */
static void end(struct stepper *stepper)
{
    atomic_fetch_and(&held, ~(1u << stepper->batch.step));
    pthread_join(stepper->thread, NULL);
    ck_assert_int_eq(stepper->status, NIN_OK);
    rig_free(&stepper->rig);
}

/* The setting that the caller sees during a run. */
static void check_inside(int outside)
{
    ck_assert_int_eq(openblas_get_num_threads(), openblas_get_parallel() == PTHREADS ? 1 : outside);
}

/* The first run ends last: what it found is put back then, and not before. */
START_TEST(runs_in_a_run)
{
    for (int threads = 2; threads <= 3; threads++) {
        struct stepper stepper;
        struct rig rig;

        if (!can_set(threads))
            continue;
        make_rig(&rig);
        begin(&stepper, 7);
        check_inside(threads);
        for (int s = 0; s < 3; s++) {
            rig_step(&rig, s, 20);
            check_inside(threads);
        }
        end(&stepper);
        ck_assert_int_eq(openblas_get_num_threads(), threads);
        if (openblas_get_parallel() == PTHREADS)
            ck_assert_int_eq(value(&others), 0);
        rig_free(&rig);
    }
}
END_TEST

/* The first run ends first: the setting stays 1 until the second one has ended too. */
START_TEST(runs_crosswise)
{
    struct stepper first, second;

    if (!can_set(2))
        return;
    begin(&first, 7);
    begin(&second, 8);
    check_inside(2);
    end(&first);
    check_inside(2);
    end(&second);
    ck_assert_int_eq(openblas_get_num_threads(), 2);
}
END_TEST

/* ---- so many workers ----------------------------------------------------------------------- */

static nin_status plan_of(nin_plan **out, int32_t threads, nin_algorithm algorithm)
{
    nin_context *context = NULL;
    nin_network *network;
    nin_status status;

    ASSERT_OK(nin_context_create(&context, NIN_DESC(nin_context_desc, .threads = threads)));
    network = rig_network(context, RIG_SMALL);
    status = nin_plan_create(out, network,
                             NIN_DESC(nin_plan_desc, .max_batch = 2, .algorithm = algorithm));
    nin_network_destroy(network);
    nin_context_destroy(context);
    return status;
}

/* OpenBLAS itself would print, or crash, some hundred threads later. A plan that is refused, or
 * uses no OpenBLAS, counts for nothing, and one that goes away no longer. */
START_TEST(workers_of_all_plans_have_a_limit)
{
    nin_plan *many = NULL, *few = NULL, *direct = NULL, *last = NULL;

    ASSERT_OK(plan_of(&many, 120, NIN_ALGORITHM_GEMM));
    ASSERT_OK(plan_of(&direct, 9, NIN_ALGORITHM_DIRECT));
    for (int i = 0; i < 2; i++)
        ASSERT_FAILS(NIN_OUT_OF_MEMORY, "9 workers beside the 120 of other plans",
                     plan_of(&last, 9, NIN_ALGORITHM_GEMM));
    ck_assert_ptr_null(last);
    ASSERT_OK(plan_of(&few, 8, NIN_ALGORITHM_GEMM));
    ASSERT_FAILS(NIN_OUT_OF_MEMORY, "have at most 128", plan_of(&last, 1, NIN_ALGORITHM_GEMM));
    nin_plan_destroy(direct);
    ASSERT_FAILS(NIN_OUT_OF_MEMORY, "have at most 128", plan_of(&last, 1, NIN_ALGORITHM_GEMM));
    nin_plan_destroy(many);
    nin_plan_destroy(few);
    ASSERT_OK(plan_of(&last, 128, NIN_ALGORITHM_GEMM));
    nin_plan_destroy(last);
}
END_TEST

/* ---- the bits ------------------------------------------------------------------------------ */

/* Names the file descriptor that a child process writes the bits of a short training to. */
static const char channel[] = "NIN_TEST_BLAS_BITS";

/* Writes them if there is a parent that wants to know. */
START_TEST(tell_bits)
{
    const char *descriptor = getenv(channel);
    struct rig rig;
    FILE *parent;

    if (descriptor == NULL)
        return;
    parent = fdopen(atoi(descriptor), "w");
    ck_assert_ptr_nonnull(parent);
    rig_make(&rig, &(struct rig_desc){.net = RIG_MNIST,
                                      .mode = NIN_TRAIN,
                                      .threads = 2,
                                      .batch = 16,
                                      .algorithm = NIN_ALGORITHM_GEMM});
    fprintf(parent, "%d", openblas_get_num_threads());
    for (int s = 0; s < 4; s++) {
        nin_result result = rig_step(&rig, s, 16);

        fprintf(parent, " %016llx", (unsigned long long)rig_state(&rig, &result));
    }
    rig_free(&rig);
    ck_assert_int_eq(fclose(parent), 0);
}
END_TEST

/* In the child: this program again, with that test only. */
static void become_teller(const char *threads, int descriptor)
{
    char program[4096], number[16];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);

    if (length < 0)
        _exit(127);
    program[length] = '\0';
    snprintf(number, sizeof number, "%d", descriptor);
    setenv("OPENBLAS_NUM_THREADS", threads, 1);
    setenv("OMP_NUM_THREADS", threads, 1); /* what the OpenMP build listens to */
    setenv(channel, number, 1);
    setenv("CK_FORK", "no", 1);
    setenv("CK_RUN_SUITE", "blas", 1);
    setenv("CK_RUN_CASE", "tell_bits", 1);
    unsetenv("CK_EXCLUDE_TAGS");
    unsetenv("CK_INCLUDE_TAGS");
    unsetenv("CK_LOG_FILE_NAME");
    unsetenv("CK_XML_LOG_FILE_NAME");
    unsetenv("CK_TAP_LOG_FILE_NAME");
    if (freopen("/dev/null", "w", stdout) != NULL)
        execl(program, program, (char *)NULL);
    _exit(127);
}

/* The bits that a process with this environment gets, and OpenBLAS's number of threads in it. */
static int ask_bits(const char *threads, char bits[80])
{
    int ends[2], status = 0, found = 0;
    FILE *answer;
    pid_t child;

    ck_assert_int_eq(pipe(ends), 0);
    fflush(NULL);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0)
        become_teller(threads, ends[1]);
    close(ends[1]);
    answer = fdopen(ends[0], "r");
    ck_assert_ptr_nonnull(answer);
    ck_assert_int_eq(fscanf(answer, "%d %79[0-9a-f ]", &found, bits), 2);
    fclose(answer);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    return found;
}

START_TEST(bits_of_environments)
{
    char one[80], two[80];
    int threads_one = ask_bits("1", one), threads_two = ask_bits("2", two);

    ck_assert_int_eq(threads_one, 1);
    if (threads_two == 1)
        fprintf(stderr, "OpenBLAS takes no second thread here: not tested\n");
    ck_assert_uint_eq(strlen(one), 4 * 17 - 1);
    ck_assert_str_eq(one, two);
}
END_TEST

Suite *blas_suite(void)
{
    Suite *suite = suite_create("blas");
    TCase *tc = tcase_create("setting");

    tcase_add_test(tc, setting_is_kept);
    tcase_add_test(tc, setting_is_kept_by_failures);
    tcase_add_test(tc, runs_in_a_run);
    tcase_add_test(tc, runs_crosswise);
    suite_add_tcase(suite, tc);

    tc = tcase_create("workers");
    tcase_add_test(tc, workers_of_all_plans_have_a_limit);
    suite_add_tcase(suite, tc);

    tc = tcase_create("tell_bits");
    tcase_add_test(tc, tell_bits);
    suite_add_tcase(suite, tc);

    tc = tcase_create("bits");
    tcase_add_test(tc, bits_of_environments);
    suite_add_tcase(suite, tc);
    return suite;
}
