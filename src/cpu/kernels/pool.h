/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_POOL_H
#define NIN__CPU_KERNELS_POOL_H

/* Max pooling over NHWC maps. A place numbers the pixels of a window that lie in the map,
 * row by row, in rows of kernel_w. */

#include "cpu/kernels.h"
#include "cpu/kernels/vector.h"
#include "cpu/windows.h"

#include <math.h>
#include <stdbool.h>

enum {
    NOWHERE = 0xffff /* no place: a window has at most 255 x 255 pixels */
};

/* The part of a window that lies in the map. */
struct window {
    ptrdiff_t first, row, pixel; /* where it begins; distances of rows and pixels */
    int32_t height, width, kernel_w;
};

INLINE struct window window_at(const struct nin__op *op, struct cpu_extent rows, int32_t w)
{
    struct cpu_extent columns = nin__cpu_window(w, op->kernel_w, op, op->in.w);
    ptrdiff_t row = (ptrdiff_t)op->in.w * op->in.c;

    return (struct window){.first = rows.first * row + (ptrdiff_t)columns.first * op->in.c,
                           .row = row,
                           .pixel = op->in.c,
                           .height = rows.end - rows.first,
                           .width = columns.end - columns.first,
                           .kernel_w = op->kernel_w};
}

/* ---- forward ------------------------------------------------------------------------------ */

/* The maximum of a window for one channel, and its place: the first of equals; NaN wins and
 * stays. */
INLINE float max_channel(struct window window, const float *x, int32_t *place)
{
    float largest = -INFINITY;

    *place = 0;
    for (int32_t r = 0; r < window.height; r++)
        for (int32_t s = 0; s < window.width; s++) {
            float v = x[r * window.row + s * window.pixel];

            if (v > largest || v != v) {
                largest = v;
                *place = r * window.kernel_w + s;
            }
        }
    return largest;
}

/* The same for a vector of them. */
INLINE vector max_channels(struct window window, const float *x, mask *place)
{
    vector largest = spread(-INFINITY);
    mask at = {0};

    for (int32_t r = 0; r < window.height; r++)
        for (int32_t s = 0; s < window.width; s++) {
            vector v = load(x + r * window.row + s * window.pixel);
            lanes over = takes_over(v, largest);

            largest = choose(over, v, largest);
            at = choose_place(over, r * window.kernel_w + s, at);
        }
    *place = at;
    return largest;
}

/* Channel i of a row, from its maximum. */
INLINE void finish_channel(const struct cpu_pooling *p, ptrdiff_t i, float y, int32_t place)
{
    bool kept = p->keep == NULL || p->keep[i] != 0;

    if (p->where != NULL)
        p->where[i] = kept && (!p->gates || y > 0.0f) ? (uint16_t)place : (uint16_t)NOWHERE;
    if (p->keep != NULL)
        y = kept ? y * p->op->keep_scale : 0.0f;
    p->y[i] = y;
}

/* Channels from i on. */
INLINE void finish_channels(const struct cpu_pooling *p, ptrdiff_t i, vector y, mask place)
{
    const vector nowhere = (vector)((mask){0} + NOWHERE);

    if (p->gates)
        place = (mask)choose(positive(y), (vector)place, nowhere);
    if (p->keep != NULL) {
        lanes kept = marked(p->keep + i);

        place = (mask)choose(kept, (vector)place, nowhere);
        y = choose(kept, y * spread(p->op->keep_scale), (vector){0});
    }
    if (p->where != NULL)
        store_places(p->where + i, place);
    store(p->y + i, y);
}

static void max_pool_row(const struct cpu_pooling *pooling, int32_t row)
{
    const struct cpu_pooling p = *pooling;
    const struct nin__op op = *p.op; /* in registers: nothing stored can change it */
    struct cpu_extent rows = nin__cpu_window(row, op.kernel_h, &op, op.in.h);
    ptrdiff_t at = 0;

    for (int32_t w = 0; w < op.out.w; w++, at += op.in.c) {
        struct window window = window_at(&op, rows, w);
        const float *x = p.x + window.first;
        int32_t c = 0, place;
        mask places;

        for (; c + WIDTH <= op.in.c; c += WIDTH) {
            vector y = max_channels(window, x + c, &places);

            finish_channels(&p, at + c, y, places);
        }
        for (; c < op.in.c; c++) {
            float y = max_channel(window, x + c, &place);

            finish_channel(&p, at + c, y, place);
        }
    }
}

/* ---- backward ----------------------------------------------------------------------------- */

/* What a window of dx gets of its gradient, at the places of its channels. */
INLINE void unpool_window(struct window window, int32_t channels, const float *dy, float scale,
                          const uint16_t *where, float *dx)
{
    int32_t c = 0;

    dx += window.first;
    for (; c + WIDTH <= channels; c += WIDTH) {
        shorts at = load_places(where + c);
        vector gradient = load(dy + c) * spread(scale);

        for (int32_t r = 0; r < window.height; r++)
            for (int32_t s = 0; s < window.width; s++) {
                float *pixel = dx + r * window.row + s * window.pixel + c;
                uint16_t place = (uint16_t)(r * window.kernel_w + s);

                store(pixel, load(pixel) + at_place(at, place, gradient));
            }
    }
    for (; c < channels; c++)
        if (where[c] != NOWHERE)
            dx[where[c] / window.kernel_w * window.row + where[c] % window.kernel_w * window.pixel +
               c] += dy[c] * scale;
}

/* Windows come in their order; a row of dx is cleared before the first one that sees it. */
static void max_unpool(const struct nin__op *given, const float *dy, const uint16_t *where,
                       float *dx)
{
    const struct nin__op op = *given; /* in registers: nothing stored can change it */
    float scale = op.drop ? op.keep_scale : 1.0f;
    size_t row = (size_t)op.in.w * (size_t)op.in.c, cleared = 0;

    for (int32_t h = 0; h < op.out.h; h++) {
        struct cpu_extent rows = nin__cpu_window(h, op.kernel_h, &op, op.in.h);
        size_t end = h == op.out.h - 1 ? (size_t)op.in.h : (size_t)rows.end;

        memset(dx + cleared * row, 0, (end - cleared) * row * sizeof *dx);
        cleared = end;
        for (int32_t w = 0; w < op.out.w; w++, dy += op.in.c, where += op.in.c)
            unpool_window(window_at(&op, rows, w), op.in.c, dy, scale, where, dx);
    }
}

#endif
