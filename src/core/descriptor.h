/* SPDX-License-Identifier: MIT */
#ifndef NIN__DESCRIPTOR_H
#define NIN__DESCRIPTOR_H

#include <nin/status.h>

/* Descriptors cross the border between programs and libraries of different age. An older, shorter
 * one is completed with zeros; a newer, longer one is taken only if what we do not know is zero. */

/* Copies the caller's descriptor into ours.
 *   target   our struct of `size` bytes; all zero but for struct_size when source is NULL
 *   minimum  the size that the struct had in the first release
 *   name     of the type, for the sentence */
nin_status nin__desc_read(void *target, size_t size, const void *source, size_t minimum,
                          const char *name);

/* Copies our result into the caller's struct, as much of it as the struct_size there allows. */
nin_status nin__info_write(void *target, const void *source, size_t size, size_t minimum,
                           const char *name);

/* Before there is a result: whether the caller's struct can take one. */
nin_status nin__info_check(const void *target, size_t minimum, const char *name);

/* The first release is the present one: every struct's minimum is its whole size. The first field
 * that is appended to a struct turns its minimum into offsetof(type, that_field). */
#define NIN__DESC_READ(target, source, type)                                                       \
    nin__desc_read((target), sizeof(type), (source), sizeof(type), #type)
#define NIN__INFO_WRITE(target, source, type)                                                      \
    nin__info_write((target), (source), sizeof(type), sizeof(type), #type)
#define NIN__INFO_CHECK(target, type) nin__info_check((target), sizeof(type), #type)

#endif
