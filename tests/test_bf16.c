/* SPDX-License-Identifier: MIT */
/* Products in bf16: the kernels against sums in double precision of operands that were rounded
 * before, the algorithm in whole plans, and who is refused. */
#include "oracle.h"
#include "rig.h"
#include "suites.h"

#include "cpu/conv.h"

#include <math.h>
#include <stdlib.h>

/* ---- kernels ------------------------------------------------------------------------------- */

/* Tables, and how many bf16 numbers an operand is there. */
struct table {
    const struct cpu_bf16_kernels *kernels;
    int parts;
};

/* tiles_*.c */
extern const struct cpu_bf16_kernels nin__test_bf16_amx, nin__test_bf16x3_amx;
extern const struct cpu_bf16_kernels nin__test_bf16_amx_avx512, nin__test_bf16x3_amx_avx512;

enum {
    TABLES = 6
};

/* Those of AMX on a stand-in, and what this processor has. */
static int32_t list_tables(struct table tables[TABLES])
{
    int32_t count = 0;

    tables[count++] = (struct table){&nin__test_bf16_amx, 1};
    tables[count++] = (struct table){&nin__test_bf16x3_amx, 2};
#if defined(__x86_64__)
    if (rig_bf16(NIN_BF16) != NULL) {
        tables[count++] = (struct table){&nin__test_bf16_amx_avx512, 1};
        tables[count++] = (struct table){&nin__test_bf16x3_amx_avx512, 2};
    }
#endif
    if (rig_bf16(NIN_BF16) != NULL)
        tables[count++] = (struct table){rig_bf16(NIN_BF16), 1};
    if (rig_bf16(NIN_BF16X3) != NULL)
        tables[count++] = (struct table){rig_bf16(NIN_BF16X3), 2};
    return count;
}

/* The nearest number with 8 significant bits, of two such the one whose last bit is 0. */
static double rounded(double x)
{
    int exponent;
    double fraction = frexp(x, &exponent);

    return fabs(x) < ldexp(1.0, -126) ? 0.0 : ldexp(nearbyint(ldexp(fraction, 8)), exponent - 8);
}

static double *widened(const float *x, long count, double (*part)(double))
{
    double *wide = calloc((size_t)count + 1, sizeof *wide);

    ck_assert_ptr_nonnull(wide);
    for (long i = 0; i < count; i++)
        wide[i] = part(x[i]);
    return wide;
}

static double itself(double x)
{
    return x;
}

static double rest(double x)
{
    return rounded(x - rounded(x));
}

/* A product of three matrices' shapes: rows x depth, depth x columns; of the pixels of a map, whose
 * rows are `width` wide. */
struct shape {
    int32_t width, groups, depth, columns;
};

struct operands {
    struct shape shape;
    const struct cpu_bf16_kernels *kernels;
    long pixels, x_size, w_size, y_size;
    int32_t padded; /* columns in whole vectors */
    float *x, *w, *dy, *bias, *y, *dw;
    void *packed, *scratch;
};

static void *new_memory(size_t bytes)
{
    void *memory = calloc(bytes + 1, 1);

    ck_assert_ptr_nonnull(memory);
    return memory;
}

static float *new_floats(long count, uint64_t seed)
{
    float *x = new_memory((size_t)count * sizeof *x);

    oracle_fill(x, count, 0.0, 1.0, seed);
    return x;
}

/* Memory is as small as it may be: what is written or read beside it is seen by a sanitizer. */
static struct operands make_operands(const struct cpu_bf16_kernels *kernels, struct shape shape)
{
    struct operands o = {.shape = shape, .kernels = kernels};

    o.pixels = (long)shape.width * shape.groups;
    o.x_size = o.pixels * shape.depth;
    o.w_size = (long)shape.depth * shape.columns;
    o.y_size = o.pixels * shape.columns;
    o.padded = (shape.columns + 15) / 16 * 16;
    o.x = new_floats(o.x_size, 1);
    o.w = new_floats(o.w_size, 2);
    o.dy = new_floats(o.y_size, 3);
    o.bias = new_floats(shape.columns, 4);
    o.y = new_floats(o.y_size, 5);
    o.dw = new_floats((long)shape.depth * o.padded, 6);
    o.packed = aligned_alloc(64, nin__align(kernels->packed_bytes(shape.depth, shape.columns)));
    o.scratch = aligned_alloc(64, nin__align(kernels->scratch_bytes(shape.depth, shape.columns)));
    ck_assert(o.packed != NULL && o.scratch != NULL);
    return o;
}

static void free_operands(struct operands *o)
{
    free(o->x);
    free(o->w);
    free(o->dy);
    free(o->bias);
    free(o->y);
    free(o->dw);
    free(o->packed);
    free(o->scratch);
}

