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
