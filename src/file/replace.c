/* SPDX-License-Identifier: MIT */
#define _XOPEN_SOURCE 700 /* realpath */
#include "file/replace.h"

#include "core/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    NAME_TRIES = 100,
    SUFFIX_SIZE = 32
};

static nin_status fail(const char *what)
{
    return nin__fail(NIN_IO, "%s: %s", what, strerror(errno));
}

/* Renaming would put a regular file in the place of anything, even of /dev/null. */
static nin_status check_place(const char *path)
{
    struct stat status;

    if (*path == '\0')
        return nin__fail(NIN_IO, "an empty name");
    if (stat(path, &status) != 0 || S_ISREG(status.st_mode))
        return NIN_OK;
    return nin__fail(NIN_IO, "%s: it would be replaced",
                     S_ISDIR(status.st_mode) ? "is a folder" : "is no regular file");
}

/* A name that no other process and thread takes at the same time; O_EXCL decides if one does. */
static void name_temporary(struct nin__replacement *replacement, size_t length, unsigned attempt)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(replacement->temporary + length, SUFFIX_SIZE, ".%08lx%06lx.tmp",
             ((unsigned long)now.tv_nsec + attempt) & 0xfffffffful,
             (unsigned long)getpid() & 0xfffffful);
}

/* The file behind the symbolic links, or the path itself where there is none yet. */
static char *resolve(const char *path)
{
    char *target = realpath(path, NULL);

    return target != NULL || errno == ENOMEM ? target : strdup(path);
}

/* A new file for the owner's umask; in the place of an old one with that one's mode. */
static void open_temporary(struct nin__replacement *replacement, size_t length)
{
    struct stat old;

    for (unsigned attempt = 0; attempt < NAME_TRIES && replacement->file < 0; attempt++) {
        name_temporary(replacement, length, attempt);
        replacement->file = open(replacement->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                                 S_IRUSR | S_IWUSR | S_IRGRP | S_IWGRP | S_IROTH | S_IWOTH);
        if (replacement->file < 0 && errno != EEXIST && errno != EINTR)
            return;
    }
    /* a file system that knows no modes is left at that */
    if (replacement->file >= 0 && stat(replacement->target, &old) == 0 &&
        fchmod(replacement->file, old.st_mode & 0777) != 0)
        errno = 0;
}

static void free_names(struct nin__replacement *replacement)
{
    free(replacement->target);
    free(replacement->temporary);
}

nin_status nin__replacement_begin(struct nin__replacement *replacement, const char *path)
{
    size_t length;

    NIN__TRY(check_place(path));
    *replacement = (struct nin__replacement){.target = resolve(path), .file = -1};
    if (replacement->target == NULL)
        return nin__no_memory("a file name");
    length = strlen(replacement->target);
    replacement->temporary = malloc(length + SUFFIX_SIZE);
    if (replacement->temporary == NULL) {
        free_names(replacement);
        return nin__no_memory("a file name");
    }
    memcpy(replacement->temporary, replacement->target, length);
    open_temporary(replacement, length);
    if (replacement->file >= 0)
        return NIN_OK;
    fail("cannot create a file beside it");
    free_names(replacement);
    return NIN_IO;
}

nin_status nin__replacement_write(struct nin__replacement *replacement, const void *bytes,
                                  size_t count)
{
    const char *next = bytes;

    while (count > 0) {
        ssize_t written = write(replacement->file, next, count);

        if (written < 0 && errno != EINTR)
            return fail("cannot write");
        if (written == 0)
            return nin__fail(NIN_IO, "cannot write: nothing is taken any more");
        if (written > 0) {
            next += written;
            count -= (size_t)written;
        }
    }
    return NIN_OK;
}

static int sync_file(int file)
{
    int result;

    do
        result = fsync(file);
    while (result != 0 && errno == EINTR);
    return result;
}

/* Without this the new name may be lost with the power, though not the old file. A folder that may
 * be written but not read, or a file system that cannot sync folders, is left at that. */
static nin_status sync_folder(const struct nin__replacement *replacement)
{
    char *end = strrchr(replacement->temporary, '/'), *name = replacement->temporary;
    nin_status status = NIN_OK;
    int folder;

    if (end == NULL)
        strcpy(name, ".");
    else
        end[end == name] = '\0';
    folder = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return errno == EACCES ? NIN_OK : fail("written, but its folder cannot be opened to sync");
    if (sync_file(folder) != 0 && errno != EINVAL && errno != ENOTSUP)
        status = fail("written, but its folder cannot be synced");
    close(folder);
    return status;
}

/* Sync, close and rename, in this order: the name must not be there before its bytes are. */
static nin_status publish(struct nin__replacement *replacement)
{
    int file = replacement->file;

    if (sync_file(file) != 0)
        return fail("cannot sync");
    replacement->file = -1;
    if (close(file) != 0 && errno != EINTR)
        return fail("cannot close");
    if (rename(replacement->temporary, replacement->target) != 0)
        return fail("cannot rename the file beside it");
    return NIN_OK;
}

nin_status nin__replacement_finish(struct nin__replacement *replacement)
{
    nin_status status = publish(replacement);

    if (status != NIN_OK) {
        nin__replacement_abandon(replacement);
        return status;
    }
    status = sync_folder(replacement);
    free_names(replacement);
    return status;
}

void nin__replacement_abandon(struct nin__replacement *replacement)
{
    if (replacement->file >= 0)
        close(replacement->file);
    unlink(replacement->temporary);
    free_names(replacement);
}