/* w is columns x depth; packed in two pieces, if there are so many pairs. */
static void pack(struct operands *o)
{
    int32_t depth = o->shape.depth, cut = depth / 4 * 2;

    memset(o->packed, 0xff, o->kernels->packed_bytes(depth, o->shape.columns));
    for (int piece = 0; piece < 2; piece++) {
        int32_t first = piece == 0 ? 0 : cut, end = piece == 0 ? cut : depth;

        o->kernels->pack(&(struct cpu_packing){.packed = o->packed,
                                               .source = o->w + first,
                                               .depth = depth,
                                               .first = first,
                                               .count = end - first,
                                               .columns = o->shape.columns,
                                               .inner = o->shape.columns,
                                               .depth_step = 1,
                                               .inner_step = depth});
    }
}

/* y = x w' for some rows, as `product` says beyond that. */
static void multiply(struct operands *o, struct cpu_product product, int32_t first, int32_t rows)
{
    product.a = o->x + (long)first * o->shape.depth;
    product.b = o->packed;
    product.c = o->y + (long)first * o->shape.columns;
    product.rows = rows;
    product.columns = o->shape.columns;
    product.depth = o->shape.depth;
    product.runs = 1;
    product.a_row = o->shape.depth;
    product.c_row = o->shape.columns;
    o->kernels->multiply(&product, o->scratch);
}

static void add_outer(struct operands *o, int32_t first, int32_t groups, bool fresh)
{
    struct cpu_outer outer = {.a = o->x + (long)first * o->shape.width * o->shape.depth,
                              .b = o->dy + (long)first * o->shape.width * o->shape.columns,
                              .c = o->dw,
                              .fresh = fresh,
                              .groups = groups,
                              .rows = o->shape.width,
                              .depth = o->shape.depth,
                              .columns = o->shape.columns,
                              .a_group = (ptrdiff_t)o->shape.width * o->shape.depth,
                              .a_row = o->shape.depth,
                              .b_group = (ptrdiff_t)o->shape.width * o->shape.columns,
                              .b_row = o->shape.columns,
                              .c_row = o->padded};

    o->kernels->add_outer(&outer, o->scratch);
}

/* The products of the parts that a table multiplies: high * high, then high * low and
 * low * high. */
static void want_product(double *y, const struct operands *o, int parts)
{
    static double (*const left[])(double) = {rounded, rounded, rest};
    static double (*const right[])(double) = {rounded, rest, rounded};
    struct oracle_map in = {o->pixels, o->shape.depth, 1, 1};
    struct oracle_map out = {o->pixels, o->shape.columns, 1, 1};
    double *product = new_memory((size_t)o->y_size * sizeof *product);

    memset(y, 0, (size_t)o->y_size * sizeof *y);
    for (int k = 0; k < 2 * parts - 1; k++) {
        double *x = widened(o->x, o->x_size, left[k]), *w = widened(o->w, o->w_size, right[k]);

        oracle_dense(product, out, x, in, w, NULL);
        for (long i = 0; i < o->y_size; i++)
            y[i] += product[i];
        free(x);
        free(w);
    }
    free(product);
}

/* dw, columns x depth */
static void want_outer(double *dw, const struct operands *o, int parts)
{
    static double (*const left[])(double) = {rounded, rounded, rest};
    static double (*const right[])(double) = {rounded, rest, rounded};
    struct oracle_map in = {o->pixels, o->shape.depth, 1, 1};
    struct oracle_map out = {o->pixels, o->shape.columns, 1, 1};
    double *product = new_memory((size_t)o->w_size * sizeof *product);

    memset(dw, 0, (size_t)o->w_size * sizeof *dw);
    for (int k = 0; k < 2 * parts - 1; k++) {
        double *x = widened(o->x, o->x_size, left[k]), *dy = widened(o->dy, o->y_size, right[k]);

        oracle_dense_dw(product, dy, out, x, in);
        for (long i = 0; i < o->w_size; i++)
            dw[i] += product[i];
        free(x);
        free(dy);
    }
    free(product);
}

/* Against rounded operands nothing but sums in fp32 differ; against the others their roundings. A
 * short sum of few products has few errors to average. */
static const double exact_bound = 5e-7, rounded_bound[] = {0.0, 4e-3, 2e-5};

static void check_product(struct operands *o, int parts)
{
    double *want = new_memory((size_t)o->y_size * sizeof *want);
    struct oracle_map in = {o->pixels, o->shape.depth, 1, 1};
    struct oracle_map out = {o->pixels, o->shape.columns, 1, 1};
    double *x = widened(o->x, o->x_size, itself), *w = widened(o->w, o->w_size, itself);

    multiply(o, (struct cpu_product){0}, 0, (int32_t)o->pixels);
    want_product(want, o, parts);
    ck_assert_double_le(oracle_error(o->y, want, o->y_size), exact_bound);
    oracle_dense(want, out, x, in, w, NULL);
    ck_assert_double_le(oracle_error(o->y, want, o->y_size), rounded_bound[parts]);
    free(want);
    free(x);
    free(w);
}

/* What follows a sum is done with it in fp32: y = relu(x w' + bias), or 0 where a gate is not
 * positive. */
