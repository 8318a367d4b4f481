/* SPDX-License-Identifier: MIT */
#include "suites.h"
#include "test.h"

#include <pthread.h>

/* A second copy of the list, so that a renumbered or a changed entry is seen. Append here too. */
static const struct {
    const char *name;
    nin_status status;
    int number;
} pinned[] = {
    {"OK", NIN_OK, 0},
    {"INVALID_ARGUMENT", NIN_INVALID_ARGUMENT, 1},
    {"INVALID_STATE", NIN_INVALID_STATE, 2},
    {"OUT_OF_MEMORY", NIN_OUT_OF_MEMORY, 3},
    {"UNSUPPORTED", NIN_UNSUPPORTED, 4},
    {"NO_DEVICE", NIN_NO_DEVICE, 5},
    {"BACKEND_FAILED", NIN_BACKEND_FAILED, 6},
    {"IO", NIN_IO, 7},
    {"BAD_FORMAT", NIN_BAD_FORMAT, 8},
    {"BUSY", NIN_BUSY, 9},
    {"NOT_FINITE", NIN_NOT_FINITE, 10},
    {"MISMATCH", NIN_MISMATCH, 11},
    {"STOP", NIN_STOP, 12},
};

/* The library's own list, as data. */
#define LISTED(name, value, text) {#name, value, text},
static const struct {
    const char *name;
    int number;
    const char *text;
} listed[] = {NIN_STATUS_LIST(LISTED)};

enum {
    PINNED = sizeof pinned / sizeof pinned[0],
    LISTED_COUNT = sizeof listed / sizeof listed[0]
};

START_TEST(numbers_and_names_are_pinned)
{
    ck_assert_int_eq(LISTED_COUNT, PINNED);
    for (int i = 0; i < PINNED; i++) {
        ck_assert_str_eq(listed[i].name, pinned[i].name);
        ck_assert_int_eq(listed[i].number, pinned[i].number);
        ck_assert_int_eq((int)pinned[i].status, pinned[i].number);
    }
    ck_assert_int_eq((int)NIN_STATUS_INT32, 0x7fffffff);
    ck_assert_uint_eq(sizeof(nin_status), sizeof(int32_t));
}
END_TEST

START_TEST(every_status_has_a_text_of_its_own)
{
    for (int i = 0; i < LISTED_COUNT; i++) {
        ck_assert_str_eq(nin_status_text((nin_status)listed[i].number), listed[i].text);
        ck_assert_str_ne(listed[i].text, "");
        for (int k = 0; k < i; k++)
            ck_assert_str_ne(listed[i].text, listed[k].text);
    }
}
END_TEST

START_TEST(an_unknown_status_has_a_text)
{
    static const int unknown[] = {-1, LISTED_COUNT, 1000, 0x7fffffff};

    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        ck_assert_str_eq(nin_status_text((nin_status)unknown[i]), "unknown status");
}
END_TEST

/* Fails with a sentence that holds `name`. */
static void fail_with(const char *name)
{
    nin_context *context = NULL;
    nin_network *network = NULL;

    ASSERT_OK(nin_context_create(&context, NULL));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "there is no preset",
                 nin_network_create_preset(&network, context, name));
    ck_assert_ptr_null(network);
    nin_context_destroy(context);
}

START_TEST(a_success_leaves_the_last_sentence_alone)
{
    nin_device_info info = {.struct_size = sizeof info};

    fail_with("first");
    ASSERT_OK(nin_device_describe(&info, 0));
    ck_assert_ptr_nonnull(strstr(nin_last_error(), "'first'"));
}
END_TEST

START_TEST(the_next_failure_replaces_the_sentence)
{
    fail_with("first");
    fail_with("second");
    ck_assert_ptr_nonnull(strstr(nin_last_error(), "'second'"));
    ck_assert_ptr_null(strstr(nin_last_error(), "first"));
}
END_TEST

START_TEST(a_sentence_stays_short_when_an_argument_is_long)
{
    char name[5000];

    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    fail_with(name);
    ck_assert_uint_lt(strlen(nin_last_error()), 512);
}
END_TEST

/* What another thread reads before its first failure, and after it. */
static void *fail_elsewhere(void *before)
{
    strcpy(before, nin_last_error());
    fail_with("elsewhere");
    return NULL;
}

START_TEST(each_thread_has_a_sentence_of_its_own)
{
    char before[512] = "?";
    pthread_t thread;

    fail_with("here");
    ck_assert_int_eq(pthread_create(&thread, NULL, fail_elsewhere, before), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_str_eq(before, "");
    ck_assert_ptr_nonnull(strstr(nin_last_error(), "'here'"));
}
END_TEST

START_TEST(the_version_is_that_of_the_headers)
{
    ck_assert_uint_eq(nin_version(), NIN_VERSION_NUMBER);
    ck_assert_str_eq(nin_version_text(), NIN_VERSION_TEXT);
}
END_TEST

Suite *status_suite(void)
{
    Suite *suite = suite_create("status");
    TCase *cases = tcase_create("status");

    tcase_add_test(cases, numbers_and_names_are_pinned);
    tcase_add_test(cases, every_status_has_a_text_of_its_own);
    tcase_add_test(cases, an_unknown_status_has_a_text);
    tcase_add_test(cases, a_success_leaves_the_last_sentence_alone);
    tcase_add_test(cases, the_next_failure_replaces_the_sentence);
    tcase_add_test(cases, a_sentence_stays_short_when_an_argument_is_long);
    tcase_add_test(cases, each_thread_has_a_sentence_of_its_own);
    tcase_add_test(cases, the_version_is_that_of_the_headers);
    suite_add_tcase(suite, cases);
    return suite;
}
