/* SPDX-License-Identifier: MIT */
#include "file/json.h"

#include "core/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Our own files nest six deep. jansson recurses and would go to 2048, more than the stack of a
 * small thread holds. */
enum {
    MAX_DEPTH = 16
};
static const size_t FORM = JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(17);

/* ---- text ---------------------------------------------------------------------------------- */

static bool is_too_deep(const char *text, size_t length)
{
    bool in_string = false;
    int depth = 0;

    for (size_t i = 0; i < length; i++) {
        char c = text[i];

        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && (c == '{' || c == '['))
            depth++;
        else if (!in_string && (c == '}' || c == ']'))
            depth--;
        if (depth > MAX_DEPTH)
            return true;
    }
    return false;
}

/* jansson's parser aborts when memory runs out inside it. What it needs is asked for and given back
 * first: for a byte of text at most a few pointers of its tables. Best effort: somebody else may
 * take the memory in between. */
static bool has_memory_for(size_t length)
{
    static const size_t BYTES_FOR_A_BYTE = 64, AT_LEAST = 4096;
    /* volatile: a compiler may leave out an allocation that nobody looks at */
    volatile char *probe = malloc(AT_LEAST + BYTES_FOR_A_BYTE * length);

    if (probe == NULL)
        return false;
    *probe = 0;
    free((void *)probe);
    return true;
}

nin_status nin__json_parse(json_t **out, const char *text, size_t length, const char *what)
{
    json_error_t error;
    json_t *json;

    if (is_too_deep(text, length))
        return nin__fail(NIN_BAD_FORMAT, "%s: JSON that nests deeper than %d", what, MAX_DEPTH);
    if (!has_memory_for(length))
        return nin__no_memory(what);
    json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (json == NULL && (error.text[0] == '\0' || /* jansson says nothing of some allocations */
                         json_error_code(&error) == json_error_out_of_memory))
        return nin__no_memory(what);
    if (json == NULL)
        return nin__fail(NIN_BAD_FORMAT, "%s: no JSON, byte %d: %.120s", what, error.position,
                         error.text);
    if (!json_is_object(json)) {
        json_decref(json);
        return nin__fail(NIN_BAD_FORMAT, "%s: JSON, but no object", what);
    }
    *out = json;
    return NIN_OK;
}

char *nin__json_text(const json_t *json, size_t *length)
{
    /* not json_dumps: its memory is jansson's, whose allocator a program may have changed */
    size_t bytes = json == NULL ? 0 : json_dumpb(json, NULL, 0, FORM);
    char *text = bytes == 0 ? NULL : malloc(bytes + 1);

    if (text == NULL)
        return NULL;
    if (json_dumpb(json, text, bytes, FORM) != bytes) {
        free(text);
        return NULL;
    }
    text[bytes] = '\0';
    *length = bytes;
    return text;
}

json_t *nin__json_bits(double value)
{
    char digits[17];
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    snprintf(digits, sizeof digits, "%016" PRIx64, bits);
    return json_string(digits);
}

/* ---- fields -------------------------------------------------------------------------------- */

struct nin__fields nin__fields_begin(const json_t *json, const char *what)
{
    struct nin__fields fields = {.object = json, .what = what};

    if (!json_is_object(json))
        fields.status = nin__fail(NIN_BAD_FORMAT, "%s: is no object", what);
    return fields;
}

nin_status nin__fields_fail(struct nin__fields *fields, const char *key, const char *rule)
{
    if (fields->status == NIN_OK)
        fields->status = nin__fail(NIN_BAD_FORMAT, "%s: '%s' is %s", fields->what, key,
                                   json_object_get(fields->object, key) == NULL ? "missing" : rule);
    return fields->status;
}

nin_status nin__fields_end(const struct nin__fields *fields)
{
    if (fields->status == NIN_OK && json_object_size(fields->object) != fields->used)
        return nin__fail(NIN_BAD_FORMAT, "%s: has fields that this version does not know",
                         fields->what);
    return fields->status;
}

const json_t *nin__field_any(struct nin__fields *fields, const char *key)
{
    const json_t *value = NULL;

    if (fields->status == NIN_OK)
        value = json_object_get(fields->object, key);
    if (value == NULL)
        nin__fields_fail(fields, key, "missing");
    else
        fields->used++;
    return value;
}

int64_t nin__field_integer(struct nin__fields *fields, const char *key, int64_t low, int64_t high)
{
    const json_t *json = nin__field_any(fields, key);
    int64_t value = json_integer_value(json);

    if (json_is_integer(json) && value >= low && value <= high)
        return value;
    nin__fields_fail(fields, key, "no integer in its range");
    return 0;
}

bool nin__field_bool(struct nin__fields *fields, const char *key)
{
    const json_t *json = nin__field_any(fields, key);

    if (!json_is_boolean(json))
        nin__fields_fail(fields, key, "neither true nor false");
    return json_is_true(json);
}

double nin__field_real(struct nin__fields *fields, const char *key)
{
    const json_t *json = nin__field_any(fields, key);

    if (!json_is_number(json))
        nin__fields_fail(fields, key, "no number");
    return json_number_value(json);
}

