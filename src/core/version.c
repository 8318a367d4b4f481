/* SPDX-License-Identifier: MIT */
#include <nin/version.h>

uint32_t nin_version(void)
{
    return NIN_VERSION_NUMBER;
}

const char *nin_version_text(void)
{
    return NIN_VERSION_TEXT;
}
