/* SPDX-License-Identifier: MIT */
/* The same bits whatever the number of threads, their timing, and where segments end; and what
 * lanes do to the bits. */
#include "rig.h"
#include "sanitized.h"
#include "suites.h"

#include "cpu/cpu.h"

#include <fenv.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

/* ---- any number of threads ----------------------------------------------------------------- */

enum {
    MAX_STEPS = 30
};

/* The state after each step of a run. Batches are full and three quarters full in turn. */
static void run(uint64_t states[MAX_STEPS], const struct rig_desc *desc, int32_t steps)
{
    struct rig rig;

    rig_make(&rig, desc);
    for (int32_t s = 0; s < steps; s++) {
        nin_result result = rig_step(&rig, s, s % 2 == 0 ? desc->batch : desc->batch * 3 / 4);

        states[s] = rig_state(&rig, &result);
    }
    rig_free(&rig);
}

/* One thread on time, against several that sleep at random. */
static void check_rig_threads(struct rig_desc desc, int32_t steps)
{
    static const int32_t threads[] = {1, 2, 3, 5};
    uint64_t wanted[MAX_STEPS], states[MAX_STEPS];

    desc.threads = 1;
    run(wanted, &desc, steps);
    ck_assert_uint_ne(wanted[0], wanted[1]);
    for (size_t t = 0; t < sizeof threads / sizeof threads[0]; t++) {
        desc.threads = threads[t];
        desc.hidden.jitter = 100u + (uint32_t)t;
        run(states, &desc, steps);
        for (int32_t s = 0; s < steps; s++)
            ck_assert_msg(states[s] == wanted[s], "%d threads: other bits after step %d",
                          threads[t], s);
    }
}

static void check_threads(enum rig_net net, int32_t batch, int32_t steps)
{
    check_rig_threads((struct rig_desc){.net = net, .mode = NIN_TRAIN, .batch = batch}, steps);
}

/* Whether this processor has them, and NIN_CPU_ISA lets them be asked for. */
static bool has_instructions(nin_instruction_set set)
{
    nin_context *context = NULL;
    bool has = nin_context_create(&context, NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CPU,
                                                     .instructions = set)) == NIN_OK;

    nin_context_destroy(context);
    return has;
}

/* Each algorithm with each instruction set that this processor has. */
START_TEST(threads_of_each_algorithm)
{
    struct rig_desc desc = {.mode = NIN_TRAIN, .batch = 54, .algorithm = (nin_algorithm)_i};

    for (int set = NIN_INSTRUCTIONS_BASELINE; set <= NIN_INSTRUCTIONS_AMX; set++) {
        desc.instructions = (nin_instruction_set)set;
        if (has_instructions(desc.instructions))
            check_rig_threads(desc, 4);
    }
}
END_TEST

/* Their sums have one order and one rounding for each product, whatever the vectors' width. */
START_TEST(avx2_and_avx512_give_the_same_bits)
{
    struct rig_desc desc = {.net = RIG_MNIST, .mode = NIN_TRAIN, .threads = 2, .batch = 16};
    uint64_t states[2][MAX_STEPS];

    desc.algorithm = (nin_algorithm)_i;
    if (!has_instructions(NIN_INSTRUCTIONS_AVX512))
        return;
    for (int k = 0; k < 2; k++) {
        desc.instructions = k == 0 ? NIN_INSTRUCTIONS_AVX2 : NIN_INSTRUCTIONS_AVX512;
        run(states[k], &desc, 3);
    }
    ck_assert_mem_eq(states[0], states[1], 3 * sizeof states[0][0]);
}
END_TEST

START_TEST(threads_small)
{
    check_threads(RIG_SMALL, 54, SANITIZED ? 5 : 30);
}
END_TEST

START_TEST(threads_dense)
{
    check_threads(RIG_DENSE, 150, 5);
}
END_TEST

START_TEST(threads_preset)
{
    check_threads(RIG_MNIST, 128, SANITIZED ? 2 : 10);
}
END_TEST

/* Whether in some segment there are two workers or more for each chunk. */
static bool is_shared(const struct rig *rig, int32_t threads, int32_t count)
{
    bool shared = false;

    for (int32_t s = 0; s < rig->plan->executable->segment_count; s++) {
        int32_t unit = rig->plan->executable->segments[s].unit;

        shared = shared || 2 * ((count + unit - 1) / unit) <= threads;
    }
    return shared;
}

