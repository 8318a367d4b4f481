/* SPDX-License-Identifier: MIT */
#ifndef NIN__ERROR_H
#define NIN__ERROR_H

#include <nin/status.h>

/* Keeps the sentence for nin_last_error and returns the status, so that a check is one line:
 *     return nin__fail(NIN_INVALID_ARGUMENT, "conv2d '%s': ...", name); */
nin_status nin__fail(nin_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3), cold));

/* The same for memory: `what` was not to be had. */
nin_status nin__no_memory(const char *what) __attribute__((cold));

/* How many failures this thread has had: tells whether a callback of the user's came to fail
 * through a call of ours, whose sentence is then the one to keep. */
uint64_t nin__failures(void);

/* Gives a callback's status back unchanged. If it is a failure and the thread has had none since
 * `failures`, the sentence says which callback it was. */
nin_status nin__callback_status(nin_status status, uint64_t failures, const char *callback);

#define NIN__TRY(call)                                                                             \
    do {                                                                                           \
        nin_status nin__status = (call);                                                           \
        if (nin__status != NIN_OK)                                                                 \
            return nin__status;                                                                    \
    } while (0)

/* A pointer that must be there. */
#define NIN__NEED(pointer)                                                                         \
    do {                                                                                           \
        if ((pointer) == NULL)                                                                     \
            return nin__fail(NIN_INVALID_ARGUMENT, "%s: '%s' is NULL", __func__, #pointer);        \
    } while (0)

#endif
