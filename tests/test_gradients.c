/* SPDX-License-Identifier: MIT */
/* Every layer's gradients against differences of what the library itself computes, through the
 * public interface: for every element alone, and for random directions.
 *
 * Values p move to p + d and to p - d, and f(p + d) - f(p - d) is compared with the product of the
 * gradient and the distance of the two as floats, so that rounding p costs nothing. f is either a
 * product of the scores with a random gradient or the loss of labels. Errors are relative to the
 * root mean square of the gradient times the length of the distance.
 *
 * Of scores: a layer is linear in the values that move, but for kinks that the data stay away from,
 * so a large step costs nothing and the error is fp32's: 6e-8 of scores of size 1 to 4, over a step
 * of 1/4 or 1/8. Before a kink the step is 1/512, but there the scores move exactly (measured up to
 * 1.7e-5).
 *
 * Of the loss: it bends, which adds step^2 / 6 in units of scores, while an average over a map
 * leaves little of one element for fp32 to show. Steps that move the scores by about 1/64 are the
 * best of both (measured up to 4.3e-4). The bounds are three times what was measured. */
#include "device.h"
#include "oracle.h"
#include "suites.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    IMAGES = 3,
    CHANNELS = 3,
    HEIGHT = 7,
    WIDTH = 5,
    MAX_GROUPS = 8
};

/* ---- the layers ---------------------------------------------------------------------------- */

static void add_conv(nin_builder *builder)
{
    const nin_conv2d_desc conv = {
        .struct_size = sizeof conv, .filters = 4, .kernel = 3, .stride = 2, .pad = 1};

    nin_builder_conv2d(builder, "conv", &conv);
}

static void add_even_conv(nin_builder *builder)
{
    const nin_conv2d_desc conv = {
        .struct_size = sizeof conv, .filters = 5, .kernel = 4, .pad = 3, .no_bias = 1};

    nin_builder_conv2d(builder, "conv", &conv);
}

static void add_pointwise_conv(nin_builder *builder)
{
    const nin_conv2d_desc conv = {.struct_size = sizeof conv, .filters = 6};

    nin_builder_conv2d(builder, "conv", &conv);
}

static void add_conv_relu(nin_builder *builder)
{
    add_conv(builder);
    nin_builder_relu(builder, "relu");
}

static void add_relu(nin_builder *builder)
{
    nin_builder_relu(builder, "relu");
}

static void add_dense(nin_builder *builder)
{
    const nin_dense_desc dense = {.struct_size = sizeof dense, .units = 4};

    nin_builder_dense(builder, "dense", &dense);
}

static void add_max_pool(nin_builder *builder)
{
    const nin_pool_desc pool = {
        .struct_size = sizeof pool, .kernel = 3, .stride = 2, .pad = 1, .round_up = 1};

    nin_builder_max_pool(builder, "pool", &pool);
}

static void add_average_pool(nin_builder *builder)
{
    const nin_pool_desc pool = {
        .struct_size = sizeof pool, .kernel = 3, .stride = 2, .pad = 1, .round_up = 1};

    nin_builder_average_pool(builder, "pool", &pool);
}

static void add_average_of_pixels(nin_builder *builder)
{
    const nin_pool_desc pool = {
        .struct_size = sizeof pool, .kernel = 4, .stride = 3, .pad = 2, .exclude_padding = 1};

    nin_builder_average_pool(builder, "pool", &pool);
}

static void add_global_average(nin_builder *builder)
{
    nin_builder_global_average_pool(builder, "average");
}

static void add_dropout(nin_builder *builder)
{
    nin_builder_dropout(builder, "dropout", 0.5);
}

static void add_nothing(nin_builder *builder)
{
    (void)builder;
}

static const struct layer {
    const char *name;
    void (*add)(nin_builder *builder);
    int kink; /* inputs must not move further than 1/512 */
} layers[] = {
    {"conv", add_conv, 0},
    {"even conv", add_even_conv, 0},
    {"pointwise conv", add_pointwise_conv, 0},
    {"conv and relu", add_conv_relu, 0},
    {"relu", add_relu, 1},
    {"dense", add_dense, 0},
    {"max pool", add_max_pool, 1},
    {"average pool", add_average_pool, 0},
    {"average of pixels", add_average_of_pixels, 0},
    {"global average", add_global_average, 0},
    {"dropout", add_dropout, 0},
    {"loss", add_nothing, 0},
};