/* The scores of the first `count` images of a batch, and how many chunks were shared for them. */
static float *infer(struct rig *rig, int32_t batch, int32_t count, int64_t *shared, size_t *values)
{
    int64_t before = rig->plan->executable->shared_chunks;
    nin_batch_desc images = rig_batch(rig, 7, batch);

    images.count = count;
    ASSERT_OK(nin_plan_forward(rig->plan, &images));
    *shared = rig->plan->executable->shared_chunks - before;
    return rig_scores(rig->plan, count, values);
}

/* The same of all of it, by one thread. */
static float *infer_alone(struct rig_desc desc)
{
    struct rig rig;
    int64_t shared;
    size_t values;
    float *scores;

    desc.threads = 1;
    rig_make(&rig, &desc);
    scores = infer(&rig, desc.batch, desc.batch, &shared, &values);
    ck_assert_int_eq(shared, 0);
    rig_free(&rig);
    return scores;
}

static void check_few(struct rig *rig, const struct rig_desc *desc, const float *wanted)
{
    for (int32_t count = 1; count <= 5; count += 2) {
        int64_t shared;
        size_t values;
        float *scores = infer(rig, desc->batch, count, &shared, &values);

        ck_assert_int_eq(shared > 0, is_shared(rig, desc->threads, count));
        ck_assert_mem_eq(scores, wanted, values * sizeof *scores);
        free(scores);
    }
}

/* So few images that there are two workers or more for each chunk are taken by all together, op by
 * op: the bits are those of one thread, and of the same images in a larger batch. (Not by gemm,
 * whose bits would follow the number of rows of a product, or of images.) */
START_TEST(few_images_use_all_workers)
{
    static const enum rig_net nets[] = {RIG_SMALL, RIG_DENSE, RIG_MNIST};
    static const int32_t threads[] = {1, 2, 3, 4, 5, 8, 11};
    struct rig_desc desc = {.mode = NIN_INFER, .batch = 16, .algorithm = (nin_algorithm)_i};

    for (size_t net = 0; net < sizeof nets / sizeof nets[0]; net++) {
        float *wanted;

        desc.net = nets[net];
        wanted = infer_alone(desc);
        for (size_t t = 0; t < sizeof threads / sizeof threads[0]; t++) {
            struct rig rig;

            desc.threads = threads[t];
            rig_make(&rig, &desc);
            check_few(&rig, &desc, wanted);
            rig_free(&rig);
        }
        free(wanted);
    }
}
END_TEST

START_TEST(threads_inference)
{
    static const int32_t threads[] = {1, 2, 3, 5};
    struct rig_desc desc = {.mode = NIN_INFER, .batch = 54};
    float *wanted = NULL;

    for (size_t t = 0; t < sizeof threads / sizeof threads[0]; t++) {
        nin_batch_desc batch;
        struct rig rig;
        size_t values;
        float *scores;

        desc.threads = threads[t];
        desc.hidden.jitter = (uint32_t)t;
        rig_make(&rig, &desc);
        batch = rig_batch(&rig, 0, 51);
        ASSERT_OK(nin_plan_forward(rig.plan, &batch));
        scores = rig_scores(rig.plan, 51, &values);
        if (t > 0)
            ck_assert_mem_eq(scores, wanted, values * sizeof *scores);
        free(wanted);
        wanted = scores;
        rig_free(&rig);
    }
    free(wanted);
}
END_TEST

/* ---- one gradient, in several ways --------------------------------------------------------- */

/* What a backward pass of step 5 gives. */
struct pass {
    size_t parameters, values, pixels;
    float *gradient, *scores, *input_gradient;
    nin_result result;
    int32_t unit, segments;
    size_t lane_bytes; /* of the largest segment */
    uint64_t bytes;
};

static struct pass pass_of(const struct rig_desc *desc)
{
    const struct nin__executable *executable;
    struct pass pass = {0};
    struct rig rig;

    rig_make(&rig, desc);
    executable = rig.plan->executable;
    pass.result = rig_backward(&rig, 5, desc->batch);
    pass.parameters = nin_network_parameter_count(rig.network);
    pass.gradient = rig_gradient(&rig);
    pass.scores = rig_scores(rig.plan, desc->batch, &pass.values);
    pass.pixels = nin__shape_size(rig.plan->input) * (size_t)desc->batch;
    if (desc->input_gradient) {
        pass.input_gradient = malloc(pass.pixels * sizeof *pass.input_gradient);
        ck_assert_ptr_nonnull(pass.input_gradient);
        ASSERT_OK(nin_plan_input_gradient(rig.plan, pass.input_gradient, pass.pixels));
    }
    pass.unit = executable->segments[0].unit;
    pass.segments = executable->segment_count;
    for (int32_t s = 0; s < pass.segments; s++)
        if (executable->segments[s].lane_bytes > pass.lane_bytes)
            pass.lane_bytes = executable->segments[s].lane_bytes;
    pass.bytes = nin_plan_bytes(rig.plan);
    rig_free(&rig);
    return pass;
}

