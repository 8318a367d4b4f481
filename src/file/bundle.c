/* SPDX-License-Identifier: MIT */
/* Writing a safetensors file. */
#include "file/safetensors.h"

#include "core/error.h"
#include "file/endian.h"
#include "file/json.h"
#include "file/replace.h"

#include <stdlib.h>
#include <string.h>

/* One of the two has the elements. */
struct nin__bundle_part {
    const float *floats;
    const double *doubles;
    size_t count;
};

void nin__bundle_begin(struct nin__bundle *bundle)
{
    memset(bundle, 0, sizeof *bundle);
    bundle->header = json_object();
    bundle->metadata = json_object();
    if (bundle->header == NULL || bundle->metadata == NULL)
        bundle->status = nin__no_memory("a file's header");
}

void nin__bundle_free(struct nin__bundle *bundle)
{
    json_decref(bundle->header);
    json_decref(bundle->metadata);
    free(bundle->parts);
}

static bool reserve(struct nin__bundle *bundle)
{
    size_t room = bundle->room == 0 ? 64 : 2 * bundle->room;
    struct nin__bundle_part *parts;

    if (bundle->count < bundle->room)
        return true;
    parts = realloc(bundle->parts, room * sizeof *parts);
    if (parts == NULL)
        return false;
    bundle->parts = parts;
    bundle->room = room;
    return true;
}

static json_t *describe(const char *dtype, int32_t rank, const int64_t *shape, uint64_t first,
                        uint64_t end)
{
    json_t *list = json_array();

    for (int32_t axis = 0; axis < rank; axis++)
        if (json_array_append_new(list, json_integer(shape[axis])) != 0) {
            json_decref(list);
            return NULL;
        }
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype, "shape", list, "data_offsets",
                     (json_int_t)first, (json_int_t)end);
}

static void add(struct nin__bundle *bundle, const char *name, int32_t rank, const int64_t *shape,
                struct nin__bundle_part part)
{
    uint64_t first = bundle->bytes;

    if (bundle->status != NIN_OK)
        return;
    part.count = 1;
    for (int32_t axis = 0; axis < rank; axis++)
        part.count *= (size_t)shape[axis];
    bundle->bytes += part.count * (part.floats != NULL ? 4 : 8);
    if (!reserve(bundle) || json_object_set_new(bundle->header, name,
                                                describe(part.floats != NULL ? "F32" : "F64", rank,
                                                         shape, first, bundle->bytes)) != 0)
        bundle->status = nin__no_memory("a file's header");
    else
        bundle->parts[bundle->count++] = part;
}

void nin__bundle_floats(struct nin__bundle *bundle, const char *name, int32_t rank,
                        const int64_t *shape, const float *elements)
{
    add(bundle, name, rank, shape, (struct nin__bundle_part){.floats = elements});
}

void nin__bundle_doubles(struct nin__bundle *bundle, const char *name, int32_t rank,
                         const int64_t *shape, const double *elements)
{
    add(bundle, name, rank, shape, (struct nin__bundle_part){.doubles = elements});
}

void nin__bundle_text(struct nin__bundle *bundle, const char *key, json_t *json)
{
    size_t length = 0;
    char *text = nin__json_text(json, &length);

    json_decref(json);
    if (bundle->status == NIN_OK &&
        (text == NULL ||
         json_object_set_new(bundle->metadata, key, json_stringn(text, length)) != 0))
        bundle->status = nin__no_memory("a file's header");
    free(text);
}

/* ---- out ----------------------------------------------------------------------------------- */

enum {
    CHUNK = 4096
};

static nin_status write_part(struct nin__replacement *out, const struct nin__bundle_part *part)
{
    const size_t size = part->floats != NULL ? 4 : 8;
    unsigned char bytes[8 * CHUNK];

    for (size_t done = 0; done < part->count;) {
        size_t count = part->count - done < CHUNK ? part->count - done : CHUNK;

        for (size_t i = 0; i < count; i++)
            if (part->floats != NULL)
                nin__store_float(bytes + 4 * i, part->floats[done + i]);
            else
                nin__store_double(bytes + 8 * i, part->doubles[done + i]);
        NIN__TRY(nin__replacement_write(out, bytes, count * size));
        done += count;
    }
    return NIN_OK;
}

/* The elements start at a multiple of 8: blanks at the end of the header see to it. */
static nin_status write_header(struct nin__replacement *out, const char *text, size_t length)
{
    static const char blanks[] = "       ";
    size_t padding = (8 - length % 8) % 8;
    unsigned char start[8];

    nin__store64(start, length + padding);
    NIN__TRY(nin__replacement_write(out, start, sizeof start));
    NIN__TRY(nin__replacement_write(out, text, length));
    return nin__replacement_write(out, blanks, padding);
}

static nin_status write_all(const struct nin__bundle *bundle, const char *path, const char *header,
                            size_t length)
{
    struct nin__replacement out;
    nin_status status;

    NIN__TRY(nin__replacement_begin(&out, path));
    status = write_header(&out, header, length);
    for (size_t i = 0; status == NIN_OK && i < bundle->count; i++)
        status = write_part(&out, &bundle->parts[i]);
    if (status == NIN_OK)
        return nin__replacement_finish(&out);
    nin__replacement_abandon(&out);
    return status;
}

nin_status nin__bundle_write(struct nin__bundle *bundle, const char *path)
{
    nin_status status;
    size_t length = 0;
    char *header;

    if (bundle->status != NIN_OK)
        return bundle->status;
    if (json_object_set(bundle->header, "__metadata__", bundle->metadata) != 0)
        return nin__no_memory("a file's header");
    header = nin__json_text(bundle->header, &length);
    if (header == NULL)
        return nin__no_memory("a file's header");
    status = write_all(bundle, path, header, length);
    free(header);
    return status;
}
