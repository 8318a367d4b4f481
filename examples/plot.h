/* SPDX-License-Identifier: MIT */
#ifndef PLOT_H
#define PLOT_H

/* The curve of a training run, as numbers and as a picture. */

#include <nin/nin.h>

/* In percent, of an epoch that was tested. */
double plot_test_error(const nin_epoch_info *epoch);

/* The last and the best tested epoch (test_count 0: there is none). Returns the seconds of all. */
double plot_read(nin_epoch_info *last, nin_epoch_info *best, const nin_trainer *trainer);

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
