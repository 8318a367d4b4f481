/* SPDX-License-Identifier: MIT */
/* layers.gold: each layer alone, forward and backward. */
#include "device.h"
#include "test_parity.h"

#include <math.h>
#include <stdlib.h>

/* ---- a network of one layer ---------------------------------------------------------------- */

/* Descriptors are those of make.py: n c h w first. */
static void add_conv(nin_builder *builder, const int32_t *desc)
{
    nin_builder_conv2d(builder, "layer",
                       NIN_DESC(nin_conv2d_desc, .filters = desc[4], .kernel = desc[5],
                                .stride = desc[6], .pad = desc[7]));
}

static void add_max_pool(nin_builder *builder, const int32_t *desc)
{
    nin_builder_max_pool(builder, "layer",
                         NIN_DESC(nin_pool_desc, .kernel = desc[4], .stride = desc[5],
                                  .pad = desc[6], .round_up = desc[7]));
}

static void add_average_pool(nin_builder *builder, const int32_t *desc)
{
    nin_builder_average_pool(builder, "layer",
                             NIN_DESC(nin_pool_desc, .kernel = desc[4], .stride = desc[5],
                                      .pad = desc[6], .round_up = desc[7],
                                      .exclude_padding = !desc[8]));
}

static void add_global_average(nin_builder *builder, const int32_t *desc)
{
    (void)desc;
    nin_builder_global_average_pool(builder, "layer");
}

static void add_relu(nin_builder *builder, const int32_t *desc)
{
    (void)desc;
    nin_builder_relu(builder, "layer");
}

static void add_dense(nin_builder *builder, const int32_t *desc)
{
    nin_builder_dense(builder, "layer", NIN_DESC(nin_dense_desc, .units = desc[4]));
}

static void add_loss(nin_builder *builder, const int32_t *desc)
{
    (void)desc;
    nin_builder_softmax_loss(builder, "layer");
}

/* Bounds of the deviations: three times the largest among OpenBLAS's kernels of eight processors.
 * What only picks numbers has none to spare. dense.2 has a single output, 1/57 of its bias. */
struct kind {
    const char *name;
    void (*add)(nin_builder *builder, const int32_t *desc);
    double y, dx;
    bool parameters; /* weight and bias */
    double dweight, dbias;
};

static const struct kind convs = {
    "conv", add_conv, .y = 1.2e-6, .dx = 4e-7, .parameters = true, .dweight = 6e-7, .dbias = 6e-7};
static const struct kind max_pools = {"maxpool", add_max_pool, .y = 0.0, .dx = 1e-7};
static const struct kind nan_pools = {"nanpool", add_max_pool, .y = 0.0};
static const struct kind average_pools = {"avgpool", add_average_pool, .y = 3e-7, .dx = 1.2e-7};
static const struct kind global_averages = {"globalavg", add_global_average, .y = 4e-7, .dx = 1e-7};
static const struct kind relus = {"relu", add_relu, .y = 0.0, .dx = 0.0};
static const struct kind denses = {
    "dense", add_dense, .y = 8e-5, .dx = 2e-7, .parameters = true, .dweight = 2e-7, .dbias = 2e-7};
static const struct kind losses = {"nll", add_loss, .y = 1e-7, .dx = 1.5e-7};

static const struct kind *const kinds[] = {&convs,           &max_pools, &average_pools,
                                           &global_averages, &relus,     &denses};

/* A case of the file, and the layer alone as a network. */
struct single {
    const golden *file;
    const struct kind *kind;
    int number;
    const int32_t *desc;
    nin_network *network;
    nin_layer *layer;
    nin_plan *plan;
    nin_algorithm algorithm;
};

static const golden_array *record(const struct single *single, uint32_t dtype, const char *what)
{
    return parity_find(single->file, dtype, "%s.%d.%s", single->kind->name, single->number, what);
}

static int32_t case_count(const golden *file, const struct kind *kind)
{
    return *(const int32_t *)parity_find(file, GOLDEN_I32, "%s.count", kind->name)->data;
}

static void make_network(struct single *single, const int32_t *shape)
{
    nin_context *context = NULL;
    nin_builder *builder = NULL;

    ASSERT_OK(nin_context_create(&context, NULL));
    ASSERT_OK(nin_builder_create(
        &builder, context,
        NIN_DESC(nin_input_desc, .channels = shape[1], .height = shape[2], .width = shape[3])));
    single->kind->add(builder, single->desc);
    ASSERT_OK(nin_builder_finish(&single->network, builder));
    ASSERT_OK(nin_plan_create(&single->plan, single->network,
                              NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = shape[0],
                                       .input_gradient = 1, .algorithm = single->algorithm)));
    single->layer = nin_network_find(single->network, "layer");
    nin_builder_destroy(builder);
    nin_context_destroy(context);
}

