/* SPDX-License-Identifier: MIT */
#include "suites.h"
#include "test.h"

static nin_context *context;

static void make_context(void)
{
    ASSERT_OK(nin_context_create(&context, NIN_DESC(nin_context_desc, .threads = 1)));
}

static void destroy_context(void)
{
    nin_context_destroy(context);
}

static nin_tensor_info describe(const nin_tensor *tensor)
{
    nin_tensor_info info;

    memset(&info, 0x55, sizeof info);
    info.struct_size = sizeof info;
    ASSERT_OK(nin_tensor_describe(&info, tensor));
    return info;
}

static nin_tensor *make(nin_dtype dtype, int32_t rank, const int64_t *shape)
{
    nin_tensor *tensor = NULL;

    ASSERT_OK(nin_tensor_create(&tensor, context, dtype, rank, shape));
    return tensor;
}

/* ---- make and describe --------------------------------------------------------------------- */

START_TEST(a_tensor_describes_itself_in_the_terms_of_dlpack)
{
    static const int64_t shape[] = {2, 3, 4}, strides[] = {12, 4, 1};
    nin_tensor *tensor = make(NIN_F32, 3, shape);
    nin_tensor_info info = describe(tensor);

    ck_assert_ptr_nonnull(info.data);
    ck_assert_int_eq(info.device_type, 1);
    ck_assert_int_eq(info.device_index, 0);
    ck_assert_int_eq(info.rank, 3);
    ck_assert_mem_eq(info.shape, shape, sizeof shape);
    ck_assert_mem_eq(info.strides, strides, sizeof strides);
    ck_assert_uint_eq(info.byte_offset, 0);
    ck_assert_uint_eq(info.bytes, 2 * 3 * 4 * sizeof(float));
    nin_tensor_destroy(tensor);
}
END_TEST

/* DLPack's codes: 0 int, 1 unsigned int, 2 float. */
static const struct {
    nin_dtype dtype;
    int number, code, bits;
} dtypes[] = {{NIN_F32, 0, 2, 32}, {NIN_U8, 1, 1, 8}, {NIN_I32, 2, 0, 32}};

START_TEST(element_types_have_the_numbers_of_dlpack)
{
    nin_tensor *tensor = make(dtypes[_i].dtype, 1, (const int64_t[]){5});
    nin_tensor_info info = describe(tensor);

    ck_assert_int_eq((int)dtypes[_i].dtype, dtypes[_i].number);
    ck_assert_int_eq(info.dtype, dtypes[_i].dtype);
    ck_assert_int_eq(info.dtype_code, dtypes[_i].code);
    ck_assert_int_eq(info.dtype_bits, dtypes[_i].bits);
    ck_assert_uint_eq(info.dtype_lanes, 1);
    ck_assert_uint_eq(info.bytes, (unsigned)dtypes[_i].bits / 8 * 5);
    nin_tensor_destroy(tensor);
}
END_TEST

START_TEST(rank_0_has_one_element_and_rank_8_is_the_largest)
{
    static const int64_t shape[NIN_MAX_RANK] = {1, 2, 1, 3, 1, 1, 2, 1};
    nin_tensor *scalar = make(NIN_I32, 0, NULL), *largest = make(NIN_U8, NIN_MAX_RANK, shape);

    ck_assert_uint_eq(describe(scalar).bytes, sizeof(int32_t));
    ck_assert_int_eq(describe(scalar).rank, 0);
    ck_assert_uint_eq(describe(largest).bytes, 12);
    ck_assert_mem_eq(describe(largest).shape, shape, sizeof shape);
    nin_tensor_destroy(scalar);
    nin_tensor_destroy(largest);
}
END_TEST

START_TEST(a_new_tensor_holds_zeros)
{
    nin_tensor *tensor = make(NIN_I32, 2, (const int64_t[]){3, 5});
    int32_t values[15] = {1}, zeros[15] = {0};

    ASSERT_OK(nin_tensor_read(tensor, values, sizeof values));
    ck_assert_mem_eq(values, zeros, sizeof zeros);
    nin_tensor_destroy(tensor);
}
END_TEST

static const struct {
    int32_t dtype, rank;
    int64_t shape[9];
    const char *words;
} refused[] = {
    {3, 1, {1}, "3 is no nin_dtype"},
    {-1, 1, {1}, "-1 is no nin_dtype"},
    {0, -1, {1}, "rank -1 is outside 0 to 8"},
    {0, 9, {1, 1, 1, 1, 1, 1, 1, 1, 1}, "rank 9 is outside 0 to 8"},
    {0, 2, {4, 0}, "size 0 of axis 1"},
    {0, 2, {-4, 2}, "size -4 of axis 0"},
    {1, 1, {INT64_MAX}, "of axis 0 is out of range"},
    {0, 2, {INT64_MAX, INT64_MAX}, "is out of range"},
    {0, 3, {(int64_t)1 << 32, (int64_t)1 << 32, 4}, "of axis 0 is out of range"},
    {0, 8, {256, 256, 256, 256, 256, 256, 256, 256}, "is out of range"},
};

