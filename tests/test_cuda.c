/* SPDX-License-Identifier: MIT */
/* The CUDA module: how it is found and refused, and what is particular to a device. It runs on the
 * stand-in of tests/cuda_on_cpu, and its case `training` with NIN_TEST_DEVICE=cuda on what the
 * machine has. What any device has to do is tested by the other suites (make check-cuda). */
#include "cuda_on_cpu/stand_in.h"
#include "device.h"
#include "files.h"
#include "rig.h"
#include "suites.h"
#include "test.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    BATCH = 20,
    LAST_WAITS = 2 /* of a plan and of a context that go: their failure has nobody to tell */
};

/* ---- modules -------------------------------------------------------------------------------- */

static nin_device_info device(size_t i)
{
    nin_device_info info = {.struct_size = sizeof info};

    ASSERT_OK(nin_device_describe(&info, i));
    return info;
}

/* The CPU is taken, and whoever asks for CUDA is told why not. */
static void check_refused(const char *words)
{
    nin_device_info info = device(1);
    nin_context *context = NULL;

    ck_assert_uint_eq(nin_device_count(), 2);
    ck_assert_int_eq(info.device, NIN_DEVICE_CUDA);
    ck_assert_msg(strstr(info.unusable_because, words) != NULL, "no '%s' in '%s'", words,
                  info.unusable_because);
    ASSERT_FAILS(
        NIN_NO_DEVICE, words,
        nin_context_create(&context, NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CUDA)));
    ASSERT_OK(nin_context_create(&context, NULL));
    ck_assert_int_eq(nin_context_device(context), NIN_DEVICE_CPU);
    nin_context_destroy(context);
}

static const struct {
    const char *module, *words;
} refused[] = {
    {"absent", "there is no file '/"},
    {"no_module", "is no module of libnin"},
    {"other_abi", "has another ABI number"},
    {"other_size", "tables of another size"},
    {"other_version", "is of another version"},
    {"needs_missing", "install the cuBLAS runtime of CUDA 13"},
};

START_TEST(a_wrong_module_is_refused)
{
    use_module(refused[_i].module);
    check_refused(refused[_i].words);
}
END_TEST

/* Whoever may write to the current directory must not get code into the process. */
START_TEST(a_module_is_not_looked_for_in_the_current_directory)
{
    ck_assert_int_eq(chdir(folder_of("stand_in")), 0);
    ck_assert_int_eq(setenv("NIN_MODULE_DIR", ".", 1), 0);
    check_refused("NIN_MODULE_DIR does not begin with '/'");
}
END_TEST

static const struct {
    const char *name, *value, *words;
} machines[] = {
    {"NIN_CUDA_DRIVER", "0", "no NVIDIA driver on this machine"},
    {"NIN_CUDA_DRIVER", "12080", "supports CUDA 12.8, libnin_cuda needs 13.0"},
    {"NIN_CUDA_DEVICES", "0", "no CUDA device"},
    {"NIN_CUDA_CAPABILITY", "70", "GPU sm_70 is not supported"},
};

START_TEST(a_machine_that_cannot_be_used_says_why)
{
    use_module("stand_in");
    ck_assert_int_eq(setenv(machines[_i].name, machines[_i].value, 1), 0);
    check_refused(machines[_i].words);
}
END_TEST

/* ---- devices -------------------------------------------------------------------------------- */

START_TEST(a_device_that_can_be_used_is_taken)
{
    nin_device_info info;
    nin_context *context = NULL;

    use_module("stand_in");
    setenv("NIN_CUDA_DEVICES", "2", 1);
    ck_assert_uint_eq(nin_device_count(), 3);
    for (int32_t i = 0; i < 2; i++) {
        info = device(1 + (size_t)i);
        ck_assert_int_eq(info.index, i);
        ck_assert_str_eq(info.unusable_because, "");
        ck_assert_str_eq(info.name, i == 0 ? "stand-in 0" : "stand-in 1");
        ck_assert_uint_gt(info.memory, 0);
    }
    ASSERT_OK(nin_context_create(&context, NULL));
    ck_assert_int_eq(nin_context_device(context), NIN_DEVICE_CUDA);
    nin_context_destroy(context);
    ASSERT_FAILS(NIN_NO_DEVICE, "there is no device 2",
                 nin_context_create(&context, NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CUDA,
                                                       .device_index = 2)));
}
END_TEST

static struct rig_desc cuda_rig(enum rig_net net, nin_mode mode)
{
    return (struct rig_desc){
        .net = net, .mode = mode, .device = NIN_DEVICE_CUDA, .threads = 1, .batch = BATCH};
}

/* ---- against the CPU ------------------------------------------------------------------------ */

/* Root mean square of the differences, relative to that of what is wanted. */
static double distance(const float *got, const float *wanted, size_t count)
{
    double difference = 0.0, size = 0.0;

    for (size_t i = 0; i < count; i++) {
        difference += ((double)got[i] - wanted[i]) * ((double)got[i] - wanted[i]);
        size += (double)wanted[i] * wanted[i];
    }
    return size > 0.0 ? sqrt(difference / size) : difference > 0.0 ? INFINITY : sqrt(difference);
}

static void check_near(const float *got, const float *wanted, size_t count, double bound,
                       const char *what)
{
    double found = distance(got, wanted, count);

    ck_assert_msg(found <= bound, "%s: off by %.3g", what, found);
}

static const enum rig_net nets[] = {RIG_SMALL, RIG_DENSE};

/* Dropout's masks are the same bits, or nothing would be near. */
START_TEST(training_agrees_with_the_cpu)
{
    struct rig_desc desc = cuda_rig(nets[_i], NIN_TRAIN);
    struct rig cuda, cpu;
    size_t count;

    use_a_device_module();
    rig_make(&cuda, &desc);
    desc.device = NIN_DEVICE_CPU;
    rig_make(&cpu, &desc);
    count = nin_network_parameter_count(cpu.network);
    for (int64_t step = 0; step < 5; step++) {
        int32_t images = step == 3 ? BATCH - 3 : BATCH;
        nin_result a = rig_step(&cuda, step, images), b = rig_step(&cpu, step, images);
        float *gradient = rig_gradient(&cuda), *wanted = rig_gradient(&cpu);

        ck_assert_double_eq_tol(a.loss, b.loss, 1e-5 * b.loss);
        ck_assert_int_eq(a.correct, b.correct);
        check_near(gradient, wanted, count, 1e-5, "gradient");
        free(gradient);
        free(wanted);
        gradient = rig_parameters(cuda.network);
        wanted = rig_parameters(cpu.network);
        check_near(gradient, wanted, count, 1e-5, "parameters");
        free(gradient);
        free(wanted);
    }
    rig_free(&cuda);
    rig_free(&cpu);
}
END_TEST

/* Of the losses and parameters of some steps with full batches and smaller ones, in two plans one
 * after the other. */
static uint64_t bits_of_a_run(enum rig_net net, nin_algorithm algorithm, nin_precision precision,
                              const char *graph)
{
    struct rig_desc desc = cuda_rig(net, NIN_TRAIN);
    uint64_t hash = RIG_HASH;
    struct rig rig;
    float *values;

    desc.algorithm = algorithm;
    desc.precision = precision;
    setenv("NIN_CUDA_GRAPH", graph, 1);
    rig_make(&rig, &desc);
    for (int64_t step = 0; step < 8; step++) {
        nin_result result = rig_step(&rig, step, BATCH - (step % 4 == 3 ? 3 : 0));

        hash = rig_hash(hash, &result.loss, sizeof result.loss);
    }
    values = rig_parameters(rig.network);
    hash = rig_hash(hash, values, nin_network_parameter_count(rig.network) * sizeof *values);
    free(values);
    rig_free(&rig);
    unsetenv("NIN_CUDA_GRAPH");
    return hash;
}

static const struct {
    enum rig_net net;
    nin_algorithm algorithm;
    nin_precision precision;
} ordered[] = {
    {RIG_SMALL, NIN_ALGORITHM_GEMM, NIN_FP32},     {RIG_DENSE, NIN_ALGORITHM_GEMM, NIN_FP32},
    {RIG_SMALL, NIN_ALGORITHM_WINOGRAD, NIN_FP32}, {RIG_DENSE, NIN_ALGORITHM_WINOGRAD, NIN_FP32},
    {RIG_EIGHTS, NIN_ALGORITHM_DIRECT, NIN_TF32},  {RIG_EIGHTS, NIN_ALGORITHM_DIRECT, NIN_BF16}};

/* The stand-in has a seed for the order of blocks and threads, and for when work is done: it is
 * drawn from all along, so no two runs have the same. A GPU has an order of its own each time. */
