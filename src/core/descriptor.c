/* SPDX-License-Identifier: MIT */
#include "core/descriptor.h"

#include "core/error.h"

#include <string.h>

/* Far above any struct of any version. */
static const size_t MAX_STRUCT_SIZE = 4096;

static nin_status check_size(size_t given, size_t minimum, const char *name)
{
    if (given == 0)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "%s: struct_size is 0; set it to sizeof(%s), or use NIN_DESC", name, name);
    if (given > MAX_STRUCT_SIZE) /* not set: reading so far would leave the caller's memory */
        return nin__fail(NIN_INVALID_ARGUMENT, "%s: struct_size %zu is no size of a struct", name,
                         given);
    if (given < minimum)
        return nin__fail(NIN_INVALID_ARGUMENT, "%s: struct_size %zu is below %zu", name, given,
                         minimum);
    return NIN_OK;
}

nin_status nin__desc_read(void *target, size_t size, const void *source, size_t minimum,
                          const char *name)
{
    size_t given = size;

    memset(target, 0, size);
    if (source != NULL) {
        const unsigned char *bytes = source;

        memcpy(&given, source, sizeof given);
        NIN__TRY(check_size(given, minimum, name));
        for (size_t i = size; i < given; i++)
            if (bytes[i] != 0)
                return nin__fail(NIN_INVALID_ARGUMENT,
                                 "%s: a field that this version of libnin does not know is set "
                                 "(byte %zu of %zu)",
                                 name, i, given);
        memcpy(target, source, given < size ? given : size);
    }
    memcpy(target, &size, sizeof size);
    return NIN_OK;
}

nin_status nin__info_check(const void *target, size_t minimum, const char *name)
{
    size_t given;

    if (target == NULL)
        return nin__fail(NIN_INVALID_ARGUMENT, "%s: the result to be filled is NULL", name);
    memcpy(&given, target, sizeof given);
    return check_size(given, minimum, name);
}

nin_status nin__info_write(void *target, const void *source, size_t size, size_t minimum,
                           const char *name)
{
    size_t given;

    NIN__TRY(nin__info_check(target, minimum, name));
    memcpy(&given, target, sizeof given);
    if (given > size) /* a newer program: what we do not know reads as zero */
        memset((unsigned char *)target + size, 0, given - size);
    memcpy((unsigned char *)target + sizeof size, (const unsigned char *)source + sizeof size,
           (given < size ? given : size) - sizeof size);
    return NIN_OK;
}