enum {
    REFUSED = sizeof refused / sizeof refused[0]
};

START_TEST(a_wrong_type_rank_or_shape_makes_no_tensor)
{
    nin_tensor *tensor = NULL;
    float value;

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, refused[_i].words,
                 nin_tensor_create(&tensor, context, (nin_dtype)refused[_i].dtype, refused[_i].rank,
                                   refused[_i].shape));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, refused[_i].words,
                 nin_tensor_wrap(&tensor, context, &value, (nin_dtype)refused[_i].dtype,
                                 refused[_i].rank, refused[_i].shape));
    ck_assert_ptr_null(tensor);
}
END_TEST

#if defined __SANITIZE_ADDRESS__
#define NO_HUGE_MEMORY /* the sanitizer ends the program where malloc would give NULL */
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define NO_HUGE_MEMORY
#endif
#endif

#ifndef NO_HUGE_MEMORY
START_TEST(a_shape_beyond_all_memory_is_out_of_memory)
{
    static const int64_t shape[] = {(int64_t)1 << 28, (int64_t)1 << 27};
    nin_tensor *tensor = NULL;

    ASSERT_FAILS(NIN_OUT_OF_MEMORY, "144115188075855872 bytes",
                 nin_tensor_create(&tensor, context, NIN_F32, 2, shape));
    ck_assert_ptr_null(tensor);
}
END_TEST
#endif

START_TEST(a_null_argument_is_named)
{
    static const int64_t shape[] = {1};
    nin_tensor *tensor = NULL;
    float value = 0.0f;

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "'out'",
                 nin_tensor_create(NULL, context, NIN_F32, 1, shape));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "'context'",
                 nin_tensor_create(&tensor, NULL, NIN_F32, 1, shape));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "'data'",
                 nin_tensor_wrap(&tensor, context, NULL, NIN_F32, 1, shape));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "'tensor'", nin_tensor_read(NULL, &value, sizeof value));
    tensor = make(NIN_F32, 1, shape);
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "'target'", nin_tensor_read(tensor, NULL, sizeof value));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "'source'", nin_tensor_write(tensor, NULL, sizeof value));
    nin_tensor_destroy(tensor);
    nin_tensor_destroy(NULL);
}
END_TEST

START_TEST(a_missing_shape_is_named)
{
    nin_tensor *tensor = NULL;

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "shape",
                 nin_tensor_create(&tensor, context, NIN_F32, 1, NULL));
    ck_assert_ptr_null(tensor);
}
END_TEST

/* ---- read and write ------------------------------------------------------------------------ */

START_TEST(what_was_written_is_read_back)
{
    const unsigned char written[6] = {0, 1, 127, 128, 254, 255};
    nin_tensor *tensor = make(NIN_U8, 2, (const int64_t[]){2, 3});
    unsigned char values[6] = {0};

    ASSERT_OK(nin_tensor_write(tensor, written, sizeof written));
    ASSERT_OK(nin_tensor_read(tensor, values, sizeof values));
    ck_assert_mem_eq(values, written, sizeof written);
    ck_assert_mem_eq(describe(tensor).data, written, sizeof written);
    nin_tensor_destroy(tensor);
}
END_TEST

START_TEST(a_wrong_number_of_bytes_changes_nothing)
{
    static const size_t wrong[] = {0, 3, 11, 13, 24, SIZE_MAX};
    const float before[3] = {1.0f, 2.0f, 3.0f};
    nin_tensor *tensor = make(NIN_F32, 1, (const int64_t[]){3});
    float values[6] = {7.0f}, after[3];

    ASSERT_OK(nin_tensor_write(tensor, before, sizeof before));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ASSERT_FAILS(NIN_INVALID_ARGUMENT, "it has 12 bytes, not",
                     nin_tensor_write(tensor, values, wrong[i]));
        ASSERT_FAILS(NIN_INVALID_ARGUMENT, "it has 12 bytes, not",
                     nin_tensor_read(tensor, values, wrong[i]));
    }
    ck_assert(values[0] == 7.0f);
    ASSERT_OK(nin_tensor_read(tensor, after, sizeof after));
    ck_assert_mem_eq(after, before, sizeof before);
    nin_tensor_destroy(tensor);
}
END_TEST

/* ---- borrowed memory ----------------------------------------------------------------------- */

START_TEST(a_wrapped_tensor_is_the_callers_memory)
{
    float memory[4] = {1.0f, 2.0f, 3.0f, 4.0f};
    const float written[4] = {5.0f, 6.0f, 7.0f, 8.0f};
    nin_tensor *tensor = NULL;

    ASSERT_OK(nin_tensor_wrap(&tensor, context, memory, NIN_F32, 2, (const int64_t[]){2, 2}));
    ck_assert_ptr_eq(describe(tensor).data, memory);
    ck_assert_int_eq(describe(tensor).device_type, 1);
    ASSERT_OK(nin_tensor_write(tensor, written, sizeof written));
    nin_tensor_destroy(tensor);
    ck_assert_mem_eq(memory, written, sizeof written);
}
END_TEST