static void check_ends(struct operands *o)
{
    float *plain = new_floats(o->y_size, 0), *gate = new_floats(o->y_size, 8);
    long wrong = 0;

    memcpy(plain, o->y, (size_t)o->y_size * sizeof *plain);
    multiply(o, (struct cpu_product){.bias = o->bias, .relu = true}, 0, (int32_t)o->pixels);
    for (long i = 0; i < o->y_size; i++) {
        float sum = plain[i] + o->bias[i % o->shape.columns];

        wrong += o->y[i] != (sum > 0.0f ? sum : 0.0f);
    }
    ck_assert_int_eq(wrong, 0);
    multiply(o, (struct cpu_product){.gate = gate}, 0, (int32_t)o->pixels);
    for (long i = 0; i < o->y_size; i++)
        wrong += o->y[i] != (gate[i] > 0.0f ? plain[i] : 0.0f);
    ck_assert_int_eq(wrong, 0);
    free(plain);
    free(gate);
}

/* Rows have the bits that they have in the whole. */
static void check_rows(struct operands *o)
{
    size_t bytes = (size_t)o->y_size * sizeof(float);
    float *whole = new_floats(o->y_size, 0);
    int32_t rows = 1;

    multiply(o, (struct cpu_product){0}, 0, (int32_t)o->pixels);
    memcpy(whole, o->y, bytes);
    memset(o->y, 0xff, bytes);
    for (int32_t first = 0; first < o->pixels; first += rows, rows += 2) {
        if (rows > o->pixels - first)
            rows = (int32_t)o->pixels - first;
        multiply(o, (struct cpu_product){0}, first, rows);
    }
    ck_assert_mem_eq(o->y, whole, bytes);
    free(whole);
}

/* dw without the columns that fill its vectors up, as the oracle has it. */
static float *turned(const struct operands *o)
{
    float *dw = new_floats(o->w_size, 0);

    for (int32_t k = 0; k < o->shape.depth; k++)
        for (int32_t n = 0; n < o->shape.columns; n++)
            dw[n * o->shape.depth + k] = o->dw[(long)k * o->padded + n];
    return dw;
}

static void check_outer(struct operands *o, int parts)
{
    double *want = new_memory((size_t)o->w_size * sizeof *want);
    struct oracle_map in = {o->pixels, o->shape.depth, 1, 1};
    struct oracle_map out = {o->pixels, o->shape.columns, 1, 1};
    double *x = widened(o->x, o->x_size, itself), *dy = widened(o->dy, o->y_size, itself);
    float *got;

    add_outer(o, 0, o->shape.groups, true);
    got = turned(o);
    want_outer(want, o, parts);
    ck_assert_double_le(oracle_error(got, want, o->w_size), exact_bound);
    oracle_dense_dw(want, dy, out, x, in);
    ck_assert_double_le(oracle_error(got, want, o->w_size), rounded_bound[parts]);
    free(want);
    free(x);
    free(dy);
    free(got);
}

/* Groups one by one, and two and then the others, are what all are. */
static void check_groups(struct operands *o)
{
    size_t bytes = (size_t)o->shape.depth * (size_t)o->padded * sizeof(float);
    float *whole = new_memory(bytes);

    add_outer(o, 0, o->shape.groups, true);
    memcpy(whole, o->dw, bytes);
    for (int32_t g = 0; g < o->shape.groups; g++)
        add_outer(o, g, 1, g == 0);
    ck_assert_mem_eq(o->dw, whole, bytes);
    if (o->shape.groups > 2) {
        add_outer(o, 0, 2, true);
        add_outer(o, 2, o->shape.groups - 2, false);
        ck_assert_mem_eq(o->dw, whole, bytes);
    }
    free(whole);
}

static void check_shape(struct table table, struct shape shape)
{
    struct operands o = make_operands(table.kernels, shape);

    pack(&o);
    check_product(&o, table.parts);
    check_ends(&o);
    check_rows(&o);
    check_outer(&o, table.parts);
    check_groups(&o);
    free_operands(&o);
}

/* Images of batches of 1, 2 and 5, one below the other. */
static const struct shape shapes[] = {
    {7, 7, 1, 3},     {3, 10, 3, 1},    {5, 25, 17, 17},  {1, 5, 96, 33},  {1, 1, 1, 1},
    {4, 8, 33, 96},   {28, 5, 96, 64},  {14, 14, 64, 48}, {33, 3, 17, 64}, {130, 2, 3, 96},
    {13, 13, 48, 10}, {6, 2, 1100, 17}, {65, 1, 96, 80},
};

enum {
    SHAPES = sizeof shapes / sizeof shapes[0]
};

START_TEST(products_of_rounded_operands)
{
    struct table tables[TABLES];
    int32_t count = list_tables(tables);

    for (int32_t t = 0; t < count; t++)
        check_shape(tables[t], shapes[_i]);
}
END_TEST

