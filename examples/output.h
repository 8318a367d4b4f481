/* SPDX-License-Identifier: MIT */
#ifndef OUTPUT_H
#define OUTPUT_H

/* Files that are written as a whole or not at all: beside their place, then renamed. */

#include <stdio.h>

struct output {
    FILE *file;
    char *target;    /* where it goes: what a symbolic link leads to */
    char *temporary; /* where it is written */
};

/* Begins a file that is to replace `path`. Returns 0 or an errno. */
int output_open(struct output *output, const char *path);

/* Puts the file in its place, unless a write to it has failed: the old one then stays. Returns 0 or
 * an errno. */
int output_close(struct output *output);

/* Tries whether a file can be put there, by output_open or by libnin, without putting one. Returns
 * NULL, or the reason why not. */
const char *output_check(const char *path);

#endif