static void pass_free(struct pass *pass)
{
    free(pass->gradient);
    free(pass->scores);
    free(pass->input_gradient);
}

static bool same_gradient(const struct pass *a, const struct pass *b)
{
    return memcmp(a->gradient, b->gradient, a->parameters * sizeof *a->gradient) == 0;
}

static void check_same(const struct pass *a, const struct pass *b)
{
    ck_assert(same_gradient(a, b));
    ck_assert_mem_eq(a->scores, b->scores, a->values * sizeof *a->scores);
    ck_assert_mem_eq(&a->result.loss, &b->result.loss, sizeof a->result.loss);
    if (a->input_gradient != NULL)
        ck_assert_mem_eq(a->input_gradient, b->input_gradient,
                         a->pixels * sizeof *a->input_gradient);
}

/* Largest difference, in parts of the largest element of the gradient. */
static double distance(const struct pass *a, const struct pass *b)
{
    double largest = 0.0, difference = 0.0;

    for (size_t i = 0; i < a->parameters; i++) {
        largest = fmax(largest, fabs((double)a->gradient[i]));
        difference = fmax(difference, fabs((double)a->gradient[i] - (double)b->gradient[i]));
    }
    ck_assert_double_gt(largest, 0.0);
    return difference / largest;
}

/* ---- boundaries ---------------------------------------------------------------------------- */

static void check_boundaries(enum rig_net net, int32_t batch, int32_t unit)
{
    struct rig_desc desc = {.net = net,
                            .mode = NIN_TRAIN,
                            .threads = 2,
                            .batch = batch,
                            .input_gradient = 1,
                            .hidden = {.unit = unit}};
    struct pass plain = pass_of(&desc), cut;

    desc.hidden.unit = plain.unit;
    desc.hidden.boundaries = true;
    cut = pass_of(&desc);
    ck_assert_int_gt(cut.segments, plain.segments + 3);
    check_same(&plain, &cut);
    pass_free(&plain);
    pass_free(&cut);
}

START_TEST(boundaries_small)
{
    check_boundaries(RIG_SMALL, 54, 0);
}
END_TEST

START_TEST(boundaries_dense)
{
    check_boundaries(RIG_DENSE, 150, 8);
}
END_TEST

START_TEST(boundaries_preset)
{
    check_boundaries(RIG_MNIST, SANITIZED ? 9 : 38, 0);
}
END_TEST

START_TEST(segments_agree)
{
    struct rig_desc desc = {.net = RIG_DENSE, .mode = NIN_TRAIN, .threads = 2, .batch = 150};
    struct pass plain = pass_of(&desc), other;

    ck_assert_int_ge(plain.segments, 3);
    desc.threads = 3;
    other = pass_of(&desc);
    check_same(&plain, &other);
    pass_free(&other);

    desc.hidden.unit = 7;
    other = pass_of(&desc);
    ck_assert(!same_gradient(&plain, &other));
    ck_assert_double_lt(distance(&plain, &other), 1e-5);
    pass_free(&other);

    desc.hidden.boundaries = true;
    other = pass_of(&desc);
    ck_assert_double_lt(distance(&plain, &other), 1e-5);
    pass_free(&other);
    pass_free(&plain);
}
END_TEST

/* ---- lanes --------------------------------------------------------------------------------- */

/* 70 units of 4 images, the last one of 1: more than lanes. */
static const struct rig_desc many_units = {
    .net = RIG_SMALL, .mode = NIN_TRAIN, .threads = 1, .batch = 277, .hidden = {.unit = 4}};