/* Where an operand is 1, a product shows how the other one was rounded. */
START_TEST(operands_are_rounded_to_nearest)
{
    static const float values[] = {0x1.00p0f,      0x1.01p0f,        0x1.03p0f,   0x1.010002p0f,
                                   -0x1.02fffep0f, 0x1.feffp0f,      0x1.ffp0f,   0x1.fffffep7f,
                                   0x1p-126f,      0x1.fffffep-127f, -0x1p-149f,  0.0f,
                                   -0x1.81p90f,    0x1.feffp127f,    0x1.ffp127f, -3.0f};
    struct shape shape = {.width = sizeof values / sizeof values[0], 1, 1, 1};
    struct table tables[TABLES];
    int32_t count = list_tables(tables);

    for (int32_t t = 0; t < count; t++) {
        struct operands o = make_operands(tables[t].kernels, shape);

        if (tables[t].parts == 1) {
            o.w[0] = 1.0f;
            pack(&o);
            memcpy(o.x, values, sizeof values);
            multiply(&o, (struct cpu_product){0}, 0, shape.width);
            for (int32_t i = 0; i < shape.width; i++)
                ck_assert_msg(o.y[i] == (float)rounded(values[i]), "%a became %a",
                              (double)values[i], (double)o.y[i]);
            for (int32_t i = 0; i < shape.width; i++) { /* and as weights */
                o.w[0] = values[i];
                o.x[0] = 1.0f;
                pack(&o);
                multiply(&o, (struct cpu_product){0}, 0, 1);
                ck_assert(o.y[0] == (float)rounded(values[i]));
            }
        }
        free_operands(&o);
    }
}
END_TEST

static const float not_numbers[] = {NAN, INFINITY};

/* What is not finite is not lost, in either operand and after a ReLU, nor does it reach other
 * sums. */
START_TEST(what_is_not_finite_stays_so)
{
    struct shape shape = {5, 3, 7, 18};
    struct table tables[TABLES];
    int32_t count = list_tables(tables);

    for (int32_t t = 0; t < count; t++) {
        struct operands o = make_operands(tables[t].kernels, shape);

        o.x[3 * 7 + 6] = not_numbers[_i];
        o.w[17 * 7 + 2] = not_numbers[_i];
        pack(&o);
        multiply(&o, (struct cpu_product){.bias = o.bias}, 0, 15);
        for (int32_t i = 0; i < 15; i++)
            for (int32_t n = 0; n < 18; n++)
                ck_assert_msg((bool)isfinite(o.y[i * 18 + n]) == (i != 3 && n != 17), "%d, %d", i,
                              n);
        if (_i == 0) {
            multiply(&o, (struct cpu_product){.bias = o.bias, .relu = true}, 0, 15);
            ck_assert(isnan(o.y[3 * 18]) && isnan(o.y[17]));
        }
        add_outer(&o, 0, 3, true);
        for (int32_t k = 0; k < 7; k++)
            for (int32_t n = 0; n < 18; n++)
                ck_assert((bool)isfinite(o.dw[k * 32 + n]) == (k != 6));
        free_operands(&o);
    }
}
END_TEST

/* ---- the algorithm ------------------------------------------------------------------------- */

/* A convolution of images of 3 x 5 pixels, with a bias and a ReLU, behind another ReLU. */
struct layer {
    struct operands o; /* x, w as OC x C, dy, bias; y */
    struct nin__op op;
    struct cpu_kernels kernels;
    struct cpu_op cpu;
    float *dx, *lane, *parameters, *gradient, *scratch, *prepared[CPU_PASSES];
};

/* Parameters are weights, then biases. The kernels of fp32 are any, in rows of 16 floats. */
static void make_layer(struct layer *l, struct table table, int32_t in, int32_t out, int32_t images)
{
    struct cpu_need *need = &l->cpu.need;
    const struct cpu_kernels *kernels;

    *l = (struct layer){.o = make_operands(table.kernels, (struct shape){5, 3 * images, in, out})};
    ASSERT_OK(nin__cpu_choose_kernels(&kernels, NIN_INSTRUCTIONS_BASELINE));
    l->kernels = *kernels;
    l->kernels.width = 16;
    l->op = (struct nin__op){.kind = NIN__OP_CONV,
                             .in = {in, 3, 5},
                             .out = {out, 3, 5},
                             .kernel_h = 1,
                             .kernel_w = 1,
                             .stride = 1,
                             .relu = true,
                             .bias = (size_t)l->o.w_size};
    l->cpu = (struct cpu_op){.op = &l->op,
                             .algorithm = &nin__cpu_conv_bf16,
                             .kernels = &l->kernels,
                             .bf16 = table.kernels,
                             .rowwise = true,
                             .train = true,
                             .wants_dx = true,
                             .gate_dx = true};
    nin__cpu_conv_bf16.declare(need, &l->cpu, images);
    l->dx = new_memory((size_t)l->o.x_size * sizeof(float));
    l->lane = new_memory(need->lane);
    l->gradient = new_memory((size_t)(l->o.w_size + out) * sizeof(float));
    l->parameters = new_memory((size_t)(l->o.w_size + out) * sizeof(float));
    memcpy(l->parameters, l->o.w, (size_t)l->o.w_size * sizeof(float));
    memcpy(l->parameters + l->o.w_size, l->o.bias, (size_t)out * sizeof(float));
    l->scratch = aligned_alloc(64, nin__align(need->scratch));
    for (int32_t pass = 0; pass < CPU_PASSES; pass++) {
        l->prepared[pass] = aligned_alloc(64, nin__align(need->prepared[pass]));
        for (int32_t part = 0; part < 3; part++)
            nin__cpu_conv_bf16.prepare(&l->cpu, (enum cpu_pass)pass, l->parameters,
                                       l->prepared[pass], (struct cpu_share){part, 3});
    }
}

