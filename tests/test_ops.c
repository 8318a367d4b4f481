/* SPDX-License-Identifier: MIT */
/* Every layer, alone and in stacks, against the oracle, through the public interface. */
#include "device.h"
#include "oracle.h"
#include "suites.h"
#include "test.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* A later algorithm is one more line here. */
static const nin_algorithm algorithms[] = {NIN_ALGORITHM_AUTO, NIN_ALGORITHM_GEMM,
                                           NIN_ALGORITHM_DIRECT, NIN_ALGORITHM_WINOGRAD,
                                           NIN_ALGORITHM_FFT};

/* ---- a network on both sides --------------------------------------------------------------- */

/* Largest errors (root mean square, relative) of the output and of the three gradients. */
struct bounds {
    double y, dx, dw, db;
};

struct trial {
    const struct oracle_layer *layers;
    int count;
    struct oracle_map input;
    struct bounds bounds;
    nin_dtype dtype; /* of the images */
    int64_t step, position;
    uint32_t seed; /* of the context */
    int keep;      /* keep every output: nothing is fused */
    int ties;      /* images of few different numbers */
    int centred; /* images and gradients of scores have a mean of 0, so that sums of many are small */
    int mlpconv;           /* build the layers by one call */
    long built_h, built_w; /* size that the network is built for; 0: that of the input */
};

static const double scale = 1.0 / 127.5, shift = -1.0; /* of stored pixels */

struct pair {
    const struct trial *trial;
    struct oracle *oracle;
    nin_context *context;
    nin_network *network;
    nin_plan *plan;
    void *images;
    float *score_gradient;
    int32_t *labels; /* NULL: no loss */
};

static void *new_array(long count, size_t size)
{
    void *array = calloc((size_t)count + 1, size);

    ck_assert_ptr_nonnull(array);
    return array;
}

static void add_pool(nin_builder *builder, const char *name, const struct oracle_layer *layer)
{
    nin_pool_desc pool = {.struct_size = sizeof pool,
                          .kernel = (int32_t)layer->window.kernel,
                          .stride = (int32_t)layer->window.stride,
                          .pad = (int32_t)layer->window.pad,
                          .round_up = layer->round_up,
                          .exclude_padding = layer->exclude_padding};

    if (layer->kind == ORACLE_MAX_POOL)
        ASSERT_OK(nin_builder_max_pool(builder, name, &pool));
    else
        ASSERT_OK(nin_builder_average_pool(builder, name, &pool));
}

static void add_parameters(nin_builder *builder, const char *name, const struct oracle_layer *layer)
{
    nin_dense_desc dense = {
        .struct_size = sizeof dense, .units = (int32_t)layer->filters, .no_bias = layer->no_bias};
    nin_conv2d_desc conv = {.struct_size = sizeof conv,
                            .filters = (int32_t)layer->filters,
                            .kernel = (int32_t)layer->window.kernel,
                            .stride = (int32_t)layer->window.stride,
                            .pad = (int32_t)layer->window.pad,
                            .no_bias = layer->no_bias};

    if (layer->kind == ORACLE_CONV)
        ASSERT_OK(nin_builder_conv2d(builder, name, &conv));
    else
        ASSERT_OK(nin_builder_dense(builder, name, &dense));
}

static void layer_name(char name[16], int i)
{
    snprintf(name, 16, "layer%d", i);
}

static void add_layer(nin_builder *builder, int i, const struct oracle_layer *layer)
{
    char name[16];

    layer_name(name, i);
    switch (layer->kind) {
    case ORACLE_CONV:
    case ORACLE_DENSE:
        add_parameters(builder, name, layer);
        break;
    case ORACLE_MAX_POOL:
    case ORACLE_AVERAGE_POOL:
        add_pool(builder, name, layer);
        break;
    case ORACLE_GLOBAL_AVERAGE:
        ASSERT_OK(nin_builder_global_average_pool(builder, name));
        break;
    case ORACLE_RELU:
        ASSERT_OK(nin_builder_relu(builder, name));
        break;
    case ORACLE_DROPOUT:
        ASSERT_OK(nin_builder_dropout(builder, name, layer->drop));
        break;
    case ORACLE_LOSS:
        ASSERT_OK(nin_builder_softmax_loss(builder, name));
        break;
    }
}

/* Convolution, ReLU, convolution, ReLU, ... by nin_builder_mlpconv. */
static void add_mlpconv(nin_builder *builder, const struct trial *trial)
{
    int32_t widths[8], count = 0;
    nin_mlpconv_desc mlpconv = {.struct_size = sizeof mlpconv,
                                .widths = widths,
                                .kernel = (int32_t)trial->layers[0].window.kernel,
                                .stride = (int32_t)trial->layers[0].window.stride,
                                .pad = (int32_t)trial->layers[0].window.pad,
                                .no_last_relu = trial->count % 2};

    for (int i = 0; i < trial->count; i += 2)
        widths[count++] = (int32_t)trial->layers[i].filters;
    mlpconv.count = count;
    ASSERT_OK(nin_builder_mlpconv(builder, "block", &mlpconv));
}

static void make_network(struct pair *pair)
{
    const struct trial *trial = pair->trial;
    nin_context_desc context = {
        .struct_size = sizeof context, .threads = trial->count > 1 ? 2 : 1, .seed = trial->seed};
    nin_input_desc input = {.struct_size = sizeof input,
                            .channels = (int32_t)trial->input.c,
                            .height = (int32_t)(trial->built_h ? trial->built_h : trial->input.h),
                            .width = (int32_t)(trial->built_w ? trial->built_w : trial->input.w),
                            .scale = scale,
                            .shift = shift};
    nin_builder *builder;

    ASSERT_OK(nin_context_create(&pair->context, &context));
    ASSERT_OK(nin_builder_create(&builder, pair->context, &input));
    if (trial->mlpconv)
        add_mlpconv(builder, trial);
    for (int i = 0; !trial->mlpconv && i < trial->count; i++)
        add_layer(builder, i, &trial->layers[i]);
    ASSERT_OK(nin_builder_finish(&pair->network, builder));
    nin_builder_destroy(builder);
}