START_TEST(neither_the_order_of_threads_nor_a_graph_is_part_of_the_bits)
{
    enum rig_net net = ordered[_i].net;
    nin_algorithm algorithm = ordered[_i].algorithm;
    nin_precision precision = ordered[_i].precision;
    uint64_t bits;

    use_a_device_module();
    bits = bits_of_a_run(net, algorithm, precision, "0");
    for (int run = 0; run < 3; run++)
        ck_assert_uint_eq(bits_of_a_run(net, algorithm, precision, "1"), bits);
    ck_assert_uint_eq(bits_of_a_run(net, algorithm, precision, "0"), bits);
}
END_TEST

/* Sums overflow, or a NaN comes in: behind all ReLUs and maxima it is still there. Nothing has
 * changed, and the next step goes on. */
START_TEST(a_bad_step_changes_nothing)
{
    struct rig_desc desc = cuda_rig(RIG_SMALL, NIN_TRAIN);
    nin_batch_desc batch;
    struct rig rig;
    size_t bytes;

    use_a_device_module();
    rig_make(&rig, &desc);
    bytes = nin_network_parameter_count(rig.network) * sizeof(float);
    for (int64_t step = 0; step < 4; step++) {
        float *before, *after;

        rig_step(&rig, step, BATCH);
        before = rig_parameters(rig.network);
        batch = rig_batch(&rig, step, BATCH);
        for (size_t i = 0; i < 512; i++)
            rig.images[i] = step % 2 == 0 ? 3e38f : NAN;
        ck_assert_int_eq(nin_plan_step(NULL, rig.plan, rig.optimizer, &batch, rig.labels),
                         NIN_NOT_FINITE);
        after = rig_parameters(rig.network);
        ck_assert_mem_eq(after, before, bytes);
        free(before);
        free(after);
    }
    rig_free(&rig);
}
END_TEST

/* ---- minimal filtering ----------------------------------------------------------------------- */

struct convolution {
    int32_t images, channels, height, width, filters, kernel, pad, relu;
};

/* Planes that tiles fill and that they do not; a few tiles of zeros at the end of a sum's last
 * group (131 images); more images than go together, so that nothing is kept for backward. Of these
 * so many are near 0 that a ReLU would decide otherwise about some. */
static const struct convolution convolutions[] = {
    {5, 3, 7, 7, 5, 5, 2, 1},     {2, 33, 9, 5, 3, 5, 0, 1},   {3, 5, 14, 14, 33, 5, 1, 1},
    {2, 1, 28, 28, 5, 5, 2, 1},   {3, 3, 9, 5, 33, 5, 4, 1},   {1, 5, 9, 5, 1, 3, 0, 1},
    {4, 33, 7, 7, 33, 3, 1, 1},   {2, 3, 28, 28, 33, 3, 2, 1}, {3, 5, 14, 14, 5, 3, 1, 0},
    {131, 3, 7, 7, 5, 5, 2, 1},   {131, 1, 9, 5, 5, 3, 2, 1},  {3, 200, 7, 7, 9, 5, 2, 1},
    {130, 1, 32, 32, 64, 5, 2, 0}};

/* One convolution on one device. */
struct single {
    nin_context *context;
    nin_network *network;
    nin_plan *plan;
};

static void make_single(struct single *single, const struct convolution *c, nin_device device,
                        nin_algorithm algorithm)
{
    float biases[64];
    nin_builder *builder = NULL;

    ASSERT_OK(nin_context_create(&single->context,
                                 NIN_DESC(nin_context_desc, .device = device, .threads = 1)));
    ASSERT_OK(nin_builder_create(
        &builder, single->context,
        NIN_DESC(nin_input_desc, .channels = c->channels, .height = c->height, .width = c->width)));
    ASSERT_OK(nin_builder_conv2d(
        builder, "conv",
        NIN_DESC(nin_conv2d_desc, .filters = c->filters, .kernel = c->kernel, .pad = c->pad)));
    if (c->relu)
        ASSERT_OK(nin_builder_relu(builder, "relu"));
    ASSERT_OK(nin_builder_finish(&single->network, builder));
    nin_builder_destroy(builder);
    ASSERT_OK(nin_network_initialise(single->network,
                                     NIN_DESC(nin_init_desc, .weights = NIN_INIT_HE), 7));
    for (int32_t i = 0; i < c->filters; i++)
        biases[i] = (float)(i % 5) * 0.1f - 0.2f;
    ASSERT_OK(nin_layer_write(nin_network_layer(single->network, 0), NIN_BIAS, biases,
                              (size_t)c->filters));
    ASSERT_OK(nin_plan_create(&single->plan, single->network,
                              NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = c->images,
                                       .algorithm = algorithm, .input_gradient = 1)));
}

static void free_single(struct single *single)
{
    nin_plan_destroy(single->plan);
    nin_network_destroy(single->network);
    nin_context_destroy(single->context);
}

static float *new_values(size_t count)
{
    float *values = malloc((count + 1) * sizeof *values);

    ck_assert_ptr_nonnull(values);
    return values;
}

/* Numbers in no order, from -0.5 to 0.5. */
static float *make_values(size_t count, uint32_t seed)
{
    float *values = new_values(count);

    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)(seed >> 8) / (float)(1 << 24) - 0.5f;
    }
    return values;
}

/* Scores, the gradient of the input and that of the parameters, after two backwards that add up. */
struct outcome {
    size_t scores, inputs, parameters;
    float *y, *dx, *dw;
};

static struct outcome run_single(struct single *single, const struct convolution *c)
{
    size_t image = (size_t)c->channels * (size_t)c->height * (size_t)c->width;
    struct outcome o = {.scores = nin__shape_size(single->plan->scores) * (size_t)c->images,
                        .inputs = image * (size_t)c->images,
                        .parameters = nin_network_parameter_count(single->network)};
    float *images = make_values(o.inputs, 1), *gradient = make_values(o.scores, 2);
    nin_tensor *tensor = NULL;

    o.y = new_values(o.scores);
    o.dx = new_values(o.inputs);
    o.dw = new_values(o.parameters);
    ASSERT_OK(nin_plan_forward(single->plan, NIN_DESC(nin_batch_desc, .images = images,
                                                      .dtype = NIN_F32, .count = c->images)));
    ASSERT_OK(nin_plan_scores(single->plan, o.y, o.scores));
    for (int32_t i = 0; i < 2; i++)
        ASSERT_OK(nin_plan_backward(
            NULL, single->plan,
            NIN_DESC(nin_backward_desc, .score_gradient = gradient, .accumulate = i)));
    ASSERT_OK(nin_plan_input_gradient(single->plan, o.dx, o.inputs));
    ASSERT_OK(nin_plan_gradient(&tensor, single->plan, NULL, NIN_WEIGHT));
    ASSERT_OK(nin_tensor_read(tensor, o.dw, o.parameters * sizeof *o.dw));
    free(images);
    free(gradient);
    return o;
}

static void free_outcome(struct outcome *o)
{
    free(o->y);
    free(o->dx);
    free(o->dw);
}

/* How many ops of the plan go by an algorithm. */
static int count_algorithm(const nin_plan *plan, const char *name)
{
    char text[8192];
    int count = 0;

    ck_assert_uint_lt(nin_plan_describe(plan, text, sizeof text), sizeof text);
    for (const char *at = text; (at = strstr(at, name)) != NULL; at++)
        count++;
    return count;
}

/* What nin/plan.h says of the errors, beside windows summed as they stand. */
static void check_convolution(const struct convolution *c, nin_algorithm algorithm,
                              const char *name)
{
    struct single cuda, cpu;
    struct outcome got, wanted;

    use_a_device_module();
    make_single(&cuda, c, NIN_DEVICE_CUDA, algorithm);
    make_single(&cpu, c, NIN_DEVICE_CPU, NIN_ALGORITHM_DIRECT);
    ck_assert_int_eq(count_algorithm(cuda.plan, name), 1);
    got = run_single(&cuda, c);
    wanted = run_single(&cpu, c);
    check_near(got.y, wanted.y, got.scores, 5e-6, "scores");
    check_near(got.dx, wanted.dx, got.inputs, 5e-6, "input gradient");
    check_near(got.dw, wanted.dw, got.parameters, 1e-5, "gradient");
    free_outcome(&got);
    free_outcome(&wanted);
    free_single(&cuda);
    free_single(&cpu);
}

START_TEST(minimal_filtering_agrees_with_the_cpu)
{
    check_convolution(&convolutions[_i], NIN_ALGORITHM_WINOGRAD, " winograd ");
}
END_TEST

