/* SPDX-License-Identifier: MIT */
/* The CPU backend from inside: kernels on ranges, placement of memory, lanes, workers. */
#include "core/placement.h"
#include "cpu/conv.h"
#include "cpu/gemm.h"
#include "cpu/lanes.h"
#include "cpu/peak.h"
#include "cpu/workers.h"
#include "oracle.h"
#include "rig.h"
#include "suites.h"
#include "test.h"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

/* ---- kernels on ranges ----------------------------------------------------------------------- */

/* A chunk of images, which begins inside the batch. */
enum {
    IMAGES = 4,
    FIRST = 3,
    BATCH = FIRST + IMAGES
};

/* Everything that a kernel reads and writes, each in memory of its own. */
struct bench {
    struct cpu_op cpu;
    const struct nin__op *op;
    struct nin__run run;
    size_t in, out, row; /* floats of an image and of an output row */
    size_t lane_floats;
    float *x, *y, *dy, *dx, *lane, *scratch, *prepared[CPU_PASSES], *parameters, *source;
    void *saved;
    double losses[BATCH];
    uint8_t marks[BATCH];
};

static const int32_t labels[BATCH] = {0, 4, 2, 1, 3, 0, 2};
static const int32_t shuffled[BATCH] = {3, 6, 0, 5, 1, 4, 2};

static void *new_bytes(size_t bytes)
{
    void *memory = calloc(bytes + 1, 1);

    ck_assert_ptr_nonnull(memory);
    return memory;
}

/* As the backend places scratch and what is prepared. */
static void *new_aligned(size_t bytes)
{
    void *memory = aligned_alloc(NIN__ALIGNMENT, nin__align(bytes + 1));

    ck_assert_ptr_nonnull(memory);
    return memory;
}

static float *new_floats(size_t count, uint64_t seed)
{
    float *x = new_bytes(count * sizeof *x);

    if (seed != 0)
        oracle_fill(x, (long)count, 0.0, 1.0, seed);
    return x;
}

static struct bench *make_bench_with(const struct cpu_algorithm *algorithm,
                                     const struct nin__op *op, const struct cpu_kernels *kernels)
{
    struct bench *b = new_bytes(sizeof *b);
    size_t window = (size_t)op->kernel_h * (size_t)op->kernel_w;
    size_t weights = ((size_t)op->in.c * window + 1) * (size_t)op->out.c; /* and biases */
    struct cpu_need need = {0};

    b->cpu = (struct cpu_op){
        .op = op,
        .algorithm = algorithm,
        .train = true,
        .wants_dx = true,
        .kernels = kernels,
        .bf16 = rig_bf16(NIN_BF16),
        .rowwise = (algorithm == &nin__cpu_conv_direct || algorithm == &nin__cpu_conv_bf16) &&
                   nin__cpu_is_pointwise(op)};
    if (algorithm->declare != NULL)
        algorithm->declare(&need, &b->cpu, IMAGES);
    b->cpu.need = need;
    b->op = op;
    b->in = nin__shape_size(op->in);
    b->out = nin__shape_size(op->out);
    b->row = b->out / (size_t)op->out.h;
    b->lane_floats = need.lane / sizeof(float);
    b->x = new_floats(b->in * IMAGES, 1);
    b->y = new_floats(b->out * IMAGES, 0);
    b->dy = new_floats(b->out * IMAGES, 0);
    b->dx = new_floats(b->in * IMAGES, 0);
    b->lane = new_floats(b->lane_floats, 0);
    b->scratch = new_aligned(need.scratch);
    b->saved = new_bytes(need.saved_per_image * IMAGES);
    b->source = new_floats(b->in * BATCH, 4);
    b->parameters = new_floats(op->kind == NIN__OP_CONV ? weights : 0, 3);
    b->run = (struct nin__run){.images = {b->source, NULL, NIN_F32, BATCH},
                               .step = (INT64_C(1) << 32) + 5,
                               .first_position = 1000,
                               .seed = 77,
                               .labels = labels,
                               .parameters = b->parameters,
                               .losses = b->losses,
                               .marks = b->marks};
    for (int32_t pass = 0; pass < CPU_PASSES; pass++) {
        b->prepared[pass] = new_aligned(need.prepared[pass]);
        for (int32_t part = 0; need.prepared[pass] > 0 && part < 3; part++)
            algorithm->prepare(&b->cpu, (enum cpu_pass)pass, b->parameters, b->prepared[pass],
                               (struct cpu_share){part, 3});
    }
    return b;
}

static struct bench *make_bench(const struct cpu_algorithm *algorithm, const struct nin__op *op)
{
    const struct cpu_kernels *kernels = NULL;

    ASSERT_OK(nin__cpu_choose_kernels(&kernels, NIN_INSTRUCTIONS_AUTO));
    return make_bench_with(algorithm, op, kernels);
}

static void free_bench(struct bench *b)
{
    free(b->x);
    free(b->y);
    free(b->dy);
    free(b->dx);
    free(b->lane);
    free(b->scratch);
    free(b->prepared[CPU_FORWARD]);
    free(b->prepared[CPU_BACKWARD]);
    free(b->saved);
    free(b->source);
    free(b->parameters);
    free(b);
}

/* A range: whole images from one on, or rows of one. */
static struct cpu_call call_of(struct bench *b, int32_t image, int32_t images, int32_t row,
                               int32_t rows)
{
    size_t in_row = b->cpu.rowwise ? (size_t)row * b->in / (size_t)b->op->in.h : 0;
    size_t in = (size_t)image * b->in + in_row, out = (size_t)image * b->out + (size_t)row * b->row;
    size_t saved = b->out > 0 ? b->cpu.need.saved_per_image * out / b->out : 0;

    return (struct cpu_call){.cpu = &b->cpu,
                             .op = b->op,
                             .run = &b->run,
                             .first = FIRST + image,
                             .images = images,
                             .row = row,
                             .rows = rows,
                             .x = b->x + in,
                             .y = b->y + out,
                             .dy = b->dy + out,
                             .dx = b->dx + in,
                             .saved = (char *)b->saved + saved,
                             .scratch = b->scratch,
                             .prepared = {b->prepared[CPU_FORWARD], b->prepared[CPU_BACKWARD]},
                             .lane = b->lane,
                             .share = {0, 1}};
}

static void go_forward(struct bench *b, int32_t image, int32_t images, int32_t row, int32_t rows)
{
    struct cpu_call call = call_of(b, image, images, row, rows);

    b->cpu.algorithm->forward(&call);
}

/* Backward may change dy, so each call gets a new one. */
static void go_backward(struct bench *b, int32_t image, int32_t images)
{
    struct cpu_call call = call_of(b, image, images, 0, b->op->out.h);

    oracle_fill(b->dy, (long)(b->out * IMAGES), 0.0, 1.0, 2);
    b->cpu.algorithm->backward(&call);
}

/* Bits, or with a bound the relative error. */
static void expect_same(const float *got, const float *want, size_t count, double bound)
{
    double error = 0.0, size = 0.0;

    if (bound == 0.0) {
        ck_assert_mem_eq(got, want, count * sizeof *got);
        return;
    }
    for (size_t k = 0; k < count; k++) {
        error += ((double)got[k] - want[k]) * ((double)got[k] - want[k]);
        size += (double)want[k] * want[k];
    }
    ck_assert_double_gt(size, 0.0);
    ck_assert_double_le(sqrt(error / size), bound);
}

