/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_KERNELS_POOL_H
#define NIN__CPU_KERNELS_POOL_H

/* Max pooling over NHWC maps, a row at a time. A place numbers the pixels of a window that lie in the map,
 * row by row, in rows of kernel_w. */

#include "cpu/kernels.h"
#include "cpu/kernels/vector.h"
#include "cpu/windows.h"

#include <math.h>

/* The maximum of a window for one channel, and its place: the first of equals; NaN wins and stays. */
INLINE void max_channel(const struct nin__op *op, const float *x, struct cpu_extent rows,
                        struct cpu_extent columns, float *y, uint16_t *where)
{
    *y = -INFINITY;
    *where = 0;
    for (int32_t r = rows.first; r < rows.end; r++)
        for (int32_t s = columns.first; s < columns.end; s++) {
            float v = x[((ptrdiff_t)r * op->in.w + s) * op->in.c];

            if (v > *y || v != v) {
                *y = v;
                *where = (uint16_t)((r - rows.first) * op->kernel_w + s - columns.first);
            }
        }
}

/* The same for a vector of them. */
INLINE void max_channels(const struct nin__op *op, const float *x, struct cpu_extent rows,
                         struct cpu_extent columns, float *y, uint16_t *where)
{
    vector largest = spread(-INFINITY);
    mask places = {0};

    for (int32_t r = rows.first; r < rows.end; r++)
        for (int32_t s = columns.first; s < columns.end; s++) {
            vector v = load(x + ((ptrdiff_t)r * op->in.w + s) * op->in.c);
            lanes over = takes_over(v, largest);

            largest = choose(over, v, largest);
            places =
                choose_place(over, (r - rows.first) * op->kernel_w + s - columns.first, places);
        }
    store(y, largest);
    store_places(where, places);
}

/* x: an image; y and where: a row of the output */
static void max_pool_row(const struct nin__op *given, const float *x, int32_t row, float *y,
                         uint16_t *where)
{
    const struct nin__op copy = *given,
                         *op = &copy; /* in registers: nothing stored can change it */
    struct cpu_extent rows = nin__cpu_window(row, op->kernel_h, op, op->in.h);
    int32_t channels = op->in.c;

    for (int32_t w = 0; w < op->out.w; w++, y += channels, where += channels) {
        struct cpu_extent columns = nin__cpu_window(w, op->kernel_w, op, op->in.w);
        int32_t c = 0;

        for (; c + WIDTH <= channels; c += WIDTH)
            max_channels(op, x + c, rows, columns, y + c, where + c);
        for (; c < channels; c++)
            max_channel(op, x + c, rows, columns, y + c, where + c);
    }
}

/* The windows that see one pixel of the input. */
struct view {
    struct cpu_extent rows, columns;
};

/* What pixel (h, w) of the input gets from the windows that see it, in their order, from channel c on:
 * a vector, or one channel. */
INLINE vector gather_channels(const struct nin__op *op, const float *dy, const uint16_t *where,
                              struct view view, int32_t h, int32_t w, int32_t c, const bool one)
{
    vector sum = {0};

    for (int32_t oy = view.rows.first; oy < view.rows.end; oy++) {
        int32_t down = (h - nin__cpu_window(oy, op->kernel_h, op, op->in.h).first) * op->kernel_w;

        for (int32_t ox = view.columns.first; ox < view.columns.end; ox++) {
            ptrdiff_t at = ((ptrdiff_t)oy * op->out.w + ox) * op->out.c + c;
            uint16_t place =
                (uint16_t)(down + w - nin__cpu_window(ox, op->kernel_w, op, op->in.w).first);

            if (!one)
                sum += at_place(where + at, place, load(dy + at));
            else if (where[at] == place)
                sum[0] += dy[at];
        }
    }
    return sum;
}

/* dy, where: an image; dx, gate: row h of the input; gate NULL or what dx is 0 for if not positive */
static void max_unpool_row(const struct nin__op *given, const float *dy, const uint16_t *where,
                           int32_t h, const float *gate_row, float *dx)
{
    const struct nin__op copy = *given,
                         *op = &copy; /* in registers: nothing stored can change it */
    struct view view = {.rows = nin__cpu_seen_by(h, op->kernel_h, op, op->out.h)};
    int32_t channels = op->in.c;

    for (int32_t w = 0; w < op->in.w; w++, dx += channels) {
        int32_t c = 0;

        view.columns = nin__cpu_seen_by(w, op->kernel_w, op, op->out.w);
        for (; c + WIDTH <= channels; c += WIDTH) {
            vector sum = gather_channels(op, dy, where, view, h, w, c, false);

            store(dx + c, gate_row == NULL ? sum : pass(load(gate_row + w * channels + c), sum));
        }
        for (; c < channels; c++) {
            float sum = gather_channels(op, dy, where, view, h, w, c, true)[0];

            dx[c] = gate_row == NULL || gate_row[w * channels + c] > 0.0f ? sum : 0.0f;
        }
    }
}

#endif