START_TEST(wrapped_memory_must_be_aligned_to_its_elements)
{
    static _Alignas(float) unsigned char memory[16];
    nin_tensor *tensor = NULL;

    for (int offset = 1; offset < 4; offset++) {
        ASSERT_FAILS(NIN_INVALID_ARGUMENT, "not aligned",
                     nin_tensor_wrap(&tensor, context, memory + offset, NIN_F32, 0, NULL));
        ASSERT_FAILS(NIN_INVALID_ARGUMENT, "not aligned",
                     nin_tensor_wrap(&tensor, context, memory + offset, NIN_I32, 0, NULL));
        ck_assert_ptr_null(tensor);
    }
    ASSERT_OK(nin_tensor_wrap(&tensor, context, memory + 1, NIN_U8, 0, NULL));
    nin_tensor_destroy(tensor);
}
END_TEST

static nin_network *make_network(void)
{
    const nin_input_desc input = {
        .struct_size = sizeof input, .channels = 3, .height = 4, .width = 4};
    nin_builder *builder = NULL;
    nin_network *network = NULL;

    ASSERT_OK(nin_builder_create(&builder, context, &input));
    nin_builder_conv2d(builder, "conv", NIN_DESC(nin_conv2d_desc, .filters = 2, .kernel = 2));
    ASSERT_OK(nin_builder_finish(&network, builder));
    nin_builder_destroy(builder);
    return network;
}

START_TEST(a_tensor_borrowed_from_a_plan_survives_destroy)
{
    static const int64_t oihw[] = {2, 3, 2, 2};
    nin_network *network = make_network();
    const nin_layer *conv = nin_network_find(network, "conv");
    nin_plan *plan = NULL;
    nin_tensor *weights = NULL, *whole = NULL;
    float values[26];

    ASSERT_OK(nin_plan_create(&plan, network, NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN)));
    ASSERT_OK(nin_plan_gradient(&weights, plan, conv, NIN_WEIGHT));
    ASSERT_OK(nin_plan_gradient(&whole, plan, NULL, NIN_WEIGHT));
    nin_tensor_destroy(weights);
    nin_tensor_destroy(whole);
    ASSERT_OK(nin_tensor_read(whole, values, sizeof values));
    ck_assert_int_eq(describe(weights).rank, 4);
    ck_assert_mem_eq(describe(weights).shape, oihw, sizeof oihw);
    nin_plan_destroy(plan);
    nin_network_destroy(network);
}
END_TEST

START_TEST(a_tensor_borrowed_from_an_optimizer_survives_destroy)
{
    nin_network *network = make_network();
    nin_optimizer *optimizer = NULL;
    nin_tensor *biases = NULL;
    float values[2] = {7.0f, 7.0f};

    ASSERT_OK(nin_optimizer_create_sgd(&optimizer, network, NULL));
    ASSERT_OK(nin_optimizer_momentum(&biases, optimizer, nin_network_layer(network, 0), NIN_BIAS));
    nin_tensor_destroy(biases);
    ASSERT_OK(nin_tensor_read(biases, values, sizeof values));
    ck_assert(values[0] == 0.0f && values[1] == 0.0f);
    nin_optimizer_destroy(optimizer);
    nin_network_destroy(network);
}
END_TEST

Suite *tensor_suite(void)
{
    Suite *suite = suite_create("tensor");
    TCase *cases = tcase_create("tensor");

    tcase_add_checked_fixture(cases, make_context, destroy_context);
    tcase_add_test(cases, a_tensor_describes_itself_in_the_terms_of_dlpack);
    tcase_add_loop_test(cases, element_types_have_the_numbers_of_dlpack, 0, 3);
    tcase_add_test(cases, rank_0_has_one_element_and_rank_8_is_the_largest);
    tcase_add_test(cases, a_new_tensor_holds_zeros);
    tcase_add_loop_test(cases, a_wrong_type_rank_or_shape_makes_no_tensor, 0, REFUSED);
#ifndef NO_HUGE_MEMORY
    tcase_add_test(cases, a_shape_beyond_all_memory_is_out_of_memory);
#endif
    tcase_add_test(cases, a_null_argument_is_named);
    tcase_add_test(cases, a_missing_shape_is_named);
    tcase_add_test(cases, what_was_written_is_read_back);
    tcase_add_test(cases, a_wrong_number_of_bytes_changes_nothing);
    tcase_add_test(cases, a_wrapped_tensor_is_the_callers_memory);
    tcase_add_test(cases, wrapped_memory_must_be_aligned_to_its_elements);
    tcase_add_test(cases, a_tensor_borrowed_from_a_plan_survives_destroy);
    tcase_add_test(cases, a_tensor_borrowed_from_an_optimizer_survives_destroy);
    suite_add_tcase(suite, cases);
    return suite;
}