static void spoil(float *x, size_t count)
{
    memset(x, 0xff, count * sizeof *x);
}

static void expect_spoiled(const float *x, size_t count)
{
    const unsigned char *bytes = (const unsigned char *)x;
    size_t wrong = 0;

    for (size_t k = 0; k < count * sizeof *x; k++)
        wrong += bytes[k] != 0xff;
    ck_assert_uint_eq(wrong, 0);
}

/* One range of images and rows is what it is in the whole, and nothing else is written. */
static void check_forward(const struct bench *whole, struct bench *part, const int32_t range[4],
                          double bound)
{
    size_t from = (size_t)range[2] * part->row, count = (size_t)range[3] * part->row;

    spoil(part->y, part->out * IMAGES);
    go_forward(part, range[0], range[1], range[2], range[3]);
    for (int32_t i = 0; i < IMAGES; i++) {
        const float *y = part->y + (size_t)i * part->out;

        if (i < range[0] || i >= range[0] + range[1]) {
            expect_spoiled(y, part->out);
            continue;
        }
        expect_spoiled(y, from);
        expect_same(y + from, whole->y + (size_t)i * part->out + from, count, bound);
        expect_spoiled(y + from + count, part->out - from - count);
    }
}

static void check_all_forward(const struct bench *whole, struct bench *part, double bound)
{
    int32_t height = part->op->out.h;

    for (int32_t image = 0; image < IMAGES; image++) {
        for (int32_t images = 1; image + images <= IMAGES; images++)
            check_forward(whole, part, (const int32_t[4]){image, images, 0, height}, bound);
        for (int32_t row = 0; row < height && !part->cpu.algorithm->whole; row++)
            for (int32_t rows = 1; row + rows <= height; rows++)
                check_forward(whole, part, (const int32_t[4]){image, 1, row, rows}, bound);
    }
}

/* Forward in parts that make up the whole, so that backward finds all that it has been left. */
static void go_forward_in_parts(struct bench *part)
{
    int32_t height = part->op->out.h, cut = (height + 1) / 2;

    go_forward(part, 0, 2, 0, height);
    for (int32_t image = 2; image < IMAGES; image++) {
        if (part->cpu.algorithm->whole)
            cut = height;
        go_forward(part, image, 1, 0, cut);
        if (cut < height)
            go_forward(part, image, 1, cut, height - cut);
    }
}

static void check_backward(const struct bench *whole, struct bench *part, double bound)
{
    for (int32_t image = 0; image < IMAGES; image++)
        for (int32_t images = 1; image + images <= IMAGES; images++) {
            size_t from = (size_t)image * part->in, count = (size_t)images * part->in;

            spoil(part->dx, part->in * IMAGES);
            go_backward(part, image, images);
            expect_spoiled(part->dx, from);
            expect_same(part->dx + from, whole->dx + from, count, bound);
            expect_spoiled(part->dx + from + count, part->in * IMAGES - from - count);
        }
}

/* Parts add to what is in the lane. (An algorithm of whole chunks may add up their images in an
 * order of its own.) */
static void check_lane(struct bench *whole, struct bench *part, double bound)
{
    oracle_fill(whole->lane, (long)whole->lane_floats, 0.0, 1.0, 6);
    oracle_fill(part->lane, (long)part->lane_floats, 0.0, 1.0, 6);
    go_backward(whole, 0, IMAGES);
    go_backward(part, 0, 1);
    go_backward(part, 1, 2);
    go_backward(part, 3, IMAGES - 3);
    if (whole->lane_floats > 0)
        expect_same(part->lane, whole->lane, whole->lane_floats, bound);
}

static void check_ranges(const struct cpu_algorithm *algorithm, const struct nin__op *op,
                         double bound)
{
    struct bench *whole = make_bench(algorithm, op), *part = make_bench(algorithm, op);
    int threads = nin__cpu_gemm_begin();

    go_forward(whole, 0, IMAGES, 0, op->out.h);
    check_all_forward(whole, part, bound);
    go_forward_in_parts(part);
    expect_same(part->y, whole->y, whole->out * IMAGES, bound);
    if (algorithm->backward != NULL) {
        go_backward(whole, 0, IMAGES);
        check_backward(whole, part, bound);
        check_lane(whole, part, algorithm->whole ? 1e-6 : bound);
    }
    nin__cpu_gemm_end(threads);
    free_bench(whole);
    free_bench(part);
}

/* What one share of a forward pass makes: whole channels, each as in the whole, and nothing else;
 * how many. */
static int32_t count_channels(const struct bench *whole, struct bench *part, struct cpu_share share,
                              int32_t *owners)
{
    struct cpu_call call = call_of(part, 0, IMAGES, 0, part->op->out.h);
    size_t channels = (size_t)part->op->out.c, wrong = 0;
    int32_t count = 0;

    spoil(part->y, part->out * IMAGES);
    call.share = share;
    part->cpu.algorithm->forward(&call);
    for (size_t c = 0; c < channels; c++) {
        static const unsigned char spoiled[] = {0xff, 0xff, 0xff, 0xff};
        bool made = memcmp(&part->y[c], spoiled, sizeof spoiled) != 0;

        for (size_t at = c; at < part->out * IMAGES; at += channels)
            wrong += memcmp(&part->y[at], made ? (const void *)&whole->y[at] : spoiled,
                            sizeof spoiled) != 0;
        owners[c] += made;
        count += made;
    }
    ck_assert_uint_eq(wrong, 0);
    return count;
}

/* Each of several workers makes some channels, if there are as many sixteens of them, and all make
 * all; how many make any. */
static int32_t check_shares(const struct cpu_algorithm *algorithm, const struct nin__op *op,
                            int32_t parts)
{
    struct bench *whole = make_bench(algorithm, op), *part = make_bench(algorithm, op);
    int32_t *owners = new_bytes((size_t)op->out.c * sizeof *owners);
    int32_t sixteens = (op->out.c + 15) / 16, busy = 0;
    size_t wrong = 0;

    go_forward(whole, 0, IMAGES, 0, op->out.h);
    for (int32_t k = 0; k < parts; k++)
        busy += count_channels(whole, part, (struct cpu_share){k, parts}, owners) > 0;
    for (int32_t c = 0; c < op->out.c; c++)
        wrong += owners[c] != 1;
    ck_assert_uint_eq(wrong, 0);
    ck_assert_int_eq(busy, parts < sixteens ? parts : sixteens);
    free(owners);
    free_bench(whole);
    free_bench(part);
    return busy;
}

/* A square window over the map. */
static struct nin__op window_op(enum nin__op_kind kind, struct nin__shape in, int32_t kernel,
                                int32_t stride, int32_t pad)
{
    struct oracle_window window = {kernel, stride, pad};
    struct nin__op op = {.kind = kind,
                         .in = in,
                         .out = in,
                         .kernel_h = kernel,
                         .kernel_w = kernel,
                         .stride = stride,
                         .pad = pad,
                         .bias = NIN__NO_PARAMETER};

    op.out.h = (int32_t)oracle_places(in.h, window, 0);
    op.out.w = (int32_t)oracle_places(in.w, window, 0);
    return op;
}

