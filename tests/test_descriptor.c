/* SPDX-License-Identifier: MIT */
/* Descriptors, infos and results that an older or a newer program hands over. */
#include "suites.h"
#include "test.h"

#include <stdlib.h>

/* How much longer than ours a newer program's struct is. */
enum {
    TAIL = 24
};

/* ---- what the calls need ------------------------------------------------------------------- */

static const float pixels[2] = {0.5f, -0.5f};
static const int32_t labels[2] = {0, 1};
static const int32_t widths[1] = {2};
static const int64_t milestones[1] = {3};

static nin_context *context;
static nin_network *network;
static nin_plan *train, *infer;
static nin_optimizer *optimizer;
static nin_dataset *dataset;
static nin_trainer *trainer;

static nin_builder *start(void)
{
    nin_builder *builder = NULL;

    ASSERT_OK(nin_builder_create(&builder, context,
                                 NIN_DESC(nin_input_desc, .channels = 1, .height = 1, .width = 1)));
    return builder;
}

static void make_network(void)
{
    nin_builder *builder = start();

    nin_builder_conv2d(builder, "conv", NIN_DESC(nin_conv2d_desc, .filters = 2));
    nin_builder_softmax_loss(builder, "loss");
    ASSERT_OK(nin_builder_finish(&network, builder));
    nin_builder_destroy(builder);
}

static void make_all(void)
{
    ASSERT_OK(nin_context_create(&context, NIN_DESC(nin_context_desc, .threads = 1)));
    make_network();
    ASSERT_OK(nin_plan_create(&train, network,
                              NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = 2)));
    ASSERT_OK(nin_plan_create(&infer, network, NIN_DESC(nin_plan_desc, .max_batch = 2)));
    ASSERT_OK(nin_optimizer_create_sgd(&optimizer, network, NULL));
    ASSERT_OK(nin_dataset_create_arrays(
        &dataset, NIN_DESC(nin_arrays_desc, .images = pixels, .labels = labels, .count = 2,
                           .channels = 1, .height = 1, .width = 1)));
    ASSERT_OK(nin_trainer_create(&trainer, train, optimizer, NULL, dataset, NULL));
    ASSERT_OK(nin_trainer_epoch(NULL, trainer));
    ASSERT_OK(nin_plan_forward(train, NIN_DESC(nin_batch_desc, .images = pixels, .count = 2)));
}

static void destroy_all(void)
{
    nin_trainer_destroy(trainer);
    nin_dataset_destroy(dataset);
    nin_optimizer_destroy(optimizer);
    nin_plan_destroy(infer);
    nin_plan_destroy(train);
    nin_network_destroy(network);
    nin_context_destroy(context);
}

/* ---- descriptors --------------------------------------------------------------------------- */

static nin_status call_context(const void *desc)
{
    nin_context *made = NULL;
    nin_status status = nin_context_create(&made, desc);

    nin_context_destroy(made);
    return status;
}

static nin_status call_input(const void *desc)
{
    nin_builder *made = NULL;
    nin_status status = nin_builder_create(&made, context, desc);

    nin_builder_destroy(made);
    return status;
}

static nin_status call_conv2d(const void *desc)
{
    nin_builder *builder = start();
    nin_status status = nin_builder_conv2d(builder, "layer", desc);

    nin_builder_destroy(builder);
    return status;
}

static nin_status call_mlpconv(const void *desc)
{
    nin_builder *builder = start();
    nin_status status = nin_builder_mlpconv(builder, "layer", desc);

    nin_builder_destroy(builder);
    return status;
}

static nin_status call_max_pool(const void *desc)
{
    nin_builder *builder = start();
    nin_status status = nin_builder_max_pool(builder, "layer", desc);

    nin_builder_destroy(builder);
    return status;
}

static nin_status call_average_pool(const void *desc)
{
    nin_builder *builder = start();
    nin_status status = nin_builder_average_pool(builder, "layer", desc);

    nin_builder_destroy(builder);
    return status;
}

static nin_status call_dense(const void *desc)
{
    nin_builder *builder = start();
    nin_status status = nin_builder_dense(builder, "layer", desc);

    nin_builder_destroy(builder);
    return status;
}

static nin_status call_init(const void *desc)
{
    return nin_network_initialise(network, desc, 1);
}

/* An init that hangs on a layer's descriptor. */
static nin_status call_layer_init(const void *desc)
{
    return call_conv2d(NIN_DESC(nin_conv2d_desc, .filters = 1, .init = desc));
}

