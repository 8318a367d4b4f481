/* SPDX-License-Identifier: MIT */
#include "data/dataset.h"

#include <nin/dataset.h>

#include <check.h>
#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

Suite *data_suite(void);

/* ---- a folder for the files of a test ------------------------------------------------------- */

static char folder[256];

static void make_folder(void)
{
    const char *base = getenv("TMPDIR");

    snprintf(folder, sizeof folder, "%s/nin-data-XXXXXX", base != NULL ? base : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

/* The path of a file in the folder. It stays; the same name gives the same string. */
static const char *in_folder(const char *name)
{
    static char paths[32][sizeof folder + 64];
    char path[sizeof paths[0]];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        if (paths[i][0] == '\0')
            strcpy(paths[i], path);
        if (strcmp(paths[i], path) == 0)
            return paths[i];
    }
    ck_abort_msg("too many files");
    return NULL;
}

/* Unchecked fixtures run in the parent, so that the folder goes even when a test has crashed. */
static void remove_folder(void)
{
    DIR *entries = opendir(folder);

    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;)
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(entries), entry->d_name, 0);
    if (entries != NULL)
        closedir(entries);
    rmdir(folder);
}

static const char *write_file(const char *name, const void *bytes, size_t size)
{
    const char *path = in_folder(name);
    FILE *file = fopen(path, "wb");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
    return path;
}

static const char *write_gz(const char *name, const void *bytes, unsigned size)
{
    const char *path = in_folder(name);
    gzFile file = gzopen(path, "wb");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(gzwrite(file, bytes, size), (int)size);
    ck_assert_int_eq(gzclose(file), Z_OK);
    return path;
}

static size_t read_whole(const char *path, unsigned char *bytes, size_t room)
{
    FILE *file = fopen(path, "rb");

    ck_assert_ptr_nonnull(file);
    const size_t size = fread(bytes, 1, room, file);
    fclose(file);
    return size;
}

/* ---- a small data set, 3 images of 2 x 4, or 1 channel more in front ------------------------ */

#define PIXELS 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16, 17, 18, 255, 0, 9, 8, 7, 6, 5, 4

static const unsigned char pixels[] = {PIXELS};
static const unsigned char images_3d[] = {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 4, PIXELS};
static const unsigned char images_4d[] = {0, 0, 8, 4, 0, 0, 0, 3, 0, 0,     0,
                                          2, 0, 0, 0, 1, 0, 0, 0, 4, PIXELS};
static const unsigned char labels_1d[] = {0, 0, 8, 1, 0, 0, 0, 3, 7, 0, 255};
static const int32_t labels[] = {7, 0, 255};

static void check_info(const nin_dataset *dataset, int64_t count, const int32_t *shape,
                       nin_dtype dtype, int32_t classes)
{
    nin_dataset_info info = {.struct_size = sizeof info};

    ck_assert_int_eq(nin_dataset_describe(&info, dataset), NIN_OK);
    ck_assert_uint_eq(info.struct_size, sizeof info);
    ck_assert_int_eq(info.count, count);
    ck_assert_int_eq(info.channels, shape[0]);
    ck_assert_int_eq(info.height, shape[1]);
    ck_assert_int_eq(info.width, shape[2]);
    ck_assert_int_eq(info.dtype, dtype);
    ck_assert_int_eq(info.classes, classes);
}

/* The three images and labels above, in whatever way they came in. */
static void check_content(const nin_dataset *dataset)
{
    for (int i = 0; i < 3; i++) {
        unsigned char image[9] = {[8] = 77};
        int32_t label = -1;

        ck_assert_int_eq(nin_dataset_read(dataset, image, &label, i), NIN_OK);
        ck_assert_mem_eq(image, pixels + 8 * i, 8);
        ck_assert_int_eq(image[8], 77);
        ck_assert_int_eq(label, labels[i]);
        label = -1;
        ck_assert_int_eq(nin_dataset_read(dataset, NULL, &label, i), NIN_OK);
        ck_assert_int_eq(label, labels[i]);
        ck_assert_int_eq(nin_dataset_read(dataset, image, NULL, i), NIN_OK);
        ck_assert_int_eq(nin_dataset_read(dataset, NULL, NULL, i), NIN_OK);
    }
    ck_assert_int_eq(nin_dataset_read(dataset, NULL, NULL, -1), NIN_INVALID_ARGUMENT);
    ck_assert_int_eq(nin_dataset_read(dataset, NULL, NULL, 3), NIN_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(nin_last_error(), "3 images"));
}

static void check_sentence(const char *part)
{
    ck_assert_msg(strstr(nin_last_error(), part) != NULL, "'%s' is not in '%s'", part,
                  nin_last_error());
}

/* ---- IDX files ------------------------------------------------------------------------------ */

static void check_idx(const char *images_path, const char *labels_path, int32_t channels,
                      int32_t height)
{
    nin_dataset *dataset = NULL;

    ck_assert_int_eq(nin_dataset_create_idx(&dataset, images_path, labels_path), NIN_OK);
    check_info(dataset, 3, (const int32_t[]){channels, height, 4}, NIN_U8, 256);
    check_content(dataset);
    nin_dataset_destroy(dataset);
}