static struct nin__op plain_op(enum nin__op_kind kind, struct nin__shape in)
{
    return window_op(kind, in, 1, 1, 0);
}

/* Products of other sizes round otherwise (measured 3e-7). */
static void check_conv(struct nin__shape in, const int32_t filters_kernel_stride_pad[4], bool bias,
                       bool relu)
{
    const int32_t *c = filters_kernel_stride_pad;
    struct nin__op op = window_op(NIN__OP_CONV, in, c[1], c[2], c[3]);

    op.out.c = c[0];
    op.relu = relu;
    if (bias)
        op.bias = (size_t)c[0] * (size_t)in.c * (size_t)c[1] * (size_t)c[1];
    check_ranges(&nin__cpu_conv_gemm, &op, 1e-6);
    check_ranges(&nin__cpu_conv_direct, &op, 0.0);
    if (nin__cpu_winograd_fits(&op))
        check_ranges(&nin__cpu_conv_winograd, &op, 0.0);
    if (nin__cpu_fft_fits(&op))
        check_ranges(&nin__cpu_conv_fft, &op, 0.0);
    if (nin__cpu_is_pointwise(&op) && rig_bf16(NIN_BF16) != NULL)
        check_ranges(&nin__cpu_conv_bf16, &op, 0.0);
}

/* Whatever the last block and the last vector hold. */
START_TEST(convolutions_are_shared_by_vectors_of_filters)
{
    static const int32_t filters[] = {5, 33, 64, 70, 127, 200};

    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++)
        for (int32_t parts = 2; parts <= 14; parts += 3) {
            struct nin__op op =
                window_op(NIN__OP_CONV, (struct nin__shape){9, 6, 5}, i % 2 == 0 ? 5 : 3, 1, 1);

            op.out.c = filters[i];
            op.relu = true;
            op.bias = (size_t)op.out.c * (size_t)nin__cpu_patch_size(&op);
            check_shares(&nin__cpu_conv_winograd, &op, parts);
            check_shares(&nin__cpu_conv_fft, &op, parts);
        }
}
END_TEST

/* More than twice as many workers have a part in the preset's ops as these have blocks of
 * weights. */
START_TEST(eight_workers_share_the_preset)
{
    struct rig rig;
    int32_t shared = 0;

    rig_make(&rig, &(struct rig_desc){.net = RIG_MNIST,
                                      .mode = NIN_INFER,
                                      .threads = 8,
                                      .batch = 1,
                                      .algorithm = (nin_algorithm)_i});
    for (int32_t i = 0; i < rig.plan->executable->program.count; i++) {
        const struct cpu_op *cpu = &rig.plan->executable->ops[i];
        struct nin__op op = *cpu->op;

        if (op.kind != NIN__OP_CONV || !cpu->algorithm->whole)
            continue;
        op.weight = 0;
        op.bias = (size_t)op.out.c * (size_t)nin__cpu_patch_size(&op);
        ck_assert_int_gt(check_shares(cpu->algorithm, &op, 8),
                         2 * ((op.out.c + CPU_BLOCK - 1) / CPU_BLOCK));
        shared++;
    }
    ck_assert_int_ge(shared, 2);
    rig_free(&rig);
}
END_TEST

START_TEST(convolutions)
{
    const struct nin__shape small = {3, 9, 7}, deep = {96, 9, 13}, line = {17, 1, 1};

    check_conv(small, (const int32_t[4]){8, 3, 1, 1}, true, true);
    check_conv(small, (const int32_t[4]){5, 4, 3, 3}, false, true);
    check_conv(small, (const int32_t[4]){8, 1, 1, 0}, true, false);
    check_conv(small, (const int32_t[4]){8, 1, 2, 0}, false, false);
    check_conv(line, (const int32_t[4]){8, 1, 1, 0}, true, true); /* a dense layer */
    check_conv((struct nin__shape){3, 5, 5}, (const int32_t[4]){8, 5, 1, 0}, true, false);
    check_conv(deep, (const int32_t[4]){4, 5, 1, 2}, true, true); /* strips of 8 rows */
    check_conv(deep, (const int32_t[4]){33, 3, 1, 1}, true, true);
    check_conv(deep, (const int32_t[4]){64, 1, 1, 0}, true, true);
    check_conv(line, (const int32_t[4]){40, 5, 1, 4}, true, true);
}
END_TEST

/* Scores, gradients of data and of weights, from all images at once. */
static uint64_t bits_of_passes(const struct cpu_algorithm *algorithm, const struct nin__op *op,
                               const struct cpu_kernels *kernels)
{
    struct bench *b = make_bench_with(algorithm, op, kernels);
    size_t weights = (size_t)op->out.c * (size_t)nin__cpu_patch_size(op);
    float *gradient = new_floats(weights, 0);
    struct cpu_call call = call_of(b, 0, IMAGES, 0, op->out.h);
    uint64_t bits = RIG_HASH;

    go_forward(b, 0, IMAGES, 0, op->out.h);
    oracle_fill(b->dy, (long)(b->out * IMAGES), 0.0, 1.0, 2);
    call.fresh = true;
    algorithm->backward(&call);
    algorithm->finish(&b->cpu, b->lane, gradient, false, (struct cpu_share){0, 1});
    bits = rig_hash(bits, b->y, b->out * IMAGES * sizeof *b->y);
    bits = rig_hash(bits, b->dx, b->in * IMAGES * sizeof *b->dx);
    bits = rig_hash(bits, gradient, weights * sizeof *gradient);
    free(gradient);
    free_bench(b);
    return bits;
}

/* Whatever part of a vector is filled. */
START_TEST(odd_convolutions_have_the_same_bits_with_avx2_and_avx512)
{
    static const int32_t cases[][6] = {
        /* channels, height, width, filters, kernel, pad */
        {17, 7, 7, 70, 5, 2}, {5, 9, 8, 33, 5, 0},   {50, 4, 3, 24, 3, 1},  {23, 13, 10, 130, 5, 2},
        {8, 12, 12, 9, 3, 2}, {3, 20, 20, 28, 5, 2}, {19, 20, 18, 72, 3, 1}};
    const struct cpu_kernels *kernels[2];

    if (nin__cpu_choose_kernels(&kernels[0], NIN_INSTRUCTIONS_AVX2) != NIN_OK ||
        nin__cpu_choose_kernels(&kernels[1], NIN_INSTRUCTIONS_AVX512) != NIN_OK)
        return; /* not on this processor */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int32_t *c = cases[i];
        const struct cpu_algorithm *algorithms[] = {&nin__cpu_conv_direct, &nin__cpu_conv_winograd,
                                                    &nin__cpu_conv_fft};
        struct nin__op op =
            window_op(NIN__OP_CONV, (struct nin__shape){c[0], c[1], c[2]}, c[4], 1, c[5]);

        op.out.c = c[3];
        for (size_t a = 0; a < (nin__cpu_fft_fits(&op) ? 3 : 2); a++)
            ck_assert_uint_eq(bits_of_passes(algorithms[a], &op, kernels[0]),
                              bits_of_passes(algorithms[a], &op, kernels[1]));
    }
}
END_TEST

