/* SPDX-License-Identifier: MIT */
/* Another version, whose tables look the same. */
#include "module.h"

const struct nin__module nin__module = {.abi = NIN__BACKEND_ABI,
                                        .size = sizeof nin__module,
                                        .backend_size = sizeof(struct nin__backend),
                                        .program_size = sizeof(struct nin__op),
                                        .version = "9.9.9",
                                        MODULE_FIELDS};
