/* SPDX-License-Identifier: MIT */
#ifndef NIN__MODULE_H
#define NIN__MODULE_H

/* A backend that is opened at run time, because what it needs is not on every machine:
 * libnin_cuda.so.
 *
 * It is looked for in the folder that the environment variable NIN_MODULE_DIR names, else beside
 * libnin itself, and nowhere else: never in the current directory. Numbers are looked at before
 * anything is called: libnin takes modules of its own version and tables alone. */

#include "core/backend.h"

#include <nin/device.h>

/* What libnin lends a module, which cannot see its inner functions. */
struct nin__services {
    size_t size;
    nin_status (*fail)(nin_status status, const char *sentence);
};

struct nin__module {
    uint32_t abi; /* NIN__BACKEND_ABI; first, and so for ever */
    uint32_t size;
    uint32_t backend_size;
    uint32_t program_size; /* of an op: what a program is made of */
    char version[16];      /* of libnin */

    /* To be called first. */
    void (*use)(const struct nin__services *services);

    /* How many devices there are, at least 1: an entry that says why there is none. */
    int32_t (*count)(void);
    void (*describe)(nin_device_info *info, int32_t index);
    const struct nin__backend *backend;
};

#define NIN__MODULE_SYMBOL "nin__module"

/* The CUDA module, or NULL and why it cannot be had: a sentence that lives as long as the
 * process. */
const struct nin__module *nin__module_cuda(const char **why);

#endif
