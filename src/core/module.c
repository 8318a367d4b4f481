/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* secure_getenv */
#include "core/module.h"

#include "core/error.h"

#include <nin/version.h>

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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

/* The file that this code is part of, libnin.so or a program that is linked with libnin.a, as the
 * system has it mapped: whole, without links, whatever the current directory was or is. */
static bool find_self(char path[PATH_MAX])
{
    const unsigned long self = (unsigned long)(uintptr_t)file_name;
    char line[PATH_MAX + 128];
    FILE *maps = fopen("/proc/self/maps", "re");
    bool found = false;

    while (maps != NULL && !found && fgets(line, sizeof line, maps) != NULL) {
        unsigned long first, end;
        char *slash = strchr(line, '/');

        line[strcspn(line, "\n")] = '\0';
        found = slash != NULL && sscanf(line, "%lx-%lx", &first, &end) == 2 && first <= self &&
                self < end && snprintf(path, PATH_MAX, "%s", slash) < PATH_MAX;
    }
    if (maps != NULL)
        fclose(maps);
    return found;
}

/* The folder without its last '/'; false, with a reason, if there is none. */
static bool find_folder(char folder[PATH_MAX])
{
    const char *named = secure_getenv("NIN_MODULE_DIR");

    if (named == NULL || *named == '\0') {
        if (find_self(folder))
            *strrchr(folder, '/') = '\0';
        else
            refuse("%s is beside libnin, and where that is the system does not say", file_name);
        return cuda.why[0] == '\0';
    }
    if (named[0] != '/')
        refuse("NIN_MODULE_DIR does not begin with '/': '%.100s'", named);
    else if (snprintf(folder, PATH_MAX, "%s", named) >= PATH_MAX)
        refuse("NIN_MODULE_DIR is too long: '%.60s...'", named);
    return cuda.why[0] == '\0';
}

/* To open the module is to load cuBLAS, 150 MB of memory: not without a driver, unless it is asked
 * for by name. */
static bool is_worth_it(void)
{
    const char *named = secure_getenv("NIN_MODULE_DIR");

    return (named != NULL && *named != '\0') || dlopen("libcuda.so.1", RTLD_LAZY) != NULL;
}

/* The loader would wait for a pipe's other end. */
static bool is_file(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
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
        return NULL;
    snprintf(path, sizeof path, "%s/%s", folder, file_name);
    if (!is_file(path))
        return refuse("there is no file '%.150s'", path);
    if (!is_worth_it())
        return refuse("no NVIDIA driver on this machine (%s)", "libcuda.so.1 is not found");
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
