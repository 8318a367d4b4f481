/* SPDX-License-Identifier: MIT */
/* A run allocates nothing: neither from malloc and its family, on no thread, nor from the kernel;
 * so it goes on where there is nothing left to allocate. */
#define _GNU_SOURCE /* syscall, RLIMIT_AS */
#include "interpose.h"
#include "rig.h"
#include "suites.h"

#include "cpu/cpu.h"

#include <cblas.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <nin/trainer.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- things to do fifty times -------------------------------------------------------------- */

enum {
    STEPS = 50,
    PARTS = 26,
    TRAINER_BATCH = 4,
    IMAGES = TRAINER_BATCH * (STEPS + 1)
};

/* What a test works on; each uses a part of it. */
struct stage {
    struct rig rig;
    int32_t count; /* images of a step */
    nin_dataset *dataset;
    nin_trainer *trainer;
    float *pixels;
    int32_t *classes;
    int32_t step;
};

static nin_status give_sample(void *image, int32_t *label, int64_t index, void *user)
{
    const struct stage *stage = user;

    memset(image, 0, nin__shape_size(stage->rig.plan->input) * sizeof(float));
    *(float *)image = 0.01f * (float)index;
    *label = (int32_t)(index % 5);
    return NIN_OK;
}

static void prepare_rig(struct stage *stage, enum rig_net net, int32_t batch)
{
    memset(stage, 0, sizeof *stage);
    stage->count = batch;
    rig_make(&stage->rig,
             &(struct rig_desc){
                 .net = net, .mode = NIN_TRAIN, .threads = 3, .batch = batch, .input_gradient = 1});
}

static void prepare_small(struct stage *stage)
{
    prepare_rig(stage, RIG_SMALL, PARTS);
}

static void prepare_dense(struct stage *stage)
{
    prepare_rig(stage, RIG_DENSE, 70);
}

static void prepare_preset(struct stage *stage)
{
    prepare_rig(stage, RIG_MNIST, 64);
}

/* In bf16, where the processor has it. */
static void prepare_bf16(struct stage *stage)
{
    memset(stage, 0, sizeof *stage);
    stage->count = 64;
    rig_make(&stage->rig,
             &(struct rig_desc){.net = RIG_MNIST,
                                .mode = NIN_TRAIN,
                                .threads = 3,
                                .batch = 64,
                                .precision = rig_bf16(NIN_BF16) == NULL ? NIN_FP32 : NIN_BF16});
}

static void prepare_arrays_trainer(struct stage *stage)
{
    const size_t image = 2 * 16 * 16;

    prepare_rig(stage, RIG_SMALL, TRAINER_BATCH);
    stage->pixels = calloc(IMAGES * image, sizeof *stage->pixels);
    stage->classes = calloc(IMAGES, sizeof *stage->classes);
    ck_assert(stage->pixels != NULL && stage->classes != NULL);
    for (int32_t n = 0; n < IMAGES; n++)
        ASSERT_OK(give_sample(stage->pixels + (size_t)n * image, &stage->classes[n], n, stage));
    ASSERT_OK(nin_dataset_create_arrays(
        &stage->dataset, NIN_DESC(nin_arrays_desc, .images = stage->pixels, .dtype = NIN_F32,
                                  .labels = stage->classes, .count = IMAGES, .channels = 2,
                                  .height = 16, .width = 16)));
    ASSERT_OK(nin_trainer_create(&stage->trainer, stage->rig.plan, stage->rig.optimizer, NULL,
                                 stage->dataset, NULL));
}

static void prepare_callback_trainer(struct stage *stage)
{
    prepare_rig(stage, RIG_SMALL, TRAINER_BATCH);
    ASSERT_OK(nin_dataset_create_callback(&stage->dataset,
                                          NIN_DESC(nin_callback_desc, .sample = give_sample,
                                                   .user = stage, .count = IMAGES, .channels = 2,
                                                   .height = 16, .width = 16, .dtype = NIN_F32)));
    ASSERT_OK(nin_trainer_create(&stage->trainer, stage->rig.plan, stage->rig.optimizer, NULL,
                                 stage->dataset, NULL));
}

static void finish(struct stage *stage)
{
    nin_trainer_destroy(stage->trainer);
    nin_dataset_destroy(stage->dataset);
    rig_free(&stage->rig);
    free(stage->pixels);
    free(stage->classes);
}