static nin_plan *make_plan(const struct pair *pair, nin_mode mode, nin_algorithm algorithm,
                           int input_gradient)
{
    const struct trial *trial = pair->trial;
    char names[16][16];
    const char *keep[16];
    nin_plan_desc desc = {.struct_size = sizeof desc,
                          .mode = mode,
                          .max_batch = (int32_t)trial->input.n,
                          .height = (int32_t)trial->input.h,
                          .width = (int32_t)trial->input.w,
                          .algorithm = algorithm,
                          .keep = keep,
                          .input_gradient = input_gradient};
    nin_plan *plan;

    for (int i = 0; trial->keep && i < trial->count; i++) {
        layer_name(names[i], i);
        keep[i] = names[i];
        desc.keep_count += trial->layers[i].kind != ORACLE_LOSS;
    }
    ASSERT_OK(nin_plan_create(&plan, pair->network, &desc));
    return plan;
}

/* ---- the same data on both sides ----------------------------------------------------------- */

static void to_doubles(double *target, const float *source, long count)
{
    for (long k = 0; k < count; k++)
        target[k] = source[k];
}

static void load(double *target, nin_layer *layer, nin_parameter which, long count, double size,
                 uint64_t seed)
{
    float *values = new_array(count, sizeof *values);

    oracle_fill(values, count, 0.0, size, seed);
    to_doubles(target, values, count);
    ASSERT_OK(nin_layer_write(layer, which, values, (size_t)count));
    free(values);
}

static void load_parameters(struct pair *pair, uint64_t seed)
{
    for (int i = 0; i < pair->oracle->count; i++) {
        struct oracle_stage *stage = &pair->oracle->stages[i];
        nin_layer *layer = nin_network_layer(pair->network, (size_t)i);

        if (stage->weights == 0)
            continue;
        load(stage->w, layer, NIN_WEIGHT, stage->weights,
             sqrt(3.0 * (double)stage->out.c / (double)stage->weights), seed + (uint64_t)i);
        if (stage->biases > 0)
            load(stage->b, layer, NIN_BIAS, stage->biases, 0.5, seed + 100 + (uint64_t)i);
    }
}

static void load_images(struct pair *pair, uint64_t seed)
{
    long count = oracle_size(pair->oracle->input);
    unsigned char *bytes = pair->images;
    float *floats = pair->images;

    oracle_fill(floats, count, pair->trial->centred ? 0.0 : 0.25, 1.0, seed + 200);
    for (long k = 0; k < count; k++) {
        unsigned char random = (unsigned char)(oracle_random(&seed) >> 56);

        if (pair->trial->ties)
            floats[k] = random % 3;
        if (pair->trial->dtype == NIN_U8)
            bytes[k] = random;
        pair->oracle->x[k] = pair->trial->dtype == NIN_U8 ? random * scale + shift : floats[k];
    }
}

static void load_masks(struct pair *pair)
{
    uint32_t dropouts = 0;

    for (int i = 0; i < pair->oracle->count; i++) {
        struct oracle_stage *stage = &pair->oracle->stages[i];

        if (stage->layer.kind == ORACLE_DROPOUT)
            oracle_mask(stage->keep, stage->in, stage->layer.drop, pair->trial->seed, dropouts++,
                        pair->trial->step, pair->trial->position);
    }
}

/* Where a decision (ReLU, maximum) is closer than ten times fp32's errors, other data are drawn. */
static void load_everything(struct pair *pair)
{
    long scores = oracle_size(pair->oracle->scores);
    uint64_t seed = 1;

    load_masks(pair);
    do {
        seed += 1000;
        load_parameters(pair, seed);
        load_images(pair, seed);
        oracle_forward(pair->oracle);
    } while (!pair->trial->ties && oracle_clearance(pair->oracle) < 4e-6);
    oracle_fill(pair->score_gradient, scores, pair->trial->centred ? 0.0 : 0.25, 1.0, seed + 300);
    for (long n = 0; pair->labels != NULL && n < pair->oracle->scores.n; n++)
        pair->labels[n] = (int32_t)(oracle_random(&seed) % (uint64_t)pair->oracle->scores.c);
}

static struct pair make_pair(const struct trial *trial)
{
    struct pair pair = {.trial = trial};

    pair.oracle = oracle_create(trial->layers, trial->count, trial->input);
    pair.images = new_array(oracle_size(trial->input), sizeof(float));
    pair.score_gradient = new_array(oracle_size(pair.oracle->scores), sizeof(float));
    if (trial->layers[trial->count - 1].kind == ORACLE_LOSS)
        pair.labels = new_array(trial->input.n, sizeof *pair.labels);
    make_network(&pair);
    load_everything(&pair);
    return pair;
}

static void free_pair(struct pair *pair)
{
    nin_plan_destroy(pair->plan);
    nin_network_destroy(pair->network);
    nin_context_destroy(pair->context);
    oracle_destroy(pair->oracle);
    free(pair->images);
    free(pair->score_gradient);
    free(pair->labels);
}

/* ---- run and compare ----------------------------------------------------------------------- */