static void write_parameter(const struct single *single, nin_parameter which, const char *what)
{
    const golden_array *values = record(single, GOLDEN_F32, what);

    ASSERT_OK(nin_layer_write(single->layer, which, values->data, values->count));
}

/* The layer's output has the shape of y, N x C x H x W or N x C. */
static void check_shape(const struct single *single, const golden_array *y)
{
    nin_layer_info info = {.struct_size = sizeof info};

    ASSERT_OK(nin_layer_describe(&info, single->layer));
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(info.output[i], (int64_t)y->dims[i + 1]);
}

static void open_case(struct single *single, const golden *file, const struct kind *kind,
                      int number, nin_algorithm algorithm)
{
    *single = (struct single){.file = file, .kind = kind, .number = number, .algorithm = algorithm};
    single->desc = record(single, GOLDEN_I32, "desc")->data;
    make_network(single, single->desc);
    check_shape(single, record(single, GOLDEN_F64, "y"));
    if (kind->parameters) {
        write_parameter(single, NIN_WEIGHT, "weight");
        write_parameter(single, NIN_BIAS, "bias");
    }
}

static void close_case(struct single *single)
{
    nin_plan_destroy(single->plan);
    nin_network_destroy(single->network);
}

/* The output for x, to be freed. */
static float *go_forward(const struct single *single)
{
    const golden_array *x = record(single, GOLDEN_F32, "x"), *y = record(single, GOLDEN_F64, "y");
    float *scores = parity_floats(y->count);

    ASSERT_OK(nin_plan_forward(
        single->plan, NIN_DESC(nin_batch_desc, .images = x->data, .count = single->desc[0])));
    ASSERT_OK(nin_plan_scores(single->plan, scores, y->count));
    return scores;
}

/* The gradient of x for that of the output, to be freed. */
static float *go_backward(const struct single *single)
{
    const golden_array *dy = record(single, GOLDEN_F32, "dy");
    size_t count = record(single, GOLDEN_F32, "x")->count;
    float *dx = parity_floats(count);

    ASSERT_OK(nin_plan_backward(NULL, single->plan,
                                NIN_DESC(nin_backward_desc, .score_gradient = dy->data)));
    ASSERT_OK(nin_plan_input_gradient(single->plan, dx, count));
    return dx;
}

/* ---- deviations ---------------------------------------------------------------------------- */

/* What the header says of minimal filtering. */
static const double WINOGRAD_BOUND = 5e-6;

static void compare(const struct single *single, const float *got, const char *what, double bound)
{
    struct parity_sums sums = {0.0, 0.0};

    if (single->algorithm == NIN_ALGORITHM_WINOGRAD && bound < WINOGRAD_BOUND)
        bound = WINOGRAD_BOUND;
    parity_add(&sums, got, record(single, GOLDEN_F64, what));
    parity_check(parity_deviation(sums), bound, "%s.%d.%s", single->kind->name, single->number,
                 what);
}

static void compare_gradient(const struct single *single, nin_parameter which, const char *what,
                             double bound)
{
    size_t count = record(single, GOLDEN_F64, what)->count;
    float *values = parity_floats(count);
    nin_tensor *gradient = NULL;

    ASSERT_OK(nin_plan_gradient(&gradient, single->plan, single->layer, which));
    ASSERT_OK(nin_tensor_read(gradient, values, count * sizeof *values));
    compare(single, values, what, bound);
    free(values);
}

static void compare_cases(const struct kind *kind, nin_algorithm algorithm)
{
    golden *file = parity_open("layers");

    for (int number = 0; device_has(algorithm) && number < case_count(file, kind); number++) {
        struct single single;
        float *y, *dx;

        open_case(&single, file, kind, number, algorithm);
        y = go_forward(&single);
        dx = go_backward(&single);
        compare(&single, y, "y", kind->y);
        compare(&single, dx, "dx", kind->dx);
        if (kind->parameters) {
            compare_gradient(&single, NIN_WEIGHT, "dweight", kind->dweight);
            compare_gradient(&single, NIN_BIAS, "dbias", kind->dbias);
        }
        free(y);
        free(dx);
        close_case(&single);
    }
    golden_close(file);
}

START_TEST(a_layer_alone_goes_forward_and_backward)
{
    compare_cases(kinds[_i], NIN_ALGORITHM_GEMM);
    compare_cases(kinds[_i], NIN_ALGORITHM_DIRECT);
    compare_cases(kinds[_i], NIN_ALGORITHM_WINOGRAD);
    compare_cases(kinds[_i], NIN_ALGORITHM_FFT);
}
END_TEST