START_TEST(lanes_round_only)
{
    static const int32_t lanes[] = {1, 8, 64, 37};
    struct rig_desc desc = many_units;
    struct pass one = {0};

    for (size_t l = 0; l < sizeof lanes / sizeof lanes[0]; l++) {
        struct pass pass, other;

        desc.lanes = lanes[l];
        desc.threads = 1;
        pass = pass_of(&desc);
        for (desc.threads = 2; desc.threads <= 5; desc.threads += 3) {
            desc.hidden.jitter = (uint32_t)desc.threads;
            other = pass_of(&desc);
            check_same(&pass, &other);
            pass_free(&other);
        }
        desc.hidden.jitter = 0;
        if (l == 0) {
            one = pass;
            continue;
        }
        ck_assert(!same_gradient(&one, &pass));
        ck_assert_double_lt(distance(&one, &pass), 1e-4);
        ck_assert_mem_eq(one.scores, pass.scores, one.values * sizeof *one.scores);
        pass_free(&pass);
    }
    pass_free(&one);
}
END_TEST

START_TEST(lanes_default)
{
    struct rig_desc desc = many_units;
    struct pass implied = pass_of(&desc), sixteen;

    desc.lanes = 16;
    sixteen = pass_of(&desc);
    check_same(&implied, &sixteen);
    pass_free(&implied);
    pass_free(&sixteen);
}
END_TEST

/* So many lanes as fit, and never none. */
START_TEST(lane_bytes_lower_lanes)
{
    struct rig_desc desc = many_units;
    struct pass eight, three, one, limited;

    desc.lanes = 8;
    eight = pass_of(&desc);
    desc.lanes = 3;
    three = pass_of(&desc);
    desc.lanes = 1;
    one = pass_of(&desc);
    ck_assert(!same_gradient(&eight, &three) && !same_gradient(&three, &one));

    desc.lanes = 8;
    desc.lane_bytes = 4 * eight.lane_bytes - 1;
    limited = pass_of(&desc);
    ck_assert(same_gradient(&limited, &three));
    pass_free(&limited);

    desc.lane_bytes = 1;
    limited = pass_of(&desc);
    ck_assert(same_gradient(&limited, &one));
    pass_free(&limited);

    desc.lane_bytes = 8 * eight.lane_bytes;
    limited = pass_of(&desc);
    ck_assert(same_gradient(&limited, &eight));
    pass_free(&limited);
    pass_free(&eight);
    pass_free(&three);
    pass_free(&one);
}
END_TEST

/* More lanes than a batch has chunks take no memory: here it is one. */
START_TEST(unused_lanes_take_no_memory)
{
    struct rig_desc desc = {.net = RIG_SMALL, .mode = NIN_TRAIN, .threads = 1, .batch = 4};
    struct pass one, many;

    desc.hidden.unit = 4;
    desc.lanes = 1;
    one = pass_of(&desc);
    desc.lanes = 64;
    many = pass_of(&desc);
    ck_assert_uint_eq(one.bytes, many.bytes);
    check_same(&one, &many);
    pass_free(&one);
    pass_free(&many);
}
END_TEST

/* The limit is on memory: what more lanes cost stays below it. */
START_TEST(lane_bytes_limit_memory)
{
    struct rig_desc desc = {.net = RIG_DENSE, .mode = NIN_TRAIN, .threads = 5, .batch = 150};
    struct pass one, limited;

    desc.lanes = 1;
    one = pass_of(&desc);
    desc.lanes = 64;
    desc.lane_bytes = 2 * one.lane_bytes;
    limited = pass_of(&desc);
    ck_assert_msg(limited.bytes - one.bytes <= desc.lane_bytes,
                  "64 lanes cost %llu bytes more than 1, with a limit of %llu for all",
                  (unsigned long long)(limited.bytes - one.bytes),
                  (unsigned long long)desc.lane_bytes);
    pass_free(&limited);
    pass_free(&one);
}
END_TEST

/* ---- in parts ------------------------------------------------------------------------------ */

static void check_parts(enum rig_net net, int32_t batch)
{
    struct rig_desc desc = {.net = net, .mode = NIN_TRAIN, .threads = 2, .batch = batch};
    struct rig whole, parts;

    rig_make(&whole, &desc);
    desc.threads = 3;
    rig_make(&parts, &desc);
    for (int32_t s = 0; s < 4; s++) {
        nin_result wanted = rig_step(&whole, s, batch - s);
        nin_result result = rig_backward(&parts, s, batch - s);

        ASSERT_OK(nin_optimizer_update(parts.optimizer, parts.plan));
        ck_assert_mem_eq(&result, &wanted, sizeof result);
        ck_assert_uint_eq(rig_state(&parts, &result), rig_state(&whole, &wanted));
        ck_assert_mem_eq(parts.plan->gradient, whole.plan->gradient,
                         nin_network_parameter_count(whole.network) * sizeof(float));
    }
    rig_free(&whole);
    rig_free(&parts);
}