START_TEST(idx_plain_and_gz)
{
    const char *plain_labels = write_file("labels", labels_1d, sizeof labels_1d);

    check_idx(write_file("images", images_3d, sizeof images_3d), plain_labels, 1, 2);
    check_idx(write_file("images", images_4d, sizeof images_4d), plain_labels, 2, 1);
    check_idx(write_gz("images.gz", images_3d, sizeof images_3d),
              write_gz("labels.gz", labels_1d, sizeof labels_1d), 1, 2);
    check_idx(write_gz("images.gz", images_4d, sizeof images_4d), plain_labels, 2, 1);
}
END_TEST

/* More than what the reader allocates before it has seen data, so that its buffer has to grow. */
START_TEST(idx_large)
{
    enum {
        SIDE = 1500,
        HEADER = 16,
        ALL = HEADER + 3 * SIDE * SIDE
    };
    unsigned char *bytes = calloc(ALL, 1);
    unsigned char *image = malloc(SIDE * SIDE);
    nin_dataset *dataset = NULL;

    ck_assert(bytes != NULL && image != NULL);
    memcpy(bytes, images_3d, HEADER);
    bytes[10] = bytes[14] = SIDE >> 8;
    bytes[11] = bytes[15] = SIDE & 255;
    for (int i = HEADER; i < ALL; i++)
        bytes[i] = (unsigned char)(i * 7 + (i >> 8));
    const char *labels_path = write_file("labels", labels_1d, sizeof labels_1d);
    const char *paths[] = {write_file("images", bytes, ALL), write_gz("images.gz", bytes, ALL)};
    for (int k = 0; k < 2; k++) {
        ck_assert_int_eq(nin_dataset_create_idx(&dataset, paths[k], labels_path), NIN_OK);
        for (int i = 0; i < 3; i++) {
            ck_assert_int_eq(nin_dataset_read(dataset, image, NULL, i), NIN_OK);
            ck_assert(memcmp(image, bytes + HEADER + i * SIDE * SIDE, SIDE * SIDE) == 0);
        }
        nin_dataset_destroy(dataset);
    }
    free(bytes);
    free(image);
}
END_TEST

#define U32(x) (x) >> 24 & 255, (x) >> 16 & 255, (x) >> 8 & 255, (x)&255
#define BYTES(...) {__VA_ARGS__}, sizeof((const unsigned char[]){__VA_ARGS__})

/* What must not be taken for images, each file plain and compressed. */
static const struct {
    unsigned char bytes[48];
    size_t size;
    const char *sentence;
} bad_images[] = {
    {BYTES(0), "too short, 1 bytes instead of 4"},
    {BYTES(0, 0, 8), "too short, 3 bytes instead of 4"},
    {BYTES(0, 0, 8, 3), "too short, 4 bytes instead of 16"},
    {BYTES(0, 0, 8, 3, 0, 0, 0, 3, 0, 0), "too short, 10 bytes instead of 16"},
    {BYTES(0, 0, 8, 3, U32(3), U32(2), U32(4)), "too short, 16 bytes instead of 40"},
    {BYTES(0, 0, 8, 3, U32(3), U32(2), U32(4), 1, 2), "too short, 18 bytes instead of 40"},
    {BYTES(0, 0, 8, 3, U32(1), U32(1), U32(2), 1, 2, 3), "too long"},
    {BYTES(0, 0, 8, 4, U32(1), U32(1), U32(1), U32(2), 1, 2, 3), "too long"},
    {BYTES(0, 0, 9, 3, U32(1), U32(1), U32(1), 5), "starts with 00 00 09 03"},
    {BYTES(0, 1, 8, 3, U32(1), U32(1), U32(1), 5), "starts with 00 01 08 03"},
    {BYTES(1, 0, 8, 3, U32(1), U32(1), U32(1), 5), "starts with 01 00 08 03"},
    {BYTES(0, 0, 8, 1, U32(1), 5), "starts with 00 00 08 01; a file of images"},
    {BYTES(0, 0, 8, 2, U32(1), U32(1), 5), "starts with 00 00 08 02"},
    {BYTES(0, 0, 8, 5, U32(1), U32(1), U32(1), U32(1), U32(1), 5), "starts with 00 00 08 05"},
    {BYTES(0, 0, 8, 255, U32(1), U32(1), U32(1), 5), "starts with 00 00 08 ff"},
    {BYTES(0, 0, 8, 3, U32(0), U32(2), U32(4)), "dimension 0 is 0"},
    {BYTES(0, 0, 8, 3, U32(3), U32(0), U32(4)), "dimension 1 is 0"},
    {BYTES(0, 0, 8, 4, U32(3), U32(2), U32(4), U32(0)), "dimension 3 is 0"},
    {BYTES(0, 0, 8, 3, U32(0x80000000u), U32(1), U32(1), 1), "dimension 0 is 2147483648"},
    {BYTES(0, 0, 8, 3, U32(3), U32(2), U32(0xffffffffu), 1), "dimension 2 is 4294967295"},
    {BYTES(0, 0, 8, 3, U32(0x7fffffff), U32(0x7fffffff), U32(0x7fffffff), 1), "impossible"},
    {BYTES(0, 0, 8, 4, U32(65536), U32(65536), U32(65536), U32(65536), 1), "impossible"},
    {BYTES(0, 0, 8, 3, U32(0x7fffffff), U32(1024), U32(1024), 1, 2, 3), "too short"},
};