static nin_batch_desc batch_of(const struct pair *pair)
{
    return (nin_batch_desc){.struct_size = sizeof(nin_batch_desc),
                            .images = pair->images,
                            .dtype = pair->trial->dtype,
                            .count = (int32_t)pair->trial->input.n,
                            .step = pair->trial->step,
                            .first_position = pair->trial->position};
}

static nin_result run_backward(struct pair *pair, int accumulate)
{
    nin_result result = {.struct_size = sizeof result};
    nin_backward_desc backward = {
        .struct_size = sizeof backward, .labels = pair->labels, .accumulate = accumulate};

    if (pair->labels == NULL)
        backward.score_gradient = pair->score_gradient;
    ASSERT_OK(nin_plan_backward(&result, pair->plan, &backward));
    return result;
}

static void run_oracle(struct pair *pair)
{
    long count = oracle_size(pair->oracle->scores);
    double *gradient = new_array(count, sizeof *gradient);

    to_doubles(gradient, pair->score_gradient, count);
    oracle_forward(pair->oracle);
    oracle_backward(pair->oracle, pair->labels, gradient);
    free(gradient);
}

static void expect(const struct trial *trial, const char *what, int layer, const float *got,
                   const double *want, long count, double bound)
{
    const struct oracle_layer *l = &trial->layers[layer];
    double error = oracle_error(got, want, count);

    if (getenv("NIN_TEST_ERRORS") != NULL)
        fprintf(stderr, "%d layers, kind %d: %s %.2e of %.0e\n", trial->count, (int)l->kind, what,
                error, bound);
    ck_assert_msg(error <= bound,
                  "%ldx%ldx%ldx%ld, layer %d (kind %d, %ld filters, %ldx%ld/%ld pad %ld): error of "
                  "%s %g, bound %g",
                  trial->input.n, trial->input.c, trial->input.h, trial->input.w, layer,
                  (int)l->kind, l->filters, l->window.kernel, l->window.kernel, l->window.stride,
                  l->window.pad, what, error, bound);
}

static void compare_gradient(const struct pair *pair, int i, nin_parameter which,
                             const double *want, long count, double bound)
{
    float *got = new_array(count, sizeof *got);
    nin_tensor *tensor;

    ASSERT_OK(
        nin_plan_gradient(&tensor, pair->plan, nin_network_layer(pair->network, (size_t)i), which));
    ASSERT_OK(nin_tensor_read(tensor, got, (size_t)count * sizeof *got));
    expect(pair->trial, which == NIN_WEIGHT ? "dw" : "db", i, got, want, count, bound);
    free(got);
}

static void compare_gradients(const struct pair *pair)
{
    long count = oracle_size(pair->oracle->input);
    float *dx = new_array(count, sizeof *dx);

    for (int i = 0; i < pair->oracle->count; i++) {
        const struct oracle_stage *s = &pair->oracle->stages[i];

        if (s->weights > 0)
            compare_gradient(pair, i, NIN_WEIGHT, s->dw, s->weights, pair->trial->bounds.dw);
        if (s->biases > 0)
            compare_gradient(pair, i, NIN_BIAS, s->db, s->biases, pair->trial->bounds.db);
    }
    ASSERT_OK(nin_plan_input_gradient(pair->plan, dx, (size_t)count));
    expect(pair->trial, "dx", 0, dx, pair->oracle->dx, count, pair->trial->bounds.dx);
    free(dx);
}

static void compare_outputs(const struct pair *pair)
{
    const struct trial *trial = pair->trial;
    long count = oracle_size(pair->oracle->scores);
    float *scores = new_array(count, sizeof *scores);

    ASSERT_OK(nin_plan_scores(pair->plan, scores, (size_t)count));
    expect(trial, "scores", trial->count - 1, scores, oracle_scores(pair->oracle), count,
           trial->bounds.y);
    free(scores);
    for (int i = 0; trial->keep && i < trial->count; i++) {
        const struct oracle_stage *s = &pair->oracle->stages[i];
        float *y = new_array(oracle_size(s->out), sizeof *y);
        char name[16];

        layer_name(name, i);
        if (s->layer.kind != ORACLE_LOSS) {
            ASSERT_OK(nin_plan_kept(pair->plan, name, y, (size_t)oracle_size(s->out)));
            expect(trial, "kept output", i, y, s->y, oracle_size(s->out), trial->bounds.y);
        }
        free(y);
    }
}

/* Images whose largest score is their label's. */
static long count_correct(const struct pair *pair)
{
    long classes = pair->oracle->scores.c, correct = 0;

    for (long n = 0; n < pair->oracle->scores.n; n++) {
        const double *scores = oracle_scores(pair->oracle) + n * classes;
        long best = 0;

        for (long c = 1; c < classes; c++)
            best = scores[c] > scores[best] ? c : best;
        correct += best == pair->labels[n];
    }
    return correct;
}

static void compare_result(const struct pair *pair, nin_result result)
{
    ck_assert_double_eq_tol(result.loss, pair->oracle->loss, pair->trial->bounds.y * result.loss);
    ck_assert_int_eq(result.correct, count_correct(pair));
    ck_assert_int_eq(result.count, pair->oracle->scores.n);
}

static void widen(double *bound, double least)
{
    if (*bound < least)
        *bound = least;
}

/* What the header says of minimal filtering. */
static void widen_bounds(struct bounds *bounds)
{
    widen(&bounds->y, 5e-6);
    widen(&bounds->dx, 5e-6);
    widen(&bounds->db, 1e-5);
    widen(&bounds->dw, 1e-5);
}

