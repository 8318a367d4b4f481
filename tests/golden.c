/* SPDX-License-Identifier: MIT */
#include "golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char magic[8] = {'N', 'I', 'N', 'G', 'O', 'L', 'D', '1'};

#define MAX_BYTES (1u << 26)  /* a larger file is not one of ours */
#define LEAST_RECORD_BYTES 12 /* length of the name, type, rank */

typedef struct {
    char *name;
    void *data;
    golden_array array;
} record;

struct golden {
    size_t count;
    record *records;
};

/* What is left of the file. A read beyond the end fails and takes nothing. */
typedef struct {
    const unsigned char *next;
    size_t left;
} cursor;

static uint64_t decode(const unsigned char *bytes, size_t size)
{
    uint64_t value = 0;
    for (size_t i = size; i > 0; i--)
        value = value << 8 | bytes[i - 1];
    return value;
}

/* One value of 4 or 8 bytes into this machine's byte order. */
static void convert(void *target, const unsigned char *bytes, size_t size)
{
    uint64_t wide = decode(bytes, size);
    uint32_t narrow = (uint32_t)wide;
    memcpy(target, size == 8 ? (const void *)&wide : (const void *)&narrow, size);
}

static const unsigned char *take(cursor *c, size_t bytes)
{
    const unsigned char *taken = c->next;
    if (bytes > c->left)
        return NULL;
    c->next += bytes;
    c->left -= bytes;
    return taken;
}

static int take_u32(uint32_t *out, cursor *c)
{
    const unsigned char *bytes = take(c, 4);
    if (bytes)
        *out = (uint32_t)decode(bytes, 4);
    return bytes != NULL;
}

static int take_u64(uint64_t *out, cursor *c)
{
    const unsigned char *bytes = take(c, 8);
    if (bytes)
        *out = decode(bytes, 8);
    return bytes != NULL;
}

static int take_name(char **out, cursor *c)
{
    uint32_t length;
    const unsigned char *bytes = take_u32(&length, c) ? take(c, length) : NULL;
    if (!bytes)
        return 0;
    *out = calloc((size_t)length + 1, 1);
    if (!*out)
        return 0;
    memcpy(*out, bytes, length);
    return 1;
}

/* The shape, and how many values it has: few enough that their bytes fit a size_t. */
static int take_shape(golden_array *array, cursor *c)
{
    int empty = 0;
    if (!take_u32(&array->rank, c) || array->rank > GOLDEN_MAX_RANK)
        return 0;
    array->count = 1;
    for (uint32_t i = 0; i < GOLDEN_MAX_RANK; i++) {
        array->dims[i] = 1;
        if (i < array->rank && !take_u64(&array->dims[i], c))
            return 0;
        if (array->dims[i] == 0)
            empty = 1;
        else if (array->dims[i] > MAX_BYTES / array->count)
            return 0;
        else
            array->count *= (size_t)array->dims[i];
    }
    if (empty)
        array->count = 0;
    return 1;
}

static int take_data(record *r, cursor *c)
{
    size_t size = r->array.dtype == GOLDEN_F64 ? 8 : 4;
    const unsigned char *bytes = take(c, r->array.count * size);
    if (!bytes)
        return 0;
    r->data = malloc(r->array.count * size + 1);
    r->array.data = r->data;
    if (!r->data)
        return 0;
    for (size_t i = 0; i < r->array.count; i++)
        convert((char *)r->data + i * size, bytes + i * size, size);
    return 1;
}

static int take_record(record *r, cursor *c)
{
    if (!take_name(&r->name, c) || !take_u32(&r->array.dtype, c))
        return 0;
    if (r->array.dtype < GOLDEN_F32 || r->array.dtype > GOLDEN_F64)
        return 0;
    return take_shape(&r->array, c) && take_data(r, c);
}

static int take_file(golden *file, cursor *c)
{
    const unsigned char *start = take(c, sizeof(magic));
    uint32_t count;
    if (!start || memcmp(start, magic, sizeof(magic)) != 0 || !take_u32(&count, c))
        return 0;
    if (count > c->left / LEAST_RECORD_BYTES)
        return 0;
    file->records = calloc((size_t)count + 1, sizeof(*file->records));
    if (!file->records)
        return 0;
    for (file->count = 0; file->count < count;)
        if (!take_record(&file->records[file->count++], c))
            return 0;
    return c->left == 0;
}

static unsigned char *read_all(size_t *bytes, FILE *f)
{
    unsigned char *content;
    long size = fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    if (size < 0 || size > (long)MAX_BYTES || fseek(f, 0, SEEK_SET) != 0)
        return NULL;
    *bytes = (size_t)size;
    content = malloc(*bytes + 1);
    if (content && fread(content, 1, *bytes, f) != *bytes) {
        free(content);
        return NULL;
    }
    return content;
}

golden *golden_open(const char *path)
{
    cursor c = {NULL, 0};
    FILE *f = fopen(path, "rb");
    unsigned char *content = f ? read_all(&c.left, f) : NULL;
    golden *file = content ? calloc(1, sizeof(*file)) : NULL;
    c.next = content;
    if (file && !take_file(file, &c)) {
        golden_close(file);
        file = NULL;
    }
    free(content);
    if (f)
        fclose(f);
    return file;
}

const golden_array *golden_find(const golden *file, const char *name)
{
    for (size_t i = 0; file && i < file->count; i++)
        if (strcmp(file->records[i].name, name) == 0)
            return &file->records[i].array;
    return NULL;
}

void golden_close(golden *file)
{
    if (!file)
        return;
    for (size_t i = 0; i < file->count; i++) {
        free(file->records[i].name);
        free(file->records[i].data);
    }
    free(file->records);
    free(file);
}

/* A hash of 32 bits (the constants are those of "lowbias32"); all steps are exact but the product
 * with the bound and the conversion to float, which round once each. */
void golden_fill(float *out, size_t count, uint32_t tensor, double bound)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t h = (uint32_t)i * 2654435761u + tensor * 40503u + 12345u;
        h ^= h >> 16;
        h *= 0x7feb352du;
        h ^= h >> 15;
        h *= 0x846ca68bu;
        h ^= h >> 16;
        out[i] = (float)((2.0 * (h / 4294967296.0) - 1.0) * bound);
    }
}