const char *nin__field_string(struct nin__fields *fields, const char *key)
{
    const json_t *json = nin__field_any(fields, key);

    if (!json_is_string(json))
        nin__fields_fail(fields, key, "no string");
    return json_string_value(json);
}

double nin__field_bits(struct nin__fields *fields, const char *key)
{
    const char *digits = nin__field_string(fields, key);
    double value = 0.0;
    uint64_t bits;

    if (digits == NULL)
        return value;
    if (strlen(digits) != 16 || strspn(digits, "0123456789abcdef") != 16) {
        nin__fields_fail(fields, key, "not 16 hexadecimal digits");
        return value;
    }
    bits = strtoull(digits, NULL, 16);
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- differences --------------------------------------------------------------------------- */

/* As few digits as give the same number back. */
static void shorten_real(char *target, size_t size, double value)
{
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(target, size, "%.*g", digits, value);
        if (strtod(target, NULL) == value)
            return;
    }
}

/* skip: of a string, what both have in common. */
static void shorten(char *target, size_t size, const json_t *json, size_t skip)
{
    switch (json == NULL ? JSON_NULL : json_typeof(json)) {
    case JSON_STRING:
        snprintf(target, size, "'%s%.*s'", skip > 0 ? "... " : "", (int)size - 7,
                 json_string_value(json) + skip);
        break;
    case JSON_INTEGER:
        snprintf(target, size, "%lld", (long long)json_integer_value(json));
        break;
    case JSON_REAL:
        shorten_real(target, size, json_real_value(json));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        snprintf(target, size, "%s", json_is_true(json) ? "true" : "false");
        break;
    case JSON_ARRAY:
        snprintf(target, size, "a list of %zu", json_array_size(json));
        break;
    case JSON_OBJECT:
        snprintf(target, size, "something else");
        break;
    default:
        snprintf(target, size, "absent");
    }
}

/* The words that two strings begin with alike, if they are too long to be shown. */
static size_t common_words(const json_t *ours, const json_t *theirs, size_t room)
{
    const char *a = json_string_value(ours), *b = json_string_value(theirs);
    size_t words = 0;

    if (a == NULL || b == NULL || (strlen(a) < room && strlen(b) < room))
        return 0;
    for (size_t i = 0; a[i] != '\0' && a[i] == b[i]; i++)
        if (a[i] == ' ')
            words = i + 1;
    return words;
}

static bool differ_leaf(struct nin__difference *out, const json_t *ours, const json_t *theirs)
{
    size_t skip;

    if (json_equal(ours, theirs))
        return false;
    skip = common_words(ours, theirs, sizeof out->ours - 7);
    shorten(out->ours, sizeof out->ours, ours, skip);
    shorten(out->theirs, sizeof out->theirs, theirs, skip);
    return true;
}

static bool differ(struct nin__difference *out, size_t path, const json_t *ours,
                   const json_t *theirs);

static bool differ_at_key(struct nin__difference *out, size_t path, const char *key,
                          const json_t *ours, const json_t *theirs)
{
    int length =
        snprintf(out->path + path, sizeof out->path - path, "%s%s", path > 0 ? "." : "", key);

    path += (size_t)length;
    return differ(out, path < sizeof out->path ? path : sizeof out->path - 1,
                  json_object_get(ours, key), json_object_get(theirs, key));
}

static bool differ_in_object(struct nin__difference *out, size_t path, const json_t *ours,
                             const json_t *theirs)
{
    json_t *const objects[2] = {(json_t *)ours, (json_t *)theirs};

    for (int side = 0; side < 2; side++)
        for (void *i = json_object_iter(objects[side]); i != NULL;
             i = json_object_iter_next(objects[side], i))
            if (differ_at_key(out, path, json_object_iter_key(i), ours, theirs))
                return true;
    return false;
}

static bool differ_in_array(struct nin__difference *out, size_t path, const json_t *ours,
                            const json_t *theirs)
{
    for (size_t i = 0; i < json_array_size(ours); i++) {
        int length = snprintf(out->path + path, sizeof out->path - path, "[%zu]", i);
        size_t end = path + (size_t)length;

        if (differ(out, end < sizeof out->path ? end : sizeof out->path - 1,
                   json_array_get(ours, i), json_array_get(theirs, i)))
            return true;
    }
    return false;
}

/* path: where the path ends that leads here. Our own value is shallow, so the recursion is. */
static bool differ(struct nin__difference *out, size_t path, const json_t *ours,
                   const json_t *theirs)
{
    out->path[path] = '\0';
    if (json_is_object(ours) && json_is_object(theirs))
        return differ_in_object(out, path, ours, theirs);
    if (json_is_array(ours) && json_is_array(theirs) &&
        json_array_size(ours) == json_array_size(theirs))
        return differ_in_array(out, path, ours, theirs);
    return differ_leaf(out, ours, theirs);
}

bool nin__json_differ(struct nin__difference *out, const json_t *ours, const json_t *theirs)
{
    return differ(out, 0, ours, theirs);
}