static void check_once(const struct trial *given, nin_algorithm algorithm)
{
    struct trial trial = *given;
    struct pair pair = make_pair(&trial);
    nin_batch_desc batch = batch_of(&pair);
    nin_result result;

    if (algorithm == NIN_ALGORITHM_AUTO || algorithm == NIN_ALGORITHM_WINOGRAD)
        widen_bounds(&trial.bounds);
    pair.plan = make_plan(&pair, NIN_TRAIN, algorithm, 1);
    run_oracle(&pair);
    ASSERT_OK(nin_plan_forward(pair.plan, &batch));
    compare_outputs(&pair);
    result = run_backward(&pair, 0);
    if (pair.labels != NULL)
        compare_result(&pair, result);
    compare_outputs(&pair); /* backward goes forward again */
    compare_gradients(&pair);
    free_pair(&pair);
}

/* An algorithm is one of convolutions: without any one will do. */
static void check(const struct trial *trial)
{
    bool convolves = false;

    for (int i = 0; i < trial->count; i++)
        convolves = convolves || trial->layers[i].filters > 0;
    if (!convolves)
        check_once(trial, device_is_cuda() ? NIN_ALGORITHM_AUTO : NIN_ALGORITHM_DIRECT);
    for (size_t a = 0; convolves && a < sizeof algorithms / sizeof algorithms[0]; a++)
        if (device_has(algorithms[a]))
            check_once(trial, algorithms[a]);
}

static void check_layer(struct oracle_layer layer, struct oracle_map input, struct bounds bounds)
{
    struct trial trial = {.layers = &layer, .count = 1, .input = input, .bounds = bounds};

    check(&trial);
}

/* ---- convolution and dense ----------------------------------------------------------------- */

/* Three times the largest errors measured over OpenBLAS's kernels for Prescott, Nehalem,
 * Sandybridge, Haswell and Zen: 5e-7, 3.2e-7, 3.9e-7, 4.3e-7 (one rounding is 3e-8 on average). One
 * wrong element among ten thousand gives 1e-2. */
static const struct bounds gemm = {1.5e-6, 1e-6, 1.2e-6, 1.3e-6};

static const long sizes[][4] = {/* images, channels, filters, whether there is no bias */
                                {1, 3, 8, 0},  {2, 1, 17, 1}, {5, 17, 3, 0}, {2, 3, 1, 0},
                                {1, 17, 5, 1}, {5, 1, 2, 0},  {2, 17, 17, 0}};

static void check_convolution(long kernel, long stride, long pad, size_t nth)
{
    const long *size = sizes[nth % (sizeof sizes / sizeof sizes[0])];
    struct oracle_layer layer = {.kind = ORACLE_CONV,
                                 .filters = size[2],
                                 .window = {kernel, stride, pad},
                                 .no_bias = (int)size[3]};
    long h = 13, w = kernel > 9 ? 12 : 9;

    check_layer(layer, (struct oracle_map){size[0], size[1], h, w}, gemm);
}

START_TEST(convolution)
{
    const long kernel = _i;
    size_t nth = (size_t)kernel;

    for (long stride = 1; stride <= 4; stride++)
        for (long pad = 0; pad < kernel; pad += kernel <= 3 ? 1 : 3)
            check_convolution(kernel, stride, pad, nth++);
}
END_TEST

/* 96 channels fill whole registers of a kernel; a matrix of windows above 1 MiB is made in
 * strips, which run from one image into the next, and of one row where even a row is larger. */
START_TEST(large_convolutions)
{
    static const long cases[][7] = {
        /* images, channels, height, width, filters, kernel, pad */
        {2, 96, 13, 9, 17, 3, 1}, {1, 96, 13, 9, 96, 1, 0},  {5, 96, 13, 9, 7, 5, 2},
        {2, 96, 4, 24, 3, 11, 5}, {2, 17, 14, 14, 96, 5, 2},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const long *c = cases[i];

        check_layer(
            (struct oracle_layer){.kind = ORACLE_CONV, .filters = c[4], .window = {c[5], 1, c[6]}},
            (struct oracle_map){c[0], c[1], c[2], c[3]}, gemm);
    }
}
END_TEST

/* Errors grow with the number of channels unless long sums are made in blocks: both sums over
 * channels have to keep what the header states. They grow, too, where most of minimal filtering is
 * about zeros, as in planes of one pixel. */
START_TEST(deep_convolutions)
{
    static const long cases[][5] = {/* channels, side, filters, kernel, pad */
                                    {512, 10, 16, 5, 2}, {16, 10, 512, 5, 2}, {600, 12, 16, 3, 1},
                                    {16, 12, 600, 3, 1}, {64, 1, 64, 5, 2},   {13, 1, 500, 5, 2}};
    /* Three times what direct sums of 25 * 512 products lose, and OpenBLAS's: 3.2e-7. One by one
     * they would lose 1.9e-6. */
    static const struct bounds deep = {1e-6, 1e-6, 1e-6, 1e-6};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const long *c = cases[i];

        check_layer(
            (struct oracle_layer){.kind = ORACLE_CONV, .filters = c[2], .window = {c[3], 1, c[4]}},
            (struct oracle_map){1, c[0], c[1], c[1]}, deep);
    }
}
END_TEST

/* So they do with the number of tiles: a lane of such batches adds some thousands of them up. */
START_TEST(convolutions_of_many_tiles)
{
    static const long cases[][5] = {/* images, side, kernel, pad, channels */
                                    {128, 32, 5, 2, 3},
                                    {2, 224, 5, 2, 1},
                                    {2, 224, 3, 1, 1},
                                    {2, 700, 1, 0, 2}};
    const long *c = cases[_i];
    const struct oracle_layer layer = {
        .kind = ORACLE_CONV, .filters = 4, .window = {c[2], 1, c[3]}};
    struct trial trial = {.layers = &layer,
                          .count = 1,
                          .input = {c[0], c[4], c[1], c[1]},
                          .bounds = {1.5e-6, 1.5e-6, 6e-6, 4e-6},
                          .centred = 1};

    check(&trial);
}
END_TEST

