/* SPDX-License-Identifier: MIT */
#ifndef TESTS_TEST_H
#define TESTS_TEST_H

/* What every suite needs: Check, the library, and the two assertions of the house. */

#include <check.h>
#include <nin/nin.h>

#include <string.h>

/* The call succeeds; else the library's sentence is the message. */
#define ASSERT_OK(call) ck_assert_msg((call) == NIN_OK, "%s: %s", #call, nin_last_error())

/* The call fails with this status, and its sentence holds these words. */
#define ASSERT_FAILS(status, words, call)                                                          \
    do {                                                                                           \
        nin_status got_ = (call);                                                                  \
        ck_assert_msg(got_ == (status), "%s: %s (%s)", #call, nin_status_text(got_),               \
                      nin_last_error());                                                           \
        ck_assert_msg(strstr(nin_last_error(), (words)) != NULL, "%s: no '%s' in '%s'", #call,     \
                      (words), nin_last_error());                                                  \
    } while (0)

#endif