START_TEST(parts_of_a_step)
{
    check_parts(RIG_SMALL, 54);
    check_parts(RIG_DENSE, 150);
}
END_TEST

/* ---- a caller with other arithmetic ---------------------------------------------------------- */

static void round_as_usual(void)
{
}

static void round_upward(void)
{
    ck_assert_int_eq(fesetround(FE_UPWARD), 0);
}

/* Results and arguments below the normal numbers become 0. */
static void flush_to_zero(void)
{
#ifdef __SSE__
    _mm_setcsr(_mm_getcsr() | 0x8040);
#endif
}

static unsigned control_word(void)
{
#ifdef __SSE__
    return _mm_getcsr() & ~0x3fu; /* the lowest bits say what happened, not what is to happen */
#else
    return 0;
#endif
}

/* The batch goes forward and backward, and the caller's arithmetic is what it was. */
static void go(struct rig *rig, const nin_batch_desc *batch)
{
    unsigned control = control_word();
    int rounding = fegetround(), raised = fetestexcept(FE_ALL_EXCEPT);

    ASSERT_OK(nin_plan_forward(rig->plan, batch));
    ASSERT_OK(
        nin_plan_backward(NULL, rig->plan, NIN_DESC(nin_backward_desc, .labels = rig->labels)));
    ck_assert_int_eq(fegetround(), rounding);
    ck_assert_int_eq(fetestexcept(FE_ALL_EXCEPT), raised);
    ck_assert_uint_eq(control_word(), control);
}

/* A gradient of a plan that was made and run so, from images that large. */
static float *gradient_of_plan(void (*set)(void), int32_t threads, float images,
                               nin_algorithm algorithm, size_t *count)
{
    nin_batch_desc batch;
    float *gradient;
    struct rig rig;
    fenv_t before;

    fegetenv(&before);
    rig_make(&rig, &(struct rig_desc){.mode = NIN_TRAIN, .threads = threads, .batch = 20});
    batch = rig_batch(&rig, 0, 20);
    for (size_t i = 0; i < 20 * nin__shape_size(rig.plan->input); i++)
        rig.images[i] *= images;
    nin_plan_destroy(rig.plan);
    rig.plan = NULL;
    set();
    ASSERT_OK(nin_plan_create(
        &rig.plan, rig.network,
        NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = 20, .algorithm = algorithm)));
    go(&rig, &batch);
    fesetenv(&before);
    gradient = rig_gradient(&rig);
    *count = nin_network_parameter_count(rig.network);
    rig_free(&rig);
    return gradient;
}

/* A thread begins with the arithmetic of the one that makes it, and the first worker is the
 * caller's own thread: neither goes by that. */
static void check_arithmetic(void (*set)(void), float images, nin_algorithm algorithm)
{
    for (int32_t threads = 1; threads <= 2; threads++) {
        size_t count;
        float *wanted = gradient_of_plan(round_as_usual, threads, images, algorithm, &count);
        float *gradient = gradient_of_plan(set, threads, images, algorithm, &count);

        ck_assert_mem_eq(gradient, wanted, count * sizeof *gradient);
        free(gradient);
        free(wanted);
    }
}

START_TEST(rounding_of_the_caller)
{
    check_arithmetic(round_upward, 1.0f, (nin_algorithm)_i);
}
END_TEST

/* The images times a weight are below the normal numbers: workers take those for 0, whether the
 * caller does or not. */
START_TEST(flushing_of_the_caller)
{
    size_t count, subnormal = 0;
    float *gradient = gradient_of_plan(round_as_usual, 1, 1e-38f, (nin_algorithm)_i, &count);

    for (size_t k = 0; k < count; k++)
        subnormal += fpclassify(gradient[k]) == FP_SUBNORMAL;
#ifdef __SSE__
    ck_assert_uint_eq(subnormal, 0);
#endif
    free(gradient);
    check_arithmetic(flush_to_zero, 1e-38f, (nin_algorithm)_i);
}
END_TEST

/* ---- a caller with little room --------------------------------------------------------------- */

enum {
    SMALL_STACK = 128 << 10 /* of which OpenBLAS's thread-local data take 60 KiB */
};

struct small {
    struct rig rig;
    nin_batch_desc batch;
    nin_status stepped, predicted;
};

