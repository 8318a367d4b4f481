/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_MODULE_H
#define NIN__CUDA_MODULE_H

/* What the backend's table needs of libnin. */
#include "core/module.h"

#include <nin/version.h>

void nin__cuda_use(const struct nin__services *services);

#endif