static void free_layer(struct layer *l)
{
    free_operands(&l->o);
    free(l->dx);
    free(l->lane);
    free(l->parameters);
    free(l->gradient);
    free(l->scratch);
    free(l->prepared[CPU_FORWARD]);
    free(l->prepared[CPU_BACKWARD]);
}

static void run_layer(struct layer *l, int32_t images)
{
    struct nin__run run = {.parameters = l->parameters};
    struct cpu_call call = {.cpu = &l->cpu,
                            .op = &l->op,
                            .run = &run,
                            .images = images,
                            .rows = 3,
                            .x = l->o.x,
                            .y = l->o.y,
                            .dy = l->o.dy,
                            .dx = l->dx,
                            .scratch = l->scratch,
                            .prepared = {l->prepared[CPU_FORWARD], l->prepared[CPU_BACKWARD]},
                            .lane = l->lane,
                            .fresh = true};

    nin__cpu_conv_bf16.forward(&call);
    nin__cpu_conv_bf16.backward(&call);
    for (int32_t part = 0; part < 2; part++)
        nin__cpu_conv_bf16.finish(&l->cpu, l->lane, l->gradient, false,
                                  (struct cpu_share){part, 2});
}

/* What the whole layer makes of operands as `part` has them: dy is gated by y, dx by x. Biases add
 * up in fp32, and a sum of one is small by chance. */
static void check_layer(const struct layer *l, double (*part)(double), double bound)
{
    const struct operands *o = &l->o;
    struct oracle_map in = {o->pixels, o->shape.depth, 1, 1};
    struct oracle_map out = {o->pixels, o->shape.columns, 1, 1};
    double *x = widened(o->x, o->x_size, part), *w = widened(o->w, o->w_size, part);
    double *dy = widened(o->dy, o->y_size, part), *sums = widened(o->dy, o->y_size, itself);
    double *bias = widened(o->bias, o->shape.columns, itself);
    double *want = new_memory((size_t)(o->x_size + o->w_size + o->y_size) * sizeof *want);

    oracle_dense(want, out, x, in, w, bias);
    oracle_relu(want, want, o->y_size);
    ck_assert_double_le(oracle_error(o->y, want, o->y_size), bound);
    oracle_dense_dw(want, dy, out, x, in);
    ck_assert_double_le(oracle_error(l->gradient, want, o->w_size), bound);
    oracle_conv2d_db(want, sums, out);
    ck_assert_double_le(oracle_error(l->gradient + o->w_size, want, o->shape.columns), 2e-5);
    oracle_dense_dx(want, in, dy, out, w);
    for (long i = 0; i < o->x_size; i++)
        want[i] = o->x[i] > 0.0f ? want[i] : 0.0;
    ck_assert_double_le(oracle_error(l->dx, want, o->x_size), bound);
    free(x);
    free(w);
    free(dy);
    free(sums);
    free(bias);
    free(want);
}

/* Biases are positive, so that few outputs are 0: backward begins with a dy that has been gated by
 * then. */
static void check_sizes(struct table table, int32_t in, int32_t out, int32_t images)
{
    struct layer l;

    make_layer(&l, table, in, out, images);
    for (int32_t n = 0; n < out; n++)
        l.parameters[l.o.w_size + n] = l.o.bias[n] = fabsf(l.o.bias[n]) + 0.5f;
    run_layer(&l, images);
    if (table.parts == 1)
        check_layer(&l, rounded, 2e-6);
    check_layer(&l, itself, table.parts == 1 ? 2e-2 : 1e-4);
    free_layer(&l);
}

static const int32_t sizes[] = {1, 3, 17, 96, 33}, batches[] = {1, 2, 5};

START_TEST(a_layer_of_rounded_operands)
{
    struct table tables[TABLES];
    int32_t count = list_tables(tables);

    for (int32_t t = 0; t < count; t++)
        for (int in = 0; in < 5; in++)
            for (int out = 0; out < 5; out++)
                check_sizes(tables[t], sizes[in], sizes[out], batches[_i]);
}
END_TEST

/* ---- plans --------------------------------------------------------------------------------- */

/* Every 1x1 convolution, and a dense layer that reads one pixel, goes this way, and nothing
 * else. */