static bool plan_step(struct stage *stage)
{
    nin_batch_desc batch = rig_batch(&stage->rig, stage->step++, stage->count);

    return nin_plan_step(NULL, stage->rig.plan, stage->rig.optimizer, &batch, stage->rig.labels) ==
           NIN_OK;
}

static bool trainer_step(struct stage *stage)
{
    return nin_trainer_step(NULL, stage->trainer) == NIN_OK;
}

/* Forward, backward and update, and everything that can be read in between. */
static bool parts(struct stage *stage)
{
    static float scores[PARTS * 5], pixels[PARTS * 2 * 16 * 16];
    nin_batch_desc batch = rig_batch(&stage->rig, stage->step++, PARTS);
    nin_plan *plan = stage->rig.plan;
    int32_t classes[PARTS];
    nin_tensor *tensor;

    return nin_plan_forward(plan, &batch) == NIN_OK &&
           nin_plan_scores(plan, scores, PARTS * 5) == NIN_OK &&
           nin_plan_log_probabilities(plan, scores, PARTS * 5) == NIN_OK &&
           nin_plan_classes(plan, classes, PARTS) == NIN_OK &&
           nin_plan_backward(NULL, plan,
                             NIN_DESC(nin_backward_desc, .labels = stage->rig.labels)) == NIN_OK &&
           nin_plan_input_gradient(plan, pixels, sizeof pixels / sizeof *pixels) == NIN_OK &&
           nin_plan_gradient(&tensor, plan, NULL, NIN_WEIGHT) == NIN_OK &&
           nin_optimizer_momentum(&tensor, stage->rig.optimizer, NULL, NIN_WEIGHT) == NIN_OK &&
           nin_optimizer_update(stage->rig.optimizer, plan) == NIN_OK;
}

/* ---- malloc and its family ----------------------------------------------------------------- */

/* Calls of the malloc family during steps 2 to `steps`. */
static int64_t count_calls(void (*prepare)(struct stage *stage), bool (*step)(struct stage *stage),
                           int32_t steps)
{
    struct stage stage;
    int64_t before, calls;

    prepare(&stage);
    ck_assert_msg(step(&stage), "%s", nin_last_error());
    before = interpose_counts().calls;
    for (int32_t s = 2; s <= steps; s++)
        if (!step(&stage))
            ck_abort_msg("step %d: %s", s, nin_last_error());
    calls = interpose_counts().calls - before;
    finish(&stage);
    return calls;
}

START_TEST(steps_call_no_malloc)
{
    if (!interpose_works())
        return;
    ck_assert_int_eq(count_calls(prepare_small, plan_step, STEPS), 0);
    ck_assert_int_eq(count_calls(prepare_dense, plan_step, STEPS), 0);
    ck_assert_int_eq(count_calls(prepare_preset, plan_step, 3), 0);
    ck_assert_int_eq(count_calls(prepare_bf16, plan_step, 3), 0);
    ck_assert_int_eq(count_calls(prepare_arrays_trainer, trainer_step, STEPS), 0);
    ck_assert_int_eq(count_calls(prepare_callback_trainer, trainer_step, STEPS), 0);
    ck_assert_int_eq(count_calls(prepare_small, parts, STEPS), 0);
}
END_TEST

static struct cpu_algorithm greedy; /* an algorithm, but its forward allocates */
static void (*modest)(const struct cpu_call *call);

static void allocate_and_forward(const struct cpu_call *call)
{
    void *volatile block = malloc(1);

    free(block);
    modest(call);
}

static void prepare_greedy(struct stage *stage)
{
    struct cpu_op *op;

    prepare_small(stage);
    op = &stage->rig.plan->executable->ops[1];
    greedy = *op->algorithm;
    modest = greedy.forward;
    greedy.forward = allocate_and_forward;
    op->algorithm = &greedy;
}

/* That the test above can fail. */
START_TEST(counter_sees_workers)
{
    if (interpose_works())
        ck_assert_int_ge(count_calls(prepare_greedy, plan_step, STEPS), 2 * (STEPS - 1));
}
END_TEST

/* ---- the kernel ---------------------------------------------------------------------------- */

