/* SPDX-License-Identifier: MIT */
/* Contexts and the list of devices. */
#define _GNU_SOURCE /* sched_setaffinity */
#include "suites.h"
#include "test.h"

#include "cpu/workers.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- contexts ------------------------------------------------------------------------------ */

static int32_t default_threads(void)
{
    nin_context *context = NULL;
    int32_t threads;

    ASSERT_OK(nin_context_create(&context, NULL));
    threads = nin_context_threads(context);
    nin_context_destroy(context);
    return threads;
}

START_TEST(without_a_descriptor_all_is_default)
{
    nin_context *context = NULL;
    cpu_set_t mask;

    ASSERT_OK(nin_context_create(&context, NULL));
    ck_assert_int_eq(nin_context_device(context), NIN_DEVICE_CPU);
    ck_assert_uint_eq(nin_context_seed(context), 0);
    ck_assert_int_eq(sched_getaffinity(0, sizeof mask, &mask), 0);
    ck_assert_int_ge(nin_context_threads(context), 1);
    ck_assert_int_le(nin_context_threads(context), CPU_COUNT(&mask));
    nin_context_destroy(context);
}
END_TEST

START_TEST(the_default_of_threads_respects_the_affinity_mask)
{
    nin_device_info info = {.struct_size = sizeof info};
    cpu_set_t before, one;
    size_t cpu = 0;

    ck_assert_int_eq(sched_getaffinity(0, sizeof before, &before), 0);
    while (!CPU_ISSET(cpu, &before))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
    ck_assert_int_eq(default_threads(), 1);
    ASSERT_OK(nin_device_describe(&info, 0));
    ck_assert_int_eq(sched_setaffinity(0, sizeof before, &before), 0);
    ck_assert_ptr_nonnull(strstr(info.name, "1 thread"));
}
END_TEST

START_TEST(threads_and_seed_are_those_of_the_descriptor)
{
    static const int32_t threads[] = {1, 3, 128};
    nin_context *context = NULL;

    for (int i = 0; i < 3; i++) {
        ASSERT_OK(
            nin_context_create(&context, NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CPU,
                                                  .threads = threads[i], .seed = UINT32_MAX)));
        ck_assert_int_eq(nin_context_threads(context), threads[i]);
        ck_assert_uint_eq(nin_context_seed(context), UINT32_MAX);
        nin_context_destroy(context);
    }
}
END_TEST

static char no_stream;

static const struct {
    nin_context_desc desc;
    nin_status status;
    const char *words;
} refused[] = {
    {{.threads = -1}, NIN_INVALID_ARGUMENT, "threads -1 is outside 0 to 128"},
    {{.threads = 129}, NIN_INVALID_ARGUMENT, "threads 129 is outside 0 to 128"},
    {{.device = (nin_device)3}, NIN_INVALID_ARGUMENT, "3 is no nin_device"},
    {{.device = NIN_DEVICE_INT32}, NIN_INVALID_ARGUMENT, "is no nin_device"},
    {{.device = NIN_DEVICE_CPU, .cuda_stream = &no_stream},
     NIN_INVALID_ARGUMENT,
     "there is a cuda_stream, and the device is the CPU"},
    {{.cuda_stream = &no_stream}, NIN_NO_DEVICE, "cuda: there is no"},
    {{.device = NIN_DEVICE_CPU, .device_index = 1}, NIN_NO_DEVICE, "one CPU device, 0, not 1"},
    {{.device_index = -1}, NIN_NO_DEVICE, "one CPU device, 0, not -1"},
    {{.device = NIN_DEVICE_CUDA}, NIN_NO_DEVICE, "cuda: there is no"},
};

enum {
    REFUSED = sizeof refused / sizeof refused[0]
};

START_TEST(a_wrong_descriptor_makes_no_context)
{
    nin_context_desc desc = refused[_i].desc;
    nin_context *context = NULL;

    desc.struct_size = sizeof desc;
    ASSERT_FAILS(refused[_i].status, refused[_i].words, nin_context_create(&context, &desc));
    ck_assert_ptr_null(context);
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "'out' is NULL", nin_context_create(NULL, NULL));
}
END_TEST