START_TEST(the_path_is_taken)
{
    static const int32_t wanted[] = {3, 2, 6}; /* of RIG_SMALL, RIG_DENSE, RIG_MNIST */
    struct rig rig;
    char text[8192];
    int32_t found = 0;

    if (rig_bf16(NIN_BF16) == NULL)
        return;
    rig_make(&rig,
             &(struct rig_desc){
                 .net = (enum rig_net)_i, .mode = NIN_TRAIN, .batch = 8, .precision = NIN_BF16});
    for (int32_t i = 0; i < rig.plan->program->count; i++) {
        const struct cpu_op *op = &rig.plan->executable->ops[i];
        bool one = op->op->kind == NIN__OP_CONV && nin__cpu_is_pointwise(op->op);

        ck_assert((op->algorithm == &nin__cpu_conv_bf16) == one);
        found += one;
    }
    ck_assert_int_eq(found, wanted[_i]);
    ck_assert_uint_lt(nin_plan_describe(rig.plan, text, sizeof text), sizeof text);
    ck_assert_ptr_nonnull(strstr(text, rig_bf16(NIN_BF16)->name));
    ck_assert_ptr_nonnull(strstr(text, " bf16 "));
    rig_free(&rig);
}
END_TEST

static float *gradient_of(const struct rig_desc *desc, size_t *count)
{
    struct rig rig;
    float *gradient;

    rig_make(&rig, desc);
    rig_backward(&rig, 0, desc->batch);
    *count = nin_network_parameter_count(rig.network);
    gradient = rig_gradient(&rig);
    rig_free(&rig);
    return gradient;
}

/* Near the gradient of fp32, and not the same. */
START_TEST(gradients_are_near_those_of_fp32)
{
    struct rig_desc desc = {.net = (enum rig_net)_i, .mode = NIN_TRAIN, .batch = 20};
    float *exact, *gradient;
    double *wide, error;
    size_t count;

    if (rig_bf16(NIN_BF16) == NULL)
        return;
    exact = gradient_of(&desc, &count);
    desc.precision = NIN_BF16;
    gradient = gradient_of(&desc, &count);
    wide = widened(exact, (long)count, itself);
    error = oracle_error(gradient, wide, (long)count);
    ck_assert_double_gt(error, 1e-4);
    ck_assert_double_lt(error, 3e-2);
    free(exact);
    free(gradient);
    free(wide);
}
END_TEST

/* The bits after some steps, in which batches are full and three quarters full in turn. */
static uint64_t state_after(const struct rig_desc *desc, int32_t steps)
{
    uint64_t state = 0;
    struct rig rig;

    rig_make(&rig, desc);
    for (int32_t s = 0; s < steps; s++) {
        nin_result result = rig_step(&rig, s, s % 2 == 0 ? desc->batch : desc->batch * 3 / 4);

        state = rig_state(&rig, &result);
    }
    rig_free(&rig);
    return state;
}

START_TEST(threads_do_not_matter)
{
    struct rig_desc desc = {.net = (enum rig_net)_i,
                            .mode = NIN_TRAIN,
                            .threads = 1,
                            .batch = 54,
                            .precision = NIN_BF16};
    uint64_t wanted;

    if (rig_bf16(NIN_BF16) == NULL)
        return;
    wanted = state_after(&desc, 4);
    for (desc.threads = 2; desc.threads <= 5; desc.threads++) {
        desc.hidden.jitter = (uint32_t)desc.threads;
        ck_assert_uint_eq(state_after(&desc, 4), wanted);
    }
}
END_TEST

static float *scores_of(const struct rig_desc *desc, int32_t count, size_t *values)
{
    struct rig rig;
    nin_batch_desc batch;
    float *scores;

    rig_make(&rig, desc);
    batch = rig_batch(&rig, 7, desc->batch);
    batch.count = count;
    ASSERT_OK(nin_plan_forward(rig.plan, &batch));
    ck_assert(desc->threads == 1 || count > 1 || rig.plan->executable->shared_chunks > 0);
    scores = rig_scores(rig.plan, count, values);
    rig_free(&rig);
    return scores;
}

/* Few images, which all workers share, have the scores that they have in a larger batch on one
 * thread. */
START_TEST(shared_images_have_the_same_scores)
{
    struct rig_desc desc = {.net = (enum rig_net)_i,
                            .mode = NIN_INFER,
                            .threads = 1,
                            .batch = 16,
                            .precision = NIN_BF16};
    size_t values;
    float *wanted;

    if (rig_bf16(NIN_BF16) == NULL)
        return;
    wanted = scores_of(&desc, 16, &values);
    for (desc.threads = 1; desc.threads <= 5; desc.threads++)
        for (int32_t count = 1; count <= 5; count += 2) {
            float *scores = scores_of(&desc, count, &values);

            ck_assert_mem_eq(scores, wanted, values * sizeof *scores);
            free(scores);
        }
    free(wanted);
}
END_TEST

/* The gradient of a plan that keeps some outputs, which cuts its groups into other strips. Rows of
 * 27 and 7 pixels: strips and images of odd numbers of them. */
static uint64_t gradient_keeping(const char *const *keep, int32_t count, int32_t algorithm)
{
    size_t bytes;
    struct rig rig;
    float *gradient;
    uint64_t hash;

    rig_make(&rig, &(struct rig_desc){.net = RIG_MNIST, .mode = NIN_TRAIN, .batch = 9});
    nin_plan_destroy(rig.plan);
    ASSERT_OK(
        nin_plan_create(&rig.plan, rig.network,
                        NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = 9, .height = 27,
                                 .width = 27, .precision = NIN_BF16, .keep = keep,
                                 .keep_count = count, .algorithm = (nin_algorithm)algorithm)));
    rig_backward(&rig, 0, 9);
    gradient = rig_gradient(&rig);
    bytes = nin_network_parameter_count(rig.network) * sizeof *gradient;
    hash = rig_hash(RIG_HASH, gradient, bytes);
    free(gradient);
    rig_free(&rig);
    return hash;
}