/* Kernels of libnin's own: rows that fill tiles and that do not, filters and channels for each
 * width of a tile, in vectors and not, sums in one part and in many. */
static const struct convolution direct_convolutions[] = {
    {1, 1, 1, 1, 1, 1, 0, 0},     {3, 5, 9, 5, 3, 1, 0, 1},     {2, 33, 9, 5, 10, 1, 0, 1},
    {5, 64, 14, 14, 48, 1, 0, 1}, {3, 96, 28, 28, 64, 1, 0, 1}, {2, 128, 14, 14, 33, 1, 0, 0},
    {3, 48, 7, 7, 48, 1, 0, 1},   {2, 40, 13, 11, 64, 1, 0, 1}, {9, 64, 28, 28, 32, 1, 0, 1},
    {2, 1, 28, 28, 33, 5, 2, 1},  {3, 3, 9, 5, 48, 5, 4, 1},    {2, 4, 14, 14, 64, 3, 0, 1},
    {4, 3, 32, 32, 64, 5, 2, 1},  {1, 2, 30, 30, 7, 11, 3, 0}};

START_TEST(direct_kernels_agree_with_the_cpu)
{
    check_convolution(&direct_convolutions[_i], NIN_ALGORITHM_AUTO, " direct ");
}
END_TEST

/* Convolutions of every algorithm one behind the other, with ReLUs that whoever makes a gradient
 * may leave out: few channels, whose windows are not in memory, below each other and below
 * pools. */
static void describe_stack(nin_builder *builder)
{
    nin_builder_conv2d(builder, "few",
                       NIN_DESC(nin_conv2d_desc, .filters = 4, .kernel = 3, .pad = 1));
    nin_builder_relu(builder, "relu1");
    nin_builder_conv2d(builder, "seven",
                       NIN_DESC(nin_conv2d_desc, .filters = 3, .kernel = 7, .pad = 3));
    nin_builder_relu(builder, "relu2");
    nin_builder_conv2d(builder, "strided",
                       NIN_DESC(nin_conv2d_desc, .filters = 20, .kernel = 4, .stride = 2));
    nin_builder_relu(builder, "relu3");
    nin_builder_conv2d(builder, "pixel", NIN_DESC(nin_conv2d_desc, .filters = 24, .kernel = 1));
    nin_builder_relu(builder, "relu4");
    nin_builder_conv2d(builder, "five",
                       NIN_DESC(nin_conv2d_desc, .filters = 32, .kernel = 5, .pad = 2));
    nin_builder_relu(builder, "relu5");
    nin_builder_conv2d(builder, "pixels", NIN_DESC(nin_conv2d_desc, .filters = 6, .kernel = 1));
    nin_builder_relu(builder, "relu6");
    nin_builder_average_pool(builder, "mean",
                             NIN_DESC(nin_pool_desc, .kernel = 3, .stride = 1, .pad = 1));
    nin_builder_conv2d(builder, "last", NIN_DESC(nin_conv2d_desc, .filters = 5, .kernel = 3));
    nin_builder_relu(builder, "relu7");
}

static void make_stack(struct single *single, nin_device device, nin_algorithm algorithm)
{
    nin_builder *builder = NULL;

    ASSERT_OK(nin_context_create(&single->context,
                                 NIN_DESC(nin_context_desc, .device = device, .threads = 1)));
    ASSERT_OK(
        nin_builder_create(&builder, single->context,
                           NIN_DESC(nin_input_desc, .channels = 2, .height = 20, .width = 18)));
    describe_stack(builder);
    ASSERT_OK(nin_builder_finish(&single->network, builder));
    nin_builder_destroy(builder);
    ASSERT_OK(nin_network_initialise(single->network,
                                     NIN_DESC(nin_init_desc, .weights = NIN_INIT_HE), 7));
    ASSERT_OK(nin_plan_create(&single->plan, single->network,
                              NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = 3,
                                       .algorithm = algorithm, .input_gradient = 1)));
}

START_TEST(each_relu_is_heeded_once)
{
    static const nin_algorithm algorithms[] = {NIN_ALGORITHM_AUTO, NIN_ALGORITHM_DIRECT,
                                               NIN_ALGORITHM_WINOGRAD, NIN_ALGORITHM_GEMM};
    const struct convolution c = {.images = 3, .channels = 2, .height = 20, .width = 18};
    struct single cuda, cpu;
    struct outcome got, wanted;

    use_a_device_module();
    make_stack(&cuda, NIN_DEVICE_CUDA, algorithms[_i]);
    make_stack(&cpu, NIN_DEVICE_CPU, NIN_ALGORITHM_DIRECT);
    got = run_single(&cuda, &c);
    wanted = run_single(&cpu, &c);
    check_near(got.y, wanted.y, got.scores, 1e-5, "scores");
    check_near(got.dx, wanted.dx, got.inputs, 1e-4, "input gradient");
    check_near(got.dw, wanted.dw, got.parameters, 1e-4, "gradient");
    free_outcome(&got);
    free_outcome(&wanted);
    free_single(&cuda);
    free_single(&cpu);
}
END_TEST

static const struct {
    enum rig_net net;
    nin_precision precision;
    nin_algorithm algorithm;
} sharings[] = {
    {RIG_SMALL, NIN_FP32, NIN_ALGORITHM_WINOGRAD}, {RIG_SMALL, NIN_FP32, NIN_ALGORITHM_AUTO},
    {RIG_SMALL, NIN_FP32, NIN_ALGORITHM_GEMM},     {RIG_SMALL, NIN_TF32, NIN_ALGORITHM_AUTO},
    {RIG_SMALL, NIN_BF16, NIN_ALGORITHM_AUTO},     {RIG_EIGHTS, NIN_TF32, NIN_ALGORITHM_DIRECT},
    {RIG_EIGHTS, NIN_BF16, NIN_ALGORITHM_DIRECT}};

/* A plan that infers makes some forms of the weights that a training plan needs, too, which then
 * makes the others alone. Nothing of that is part of the bits. */
START_TEST(plans_share_the_forms_of_weights)
{
    struct rig_desc desc = cuda_rig(sharings[_i].net, NIN_TRAIN);
    struct rig alone, shared;
    nin_plan *plan = NULL;

    desc.precision = sharings[_i].precision;
    desc.algorithm = sharings[_i].algorithm;
    use_a_device_module();
    rig_make(&alone, &desc);
    rig_make(&shared, &desc);
    ASSERT_OK(nin_plan_create(&plan, shared.network,
                              NIN_DESC(nin_plan_desc, .max_batch = BATCH, .mode = NIN_INFER,
                                       .precision = sharings[_i].precision,
                                       .algorithm = sharings[_i].algorithm)));
    for (int64_t step = 0; step < 4; step++) {
        nin_batch_desc batch = rig_batch(&shared, step, BATCH);
        nin_result wanted, got;

        if (step != 1)
            ASSERT_OK(nin_plan_forward(plan, &batch));
        got = rig_step(&shared, step, BATCH);
        wanted = rig_step(&alone, step, BATCH);
        ck_assert_mem_eq(&got.loss, &wanted.loss, sizeof got.loss);
    }
    nin_plan_destroy(plan);
    rig_free(&shared);
    rig_free(&alone);
}
END_TEST

/* Of the preset's nine convolutions the 5x5 one with 48 channels and the 3x3 one pay, the 5x5 one
 * with one channel does not, and those of 1x1 are none. */
START_TEST(minimal_filtering_is_used_where_it_pays)
{
    static const struct {
        nin_precision precision;
        nin_algorithm algorithm;
        int winograd, direct, patches, gemm;
    } cases[] = {{NIN_FP32, NIN_ALGORITHM_AUTO, 2, 7, 0, 0},
                 {NIN_FP32, NIN_ALGORITHM_DIRECT, 0, 7, 2, 0},
                 {NIN_FP32, NIN_ALGORITHM_WINOGRAD, 3, 0, 0, 6},
                 {NIN_FP32, NIN_ALGORITHM_GEMM, 0, 0, 3, 6},
                 {NIN_TF32, NIN_ALGORITHM_AUTO, 0, 7, 2, 0},
                 {NIN_TF32, NIN_ALGORITHM_GEMM, 0, 0, 3, 6},
                 {NIN_TF32, NIN_ALGORITHM_DIRECT, 0, 9, 0, 0},
                 {NIN_BF16, NIN_ALGORITHM_AUTO, 0, 7, 2, 0},
                 {NIN_BF16, NIN_ALGORITHM_DIRECT, 0, 9, 0, 0}};
    struct rig_desc desc = cuda_rig(RIG_MNIST, NIN_TRAIN);

    use_a_device_module();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig rig;

        desc.precision = cases[i].precision;
        desc.algorithm = cases[i].algorithm;
        rig_make(&rig, &desc);
        ck_assert_int_eq(count_algorithm(rig.plan, " winograd "), cases[i].winograd);
        ck_assert_int_eq(count_algorithm(rig.plan, " patches "), cases[i].patches);
        ck_assert_int_eq(count_algorithm(rig.plan, " direct "), cases[i].direct);
        ck_assert_int_eq(count_algorithm(rig.plan, " gemm "), cases[i].gemm);
        rig_free(&rig);
    }
}
END_TEST