START_TEST(idx_bad_images)
{
    const char *labels_path = write_file("labels", labels_1d, sizeof labels_1d);
    const unsigned char *bytes = bad_images[_i].bytes;
    nin_dataset *dataset = NULL;

    for (int gz = 0; gz < 2; gz++) {
        const char *path = gz ? write_gz("bad-images.gz", bytes, (unsigned)bad_images[_i].size)
                              : write_file("bad-images", bytes, bad_images[_i].size);

        ck_assert_int_eq(nin_dataset_create_idx(&dataset, path, labels_path), NIN_BAD_FORMAT);
        ck_assert_ptr_null(dataset);
        check_sentence(path);
        check_sentence(bad_images[_i].sentence);
    }
}
END_TEST

static const struct {
    unsigned char bytes[48];
    size_t size;
    const char *sentence;
} bad_labels[] = {
    {BYTES(0, 0, 8, 1, U32(2), 1, 2), "2 labels for the 3 images of"},
    {BYTES(0, 0, 8, 1, U32(4), 1, 2, 3, 4), "4 labels for the 3 images of"},
    {BYTES(0, 0, 8, 1, U32(3), 1, 2), "too short, 10 bytes instead of 11"},
    {BYTES(0, 0, 8, 1, U32(3), 1, 2, 3, 4), "too long"},
    {BYTES(0, 0, 8, 1, U32(0)), "dimension 0 is 0"},
    {BYTES(0, 0, 8, 1, U32(0x7fffffff), 1, 2, 3), "too short"},
    {BYTES(0, 0, 8, 3, U32(3), U32(1), U32(1), 1, 2, 3), "a file of labels starts with"},
    {BYTES(0, 0, 12, 1, U32(3), 1, 2, 3), "starts with 00 00 0c 01"},
};

START_TEST(idx_bad_labels)
{
    const char *images_path = write_file("images", images_3d, sizeof images_3d);
    const char *path = write_file("bad-labels", bad_labels[_i].bytes, bad_labels[_i].size);
    nin_dataset *dataset = NULL;

    ck_assert_int_eq(nin_dataset_create_idx(&dataset, images_path, path), NIN_BAD_FORMAT);
    ck_assert_ptr_null(dataset);
    check_sentence(path);
    check_sentence(bad_labels[_i].sentence);
}
END_TEST

START_TEST(idx_empty)
{
    const char *labels_path = write_file("labels", labels_1d, sizeof labels_1d);
    nin_dataset *dataset = NULL;

    ck_assert_int_eq(nin_dataset_create_idx(&dataset, write_file("empty", "", 0), labels_path),
                     NIN_BAD_FORMAT);
    check_sentence("0 bytes instead of 4");
    ck_assert_int_eq(nin_dataset_create_idx(&dataset, write_gz("empty.gz", "", 0), labels_path),
                     NIN_BAD_FORMAT);
    check_sentence("0 bytes instead of 4");
    ck_assert_ptr_null(dataset);
}
END_TEST

/* Every cut of a compressed file, and every byte that differs in its check sum and length. */
START_TEST(idx_damaged_gz)
{
    unsigned char gz[256];
    const char *labels_path = write_file("labels", labels_1d, sizeof labels_1d);
    const size_t size =
        read_whole(write_gz("images.gz", images_3d, sizeof images_3d), gz, sizeof gz);
    nin_dataset *dataset = NULL;

    ck_assert(size > 20 && size < sizeof gz);
    for (size_t cut = 0; cut < size; cut++) {
        const char *path = write_file("cut.gz", gz, cut);

        ck_assert_int_eq(nin_dataset_create_idx(&dataset, path, labels_path), NIN_BAD_FORMAT);
        check_sentence(path);
    }
    for (size_t i = size - 8; i < size; i++) {
        gz[i] ^= 0x10;
        const char *path = write_file("sum.gz", gz, size);
        gz[i] ^= 0x10;

        ck_assert_int_eq(nin_dataset_create_idx(&dataset, path, labels_path), NIN_BAD_FORMAT);
        check_sentence("check sum");
    }
    ck_assert_ptr_null(dataset);
}
END_TEST

