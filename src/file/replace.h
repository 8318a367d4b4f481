/* SPDX-License-Identifier: MIT */
#ifndef NIN__REPLACE_H
#define NIN__REPLACE_H

/* A file that is written beside its place and moves there when it is complete: whoever opens the
 * path, after whatever has happened, finds the whole new file or the old one. */

#include <nin/status.h>

#include <stddef.h>

struct nin__replacement {
    char *target;    /* PATH without symbolic links: the file that is replaced */
    char *temporary; /* PATH.NUMBER.tmp */
    int file;
};

/* begin, write as often as there is something, then finish or abandon. finish is over whether it
 * fails or not; a failed begin needs neither. Failures leave the old file, and no temporary one;
 * but when finish cannot sync the folder, the new file is in place already, and its sentence says
 * "written". */
nin_status nin__replacement_begin(struct nin__replacement *replacement, const char *path);
nin_status nin__replacement_write(struct nin__replacement *replacement, const void *bytes,
                                  size_t count);
nin_status nin__replacement_finish(struct nin__replacement *replacement);
void nin__replacement_abandon(struct nin__replacement *replacement);

#endif