enum {
    LAYERS = sizeof layers / sizeof layers[0]
};

/* ---- a network and what can be moved in it ------------------------------------------------- */

/* The images or one parameter: where it is, its gradient, and where it is moved to. */
struct group {
    const char *name;
    nin_layer *layer; /* NULL: the images */
    nin_parameter which;
    long count;
    float *base, *direction, *moved;
    float *gradient;
    double step; /* of one element */
};

struct rig {
    nin_context *context;
    nin_network *network;
    nin_plan *plan;
    struct group groups[MAX_GROUPS]; /* the images first */
    int group_count;
    float score_gradient[IMAGES * 1000];
    float scores[IMAGES * 1000];
    size_t score_count;
    int use_labels;
};

static const int32_t labels[IMAGES] = {2, 0, 1};

static float *new_floats(long count)
{
    float *x = calloc((size_t)count, sizeof *x);

    ck_assert_ptr_nonnull(x);
    return x;
}

static struct group *add_group(struct rig *rig, const char *name, long count, double step)
{
    struct group *group = &rig->groups[rig->group_count++];

    ck_assert_int_le(rig->group_count, MAX_GROUPS);
    *group = (struct group){.name = name, .count = count, .step = step};
    group->base = new_floats(count);
    group->direction = new_floats(count);
    group->moved = new_floats(count);
    group->gradient = new_floats(count);
    return group;
}

/* Numbers 1/128 apart, shuffled; none is within 1/256 of 0. */
static void fill_images(struct group *group)
{
    uint64_t seed = 11;

    for (long k = 0; k < group->count; k++)
        group->base[k] = ((float)(k - group->count / 2) + 0.5f) / 128.0f;
    for (long k = group->count - 1; k > 0; k--) {
        long other = (long)(oracle_random(&seed) % (uint64_t)(k + 1));
        float moved = group->base[k];

        group->base[k] = group->base[other];
        group->base[other] = moved;
    }
}

static void add_parameter(struct rig *rig, nin_layer *layer, nin_parameter which, int64_t count)
{
    struct group *group;

    if (count == 0)
        return;
    group = add_group(rig, which == NIN_WEIGHT ? "weights" : "biases", (long)count,
                      rig->use_labels ? 1.0 / 64 : 0.25);
    group->layer = layer;
    group->which = which;
    oracle_fill(group->base, group->count, 0.0, 0.25, 5 + (uint64_t)which);
}

/* Some maps far above 0 and some far below: no ReLU changes sides. */
static void spread_biases(struct rig *rig)
{
    struct group *group = &rig->groups[rig->group_count - 1];

    ck_assert(group->which == NIN_BIAS);
    for (long k = 0; k < group->count; k++)
        group->base[k] += k % 2 ? -4.0f : 4.0f;
}

static double image_step(const struct layer *layer)
{
    if (layer->kink)
        return 1.0 / 512;
    return layer->add == add_nothing ? 1.0 / 64 : 1.0 / 8;
}

static void make_network(struct rig *rig, const struct layer *layer)
{
    const int map = layer->add != add_nothing;
    nin_input_desc input = {.struct_size = sizeof input,
                            .channels = map ? CHANNELS : 10,
                            .height = map ? HEIGHT : 1,
                            .width = map ? WIDTH : 1};
    nin_context_desc context = {.struct_size = sizeof context, .threads = 1, .seed = 9};
    nin_builder *builder;

    ASSERT_OK(nin_context_create(&rig->context, &context));
    ASSERT_OK(nin_builder_create(&builder, rig->context, &input));
    layer->add(builder);
    if (rig->use_labels && map)
        nin_builder_global_average_pool(builder, "head");
    if (rig->use_labels)
        nin_builder_softmax_loss(builder, "loss");
    ASSERT_OK(nin_builder_finish(&rig->network, builder));
    nin_builder_destroy(builder);
    fill_images(add_group(rig, "images", IMAGES * input.channels * input.height * input.width,
                          image_step(layer)));
}