/* Small planes of 3x3 kernels have tiles of six points, larger ones of eight: at 8x8 and 5x4 (and
 * with a border that makes the output larger than the input) it is six, at 6x6 eight. */
START_TEST(planes_of_both_tiles)
{
    static const long cases[][7] = {
        /* images, channels, height, width, filters, kernel, pad */
        {2, 17, 8, 8, 33, 3, 1}, {5, 3, 7, 7, 17, 3, 1}, {1, 96, 5, 4, 5, 3, 1},
        {2, 17, 3, 4, 16, 3, 2}, {2, 1, 6, 6, 17, 3, 1}, {1, 16, 8, 5, 16, 3, 0},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const long *c = cases[i];

        check_layer(
            (struct oracle_layer){.kind = ORACLE_CONV, .filters = c[4], .window = {c[5], 1, c[6]}},
            (struct oracle_map){c[0], c[1], c[2], c[3]}, gemm);
    }
}
END_TEST

/* Fourier transforms of 9x9 pixels and of 16x16, whose last row and column may or may not be
 * filled, in one pass of images and in several (a chunk of 4x4 pixels has 20 images), with channels
 * and filters that fill whole blocks and that do not. */
static const long transform_cases[][7] = {
    /* images, channels, height, width, filters, kernel, pad */
    {9, 48, 7, 7, 70, 5, 2},  {1, 17, 5, 4, 5, 5, 4},    {3, 6, 9, 8, 33, 5, 0},
    {2, 3, 1, 1, 1, 5, 2},    {2, 7, 8, 3, 64, 3, 1},    {10, 17, 14, 12, 130, 5, 2},
    {2, 5, 16, 13, 17, 5, 0}, {1, 65, 12, 12, 31, 5, 4}, {3, 13, 10, 15, 16, 3, 1},
    {20, 48, 4, 4, 70, 5, 2}, {19, 7, 5, 5, 9, 3, 2},
};

START_TEST(planes_of_both_transforms)
{
    const long *c = transform_cases[_i];

    check_layer(
        (struct oracle_layer){.kind = ORACLE_CONV, .filters = c[4], .window = {c[5], 1, c[6]}},
        (struct oracle_map){c[0], c[1], c[2], c[3]}, gemm);
}
END_TEST

/* 300 units over 17x13x9 have so many weights that the layer stands alone in its segment. */
START_TEST(dense)
{
    static const long cases[][6] = {/* images, channels, height, width, units, no bias */
                                    {1, 1, 1, 1, 5, 0},
                                    {2, 96, 1, 1, 10, 0},
                                    {5, 3, 13, 9, 1, 1},
                                    {5, 17, 5, 4, 7, 0},
                                    {5, 17, 13, 9, 300, 0}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const long *c = cases[i];

        check_layer(
            (struct oracle_layer){.kind = ORACLE_DENSE, .filters = c[4], .no_bias = (int)c[5]},
            (struct oracle_map){c[0], c[1], c[2], c[3]}, gemm);
    }
}
END_TEST

/* ---- layers without parameters ------------------------------------------------------------- */

/* No arithmetic, or none that rounds. */
static const struct bounds exact = {0};

/* The maximum is exact; gradients of overlapping windows are added up (measured 1.2e-7). */
static const struct bounds maximum = {.y = 0.0, .dx = 4e-7};

/* A sum in the order of the window and a division (1.7e-7 and 1.3e-7). */
static const struct bounds average = {.y = 5e-7, .dx = 4e-7};

static const struct oracle_map shapes[] = {
    {1, 3, 13, 9}, {2, 17, 9, 13}, {5, 1, 7, 7}, {2, 96, 8, 7}};

static void check_pools(struct oracle_layer layer, struct bounds bounds)
{
    size_t nth = 0;

    for (long stride = 1; stride <= 4; stride++)
        for (long pad = 0; pad <= layer.window.kernel / 2;
             pad += layer.window.kernel > 4 ? layer.window.kernel / 2 : 1)
            for (int round_up = 0; round_up <= 1; round_up++) {
                layer.window.stride = stride;
                layer.window.pad = pad;
                layer.round_up = round_up;
                check_layer(layer, shapes[nth % 4], bounds);
                nth += 3; /* every shape, with and without rounding up */
            }
}

START_TEST(max_pool)
{
    check_pools((struct oracle_layer){.kind = ORACLE_MAX_POOL, .window.kernel = _i}, maximum);
}
END_TEST

START_TEST(average_pool)
{
    check_pools((struct oracle_layer){.kind = ORACLE_AVERAGE_POOL,
                                      .window.kernel = 1 + _i / 2,
                                      .exclude_padding = _i % 2},
                average);
}
END_TEST

/* The networks of the paper; windows of which a third one would start in the padding; a map that is
 * smaller than a window. Written out, so that nobody has to trust the oracle. */
START_TEST(pooling_sizes)
{
    static const struct {
        long size;
        struct oracle_window window;
        int round_up;
        long places;
    } cases[] = {{28, {3, 2, 0}, 1, 14}, {28, {3, 2, 0}, 0, 13}, {28, {3, 2, 1}, 0, 14},
                 {14, {3, 2, 0}, 1, 7},  {4, {2, 3, 1}, 1, 2},   {5, {2, 3, 1}, 1, 2},
                 {6, {2, 4, 1}, 1, 2},   {7, {2, 4, 0}, 1, 2},   {2, {3, 2, 0}, 1, 1}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct oracle_layer layer = {
            .kind = ORACLE_MAX_POOL, .window = cases[i].window, .round_up = cases[i].round_up};

        ck_assert_int_eq(oracle_places(cases[i].size, cases[i].window, cases[i].round_up),
                         cases[i].places);
        check_layer(layer, (struct oracle_map){1, 1, cases[i].size, cases[i].size}, maximum);
    }
}
END_TEST

