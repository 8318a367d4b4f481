/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* dladdr1, secure_getenv */
#include "core/module.h"

#include "core/error.h"

#include <nin/version.h>

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char file_name[] = "libnin_cuda.so";

/* Opened once for the process, and never closed: CUDA registers functions for its end. */
static struct {
    pthread_once_t once;
    const struct nin__module *module;
    char why[192];
} cuda = {.once = PTHREAD_ONCE_INIT};

static const struct nin__module *refuse(const char *format, const char *what)
{
    snprintf(cuda.why, sizeof cuda.why, format, what);
    return NULL;
}

/* ---- where it is ---------------------------------------------------------------------------- */

/* The file that this code is part of: libnin.so, or a program that is linked with libnin.a. */
static bool find_self(char path[PATH_MAX])
{
    struct link_map *map = NULL;
    ssize_t length;
    Dl_info info;

    if (dladdr1((const void *)&file_name, &info, (void **)&map, RTLD_DL_LINKMAP) == 0)
        return false;
    if (map != NULL && map->l_name[0] != '\0')
        return snprintf(path, PATH_MAX, "%s", map->l_name) < PATH_MAX;
    length = readlink("/proc/self/exe", path, PATH_MAX - 1); /* a program has no name of its own */
    if (length < 0)
        return false;
    path[length] = '\0';
    return true;
}

/* The folder without its last '/'; false if there is none, or it depends on the current directory. */
static bool find_folder(char folder[PATH_MAX])
{
    const char *named = secure_getenv("NIN_MODULE_DIR");

    if (named != NULL && *named != '\0')
        return named[0] == '/' && snprintf(folder, PATH_MAX, "%s", named) < PATH_MAX;
    if (!find_self(folder) || folder[0] != '/')
        return false;
    *strrchr(folder, '/') = '\0';
    return true;
}

/* ---- what it is ----------------------------------------------------------------------------- */

static const struct nin__module *check(const struct nin__module *module, const char *path)
{
    if (module == NULL)
        return refuse("'%.120s' is no module of libnin", path);
    if (module->abi != NIN__BACKEND_ABI)
        return refuse("'%.100s' has another ABI number than this libnin", path);
    if (module->size != sizeof *module || module->backend_size != sizeof *module->backend ||
        module->program_size != sizeof(struct nin__op) || module->backend == NULL ||
        module->backend->size != sizeof *module->backend ||
        module->backend->abi != NIN__BACKEND_ABI)
        return refuse("'%.100s' has tables of another size than this libnin", path);
    if (strncmp(module->version, nin_version_text(), sizeof module->version) != 0)
        return refuse("'%.100s' is of another version than this libnin", path);
    return module;
}

/* The loader names the library that is missing. */
static const struct nin__module *refuse_to_load(void)
{
    const char *error = dlerror();
    bool blas = error != NULL && strstr(error, "libcublas") != NULL;

    return refuse(blas ? "%.110s; install the cuBLAS runtime of CUDA 13" : "%.180s",
                  error == NULL ? "the loader gives no reason" : error);
}

static nin_status fail(nin_status status, const char *sentence)
{
    return nin__fail(status, "%s", sentence);
}

static const struct nin__services services = {.size = sizeof services, .fail = fail};

static const struct nin__module *load(void)
{
    char folder[PATH_MAX], path[PATH_MAX + sizeof file_name + 1];
    const struct nin__module *module;
    void *library;

    if (!find_folder(folder))
        return refuse("%s is looked for in absolute folders only; set NIN_MODULE_DIR", file_name);
    snprintf(path, sizeof path, "%s/%s", folder, file_name);
    if (access(path, F_OK) != 0)
        return refuse("there is no '%.150s'", path);
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return refuse_to_load();
    module = check(dlsym(library, NIN__MODULE_SYMBOL), path);
    if (module != NULL)
        module->use(&services);
    return module;
}

static void load_once(void)
{
    cuda.module = load();
}

const struct nin__module *nin__module_cuda(const char **why)
{
    pthread_once(&cuda.once, load_once);
    *why = cuda.why;
    return cuda.module;
}