/* From now on any thread of the process that asks the kernel for memory or a thread ends it. */
static bool forbid_memory(void)
{
    static const int forbidden[] = {
        SYS_mmap,   SYS_munmap, SYS_mremap, SYS_mprotect, SYS_brk, SYS_clone,
#ifdef SYS_clone3
        SYS_clone3,
#endif
#ifdef SYS_fork
        SYS_fork,   SYS_vfork,
#endif
    };
    enum {
        COUNT = sizeof forbidden / sizeof forbidden[0]
    };
    struct sock_filter code[1 + 2 * COUNT + 1];
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    size_t next = 0;

    code[next++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < COUNT; i++) {
        code[next++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)forbidden[i], 0, 1);
        code[next++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    }
    code[next++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

enum end {
    FINE,
    FAILED,
    KILLED,
    NO_FILTER
};

/* OpenBLAS starts its own threads anew in a child, when they are first asked for, and each of them
 * takes a buffer in its own time. They are no part of a step: waits until all have done so. */
static void wake_blas(void)
{
    enum {
        SIZE = 512
    };
    float *a = calloc(SIZE * SIZE, sizeof *a), *c = calloc(SIZE * SIZE, sizeof *c);

    ck_assert(a != NULL && c != NULL);
    openblas_set_num_threads(openblas_get_num_threads());
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, SIZE, SIZE, SIZE, 1.0f, a, SIZE, a, SIZE,
                0.0f, c, SIZE);
    free(a);
    free(c);
}

/* The first step of a child process is free, steps 2 to `steps` are made under the filter. */
static enum end run_filtered(void (*prepare)(struct stage *stage),
                             bool (*step)(struct stage *stage), int32_t steps)
{
    int status = 0;
    pid_t child;

    fflush(NULL);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        struct stage stage;
        bool fine;

        wake_blas();
        prepare(&stage);
        fine = step(&stage);
        if (!forbid_memory())
            _exit(NO_FILTER);
        for (int32_t s = 2; fine && s <= steps; s++)
            fine = step(&stage);
        _exit(fine ? FINE : FAILED);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status))
        ck_assert_int_eq(WTERMSIG(status), SIGSYS);
    return WIFSIGNALED(status) ? KILLED : (enum end)WEXITSTATUS(status);
}

static bool do_nothing(struct stage *stage)
{
    (void)stage;
    return true;
}

/* A sanitizer and valgrind ask the kernel for memory whenever they like; a container may forbid
 * filters. */
static bool can_filter(void)
{
    enum end end;

    if (!interpose_works())
        return false;
    end = run_filtered(prepare_small, do_nothing, 2);
    if (end == NO_FILTER)
        fprintf(stderr, "no filter of system calls to be had: not tested\n");
    else
        ck_assert_int_eq(end, FINE);
    return end == FINE;
}

START_TEST(steps_ask_kernel_for_nothing)
{
    if (!can_filter())
        return;
    ck_assert_int_eq(run_filtered(prepare_small, plan_step, STEPS), FINE);
    ck_assert_int_eq(run_filtered(prepare_dense, plan_step, STEPS), FINE);
    ck_assert_int_eq(run_filtered(prepare_preset, plan_step, 4), FINE);
    ck_assert_int_eq(run_filtered(prepare_arrays_trainer, trainer_step, STEPS), FINE);
    ck_assert_int_eq(run_filtered(prepare_callback_trainer, trainer_step, STEPS), FINE);
    ck_assert_int_eq(run_filtered(prepare_small, parts, STEPS), FINE);
}
END_TEST

