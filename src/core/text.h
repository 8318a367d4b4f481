/* SPDX-License-Identifier: MIT */
#ifndef NIN__TEXT_H
#define NIN__TEXT_H

/* Text that is counted in full and kept as far as it fits: what a backend describes itself with. In
 * a header, for modules cannot see libnin's functions. */

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

struct nin__text {
    char *start;
    size_t size, length;
};

static inline void nin__text_add(struct nin__text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static inline void nin__text_add(struct nin__text *text, const char *format, ...)
{
    size_t room = text->length < text->size ? text->size - text->length : 0;
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(room > 0 ? text->start + text->length : NULL, room, format, arguments);
    va_end(arguments);
    text->length += length > 0 ? (size_t)length : 0;
}

#endif