/* ---- max pooling: which element gets the gradient ------------------------------------------ */

/* At most four windows share an element here, and no dy is above 1: a sum in single precision is
 * nearer than this, and a gradient that went to another of two equals is farther off. */
static const double SAME_SUM = 5e-7;

static void check_maxima(const struct single *single, const float *y)
{
    const golden_array *want = record(single, GOLDEN_F64, "y");

    for (size_t i = 0; i < want->count; i++) {
        double value = parity_value(want, i);

        ck_assert_msg(y[i] == value || (isnan(y[i]) && isnan(value)), "%s.%d: y[%zu] is %g, not %g",
                      single->kind->name, single->number, i, y[i], value);
    }
}

/* "NaN wins" does not say which one of several in a window, so of all NaNs the sum is compared. In
 * PyTorch it is the last one. */
static void check_places(const struct single *single, const float *dx)
{
    const golden_array *x = record(single, GOLDEN_F32, "x");
    const golden_array *want = record(single, GOLDEN_F64, "dx");
    double at_nan = 0.0;

    for (size_t i = 0; i < want->count; i++) {
        double difference = dx[i] - parity_value(want, i);

        if (isnan(parity_value(x, i)))
            at_nan += difference;
        else
            ck_assert_msg(fabs(difference) <= SAME_SUM, "%s.%d: dx[%zu] is %.9g, not %.9g",
                          single->kind->name, single->number, i, dx[i], parity_value(want, i));
    }
    ck_assert_msg(fabs(at_nan) <= SAME_SUM, "%s.%d: gradients at NaNs are %g off in sum",
                  single->kind->name, single->number, at_nan);
}

static void check_max_pools(const struct kind *kind)
{
    golden *file = parity_open("layers");

    for (int number = 0; number < case_count(file, kind); number++) {
        struct single single;
        float *y, *dx;

        open_case(&single, file, kind, number, NIN_ALGORITHM_AUTO);
        y = go_forward(&single);
        dx = go_backward(&single);
        check_maxima(&single, y);
        check_places(&single, dx);
        free(y);
        free(dx);
        close_case(&single);
    }
    golden_close(file);
}

START_TEST(the_first_of_equals_gets_the_gradient)
{
    check_max_pools(&max_pools);
}
END_TEST

START_TEST(nan_wins_a_max_pool)
{
    check_max_pools(&nan_pools);
}
END_TEST

/* ---- the loss ------------------------------------------------------------------------------ */

static void compare_loss(const struct single *single)
{
    const golden_array *x = record(single, GOLDEN_F32, "x");
    const int32_t *labels = record(single, GOLDEN_I32, "labels")->data;
    nin_result result = {.struct_size = sizeof result};
    float *values = parity_floats(x->count);
    double loss = parity_value(record(single, GOLDEN_F64, "loss"), 0);

    ASSERT_OK(nin_plan_forward(
        single->plan, NIN_DESC(nin_batch_desc, .images = x->data, .count = single->desc[0])));
    ASSERT_OK(nin_plan_log_probabilities(single->plan, values, x->count));
    compare(single, values, "logp", single->kind->y);
    ASSERT_OK(
        nin_plan_backward(&result, single->plan, NIN_DESC(nin_backward_desc, .labels = labels)));
    ASSERT_OK(nin_plan_input_gradient(single->plan, values, x->count));
    compare(single, values, "dx", single->kind->dx);
    parity_check(fabs(result.loss / loss - 1.0), 1e-13, "nll.%d.loss", single->number);
    free(values);
}

START_TEST(log_softmax_and_negative_log_likelihood)
{
    golden *file = parity_open("layers");

    for (int number = 0; number < case_count(file, &losses); number++) {
        struct single single = {.file = file, .kind = &losses, .number = number};

        single.desc = record(&single, GOLDEN_I32, "desc")->data;
        make_network(&single, (const int32_t[]){single.desc[0], single.desc[1], 1, 1});
        compare_loss(&single);
        close_case(&single);
    }
    golden_close(file);
}
END_TEST

TCase *parity_layers_case(void)
{
    TCase *tc = tcase_create("layers");

    tcase_add_loop_test(tc, a_layer_alone_goes_forward_and_backward, 0,
                        sizeof kinds / sizeof kinds[0]);
    tcase_add_test(tc, the_first_of_equals_gets_the_gradient);
    tcase_add_test(tc, nan_wins_a_max_pool);
    tcase_add_test(tc, log_softmax_and_negative_log_likelihood);
    return tc;
}