START_TEST(other_algorithms_are_refused)
{
    struct rig_desc desc = cuda_rig(RIG_SMALL, NIN_TRAIN);
    struct rig rig;
    nin_plan *plan = NULL;

    use_a_device_module();
    rig_make(&rig, &desc);
    ASSERT_FAILS(NIN_UNSUPPORTED, "a CUDA device has no NIN_ALGORITHM_FFT",
                 nin_plan_create(&plan, rig.network,
                                 NIN_DESC(nin_plan_desc, .algorithm = NIN_ALGORITHM_FFT)));
    rig_free(&rig);
}
END_TEST

/* ---- precisions ----------------------------------------------------------------------------- */

/* What one step in a precision gives. */
struct stepped {
    float *scores, *gradient;
    size_t score_count, gradient_count;
};

static struct stepped step_in(nin_precision precision, enum rig_net net)
{
    struct rig_desc desc = cuda_rig(net, NIN_TRAIN);
    struct stepped stepped;
    struct rig rig;

    desc.precision = precision;
    rig_make(&rig, &desc);
    rig_backward(&rig, 0, BATCH);
    stepped.scores = rig_scores(rig.plan, BATCH, &stepped.score_count);
    stepped.gradient = rig_gradient(&rig);
    stepped.gradient_count = nin_network_parameter_count(rig.network);
    rig_free(&rig);
    return stepped;
}

/* Near the values of fp32, and as far from them as operands of so few bits are: so they were
 * rounded. Behind a gradient are decisions too, of ReLU and maximum. */
static void check_rounding(enum rig_net net, nin_precision precision, double least)
{
    struct stepped exact, rounded;
    double of_scores, of_gradient;

    use_a_device_module();
    exact = step_in(NIN_FP32, net);
    rounded = step_in(precision, net);
    of_scores = distance(rounded.scores, exact.scores, exact.score_count);
    of_gradient = distance(rounded.gradient, exact.gradient, exact.gradient_count);
    ck_assert_double_gt(of_scores, least);
    ck_assert_double_lt(of_scores, 1e2 * least);
    ck_assert_double_gt(of_gradient, least);
    ck_assert_double_lt(of_gradient, 1e3 * least);
    free(exact.scores);
    free(exact.gradient);
    free(rounded.scores);
    free(rounded.gradient);
}

START_TEST(tf32_rounds_operands)
{
    check_rounding(nets[_i], NIN_TF32, 1e-5);
}
END_TEST

START_TEST(bf16_rounds_maps)
{
    check_rounding(nets[_i], NIN_BF16, 2e-4);
}
END_TEST

static const struct {
    nin_device device;
    const char *capability;
    nin_precision precision;
    nin_algorithm algorithm;
    const char *words;
} refused_precisions[] = {
    {NIN_DEVICE_CPU, "90", NIN_TF32, NIN_ALGORITHM_AUTO, "NIN_TF32 needs a CUDA device"},
    {NIN_DEVICE_CUDA, "75", NIN_BF16, NIN_ALGORITHM_AUTO,
     "NIN_BF16 needs a GPU of sm_80 or later; this one is sm_75"},
    {NIN_DEVICE_CUDA, "90", NIN_BF16, NIN_ALGORITHM_WINOGRAD,
     "in NIN_BF16 a CUDA device has no NIN_ALGORITHM_WINOGRAD"},
    {NIN_DEVICE_CUDA, "90", NIN_BF16, NIN_ALGORITHM_DIRECT, NULL},
    {NIN_DEVICE_CUDA, "80", NIN_BF16, NIN_ALGORITHM_AUTO, NULL},
    {NIN_DEVICE_CUDA, "90", NIN_BF16X3, NIN_ALGORITHM_AUTO, "NIN_FP32, NIN_TF32 and NIN_BF16 only"},
    {NIN_DEVICE_CUDA, "75", NIN_TF32, NIN_ALGORITHM_AUTO,
     "NIN_TF32 needs a GPU of sm_80 or later; this one is sm_75"},
    {NIN_DEVICE_CUDA, "90", NIN_TF32, NIN_ALGORITHM_WINOGRAD,
     "in NIN_TF32 a CUDA device has no NIN_ALGORITHM_WINOGRAD"},
    {NIN_DEVICE_CUDA, "90", NIN_TF32, NIN_ALGORITHM_DIRECT, NULL},
    {NIN_DEVICE_CUDA, "80", NIN_TF32, NIN_ALGORITHM_AUTO, NULL},
    {NIN_DEVICE_CUDA, "120", NIN_TF32, NIN_ALGORITHM_GEMM, NULL},
};

START_TEST(a_precision_that_is_missing_is_refused)
{
    nin_context *context = NULL;
    nin_network *network;
    nin_plan *plan = NULL;
    const nin_plan_desc desc = {.struct_size = sizeof desc,
                                .precision = refused_precisions[_i].precision,
                                .algorithm = refused_precisions[_i].algorithm};

    use_module("stand_in");
    setenv("NIN_CUDA_CAPABILITY", refused_precisions[_i].capability, 1);
    ASSERT_OK(nin_context_create(
        &context,
        NIN_DESC(nin_context_desc, .device = refused_precisions[_i].device, .threads = 1)));
    network = rig_network(context, RIG_SMALL);
    if (refused_precisions[_i].words == NULL)
        ASSERT_OK(nin_plan_create(&plan, network, &desc));
    else
        ASSERT_FAILS(NIN_UNSUPPORTED, refused_precisions[_i].words,
                     nin_plan_create(&plan, network, &desc));
    nin_plan_destroy(plan);
    nin_network_destroy(network);
    nin_context_destroy(context);
}
END_TEST

/* ---- classifier ----------------------------------------------------------------------------- */

/* Of labels, for scores that are there: (softmax - 1 at the label) / batch. */
static float *score_gradient_of(const float *scores, const int32_t *labels, int32_t classes)
{
    float *gradient = calloc((size_t)BATCH * (size_t)classes, sizeof *gradient);

    ck_assert_ptr_nonnull(gradient);
    for (int32_t n = 0; n < BATCH; n++) {
        const float *x = scores + n * classes;
        double sum = 0.0;

        for (int32_t c = 0; c < classes; c++)
            sum += exp((double)x[c]);
        for (int32_t c = 0; c < classes; c++)
            gradient[n * classes + c] =
                (float)((exp((double)x[c]) / sum - (c == labels[n])) / BATCH);
    }
    return gradient;
}

static const nin_precision classified[] = {NIN_FP32, NIN_TF32, NIN_BF16};

/* With labels one kernel pools, classifies and goes back; without, three do, and the caller has the
 * gradient. */
START_TEST(the_classifier_is_its_parts)
{
    struct rig_desc desc = cuda_rig(RIG_SMALL, NIN_TRAIN);
    float *together, *apart, *of_labels, *of_scores, *score_gradient;
    size_t count;
    struct rig rig;
    char text[4096];
    nin_batch_desc batch;

    use_a_device_module();
    desc.precision = classified[_i];
    rig_make(&rig, &desc);
    ck_assert_uint_lt(nin_plan_describe(rig.plan, text, sizeof text), sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "with the pool before it"));
    rig_backward(&rig, 0, BATCH);
    together = rig_scores(rig.plan, BATCH, &count);
    of_labels = rig_gradient(&rig);
    batch = rig_batch(&rig, 0, BATCH);
    ASSERT_OK(nin_plan_forward(rig.plan, &batch));
    apart = rig_scores(rig.plan, BATCH, &count);
    ck_assert_mem_eq(together, apart, count * sizeof *apart);
    score_gradient = score_gradient_of(apart, rig.labels, (int32_t)(count / BATCH));
    ASSERT_OK(nin_plan_backward(NULL, rig.plan,
                                NIN_DESC(nin_backward_desc, .score_gradient = score_gradient)));
    of_scores = rig_gradient(&rig);
    check_near(of_labels, of_scores, nin_network_parameter_count(rig.network),
               classified[_i] == NIN_FP32 ? 1e-6 : 1e-3, "gradient");
    free(together);
    free(apart);
    free(of_labels);
    free(of_scores);
    free(score_gradient);
    rig_free(&rig);
}
END_TEST