static nin_status call_plan(const void *desc)
{
    nin_plan *made = NULL;
    nin_status status = nin_plan_create(&made, network, desc);

    nin_plan_destroy(made);
    return status;
}

static nin_status call_forward(const void *desc)
{
    return nin_plan_forward(train, desc);
}

static nin_status call_step(const void *desc)
{
    return nin_plan_step(NULL, train, optimizer, desc, labels);
}

static nin_status call_evaluate(const void *desc)
{
    nin_result result = {.struct_size = sizeof result};

    return nin_plan_evaluate(&result, infer, desc, labels);
}

static nin_status call_backward(const void *desc)
{
    return nin_plan_backward(NULL, train, desc);
}

static nin_status call_sgd(const void *desc)
{
    nin_optimizer *made = NULL;
    nin_status status = nin_optimizer_create_sgd(&made, network, desc);

    nin_optimizer_destroy(made);
    return status;
}

static nin_status call_plateau(const void *desc)
{
    nin_scheduler *made = NULL;
    nin_status status = nin_scheduler_create_plateau(&made, optimizer, desc);

    nin_scheduler_destroy(made);
    return status;
}

static nin_status call_steps(const void *desc)
{
    nin_scheduler *made = NULL;
    nin_status status = nin_scheduler_create_steps(&made, optimizer, desc);

    nin_scheduler_destroy(made);
    return status;
}

static nin_status call_cosine(const void *desc)
{
    nin_scheduler *made = NULL;
    nin_status status = nin_scheduler_create_cosine(&made, optimizer, desc);

    nin_scheduler_destroy(made);
    return status;
}

static nin_status call_arrays(const void *desc)
{
    nin_dataset *made = NULL;
    nin_status status = nin_dataset_create_arrays(&made, desc);

    nin_dataset_destroy(made);
    return status;
}

static nin_status give_nothing(void *image, int32_t *label, int64_t index, void *user)
{
    (void)image, (void)label, (void)index, (void)user;
    return NIN_IO;
}

static nin_status call_callback(const void *desc)
{
    nin_dataset *made = NULL;
    nin_status status = nin_dataset_create_callback(&made, desc);

    nin_dataset_destroy(made);
    return status;
}

static nin_status call_trainer(const void *desc)
{
    nin_trainer *made = NULL;
    nin_status status = nin_trainer_create(&made, train, optimizer, NULL, dataset, desc);

    nin_trainer_destroy(made);
    return status;
}

static nin_status call_fit(const void *desc)
{
    return nin_trainer_fit(NULL, trainer, desc);
}

/* The descriptor is read before the file is looked for, and there is none. */
static nin_status call_restore(const void *desc)
{
    nin_status status = nin_trainer_restore(trainer, "/nowhere/nin.safetensors", desc);

    return status == NIN_IO ? NIN_OK : status;
}

enum null {
    NULL_IS_REFUSED,
    NULL_IS_DEFAULT
};

/* Each descriptor with what makes the call succeed. */
static const struct {
    const char *type;
    size_t size;
    const void *good;
    nin_status (*call)(const void *desc);
    enum null null;
} descs[] = {
#define GOOD(type, ...)                                                                            \
#type, sizeof(type), &(const type)                                                             \
    {                                                                                              \
        .struct_size = sizeof(type), __VA_ARGS__                                                   \
    }
    {GOOD(nin_context_desc, .threads = 1), call_context, NULL_IS_DEFAULT},
    {GOOD(nin_input_desc, .channels = 1, .height = 1, .width = 1), call_input, NULL_IS_REFUSED},
    {GOOD(nin_conv2d_desc, .filters = 1), call_conv2d, NULL_IS_REFUSED},
    {GOOD(nin_mlpconv_desc, .widths = widths, .count = 1), call_mlpconv, NULL_IS_REFUSED},
    {GOOD(nin_pool_desc, .kernel = 1), call_max_pool, NULL_IS_REFUSED},
    {GOOD(nin_pool_desc, .kernel = 1), call_average_pool, NULL_IS_REFUSED},
    {GOOD(nin_dense_desc, .units = 1), call_dense, NULL_IS_REFUSED},
    {GOOD(nin_init_desc, .weights = NIN_INIT_ZERO), call_init, NULL_IS_DEFAULT},
    {GOOD(nin_init_desc, .weights = NIN_INIT_ZERO), call_layer_init, NULL_IS_DEFAULT},
    {GOOD(nin_plan_desc, .max_batch = 1), call_plan, NULL_IS_DEFAULT},
    {GOOD(nin_batch_desc, .images = pixels, .count = 2), call_forward, NULL_IS_REFUSED},
    {GOOD(nin_batch_desc, .images = pixels, .count = 2), call_step, NULL_IS_REFUSED},
    {GOOD(nin_batch_desc, .images = pixels, .count = 2), call_evaluate, NULL_IS_REFUSED},
    {GOOD(nin_backward_desc, .labels = labels), call_backward, NULL_IS_REFUSED},
    {GOOD(nin_sgd_desc, .rate = 0.5), call_sgd, NULL_IS_DEFAULT},
    {GOOD(nin_plateau_desc, .patience = 1), call_plateau, NULL_IS_DEFAULT},
    {GOOD(nin_steps_desc, .milestones = milestones, .count = 1), call_steps, NULL_IS_REFUSED},
    {GOOD(nin_cosine_desc, .total = 1), call_cosine, NULL_IS_REFUSED},
    {GOOD(nin_arrays_desc, .images = pixels, .labels = labels, .count = 2, .channels = 1,
          .height = 1, .width = 1),
     call_arrays, NULL_IS_REFUSED},
    {GOOD(nin_callback_desc, .sample = give_nothing, .count = 1, .channels = 1, .height = 1,
          .width = 1),
     call_callback, NULL_IS_REFUSED},
    {GOOD(nin_trainer_desc, .batch = 1), call_trainer, NULL_IS_DEFAULT},
    {GOOD(nin_fit_desc, .epochs = 1), call_fit, NULL_IS_REFUSED},
    {GOOD(nin_restore_desc, .other_algorithm = 1), call_restore, NULL_IS_DEFAULT},
#undef GOOD
};