START_TEST(pools)
{
    const struct nin__shape in = {17, 9, 7};
    struct nin__op max = window_op(NIN__OP_MAX_POOL, in, 3, 2, 1);
    struct nin__op average = window_op(NIN__OP_AVERAGE_POOL, in, 3, 2, 1);

    check_ranges(&nin__cpu_max_pool, &max, 0.0);
    max.drop = true;
    max.threshold = UINT32_C(0x80000000);
    max.keep_scale = 2.0f;
    check_ranges(&nin__cpu_max_pool, &max, 0.0);
    check_ranges(&nin__cpu_average_pool, &average, 0.0);
    average.exclude_padding = true;
    check_ranges(&nin__cpu_average_pool, &average, 0.0);
}
END_TEST

/* 3 channels over 5 columns: rows that begin inside a block of four random numbers. */
START_TEST(relu_and_dropout)
{
    struct nin__op relu = plain_op(NIN__OP_RELU, (struct nin__shape){3, 7, 5});
    struct nin__op dropout = plain_op(NIN__OP_DROPOUT, (struct nin__shape){3, 7, 5});

    dropout.threshold = UINT32_C(0x80000000);
    dropout.keep_scale = 2.0f;
    dropout.stream = 257;
    check_ranges(&nin__cpu_relu, &relu, 0.0);
    check_ranges(&nin__cpu_dropout, &dropout, 0.0);
}
END_TEST

START_TEST(inputs)
{
    struct nin__op op = plain_op(NIN__OP_INPUT, (struct nin__shape){3, 7, 5});
    struct bench *b = make_bench(&nin__cpu_input, &op);

    check_ranges(&nin__cpu_input, &op, 0.0);
    b->run.images.index = shuffled;
    go_forward(b, 0, IMAGES, 0, op.out.h);
    for (size_t i = 0; i < IMAGES; i++)
        for (size_t c = 0; c < 3; c++)
            for (size_t p = 0; p < 35; p++)
                ck_assert(b->y[(i * 35 + p) * 3 + c] ==
                          b->source[((size_t)shuffled[FIRST + i] * 3 + c) * 35 + p]);
    free_bench(b);
}
END_TEST

/* It has no output, but each image's loss and marks. */
START_TEST(losses)
{
    struct nin__op op = plain_op(NIN__OP_LOSS, (struct nin__shape){5, 1, 1});
    struct bench *whole = make_bench(&nin__cpu_loss, &op);
    struct bench *part = make_bench(&nin__cpu_loss, &op);

    go_forward(whole, 0, IMAGES, 0, 1);
    go_forward(part, 1, 2, 0, 1);
    for (int32_t n = 0; n < BATCH; n++) {
        bool inside = n == FIRST + 1 || n == FIRST + 2;

        ck_assert_double_eq(part->losses[n], inside ? whole->losses[n] : 0.0);
        ck_assert_uint_eq(part->marks[n], inside ? whole->marks[n] : 0);
        ck_assert(!inside || part->losses[n] > 0.0);
    }
    go_backward(whole, 0, IMAGES);
    check_backward(whole, part, 0.0);
    free_bench(whole);
    free_bench(part);
}
END_TEST

/* A map of 3x3 under one window: the maximum and where the gradient goes, in each channel. */
static void check_channels(const float x[9], size_t want, int32_t channels)
{
    struct nin__op op = window_op(NIN__OP_MAX_POOL, (struct nin__shape){channels, 3, 3}, 3, 1, 0);
    struct bench *b = make_bench(&nin__cpu_max_pool, &op);
    size_t n = (size_t)channels;

    for (size_t k = 0; k < 9 * n; k++)
        b->x[k] = x[k / n];
    go_forward(b, 0, 1, 0, 1);
    for (size_t c = 0; c < n; c++)
        ck_assert_mem_eq(&b->y[c], &x[want], sizeof *x);
    go_backward(b, 0, 1);
    for (size_t k = 0; k < 9 * n; k++)
        ck_assert(b->dx[k] == (k / n == want ? b->dy[k % n] : 0.0f));
    free_bench(b);
}

/* One channel, and a vector of any width and one more. */
static void check_maximum(const float x[9], size_t want)
{
    check_channels(x, want, 1);
    check_channels(x, want, 17);
}

START_TEST(odd_maxima)
{
    const float low = -INFINITY;

    check_maximum((const float[9]){1, 3, 2, 3, 0, 3, 1, 1, 1}, 1);
    check_maximum((const float[9]){1, 3, NAN, 3, 0, 9, 1, 1, INFINITY}, 2);
    check_maximum((const float[9]){NAN, 3, 2, 3, 0, 9, 1, 1, 1}, 0);
    check_maximum((const float[9]){1, 3, 2, 3, 0, 9, 1, 1, NAN}, 8);
    check_maximum((const float[9]){low, low, low, low, low, low, low, low, low}, 0);
    check_maximum((const float[9]){low, low, low, low, -1, low, low, low, low}, 4);
    check_maximum((const float[9]){low, -FLT_MAX, low, low, low, low, low, low, low}, 1);
}
END_TEST

/* What is forwarded with a dropout, and gated by x, has the bits of a pool, a dropout and a gate in
 * turn. */
static void check_fused_pool(struct nin__shape in)
{
    struct nin__op pool = window_op(NIN__OP_MAX_POOL, in, 3, 2, 1), fused = pool;
    struct nin__op dropout = plain_op(NIN__OP_DROPOUT, pool.out);
    struct bench *p = make_bench(&nin__cpu_max_pool, &pool), *f, *d;

    fused.drop = true;
    fused.threshold = dropout.threshold = UINT32_C(0x60000000);
    fused.keep_scale = dropout.keep_scale = 1.6f;
    fused.stream = dropout.stream = 257;
    f = make_bench(&nin__cpu_max_pool, &fused);
    d = make_bench(&nin__cpu_dropout, &dropout);
    f->cpu.gate_dx = true;
    for (size_t k = 0; k < f->in * IMAGES; k++) /* some windows without a positive element */
        f->x[k] = p->x[k] = p->x[k] > 0.8f ? p->x[k] - 0.8f : -p->x[k];
    go_forward(p, 0, IMAGES, 0, pool.out.h);
    memcpy(d->x, p->y, p->out * IMAGES * sizeof *p->y);
    go_forward(d, 0, IMAGES, 0, pool.out.h);
    go_forward(f, 0, IMAGES, 0, pool.out.h);
    expect_same(f->y, d->y, f->out * IMAGES, 0.0);
    go_backward(f, 0, IMAGES);
    go_backward(d, 0, IMAGES);
    memcpy(p->dy, d->dx, p->out * IMAGES * sizeof *p->dy);
    p->cpu.algorithm->backward(&(struct cpu_call){.cpu = &p->cpu,
                                                  .op = p->op,
                                                  .images = IMAGES,
                                                  .dy = p->dy,
                                                  .dx = p->dx,
                                                  .saved = p->saved});
    p->cpu.kernels->gate(p->dx, p->x, p->in * IMAGES);
    expect_same(f->dx, p->dx, f->in * IMAGES, 0.0);
    free_bench(p);
    free_bench(f);
    free_bench(d);
}

