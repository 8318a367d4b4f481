/* SPDX-License-Identifier: MIT */
#ifndef NIN__JSON_H
#define NIN__JSON_H

/* JSON in files: read without trust, written in one canonical form (compact, keys sorted). */

#include <nin/status.h>

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Parses an object. Refuses duplicate keys, deep nesting, and everything that is no JSON object.
 *   out   receives the object, to be given to json_decref
 *   text  length bytes, no final zero needed
 *   what  names the text in the sentence of a failure */
nin_status nin__json_parse(json_t **out, const char *text, size_t length, const char *what);

/* The canonical text with a final zero, to be freed; NULL for NULL, or if there is no memory. */
char *nin__json_text(const json_t *json, size_t *length);

/* A double by its bits, as 16 hexadecimal digits: infinities too, and no decimal point that a
 * locale could change. */
json_t *nin__json_bits(double value);

/* The fields of an object, asked for one by one. The first failure stays; what is asked for after
 * it is 0 or NULL. nin__fields_end gives that failure, or finds a field that nobody has asked
 * for. */
struct nin__fields {
    const json_t *object;
    const char *what; /* names the object in sentences; borrowed */
    size_t used;
    nin_status status;
};

struct nin__fields nin__fields_begin(const json_t *json, const char *what);
nin_status nin__fields_end(const struct nin__fields *fields);
nin_status nin__fields_fail(struct nin__fields *fields, const char *key, const char *rule);

int64_t nin__field_integer(struct nin__fields *fields, const char *key, int64_t low, int64_t high);
bool nin__field_bool(struct nin__fields *fields, const char *key);
double nin__field_real(struct nin__fields *fields, const char *key);
double nin__field_bits(struct nin__fields *fields, const char *key);
const char *nin__field_string(struct nin__fields *fields, const char *key);
const json_t *nin__field_any(struct nin__fields *fields, const char *key);

/* Where two values differ first, and what is there, shortened. */
struct nin__difference {
    char path[128]; /* "recipe.optimizer.momentum" */
    char ours[96], theirs[96];
};
bool nin__json_differ(struct nin__difference *out, const json_t *ours, const json_t *theirs);

#endif
