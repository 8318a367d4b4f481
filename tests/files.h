/* SPDX-License-Identifier: MIT */
#ifndef TESTS_FILES_H
#define TESTS_FILES_H

/* For tests that write files: a folder of their own, files as bytes, and a network to put in. */

#include "core/network.h"

#include <stddef.h>

/* Fixtures: the folder of a test. */
void make_folder(void);
void remove_folder(void);

/* The path of a file in the folder ("": of the folder); good until the eighth call after this
 * one. */
const char *in_folder(const char *name);

/* Files in the folder, those that begin with a dot not counted. */
int count_files(void);

struct bytes {
    unsigned char *data; /* with room for one more; to be freed */
    size_t count;
};

struct bytes read_bytes(const char *path);
const char *write_bytes(const char *path, const void *data, size_t count);
void assert_same_files(const char *left, const char *right);

/* Writes a safetensors file from a header and `count` zero bytes of elements. */
const char *write_crafted(const char *path, const char *header, size_t count);

/* Writes a copy of a safetensors file in whose header the first `from` has become `to`. */
const char *write_edited(const char *path, const struct bytes *bytes, const char *from,
                         const char *to);

size_t header_length(const struct bytes *bytes);

/* A network for images of 2x6x6 and three classes, with every kind of layer but dense. */
nin_network *make_network(nin_context *context, int32_t filters);
void assert_same_parameters(const nin_network *left, const nin_network *right);

#endif