START_TEST(fused_pools)
{
    check_fused_pool((struct nin__shape){17, 9, 7});
    check_fused_pool((struct nin__shape){5, 8, 8});
}
END_TEST

/* ---- update ---------------------------------------------------------------------------------- */

enum {
    PARAMETERS = 1000
};

/* Three steps over the spans of an arena, of which the first and the last element belong to
 * none. */
static void check_update(struct oracle_sgd sgd)
{
    struct nin__executable executable = {0};
    static float p[PARAMETERS], m[PARAMETERS], g[PARAMETERS];
    static double want_p[PARAMETERS], want_m[PARAMETERS], want_g[PARAMETERS];
    const struct nin__update_span spans[2] = {{1, 400, (float)sgd.rate, (float)sgd.decay},
                                              {401, 598, (float)(sgd.rate * sgd.rate_multiplier),
                                               (float)(sgd.decay * sgd.decay_multiplier)}};
    struct nin__update update = {p, m, g, spans, 2, (float)sgd.momentum, sgd.nesterov != 0};
    struct oracle_sgd plain = sgd;

    ASSERT_OK(nin__cpu_workers_create(&executable.workers, 2));
    plain.rate_multiplier = plain.decay_multiplier = 1.0;
    oracle_fill(p, PARAMETERS, 0.0, 1.0, 1);
    memset(m, 0, sizeof m);
    for (int k = 0; k < PARAMETERS; k++) {
        want_p[k] = p[k];
        want_m[k] = 0.0;
    }
    for (uint64_t step = 0; step < 3; step++) {
        oracle_fill(g, PARAMETERS, 0.0, 1.0, 10 + step);
        for (int k = 0; k < PARAMETERS; k++)
            want_g[k] = g[k];
        oracle_update(want_p + 1, want_m + 1, want_g + 1, 400, plain);
        oracle_update(want_p + 401, want_m + 401, want_g + 401, 598, sgd);
        ASSERT_OK(nin__cpu_update(&executable, &update));
    }
    nin__cpu_workers_destroy(executable.workers);
    ck_assert_double_le(oracle_error(p, want_p, PARAMETERS), 3e-7);
    ck_assert_double_le(oracle_error(m, want_m, PARAMETERS), 3e-7);
    ck_assert(p[0] == (float)want_p[0] && p[PARAMETERS - 1] == (float)want_p[PARAMETERS - 1]);
    ck_assert(m[0] == 0.0f && m[PARAMETERS - 1] == 0.0f);
}

/* Each worker looks at a share. */
START_TEST(what_is_not_finite_is_found)
{
    static const size_t places[] = {0, 3, 1023, 1024, 2999, 4999};
    struct nin__executable executable = {0};
    size_t bad[3], found;
    float *values = new_floats(5000, 1);

    executable.bad = bad;
    ASSERT_OK(nin__cpu_workers_create(&executable.workers, 3));
    ASSERT_OK(nin__cpu_check_finite(&executable, values, 5000, &found));
    ck_assert_uint_eq(found, 5000);
    for (size_t k = sizeof places / sizeof places[0]; k-- > 0;) {
        values[places[k]] = k % 2 == 0 ? NAN : INFINITY;
        ASSERT_OK(nin__cpu_check_finite(&executable, values, 5000, &found));
        ck_assert_uint_eq(found, places[k]);
    }
    nin__cpu_workers_destroy(executable.workers);
    free(values);
}
END_TEST

START_TEST(updates)
{
    check_update((struct oracle_sgd){0.1, 0.0, 0.0, 0, 2.0, 1.0});
    check_update((struct oracle_sgd){0.1, 0.9, 0.0, 0, 0.5, 1.0});
    check_update((struct oracle_sgd){0.1, 0.9, 0.1, 0, 2.0, 0.0});
    check_update((struct oracle_sgd){0.1, 0.9, 0.1, 1, 2.0, 3.0});
    check_update((struct oracle_sgd){0.1, 0.9, 0.1, 1, 0.0, 0.0});
}
END_TEST

enum {
    POINTS = 16 * 16
};

/* A product at one point of a Fourier transform, with rows `first` ... of weights that fill
 * 2 * depth rows. */
struct point {
    int32_t images, columns, depth, first, parts;
    float *a, *w, *packed, *c;
};

static void pack_point(const struct cpu_kernels *kernels, struct cpu_fft_data_gradient *g,
                       const struct point *p)
{
    g->point = p->parts == 1 ? 3 : 10;
    g->b_block = (ptrdiff_t)kernels->packed_size(p->depth, CPU_BLOCK) * POINTS;
    for (int32_t n = 0; n < p->columns; n += CPU_BLOCK) {
        int32_t rest = p->columns - n, columns = rest < CPU_BLOCK ? rest : CPU_BLOCK;
        size_t size = kernels->packed_size(p->depth, columns);

        kernels->pack(&(struct cpu_packing){.packed = p->packed + n / CPU_BLOCK * g->b_block +
                                                      (size_t)g->point * size,
                                            .source = p->w + n,
                                            .depth = p->parts * p->depth,
                                            .count = p->parts * p->depth,
                                            .columns = columns,
                                            .inner = columns,
                                            .depth_step = p->columns,
                                            .inner_step = 1});
    }
}

/* Row k of the result, re or im, of image n: in double. */
static double sum_of_point(const struct point *p, int32_t n, int32_t k, bool im)
{
    const float *a = p->a + (size_t)n * (size_t)(p->parts * p->columns);
    const float *re_w = p->w + (size_t)(p->first + k) * (size_t)p->columns;
    const float *im_w = re_w + (size_t)p->depth * (size_t)p->columns;
    double sum = 0.0;

    for (int32_t i = 0; i < p->columns; i++) {
        double re = a[i], other = p->parts == 2 ? a[p->columns + i] : 0.0;

        if (p->parts == 1)
            sum += re * re_w[i];
        else
            sum += im ? other * re_w[i] - re * im_w[i] : re * re_w[i] + other * im_w[i];
    }
    return sum;
}

static void check_point(int32_t images, int32_t columns, int32_t depth, int32_t first,
                        int32_t parts)
{
    const struct cpu_kernels *kernels = NULL;
    size_t blocks = (size_t)columns / CPU_BLOCK + 1, count = (size_t)(depth - first);
    size_t sums = (size_t)(images * parts) * count;
    struct point p = {
        .images = images, .columns = columns, .depth = depth, .first = first, .parts = parts};
    struct cpu_fft_data_gradient g = {.complex = parts == 2,
                                      .images = images,
                                      .columns = columns,
                                      .depth = depth,
                                      .first = first,
                                      .count = (int32_t)count};

    ASSERT_OK(nin__cpu_choose_kernels(&kernels, NIN_INSTRUCTIONS_AUTO));
    p.a = new_floats((size_t)(images * parts * columns), 1);
    p.w = new_floats((size_t)(parts * depth * columns), 2);
    p.c = new_floats(sums, 0);
    p.packed = new_floats(blocks * kernels->packed_size(depth, CPU_BLOCK) * POINTS, 0);
    pack_point(kernels, &g, &p);
    g.a = p.a;
    g.b = p.packed;
    g.c = p.c;
    kernels->fft_data_gradient(&g);
    for (size_t i = 0; i < sums; i++) {
        int32_t row = (int32_t)(i / count), n = row / parts;
        double sum = sum_of_point(&p, n, (int32_t)(i % count), row % parts == 1);

        ck_assert_double_eq_tol(p.c[i], sum, 1e-5 * sqrt(columns));
    }
    free(p.a);
    free(p.w);
    free(p.c);
    free(p.packed);
}