START_TEST(idx_unreadable)
{
    const char *images_path = write_file("images", images_3d, sizeof images_3d);
    const char *missing = in_folder("missing");
    nin_dataset *dataset = NULL;

    ck_assert_int_eq(nin_dataset_create_idx(&dataset, missing, images_path), NIN_IO);
    check_sentence(missing);
    check_sentence("No such file");
    ck_assert_int_eq(nin_dataset_create_idx(&dataset, images_path, missing), NIN_IO);
    check_sentence(missing);
    ck_assert_int_eq(nin_dataset_create_idx(&dataset, folder, missing), NIN_IO);
    check_sentence("directory");
    ck_assert_int_eq(mkfifo(in_folder("pipe"), 0600), 0); /* which nobody writes to */
    ck_assert_int_eq(nin_dataset_create_idx(&dataset, in_folder("pipe"), images_path), NIN_IO);
    check_sentence("no regular file");
    ck_assert_int_eq(nin_dataset_create_idx(NULL, missing, missing), NIN_INVALID_ARGUMENT);
    ck_assert_int_eq(nin_dataset_create_idx(&dataset, NULL, missing), NIN_INVALID_ARGUMENT);
    check_sentence("'images' is NULL");
    ck_assert_int_eq(nin_dataset_create_idx(&dataset, missing, NULL), NIN_INVALID_ARGUMENT);
    check_sentence("'labels' is NULL");
    ck_assert_ptr_null(dataset);
}
END_TEST

/* ---- MNIST ---------------------------------------------------------------------------------- */

START_TEST(mnist_layout)
{
    nin_dataset *dataset = NULL;

    /* images plain, labels compressed */
    write_file("t10k-images-idx3-ubyte", images_3d, sizeof images_3d);
    write_gz("t10k-labels-idx1-ubyte.gz", labels_1d, sizeof labels_1d);
    ck_assert_int_eq(nin_dataset_create_mnist(&dataset, folder, "t10k"), NIN_OK);
    check_content(dataset);
    nin_dataset_destroy(dataset);
    dataset = NULL;

    /* the plain file is preferred */
    write_file("t10k-labels-idx1-ubyte", bad_labels[0].bytes, bad_labels[0].size);
    ck_assert_int_eq(nin_dataset_create_mnist(&dataset, folder, "t10k"), NIN_BAD_FORMAT);

    write_file("train-images-idx3-ubyte", images_3d, sizeof images_3d);
    ck_assert_int_eq(nin_dataset_create_mnist(&dataset, folder, "train"), NIN_IO);
    check_sentence("train-labels-idx1-ubyte'");
    check_sentence("No such file");
    ck_assert_int_eq(nin_dataset_create_mnist(&dataset, in_folder("none"), "t10k"), NIN_IO);
    check_sentence("t10k-images-idx3-ubyte'");

    ck_assert_int_eq(nin_dataset_create_mnist(&dataset, folder, "test"), NIN_INVALID_ARGUMENT);
    check_sentence("'test'");
    ck_assert_int_eq(nin_dataset_create_mnist(NULL, folder, "t10k"), NIN_INVALID_ARGUMENT);
    ck_assert_int_eq(nin_dataset_create_mnist(&dataset, NULL, "t10k"), NIN_INVALID_ARGUMENT);
    ck_assert_int_eq(nin_dataset_create_mnist(&dataset, folder, NULL), NIN_INVALID_ARGUMENT);
    ck_assert_ptr_null(dataset);
}
END_TEST

/* Computed from the files with Python's gzip and zlib. */
static const struct {
    const char *part;
    int64_t count;
    int32_t labels[5]; /* the first */
    int32_t last_label;
    int first_sum, last_sum; /* of the pixels of an image */
    uint32_t hash;
} mnist[] = {
    {"train", 60000, {5, 0, 4, 1, 9}, 8, 27525, 20920, 0x4937a6e9u},
    {"t10k", 10000, {7, 2, 1, 0, 4}, 6, 18454, 41833, 0x7af1c887u},
};

static int sum_of_pixels(const nin_dataset *dataset, int64_t index)
{
    unsigned char image[28 * 28];
    int sum = 0;

    ck_assert_int_eq(nin_dataset_read(dataset, image, NULL, index), NIN_OK);
    for (size_t i = 0; i < sizeof image; i++)
        sum += image[i];
    return sum;
}

START_TEST(mnist_files)
{
    const char *path = getenv("NIN_DATA_DIR");
    const int64_t count = mnist[_i].count;
    nin_dataset *dataset = NULL;
    int32_t label = -1;

    ck_assert_int_eq(nin_dataset_create_mnist(&dataset, path != NULL ? path : "examples/data/mnist",
                                              mnist[_i].part),
                     NIN_OK);
    check_info(dataset, count, (const int32_t[]){1, 28, 28}, NIN_U8, 10);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(nin_dataset_read(dataset, NULL, &label, i), NIN_OK);
        ck_assert_int_eq(label, mnist[_i].labels[i]);
    }
    ck_assert_int_eq(nin_dataset_read(dataset, NULL, &label, count - 1), NIN_OK);
    ck_assert_int_eq(label, mnist[_i].last_label);
    ck_assert_int_eq(sum_of_pixels(dataset, 0), mnist[_i].first_sum);
    ck_assert_int_eq(sum_of_pixels(dataset, count - 1), mnist[_i].last_sum);
    ck_assert_uint_eq(nin__dataset_hash(dataset), mnist[_i].hash);
    nin_dataset_destroy(dataset);
}
END_TEST

/* ---- arrays --------------------------------------------------------------------------------- */

