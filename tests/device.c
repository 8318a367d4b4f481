/* SPDX-License-Identifier: MIT */
#include "device.h"

#include "test.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

bool device_is_cuda(void)
{
    const char *name = getenv("NIN_TEST_DEVICE");

    return name != NULL && strcmp(name, "cuda") == 0;
}

static nin_context *open_cuda(void)
{
    nin_context *context = NULL;

    if (nin_context_create(&context, NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CUDA)) !=
        NIN_OK)
        fprintf(stderr, "NIN_TEST_DEVICE=cuda: %s\n", nin_last_error());
    return context;
}

/* In a process of its own: one that has used CUDA must not fork, as Check does. */
static bool try_cuda(void)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        nin_context *context = open_cuda();

        nin_context_destroy(context);
        _exit(context == NULL);
    }
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

/* All tests in this process: the driver's context stays for all of them, for making it takes longer
 * than most. */
static bool keep_cuda(void)
{
    static nin_context *kept;

    kept = open_cuda();
    return kept != NULL;
}

/* No module is in a folder that is none: a GPU of this machine is not what is tested. */
bool device_choose(void)
{
    const char *forks = getenv("CK_FORK");

    if (device_is_cuda())
        return forks != NULL && strcmp(forks, "no") == 0 ? keep_cuda() : try_cuda();
    return setenv("NIN_MODULE_DIR", "/dev/null", 1) == 0;
}

bool device_has(nin_algorithm algorithm)
{
    return !device_is_cuda() || algorithm != NIN_ALGORITHM_FFT;
}

/* ---- modules -------------------------------------------------------------------------------- */

const char *folder_of(const char *name)
{
    static char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path / 2);

    ck_assert_int_gt(length, 0);
    path[length] = '\0';
    sprintf(strrchr(path, '/'), "/modules/%s", name);
    return path;
}

void use_module(const char *name)
{
    ck_assert_int_eq(setenv("NIN_MODULE_DIR", folder_of(name), 1), 0);
}

void use_a_device_module(void)
{
    if (!device_is_cuda())
        use_module("stand_in");
}

void find_in(void *library, void *function, const char *name)
{
    void *symbol = dlsym(library, name);

    ck_assert_msg(symbol != NULL, "%s", name);
    memcpy(function, &symbol, sizeof symbol);
}

void find_function(void *function, const char *name)
{
    char path[4200];
    void *library;

    snprintf(path, sizeof path, "%s/libnin_cuda.so", folder_of("stand_in"));
    library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    ck_assert_ptr_nonnull(library);
    find_in(library, function, name);
}

int alive(void)
{
    int (*function)(void);

    find_function(&function, "stand_in_alive");
    return function();
}