static struct rig *make_rig(const struct layer *layer, int use_labels)
{
    const nin_plan_desc plan = {
        .struct_size = sizeof plan, .mode = NIN_TRAIN, .max_batch = IMAGES, .input_gradient = 1};
    struct rig *rig = calloc(1, sizeof *rig);
    nin_layer_info info = {.struct_size = sizeof info};

    ck_assert_ptr_nonnull(rig);
    rig->use_labels = use_labels;
    make_network(rig, layer);
    for (size_t i = 0; i < nin_network_layer_count(rig->network); i++) {
        nin_layer *part = nin_network_layer(rig->network, i);

        ASSERT_OK(nin_layer_describe(&info, part));
        add_parameter(rig, part, NIN_WEIGHT, info.weight_count);
        add_parameter(rig, part, NIN_BIAS, info.bias_count);
    }
    if (layer->add == add_conv_relu)
        spread_biases(rig);
    rig->score_count = (size_t)(IMAGES * info.output[0] * info.output[1] * info.output[2]);
    ck_assert_uint_le(rig->score_count, IMAGES * 1000);
    oracle_fill(rig->score_gradient, (long)rig->score_count, 0.0, 1.0, 3);
    ASSERT_OK(nin_plan_create(&rig->plan, rig->network, &plan));
    return rig;
}

static void free_rig(struct rig *rig)
{
    nin_plan_destroy(rig->plan);
    nin_network_destroy(rig->network);
    nin_context_destroy(rig->context);
    for (int g = 0; g < rig->group_count; g++) {
        free(rig->groups[g].base);
        free(rig->groups[g].direction);
        free(rig->groups[g].moved);
        free(rig->groups[g].gradient);
    }
    free(rig);
}

/* ---- f and its gradient -------------------------------------------------------------------- */

static void move(struct rig *rig, float sign)
{
    for (int g = 0; g < rig->group_count; g++) {
        struct group *group = &rig->groups[g];

        for (long k = 0; k < group->count; k++)
            group->moved[k] = group->base[k] + sign * group->direction[k];
        if (group->layer != NULL)
            ASSERT_OK(
                nin_layer_write(group->layer, group->which, group->moved, (size_t)group->count));
    }
}

static void forward(struct rig *rig)
{
    const nin_batch_desc batch = {.struct_size = sizeof batch,
                                  .images = rig->groups[0].moved,
                                  .dtype = NIN_F32,
                                  .count = IMAGES,
                                  .step = 7};

    ASSERT_OK(nin_plan_forward(rig->plan, &batch));
}

static double backward(struct rig *rig)
{
    nin_result result = {.struct_size = sizeof result};
    nin_backward_desc backward = {.struct_size = sizeof backward};

    if (rig->use_labels)
        backward.labels = labels;
    else
        backward.score_gradient = rig->score_gradient;
    ASSERT_OK(nin_plan_backward(&result, rig->plan, &backward));
    return result.loss;
}

/* f where everything has been moved to. */
static double value(struct rig *rig, float sign)
{
    double sum = 0.0;

    move(rig, sign);
    forward(rig);
    if (rig->use_labels)
        return backward(rig);
    ASSERT_OK(nin_plan_scores(rig->plan, rig->scores, rig->score_count));
    for (size_t k = 0; k < rig->score_count; k++)
        sum += (double)rig->scores[k] * rig->score_gradient[k];
    return sum;
}

static void read_gradients(struct rig *rig)
{
    move(rig, 0.0f);
    forward(rig);
    backward(rig);
    ASSERT_OK(
        nin_plan_input_gradient(rig->plan, rig->groups[0].gradient, (size_t)rig->groups[0].count));
    for (int g = 1; g < rig->group_count; g++) {
        struct group *group = &rig->groups[g];
        nin_tensor *tensor;

        ASSERT_OK(nin_plan_gradient(&tensor, rig->plan, group->layer, group->which));
        ASSERT_OK(nin_tensor_read(tensor, group->gradient,
                                  (size_t)group->count * sizeof *group->gradient));
    }
}

/* ---- compare ------------------------------------------------------------------------------- */

static double norm(const float *x, long count)
{
    double sum = 0.0;

    for (long k = 0; k < count; k++)
        sum += (double)x[k] * x[k];
    return sqrt(sum);
}

