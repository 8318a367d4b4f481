/* SPDX-License-Identifier: MIT */
#define _XOPEN_SOURCE 700 /* realpath */

#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SUFFIX = 32, /* room for what is behind a temporary file's name */
    TRIES = 100,
};

/* The suffix is longer than the one of libnin's own temporary files: where this name is not too
 * long, theirs are not. */
static int create(struct output *output)
{
    size_t length = strlen(output->target);
    int file = -1;

    for (int i = 0; i < TRIES && (file < 0 && (i == 0 || errno == EEXIST)); i++) {
        snprintf(output->temporary + length, SUFFIX, ".%013ld-%02d.tmp", (long)getpid(), i);
        file = open(output->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    }
    return file;
}

static int name_files(struct output *output, const char *path)
{
    output->target = realpath(path, NULL);
    if (output->target == NULL)
        output->target = strdup(path); /* there is none yet */
    output->temporary = output->target != NULL ? malloc(strlen(output->target) + SUFFIX) : NULL;
    if (output->temporary == NULL)
        return 0;
    strcpy(output->temporary, output->target);
    return 1;
}

static void free_names(struct output *output)
{
    free(output->target);
    free(output->temporary);
}

int output_open(struct output *output, const char *path)
{
    struct stat old;
    int file = -1;

    *output = (struct output){0};
    if (name_files(output, path))
        file = create(output);
    if (file >= 0 && stat(output->target, &old) == 0)
        (void)!fchmod(file, old.st_mode & 0777); /* the old file's mode, where there are modes */
    output->file = file >= 0 ? fdopen(file, "w") : NULL;
    if (output->file != NULL)
        return 0;

    int why = errno;
    if (file >= 0) {
        close(file);
        unlink(output->temporary);
    }
    free_names(output);
    return why;
}

int output_close(struct output *output)
{
    int failed = ferror(output->file) ? EIO : 0;

    if (fclose(output->file) != 0)
        failed = errno;
    if (failed == 0 && rename(output->temporary, output->target) != 0)
        failed = errno;
    if (failed != 0)
        unlink(output->temporary);
    free_names(output);
    return failed;
}

const char *output_check(const char *path)
{
    struct output output;
    struct stat found;

    if (stat(path, &found) == 0 && !S_ISREG(found.st_mode))
        return S_ISDIR(found.st_mode) ? "it is a folder" : "it is no regular file";
    int failed = output_open(&output, path);
    if (failed != 0)
        return strerror(failed);
    fclose(output.file);
    unlink(output.temporary);
    free_names(&output);
    return NULL;
}