static void *work_in_a_small_stack(void *argument)
{
    struct small *small = argument;
    struct rig *rig = &small->rig;

    small->predicted = nin_plan_forward(rig->plan, &small->batch);
    small->stepped = nin_plan_step(NULL, rig->plan, rig->optimizer, &small->batch, rig->labels);
    return NULL;
}

/* The calling thread works too, and may have been made with as little stack as the header says. */
static void check_small_stack(nin_instruction_set instructions, nin_algorithm algorithm)
{
    struct small small;
    pthread_attr_t attributes;
    pthread_t thread;

    rig_make(&small.rig, &(struct rig_desc){.net = RIG_MNIST,
                                            .mode = NIN_TRAIN,
                                            .threads = 1,
                                            .batch = 9,
                                            .algorithm = algorithm,
                                            .instructions = instructions});
    small.batch = rig_batch(&small.rig, 0, 9);
    ck_assert_int_eq(pthread_attr_init(&attributes), 0);
    ck_assert_int_eq(pthread_attr_setstacksize(&attributes, SMALL_STACK), 0);
    ck_assert_int_eq(pthread_create(&thread, &attributes, work_in_a_small_stack, &small), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    pthread_attr_destroy(&attributes);
    ck_assert_int_eq(small.predicted, NIN_OK);
    ck_assert_int_eq(small.stepped, NIN_OK);
    rig_free(&small.rig);
}

START_TEST(a_small_stack_is_enough)
{
    for (int set = NIN_INSTRUCTIONS_BASELINE; set <= NIN_INSTRUCTIONS_AVX512; set++)
        if (has_instructions((nin_instruction_set)set))
            check_small_stack((nin_instruction_set)set, (nin_algorithm)_i);
}
END_TEST

Suite *determinism_suite(void)
{
    Suite *suite = suite_create("determinism");
    TCase *tc = tcase_create("threads");

    tcase_add_test(tc, threads_small);
    tcase_add_test(tc, threads_dense);
    tcase_add_test(tc, threads_inference);
    tcase_add_loop_test(tc, few_images_use_all_workers, NIN_ALGORITHM_DIRECT,
                        NIN_ALGORITHM_FFT + 1);
    suite_add_tcase(suite, tc);

    tc = tcase_create("each set"); /* by itself, whatever NIN_CPU_ISA says */
    tcase_set_tags(tc, "sets");
    tcase_add_loop_test(tc, avx2_and_avx512_give_the_same_bits, NIN_ALGORITHM_DIRECT,
                        NIN_ALGORITHM_FFT + 1);
    tcase_add_loop_test(tc, threads_of_each_algorithm, NIN_ALGORITHM_AUTO, NIN_ALGORITHM_FFT + 1);
    if (!SANITIZED) /* whose frames are larger */
        tcase_add_loop_test(tc, a_small_stack_is_enough, NIN_ALGORITHM_DIRECT,
                            NIN_ALGORITHM_FFT + 1);
    suite_add_tcase(suite, tc);

    tc = tcase_create("threads_preset"); /* minutes */
    tcase_set_tags(tc, "slow");
    tcase_set_timeout(tc, 1800);
    tcase_add_test(tc, threads_preset);
    suite_add_tcase(suite, tc);

    tc = tcase_create("segments");
    tcase_add_test(tc, boundaries_small);
    tcase_add_test(tc, boundaries_dense);
    tcase_add_test(tc, boundaries_preset);
    tcase_add_test(tc, segments_agree);
    suite_add_tcase(suite, tc);

    tc = tcase_create("lanes");
    tcase_add_test(tc, lanes_round_only);
    tcase_add_test(tc, lanes_default);
    tcase_add_test(tc, unused_lanes_take_no_memory);
    tcase_add_test(tc, lane_bytes_lower_lanes);
    tcase_add_test(tc, lane_bytes_limit_memory);
    suite_add_tcase(suite, tc);

    tc = tcase_create("arithmetic");
    tcase_add_loop_test(tc, rounding_of_the_caller, NIN_ALGORITHM_AUTO, NIN_ALGORITHM_FFT + 1);
    tcase_add_loop_test(tc, flushing_of_the_caller, NIN_ALGORITHM_AUTO, NIN_ALGORITHM_FFT + 1);
    suite_add_tcase(suite, tc);

    tc = tcase_create("parts");
    tcase_add_test(tc, parts_of_a_step);
    suite_add_tcase(suite, tc);
    return suite;
}