/* Images of 0, 1 and 2: most windows have several largest elements. */
START_TEST(max_pool_ties)
{
    const struct oracle_layer layers[] = {{.kind = ORACLE_MAX_POOL, .window = {3, 2, 1}},
                                          {.kind = ORACLE_MAX_POOL, .window = {5, 1, 2}}};

    for (int i = 0; i < 2; i++) {
        struct trial trial = {.layers = &layers[i],
                              .count = 1,
                              .input = {3, 17, 13, 9},
                              .bounds = maximum,
                              .ties = 1};

        check(&trial);
    }
}
END_TEST

/* Of a large map the error is that of a running sum of 2867 numbers (8.6e-7). */
START_TEST(global_average)
{
    const struct bounds large = {.y = 2.6e-6, .dx = 4e-7};
    struct oracle_layer layer = {.kind = ORACLE_GLOBAL_AVERAGE};

    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        check_layer(layer, shapes[i], average);
    check_layer(layer, (struct oracle_map){2, 10, 61, 47}, large);
}
END_TEST

START_TEST(relu)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        check_layer((struct oracle_layer){.kind = ORACLE_RELU}, shapes[i], exact);
}
END_TEST

/* ---- dropout ------------------------------------------------------------------------------- */

/* The answers that come with the authors' own implementation. */
START_TEST(oracle_knows_philox)
{
    const uint32_t f = UINT32_C(0xffffffff), key[2] = {0xa4093822, 0x299f31d0};
    const uint32_t pi[4] = {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344};
    const uint32_t want_pi[4] = {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1};
    const uint32_t want_ones[4] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
    uint32_t got[4];

    oracle_philox(got, pi, key);
    ck_assert_mem_eq(got, want_pi, sizeof got);
    oracle_philox(got, (const uint32_t[4]){f, f, f, f}, (const uint32_t[2]){f, f});
    ck_assert_mem_eq(got, want_ones, sizeof got);
}
END_TEST

/* One product with 1 / (1 - drop), exact for a half (3.5e-8). */
static void check_dropout(double drop, uint32_t seed, int64_t step, int64_t position)
{
    struct oracle_layer layer = {.kind = ORACLE_DROPOUT, .drop = drop};
    struct bounds bounds = {.y = drop == 0.5 ? 0.0 : 2e-7, .dx = drop == 0.5 ? 0.0 : 2e-7};

    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct trial trial = {.layers = &layer,
                              .count = 1,
                              .input = shapes[i],
                              .bounds = bounds,
                              .seed = seed,
                              .step = step,
                              .position = position};

        check(&trial);
    }
}

START_TEST(dropout)
{
    check_dropout(0.5, 0, 0, 0);
    check_dropout(0.5, 7, 1000, 96);
    check_dropout(0.3, UINT32_MAX, 1, 0);
    check_dropout(0.9, 1, INT64_MAX, 3);
    check_dropout(0.5, 7, (INT64_C(5) << 32) + 1000, 96);
    check_dropout(0.5, 7, 1000, UINT32_MAX - 5);
    check_dropout(0.0, 7, 1000, 0);
}
END_TEST

/* Two layers, whose masks differ, one of them before a convolution. */
START_TEST(dropouts_are_numbered)
{
    const struct oracle_layer layers[] = {
        {.kind = ORACLE_DROPOUT, .drop = 0.5},
        {.kind = ORACLE_DROPOUT, .drop = 0.5},
        {.kind = ORACLE_CONV, .filters = 5, .window = {3, 1, 1}},
        {.kind = ORACLE_DROPOUT, .drop = 0.25},
    };
    struct trial trial = {.layers = layers,
                          .count = 4,
                          .input = {5, 3, 13, 9},
                          .bounds = gemm,
                          .seed = 3,
                          .step = 12,
                          .position = 128};

    check(&trial);
}
END_TEST

/* Windows that lie over one another and apart; more channels than a vector has, and fewer. */
START_TEST(max_pools_with_dropout)
{
    static const struct oracle_window windows[] = {{3, 1, 1}, {3, 2, 1}, {2, 2, 0}, {2, 3, 0}};

    for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++)
        for (int32_t channels = 3; channels < 40; channels += 16) {
            const struct oracle_layer layers[] = {
                {.kind = ORACLE_MAX_POOL, .window = windows[i]},
                {.kind = ORACLE_DROPOUT, .drop = 0.3},
                {.kind = ORACLE_DROPOUT, .drop = 0.25}, /* stands alone */
            };
            struct trial trial = {.layers = layers,
                                  .count = 3,
                                  .input = {5, channels, 13, 9},
                                  .bounds = {.y = 2e-7, .dx = 3e-7},
                                  .seed = 3,
                                  .step = 12,
                                  .position = 128};

            check(&trial);
        }
}
END_TEST

START_TEST(dropout_does_nothing_in_inference)
{
    struct oracle_layer layer = {.kind = ORACLE_DROPOUT, .drop = 0.5};
    struct trial trial = {.layers = &layer, .count = 1, .input = {2, 3, 13, 9}};
    struct pair pair = make_pair(&trial);
    long count = oracle_size(trial.input);
    float *got = new_array(count, sizeof *got);
    nin_batch_desc batch = batch_of(&pair);

    pair.plan = make_plan(&pair, NIN_INFER, NIN_ALGORITHM_AUTO, 0);
    ASSERT_OK(nin_plan_forward(pair.plan, &batch));
    ASSERT_OK(nin_plan_scores(pair.plan, got, (size_t)count));
    ck_assert_mem_eq(got, pair.images, (size_t)count * sizeof *got);
    free(got);
    free_pair(&pair);
}
END_TEST