/* The error along the groups' directions, relative to what a random direction of that length
 * gives. */
static double error_along(struct rig *rig)
{
    double predicted = 0.0, usual = 0.0, actual = value(rig, 1.0f);

    for (int g = 0; g < rig->group_count; g++) {
        const struct group *group = &rig->groups[g];
        double size = norm(group->gradient, group->count) / sqrt((double)group->count);

        for (long k = 0; k < group->count; k++)
            predicted += (double)group->gradient[k] *
                         ((double)group->moved[k] - (group->base[k] - group->direction[k]));
        usual = hypot(usual, size * 2.0 * norm(group->direction, group->count));
    }
    ck_assert_double_gt(usual, 0.0);
    actual -= value(rig, -1.0f);
    return fabs(actual - predicted) / usual;
}

static void check(struct rig *rig, const struct layer *layer, const char *what, double bound)
{
    double error = error_along(rig);

    if (getenv("NIN_TEST_ERRORS") != NULL)
        fprintf(stderr, "%s, %s, %s %.2e of %.0e\n", layer->name,
                rig->use_labels ? "loss" : "scores", what, error, bound);
    ck_assert_msg(error <= bound, "%s: %s: error %g, bound %g", layer->name, what, error, bound);
}

static void check_elements(struct rig *rig, const struct layer *layer, double bound)
{
    for (int g = 0; g < rig->group_count; g++) {
        struct group *group = &rig->groups[g];

        for (long k = 0; k < group->count; k++) {
            char what[64];

            snprintf(what, sizeof what, "element %ld of the %s", k, group->name);
            group->direction[k] = (float)group->step;
            check(rig, layer, what, bound);
            group->direction[k] = 0.0f;
        }
    }
}

/* Random directions of one group, or with g past the last of all together. Under the loss an
 * element moves less than alone, so that all together move the scores about as far. */
static void check_directions(struct rig *rig, const struct layer *layer, int g, double bound)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        for (int i = 0; i < rig->group_count; i++) {
            struct group *group = &rig->groups[i];
            double many = rig->use_labels && !layer->kink ? sqrt((double)group->count) : 1.0;

            if (i == g || g == rig->group_count)
                oracle_fill(group->direction, group->count, 0.0, group->step / many,
                            100 * seed + (uint64_t)i);
        }
        check(rig, layer, g < rig->group_count ? rig->groups[g].name : "everything", bound);
        for (int i = 0; i < rig->group_count; i++)
            memset(rig->groups[i].direction, 0, (size_t)rig->groups[i].count * sizeof(float));
    }
}

/* That of a convolution before a ReLU: some maps are closed, no other element is near 0. */
static void check_gates(const struct rig *rig)
{
    size_t closed = 0;

    for (size_t k = 0; k < rig->score_count; k++) {
        ck_assert(rig->scores[k] == 0.0f || rig->scores[k] > 1.0f);
        closed += rig->scores[k] == 0.0f;
    }
    ck_assert_uint_eq(closed, rig->score_count / 2);
}

static void check_layer(const struct layer *layer, int use_labels, double bound)
{
    struct rig *rig = make_rig(layer, use_labels);

    read_gradients(rig);
    check_elements(rig, layer, bound);
    for (int g = 0; g <= rig->group_count; g++)
        check_directions(rig, layer, g, bound);
    if (layer->add == add_conv_relu && !use_labels)
        check_gates(rig);
    free_rig(rig);
}

START_TEST(of_scores)
{
    check_layer(&layers[_i], 0, 5e-5);
}
END_TEST

START_TEST(of_the_loss)
{
    check_layer(&layers[_i], 1, 1.3e-3);
}
END_TEST

Suite *gradients_suite(void)
{
    Suite *suite = suite_create("gradients");
    TCase *differences = tcase_create("differences"), *more = tcase_create("more");

    tcase_add_loop_test(differences, of_scores, 0, LAYERS - 1); /* not the loss */
    if (device_is_cuda())
        tcase_set_tags(more, "long");
    tcase_add_loop_test(more, of_the_loss, 0, LAYERS);
    suite_add_tcase(suite, differences);
    suite_add_tcase(suite, more);
    return suite;
}