/* Weights that lie for the forward pass, in whole blocks of columns and in a last one. */
START_TEST(gradients_at_a_point)
{
    static const int32_t columns[] = {1, 5, 16, 17, 64, 65, 130, 192}, depths[] = {2, 5, 8, 67};

    for (int32_t images = 1; images <= 5; images += images < 3 ? 1 : 2)
        for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
            for (size_t k = 0; k < sizeof depths / sizeof depths[0]; k++)
                for (int32_t parts = 1; parts <= 2; parts++) {
                    check_point(images, columns[i], depths[k], 0, parts);
                    check_point(images, columns[i], depths[k], 1, parts);
                }
}
END_TEST

/* ---- products that take a part of a packed matrix ------------------------------------------- */

enum {
    PART_ROWS = 9,
    PART_DEPTH = 37,
    PART_COLUMNS = 150 /* panels of several sizes, and a vector in part */
};

static void pack_columns(const struct cpu_kernels *kernels, float *packed, const float *b)
{
    kernels->pack(&(struct cpu_packing){.packed = packed,
                                        .source = b,
                                        .depth = PART_DEPTH,
                                        .count = PART_DEPTH,
                                        .columns = PART_COLUMNS,
                                        .inner = PART_COLUMNS,
                                        .depth_step = PART_COLUMNS,
                                        .inner_step = 1});
}

/* With bias, ReLU and gate each part has the bits of the whole, and nothing beside it is
 * written. */
START_TEST(a_part_of_a_matrix_gives_a_part_of_the_product)
{
    const struct cpu_kernels *kernels = NULL;
    const int32_t first = _i * CPU_SHARE;
    float *a = new_floats(PART_ROWS * PART_DEPTH, 1), *b = new_floats(PART_DEPTH * PART_COLUMNS, 2);
    float *bias = new_floats(PART_COLUMNS, 3), *gate = new_floats(PART_ROWS * PART_COLUMNS, 4);
    float *whole = new_floats(PART_ROWS * PART_COLUMNS, 0), *packed;
    float *part = new_floats(PART_ROWS * PART_COLUMNS, 0);
    struct cpu_product product = {.a = a,
                                  .c = whole,
                                  .bias = bias,
                                  .gate = gate,
                                  .relu = true,
                                  .rows = PART_ROWS,
                                  .columns = PART_COLUMNS,
                                  .depth = PART_DEPTH,
                                  .runs = 1,
                                  .a_row = PART_DEPTH,
                                  .c_row = PART_COLUMNS};

    ASSERT_OK(nin__cpu_choose_kernels(&kernels, NIN_INSTRUCTIONS_AUTO));
    packed = new_aligned(kernels->packed_size(PART_DEPTH, PART_COLUMNS) * sizeof *packed);
    pack_columns(kernels, packed, b);
    product.b = packed;
    kernels->multiply(&product);
    for (int32_t columns = CPU_SHARE; first + columns <= PART_COLUMNS + CPU_SHARE;
         columns += CPU_SHARE) {
        product.b_first = first;
        product.b_columns = PART_COLUMNS;
        product.columns = columns < PART_COLUMNS - first ? columns : PART_COLUMNS - first;
        product.c = part + first;
        product.bias = bias + first;
        product.gate = gate + first;
        memset(part, 0xff, PART_ROWS * PART_COLUMNS * sizeof *part);
        kernels->multiply(&product);
        for (int32_t i = 0; i < PART_ROWS * PART_COLUMNS; i++) {
            int32_t n = i % PART_COLUMNS - first;

            if (n >= 0 && n < product.columns)
                ck_assert_mem_eq(&part[i], &whole[i], sizeof part[i]);
            else
                ck_assert_msg(part[i] != part[i], "element %d is written", i);
        }
    }
    free(a);
    free(b);
    free(bias);
    free(gate);
    free(packed);
    free(whole);
    free(part);
}
END_TEST

/* All that is counted is computed: each sum has come from x / 2 + 1 to 2. */
START_TEST(multiply_adds_are_counted)
{
    const struct cpu_kernels *kernels = NULL;
    float sums[16];
    int64_t once;

    ASSERT_OK(nin__cpu_choose_kernels(&kernels, NIN_INSTRUCTIONS_AUTO));
    once = kernels->saturate(sums, 1);
    ck_assert_int_gt(once, 0);
    ck_assert_int_eq(once % kernels->width, 0);
    ck_assert_int_eq(kernels->saturate(sums, 100), 100 * once);
    for (int32_t k = 0; k < kernels->width; k++)
        ck_assert_float_eq(sums[k], 2.0f * (float)(once / kernels->width));
}
END_TEST

/* Some multiply-adds a microsecond: the slowest emulator does that. */
START_TEST(a_peak_is_measured)
{
    const struct cpu_kernels *kernels = NULL;
    struct cpu_workers *workers;

    ASSERT_OK(nin__cpu_choose_kernels(&kernels, NIN_INSTRUCTIONS_AUTO));
    ASSERT_OK(nin__cpu_workers_create(&workers, 2));
    ck_assert_double_gt(nin__cpu_measure_peak(workers, kernels), 1e6);
    nin__cpu_workers_destroy(workers);
}
END_TEST

/* ---- placement ------------------------------------------------------------------------------- */

enum {
    MAX_BLOCKS = 40
};

static bool meet(const struct nin__block *a, const struct nin__block *b)
{
    return a->first <= b->last && b->first <= a->last;
}

