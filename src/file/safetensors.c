/* SPDX-License-Identifier: MIT */
/* Reading. Everything that the header says about where things are is checked once, when the file is
 * opened: after that a tensor's first byte and size lie within the file and fit to its shape. */
#include "file/safetensors.h"

#include "core/error.h"
#include "file/endian.h"
#include "file/json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The largest network that can be built needs about half of it. */
static const uint64_t MAX_HEADER = (uint64_t)32 << 20;
static const char METADATA[] = "__metadata__";

/* ---- bytes --------------------------------------------------------------------------------- */

static nin_status read_at(int file, void *target, size_t count, uint64_t offset)
{
    char *next = target;

    while (count > 0) {
        ssize_t got = pread(file, next, count, (off_t)offset);

        if (got < 0 && errno != EINTR)
            return nin__fail(NIN_IO, "cannot read: %s", strerror(errno));
        if (got == 0)
            return nin__fail(NIN_BAD_FORMAT, "ends at byte %" PRIu64, offset);
        if (got > 0) {
            next += got;
            offset += (uint64_t)got;
            count -= (size_t)got;
        }
    }
    return NIN_OK;
}

/* Without O_NONBLOCK the opening of a pipe would wait for its other end. */
static nin_status open_regular(int *file, uint64_t *size, const char *path)
{
    struct stat status;

    *file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (*file < 0)
        return nin__fail(NIN_IO, "cannot open: %s", strerror(errno));
    if (fstat(*file, &status) != 0)
        return nin__fail(NIN_IO, "cannot be looked at: %s", strerror(errno));
    if (!S_ISREG(status.st_mode))
        return nin__fail(NIN_IO, "%s",
                         S_ISDIR(status.st_mode) ? "is a folder" : "is no regular file");
    *size = (uint64_t)status.st_size;
    return NIN_OK;
}

/* ---- header -------------------------------------------------------------------------------- */

/* Bytes of an element, 0 for types that this version does not know: tensors of these can be in a
 * file, but not be read. */
static uint64_t element_size(const char *dtype)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } types[] = {{"F32", 4}, {"F64", 8}, {"F16", 2}, {"BF16", 2}, {"I64", 8},
                 {"I32", 4}, {"I16", 2}, {"I8", 1},  {"BOOL", 1}, {"U8", 1},
                 {"U16", 2}, {"U32", 4}, {"U64", 8}};

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(types[i].name, dtype) == 0)
            return types[i].bytes;
    return 0;
}

/* Reads a list of `count` numbers, each 0 to 2^63 - 1. */
static bool read_numbers(int64_t *target, const json_t *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const json_t *number = json_array_get(list, i);

        target[i] = json_integer_value(number);
        if (!json_is_integer(number) || target[i] < 0)
            return false;
    }
    return true;
}

/* Whether `bytes` is what a tensor of that shape has. */
static bool fits(const int64_t *shape, size_t rank, uint64_t element, uint64_t bytes)
{
    uint64_t elements = 1;

    for (size_t i = 0; i < rank; i++)
        if (shape[i] == 0)
            return bytes == 0;
    for (size_t i = 0; i < rank; i++) {
        if ((uint64_t)shape[i] > bytes / elements) /* so elements stays 1 to bytes */
            return false;
        elements *= (uint64_t)shape[i];
    }
    return bytes % element == 0 && elements == bytes / element;
}

/* Tensors of more dimensions than ours ever have are known by their place only. */
static bool read_shape(struct nin__stored *stored, const json_t *json)
{
    const json_t *shape = json_object_get(json, "shape");
    size_t rank = json_array_size(shape);
    uint64_t element = element_size(stored->dtype);

    stored->rank = -1;
    if (!json_is_array(shape))
        return false;
    if (rank > NIN_MAX_RANK)
        return true;
    if (!read_numbers(stored->shape, shape, rank))
        return false;
    stored->rank = (int32_t)rank;
    return element == 0 || fits(stored->shape, rank, element, stored->bytes);
}

