/* SPDX-License-Identifier: MIT */
/*
 * An IDX file: two zero bytes, a byte for the type (8: unsigned bytes), a byte for the number of
 * dimensions, each dimension as four bytes, the highest first, then the elements and nothing else.
 *
 * Files are not trusted. Memory grows with what has been read, never ahead of it to what the header
 * announces; and since zlib compares its check sum when it meets the end of the file, each file is
 * read to its end.
 */
#include "data/dataset.h"

#include "core/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define MAX_DIMS 4
#define TYPE_U8 8

#define FIRST_ROOM ((size_t)1 << 20) /* bytes that a header gets on trust */
#define MAX_READ ((size_t)1 << 30)   /* gzread counts in int */

struct kind {
    const char *name;
    const char *starts; /* the same as the next two, for people */
    int min_dims;
    int max_dims;
};

static const struct kind images_kind = {"images", "00 00 08 03 or 00 00 08 04", 3, 4};
static const struct kind labels_kind = {"labels", "00 00 08 01", 1, 1};

struct idx {
    const char *path;
    gzFile file;
    size_t got;    /* bytes that have been read */
    size_t wanted; /* bytes that the file should have, as far as is known */
    int dims;
    int32_t shape[MAX_DIMS];
    unsigned char *elements; /* owned */
};

static nin_status check_regular(const char *path, int file)
{
    struct stat found;

    if (fstat(file, &found) != 0)
        return nin__fail(NIN_IO, "idx '%s': %s", path, strerror(errno));
    if (S_ISREG(found.st_mode))
        return NIN_OK;
    return nin__fail(NIN_IO, "idx '%s': is a %s, no regular file", path,
                     S_ISDIR(found.st_mode) ? "directory" : "device or pipe");
}