static bool overlap(const struct nin__block *a, const struct nin__block *b)
{
    return a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

/* Bytes alive at one time. */
static size_t alive(const struct nin__block *blocks, int32_t count, int32_t time)
{
    size_t bytes = 0;

    for (int32_t i = 0; i < count; i++)
        if (blocks[i].first <= time && time <= blocks[i].last)
            bytes += blocks[i].bytes;
    return bytes;
}

static size_t place(struct nin__block *blocks, int32_t count)
{
    int32_t order[2 * MAX_BLOCKS];
    size_t total = nin__place(blocks, count, order);
    int clashes = 0;

    ck_assert_uint_eq(total % NIN__ALIGNMENT, 0);
    for (int32_t i = 0; i < count; i++) {
        ck_assert_uint_eq(blocks[i].offset % NIN__ALIGNMENT, 0);
        ck_assert_uint_le(blocks[i].offset + blocks[i].bytes, total);
        ck_assert_uint_ge(total, alive(blocks, count, blocks[i].first));
        for (int32_t j = 0; j < i; j++)
            clashes += meet(&blocks[i], &blocks[j]) && overlap(&blocks[i], &blocks[j]);
    }
    ck_assert_int_eq(clashes, 0);
    return total;
}

START_TEST(blocks_alive_together_lie_apart)
{
    uint64_t seed = 1;

    for (int trial = 0; trial < 2000; trial++) {
        int32_t count = (int32_t)(oracle_random(&seed) % (MAX_BLOCKS + 1));
        struct nin__block blocks[MAX_BLOCKS];
        size_t sum = 0, total;

        for (int32_t i = 0; i < count; i++) {
            uint64_t random = oracle_random(&seed);

            blocks[i].bytes = random % 8 == 0 ? 0 : (size_t)(random >> 8) % 5000;
            blocks[i].first = (int32_t)(random >> 40) % 30;
            blocks[i].last = blocks[i].first + (int32_t)((random >> 50) % 8);
            sum += (blocks[i].bytes + NIN__ALIGNMENT - 1) / NIN__ALIGNMENT * NIN__ALIGNMENT;
        }
        total = place(blocks, count);
        ck_assert_uint_le(total, sum);
    }
}
END_TEST

/* A chain in which each block meets its neighbours only: two places do, the best there is. Where
 * nothing meets, one does. */
START_TEST(memory_is_shared)
{
    struct nin__block blocks[MAX_BLOCKS];

    for (int32_t i = 0; i < MAX_BLOCKS; i++)
        blocks[i] = (struct nin__block){i % 2 ? 1000 : 1920, i, i + 1, 0};
    ck_assert_uint_eq(place(blocks, MAX_BLOCKS), 1920 + 1024);
    for (int32_t i = 0; i < MAX_BLOCKS; i++)
        blocks[i] = (struct nin__block){(size_t)(i + 1) * 10, i, i, 0};
    ck_assert_uint_eq(place(blocks, MAX_BLOCKS), 448);
    ck_assert_uint_eq(place(blocks, 0), 0);
}
END_TEST

/* The largest lies lowest, equals in their order; what lives in turns lies in one place. */
START_TEST(large_blocks_are_placed_first)
{
    struct nin__block blocks[5] = {
        {64, 0, 4, 0}, {64, 2, 9, 0}, {640, 0, 9, 0}, {64, 5, 9, 0}, {100, 0, 1, 0}};
    const size_t want[5] = {768, 640, 0, 704, 640};

    ck_assert_uint_eq(place(blocks, 5), 832);
    for (int i = 0; i < 5; i++)
        ck_assert_uint_eq(blocks[i].offset, want[i]);
}
END_TEST

/* Sums that no size_t holds. */
START_TEST(too_much_memory)
{
    const size_t half = SIZE_MAX / 2;
    const size_t cases[][3] = {{SIZE_MAX, 0, 0},
                               {half, half, half},
                               {half - 100, half - 100, half - 100},
                               {1000, 1000, SIZE_MAX - 1000},
                               {half - 100, SIZE_MAX - 100, 0}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct nin__block blocks[3];
        int32_t order[6];

        for (int k = 0; k < 3; k++)
            blocks[k] = (struct nin__block){cases[i][k], 0, 1, 0};
        ck_assert_msg(nin__place(blocks, 3, order) == SIZE_MAX, "case %zu", i);
    }
}
END_TEST

/* ---- lanes ----------------------------------------------------------------------------------- */

enum {
    MAX_LANES = 64,
    MAX_THREADS = 5,
    SUMS = 67
};

/* Many magnitudes, so that another order of additions gives other bits. */
static float lane_value(int32_t lane, size_t i)
{
    uint64_t seed = (uint64_t)lane * 1000 + i;
    uint64_t random = oracle_random(&seed);

    return ldexpf((float)((int64_t)(random >> 40) - (1 << 23)), (int)(random % 24) - 12);
}

static void pause_microseconds(uint64_t microseconds)
{
    struct timespec pause = {0, (long)(microseconds % 1000000) * 1000};

    nanosleep(&pause, NULL);
}

/* What the threads of a round share. */
struct round {
    struct cpu_lanes *lanes;
    size_t floats;
    int32_t late;  /* a lane that takes its time; -1: none */
    uint64_t seed; /* of delays */
    atomic_int taken;
};

static void *work_on_lanes(void *argument)
{
    struct round *round = argument;
    float *sums;
    int32_t lane;

    while ((lane = nin__cpu_lanes_take(round->lanes, &sums)) >= 0) {
        uint64_t seed = round->seed + (uint64_t)lane, random = oracle_random(&seed);

        atomic_fetch_add(&round->taken, 1);
        for (size_t i = 0; i < round->floats; i++) {
            sums[i] = lane_value(lane, i); /* overwrites what the buffer held */
        }
        if (lane == round->late)
            pause_microseconds(3000);
        else if (random % 4 == 0)
            pause_microseconds(random / 4 % 100);
        nin__cpu_lanes_fold(round->lanes, lane, sums);
    }
    return NULL;
}

/* Neighbours, then pairs, then pairs of pairs; what has no right neighbour moves up as it is. */
static float tree_sum(int32_t count, size_t i)
{
    float sums[MAX_LANES];

    for (int32_t lane = 0; lane < count; lane++)
        sums[lane] = lane_value(lane, i);
    for (; count > 1; count = (count + 1) / 2)
        for (int32_t k = 0; k < count; k += 2)
            sums[k / 2] = k + 1 < count ? sums[k] + sums[k + 1] : sums[k];
    return sums[0];
}

/* One after the other: what a tree is not, from three lanes on. */
static float running_sum(int32_t count, size_t i)
{
    float sum = 0.0f;

    for (int32_t lane = 0; lane < count; lane++)
        sum += lane_value(lane, i);
    return sum;
}

static void check_total(const struct round *round, int32_t count)
{
    const float *total = nin__cpu_lanes_total(round->lanes);
    size_t wrong = 0, otherwise = 0;

    ck_assert_ptr_nonnull(total);
    for (size_t i = 0; i < round->floats; i++) {
        wrong += total[i] != tree_sum(count, i);
        otherwise += total[i] != running_sum(count, i);
    }
    ck_assert_msg(wrong == 0, "%d lanes: %zu of %zu sums", count, wrong, round->floats);
    ck_assert(count < 4 || otherwise > 0);
}

static void run_round(struct cpu_lanes *lanes, int32_t count, int threads, int32_t late,
                      size_t floats)
{
    struct round round = {.lanes = lanes, .floats = floats, .late = late};
    pthread_t ids[MAX_THREADS];

    round.seed = (uint64_t)count * 100 + (uint64_t)threads;
    nin__cpu_lanes_begin(lanes, count, floats);
    for (int t = 0; t < threads; t++)
        ck_assert_int_eq(pthread_create(&ids[t], NULL, work_on_lanes, &round), 0);
    for (int t = 0; t < threads; t++)
        pthread_join(ids[t], NULL);
    ck_assert_int_eq(atomic_load(&round.taken), count);
    check_total(&round, count);
}

/* As many as workers that keep step need, and no more: what is not enough would hang here. */
static struct cpu_lanes *make_lanes(int32_t count, int threads)
{
    uint64_t buffer = (SUMS * sizeof(float) + NIN__ALIGNMENT - 1) / NIN__ALIGNMENT * NIN__ALIGNMENT;
    uint64_t buffers = (uint64_t)threads;
    struct cpu_lanes *lanes;

    for (int32_t k = threads; k < count; k *= 2)
        buffers++;
    if (buffers > (uint64_t)count)
        buffers = (uint64_t)count;
    ASSERT_OK(nin__cpu_lanes_create(
        &lanes, threads, (size_t)nin__cpu_lanes_buffers(count, threads) * SUMS * sizeof(float)));
    ck_assert_uint_le(nin__cpu_lanes_bytes(lanes), buffers * buffer);
    return lanes;
}

START_TEST(lanes_are_added_up_in_a_tree)
{
    const int threads = _i;

    for (int32_t count = 1; count <= MAX_LANES; count++) {
        struct cpu_lanes *lanes = make_lanes(count, threads);

        run_round(lanes, count, threads, -1, SUMS);
        nin__cpu_lanes_destroy(lanes);
    }
}
END_TEST

/* The others go on while one lane's sum is missing, as far as buffers reach, and the next round
 * begins with nothing of the last. */
START_TEST(lanes_wait_for_one)
{
    const int threads = _i;
    struct cpu_lanes *lanes = make_lanes(MAX_LANES, threads);

    for (int32_t late = 0; late < MAX_LANES; late += late < 4 ? 1 : 13)
        run_round(lanes, MAX_LANES, threads, late, SUMS);
    for (int32_t count = 1; count <= MAX_LANES; count += 7)
        run_round(lanes, count, threads, 0, 1 + (size_t)count % SUMS);
    nin__cpu_lanes_destroy(lanes);
}
END_TEST

/* ---- workers --------------------------------------------------------------------------------- */

struct tally {
    int32_t workers;
    atomic_int runs[MAX_THREADS];
    pthread_t threads[MAX_THREADS];
    atomic_int strangers, open_signals;
};

/* So long that those who wait fall asleep. */
static void pause_at_times(int round)
{
    const struct timespec time = {.tv_nsec = 2000000};

    if (round % 50 == 49)
        nanosleep(&time, NULL);
}

static void count_run(void *argument, int32_t worker)
{
    struct tally *tally = argument;
    sigset_t blocked;

    if (worker < 0 || worker >= tally->workers) {
        atomic_fetch_add(&tally->strangers, 1);
        return;
    }
    if (worker == tally->workers - 1)
        pause_at_times(atomic_load(&tally->runs[worker]));
    if (atomic_fetch_add(&tally->runs[worker], 1) == 0)
        tally->threads[worker] = pthread_self();
    else if (!pthread_equal(tally->threads[worker], pthread_self()))
        atomic_fetch_add(&tally->strangers, 1);
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    if (worker > 0 && (!sigismember(&blocked, SIGINT) || !sigismember(&blocked, SIGALRM)))
        atomic_fetch_add(&tally->open_signals, 1);
}

static void count_down(void *argument, int32_t worker)
{
    struct tally *tally = argument;

    atomic_fetch_sub(&tally->runs[worker], 1);
}

static void expect_runs(struct tally *tally, int want)
{
    for (int32_t w = 0; w < tally->workers; w++)
        ck_assert_int_eq(atomic_load(&tally->runs[w]), want);
}

/* Always the same thread for the same number: the caller for the first, and for each other one a
 * thread of its own with the signals of the process blocked. It is awake when the next round comes,
 * or asleep. */
START_TEST(each_worker_runs_each_job_once)
{
    struct tally tally = {.workers = _i};
    struct cpu_workers *workers;

    ASSERT_OK(nin__cpu_workers_create(&workers, _i));
    ck_assert_int_eq(nin__cpu_workers_count(workers), _i);
    for (int round = 0; round < 400; round++) {
        nin__cpu_workers_run(workers, count_run, &tally);
        expect_runs(&tally, round + 1);
        pause_at_times(round - 25);
    }
    for (int round = 400; round > 0; round--)
        nin__cpu_workers_run(workers, count_down, &tally);
    expect_runs(&tally, 0);
    nin__cpu_workers_destroy(workers);
    ck_assert(pthread_equal(tally.threads[0], pthread_self()));
    for (int32_t w = 1; w < _i; w++)
        ck_assert(!pthread_equal(tally.threads[w], tally.threads[w - 1]));
    ck_assert_int_eq(atomic_load(&tally.strangers), 0);
    ck_assert_int_eq(atomic_load(&tally.open_signals), 0);
}
END_TEST

START_TEST(workers_come_and_go)
{
    for (int round = 0; round < 50; round++) {
        struct tally tally = {.workers = 1 + round % MAX_THREADS};
        struct cpu_workers *workers;

        ASSERT_OK(nin__cpu_workers_create(&workers, tally.workers));
        if (round % 2)
            nin__cpu_workers_run(workers, count_run, &tally);
        nin__cpu_workers_destroy(workers);
        expect_runs(&tally, round % 2);
    }
    nin__cpu_workers_destroy(NULL);
}
END_TEST

Suite *kernels_suite(void)
{
    Suite *suite = suite_create("kernels");
    TCase *kernels = tcase_create("kernels");
    TCase *memory = tcase_create("memory");
    TCase *threads = tcase_create("threads");

    tcase_add_test(kernels, convolutions);
    tcase_add_test(kernels, convolutions_are_shared_by_vectors_of_filters);
    tcase_add_loop_test(kernels, eight_workers_share_the_preset, NIN_ALGORITHM_WINOGRAD,
                        NIN_ALGORITHM_FFT + 1);
    tcase_add_test(kernels, odd_convolutions_have_the_same_bits_with_avx2_and_avx512);
    tcase_add_test(kernels, pools);
    tcase_add_test(kernels, relu_and_dropout);
    tcase_add_test(kernels, inputs);
    tcase_add_test(kernels, losses);
    tcase_add_test(kernels, odd_maxima);
    tcase_add_test(kernels, fused_pools);
    tcase_add_test(kernels, what_is_not_finite_is_found);
    tcase_add_test(kernels, updates);
    tcase_add_test(kernels, gradients_at_a_point);
    tcase_add_loop_test(kernels, a_part_of_a_matrix_gives_a_part_of_the_product, 0,
                        (PART_COLUMNS + CPU_SHARE - 1) / CPU_SHARE);
    tcase_add_test(kernels, multiply_adds_are_counted);
    tcase_add_test(kernels, a_peak_is_measured);
    tcase_add_test(memory, blocks_alive_together_lie_apart);
    tcase_add_test(memory, memory_is_shared);
    tcase_add_test(memory, large_blocks_are_placed_first);
    tcase_add_test(memory, too_much_memory);
    tcase_add_loop_test(threads, lanes_are_added_up_in_a_tree, 1, MAX_THREADS + 1);
    tcase_add_loop_test(threads, lanes_wait_for_one, 1, MAX_THREADS + 1);
    tcase_add_loop_test(threads, each_worker_runs_each_job_once, 1, MAX_THREADS + 1);
    tcase_add_test(threads, workers_come_and_go);
    suite_add_tcase(suite, kernels);
    suite_add_tcase(suite, memory);
    suite_add_tcase(suite, threads);
    return suite;
}