static nin_arrays_desc small_arrays(void)
{
    return (nin_arrays_desc){.struct_size = sizeof(nin_arrays_desc),
                             .images = pixels,
                             .dtype = NIN_U8,
                             .labels = labels,
                             .count = 3,
                             .channels = 2,
                             .height = 2,
                             .width = 2};
}

START_TEST(arrays)
{
    const nin_arrays_desc desc = small_arrays();
    nin_dataset *dataset = NULL;

    ck_assert_int_eq(nin_dataset_create_arrays(&dataset, &desc), NIN_OK);
    check_info(dataset, 3, (const int32_t[]){2, 2, 2}, NIN_U8, 256);
    check_content(dataset);
    nin_dataset_destroy(dataset);
    nin_dataset_destroy(NULL);
}
END_TEST

START_TEST(arrays_of_floats)
{
    static const float values[] = {0.0f, -1.5f, 2.5f, 1e30f};
    static const int32_t zeros[] = {0, 0};
    nin_dataset *dataset = NULL;
    float image[2];

    ck_assert_int_eq(
        nin_dataset_create_arrays(&dataset, NIN_DESC(nin_arrays_desc, .images = values,
                                                     .dtype = NIN_F32, .labels = zeros, .count = 2,
                                                     .channels = 1, .height = 2, .width = 1)),
        NIN_OK);
    check_info(dataset, 2, (const int32_t[]){1, 2, 1}, NIN_F32, 1);
    ck_assert_int_eq(nin_dataset_read(dataset, image, NULL, 1), NIN_OK);
    ck_assert_mem_eq(image, values + 2, sizeof image);
    nin_dataset_destroy(dataset);
}
END_TEST

static void refuse_arrays(const nin_arrays_desc *desc, const char *sentence)
{
    nin_dataset *dataset = NULL;

    ck_assert_int_eq(nin_dataset_create_arrays(&dataset, desc), NIN_INVALID_ARGUMENT);
    ck_assert_ptr_null(dataset);
    check_sentence(sentence);
}

#define REFUSE_ARRAYS(field, value, sentence)                                                      \
    do {                                                                                           \
        nin_arrays_desc desc_ = small_arrays();                                                    \
        desc_.field = (value);                                                                     \
        refuse_arrays(&desc_, sentence);                                                           \
    } while (0)

START_TEST(arrays_refused)
{
    static const int32_t negative[] = {1, 2, -3};
    static const int32_t largest[] = {1, INT32_MAX, 3};

    refuse_arrays(NULL, "'desc' is NULL");
    REFUSE_ARRAYS(images, NULL, "'images' is NULL");
    REFUSE_ARRAYS(labels, NULL, "'labels' is NULL");
    REFUSE_ARRAYS(labels, negative, "labels[2] is -3");
    REFUSE_ARRAYS(labels, largest, "labels[1] is 2147483647");
    REFUSE_ARRAYS(dtype, NIN_I32, "dtype 2");
    REFUSE_ARRAYS(dtype, (nin_dtype)77, "dtype 77");
    REFUSE_ARRAYS(count, 0, "count 0");
    REFUSE_ARRAYS(count, -1, "count -1");
    REFUSE_ARRAYS(count, (int64_t)INT32_MAX + 1, "count 2147483648");
    REFUSE_ARRAYS(channels, 0, "channels 0, height 2, width 2");
    REFUSE_ARRAYS(height, -1, "channels 2, height -1, width 2");
    REFUSE_ARRAYS(width, 0, "channels 2, height 2, width 0");

    nin_arrays_desc desc = small_arrays();
    desc.labels = (const void *)((const char *)largest + 1);
    refuse_arrays(&desc, "the labels are not aligned");
    desc = small_arrays();
    ck_assert_int_eq(nin_dataset_create_arrays(NULL, &desc), NIN_INVALID_ARGUMENT);
    desc.channels = desc.height = desc.width = INT32_MAX;
    refuse_arrays(&desc, "does not fit");
    desc.channels = 1;
    desc.count = INT32_MAX;
    refuse_arrays(&desc, "do not fit");
}
END_TEST

/* ---- callbacks ------------------------------------------------------------------------------ */

struct answers {
    nin_status status;
    int32_t label; /* of the image with index 1; -2: none is set */
    int calls;
};

static nin_status give_sample(void *image, int32_t *label, int64_t index, void *user)
{
    struct answers *answers = user;

    answers->calls++;
    memcpy(image, pixels + 8 * index, 8);
    if (index != 1)
        *label = labels[index];
    else if (answers->label != -2)
        *label = answers->label;
    return index == 1 ? answers->status : NIN_OK;
}

static nin_callback_desc small_callback(struct answers *answers)
{
    return (nin_callback_desc){.struct_size = sizeof(nin_callback_desc),
                               .sample = give_sample,
                               .user = answers,
                               .count = 3,
                               .channels = 1,
                               .height = 4,
                               .width = 2,
                               .dtype = NIN_U8,
                               .id = "three images"};
}