/* ---- input and loss ------------------------------------------------------------------------ */

/* A pool of one pixel shows what the input has become: a product and a sum, near 0 of what
 * cancels (1.4e-7). */
START_TEST(stored_pixels)
{
    const struct oracle_layer seen = {.kind = ORACLE_MAX_POOL, .window = {1, 1, 0}};
    const struct oracle_layer conv = {.kind = ORACLE_CONV, .filters = 7, .window = {3, 2, 1}};
    const struct bounds one = {.y = 4e-7, .dx = 0.0};

    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        check(&(struct trial){
            .layers = &seen, .count = 1, .input = shapes[i], .dtype = NIN_U8, .bounds = one});
        check(&(struct trial){
            .layers = &conv, .count = 1, .input = shapes[i], .dtype = NIN_U8, .bounds = gemm});
    }
}
END_TEST

/* In double but for the gradient's last rounding (2.9e-8). */
START_TEST(loss)
{
    const struct bounds bounds = {.y = 1e-14, .dx = 1e-7};
    const struct oracle_layer layer = {.kind = ORACLE_LOSS};
    const struct oracle_map scores[] = {
        {1, 2, 1, 1}, {5, 10, 1, 1}, {64, 17, 1, 1}, {3, 1000, 1, 1}};

    for (size_t i = 0; i < sizeof scores / sizeof scores[0]; i++)
        check_layer(layer, scores[i], bounds);
}
END_TEST

/* Nothing wants a gradient then. */
START_TEST(loss_without_input_gradient)
{
    const struct oracle_layer layer = {.kind = ORACLE_LOSS};
    struct trial trial = {.layers = &layer, .count = 1, .input = {5, 10, 1, 1}};
    struct pair pair = make_pair(&trial);
    nin_batch_desc batch = batch_of(&pair);

    pair.plan = make_plan(&pair, NIN_TRAIN, NIN_ALGORITHM_AUTO, 0);
    run_oracle(&pair);
    ASSERT_OK(nin_plan_forward(pair.plan, &batch));
    ck_assert_double_eq_tol(run_backward(&pair, 0).loss, pair.oracle->loss, 1e-14);
    free_pair(&pair);
}
END_TEST

/* ---- stacks -------------------------------------------------------------------------------- */

/* Layers add their errors to those that they are handed, but most average out (2.8e-7, 1.7e-7,
 * 2.9e-7). A bias sums up what cancels, or equal numbers, which always round the same way
 * (1.1e-6). */
static const struct bounds stacked = {1e-6, 1e-6, 1e-6, 3.4e-6};

START_TEST(mlpconv)
{
    const struct oracle_layer layers[] = {
        {.kind = ORACLE_CONV, .filters = 17, .window = {5, 1, 2}}, {.kind = ORACLE_RELU},
        {.kind = ORACLE_CONV, .filters = 12, .window = {1, 1, 0}}, {.kind = ORACLE_RELU},
        {.kind = ORACLE_CONV, .filters = 5, .window = {1, 1, 0}},  {.kind = ORACLE_RELU},
    };
    struct trial trial = {
        .layers = layers, .count = 6, .input = {2, 3, 13, 9}, .bounds = stacked, .mlpconv = 1};

    check(&trial);
    trial.count = 5; /* no ReLU at the end */
    trial.input.n = 23;
    check(&trial);
}
END_TEST

static const struct oracle_layer small_network[] = {
    {.kind = ORACLE_CONV, .filters = 17, .window = {5, 1, 2}},
    {.kind = ORACLE_RELU},
    {.kind = ORACLE_MAX_POOL, .window = {3, 2, 0}, .round_up = 1},
    {.kind = ORACLE_DROPOUT, .drop = 0.5},
    {.kind = ORACLE_CONV, .filters = 10, .window = {3, 1, 1}},
    {.kind = ORACLE_GLOBAL_AVERAGE},
    {.kind = ORACLE_LOSS},
};

/* The second time every output is kept, so that the ReLU is an operation of its own; then with so
 * many images that each lane of the gradient adds several chunks up; then at a smaller and at a
 * larger size than built for. */
START_TEST(small_networks)
{
    struct trial trial = {.layers = small_network,
                          .count = 7,
                          .input = {5, 3, 13, 9},
                          .bounds = stacked,
                          .step = 77,
                          .position = 1000};

    check(&trial);
    trial.keep = 1;
    check(&trial);
    trial.input.n = 67;
    trial.position =
        1002; /* with 1000 a ReLU's input is so near 0 that rounding decides its gradient */
    check(&trial);
    trial.input = (struct oracle_map){2, 3, 9, 14};
    trial.built_h = 28;
    trial.built_w = 21;
    trial.dtype = NIN_U8;
    check(&trial);
    trial.input = (struct oracle_map){2, 3, 19, 14};
    trial.built_h = 9;
    trial.built_w = 6;
    check(&trial);
}
END_TEST

/* The second convolution goes backward in several strips, so what it reads must outlive what it
 * writes. */
START_TEST(wide_network)
{
    const struct oracle_layer layers[] = {
        {.kind = ORACLE_CONV, .filters = 96, .window = {1, 1, 0}},
        {.kind = ORACLE_RELU},
        {.kind = ORACLE_CONV, .filters = 24, .window = {5, 1, 2}},
        {.kind = ORACLE_RELU},
        {.kind = ORACLE_GLOBAL_AVERAGE},
    };
    struct trial trial = {.layers = layers, .count = 5, .input = {3, 17, 13, 9}, .bounds = stacked};

    check(&trial);
}
END_TEST

