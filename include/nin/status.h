/* SPDX-License-Identifier: MIT */
#ifndef NIN_STATUS_H
#define NIN_STATUS_H

/* How libnin says no: a status for the program, a sentence for people.
 *
 * Every call that can fail returns a nin_status. After a failed call the object is as it was before
 * it, unless the function's comment says what it has become. libnin never prints, exits or
 * aborts. */

#include <nin/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The one list of outcomes: name, pinned value, text. Appended to, never renumbered. */
#define NIN_STATUS_LIST(X)                                                                         \
    X(OK, 0, "success")                                                                            \
    X(INVALID_ARGUMENT, 1, "an argument is outside its contract")                                  \
    X(INVALID_STATE, 2, "the object is not ready for this call")                                   \
    X(OUT_OF_MEMORY, 3, "host or device memory is exhausted")                                      \
    X(UNSUPPORTED, 4, "this build or backend cannot do that")                                      \
    X(NO_DEVICE, 5, "no such device, or it is unusable")                                           \
    X(BACKEND_FAILED, 6, "the backend reported a failure")                                         \
    X(IO, 7, "reading or writing a file failed")                                                   \
    X(BAD_FORMAT, 8, "a file is damaged, too new, or not what was expected")                       \
    X(BUSY, 9, "another thread is using the object")                                               \
    X(NOT_FINITE, 10, "the loss or a gradient is NaN or infinite")                                 \
    X(MISMATCH, 11, "the checkpoint belongs to something else")                                    \
    X(STOP, 12, "a callback asks for an orderly stop")

#define NIN_STATUS_ENTRY(name, value, text) NIN_##name = value,
typedef enum {
    NIN_STATUS_LIST(NIN_STATUS_ENTRY) NIN_STATUS_INT32 = 0x7fffffff
} nin_status;

/* The text of a status. Static, never NULL, "unknown status" for a number that is not in the list.
 * Since 0.1. */
NIN_API const char *nin_status_text(nin_status status);

/* The sentence of this thread's last failed call: it names the layer, the value and the rule.
 * Borrowed from the library until the next failed call on the same thread; "" if none has failed.
 * A successful call leaves it alone. Since 0.1. */
NIN_API const char *nin_last_error(void);

#ifdef __cplusplus
}
#endif
#endif