START_TEST(callback)
{
    struct answers answers = {.status = NIN_OK, .label = 0};
    const nin_callback_desc desc = small_callback(&answers);
    nin_dataset *dataset = NULL;

    ck_assert_int_eq(nin_dataset_create_callback(&dataset, &desc), NIN_OK);
    ck_assert_int_eq(answers.calls, 0);
    check_info(dataset, 3, (const int32_t[]){1, 4, 2}, NIN_U8, 0);
    check_content(dataset);
    ck_assert_int_eq(answers.calls, 12);
    nin_dataset_destroy(dataset);
}
END_TEST

START_TEST(callback_status)
{
    static const nin_status statuses[] = {NIN_IO, NIN_STOP, NIN_INVALID_ARGUMENT, NIN_OUT_OF_MEMORY,
                                          (nin_status)4711};
    struct answers answers = {.label = 0};
    const nin_callback_desc desc = small_callback(&answers);
    unsigned char image[8];
    nin_dataset *dataset = NULL;

    ck_assert_int_eq(nin_dataset_create_callback(&dataset, &desc), NIN_OK);
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        int32_t label = 42;

        answers.status = statuses[i];
        ck_assert_int_eq(nin_dataset_read(dataset, image, &label, 1), statuses[i]);
        check_sentence("image 1");
        ck_assert_int_eq(nin_dataset_read(dataset, NULL, &label, 1), statuses[i]);
        ck_assert_int_eq(label, 42);
    }
    answers.status = NIN_OK;
    check_content(dataset);
    nin_dataset_destroy(dataset);
}
END_TEST

START_TEST(callback_label)
{
    struct answers answers = {.status = NIN_OK, .label = -7};
    const nin_callback_desc desc = small_callback(&answers);
    unsigned char image[8];
    int32_t label = 42;
    nin_dataset *dataset = NULL;

    ck_assert_int_eq(nin_dataset_create_callback(&dataset, &desc), NIN_OK);
    ck_assert_int_eq(nin_dataset_read(dataset, image, &label, 1), NIN_INVALID_ARGUMENT);
    check_sentence("image 1 the label -7");
    answers.label = -2;
    ck_assert_int_eq(nin_dataset_read(dataset, image, &label, 1), NIN_INVALID_ARGUMENT);
    ck_assert_int_eq(nin_dataset_read(dataset, image, NULL, 1), NIN_INVALID_ARGUMENT);
    ck_assert_int_eq(label, 42);
    nin_dataset_destroy(dataset);
}
END_TEST

static void refuse_callback(const nin_callback_desc *desc, const char *sentence)
{
    nin_dataset *dataset = NULL;

    ck_assert_int_eq(nin_dataset_create_callback(&dataset, desc), NIN_INVALID_ARGUMENT);
    ck_assert_ptr_null(dataset);
    check_sentence(sentence);
}

#define REFUSE_CALLBACK(field, value, sentence)                                                    \
    do {                                                                                           \
        nin_callback_desc desc_ = small_callback(NULL);                                            \
        desc_.field = (value);                                                                     \
        refuse_callback(&desc_, sentence);                                                         \
    } while (0)

START_TEST(callback_refused)
{
    refuse_callback(NULL, "'desc' is NULL");
    REFUSE_CALLBACK(sample, NULL, "'sample' is NULL");
    REFUSE_CALLBACK(dtype, NIN_I32, "dtype 2");
    REFUSE_CALLBACK(count, 0, "count 0");
    REFUSE_CALLBACK(count, (int64_t)INT32_MAX + 1, "count 2147483648");
    REFUSE_CALLBACK(channels, 0, "channels 0, height 4, width 2");
    REFUSE_CALLBACK(height, 0, "channels 1, height 0, width 2");
    REFUSE_CALLBACK(width, -5, "channels 1, height 4, width -5");

    nin_callback_desc desc = small_callback(NULL);
    ck_assert_int_eq(nin_dataset_create_callback(NULL, &desc), NIN_INVALID_ARGUMENT);
    desc.channels = desc.height = desc.width = INT32_MAX;
    refuse_callback(&desc, "does not fit");
}
END_TEST

START_TEST(callback_id)
{
    char id[300];
    nin_callback_desc desc = small_callback(NULL);
    nin_dataset *dataset = NULL;

    memset(id, 'x', sizeof id);
    id[256] = '\0';
    REFUSE_CALLBACK(id, id, "255 bytes");
    id[255] = '\0';
    desc.id = id;
    ck_assert_int_eq(nin_dataset_create_callback(&dataset, &desc), NIN_OK);
    id[0] = 'y';
    ck_assert_int_eq(dataset->id[0], 'x');
    ck_assert_uint_eq(strlen(dataset->id), 255);
    nin_dataset_destroy(dataset);

    desc.id = NULL;
    ck_assert_int_eq(nin_dataset_create_callback(&dataset, &desc), NIN_OK);
    ck_assert_str_eq(dataset->id, "");
    nin_dataset_destroy(dataset);
}
END_TEST

/* ---- structs of another age ----------------------------------------------------------------- */

