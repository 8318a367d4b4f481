/* SPDX-License-Identifier: MIT */
#include "device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

bool device_is_cuda(void)
{
    const char *name = getenv("NIN_TEST_DEVICE");

    return name != NULL && strcmp(name, "cuda") == 0;
}

/* In a process of its own: one that has used CUDA must not fork, as Check does. */
static bool try_cuda(void)
{
    nin_context *context = NULL;
    int status;
    pid_t child = fork();

    if (child == 0) {
        if (nin_context_create(&context, NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CUDA)) !=
            NIN_OK) {
            fprintf(stderr, "NIN_TEST_DEVICE=cuda: %s\n", nin_last_error());
            _exit(1);
        }
        nin_context_destroy(context);
        _exit(0);
    }
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

/* No module is in a folder that is none: a GPU of this machine is not what is tested. */
bool device_choose(void)
{
    if (device_is_cuda())
        return try_cuda();
    return setenv("NIN_MODULE_DIR", "/dev/null", 1) == 0;
}

bool device_has(nin_algorithm algorithm)
{
    return !device_is_cuda() ||
           (algorithm != NIN_ALGORITHM_DIRECT && algorithm != NIN_ALGORITHM_FFT);
}