static bool read_place(struct nin__stored *stored, const json_t *json, uint64_t bytes)
{
    const json_t *offsets = json_object_get(json, "data_offsets");
    int64_t place[2];

    if (json_array_size(offsets) != 2 || !read_numbers(place, offsets, 2) || place[0] > place[1] ||
        (uint64_t)place[1] > bytes)
        return false;
    stored->first = (uint64_t)place[0];
    stored->bytes = (uint64_t)(place[1] - place[0]);
    return true;
}

static nin_status read_entry(struct nin__stored *stored, const char *name, const json_t *json,
                             uint64_t bytes)
{
    const char *dtype = json_string_value(json_object_get(json, "dtype"));

    memset(stored, 0, sizeof *stored);
    if (dtype == NULL || strlen(dtype) >= sizeof stored->dtype)
        return nin__fail(NIN_BAD_FORMAT, "tensor '%.80s' has no dtype", name);
    memcpy(stored->dtype, dtype, strlen(dtype) + 1);
    if (!read_place(stored, json, bytes))
        return nin__fail(NIN_BAD_FORMAT, "tensor '%.80s': its data_offsets are not in the file",
                         name);
    if (!read_shape(stored, json))
        return nin__fail(NIN_BAD_FORMAT, "tensor '%.80s': its shape does not go with its size",
                         name);
    return NIN_OK;
}

struct extent {
    uint64_t first, bytes;
};

static int compare_extents(const void *left, const void *right)
{
    const struct extent *a = left, *b = right;

    if (a->first != b->first)
        return a->first < b->first ? -1 : 1;
    return (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

/* The format wants every byte to belong to one tensor. */
static nin_status check_extents(struct extent *extents, size_t count, uint64_t bytes)
{
    uint64_t end = 0;

    qsort(extents, count, sizeof *extents, compare_extents);
    for (size_t i = 0; i < count; i++) {
        if (extents[i].first != end)
            return nin__fail(NIN_BAD_FORMAT, "tensors overlap, or leave a gap, at byte %" PRIu64,
                             end);
        end += extents[i].bytes;
    }
    if (end != bytes)
        return nin__fail(NIN_BAD_FORMAT, "%" PRIu64 " bytes at the end belong to no tensor",
                         bytes - end);
    return NIN_OK;
}

static nin_status check_metadata(const json_t *metadata)
{
    json_t *object = (json_t *)metadata;

    if (!json_is_object(metadata))
        return nin__fail(NIN_BAD_FORMAT, "'%s' is no object", METADATA);
    for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i))
        if (!json_is_string(json_object_iter_value(i)))
            return nin__fail(NIN_BAD_FORMAT, "'%s': '%.80s' is no string", METADATA,
                             json_object_iter_key(i));
    return NIN_OK;
}

static nin_status check_entries(const struct nin__safetensors *file, struct extent *extents)
{
    size_t count = 0;

    for (void *i = json_object_iter(file->header); i != NULL;
         i = json_object_iter_next(file->header, i)) {
        const char *name = json_object_iter_key(i);
        struct nin__stored stored;

        if (strcmp(name, METADATA) == 0) {
            NIN__TRY(check_metadata(json_object_iter_value(i)));
            continue;
        }
        NIN__TRY(read_entry(&stored, name, json_object_iter_value(i), file->bytes));
        extents[count++] = (struct extent){stored.first, stored.bytes};
    }
    return check_extents(extents, count, file->bytes);
}

static nin_status check_header(const struct nin__safetensors *file)
{
    struct extent *extents = calloc(json_object_size(file->header) + 1, sizeof *extents);
    nin_status status;

    if (extents == NULL)
        return nin__no_memory("the list of tensors");
    status = check_entries(file, extents);
    free(extents);
    return status;
}