START_TEST(two_contexts_do_not_know_each_other)
{
    nin_context *a = NULL, *b = NULL;

    ASSERT_OK(nin_context_create(&a, NIN_DESC(nin_context_desc, .threads = 1, .seed = 1)));
    ASSERT_OK(nin_context_create(&b, NIN_DESC(nin_context_desc, .threads = 2, .seed = 2)));
    ck_assert_int_eq(nin_context_threads(a), 1);
    ck_assert_uint_eq(nin_context_seed(a), 1);
    nin_context_destroy(a);
    ck_assert_int_eq(nin_context_threads(b), 2);
    ck_assert_uint_eq(nin_context_seed(b), 2);
    nin_context_destroy(b);
    nin_context_destroy(NULL);
}
END_TEST

/* One training step in a context that the caller has already given back. */
static void step(nin_network *network)
{
    static const float images[2] = {1.0f, -1.0f};
    static const int32_t labels[2] = {0, 1};
    nin_optimizer *optimizer = NULL;
    nin_plan *plan = NULL;

    ASSERT_OK(nin_plan_create(&plan, network,
                              NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = 2)));
    ASSERT_OK(nin_optimizer_create_sgd(&optimizer, network, NULL));
    nin_network_destroy(network); /* the plan keeps it */
    ASSERT_OK(nin_plan_step(NULL, plan, optimizer,
                            NIN_DESC(nin_batch_desc, .images = images, .count = 2), labels));
    nin_plan_destroy(plan);
    nin_optimizer_destroy(optimizer);
}

START_TEST(objects_outlive_their_context)
{
    const nin_input_desc input = {
        .struct_size = sizeof input, .channels = 1, .height = 1, .width = 1};
    nin_context *context = NULL;
    nin_builder *builder = NULL;
    nin_network *network = NULL;
    nin_tensor *tensor = NULL;
    float value = 1.0f;

    ASSERT_OK(nin_context_create(&context, NIN_DESC(nin_context_desc, .threads = 2)));
    ASSERT_OK(nin_tensor_create(&tensor, context, NIN_F32, 0, NULL));
    ASSERT_OK(nin_builder_create(&builder, context, &input));
    nin_context_destroy(context);

    ASSERT_OK(nin_tensor_read(tensor, &value, sizeof value));
    ck_assert(value == 0.0f);
    nin_tensor_destroy(tensor);
    ASSERT_OK(nin_builder_conv2d(builder, "conv", NIN_DESC(nin_conv2d_desc, .filters = 2)));
    ASSERT_OK(nin_builder_softmax_loss(builder, "loss"));
    ASSERT_OK(nin_builder_finish(&network, builder));
    nin_builder_destroy(builder);
    step(network);
}
END_TEST

/* ---- quotas of control groups -------------------------------------------------------------- */

struct file {
    const char *path, *text;
};

enum {
    FILES = 4
};

static const struct file *there_is; /* FILES of them, instead of all files of the system */

static FILE *open_of_those(const char *path, const char *mode)
{
    for (int i = 0; i < FILES && there_is[i].path != NULL; i++)
        if (strcmp(there_is[i].path, path) == 0)
            return fmemopen((void *)there_is[i].text, strlen(there_is[i].text), mode);
    return NULL;
}

/* The source itself once more, with its own eyes closed: it goes by files that no test may
 * write. */
#define fopen open_of_those
#define nin__usable_threads usable_threads
#include "core/processors.c"
#undef nin__usable_threads
#undef fopen

#define OWN "/proc/self/cgroup"
#define V2 "/sys/fs/cgroup"
#define V1 "/sys/fs/cgroup/cpu"