enum {
    DESCS = sizeof descs / sizeof descs[0]
};

/* A copy of descriptor i with room behind it; free it. */
static unsigned char *copy_of(int i, size_t struct_size)
{
    unsigned char *bytes = calloc(1, descs[i].size + TAIL);

    ck_assert_ptr_nonnull(bytes);
    memcpy(bytes, descs[i].good, descs[i].size);
    memcpy(bytes, &struct_size, sizeof struct_size);
    return bytes;
}

START_TEST(a_descriptor_of_our_size_is_taken)
{
    unsigned char *bytes = copy_of(_i, descs[_i].size);

    memset(bytes + descs[_i].size, 0xff, TAIL); /* behind struct_size: not ours to read */
    ASSERT_OK(descs[_i].call(bytes));
    free(bytes);
}
END_TEST

START_TEST(a_struct_size_of_0_is_refused_with_advice)
{
    unsigned char *bytes = copy_of(_i, 0);

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, descs[_i].type, descs[_i].call(bytes));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "struct_size is 0; set it to sizeof(",
                 descs[_i].call(bytes));
    free(bytes);
}
END_TEST

START_TEST(a_descriptor_that_is_too_small_is_refused)
{
    static const size_t sizes[] = {1, sizeof(size_t)};

    for (size_t i = 0; i < 3; i++) {
        unsigned char *bytes = copy_of(_i, i < 2 ? sizes[i] : descs[_i].size - 1);

        ASSERT_FAILS(NIN_INVALID_ARGUMENT, descs[_i].type, descs[_i].call(bytes));
        ASSERT_FAILS(NIN_INVALID_ARGUMENT, "is below", descs[_i].call(bytes));
        free(bytes);
    }
}
END_TEST

START_TEST(a_larger_descriptor_is_taken_if_what_is_new_is_zero)
{
    unsigned char *bytes = copy_of(_i, descs[_i].size + TAIL);

    ASSERT_OK(descs[_i].call(bytes));
    free(bytes);
}
END_TEST

START_TEST(a_larger_descriptor_with_an_unknown_field_is_refused)
{
    for (size_t at = descs[_i].size; at < descs[_i].size + TAIL; at += TAIL - 1) {
        unsigned char *bytes = copy_of(_i, descs[_i].size + TAIL);

        bytes[at] = 1;
        ASSERT_FAILS(NIN_INVALID_ARGUMENT, descs[_i].type, descs[_i].call(bytes));
        ASSERT_FAILS(NIN_INVALID_ARGUMENT, "a field that this version of libnin does not know",
                     descs[_i].call(bytes));
        free(bytes);
    }
}
END_TEST

START_TEST(a_null_descriptor_is_all_defaults_where_the_header_says_so)
{
    if (descs[_i].null == NULL_IS_DEFAULT)
        ASSERT_OK(descs[_i].call(NULL));
    else
        ASSERT_FAILS(NIN_INVALID_ARGUMENT, "NULL", descs[_i].call(NULL));
}
END_TEST

