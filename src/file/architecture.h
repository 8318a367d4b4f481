/* SPDX-License-Identifier: MIT */
#ifndef NIN__ARCHITECTURE_H
#define NIN__ARCHITECTURE_H

/* A network's description as JSON: docs/file-format.md has the fields. */

#include "core/network.h"

#include <jansson.h>

/* NULL if there is no memory. */
json_t *nin__architecture_describe(const nin_network *network);

/* What a description has become: a builder that has taken all of it, and the layers with shapes and
 * numbers of parameters, so that a file can be compared with them before memory is taken for
 * them. */
struct nin__blueprint {
    nin_builder *builder;
    struct nin_layer *layers;
    int32_t count;
};

/* Fails with NIN_BAD_FORMAT, NIN_OUT_OF_MEMORY; there is nothing to free then. */
nin_status nin__architecture_read(struct nin__blueprint *out, nin_context *context,
                                  const char *text);
void nin__blueprint_free(struct nin__blueprint *blueprint);

#endif
