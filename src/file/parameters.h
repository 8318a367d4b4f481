/* SPDX-License-Identifier: MIT */
#ifndef NIN__PARAMETERS_H
#define NIN__PARAMETERS_H

/* An arena as tensors of a file: LAYER.weight and LAYER.bias, with a suffix for arenas that are not
 * the parameters themselves. Layers' names have no fixed end, so a suffix keeps all names apart. */

#include "core/network.h"
#include "file/safetensors.h"

#define NIN__PARAMETERS ""
#define NIN__MOMENTUM ".momentum"

/* Adds the whole arena, host memory that is borrowed until the bundle is freed. */
void nin__parameters_add(struct nin__bundle *bundle, const nin_network *network, const char *suffix,
                         const float *arena);

/* Whether the file has all tensors of these layers: type and shape. The layers need class, name,
 * in, the fields that describe them, and the numbers of their parameters. */
nin_status nin__parameters_check(const struct nin__safetensors *file,
                                 const struct nin_layer *layers, int32_t count, const char *suffix);

/* Reads them into a new arena in host memory, to be freed. */
nin_status nin__parameters_read(float **out, const struct nin__safetensors *file,
                                const nin_network *network, const char *suffix);

#endif
