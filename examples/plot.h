/* SPDX-License-Identifier: MIT */
#ifndef PLOT_H
#define PLOT_H

/* The curve of a training run, as numbers and as a picture. */

#include <nin/nin.h>

/* Writes one line for each closed epoch. Returns 0, or an errno: the old file is then as it was. */
int plot_write_csv(const nin_trainer *trainer, const char *path);

enum plot_result {
    PLOT_DONE,
    PLOT_NO_GNUPLOT, /* it is not installed */
    PLOT_FAILED,     /* errno says why */
};

/* Draws the test error with gnuplot as a PNG. `reference`: with the axis of the reference
 * experiment, .32 to .92 %; else the axis fits the curve. What fails leaves the old file. */
enum plot_result plot_draw(const nin_trainer *trainer, const char *path, int reference);

#endif
