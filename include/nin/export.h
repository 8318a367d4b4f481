/* SPDX-License-Identifier: MIT */
#ifndef NIN_EXPORT_H
#define NIN_EXPORT_H

/* What every header of libnin needs: which names are exported, which results must be looked at,
 * and how a descriptor is filled. */

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define NIN_API __attribute__((visibility("default")))
#define NIN_CHECKED NIN_API __attribute__((warn_unused_result))
#else
#define NIN_API
#define NIN_CHECKED
#endif

/* NIN_API marks an exported function. NIN_CHECKED marks an exported function that can fail: the
 * compiler warns when its nin_status is dropped. (The builder's calls may be dropped: a builder
 * keeps its first failure.) */

/* Descriptors. Every struct that a caller fills ends in _desc, starts with struct_size, grows only
 * at its end, and reads an all-zero field as the documented default. A NULL descriptor is all
 * defaults where the function says so. The same holds for *_info and *_result, which the library
 * fills up to the struct_size that the caller has set.
 *
 * In C, a descriptor is written in place and needs at least one field:
 *
 *     NIN_DESC(nin_conv2d_desc, .filters = 96, .kernel = 5, .pad = 2)
 *
 * In C++, use value initialisation:
 *
 *     nin_conv2d_desc conv = {};
 *     conv.struct_size = sizeof conv;
 *     conv.filters = 96; */
#ifndef __cplusplus
#define NIN_DESC(type, ...) (&(const type){.struct_size = sizeof(type), __VA_ARGS__})
#endif

#endif