/* What goes back through windows that lie apart passes the ReLU above them too. */
START_TEST(strided_network)
{
    const struct oracle_layer layers[] = {
        {.kind = ORACLE_CONV, .filters = 19, .window = {3, 1, 1}}, {.kind = ORACLE_RELU},
        {.kind = ORACLE_CONV, .filters = 20, .window = {3, 2, 1}}, {.kind = ORACLE_RELU},
        {.kind = ORACLE_CONV, .filters = 6, .window = {1, 3, 0}},  {.kind = ORACLE_GLOBAL_AVERAGE},
    };
    struct trial trial = {.layers = layers, .count = 6, .input = {3, 5, 13, 9}, .bounds = stacked};

    check(&trial);
}
END_TEST

/* A dense layer with so many weights that segments end before and after it. */
START_TEST(dense_network)
{
    const struct oracle_layer layers[] = {
        {.kind = ORACLE_CONV, .filters = 17, .window = {3, 1, 1}},
        {.kind = ORACLE_RELU},
        {.kind = ORACLE_AVERAGE_POOL, .window = {3, 2, 1}, .exclude_padding = 1},
        {.kind = ORACLE_DENSE, .filters = 120},
        {.kind = ORACLE_RELU},
        {.kind = ORACLE_DROPOUT, .drop = 0.5},
        {.kind = ORACLE_DENSE, .filters = 10, .no_bias = 1},
        {.kind = ORACLE_LOSS},
    };
    struct trial trial = {
        .layers = layers, .count = 8, .input = {19, 3, 13, 9}, .bounds = stacked, .step = 4};

    check(&trial);
    trial.keep = 1;
    check(&trial);
}
END_TEST

/* ---- gradients twice, gradients less ------------------------------------------------------- */

static float *copy_gradient(const struct pair *pair)
{
    size_t count = nin_network_parameter_count(pair->network);
    float *copy = new_array((long)count, sizeof *copy);
    nin_tensor *tensor;

    ASSERT_OK(nin_plan_gradient(&tensor, pair->plan, NULL, NIN_WEIGHT));
    ASSERT_OK(nin_tensor_read(tensor, copy, count * sizeof *copy));
    return copy;
}

/* Without the input's gradient those of the parameters keep their bits; accumulated they double. */
START_TEST(accumulated_gradients)
{
    struct trial trial = {.layers = small_network, .count = 7, .input = {11, 3, 13, 9}};
    struct pair pair = make_pair(&trial);
    nin_batch_desc batch = batch_of(&pair);
    float *gradient[3];

    for (int i = 0; i < 3; i++) {
        pair.plan = make_plan(&pair, NIN_TRAIN, NIN_ALGORITHM_AUTO, i != 1);
        ASSERT_OK(nin_plan_forward(pair.plan, &batch));
        run_backward(&pair, 0);
        if (i == 2)
            run_backward(&pair, 1);
        gradient[i] = copy_gradient(&pair);
        nin_plan_destroy(pair.plan);
    }
    pair.plan = NULL;
    for (size_t k = 0; k < nin_network_parameter_count(pair.network); k++) {
        ck_assert(gradient[0][k] == gradient[1][k]);
        ck_assert(2.0f * gradient[0][k] == gradient[2][k]);
    }
    for (int i = 0; i < 3; i++)
        free(gradient[i]);
    free_pair(&pair);
}
END_TEST

Suite *ops_suite(void)
{
    Suite *suite = suite_create("ops");
    TCase *convolutions = tcase_create("convolutions"), *layers = tcase_create("layers");
    TCase *planes = tcase_create("planes"), *more = tcase_create("more");
    TCase *stacks = tcase_create("stacks");

    tcase_add_loop_test(convolutions, convolution, 1, 12);
    tcase_add_test(convolutions, large_convolutions);
    tcase_add_test(convolutions, deep_convolutions);
    if (device_is_cuda())
        tcase_set_tags(more, "long");
    tcase_add_loop_test(more, convolutions_of_many_tiles, 0, 4);
    tcase_add_test(planes, planes_of_both_tiles);
    tcase_add_loop_test(planes, planes_of_both_transforms, 0,
                        sizeof transform_cases / sizeof transform_cases[0]);
    tcase_add_test(layers, dense);
    tcase_add_loop_test(layers, max_pool, 1, 8);
    tcase_add_loop_test(layers, average_pool, 0, 14);
    tcase_add_test(layers, pooling_sizes);
    tcase_add_test(layers, max_pool_ties);
    tcase_add_test(layers, global_average);
    tcase_add_test(layers, relu);
    tcase_add_test(layers, oracle_knows_philox);
    tcase_add_test(layers, dropout);
    tcase_add_test(layers, dropouts_are_numbered);
    tcase_add_test(layers, max_pools_with_dropout);
    tcase_add_test(layers, dropout_does_nothing_in_inference);
    tcase_add_test(layers, stored_pixels);
    tcase_add_test(layers, loss);
    tcase_add_test(layers, loss_without_input_gradient);
    tcase_add_test(stacks, mlpconv);
    tcase_add_test(stacks, small_networks);
    tcase_add_test(stacks, wide_network);
    tcase_add_test(stacks, strided_network);
    tcase_add_test(stacks, dense_network);
    tcase_add_test(stacks, accumulated_gradients);
    suite_add_tcase(suite, convolutions);
    suite_add_tcase(suite, planes);
    suite_add_tcase(suite, layers);
    suite_add_tcase(suite, stacks);
    suite_add_tcase(suite, more);
    return suite;
}