/* ---- checkpoints ----------------------------------------------------------------------------- */

enum {
    SAMPLES = 50
};

struct moving {
    struct rig rig;
    nin_trainer *trainer;
};

static nin_dataset *make_samples(void)
{
    static float images[SAMPLES * 2 * 16 * 16];
    static int32_t labels[SAMPLES];
    nin_dataset *samples = NULL;

    for (size_t i = 0; i < sizeof images / sizeof images[0]; i++)
        images[i] = (float)(i * 37 % 101) / 101.0f - 0.5f;
    for (int32_t i = 0; i < SAMPLES; i++)
        labels[i] = i % 5;
    ASSERT_OK(nin_dataset_create_arrays(&samples,
                                        NIN_DESC(nin_arrays_desc, .channels = 2, .height = 16,
                                                 .width = 16, .dtype = NIN_F32, .images = images,
                                                 .labels = labels, .count = SAMPLES)));
    return samples;
}

static void start_moving(struct moving *moving, nin_device device, const nin_dataset *samples)
{
    struct rig_desc desc = cuda_rig(RIG_SMALL, NIN_TRAIN);

    desc.device = device;
    rig_make(&moving->rig, &desc);
    ASSERT_OK(nin_trainer_create(&moving->trainer, moving->rig.plan, moving->rig.optimizer, NULL,
                                 samples, NULL));
}

static void stop_moving(struct moving *moving)
{
    nin_trainer_destroy(moving->trainer);
    rig_free(&moving->rig);
}

/* A run that is saved on one device goes on on the other, and to nearly the same. */
static void check_move(nin_device from, nin_device to)
{
    const nin_restore_desc other = {.struct_size = sizeof other, .other_algorithm = 1};
    nin_dataset *samples = make_samples();
    struct moving left, right;
    float *got, *wanted;
    size_t count;

    start_moving(&left, from, samples);
    start_moving(&right, to, samples);
    count = nin_network_parameter_count(left.rig.network);
    for (int step = 0; step < 4; step++)
        ASSERT_OK(nin_trainer_step(NULL, left.trainer));
    ASSERT_OK(nin_trainer_save(left.trainer, in_folder("moved")));
    ASSERT_OK(nin_trainer_restore(right.trainer, in_folder("moved"), &other));
    got = rig_parameters(right.rig.network);
    wanted = rig_parameters(left.rig.network);
    ck_assert_mem_eq(got, wanted, count * sizeof *got);
    free(got);
    free(wanted);
    for (int step = 0; step < 4; step++) {
        ASSERT_OK(nin_trainer_step(NULL, left.trainer));
        ASSERT_OK(nin_trainer_step(NULL, right.trainer));
    }
    got = rig_parameters(right.rig.network);
    wanted = rig_parameters(left.rig.network);
    check_near(got, wanted, count, 1e-5, "parameters");
    free(got);
    free(wanted);
    stop_moving(&left);
    stop_moving(&right);
    nin_dataset_destroy(samples);
}

START_TEST(checkpoints_move_either_way)
{
    use_a_device_module();
    make_folder();
    check_move(NIN_DEVICE_CUDA, NIN_DEVICE_CPU);
    check_move(NIN_DEVICE_CPU, NIN_DEVICE_CUDA);
    check_move(NIN_DEVICE_CUDA, NIN_DEVICE_CUDA);
    remove_folder();
}
END_TEST

/* ---- graphs ---------------------------------------------------------------------------------- */

/* The first step of a kind goes call by call, and every later one is a graph. */
START_TEST(steps_become_graphs)
{
    struct rig_desc desc = cuda_rig(RIG_SMALL, NIN_TRAIN);
    int (*graphs)(void);
    struct rig rig;
    int before;

    use_module("stand_in");
    rig_make(&rig, &desc);
    find_function(&graphs, "stand_in_graphs");
    before = graphs();
    for (int64_t step = 0; step < 12; step++)
        rig_step(&rig, step, BATCH - (step % 4 == 3 ? 3 : 0));
    ck_assert_int_eq(graphs() - before, 12 - 2);
    setenv("NIN_CUDA_GRAPH", "0", 1);
    rig_step(&rig, 12, BATCH);
    ck_assert_int_eq(graphs() - before, 12 - 2);
    rig_free(&rig);
    ck_assert_int_eq(alive(), 0);
}
END_TEST

/* ---- epilogues ------------------------------------------------------------------------------- */

static int matmuls(void)
{
    int (*function)(void);

    find_function(&function, "stand_in_matmuls");
    return function();
}

/* Of the scores of batches of every size, twice, so that shapes come back when others have been
 * found since. */
static uint64_t bits_of_batches(int32_t most)
{
    struct rig_desc desc = cuda_rig(RIG_DENSE, NIN_INFER);
    uint64_t hash = RIG_HASH;
    struct rig rig;

    desc.batch = most;
    desc.algorithm = NIN_ALGORITHM_GEMM;
    rig_make(&rig, &desc);
    for (int32_t i = 0; i < 2 * most; i++) {
        nin_batch_desc batch = rig_batch(&rig, 0, 1 + i % most);
        size_t count;
        float *scores;

        ASSERT_OK(nin_plan_forward(rig.plan, &batch));
        scores = rig_scores(rig.plan, batch.count, &count);
        hash = rig_hash(hash, scores, count * sizeof *scores);
        free(scores);
    }
    rig_free(&rig);
    return hash;
}

/* Of the last layer: the other biases are before a ReLU, and added with it. */
START_TEST(biases_are_added_in_epilogues)
{
    static const enum rig_net of[] = {RIG_DENSE, RIG_MNIST};
    struct rig_desc desc = cuda_rig(of[_i], NIN_INFER);
    nin_batch_desc batch;
    struct rig rig;
    int before;

    use_module("stand_in");
    desc.algorithm = NIN_ALGORITHM_GEMM;
    desc.batch = 2;
    rig_make(&rig, &desc);
    batch = rig_batch(&rig, 0, 2);
    before = matmuls();
    ASSERT_OK(nin_plan_forward(rig.plan, &batch));
    ck_assert_int_eq(matmuls() - before, 1);
    rig_free(&rig);
}
END_TEST

static const struct {
    const char *name, *value;
} without_epilogues[] = {
    {"NIN_CUDA_LT", "1"}, /* the ways in which cublasLt has nothing to offer */
    {"NIN_CUDA_LT", "2"}, {"NIN_CUDA_LT", "3"}, {"NIN_CUDA_LT", "4"}, {"NIN_CUDA_EPILOGUE", "0"},
};

START_TEST(without_an_epilogue_biases_are_added_apart)
{
    uint64_t training, inference;
    int before;

    use_module("stand_in");
    training = bits_of_a_run(RIG_DENSE, NIN_ALGORITHM_GEMM, NIN_FP32, "1");
    inference = bits_of_batches(70);
    before = matmuls();
    ck_assert_int_gt(before, 2 * 70);
    setenv(without_epilogues[_i].name, without_epilogues[_i].value, 1);
    ck_assert_uint_eq(bits_of_a_run(RIG_DENSE, NIN_ALGORITHM_GEMM, NIN_FP32, "1"), training);
    ck_assert_uint_eq(bits_of_batches(70), inference);
    ck_assert_int_eq(matmuls(), before);
}
END_TEST

/* The two may differ in bits, so a run does not go on from one to the other unasked. */
START_TEST(epilogues_are_part_of_a_checkpoint)
{
    const nin_restore_desc other = {.struct_size = sizeof other, .other_algorithm = 1};
    nin_dataset *samples = make_samples();
    struct moving with, without;

    use_module("stand_in");
    make_folder();
    start_moving(&with, NIN_DEVICE_CUDA, samples);
    setenv("NIN_CUDA_EPILOGUE", "0", 1);
    start_moving(&without, NIN_DEVICE_CUDA, samples);
    ASSERT_OK(nin_trainer_save(with.trainer, in_folder("moved")));
    ASSERT_FAILS(NIN_MISMATCH, "'cuda, no epilogues: stand-in 0, ",
                 nin_trainer_restore(without.trainer, in_folder("moved"), NULL));
    ASSERT_OK(nin_trainer_restore(without.trainer, in_folder("moved"), &other));
    ASSERT_OK(nin_trainer_save(without.trainer, in_folder("moved")));
    ASSERT_OK(nin_trainer_restore(without.trainer, in_folder("moved"), NULL));
    stop_moving(&with);
    stop_moving(&without);
    nin_dataset_destroy(samples);
    remove_folder();
}
END_TEST