/* ---- infos and results --------------------------------------------------------------------- */

static nin_status fill_device(void *out)
{
    return nin_device_describe(out, 0);
}

static nin_status fill_tensor(void *out)
{
    nin_tensor *gradient = NULL;

    ASSERT_OK(nin_plan_gradient(&gradient, train, NULL, NIN_WEIGHT));
    return nin_tensor_describe(out, gradient);
}

static nin_status fill_network(void *out)
{
    return nin_network_describe(out, network);
}

static nin_status fill_layer(void *out)
{
    return nin_layer_describe(out, nin_network_layer(network, 0));
}

static nin_status fill_dataset(void *out)
{
    return nin_dataset_describe(out, dataset);
}

static nin_status fill_epoch(void *out)
{
    return nin_trainer_curve(out, trainer, 0);
}

static nin_status fill_backward(void *out)
{
    ASSERT_OK(nin_plan_forward(train, NIN_DESC(nin_batch_desc, .images = pixels, .count = 2)));
    return nin_plan_backward(out, train, NIN_DESC(nin_backward_desc, .labels = labels));
}

static nin_status fill_plan_step(void *out)
{
    return nin_plan_step(out, train, optimizer,
                         NIN_DESC(nin_batch_desc, .images = pixels, .count = 2), labels);
}

static nin_status fill_plan_evaluate(void *out)
{
    return nin_plan_evaluate(out, infer, NIN_DESC(nin_batch_desc, .images = pixels, .count = 2),
                             labels);
}

static nin_status fill_trainer_step(void *out)
{
    return nin_trainer_step(out, trainer);
}

static nin_status fill_trainer_epoch(void *out)
{
    return nin_trainer_epoch(out, trainer);
}

static nin_status fill_evaluate(void *out)
{
    return nin_evaluate(out, infer, dataset);
}

static const struct {
    const char *type;
    size_t size;
    nin_status (*fill)(void *out);
} infos[] = {
#define INFO(type, fill)                                                                           \
    {                                                                                              \
#type, sizeof(type), fill                                                                  \
    }
    INFO(nin_device_info, fill_device),   INFO(nin_tensor_info, fill_tensor),
    INFO(nin_network_info, fill_network), INFO(nin_layer_info, fill_layer),
    INFO(nin_dataset_info, fill_dataset), INFO(nin_epoch_info, fill_epoch),
    INFO(nin_result, fill_backward),      INFO(nin_result, fill_plan_step),
    INFO(nin_result, fill_plan_evaluate), INFO(nin_result, fill_trainer_step),
    INFO(nin_result, fill_trainer_epoch), INFO(nin_result, fill_evaluate),
#undef INFO
};

enum {
    INFOS = sizeof infos / sizeof infos[0]
};

/* Room for info i and more behind it, all 0xaa but for struct_size; free it. */
static unsigned char *room_for(int i, size_t struct_size)
{
    unsigned char *bytes = malloc(infos[i].size + 2 * TAIL);

    ck_assert_ptr_nonnull(bytes);
    memset(bytes, 0xaa, infos[i].size + 2 * TAIL);
    memcpy(bytes, &struct_size, sizeof struct_size);
    return bytes;
}

static void assert_bytes(const unsigned char *bytes, size_t count, int value)
{
    for (size_t k = 0; k < count; k++)
        ck_assert_int_eq(bytes[k], value);
}

static size_t size_in(const unsigned char *bytes)
{
    size_t size;

    memcpy(&size, bytes, sizeof size);
    return size;
}

START_TEST(an_info_is_filled_up_to_its_size)
{
    unsigned char *bytes = room_for(_i, infos[_i].size);

    ASSERT_OK(infos[_i].fill(bytes));
    ck_assert_uint_eq(size_in(bytes), infos[_i].size);
    assert_bytes(bytes + infos[_i].size, 2 * TAIL, 0xaa);
    free(bytes);
}
END_TEST

START_TEST(of_a_larger_info_what_is_new_becomes_zero)
{
    unsigned char *bytes = room_for(_i, infos[_i].size + TAIL);

    ASSERT_OK(infos[_i].fill(bytes));
    ck_assert_uint_eq(size_in(bytes), infos[_i].size + TAIL);
    assert_bytes(bytes + infos[_i].size, TAIL, 0);
    assert_bytes(bytes + infos[_i].size + TAIL, TAIL, 0xaa);
    free(bytes);
}
END_TEST

