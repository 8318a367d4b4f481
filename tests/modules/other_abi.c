/* SPDX-License-Identifier: MIT */
/* Another ABI number: of the rest nothing is known. */
#include "module.h"

const struct nin__module nin__module = {.abi = NIN__BACKEND_ABI + 1,
                                        .size = sizeof nin__module,
                                        .backend_size = sizeof(struct nin__backend),
                                        .program_size = sizeof(struct nin__op),
                                        .version = NIN_VERSION_TEXT,
                                        MODULE_FIELDS};