/* ---- two of them ---------------------------------------------------------------------------- */

/* In DLPack's terms: kDLCUDA and a number. */
static void check_tensor_is_on(nin_context *context, int32_t index)
{
    nin_tensor_info info = {.struct_size = sizeof info};
    nin_tensor *tensor = NULL;

    ASSERT_OK(nin_tensor_create(&tensor, context, NIN_F32, 1, (const int64_t[]){3}));
    ASSERT_OK(nin_tensor_describe(&info, tensor));
    ck_assert_int_eq(info.device_type, 2);
    ck_assert_int_eq(info.device_index, index);
    nin_tensor_destroy(tensor);
}

START_TEST(contexts_work_side_by_side)
{
    struct rig_desc desc = cuda_rig(RIG_SMALL, NIN_TRAIN);
    struct rig rigs[3]; /* two on one device, one on another */
    nin_result wanted, got;

    use_module("stand_in");
    setenv("NIN_CUDA_DEVICES", "2", 1);
    for (int i = 0; i < 3; i++) {
        desc.device_index = i / 2;
        rig_make(&rigs[i], &desc);
        check_tensor_is_on(rigs[i].context, i / 2);
    }
    for (int64_t step = 0; step < 3; step++) {
        wanted = rig_step(&rigs[0], step, BATCH);
        for (int i = 1; i < 3; i++) {
            got = rig_step(&rigs[i], step, BATCH);
            ck_assert_mem_eq(&got.loss, &wanted.loss, sizeof got.loss);
        }
    }
    for (int i = 0; i < 3; i++)
        rig_free(&rigs[i]);
    ck_assert_int_eq(alive(), 0);
}
END_TEST

/* The application's own context, current or none, stays what it is. */
START_TEST(the_current_device_is_left_as_it_is)
{
    struct rig_desc desc = cuda_rig(RIG_SMALL, NIN_TRAIN);
    void *(*current)(void);
    void (*push)(void *);
    struct rig rig;

    desc.algorithm = NIN_ALGORITHM_GEMM;
    use_module("stand_in");
    rig_make(&rig, &desc);
    find_function(&current, "stand_in_current");
    find_function(&push, "stand_in_push");
    ck_assert_ptr_null(current());
    rig_step(&rig, 0, BATCH);
    ck_assert_ptr_null(current());
    push(&rig); /* any pointer but ours */
    rig_step(&rig, 1, BATCH);
    ck_assert_ptr_eq(current(), &rig);
    rig_free(&rig);
    ck_assert_ptr_eq(current(), &rig);
}
END_TEST

/* ---- what belongs to the application --------------------------------------------------------- */

/* Functions of the stand-in, once there is a context. */
static struct {
    void *(*create)(void);
    void (*destroy)(void *stream);
    int (*calls)(void *stream);
    void (*capture)(void *stream);
    int (*captured)(void *stream);
} streams;

static void find_streams(void)
{
    nin_context *context = NULL;

    use_module("stand_in");
    ASSERT_OK(nin_context_create(&context, NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CUDA)));
    find_function(&streams.create, "stand_in_stream_create");
    find_function(&streams.destroy, "stand_in_stream_destroy");
    find_function(&streams.calls, "stand_in_stream_calls");
    find_function(&streams.capture, "stand_in_stream_capture");
    find_function(&streams.captured, "stand_in_stream_captured");
    nin_context_destroy(context);
}

/* It is used for everything, also for graphs, and left to the caller. */
START_TEST(a_stream_of_the_callers_is_used)
{
    struct rig_desc desc = cuda_rig(RIG_SMALL, NIN_TRAIN);
    struct rig ours, callers;
    int (*graphs)(void), before;
    void *stream;

    find_streams();
    find_function(&graphs, "stand_in_graphs");
    rig_make(&ours, &desc);
    desc.cuda_stream = stream = streams.create();
    rig_make(&callers, &desc);
    before = graphs();
    for (int64_t step = 0; step < 4; step++) {
        nin_result wanted = rig_step(&ours, step, BATCH), got;
        int calls = streams.calls(stream);

        got = rig_step(&callers, step, BATCH);
        ck_assert_int_gt(streams.calls(stream), calls + 40); /* a step takes more */
        ck_assert_mem_eq(&got.loss, &wanted.loss, sizeof got.loss);
    }
    ck_assert_int_eq(graphs() - before, 2 * 3);
    rig_free(&ours);
    rig_free(&callers);
    ck_assert_int_eq(alive(), 1);
    streams.destroy(stream);
    ck_assert_int_eq(alive(), 0);
}
END_TEST

static void check_no_stream(void *stream, const char *words)
{
    nin_context *context = NULL;

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, words,
                 nin_context_create(&context, NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CUDA,
                                                       .device_index = 1, .cuda_stream = stream)));
}

START_TEST(a_stream_that_cannot_be_used_is_refused)
{
    nin_context *context = NULL;
    void *stream;

    setenv("NIN_CUDA_DEVICES", "2", 1);
    find_streams();
    stream = streams.create();
    check_no_stream((void *)1, "cuda_stream is a default stream");
    check_no_stream((void *)2, "cuda_stream is a default stream");
    check_no_stream(&context, "cuda_stream is no stream");
    check_no_stream(stream, "cuda_stream is of device 0, the context of device 1");
    streams.destroy(stream);
    ck_assert_int_eq(alive(), 0);
}
END_TEST

/* The application captures work of its own, in the mode in which hardly anything may be called: we
 * allocate, load and capture all the same, and its graph is not spoilt. Afterwards its own calls
 * are forbidden as before. */
START_TEST(a_capture_of_the_applications_is_not_spoilt)
{
    struct rig_desc desc = cuda_rig(RIG_SMALL, NIN_TRAIN);
    struct rig rig;
    void *stream;

    find_streams();
    stream = streams.create();
    streams.capture(stream);
    rig_make(&rig, &desc);
    for (int64_t step = 0; step < 3; step++)
        rig_step(&rig, step, BATCH);
    ck_assert(streams.captured(stream));
    streams.capture(stream);
    rig_free(&rig); /* with cuBLAS, which waits for the device */
    ck_assert(!streams.captured(stream));
    streams.capture(stream);
    ck_assert_ptr_null(streams.create());
    ck_assert(!streams.captured(stream));
    streams.destroy(stream);
}
END_TEST

/* What an application does with the driver's own functions, of the first device. */
static struct {
    void *context;
    int (*push)(void *context);
    int (*pop)(void **context);
    int (*create)(void **stream, unsigned flags);
    int (*destroy)(void *stream);
    int (*capture)(void *stream, int mode);
    int (*end_capture)(void *stream, void **graph);
    int (*destroy_graph)(void *graph);
} driver;

static void *open_driver(void)
{
    return dlopen("libcuda.so.1", RTLD_NOW);
}

static void find_driver(void)
{
    void *library = open_driver();
    int (*start)(unsigned), (*retain)(void **, int);

    ck_assert_msg(library != NULL, "%s", dlerror());
    find_in(library, &start, "cuInit");
    find_in(library, &retain, "cuDevicePrimaryCtxRetain");
    find_in(library, &driver.push, "cuCtxPushCurrent_v2");
    find_in(library, &driver.pop, "cuCtxPopCurrent_v2");
    find_in(library, &driver.create, "cuStreamCreate");
    find_in(library, &driver.destroy, "cuStreamDestroy_v2");
    find_in(library, &driver.capture, "cuStreamBeginCapture_v2");
    find_in(library, &driver.end_capture, "cuStreamEndCapture");
    find_in(library, &driver.destroy_graph, "cuGraphDestroy");
    ck_assert_int_eq(start(0), 0);
    ck_assert_int_eq(retain(&driver.context, 0), 0);
}

/* Three contexts of one device take turns, one on a stream of the application's, which captures
 * another stream meanwhile, in the mode that forbids most. All have the same bits. */