START_TEST(struct_sizes)
{
    struct {
        nin_arrays_desc desc;
        uint64_t later;
    } newer = {small_arrays(), 0};
    nin_dataset *dataset = NULL;

    REFUSE_ARRAYS(struct_size, 0, "nin_arrays_desc: struct_size is 0");
    REFUSE_ARRAYS(struct_size, sizeof(nin_arrays_desc) - 1, "nin_arrays_desc: struct_size");
    REFUSE_CALLBACK(struct_size, 0, "nin_callback_desc: struct_size is 0");
    REFUSE_CALLBACK(struct_size, sizeof(size_t), "nin_callback_desc: struct_size");

    newer.desc.struct_size = sizeof newer;
    newer.later = 1;
    refuse_arrays(&newer.desc, "does not know");
    newer.later = 0;
    ck_assert_int_eq(nin_dataset_create_arrays(&dataset, &newer.desc), NIN_OK);
    nin_dataset_destroy(dataset);
}
END_TEST

START_TEST(info_sizes)
{
    struct {
        nin_dataset_info info;
        uint64_t later;
    } newer = {.info = {.struct_size = sizeof newer}, .later = 5};
    const nin_arrays_desc desc = small_arrays();
    nin_dataset *dataset = NULL;
    nin_dataset_info info = {.count = 99};

    ck_assert_int_eq(nin_dataset_create_arrays(&dataset, &desc), NIN_OK);
    ck_assert_int_eq(nin_dataset_describe(&newer.info, dataset), NIN_OK);
    ck_assert_uint_eq(newer.info.struct_size, sizeof newer);
    ck_assert_int_eq(newer.info.count, 3);
    ck_assert_uint_eq(newer.later, 0);

    ck_assert_int_eq(nin_dataset_describe(&info, dataset), NIN_INVALID_ARGUMENT);
    check_sentence("nin_dataset_info: struct_size is 0");
    info.struct_size = sizeof info - 1;
    ck_assert_int_eq(nin_dataset_describe(&info, dataset), NIN_INVALID_ARGUMENT);
    ck_assert_int_eq(info.count, 99);
    ck_assert_int_eq(nin_dataset_describe(NULL, dataset), NIN_INVALID_ARGUMENT);
    ck_assert_int_eq(nin_dataset_describe(&info, NULL), NIN_INVALID_ARGUMENT);
    ck_assert_int_eq(nin_dataset_read(NULL, NULL, NULL, 0), NIN_INVALID_ARGUMENT);
    nin_dataset_destroy(dataset);
}
END_TEST

/* ---- hash ----------------------------------------------------------------------------------- */

static uint32_t hash_of_arrays(const nin_arrays_desc *desc)
{
    nin_dataset *dataset = NULL;

    ck_assert_int_eq(nin_dataset_create_arrays(&dataset, desc), NIN_OK);
    const uint32_t hash = nin__dataset_hash(dataset);
    nin_dataset_destroy(dataset);
    return hash;
}

static uint32_t hash_of_callback(const char *id)
{
    nin_callback_desc desc = small_callback(NULL);
    nin_dataset *dataset = NULL;

    desc.id = id;
    ck_assert_int_eq(nin_dataset_create_callback(&dataset, &desc), NIN_OK);
    const uint32_t hash = nin__dataset_hash(dataset);
    nin_dataset_destroy(dataset);
    return hash;
}

START_TEST(hash)
{
    nin_arrays_desc desc = small_arrays();
    const uint32_t original = hash_of_arrays(&desc);
    unsigned char other_pixels[sizeof pixels];
    int32_t other_labels[3];

    ck_assert_uint_eq(hash_of_arrays(&desc), original);
    desc.images = other_pixels;
    desc.labels = other_labels;
    for (size_t i = 0; i < sizeof pixels; i++) {
        memcpy(other_pixels, pixels, sizeof pixels);
        memcpy(other_labels, labels, sizeof labels);
        ck_assert_uint_eq(hash_of_arrays(&desc), original);
        other_pixels[i] ^= 1;
        ck_assert_uint_ne(hash_of_arrays(&desc), original);
    }
    memcpy(other_pixels, pixels, sizeof pixels);
    other_labels[2]++;
    ck_assert_uint_ne(hash_of_arrays(&desc), original);

    ck_assert_uint_eq(hash_of_callback("123456789"), 0xcbf43926u); /* CRC-32's check value */
    ck_assert_uint_ne(hash_of_callback("12345678"), 0xcbf43926u);
    ck_assert_uint_eq(hash_of_callback(NULL), 0);
}
END_TEST

/* Arrays that are borrowed do not change; these do, to show that they are read once. */
START_TEST(hash_is_kept)
{
    unsigned char own_pixels[sizeof pixels];
    nin_arrays_desc desc = small_arrays();
    nin_dataset *dataset = NULL;

    memcpy(own_pixels, pixels, sizeof pixels);
    desc.images = own_pixels;
    ck_assert_int_eq(nin_dataset_create_arrays(&dataset, &desc), NIN_OK);
    const uint32_t before = nin__dataset_hash(dataset);
    own_pixels[0] ^= 1;
    ck_assert_uint_eq(nin__dataset_hash(dataset), before);
    ck_assert_uint_ne(hash_of_arrays(&desc), before);
    nin_dataset_destroy(dataset);
}
END_TEST

static void *ask_for_hash(void *dataset)
{
    return (void *)(uintptr_t)nin__dataset_hash(dataset);
}

