/* SPDX-License-Identifier: MIT */
/* A table of another size. */
#include "module.h"

const struct nin__module nin__module = {.abi = NIN__BACKEND_ABI,
                                        .size = sizeof nin__module + 8,
                                        .backend_size = sizeof(struct nin__backend),
                                        .program_size = sizeof(struct nin__op),
                                        .version = NIN_VERSION_TEXT,
                                        MODULE_FIELDS};