static nin_status parse_header(struct nin__safetensors *file, size_t length)
{
    char *text = malloc(length);
    nin_status status;

    if (text == NULL)
        return nin__no_memory("the header");
    status = read_at(file->file, text, length, 8);
    if (status == NIN_OK && text[0] != '{')
        status = nin__fail(NIN_BAD_FORMAT, "no safetensors file: its header starts without '{'");
    if (status == NIN_OK)
        status = nin__json_parse(&file->header, text, length, "header");
    free(text);
    return status;
}

static nin_status open_checked(struct nin__safetensors *file, const char *path)
{
    unsigned char start[8];
    uint64_t size = 0, length;

    NIN__TRY(open_regular(&file->file, &size, path));
    if (size < sizeof start + 2)
        return nin__fail(NIN_BAD_FORMAT, "no safetensors file: %" PRIu64 " bytes", size);
    NIN__TRY(read_at(file->file, start, sizeof start, 0));
    length = nin__load64(start);
    if (length < 2 || length > size - sizeof start || length > MAX_HEADER)
        return nin__fail(NIN_BAD_FORMAT,
                         "no safetensors file: a header of %" PRIu64 " bytes in a file of %" PRIu64,
                         length, size);
    file->data = sizeof start + length;
    file->bytes = size - file->data;
    NIN__TRY(parse_header(file, (size_t)length));
    return check_header(file);
}

nin_status nin__safetensors_open(struct nin__safetensors *file, const char *path)
{
    nin_status status;

    *file = (struct nin__safetensors){.file = -1};
    status = open_checked(file, path);
    if (status != NIN_OK)
        nin__safetensors_close(file);
    return status;
}

void nin__safetensors_close(struct nin__safetensors *file)
{
    json_decref(file->header);
    if (file->file >= 0)
        close(file->file);
}

/* ---- contents ------------------------------------------------------------------------------ */

const char *nin__safetensors_text(const struct nin__safetensors *file, const char *key)
{
    return json_string_value(json_object_get(json_object_get(file->header, METADATA), key));
}

nin_status nin__safetensors_find(struct nin__stored *out, const struct nin__safetensors *file,
                                 const char *name, const char *dtype)
{
    const json_t *json = strcmp(name, METADATA) == 0 ? NULL : json_object_get(file->header, name);

    if (json == NULL)
        return nin__fail(NIN_BAD_FORMAT, "there is no tensor '%s'", name);
    NIN__TRY(read_entry(out, name, json, file->bytes));
    if (strcmp(out->dtype, dtype) != 0)
        return nin__fail(NIN_BAD_FORMAT, "tensor '%s' is of type %s, not %s", name, out->dtype,
                         dtype);
    return NIN_OK;
}

bool nin__stored_has_shape(const struct nin__stored *stored, int32_t rank, const int64_t *shape)
{
    return stored->rank == rank && memcmp(stored->shape, shape, (size_t)rank * sizeof *shape) == 0;
}

enum {
    CHUNK = 32768
};

nin_status nin__safetensors_floats(const struct nin__safetensors *file,
                                   const struct nin__stored *stored, float *target)
{
    unsigned char bytes[CHUNK];

    for (uint64_t done = 0; done < stored->bytes;) {
        uint64_t left = stored->bytes - done;
        size_t part = left < CHUNK ? (size_t)left : CHUNK;

        NIN__TRY(read_at(file->file, bytes, part, file->data + stored->first + done));
        for (size_t i = 0; i < part; i += 4)
            *target++ = nin__load_float(bytes + i);
        done += part;
    }
    return NIN_OK;
}

nin_status nin__safetensors_doubles(const struct nin__safetensors *file,
                                    const struct nin__stored *stored, double *target)
{
    unsigned char bytes[CHUNK];

    for (uint64_t done = 0; done < stored->bytes;) {
        uint64_t left = stored->bytes - done;
        size_t part = left < CHUNK ? (size_t)left : CHUNK;

        NIN__TRY(read_at(file->file, bytes, part, file->data + stored->first + done));
        for (size_t i = 0; i < part; i += 8)
            *target++ = nin__load_double(bytes + i);
        done += part;
    }
    return NIN_OK;
}