START_TEST(hash_of_a_shared_set)
{
    const nin_arrays_desc desc = small_arrays();
    nin_dataset *dataset = NULL;
    pthread_t threads[4];

    ck_assert_int_eq(nin_dataset_create_arrays(&dataset, &desc), NIN_OK);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, ask_for_hash, dataset), 0);
    for (int i = 0; i < 4; i++) {
        void *found = NULL;

        ck_assert_int_eq(pthread_join(threads[i], &found), 0);
        ck_assert_uint_eq((uintptr_t)found, hash_of_arrays(&desc));
    }
    nin_dataset_destroy(dataset);
}
END_TEST

/* ---- batches -------------------------------------------------------------------------------- */

static const struct {
    int64_t count, batch, size, pieces;
    int32_t last;
} batch_table[] = {
    {60000, 128, 128, 469, 96},
    {50000, 128, 128, 391, 80},
    {60000, 512, 509, 118, 447},
    {10000, 128, 127, 79, 94},
    {2000, 128, 125, 16, 125},
    {1000, 128, 125, 8, 125},
    {129, 128, 65, 2, 64},
    {9, 4, 3, 3, 3},
    {1, 1, 1, 1, 1},
    {1, 128, 1, 1, 1},
    {128, 128, 128, 1, 128},
    {INT32_MAX, INT32_MAX, INT32_MAX, 1, INT32_MAX},
};

START_TEST(batches)
{
    const int64_t count = batch_table[_i].count;
    const struct nin__batches cut = nin__batches(count, batch_table[_i].batch);
    int64_t first = -1;
    int32_t images = -1;

    ck_assert_int_eq(cut.size, batch_table[_i].size);
    ck_assert_int_eq(cut.pieces, batch_table[_i].pieces);
    nin__batch_range(cut, count, cut.pieces - 1, &first, &images);
    ck_assert_int_eq(images, batch_table[_i].last);
    ck_assert_int_eq(first + images, count);
}
END_TEST

/* Every image once, in order, no piece empty or above the batch, for all small sizes. */
START_TEST(batches_cover)
{
    for (int64_t count = 1; count < 300; count++)
        for (int64_t batch = 1; batch < 150; batch++) {
            const struct nin__batches cut = nin__batches(count, batch);
            int64_t next = 0;

            ck_assert_int_eq(cut.pieces, (count + batch - 1) / batch);
            for (int64_t piece = 0; piece < cut.pieces; piece++) {
                int64_t first = -1;
                int32_t images = -1;

                nin__batch_range(cut, count, piece, &first, &images);
                if (first != next || images < 1 || images > batch ||
                    (piece + 1 < cut.pieces && images != cut.size))
                    ck_abort_msg("%" PRId64 " by %" PRId64 ", piece %" PRId64 ": %" PRId64
                                 " and %d images",
                                 count, batch, piece, first, (int)images);
                next += images;
            }
            ck_assert_int_eq(next, count);
        }
}
END_TEST

/* ---- suite ---------------------------------------------------------------------------------- */

#define LENGTH(array) (int)(sizeof(array) / sizeof(array)[0])

static TCase *file_cases(void)
{
    TCase *files = tcase_create("files");

    tcase_add_unchecked_fixture(files, make_folder, remove_folder);
    tcase_set_timeout(files, 60);
    tcase_add_test(files, idx_plain_and_gz);
    tcase_add_test(files, idx_large);
    tcase_add_loop_test(files, idx_bad_images, 0, LENGTH(bad_images));
    tcase_add_loop_test(files, idx_bad_labels, 0, LENGTH(bad_labels));
    tcase_add_test(files, idx_empty);
    tcase_add_test(files, idx_damaged_gz);
    tcase_add_test(files, idx_unreadable);
    tcase_add_test(files, mnist_layout);
    tcase_add_loop_test(files, mnist_files, 0, LENGTH(mnist));
    return files;
}

static TCase *memory_cases(void)
{
    TCase *memory = tcase_create("memory");

    tcase_add_test(memory, arrays);
    tcase_add_test(memory, arrays_of_floats);
    tcase_add_test(memory, arrays_refused);
    tcase_add_test(memory, callback);
    tcase_add_test(memory, callback_status);
    tcase_add_test(memory, callback_label);
    tcase_add_test(memory, callback_refused);
    tcase_add_test(memory, callback_id);
    tcase_add_test(memory, struct_sizes);
    tcase_add_test(memory, info_sizes);
    tcase_add_test(memory, hash);
    tcase_add_test(memory, hash_is_kept);
    tcase_add_test(memory, hash_of_a_shared_set);
    return memory;
}

static TCase *batch_cases(void)
{
    TCase *cut = tcase_create("batches");

    tcase_set_timeout(cut, 60);
    tcase_add_loop_test(cut, batches, 0, LENGTH(batch_table));
    tcase_add_test(cut, batches_cover);
    return cut;
}

Suite *data_suite(void)
{
    Suite *suite = suite_create("data");

    suite_add_tcase(suite, file_cases());
    suite_add_tcase(suite, memory_cases());
    suite_add_tcase(suite, batch_cases());
    return suite;
}