START_TEST(strips_do_not_matter)
{
    static const char *const keep[] = {"conv1", "cccp1", "cccp3", "cccp5"};

    if (rig_bf16(NIN_BF16) == NULL)
        return;
    ck_assert_uint_eq(gradient_keeping(keep, 4, _i), gradient_keeping(NULL, 0, _i));
}
END_TEST

/* Forward and backward give the gradient of a step: an update by it leaves the same parameters. */
START_TEST(forward_and_backward_are_a_step)
{
    struct rig_desc desc = {
        .net = (enum rig_net)_i, .mode = NIN_TRAIN, .batch = 20, .precision = NIN_BF16};
    size_t bytes;
    struct rig one, two;

    if (rig_bf16(NIN_BF16) == NULL)
        return;
    rig_make(&one, &desc);
    rig_make(&two, &desc);
    bytes = nin_network_parameter_count(one.network) * sizeof(float);
    rig_step(&one, 3, 20);
    rig_backward(&two, 3, 20);
    ASSERT_OK(nin_optimizer_update(two.optimizer, two.plan));
    ck_assert_mem_eq(one.network->parameters, two.network->parameters, bytes);
    rig_free(&one);
    rig_free(&two);
}
END_TEST

/* Plans of both precisions share a network, each with weights in its own form. */
START_TEST(precisions_share_a_network)
{
    struct rig_desc desc = {.net = RIG_SMALL, .mode = NIN_TRAIN, .batch = 8};
    nin_plan *own[2] = {NULL, NULL};
    size_t values, again;
    struct rig rig;

    if (rig_bf16(NIN_BF16) == NULL)
        return;
    rig_make(&rig, &desc);
    for (int k = 0; k < 2; k++)
        ASSERT_OK(nin_plan_create(
            &own[k], rig.network,
            NIN_DESC(nin_plan_desc, .max_batch = 8, .precision = k == 0 ? NIN_FP32 : NIN_BF16)));
    for (int32_t step = 0; step < 3; step++) {
        nin_batch_desc batch = rig_batch(&rig, 9, 8);
        float *scores[2];
        double *wide, error;

        for (int k = 0; k < 2; k++) {
            ASSERT_OK(nin_plan_forward(own[k], &batch));
            scores[k] = rig_scores(own[k], 8, k == 0 ? &values : &again);
        }
        wide = widened(scores[0], (long)values, itself);
        error = oracle_error(scores[1], wide, (long)values);
        ck_assert(error > 1e-5 && error < 2e-2);
        free(wide);
        free(scores[0]);
        free(scores[1]);
        rig_step(&rig, step, 8);
    }
    nin_plan_destroy(own[0]);
    nin_plan_destroy(own[1]);
    rig_free(&rig);
}
END_TEST

/* The losses before and after so many steps on the same images, with the same dropout. */
static void learn(double losses[2], nin_precision precision, int32_t steps)
{
    struct rig rig;

    rig_make(&rig, &(struct rig_desc){.net = RIG_SMALL,
                                      .mode = NIN_TRAIN,
                                      .threads = 2,
                                      .batch = 32,
                                      .precision = precision});
    ASSERT_OK(nin_optimizer_set_rate(rig.optimizer, 0.01));
    losses[0] = rig_step(&rig, 0, 32).loss;
    for (int32_t s = 1; s <= steps; s++)
        losses[1] = rig_step(&rig, 0, 32).loss;
    rig_free(&rig);
}

START_TEST(it_learns_as_fp32_does)
{
    double exact[2], losses[2];

    if (rig_bf16(NIN_BF16) == NULL)
        return;
    learn(exact, NIN_FP32, 120); /* measured: 1.64 becomes 0.756 and 0.754 */
    learn(losses, NIN_BF16, 120);
    ck_assert_double_gt(losses[0], 1.5);
    ck_assert_double_lt(fabs(losses[1] - exact[1]), 0.02);
    learn(losses, NIN_BF16, 240);
    ck_assert_double_lt(losses[1], 0.05);
}
END_TEST

/* ---- refusals ------------------------------------------------------------------------------ */

static const struct {
    nin_instruction_set instructions;
    nin_precision precision;
    const char *words;
} refusals[] = {
    {NIN_INSTRUCTIONS_BASELINE, NIN_BF16, "NIN_BF16 needs the instruction set avx512_bf16 or amx"},
    {NIN_INSTRUCTIONS_AVX2, NIN_BF16, "the context has 'avx2'"},
    {NIN_INSTRUCTIONS_AVX512, NIN_BF16, "the context has 'avx512'"},
    {NIN_INSTRUCTIONS_AVX512_BF16, NIN_BF16X3, "NIN_BF16X3 needs the instruction set amx"},
    {NIN_INSTRUCTIONS_AVX512, NIN_BF16X3, "NIN_BF16X3 needs the instruction set amx"},
};