static bool map(struct stage *stage)
{
    (void)stage;
    return mmap(NULL, 1 << 16, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}

static bool allocate(struct stage *stage)
{
    (void)stage;
    for (int i = 0; i < 200; i++) { /* beyond what a heap has to spare */
        void *volatile block = malloc(1 << 16);

        if (block == NULL)
            return false;
    }
    return true;
}

static void *serve(void *argument)
{
    return argument;
}

static bool start_thread(struct stage *stage)
{
    pthread_t thread;

    (void)stage;
    return pthread_create(&thread, NULL, serve, NULL) == 0;
}

/* The other way round: maps in a worker that existed before the filter. */
static void map_and_forward(const struct cpu_call *call)
{
    map(NULL);
    modest(call);
}

static void prepare_mapper(struct stage *stage)
{
    prepare_greedy(stage);
    greedy.forward = map_and_forward;
}

/* That the test above can fail. */
START_TEST(filter_sees_all)
{
    if (!can_filter())
        return;
    ck_assert_int_eq(run_filtered(prepare_small, map, 2), KILLED);
    ck_assert_int_eq(run_filtered(prepare_small, allocate, 2), KILLED);
    ck_assert_int_eq(run_filtered(prepare_small, start_thread, 2), KILLED);
    ck_assert_int_eq(run_filtered(prepare_mapper, plan_step, 2), KILLED);
}
END_TEST

/* ---- no address space ---------------------------------------------------------------------- */

/* Allows the process `more` bytes of address space beyond what it has. */
static void limit(size_t more)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    struct rlimit limit;

    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%lu", &pages), 1);
    fclose(file);
    limit.rlim_cur = limit.rlim_max = pages * (size_t)sysconf(_SC_PAGESIZE) + more;
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
}

/* Runs `scene` in a child, because a limit stays. OpenBLAS never comes back when it fails to map,
 * so the child has a time to be done in. Gives whether the scene was played to its end. */
static bool in_child(bool (*scene)(size_t more), size_t more)
{
    int status = 0;
    pid_t child;

    fflush(NULL);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        signal(SIGALRM, SIG_DFL); /* Check has a handler */
        alarm(20);
        wake_blas();
        _exit(scene(more) ? FINE : FAILED);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status), "with %zu MiB more: killed by signal %d", more >> 20,
                  WTERMSIG(status));
    ck_assert_int_le(WEXITSTATUS(status), FAILED);
    return WEXITSTATUS(status) == FINE;
}

/* A plan that exists needs nothing more. */
static bool step_without_space(size_t more)
{
    struct rig rig;

    rig_make(&rig, &(struct rig_desc){.mode = NIN_TRAIN, .threads = 4, .batch = 64});
    limit(more);
    for (int s = 0; s < 25; s++)
        rig_step(&rig, s, 64);
    return true;
}

START_TEST(steps_need_no_space)
{
    if (interpose_works())
        for (int i = 0; i < 4; i++)
            ck_assert(in_child(step_without_space, 0));
}
END_TEST

/* A plan is made and works, or it is refused in order. */
static bool plan_without_space(size_t more)
{
    nin_plan *const untouched = (nin_plan *)(void *)&more, *plan = untouched;
    struct rig rig;
    nin_status status;

    rig_make(&rig, &(struct rig_desc){.mode = NIN_TRAIN, .threads = 4, .batch = 64});
    nin_plan_destroy(rig.plan);
    rig.plan = NULL;
    limit(more);
    status = nin_plan_create(&plan, rig.network,
                             NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = 64));
    if (status != NIN_OK) {
        if (status != NIN_OUT_OF_MEMORY || plan != untouched)
            _exit(KILLED);
        return false;
    }
    rig.plan = plan;
    for (int s = 0; s < 5; s++)
        rig_step(&rig, s, 64);
    return true;
}

START_TEST(plans_without_space)
{
    const size_t step = (size_t)64 << 20, most = 16 * step;

    if (!interpose_works())
        return;
    for (size_t more = 0; more < most; more += step)
        in_child(plan_without_space, more);
    ck_assert(!in_child(plan_without_space, 0));
    ck_assert(in_child(plan_without_space, most));
}
END_TEST

/* ---- pages --------------------------------------------------------------------------------- */

/* How many pages of the memory of a plan's workers there are. */
static size_t count_pages(const nin_plan *plan)
{
    static unsigned char there[1 << 16];
    const struct nin__executable *executable = plan->executable;
    size_t bytes = executable->worker_bytes * (size_t)executable->options.threads;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (bytes + page - 1) / page, count = 0;

    ck_assert_uint_eq((uintptr_t)executable->worker_memory % page, 0);
    ck_assert_uint_le(pages, sizeof there);
    ck_assert_int_eq(mincore(executable->worker_memory, bytes, there), 0);
    for (size_t k = 0; k < pages; k++)
        count += there[k] & 1;
    return count;
}

