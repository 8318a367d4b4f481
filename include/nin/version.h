/* SPDX-License-Identifier: MIT */
#ifndef NIN_VERSION_H
#define NIN_VERSION_H

#include <nin/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of these headers. docs/abi.md says which change raises which number. */
#define NIN_VERSION_MAJOR 0
#define NIN_VERSION_MINOR 1
#define NIN_VERSION_PATCH 0
#define NIN_VERSION_NUMBER (NIN_VERSION_MAJOR * 10000 + NIN_VERSION_MINOR * 100 + NIN_VERSION_PATCH)
#define NIN_VERSION_TEXT "0.1.0"

/* The version of the library that is loaded, as major * 10000 + minor * 100 + patch. It can be
 * newer than the headers that a program was built with. Since 0.1. */
NIN_API uint32_t nin_version(void);

/* The same as text, for example "0.1.0". Static, never NULL. Since 0.1. */
NIN_API const char *nin_version_text(void);

#ifdef __cplusplus
}
#endif
#endif