START_TEST(an_info_of_a_wrong_size_is_refused_untouched)
{
    const size_t sizes[] = {0, 1, sizeof(size_t), infos[_i].size - 1};

    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        unsigned char *bytes = room_for(_i, sizes[k]);

        ASSERT_FAILS(NIN_INVALID_ARGUMENT, infos[_i].type, infos[_i].fill(bytes));
        ASSERT_FAILS(NIN_INVALID_ARGUMENT, "struct_size", infos[_i].fill(bytes));
        assert_bytes(bytes + sizeof(size_t), infos[_i].size + 2 * TAIL - sizeof(size_t), 0xaa);
        free(bytes);
    }
}
END_TEST

/* A result of the wrong size must not cost a step. */
START_TEST(a_result_of_a_wrong_size_trains_nothing)
{
    const uint64_t version = nin_network_parameter_version(network);
    const int64_t steps = nin_trainer_steps(trainer);
    nin_result result = {.struct_size = 1};

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "nin_result", fill_plan_step(&result));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "nin_result", fill_trainer_step(&result));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "nin_result", fill_trainer_epoch(&result));
    ck_assert_uint_eq(nin_network_parameter_version(network), version);
    ck_assert_int_eq(nin_trainer_steps(trainer), steps);
}
END_TEST

/* ---- pointers ------------------------------------------------------------------------------ */

/* The sentence has the names of the header. */
START_TEST(a_pointer_that_must_be_there_is_named)
{
    nin_scheduler *scheduler = NULL;
    nin_plan *plan = NULL;

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "nin_plan_create: 'out' is NULL",
                 nin_plan_create(NULL, network, NULL));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "nin_plan_create: 'network' is NULL",
                 nin_plan_create(&plan, NULL, NULL));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "nin_trainer_fit: 'desc' is NULL",
                 nin_trainer_fit(NULL, trainer, NULL));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "nin_scheduler_create_steps: 'desc' is NULL",
                 nin_scheduler_create_steps(&scheduler, optimizer, NULL));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "nin_scheduler_create_cosine: 'desc' is NULL",
                 nin_scheduler_create_cosine(&scheduler, optimizer, NULL));
    ck_assert(plan == NULL && scheduler == NULL);
}
END_TEST

START_TEST(labels_that_are_not_aligned_are_refused)
{
    const void *odd = (const char *)labels + 1;

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "the labels are not aligned",
                 nin_plan_step(NULL, train, optimizer,
                               NIN_DESC(nin_batch_desc, .images = pixels, .count = 1), odd));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "the labels are not aligned",
                 nin_plan_backward(NULL, train, NIN_DESC(nin_backward_desc, .labels = odd)));
}
END_TEST

Suite *descriptor_suite(void)
{
    Suite *suite = suite_create("descriptor");
    TCase *reads = tcase_create("descriptors"), *writes = tcase_create("infos");
    TCase *pointers = tcase_create("pointers");

    tcase_add_checked_fixture(reads, make_all, destroy_all);
    tcase_add_loop_test(reads, a_descriptor_of_our_size_is_taken, 0, DESCS);
    tcase_add_loop_test(reads, a_struct_size_of_0_is_refused_with_advice, 0, DESCS);
    tcase_add_loop_test(reads, a_descriptor_that_is_too_small_is_refused, 0, DESCS);
    tcase_add_loop_test(reads, a_larger_descriptor_is_taken_if_what_is_new_is_zero, 0, DESCS);
    tcase_add_loop_test(reads, a_larger_descriptor_with_an_unknown_field_is_refused, 0, DESCS);
    tcase_add_loop_test(reads, a_null_descriptor_is_all_defaults_where_the_header_says_so, 0,
                        DESCS);
    tcase_add_checked_fixture(writes, make_all, destroy_all);
    tcase_add_loop_test(writes, an_info_is_filled_up_to_its_size, 0, INFOS);
    tcase_add_loop_test(writes, of_a_larger_info_what_is_new_becomes_zero, 0, INFOS);
    tcase_add_loop_test(writes, an_info_of_a_wrong_size_is_refused_untouched, 0, INFOS);
    tcase_add_test(writes, a_result_of_a_wrong_size_trains_nothing);
    tcase_add_checked_fixture(pointers, make_all, destroy_all);
    tcase_add_test(pointers, a_pointer_that_must_be_there_is_named);
    tcase_add_test(pointers, labels_that_are_not_aligned_are_refused);
    suite_add_tcase(suite, pointers);
    suite_add_tcase(suite, reads);
    suite_add_tcase(suite, writes);
    return suite;
}