enum {
    REFUSALS = sizeof refusals / sizeof refusals[0]
};

START_TEST(without_instructions_it_is_refused)
{
    nin_context *context = NULL;
    nin_network *network;
    nin_plan *plan = NULL;

    if (nin_context_create(&context, NIN_DESC(nin_context_desc, .threads = 1,
                                              .instructions = refusals[_i].instructions)) ==
        NIN_NO_DEVICE)
        return; /* not on this processor */
    ck_assert_msg(context != NULL, "%s", nin_last_error());
    network = rig_network(context, RIG_SMALL);
    ASSERT_FAILS(NIN_UNSUPPORTED, refusals[_i].words,
                 nin_plan_create(&plan, network,
                                 NIN_DESC(nin_plan_desc, .precision = refusals[_i].precision)));
    ck_assert_ptr_null(plan);
    nin_network_destroy(network);
    nin_context_destroy(context);
}
END_TEST

/* The environment's choice counts as the context's. */
START_TEST(the_environment_can_refuse_it)
{
    nin_context *context = NULL;
    nin_network *network;
    nin_plan *plan = NULL;

    ck_assert_int_eq(setenv("NIN_CPU_ISA", "baseline", 1), 0);
    ASSERT_OK(nin_context_create(&context, NULL));
    network = rig_network(context, RIG_SMALL);
    ASSERT_FAILS(NIN_UNSUPPORTED, "the context has 'baseline'",
                 nin_plan_create(&plan, network, NIN_DESC(nin_plan_desc, .precision = NIN_BF16)));
    nin_network_destroy(network);
    nin_context_destroy(context);
}
END_TEST

/* The kernel is asked for AMX's tiles. If it refuses, whoever has named AMX is told so, and the
 * choice of nobody is the next best. */
START_TEST(the_kernel_is_asked_for_tiles)
{
    struct nin__device device = {NIN_INSTRUCTIONS_AMX, true};
    const struct cpu_bf16_kernels *kernels = NULL;

#if defined(__x86_64__)
    if (nin__cpu_ask_for_tiles() == 0) {
        ASSERT_OK(nin__cpu_choose_bf16(&kernels, &device, NIN_BF16X3));
        ck_assert_ptr_eq(kernels, &nin__cpu_bf16x3_amx);
        ASSERT_OK(nin__cpu_choose_bf16(&kernels, &device, NIN_BF16));
        ck_assert_ptr_eq(kernels, &nin__cpu_bf16_amx);
        return;
    }
    device.named = false;
    ASSERT_OK(nin__cpu_choose_bf16(&kernels, &device, NIN_BF16));
    ck_assert_ptr_eq(kernels, &nin__cpu_bf16_avx512);
    ASSERT_FAILS(NIN_UNSUPPORTED, "NIN_BF16X3",
                 nin__cpu_choose_bf16(&kernels, &device, NIN_BF16X3));
    device.named = true;
    ASSERT_FAILS(NIN_UNSUPPORTED, "tiles of AMX",
                 nin__cpu_choose_bf16(&kernels, &device, NIN_BF16));
    ck_assert_ptr_null(kernels);
#endif
}
END_TEST

Suite *bf16_suite(void)
{
    Suite *suite = suite_create("bf16");
    TCase *kernels = tcase_create("kernels"), *plans = tcase_create("plans");
    TCase *refused = tcase_create("refusals");

    tcase_add_loop_test(kernels, products_of_rounded_operands, 0, SHAPES);
    tcase_add_test(kernels, operands_are_rounded_to_nearest);
    tcase_add_loop_test(kernels, what_is_not_finite_stays_so, 0, 2);
    tcase_add_loop_test(kernels, a_layer_of_rounded_operands, 0, 3);
    tcase_add_loop_test(plans, the_path_is_taken, RIG_SMALL, RIG_MNIST + 1);
    tcase_add_loop_test(plans, gradients_are_near_those_of_fp32, RIG_SMALL, RIG_MNIST + 1);
    tcase_add_loop_test(plans, threads_do_not_matter, RIG_SMALL, RIG_MNIST + 1);
    tcase_add_loop_test(plans, shared_images_have_the_same_scores, RIG_SMALL, RIG_MNIST + 1);
    tcase_add_loop_test(plans, strips_do_not_matter, NIN_ALGORITHM_DIRECT, NIN_ALGORITHM_FFT + 1);
    tcase_add_loop_test(plans, forward_and_backward_are_a_step, RIG_SMALL, RIG_MNIST + 1);
    tcase_add_test(plans, precisions_share_a_network);
    tcase_add_test(plans, it_learns_as_fp32_does);
    tcase_add_loop_test(refused, without_instructions_it_is_refused, 0, REFUSALS);
    tcase_add_test(refused, the_environment_can_refuse_it);
    tcase_add_test(refused, the_kernel_is_asked_for_tiles);
    suite_add_tcase(suite, kernels);
    suite_add_tcase(suite, plans);
    suite_add_tcase(suite, refused);
    return suite;
}
