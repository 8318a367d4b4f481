/* SPDX-License-Identifier: MIT */
#include "files.h"

#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[256];

void make_folder(void)
{
    const char *base = getenv("TMPDIR");

    snprintf(folder, sizeof folder, "%s/nin-file-XXXXXX", base != NULL ? base : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

/* Unchecked fixtures run in the parent, so that the folder goes even when a test has crashed. */
void remove_folder(void)
{
    DIR *entries = opendir(folder);

    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            unlinkat(dirfd(entries), entry->d_name, 0) != 0)
            unlinkat(dirfd(entries), entry->d_name, AT_REMOVEDIR);
    if (entries != NULL)
        closedir(entries);
    rmdir(folder);
}

const char *in_folder(const char *name)
{
    static char paths[8][sizeof folder + 64];
    static unsigned next;
    char *path = paths[next++ % 8];

    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

int count_files(void)
{
    DIR *entries = opendir(folder);
    int count = 0;

    ck_assert_ptr_nonnull(entries);
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(entries);
    return count;
}

struct bytes read_bytes(const char *path)
{
    struct bytes bytes = {0};
    FILE *file = fopen(path, "rb");
    struct stat status;

    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fstat(fileno(file), &status), 0);
    bytes.count = (size_t)status.st_size;
    bytes.data = malloc(bytes.count + 1);
    ck_assert_uint_eq(fread(bytes.data, 1, bytes.count, file), bytes.count);
    fclose(file);
    return bytes;
}

const char *write_bytes(const char *path, const void *data, size_t count)
{
    FILE *file;

    unlink(path); /* some file systems sync a file that is cut and written again */
    file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, count, file), count);
    ck_assert_int_eq(fclose(file), 0);
    return path;
}

const char *write_crafted(const char *path, const char *header, size_t count)
{
    size_t length = strlen(header);
    unsigned char *all = calloc(8 + length + count, 1);

    for (int i = 0; i < 8; i++)
        all[i] = (unsigned char)(length >> 8 * i);
    memcpy(all + 8, header, length);
    write_bytes(path, all, 8 + length + count);
    free(all);
    return path;
}

size_t header_length(const struct bytes *bytes)
{
    size_t length = 0;

    for (int i = 0; i < 8; i++)
        length |= (size_t)bytes->data[i] << 8 * i;
    return length;
}

static char *header_text(const struct bytes *bytes)
{
    size_t length = header_length(bytes);
    char *text = malloc(length + 1);

    memcpy(text, bytes->data + 8, length);
    text[length] = '\0';
    return text;
}

const char *write_edited(const char *path, const struct bytes *bytes, const char *from,
                         const char *to)
{
    size_t length = header_length(bytes), rest = bytes->count - 8 - length;
    char *header = header_text(bytes), *place = strstr(header, from);
    char *edited = malloc(length + strlen(to) + 1);
    struct bytes written;

    ck_assert_msg(place != NULL, "no '%s' in %s", from, header);
    sprintf(edited, "%.*s%s%s", (int)(place - header), header, to, place + strlen(from));
    write_crafted(path, edited, rest);
    written = read_bytes(path);
    memcpy(written.data + written.count - rest, bytes->data + bytes->count - rest, rest);
    write_bytes(path, written.data, written.count);
    free(written.data);
    free(edited);
    free(header);
    return path;
}

void assert_same_files(const char *left, const char *right)
{
    struct bytes a = read_bytes(left), b = read_bytes(right);

    ck_assert_uint_eq(a.count, b.count);
    ck_assert_mem_eq(a.data, b.data, a.count);
    free(a.data);
    free(b.data);
}

nin_network *make_network(nin_context *context, int32_t filters)
{
    const nin_init_desc init = {sizeof init, NIN_INIT_NORMAL, NIN_INIT_FAN_IN, 0.05, 0.0};
    nin_builder *builder;
    nin_network *network;

    ASSERT_OK(nin_builder_create(&builder, context,
                                 NIN_DESC(nin_input_desc, .channels = 2, .height = 6, .width = 6,
                                          .scale = 1 / 127.5, .shift = -1.0)));
    nin_builder_conv2d(
        builder, "conv1",
        NIN_DESC(nin_conv2d_desc, .filters = filters, .kernel = 3, .pad = 1, .init = &init));
    nin_builder_relu(builder, "relu1");
    nin_builder_max_pool(builder, "pool1",
                         NIN_DESC(nin_pool_desc, .kernel = 3, .stride = 2, .round_up = 1));
    nin_builder_mlpconv(builder, "block",
                        NIN_DESC(nin_mlpconv_desc, .widths = (const int32_t[]){4, 3}, .count = 2));
    nin_builder_average_pool(
        builder, "pool2",
        NIN_DESC(nin_pool_desc, .kernel = 2, .stride = 1, .pad = 1, .exclude_padding = 1));
    nin_builder_dropout(builder, "drop", 0.1 + 0.2);
    nin_builder_conv2d(builder, "class", NIN_DESC(nin_conv2d_desc, .filters = 3, .no_bias = 1));
    nin_builder_global_average_pool(builder, "mean");
    nin_builder_softmax_loss(builder, "loss");
    ASSERT_OK(nin_builder_finish(&network, builder));
    nin_builder_destroy(builder);
    return network;
}

void assert_same_parameters(const nin_network *left, const nin_network *right)
{
    ck_assert_uint_eq(left->parameter_count, right->parameter_count);
    ck_assert_mem_eq(left->parameters, right->parameters,
                     left->parameter_count * sizeof *left->parameters);
}
