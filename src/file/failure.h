/* SPDX-License-Identifier: MIT */
#ifndef NIN__FAILURE_H
#define NIN__FAILURE_H

/* Files are read by layers that do not know their path: each says what it knows, and the one above
 * puts where in front of it. */

#include <nin/status.h>

/* A failure becomes "WHERE: the last sentence". NIN_OK stays as it is. Of a long text the end. */
nin_status nin__fail_in(nin_status status, const char *where);

#endif