START_TEST(contexts_and_an_application_share_a_gpu)
{
    struct rig_desc desc = cuda_rig(RIG_SMALL, NIN_TRAIN);
    struct rig rigs[3];
    void *stream, *captured, *graph = NULL, *popped;

    find_driver();
    ck_assert_int_eq(driver.push(driver.context), 0);
    ck_assert_int_eq(driver.create(&stream, 1), 0); /* 1: does not wait for the default stream */
    ck_assert_int_eq(driver.create(&captured, 1), 0);
    ck_assert_int_eq(driver.capture(captured, 0), 0);
    for (int i = 0; i < 3; i++) {
        desc.cuda_stream = i == 2 ? stream : NULL;
        rig_make(&rigs[i], &desc);
    }
    for (int64_t step = 0; step < 4; step++) {
        nin_result wanted = rig_step(&rigs[0], step, BATCH);

        for (int i = 1; i < 3; i++) {
            nin_result got = rig_step(&rigs[i], step, BATCH);

            ck_assert_mem_eq(&got.loss, &wanted.loss, sizeof got.loss);
        }
    }
    ck_assert_int_eq(driver.end_capture(captured, &graph), 0); /* rig_free would spoil it */
    ck_assert_int_eq(driver.destroy_graph(graph), 0);
    for (int i = 0; i < 3; i++)
        rig_free(&rigs[i]);
    ck_assert_int_eq(driver.destroy(captured), 0);
    ck_assert_int_eq(driver.destroy(stream), 0);
    ck_assert_int_eq(driver.pop(&popped), 0);
    ck_assert_ptr_eq(popped, driver.context);
}
END_TEST

/* All that a context had there is gone: it says so, touches nothing of it, and another one
 * works. */
START_TEST(a_reset_device_is_noticed)
{
    struct rig_desc desc = cuda_rig(RIG_SMALL, NIN_TRAIN);
    nin_dataset *samples;
    nin_trainer *trainer = NULL;
    nin_batch_desc batch;
    void (*reset)(void);
    struct rig rig;

    use_module("stand_in");
    samples = make_samples();
    rig_make(&rig, &desc);
    ASSERT_OK(nin_trainer_create(&trainer, rig.plan, rig.optimizer, NULL, samples, NULL));
    for (int i = 0; i < 2; i++)
        ASSERT_OK(nin_trainer_epoch(NULL, trainer));
    find_function(&reset, "stand_in_reset");
    reset();
    batch = rig_batch(&rig, 0, BATCH);
    for (int i = 0; i < 2; i++) {
        ASSERT_FAILS(NIN_BACKEND_FAILED, "the application has reset the device",
                     nin_plan_step(NULL, rig.plan, rig.optimizer, &batch, rig.labels));
        ASSERT_FAILS(NIN_BACKEND_FAILED, "the application has reset the device",
                     nin_trainer_epoch(NULL, trainer));
    }
    nin_trainer_destroy(trainer);
    rig_free(&rig);
    rig_make(&rig, &desc);
    rig_step(&rig, 0, BATCH);
    rig_free(&rig);
    nin_dataset_destroy(samples);
    ck_assert_int_eq(alive(), 0);
}
END_TEST

/* A network whose weights need no other form goes to the device for nothing before its steps. */
START_TEST(a_reset_device_is_noticed_by_whoever_comes_first)
{
    nin_dataset *samples;
    nin_context *context = NULL;
    nin_builder *builder = NULL;
    nin_network *network = NULL;
    nin_plan *plan = NULL;
    nin_optimizer *optimizer = NULL;
    nin_trainer *trainer = NULL;
    void (*reset)(void);

    use_module("stand_in");
    samples = make_samples();
    ASSERT_OK(nin_context_create(&context, NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CUDA)));
    ASSERT_OK(nin_builder_create(
        &builder, context, NIN_DESC(nin_input_desc, .channels = 2, .height = 16, .width = 16)));
    nin_builder_conv2d(builder, "maps", NIN_DESC(nin_conv2d_desc, .filters = 5, .kernel = 1));
    nin_builder_global_average_pool(builder, "average");
    nin_builder_softmax_loss(builder, "loss");
    ASSERT_OK(nin_builder_finish(&network, builder));
    ASSERT_OK(nin_network_initialise(network, NULL, 7));
    ASSERT_OK(nin_plan_create(&plan, network,
                              NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = 4)));
    ASSERT_OK(nin_optimizer_create_sgd(&optimizer, network, NULL));
    ASSERT_OK(nin_trainer_create(&trainer, plan, optimizer, NULL, samples, NULL));
    for (int i = 0; i < 2; i++)
        ASSERT_OK(nin_trainer_epoch(NULL, trainer));
    find_function(&reset, "stand_in_reset");
    reset();
    for (int i = 0; i < 2; i++)
        ASSERT_FAILS(NIN_BACKEND_FAILED, "the application has reset the device",
                     nin_trainer_epoch(NULL, trainer));
    nin_trainer_destroy(trainer);
    nin_optimizer_destroy(optimizer);
    nin_plan_destroy(plan);
    nin_network_destroy(network);
    nin_builder_destroy(builder);
    nin_context_destroy(context);
    nin_dataset_destroy(samples);
    ck_assert_int_eq(alive(), 0);
}
END_TEST

/* ---- failures ------------------------------------------------------------------------------- */

enum {
    PARAMETERS = 153,
    STEPS = 4 /* of two kinds, first call by call and then as graphs */
};

/* Everything that a program does with a device, and the bits that it gets. */
struct use {
    nin_algorithm algorithm;
    nin_precision precision;
    nin_context *context;
    nin_builder *builder;
    nin_network *network;
    nin_plan *plan;
    nin_optimizer *optimizer;
    int32_t step;
    float scores[6], before[STEPS][PARAMETERS], parameters[PARAMETERS];
};

static nin_status open_context(struct use *use)
{
    return nin_context_create(&use->context,
                              NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CUDA, .threads = 1));
}

static nin_status describe_network(struct use *use)
{
    ASSERT_OK(
        nin_builder_create(&use->builder, use->context,
                           NIN_DESC(nin_input_desc, .channels = 2, .height = 16, .width = 16)));
    nin_builder_conv2d(use->builder, "conv",
                       NIN_DESC(nin_conv2d_desc, .filters = 3, .kernel = 5, .pad = 2));
    nin_builder_max_pool(use->builder, "max", NIN_DESC(nin_pool_desc, .kernel = 3, .stride = 2));
    nin_builder_dropout(use->builder, "drop", 0.5);
    nin_builder_global_average_pool(use->builder, "average");
    nin_builder_softmax_loss(use->builder, "loss");
    return NIN_OK;
}

static nin_status finish_network(struct use *use)
{
    return nin_builder_finish(&use->network, use->builder);
}

static nin_status initialise(struct use *use)
{
    return nin_network_initialise(use->network, NULL, 1);
}

static nin_status make_plan(struct use *use)
{
    return nin_plan_create(&use->plan, use->network,
                           NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = 2,
                                    .algorithm = use->algorithm, .precision = use->precision));
}

static nin_status make_optimizer(struct use *use)
{
    return nin_optimizer_create_sgd(&use->optimizer, use->network,
                                    NIN_DESC(nin_sgd_desc, .rate = 0.1));
}

static nin_status keep_parameters(struct use *use)
{
    return nin__network_download(use->network, use->before[use->step]);
}

static nin_status take_step(struct use *use)
{
    static const int32_t labels[] = {1, 0};
    static float images[2 * 2 * 16 * 16];
    nin_status status;

    for (size_t i = 0; i < sizeof images / sizeof images[0]; i++)
        images[i] = (float)(i * 37 % 101) / 101.0f - 0.5f;
    status = nin_plan_step(
        NULL, use->plan, use->optimizer,
        NIN_DESC(nin_batch_desc, .images = images, .count = 1 + use->step % 2, .step = use->step),
        labels);
    use->step += status == NIN_OK;
    return status;
}

static nin_status read_scores(struct use *use)
{
    return nin_plan_scores(use->plan, use->scores, 6);
}

static nin_status read_parameters(struct use *use)
{
    return nin__network_download(use->network, use->parameters);
}

static nin_status (*const stages[])(struct use *use) = {
    open_context,    describe_network, finish_network,  initialise,
    make_plan,       make_optimizer,   keep_parameters, take_step,
    keep_parameters, take_step,        keep_parameters, take_step,
    keep_parameters, take_step,        read_scores,     read_parameters};

static int last_error(void)
{
    int (*function)(void);

    find_function(&function, "stand_in_last_error");
    return function();
}

/* A failed stage has a sentence, and nothing has changed: it succeeds when it is tried again,
 * unless the sentence says that the context can no longer be used. */
static nin_status try_again(struct use *use, nin_status (*stage)(struct use *use))
{
    ck_assert_msg(*nin_last_error() != '\0', "a failure says nothing");
    if (stage == take_step && nin__network_download(use->network, use->parameters) == NIN_OK)
        ck_assert_mem_eq(use->parameters, use->before[use->step], sizeof use->parameters);
    if (stage(use) == NIN_OK)
        return NIN_OK;
    ck_assert_ptr_nonnull(strstr(nin_last_error(), "can no longer be used"));
    return NIN_BACKEND_FAILED;
}