/* O_NONBLOCK, because a pipe that nobody writes to would keep us here. */
static nin_status open_file(struct idx *idx)
{
    const int file = open(idx->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    nin_status status;

    if (file < 0)
        return nin__fail(errno == ENOMEM ? NIN_OUT_OF_MEMORY : NIN_IO, "idx '%s': %s", idx->path,
                         strerror(errno));
    status = check_regular(idx->path, file);
    if (status == NIN_OK) {
        idx->file = gzdopen(file, "rb"); /* takes the file over */
        if (idx->file != NULL)
            return NIN_OK;
        status = nin__fail(NIN_OUT_OF_MEMORY, "idx '%s': no memory to open it", idx->path);
    }
    close(file);
    return status;
}

/* What zlib thinks after it has read less than it was asked for. */
static nin_status check_stream(const struct idx *idx)
{
    int code = Z_OK;

    (void)gzerror(idx->file, &code);
    switch (code) {
    case Z_OK:
        return NIN_OK;
    case Z_ERRNO:
        return nin__fail(NIN_IO, "idx '%s': %s", idx->path, strerror(errno));
    case Z_MEM_ERROR:
        return nin__fail(NIN_OUT_OF_MEMORY, "idx '%s': no memory to decompress it", idx->path);
    case Z_BUF_ERROR:
        return nin__fail(NIN_BAD_FORMAT, "idx '%s': the compressed data end too early", idx->path);
    default:
        return nin__fail(NIN_BAD_FORMAT,
                         "idx '%s': the compressed data are damaged, or their check sum is wrong",
                         idx->path);
    }
}

static nin_status read_bytes(struct idx *idx, unsigned char *target, size_t bytes)
{
    while (bytes > 0) {
        const int got = gzread(idx->file, target, (unsigned)(bytes < MAX_READ ? bytes : MAX_READ));

        if (got <= 0) {
            NIN__TRY(check_stream(idx));
            return nin__fail(NIN_BAD_FORMAT, "idx '%s': too short, %zu bytes instead of %zu",
                             idx->path, idx->got, idx->wanted);
        }
        target += got;
        bytes -= (size_t)got;
        idx->got += (size_t)got;
    }
    return NIN_OK;
}

static nin_status read_dims(struct idx *idx, const struct kind *kind)
{
    unsigned char magic[4];

    idx->wanted = sizeof magic;
    NIN__TRY(read_bytes(idx, magic, sizeof magic));
    idx->dims = magic[3];
    if (magic[0] != 0 || magic[1] != 0 || magic[2] != TYPE_U8 || idx->dims < kind->min_dims ||
        idx->dims > kind->max_dims)
        return nin__fail(NIN_BAD_FORMAT,
                         "idx '%s': starts with %02x %02x %02x %02x; a file of %s starts with %s",
                         idx->path, magic[0], magic[1], magic[2], magic[3], kind->name,
                         kind->starts);
    return NIN_OK;
}

static nin_status read_shape(struct idx *idx, size_t *elements)
{
    unsigned char bytes[4 * MAX_DIMS];
    const size_t size = 4 * (size_t)idx->dims;

    *elements = 1;
    idx->wanted += size;
    NIN__TRY(read_bytes(idx, bytes, size));
    for (int i = 0; i < idx->dims; i++) {
        const unsigned char *b = bytes + 4 * i;
        const uint32_t length =
            (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];

        if (length < 1 || length > INT32_MAX)
            return nin__fail(NIN_BAD_FORMAT, "idx '%s': dimension %d is %lu; each is 1 to %d",
                             idx->path, i, (unsigned long)length, INT32_MAX);
        if (length > (size_t)(PTRDIFF_MAX - 64) / *elements) /* 64: more than the header */
            return nin__fail(NIN_BAD_FORMAT,
                             "idx '%s': dimension %d is %lu; so large a file is impossible",
                             idx->path, i, (unsigned long)length);
        idx->shape[i] = (int32_t)length;
        *elements *= length;
    }
    return NIN_OK;
}

static nin_status read_elements(struct idx *idx, size_t elements)
{
    idx->wanted += elements;
    for (size_t filled = 0; filled < elements;) {
        const size_t left = elements - filled;
        const size_t twice = filled < FIRST_ROOM ? FIRST_ROOM : filled;
        const size_t more = twice < left ? twice : left;
        unsigned char *grown = realloc(idx->elements, filled + more);

        if (grown == NULL)
            return nin__fail(NIN_OUT_OF_MEMORY, "idx '%s': no memory for %zu bytes", idx->path,
                             filled + more);
        idx->elements = grown;
        NIN__TRY(read_bytes(idx, grown + filled, more));
        filled += more;
    }
    return NIN_OK;
}

static nin_status check_end(const struct idx *idx)
{
    unsigned char extra;

    if (gzread(idx->file, &extra, 1) > 0)
        return nin__fail(NIN_BAD_FORMAT,
                         "idx '%s': too long, more bytes than the %zu that its dimensions need",
                         idx->path, idx->wanted);
    return check_stream(idx);
}

static nin_status read_open_file(struct idx *idx, const struct kind *kind)
{
    size_t elements;

    (void)gzbuffer(idx->file, 1 << 17); /* for speed only */
    NIN__TRY(read_dims(idx, kind));
    NIN__TRY(read_shape(idx, &elements));
    NIN__TRY(read_elements(idx, elements));
    return check_end(idx);
}

/* On success idx->elements is the caller's. */
static nin_status read_file(struct idx *idx, const char *path, const struct kind *kind)
{
    *idx = (struct idx){.path = path};
    NIN__TRY(open_file(idx));

    nin_status status = read_open_file(idx, kind);
    const int closed = gzclose(idx->file);
    if (status == NIN_OK && closed != Z_OK)
        status = nin__fail(NIN_IO, "idx '%s': closing it failed (zlib's code %d)", path, closed);
    if (status != NIN_OK)
        free(idx->elements);
    return status;
}

static nin_status load_images(nin_dataset *dataset, const char *path)
{
    struct idx idx;

    NIN__TRY(read_file(&idx, path, &images_kind));
    /* N x H x W or N x C x H x W */
    const int32_t *size = idx.shape + (idx.dims - 2);
    dataset->info = (nin_dataset_info){.struct_size = sizeof dataset->info,
                                       .count = idx.shape[0],
                                       .channels = idx.dims == 4 ? idx.shape[1] : 1,
                                       .height = size[0],
                                       .width = size[1],
                                       .dtype = NIN_U8};
    dataset->image_bytes = (size_t)dataset->info.channels * (size_t)size[0] * (size_t)size[1];
    dataset->images = dataset->owned_images = idx.elements;
    return NIN_OK;
}

static nin_status take_labels(nin_dataset *dataset, const struct idx *idx)
{
    const size_t count = (size_t)idx->shape[0];
    int32_t *labels = calloc(count, sizeof *labels);

    if (labels == NULL)
        return nin__fail(NIN_OUT_OF_MEMORY, "idx '%s': no memory for %zu labels", idx->path, count);
    for (size_t i = 0; i < count; i++) {
        labels[i] = idx->elements[i];
        if (labels[i] >= dataset->info.classes)
            dataset->info.classes = labels[i] + 1;
    }
    dataset->labels = dataset->owned_labels = labels;
    return NIN_OK;
}

static nin_status load_labels(nin_dataset *dataset, const char *path, const char *images)
{
    struct idx idx;

    NIN__TRY(read_file(&idx, path, &labels_kind));
    const nin_status status =
        idx.shape[0] == dataset->info.count
            ? take_labels(dataset, &idx)
            : nin__fail(NIN_BAD_FORMAT, "idx '%s': %d labels for the %d images of '%s'", path,
                        (int)idx.shape[0], (int)dataset->info.count, images);
    free(idx.elements);
    return status;
}

nin_status nin_dataset_create_idx(nin_dataset **out, const char *images, const char *labels)
{
    NIN__NEED(out);
    NIN__NEED(images);
    NIN__NEED(labels);

    nin_dataset *dataset = calloc(1, sizeof *dataset);
    if (dataset == NULL)
        return nin__no_memory("a data set");
    nin_status status = load_images(dataset, images);
    if (status == NIN_OK)
        status = load_labels(dataset, labels, images);
    if (status != NIN_OK) {
        nin_dataset_destroy(dataset);
        return status;
    }
    *out = dataset;
    return NIN_OK;
}

/* FOLDER/PART-NAME if it exists, else the same with .gz behind it; owned by the caller. */
static nin_status find_file(char **out, const char *folder, const char *part, const char *name)
{
    const size_t room = strlen(folder) + strlen(part) + strlen(name) + sizeof "/-.gz";
    char *path = malloc(room);

    if (path == NULL)
        return nin__no_memory("a path");
    const int plain = snprintf(path, room, "%s/%s-%s", folder, part, name);
    if (access(path, F_OK) != 0) {
        strcpy(path + plain, ".gz");
        if (access(path, F_OK) != 0) {
            const nin_status status =
                nin__fail(NIN_IO, "mnist '%.*s': found neither plain nor with .gz: %s", plain, path,
                          strerror(errno));

            free(path);
            return status;
        }
    }
    *out = path;
    return NIN_OK;
}

nin_status nin_dataset_create_mnist(nin_dataset **out, const char *folder, const char *part)
{
    char *images = NULL;
    char *labels = NULL;

    NIN__NEED(out);
    NIN__NEED(folder);
    NIN__NEED(part);
    if (strcmp(part, "train") != 0 && strcmp(part, "t10k") != 0)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "nin_dataset_create_mnist: part '%s'; there are \"train\" and \"t10k\"",
                         part);

    nin_status status = find_file(&images, folder, part, "images-idx3-ubyte");
    if (status == NIN_OK)
        status = find_file(&labels, folder, part, "labels-idx1-ubyte");
    if (status == NIN_OK)
        status = nin_dataset_create_idx(out, images, labels);
    free(images);
    free(labels);
    return status;
}