/* Nor does a step notice. */
START_TEST(a_plan_at_rest_has_no_pages)
{
    struct rig_desc desc = {.net = RIG_MNIST, .mode = NIN_TRAIN, .threads = 2, .batch = 20};
    struct rig plain, rested;
    nin_result result[2];

    rig_make(&plain, &desc);
    rig_make(&rested, &desc);
    for (int s = 0; s < 2; s++) {
        result[0] = rig_step(&plain, s, 20);
        result[1] = rig_step(&rested, s, 20);
        ck_assert_uint_gt(count_pages(rested.plan), 0);
        ASSERT_OK(nin__plan_enter(rested.plan));
        nin__plan_rest(rested.plan); /* somebody uses it */
        nin__plan_leave(rested.plan);
        ck_assert_uint_gt(count_pages(rested.plan), 0);
        nin__plan_rest(rested.plan);
        ck_assert_uint_eq(count_pages(rested.plan), 0);
    }
    ck_assert_uint_eq(rig_state(&rested, &result[1]), rig_state(&plain, &result[0]));
    rig_free(&plain);
    rig_free(&rested);
}
END_TEST

static nin_status see_none(const nin_epoch_info *info, void *user)
{
    nin_plan *const *plans = user;

    (void)info;
    ck_assert_uint_eq(count_pages(plans[0]), 0);
    ck_assert_uint_eq(count_pages(plans[1]), 0);
    return NIN_OK;
}

static nin_status see_training(const nin_step_info *info, void *user)
{
    nin_plan *const *plans = user;

    (void)info;
    ck_assert_uint_gt(count_pages(plans[0]), 0);
    ck_assert_uint_eq(count_pages(plans[1]), 0);
    return NIN_OK;
}

/* The training plan's while it trains, the test plan's while it tests. */
START_TEST(a_fit_has_the_pages_of_one_plan)
{
    struct rig rig;
    nin_plan *plans[2] = {NULL, NULL};
    nin_dataset *dataset = NULL;
    nin_trainer *trainer = NULL;
    nin_batch_desc batch;

    rig_make(&rig,
             &(struct rig_desc){.net = RIG_MNIST, .mode = NIN_TRAIN, .threads = 2, .batch = 20});
    batch = rig_batch(&rig, 0, 20);
    plans[0] = rig.plan;
    ASSERT_OK(nin_plan_create(&plans[1], rig.network, NIN_DESC(nin_plan_desc, .max_batch = 20)));
    ASSERT_OK(nin_dataset_create_arrays(
        &dataset,
        NIN_DESC(nin_arrays_desc, .images = batch.images, .dtype = batch.dtype,
                 .labels = rig.labels, .count = 20, .channels = 1, .height = 28, .width = 28)));
    ASSERT_OK(nin_trainer_create(&trainer, rig.plan, rig.optimizer, NULL, dataset, NULL));
    nin__plan_rest(plans[1]); /* a sanitizer writes to what is allocated */
    ASSERT_OK(nin_trainer_fit(NULL, trainer,
                              NIN_DESC(nin_fit_desc, .epochs = 2, .test_plan = plans[1],
                                       .test_set = dataset, .on_step = see_training,
                                       .on_epoch = see_none, .user = plans)));
    nin_trainer_destroy(trainer);
    nin_dataset_destroy(dataset);
    nin_plan_destroy(plans[1]);
    rig_free(&rig);
}
END_TEST

Suite *allocation_suite(void)
{
    Suite *suite = suite_create("allocation");
    TCase *tc = tcase_create("malloc");

    tcase_add_test(tc, steps_call_no_malloc);
    tcase_add_test(tc, counter_sees_workers);
    suite_add_tcase(suite, tc);

    tc = tcase_create("kernel");
    tcase_add_test(tc, steps_ask_kernel_for_nothing);
    tcase_add_test(tc, filter_sees_all);
    suite_add_tcase(suite, tc);

    tc = tcase_create("address_space");
    tcase_add_test(tc, steps_need_no_space);
    tcase_add_test(tc, plans_without_space);
    suite_add_tcase(suite, tc);

    tc = tcase_create("pages");
    tcase_add_test(tc, a_plan_at_rest_has_no_pages);
    tcase_add_test(tc, a_fit_has_the_pages_of_one_plan);
    suite_add_tcase(suite, tc);
    return suite;
}
