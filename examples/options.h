/* SPDX-License-Identifier: MIT */
#ifndef OPTIONS_H
#define OPTIONS_H

/* What the command line of mnist_nin says. */

#include <nin/nin.h>

#include <stdio.h>

enum recipe {
    RECIPE_QUICK = 0,
    RECIPE_REFERENCE = 1,
};

/* Names are NULL where the command line has none; they point into it, or live as long as the
 * program. */
struct options {
    const char *data;
    enum recipe recipe;
    int32_t epochs; /* 0: the recipe's own end */
    int32_t batch;
    int32_t threads;
    uint32_t seed;
    nin_device device;
    nin_precision precision;
    const char *save;
    const char *checkpoint;
    const char *resume;
    const char *curve;
    const char *plot;
    int quiet;
    int argc; /* of the command line itself, for options_print_resume */
    char **argv;
};

/* Reads the command line. On --help it prints and ends the program with status 0, on a mistake with
 * status 2. */
void options_read(struct options *options, int argc, char **argv);

/* As --precision has it. */
const char *options_precision(const struct options *options);

/* Whether all output files can be made, tried out: better known now than after hours. If not, says
 * so on standard error and returns 0. */
int options_check_files(const struct options *options);

/* Prints the command that goes on from options->checkpoint, quoted for a shell. */
void options_print_resume(const struct options *options, FILE *file);

#endif