/* No call leaves an error of CUDA for the application. Gives how many stages have failed, the
 * context's end as one more than all. */
static int use_a_device(struct use *use)
{
    int failures = 0;

    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
        nin_status status = stages[i](use);

        ck_assert_int_eq(last_error(), 0);
        failures += status != NIN_OK;
        if (status != NIN_OK && try_again(use, stages[i]) != NIN_OK) {
            failures = (int)(sizeof stages / sizeof stages[0]) + 1;
            break;
        }
        ck_assert_int_eq(last_error(), 0);
    }
    nin_optimizer_destroy(use->optimizer);
    nin_plan_destroy(use->plan);
    nin_network_destroy(use->network);
    nin_builder_destroy(use->builder);
    nin_context_destroy(use->context);
    ck_assert_int_eq(last_error(), 0);
    return failures;
}

/* Each call of CUDA fails once. Then the sentence is CUDA's, or, where a step cannot be captured
 * and goes call by call, there is none; the bits are the same in the end, but for a context that
 * says that it is lost; and nothing is left behind. */
START_TEST(every_failure_is_survived)
{
    static const struct use uses[] = {{.algorithm = NIN_ALGORITHM_GEMM},
                                      {.algorithm = NIN_ALGORITHM_WINOGRAD},
                                      {.precision = NIN_BF16}};
    struct use wanted = uses[_i];
    int (*fail_at)(int);
    int calls, unnoticed = 0, lost = 0;

    use_module("stand_in");
    ck_assert_uint_gt(nin_device_count(), 1); /* the module is there */
    find_function(&fail_at, "stand_in_fail");
    fail_at(0);
    ck_assert_int_eq(use_a_device(&wanted), 0);
    calls = fail_at(0);
    ck_assert_int_gt(calls, 100);
    for (int n = 1; n <= calls; n++) {
        struct use got = uses[_i];
        int failures;

        fail_at(n);
        failures = use_a_device(&got);
        unnoticed += failures == 0;
        lost += failures > 1;
        if (failures <= 1) {
            ck_assert_mem_eq(got.parameters, wanted.parameters, sizeof got.parameters);
            ck_assert_mem_eq(got.scores, wanted.scores, sizeof got.scores);
        }
        ck_assert_msg(alive() == 0, "failure %d leaves %d things behind", n, alive());
    }
    ck_assert_int_gt(unnoticed, LAST_WAITS);
    ck_assert_int_lt(unnoticed, calls / 2);
    ck_assert_int_ge(lost, STEPS); /* whose results did not come */
    ck_assert_int_lt(lost, calls / 10);
}
END_TEST

/* Of the application's: what we do successfully does not take it away. */
START_TEST(an_error_of_the_applications_stays)
{
    const int not_supported = 801;
    void (*set)(int);
    struct use use = {.algorithm = NIN_ALGORITHM_AUTO};

    use_module("stand_in");
    ck_assert_uint_gt(nin_device_count(), 1);
    find_function(&set, "stand_in_set_last_error");
    set(not_supported);
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
        ASSERT_OK(stages[i](&use));
        ck_assert_int_eq(last_error(), not_supported);
    }
    nin_optimizer_destroy(use.optimizer);
    nin_plan_destroy(use.plan);
    nin_network_destroy(use.network);
    nin_builder_destroy(use.builder);
    nin_context_destroy(use.context);
    ck_assert_int_eq(last_error(), not_supported);
}
END_TEST

/* After an error that CUDA does not recover from, every call has the same sentence, and destroying
 * works. */
START_TEST(a_broken_device_is_not_used_again)
{
    struct rig_desc desc = cuda_rig(RIG_SMALL, NIN_TRAIN);
    nin_batch_desc batch;
    nin_optimizer *another = NULL;
    void (*break_it)(void);
    struct rig rig;

    use_module("stand_in");
    rig_make(&rig, &desc);
    find_function(&break_it, "stand_in_break");
    batch = rig_batch(&rig, 0, BATCH);
    break_it();
    for (int i = 0; i < 2; i++)
        ASSERT_FAILS(NIN_BACKEND_FAILED, "illegal memory access was encountered, detected at",
                     nin_plan_step(NULL, rig.plan, rig.optimizer, &batch, rig.labels));
    ASSERT_FAILS(NIN_BACKEND_FAILED, "illegal memory access was encountered, detected at",
                 nin_optimizer_create_sgd(&another, rig.network, NULL));
    rig_free(&rig);
}
END_TEST

Suite *cuda_suite(void)
{
    Suite *suite = suite_create("cuda");
    TCase *modules = tcase_create("modules"), *training = tcase_create("training");
    TCase *stand_in = tcase_create("stand-in"), *more = tcase_create("more");

    tcase_set_tags(modules, "cuda");
    tcase_set_tags(training, "cuda");
    tcase_set_tags(stand_in, "cuda");
    tcase_set_tags(more, "cuda long");
    tcase_add_loop_test(modules, a_wrong_module_is_refused, 0, sizeof refused / sizeof refused[0]);
    tcase_add_test(modules, a_module_is_not_looked_for_in_the_current_directory);
    tcase_add_loop_test(modules, a_machine_that_cannot_be_used_says_why, 0,
                        sizeof machines / sizeof machines[0]);
    tcase_add_loop_test(training, training_agrees_with_the_cpu, 0, 2);
    tcase_add_loop_test(training, neither_the_order_of_threads_nor_a_graph_is_part_of_the_bits, 0,
                        sizeof ordered / sizeof ordered[0]);
    tcase_add_test(training, a_bad_step_changes_nothing);
    tcase_add_loop_test(training, tf32_rounds_operands, 0, 2);
    tcase_add_loop_test(training, bf16_rounds_maps, 0, 2);
    tcase_add_loop_test(training, the_classifier_is_its_parts, 0, 3);
    tcase_add_test(training, checkpoints_move_either_way);
    tcase_add_loop_test(training, minimal_filtering_agrees_with_the_cpu, 0,
                        sizeof convolutions / sizeof convolutions[0]);
    tcase_add_loop_test(training, direct_kernels_agree_with_the_cpu, 0,
                        sizeof direct_convolutions / sizeof direct_convolutions[0]);
    tcase_add_loop_test(training, each_relu_is_heeded_once, 0, 4);
    tcase_add_loop_test(training, plans_share_the_forms_of_weights, 0,
                        sizeof sharings / sizeof sharings[0]);
    tcase_add_test(training, minimal_filtering_is_used_where_it_pays);
    tcase_add_test(training, other_algorithms_are_refused);
    /* the stand-in's like: contexts_work_side_by_side and those behind it */
    if (device_is_cuda() && open_driver() != NULL)
        tcase_add_test(training, contexts_and_an_application_share_a_gpu);
    tcase_add_test(stand_in, a_device_that_can_be_used_is_taken);
    tcase_add_loop_test(stand_in, a_precision_that_is_missing_is_refused, 0,
                        sizeof refused_precisions / sizeof refused_precisions[0]);
    tcase_add_test(stand_in, steps_become_graphs);
    tcase_add_loop_test(stand_in, biases_are_added_in_epilogues, 0, 2);
    tcase_add_loop_test(stand_in, without_an_epilogue_biases_are_added_apart, 0, 1);
    tcase_add_loop_test(more, without_an_epilogue_biases_are_added_apart, 1,
                        sizeof without_epilogues / sizeof without_epilogues[0]);
    tcase_add_test(stand_in, epilogues_are_part_of_a_checkpoint);
    tcase_add_test(stand_in, contexts_work_side_by_side);
    tcase_add_test(stand_in, the_current_device_is_left_as_it_is);
    tcase_add_test(stand_in, a_stream_of_the_callers_is_used);
    tcase_add_test(stand_in, a_stream_that_cannot_be_used_is_refused);
    tcase_add_test(stand_in, a_capture_of_the_applications_is_not_spoilt);
    tcase_add_test(stand_in, a_reset_device_is_noticed);
    tcase_add_test(stand_in, a_reset_device_is_noticed_by_whoever_comes_first);
    tcase_add_loop_test(stand_in, every_failure_is_survived, 0, 3);
    tcase_add_test(stand_in, an_error_of_the_applications_stays);
    tcase_add_test(stand_in, a_broken_device_is_not_used_again);
    suite_add_tcase(suite, modules);
    suite_add_tcase(suite, training);
    suite_add_tcase(suite, stand_in);
    suite_add_tcase(suite, more);
    return suite;
}
