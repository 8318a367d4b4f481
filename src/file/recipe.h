/* SPDX-License-Identifier: MIT */
#ifndef NIN__RECIPE_H
#define NIN__RECIPE_H

/* What a run is, apart from where it is: all that its bits follow from, beside the network and the
 * seed. A checkpoint is taken only by a trainer of which all this is equal. */

#include "core/trainer.h"

#include <jansson.h>

/* NULL if there is no memory. The first time it reads the whole data set, for its hash. */
json_t *nin__recipe_describe(const nin_trainer *trainer);

/* Fails with NIN_MISMATCH and names the first thing in which the file's run is not ours.
 *   what  names what is compared; may be "" */
nin_status nin__recipe_compare(const json_t *ours, const json_t *theirs, const char *what);

#endif
