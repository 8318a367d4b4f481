/* SPDX-License-Identifier: MIT */
#include "device.h"

#include <stdlib.h>
#include <string.h>

bool device_is_cuda(void)
{
    const char *name = getenv("NIN_TEST_DEVICE");

    return name != NULL && strcmp(name, "cuda") == 0;
}

/* No module is in a folder that is none: a GPU of this machine is not what is tested. */
void device_choose(void)
{
    if (!device_is_cuda())
        setenv("NIN_MODULE_DIR", "/dev/null", 1);
}

bool device_has(nin_algorithm algorithm)
{
    return !device_is_cuda() || algorithm == NIN_ALGORITHM_AUTO || algorithm == NIN_ALGORITHM_GEMM;
}
