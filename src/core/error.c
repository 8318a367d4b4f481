/* SPDX-License-Identifier: MIT */
#include "core/error.h"

#include <stdarg.h>
#include <stdio.h>

/* One sentence per thread; a fixed buffer, because the failure may be that memory is gone. */
static _Thread_local char last_error[512];
static _Thread_local uint64_t failures;

nin_status nin__fail(nin_status status, const char *format, ...)
{
    va_list arguments;

    failures++;
    va_start(arguments, format);
    vsnprintf(last_error, sizeof last_error, format, arguments);
    va_end(arguments);
    return status;
}

uint64_t nin__failures(void)
{
    return failures;
}

nin_status nin__callback_status(nin_status status, uint64_t before, const char *callback)
{
    if (status == NIN_OK || failures != before)
        return status;
    return nin__fail(status, "the callback %s failed: %s", callback, nin_status_text(status));
}

nin_status nin__no_memory(const char *what)
{
    return nin__fail(NIN_OUT_OF_MEMORY, "no memory for %s", what);
}

const char *nin_last_error(void)
{
    return last_error;
}

const char *nin_status_text(nin_status status)
{
#define TEXT(name, value, text)                                                                    \
    case NIN_##name:                                                                               \
        return text;
    switch (status) {
        NIN_STATUS_LIST(TEXT)
    case NIN_STATUS_INT32:
        break;
    }
#undef TEXT
    return "unknown status";
}