static const struct {
    struct file files[FILES];
    double quota; /* 0: none */
} systems[] = {
    {{{NULL, NULL}}, 0.0},
    {{{OWN, "0::/\n"}}, 0.0},
    {{{OWN, "0::/\n"}, {V2 "/cpu.max", "150000 100000\n"}}, 1.5},
    {{{OWN, "0::/\n"}, {V2 "/cpu.max", "max 100000\n"}}, 0.0},
    {{{OWN, "0::/\n"}, {V2 "/cpu.max", "100000 0\n"}}, 0.0},
    /* a group lies in those above it, each of which may have a quota */
    {{{OWN, "0::/a/b\n"},
      {V2 "/a/b/cpu.max", "400000 100000\n"},
      {V2 "/a/cpu.max", "max 100000\n"}},
     4.0},
    {{{OWN, "0::/a/b\n"},
      {V2 "/a/b/cpu.max", "max 100000\n"},
      {V2 "/a/cpu.max", "300000 100000\n"}},
     3.0},
    {{{OWN, "0::/a/b\n"},
      {V2 "/a/b/cpu.max", "200000 100000\n"},
      {V2 "/a/cpu.max", "300000 100000\n"}},
     2.0},
    {{{OWN, "0::/a/b\n"},
      {V2 "/a/b/cpu.max", "300000 100000\n"},
      {V2 "/a/cpu.max", "200000 100000\n"}},
     2.0},
    {{{OWN, "0::/a/b\n"}, {V2 "/b/cpu.max", "200000 100000\n"}}, 0.0},
    /* a container's own group is its root, whatever the path says */
    {{{OWN, "0::/not/here\n"}, {V2 "/cpu.max", "50000 20000\n"}}, 2.5},
    /* version 1 */
    {{{OWN, "5:memory:/y\n4:cpu,cpuacct:/x\n"},
      {V1 "/x/cpu.cfs_quota_us", "250000\n"},
      {V1 "/x/cpu.cfs_period_us", "100000\n"}},
     2.5},
    {{{OWN, "4:cpu:/x\n"},
      {V1 "/x/cpu.cfs_quota_us", "250000\n"},
      {V1 "/x/cpu.cfs_period_us", "100000\n"}},
     2.5},
    {{{OWN, "4:cpu:/x\n"},
      {V1 "/x/cpu.cfs_quota_us", "-1\n"},
      {V1 "/x/cpu.cfs_period_us", "100000\n"}},
     0.0},
    {{{OWN, "4:cpuset:/x\n"},
      {V1 "/x/cpu.cfs_quota_us", "250000\n"},
      {V1 "/x/cpu.cfs_period_us", "100000\n"}},
     0.0},
    /* both, as on a system that has not gone over in full */
    {{{OWN, "4:cpu:/x\n0::/\n"},
      {V1 "/x/cpu.cfs_quota_us", "300000\n"},
      {V1 "/x/cpu.cfs_period_us", "100000\n"},
      {V2 "/cpu.max", "200000 100000\n"}},
     2.0},
    /* nonsense */
    {{{OWN, "0\n0:\n\n::\n0::/"}, {V2 "/cpu.max", "what 7\n"}}, 0.0},
};

enum {
    SYSTEMS = sizeof systems / sizeof systems[0]
};

START_TEST(the_quota_is_the_smallest_of_all_groups_around)
{
    there_is = systems[_i].files;
    ck_assert_double_eq_tol(cgroup_quota(), systems[_i].quota, 1e-12);
}
END_TEST

/* So many threads as can run at once: rounded, never none, never more than there are processors. */
START_TEST(the_default_of_threads_respects_the_quota)
{
    static const struct {
        const char *max;
        int32_t threads; /* where there are so many processors */
    } quotas[] = {{"10000 100000", 1},
                  {"140000 100000", 1},
                  {"150000 100000", 2},
                  {"250000 100000", 3},
                  {"4000000000 1000", INT32_MAX}};
    int32_t processors = affinity_threads();

    for (size_t i = 0; i < sizeof quotas / sizeof quotas[0]; i++) {
        const struct file files[FILES] = {{OWN, "0::/\n"}, {V2 "/cpu.max", quotas[i].max}};
        int32_t most = processors < 128 ? processors : 128;

        there_is = files;
        ck_assert_int_eq(usable_threads(), quotas[i].threads < most ? quotas[i].threads : most);
    }
}
END_TEST

/* ---- signals of workers -------------------------------------------------------------------- */

/* Of a thread: worker 0 is the caller. */
static void read_mask(void *mask, int32_t worker)
{
    if (worker == 1)
        pthread_sigmask(SIG_SETMASK, NULL, mask);
}

static sigset_t mask_of_a_worker(void)
{
    struct cpu_workers *workers = NULL;
    sigset_t mask;

    ASSERT_OK(nin__cpu_workers_create(&workers, 2));
    nin__cpu_workers_run(workers, read_mask, &mask);
    nin__cpu_workers_destroy(workers);
    return mask;
}

/* A crash in a worker reaches the program's handler, a profiler sees workers, and no other handler
 * of the program runs there. What the program has blocked, for instance to wait for it, stays
 * so. */
