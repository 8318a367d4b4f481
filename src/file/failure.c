/* SPDX-License-Identifier: MIT */
#include "file/failure.h"

#include "core/error.h"

#include <stdio.h>
#include <string.h>

enum {
    LONGEST = 160
};

nin_status nin__fail_in(nin_status status, const char *where)
{
    size_t length = strlen(where);
    char sentence[320];

    if (status == NIN_OK)
        return NIN_OK;
    snprintf(sentence, sizeof sentence, "%s", nin_last_error());
    return nin__fail(status, "%s%s: %s", length > LONGEST ? "..." : "",
                     length > LONGEST ? where + length - LONGEST : where, sentence);
}
