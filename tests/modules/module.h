/* SPDX-License-Identifier: MIT */
#ifndef TESTS_MODULE_H
#define TESTS_MODULE_H

/* Modules that libnin has to refuse: each is the right one but for what its file says. */

#include "core/module.h"

#include <nin/version.h>

#include <stdlib.h>

static inline void use_nothing(const struct nin__services *services)
{
    (void)services;
    abort(); /* nobody may call what was refused */
}

static inline int32_t count_none(void)
{
    abort();
}

static inline void describe_none(nin_device_info *info, int32_t index)
{
    (void)info;
    (void)index;
    abort();
}

static const struct nin__backend no_backend = {.size = sizeof(struct nin__backend),
                                               .abi = NIN__BACKEND_ABI};

#define MODULE_FIELDS                                                                              \
    .use = use_nothing, .count = count_none, .describe = describe_none, .backend = &no_backend

extern const struct nin__module nin__module;

#endif