START_TEST(workers_take_only_signals_of_their_own)
{
    static const int open[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF};
    static const int blocked[] = {SIGINT, SIGTERM, SIGALRM, SIGUSR1, SIGCHLD, SIGHUP};
    sigset_t profiling, before, mask = mask_of_a_worker();

    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++)
        ck_assert_msg(sigismember(&mask, open[i]) == 0, "signal %d is blocked", open[i]);
    for (size_t i = 0; i < sizeof blocked / sizeof blocked[0]; i++)
        ck_assert_msg(sigismember(&mask, blocked[i]) == 1, "signal %d is open", blocked[i]);

    sigemptyset(&profiling);
    sigaddset(&profiling, SIGPROF);
    pthread_sigmask(SIG_BLOCK, &profiling, &before);
    mask = mask_of_a_worker();
    ck_assert_int_eq(sigismember(&mask, SIGPROF), 1);
    ck_assert_int_eq(sigismember(&mask, SIGSEGV), 0);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    ck_assert_int_eq(sigismember(&mask, SIGUSR1), 0); /* the caller's own is what it was */
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
END_TEST

/* ---- devices ------------------------------------------------------------------------------- */

START_TEST(the_first_device_is_the_cpu)
{
    nin_device_info info = {.struct_size = sizeof info, .index = 7};

    ck_assert_uint_ge(nin_device_count(), 1);
    ASSERT_OK(nin_device_describe(&info, 0));
    ck_assert_int_eq(info.device, NIN_DEVICE_CPU);
    ck_assert_int_eq(info.index, 0);
    ck_assert_uint_gt(info.memory, 0);
    ck_assert_ptr_nonnull(strstr(info.name, "CPU"));
    ck_assert_str_eq(info.unusable_because, "");
}
END_TEST

/* A device that cannot be used says why, and a context for it fails with the same words. */
START_TEST(every_device_can_be_used_or_says_why_not)
{
    for (size_t i = 0; i < nin_device_count(); i++) {
        nin_device_info info = {.struct_size = sizeof info};
        nin_context_desc desc = {.struct_size = sizeof desc};
        nin_context *context = NULL;

        ASSERT_OK(nin_device_describe(&info, i));
        desc.device = info.device;
        desc.device_index = info.index;
        ck_assert_str_ne(info.name, "");
        if (info.unusable_because[0] == '\0')
            ASSERT_OK(nin_context_create(&context, &desc));
        else
            ASSERT_FAILS(NIN_NO_DEVICE, info.unusable_because, nin_context_create(&context, &desc));
        nin_context_destroy(context);
    }
}
END_TEST

START_TEST(a_device_past_the_last_is_refused)
{
    nin_device_info info = {.struct_size = sizeof info, .memory = 7};

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "there is no device",
                 nin_device_describe(&info, nin_device_count()));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "there is no device", nin_device_describe(&info, SIZE_MAX));
    ck_assert_uint_eq(info.memory, 7);
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "NULL", nin_device_describe(NULL, 0));
}
END_TEST

Suite *context_suite(void)
{
    Suite *suite = suite_create("context");
    TCase *contexts = tcase_create("contexts"), *devices = tcase_create("devices");

    tcase_add_test(contexts, without_a_descriptor_all_is_default);
    tcase_add_test(contexts, the_default_of_threads_respects_the_affinity_mask);
    tcase_add_test(contexts, threads_and_seed_are_those_of_the_descriptor);
    tcase_add_loop_test(contexts, the_quota_is_the_smallest_of_all_groups_around, 0, SYSTEMS);
    tcase_add_test(contexts, the_default_of_threads_respects_the_quota);
    tcase_add_loop_test(contexts, a_wrong_descriptor_makes_no_context, 0, REFUSED);
    tcase_add_test(contexts, two_contexts_do_not_know_each_other);
    tcase_add_test(contexts, objects_outlive_their_context);
    tcase_add_test(contexts, workers_take_only_signals_of_their_own);
    tcase_add_test(devices, the_first_device_is_the_cpu);
    tcase_add_test(devices, every_device_can_be_used_or_says_why_not);
    tcase_add_test(devices, a_device_past_the_last_is_refused);
    suite_add_tcase(suite, contexts);
    suite_add_tcase(suite, devices);
    return suite;
}
