/* SPDX-License-Identifier: MIT */
/* Networks in files: there and back, hostile files, and writes that fail. */
#include "files.h"
#include "test.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

Suite *file_suite(void);

/* ---- networks ------------------------------------------------------------------------------- */

static nin_context *context;

static void make_context(void)
{
    ASSERT_OK(nin_context_create(
        &context, NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CPU, .threads = 1, .seed = 7)));
}

static void destroy_context(void)
{
    nin_context_destroy(context);
    context = NULL;
}

/* The network of tests/data/python.safetensors. */
static nin_network *make_dense_network(int32_t units)
{
    nin_builder *builder;
    nin_network *network;

    ASSERT_OK(nin_builder_create(&builder, context,
                                 NIN_DESC(nin_input_desc, .channels = 2, .height = 4, .width = 4)));
    nin_builder_conv2d(builder, "conv1", NIN_DESC(nin_conv2d_desc, .filters = 3, .kernel = 3));
    nin_builder_dense(builder, "fc", NIN_DESC(nin_dense_desc, .units = units));
    ASSERT_OK(nin_builder_finish(&network, builder));
    nin_builder_destroy(builder);
    return network;
}

START_TEST(network_comes_back)
{
    static const float odd[] = {-0.0f, 1e-45f, INFINITY, NAN, -3.4e38f};
    const char *first = in_folder("first"), *second = in_folder("second");
    nin_network *network = make_network(context, 5), *loaded;

    memcpy(network->parameters, odd, sizeof odd);
    ASSERT_OK(nin_network_save(network, first));
    ASSERT_OK(nin_network_load(&loaded, context, first));
    assert_same_parameters(network, loaded);
    ck_assert_int_eq(loaded->layer_count, network->layer_count);
    for (int32_t i = 0; i < network->layer_count; i++) {
        const struct nin_layer *a = &network->layers[i], *b = &loaded->layers[i];

        ck_assert_ptr_eq(a->class, b->class);
        ck_assert_str_eq(a->name, b->name);
        ck_assert_mem_eq(&a->in, &b->in, sizeof a->in);
        ck_assert_mem_eq(&a->out, &b->out, sizeof a->out);
        ck_assert_mem_eq(&a->filters, &b->filters,
                         offsetof(struct nin_layer, init) - offsetof(struct nin_layer, filters));
        ck_assert_mem_eq(&a->init.weight_scale, &b->init.weight_scale, 2 * sizeof(double));
        ck_assert_int_eq(a->init.weights, b->init.weights);
        ck_assert_int_eq(a->init.biases, b->init.biases);
    }
    ck_assert_mem_eq(&loaded->input.channels, &network->input.channels, 3 * sizeof(int32_t));
    ck_assert_mem_eq(&loaded->input.scale, &network->input.scale, 2 * sizeof(double));
    ASSERT_OK(nin_network_save(loaded, second)); /* canonical: the same bytes again */
    assert_same_files(first, second);
    nin_network_destroy(loaded);
    nin_network_destroy(network);
}
END_TEST

START_TEST(dense_network_comes_back)
{
    nin_network *network = make_dense_network(4), *loaded;

    ASSERT_OK(nin_network_save(network, in_folder("dense")));
    ASSERT_OK(nin_network_load(&loaded, context, in_folder("dense")));
    assert_same_parameters(network, loaded);
    nin_network_destroy(loaded);
    nin_network_destroy(network);
}
END_TEST

START_TEST(network_without_parameters)
{
    nin_builder *builder;
    nin_network *network, *loaded;

    ASSERT_OK(nin_builder_create(&builder, context,
                                 NIN_DESC(nin_input_desc, .channels = 1, .height = 2, .width = 2)));
    nin_builder_relu(builder, "relu");
    ASSERT_OK(nin_builder_finish(&network, builder));
    ASSERT_OK(nin_network_save(network, in_folder("bare")));
    ASSERT_OK(nin_network_load(&loaded, context, in_folder("bare")));
    ck_assert_uint_eq(nin_network_parameter_count(loaded), 0);
    ASSERT_OK(nin_network_read_weights(loaded, in_folder("bare")));
    nin_network_destroy(loaded);
    nin_network_destroy(network);
    nin_builder_destroy(builder);
}
END_TEST

START_TEST(header_is_aligned)
{
    nin_network *network = make_network(context, 5);
    struct bytes bytes;

    ASSERT_OK(nin_network_save(network, in_folder("aligned")));
    bytes = read_bytes(in_folder("aligned"));
    ck_assert_uint_eq(header_length(&bytes) % 8, 0);
    ck_assert_uint_eq(bytes.count,
                      8 + header_length(&bytes) + 4 * nin_network_parameter_count(network));
    free(bytes.data);
    nin_network_destroy(network);
}
END_TEST

START_TEST(python_weights)
{
    nin_network *network = make_dense_network(4);
    float weights[54], fc[48], bias[4];

    ASSERT_OK(nin_network_read_weights(network, "tests/data/python.safetensors"));
    ASSERT_OK(nin_layer_read(nin_network_find(network, "conv1"), NIN_WEIGHT, weights, 54));
    ASSERT_OK(nin_layer_read(nin_network_find(network, "fc"), NIN_WEIGHT, fc, 48));
    ASSERT_OK(nin_layer_read(nin_network_find(network, "fc"), NIN_BIAS, bias, 4));
    for (int i = 0; i < 54; i++)
        ck_assert_float_eq(weights[i], 1.0f + (float)i / 8);
    for (int i = 0; i < 48; i++)
        ck_assert_float_eq(fc[i], 100.0f + (float)i / 8);
    for (int i = 0; i < 4; i++)
        ck_assert_float_eq(bias[i], 0.5f + (float)i / 8);
    nin_network_destroy(network);
}
END_TEST

START_TEST(weights_are_read_or_left)
{
    const char *path = in_folder("weights"), *python = "tests/data/python.safetensors";
    nin_network *network = make_dense_network(4), *before = make_dense_network(4);
    nin_network *wider = make_dense_network(5), *loaded = NULL;
    uint64_t version = nin_network_parameter_version(network);
    struct bytes bytes = read_bytes(python);

    ASSERT_FAILS(NIN_BAD_FORMAT, "'fc.weight' has the shape 4x12, the network needs 5x3x2x2",
                 nin_network_read_weights(wider, python));
    write_edited(path, &bytes, "\"fc.bias\"", "\"fc_bias\"");
    ASSERT_FAILS(NIN_BAD_FORMAT, "no tensor 'fc.bias'", nin_network_read_weights(network, path));
    write_edited(path, &bytes, "\"fc.bias\":{\"dtype\":\"F32\"", "\"fc.bias\":{\"dtype\":\"I32\"");
    ASSERT_FAILS(NIN_BAD_FORMAT, "'fc.bias' is of type I32",
                 nin_network_read_weights(network, path));
    ASSERT_FAILS(NIN_BAD_FORMAT, "has no architecture", nin_network_load(&loaded, context, python));
    assert_same_parameters(network, before);
    ck_assert_uint_eq(nin_network_parameter_version(network), version);
    free(bytes.data);
    nin_network_destroy(wider);
    nin_network_destroy(before);
    nin_network_destroy(network);
}
END_TEST

START_TEST(busy_networks)
{
    nin_network *network = make_dense_network(4);

    ASSERT_OK(nin__network_hold(network));
    ASSERT_FAILS(NIN_BUSY, "", nin_network_save(network, in_folder("busy")));
    nin__network_unhold(network);
    ASSERT_OK(nin__network_share(network));
    ASSERT_OK(nin_network_save(network, in_folder("busy")));
    ASSERT_FAILS(NIN_BUSY, "", nin_network_read_weights(network, "tests/data/python.safetensors"));
    nin__network_unshare(network);
    nin_network_destroy(network);
}
END_TEST

START_TEST(missing_arguments)
{
    nin_network *network = make_dense_network(4);

    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "network", nin_network_save(NULL, "x"));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "path", nin_network_save(network, NULL));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "out", nin_network_load(NULL, context, "x"));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "context", nin_network_load(&network, NULL, "x"));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "path", nin_network_load(&network, context, NULL));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "network", nin_network_read_weights(NULL, "x"));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "path", nin_network_read_weights(network, NULL));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "trainer", nin_trainer_save(NULL, "x"));
    ASSERT_FAILS(NIN_INVALID_ARGUMENT, "trainer", nin_trainer_restore(NULL, "x", NULL));
    nin_network_destroy(network);
}
END_TEST

/* ---- hostile files -------------------------------------------------------------------------- */

/* What any bytes may come to: a network, or one of these failures with a sentence. */
static nin_status try_load(const char *path)
{
    nin_network *network = NULL;
    nin_status status = nin_network_load(&network, context, path);

    ck_assert_msg(status == NIN_OK || status == NIN_BAD_FORMAT || status == NIN_OUT_OF_MEMORY,
                  "%s: %s", nin_status_text(status), nin_last_error());
    ck_assert((status == NIN_OK) == (network != NULL));
    nin_network_destroy(network);
    return status;
}

START_TEST(truncated_files)
{
    const char *whole = in_folder("whole"), *cut = in_folder("cut");
    nin_network *network = make_dense_network(1);
    struct bytes bytes;

    ASSERT_OK(nin_network_save(network, whole));
    bytes = read_bytes(whole);
    for (size_t count = 0; count < bytes.count; count++) {
        write_bytes(cut, bytes.data, count);
        ck_assert_int_eq(try_load(cut), NIN_BAD_FORMAT);
        ASSERT_FAILS(NIN_BAD_FORMAT, "", nin_network_read_weights(network, cut));
    }
    write_bytes(cut, bytes.data, bytes.count);
    ck_assert_int_eq(try_load(cut), NIN_OK);
    bytes.data[bytes.count] = 0;
    write_bytes(cut, bytes.data, bytes.count + 1);
    ASSERT_FAILS(NIN_BAD_FORMAT, "1 bytes at the end belong to no tensor",
                 nin_network_read_weights(network, cut));
    free(bytes.data);
    nin_network_destroy(network);
}
END_TEST

START_TEST(flipped_files)
{
    static const unsigned char masks[] = {0x01, 0x02, 0x04, 0x10, 0x20, 0x80};
    const char *whole = in_folder("whole"), *flipped = in_folder("flipped");
    nin_network *network = make_network(context, 5);
    struct bytes bytes;

    ASSERT_OK(nin_network_save(network, whole));
    bytes = read_bytes(whole);
    for (size_t i = 0; i < 8 + header_length(&bytes); i++)
        for (size_t mask = 0; mask < sizeof masks; mask++) {
            bytes.data[i] ^= masks[mask];
            try_load(write_bytes(flipped, bytes.data, bytes.count));
            bytes.data[i] ^= masks[mask];
        }
    free(bytes.data);
    nin_network_destroy(network);
}
END_TEST

#define TENSOR(dtype, shape, offsets)                                                              \
    "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define TWO(first, second)                                                                         \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":" first                              \
    "},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":" second "}}"

static const struct {
    const char *header;
    size_t bytes;
    const char *words;
} containers[] = {
    {"{}", 0, "no architecture"},
    {"{}", 4, "4 bytes at the end"},
    {"{}  ", 0, "no architecture"},
    {" {}", 0, "without '{'"},
    {"[]", 0, "without '{'"},
    {"{}{}", 0, "no JSON"},
    {"{\"a\":1}", 0, "'a' has no dtype"},
    {"{\"a\":{}}", 0, "'a' has no dtype"},
    {"{\"a\":{},\"a\":{}}", 0, "no JSON"},
    {"{\"__metadata__\":{\"b\":\"1\",\"b\":\"2\"}}", 0, "no JSON"},
    {"{\"__metadata__\":1}", 0, "is no object"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "'a' is no string"},
    {"{\"__metadata__\":{\"architecture\":\"\"}}", 0, "no JSON"},
    {"{\"__metadata__\":{\"architecture\":\"\\u0000\"}}", 0, "no JSON"},
    {"{\"\xff\":{}}", 0, "no JSON"},
    {TENSOR("\"F32\"", "[1]", "[0,4]"), 4, "no architecture"},
    {TENSOR("\"F32\"", "[]", "[0,4]"), 4, "no architecture"},
    {TENSOR("\"F32\"", "[0,7]", "[0,0]"), 0, "no architecture"},
    {TENSOR("\"F32\"", "[4611686018427387904,4,0]", "[0,0]"), 0, "no architecture"},
    {TENSOR("\"F4\"", "[1]", "[0,4]"), 4, "no architecture"},
    {TENSOR("\"F32\"", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "no architecture"},
    {TENSOR("\"F32\"", "[1]", "[0,4]"), 3, "data_offsets are not in the file"},
    {TENSOR("\"F32\"", "[1]", "[4,8]"), 8, "gap, at byte 0"},
    {TENSOR("\"F32\"", "[1]", "[0,8]"), 8, "shape does not go"},
    {TENSOR("\"F32\"", "[2]", "[0,4]"), 4, "shape does not go"},
    {TENSOR("\"F32\"", "[0]", "[0,4]"), 4, "shape does not go"},
    {TENSOR("\"U16\"", "[1]", "[0,3]"), 3, "shape does not go"},
    {TENSOR("\"F32\"", "[1.0]", "[0,4]"), 4, "shape does not go"},
    {TENSOR("\"F32\"", "[-1,-1]", "[0,4]"), 4, "shape does not go"},
    {TENSOR("\"F32\"", "[4294967296,4294967296]", "[0,4]"), 4, "shape does not go"},
    {TENSOR("\"F32\"", "[4611686018427387905]", "[0,4]"), 4, "shape does not go"},
    {TENSOR("\"F32\"", "1", "[0,4]"), 4, "shape does not go"},
    {TENSOR("\"F32\"", "[9223372036854775808]", "[0,4]"), 4, "no JSON"},
    {TENSOR("\"F32\"", "[NaN]", "[0,4]"), 4, "no JSON"},
    {TENSOR("\"F32\"", "[1e400]", "[0,4]"), 4, "no JSON"},
    {TENSOR("\"F32\"", "[1]", "[4,0]"), 4, "data_offsets"},
    {TENSOR("\"F32\"", "[1]", "[-4,0]"), 4, "data_offsets"},
    {TENSOR("\"F32\"", "[1]", "[0]"), 4, "data_offsets"},
    {TENSOR("\"F32\"", "[1]", "[0,4,8]"), 4, "data_offsets"},
    {TENSOR("\"F32\"", "[1]", "[0,9223372036854775807]"), 4, "data_offsets"},
    {TENSOR("\"F32\"", "[1]", "[9223372036854775803,9223372036854775807]"), 4, "data_offsets"},
    {TENSOR("\"F32\"", "[1]", "{}"), 4, "data_offsets"},
    {TENSOR("32", "[1]", "[0,4]"), 4, "no dtype"},
    {TENSOR("\"a very long name of a type\"", "[1]", "[0,4]"), 4, "no dtype"},
    {TWO("[0,4]", "[4,8]"), 8, "no architecture"},
    {TWO("[4,8]", "[0,4]"), 8, "no architecture"},
    {TWO("[0,4]", "[0,4]"), 4, "overlap"},
    {TWO("[0,4]", "[2,6]"), 6, "overlap"},
    {TWO("[0,4]", "[8,12]"), 12, "gap, at byte 4"},
};

START_TEST(crafted_containers)
{
    nin_network *network = NULL;
    const char *path = in_folder("crafted");

    write_crafted(path, containers[_i].header, containers[_i].bytes);
    ASSERT_FAILS(NIN_BAD_FORMAT, containers[_i].words, nin_network_load(&network, context, path));
}
END_TEST

START_TEST(crafted_lengths)
{
    static const uint64_t lengths[] = {0,
                                       1,
                                       3,
                                       (uint64_t)1 << 31,
                                       UINT32_MAX,
                                       INT64_MAX,
                                       INT64_MAX + (uint64_t)1,
                                       UINT64_MAX,
                                       UINT64_MAX - 7};
    unsigned char bytes[10] = {[8] = '{', [9] = '}'};

    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        for (int byte = 0; byte < 8; byte++)
            bytes[byte] = (unsigned char)(lengths[i] >> 8 * byte);
        ck_assert_int_eq(try_load(write_bytes(in_folder("length"), bytes, 10)), NIN_BAD_FORMAT);
        ck_assert_ptr_nonnull(strstr(nin_last_error(), "no safetensors file"));
    }
}
END_TEST

START_TEST(deep_nesting)
{
    const size_t depth = 200000;
    nin_network *network = NULL;
    char *header = malloc(depth + 16);

    memcpy(header, "{\"a\":", 5);
    memset(header + 5, '[', depth);
    header[depth + 5] = '\0';
    write_crafted(in_folder("deep"), header, 0);
    ASSERT_FAILS(NIN_BAD_FORMAT, "deeper", nin_network_load(&network, context, in_folder("deep")));
    free(header);
}
END_TEST

/* Places in the header of make_network's file, and what to make of them. */
static const struct {
    const char *from, *to, *words;
} architectures[] = {
    {"\\\"format\\\":1", "\\\"format\\\":2", "'format' is no integer in its range"},
    {"\\\"format\\\":1", "\\\"format\\\":1.0", "'format' is no integer in its range"},
    {"\\\"format\\\":1", "\\\"formal\\\":1", "'format' is missing"},
    {"\\\"format\\\":1", "\\\"format\\\":1,\\\"format\\\":1", "no JSON"},
    {"\\\"format\\\":1", "\\\"format\\\":1,\\\"more\\\":1", "does not know"},
    {"\\\"input\\\":{", "\\\"input\\\":[],\\\"out\\\":{", "does not know"},
    {"\\\"channels\\\":2", "\\\"channels\\\":0", "'channels' is no integer in its range"},
    {"\\\"channels\\\":2", "\\\"channels\\\":-2", "'channels' is no integer in its range"},
    {"\\\"channels\\\":2", "\\\"channels\\\":2147483648", "'channels' is no integer in its range"},
    {"\\\"channels\\\":2", "\\\"channels\\\":1048577", "channels 1048577 is outside"},
    {"\\\"channels\\\":2", "\\\"channels\\\":3", "conv1.weight' has the shape 5x2x3x3"},
    {"\\\"height\\\":6", "\\\"height\\\":\\\"6\\\"", "'height' is no integer in its range"},
    {"\\\"shift\\\":-1.0", "\\\"shift\\\":\\\"-1\\\"", "'shift' is no number"},
    {"\\\"scale\\\":0.0078", "\\\"scale\\\":0.0,\\\"scales\\\":0.0078", ""},
    {"\\\"kind\\\":\\\"relu\\\"", "\\\"kind\\\":\\\"gelu\\\"", "no kind of layer"},
    {"\\\"kind\\\":\\\"relu\\\"", "\\\"kind\\\":7", "'kind' is no string"},
    {"\\\"kind\\\":\\\"relu\\\"", "\\\"kind\\\":\\\"dropout\\\"", "'drop' is missing"},
    {"\\\"kind\\\":\\\"relu\\\"", "\\\"kind\\\":\\\"softmax_loss\\\"", "architecture: "},
    {"\\\"name\\\":\\\"relu1\\\"", "\\\"name\\\":\\\"conv1\\\"", "the name 'conv1' is taken"},
    {"\\\"name\\\":\\\"relu1\\\"", "\\\"name\\\":\\\"relu 1\\\"", "architecture: "},
    {"\\\"name\\\":\\\"relu1\\\"", "\\\"name\\\":\\\"\\\"", "architecture: "},
    {"\\\"name\\\":\\\"relu1\\\"",
     "\\\"name\\\":\\\"a123456789b123456789c123456789d123456789e123456789f123456789g123\\\"",
     "'name' is too long"},
    {"\\\"name\\\":\\\"conv1\\\"", "\\\"name\\\":\\\"conv0\\\"", "no tensor 'conv0.weight'"},
    {"\\\"filters\\\":5", "\\\"filters\\\":0", "'filters' is no integer in its range"},
    {"\\\"filters\\\":5", "\\\"filters\\\":6", "the network needs 6x2x3x3"},
    {"\\\"filters\\\":5", "\\\"filters\\\":1048576", "the network needs 1048576x2x3x3"},
    {"\\\"filters\\\":5", "\\\"filters\\\":5,\\\"dilation\\\":2", "does not know"},
    {"\\\"kernel\\\":3", "\\\"kernel\\\":1048576,\\\"k\\\":0", "does not know"},
    {"\\\"kernel\\\":3,\\\"kind\\\":\\\"max", "\\\"kernel\\\":256,\\\"kind\\\":\\\"max",
     "kernel 256 is outside"},
    {"\\\"stride\\\":2", "\\\"stride\\\":0", "'stride' is no integer in its range"},
    {"\\\"round_up\\\":true", "\\\"round_up\\\":1", "neither true nor false"},
    {"\\\"no_bias\\\":true", "\\\"no_bias\\\":false", "no tensor 'class.bias'"},
    {"\\\"drop\\\":0.3", "\\\"drop\\\":1.3", "outside 0 <= drop < 1"},
    {"\\\"weights\\\":\\\"normal\\\"", "\\\"weights\\\":\\\"xavier\\\"", "no known way"},
    {"\\\"weights\\\":\\\"normal\\\"", "\\\"weights\\\":\\\"zero\\\"", "initial weights"},
    {"\\\"init\\\":{", "\\\"init\\\":{\\\"more\\\":0,", "does not know"},
};

START_TEST(crafted_architectures)
{
    const char *whole = in_folder("whole"), *edited = in_folder("edited");
    nin_network *network = make_network(context, 5), *loaded = NULL;
    struct bytes bytes;

    ASSERT_OK(nin_network_save(network, whole));
    bytes = read_bytes(whole);
    write_edited(edited, &bytes, architectures[_i].from, architectures[_i].to);
    ASSERT_FAILS(NIN_BAD_FORMAT, architectures[_i].words,
                 nin_network_load(&loaded, context, edited));
    free(bytes.data);
    nin_network_destroy(network);
}
END_TEST

/* A dense layer on a huge map, whose file has a few bytes: refused without a try to allocate it. */
START_TEST(promised_memory)
{
    static const char header[] =
        "{\"__metadata__\":{\"architecture\":\"{\\\"format\\\":1,\\\"input\\\":{\\\"channels\\\":1,"
        "\\\"height\\\":46340,\\\"width\\\":46340,\\\"scale\\\":1.0,\\\"shift\\\":0.0},"
        "\\\"layers\\\":[{\\\"kind\\\":\\\"dense\\\",\\\"name\\\":\\\"a\\\",\\\"units\\\":1,"
        "\\\"no_bias\\\":true,\\\"init\\\":{\\\"weights\\\":\\\"zero\\\",\\\"weight_scale\\\":0.0,"
        "\\\"biases\\\":\\\"zero\\\",\\\"bias_scale\\\":0.0}}]}\"},"
        "\"a.weight\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
    nin_network *network = NULL;

    write_crafted(in_folder("promise"), header, 4);
    ASSERT_FAILS(NIN_BAD_FORMAT, "the network needs 1x1x46340x46340",
                 nin_network_load(&network, context, in_folder("promise")));
}
END_TEST

START_TEST(no_files)
{
    nin_network *network = NULL;

    ck_assert_int_eq(mkfifo(in_folder("pipe"), 0600), 0);
    write_bytes(in_folder("empty"), "", 0);
    ASSERT_FAILS(NIN_IO, "is a folder", nin_network_load(&network, context, in_folder("")));
    ASSERT_FAILS(NIN_IO, "no regular file", nin_network_load(&network, context, in_folder("pipe")));
    ASSERT_FAILS(NIN_IO, "/dev/zero: is no regular",
                 nin_network_load(&network, context, "/dev/zero"));
    ASSERT_FAILS(NIN_IO, "missing: cannot open: No such file",
                 nin_network_load(&network, context, in_folder("missing")));
    ASSERT_FAILS(NIN_BAD_FORMAT, "0 bytes",
                 nin_network_load(&network, context, in_folder("empty")));
}
END_TEST

START_TEST(long_paths_keep_the_reason)
{
    nin_network *network = NULL;
    char path[2000];

    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    ASSERT_FAILS(NIN_IO, "File name too long", nin_network_load(&network, context, path));
}
END_TEST

/* ---- writing -------------------------------------------------------------------------------- */

START_TEST(places_that_cannot_be_written)
{
    nin_network *network = make_dense_network(4);

    ASSERT_FAILS(NIN_IO, "No such file or directory",
                 nin_network_save(network, in_folder("missing/file")));
    ASSERT_FAILS(NIN_IO, "an empty name", nin_network_save(network, ""));
    ASSERT_FAILS(NIN_IO, "is a folder", nin_network_save(network, in_folder("")));
    ASSERT_FAILS(NIN_IO, "/dev/null: is no regular file", nin_network_save(network, "/dev/null"));
    if (geteuid() != 0) { /* root may write everywhere */
        ck_assert_int_eq(chmod(in_folder(""), 0500), 0);
        ASSERT_FAILS(NIN_IO, "Permission denied", nin_network_save(network, in_folder("file")));
        ck_assert_int_eq(chmod(in_folder(""), 0700), 0);
    }
    ck_assert_int_eq(count_files(), 0);
    nin_network_destroy(network);
}
END_TEST

/* The disk is full, as far as this process can tell. */
START_TEST(full_disk)
{
    const struct rlimit small = {200, RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
    const char *path = in_folder("file"), *copy = in_folder("copy");
    nin_network *network = make_dense_network(4);

    ASSERT_OK(nin_network_save(network, path));
    ASSERT_OK(nin_network_save(network, copy));
    ASSERT_OK(nin_network_read_weights(network, "tests/data/python.safetensors"));
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    ASSERT_FAILS(NIN_IO, "cannot write: File too large", nin_network_save(network, path));
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &none), 0);
    assert_same_files(path, copy);
    ck_assert_int_eq(count_files(), 2);
    ASSERT_OK(nin_network_save(network, path));
    nin_network_destroy(network);
}
END_TEST

START_TEST(modes_and_links)
{
    nin_network *network = make_dense_network(4);
    const char *link = in_folder("link");
    mode_t mask = umask(027);
    struct stat status;

    ASSERT_OK(nin_network_save(network, in_folder("file")));
    umask(mask);
    ck_assert_int_eq(stat(in_folder("file"), &status), 0);
    ck_assert_int_eq(status.st_mode & 0777, 0640);
    ck_assert_int_eq(symlink("file", link), 0);          /* followed */
    ck_assert_int_eq(chmod(in_folder("file"), 0604), 0); /* and kept */
    ASSERT_OK(nin_network_save(network, link));
    ck_assert_int_eq(lstat(link, &status), 0);
    ck_assert(S_ISLNK(status.st_mode));
    ck_assert_int_eq(lstat(in_folder("file"), &status), 0);
    ck_assert_int_eq(status.st_mode & 0777, 0604);
    ck_assert_int_eq(symlink("nowhere", in_folder("dangling")), 0);
    ASSERT_OK(nin_network_save(network, in_folder("dangling"))); /* replaced itself */
    ck_assert_int_eq(lstat(in_folder("dangling"), &status), 0);
    ck_assert(S_ISREG(status.st_mode));
    ck_assert_int_ne(lstat(in_folder("nowhere"), &status), 0);
    ck_assert_int_eq(chdir(in_folder("")), 0); /* a path without a folder */
    ASSERT_OK(nin_network_save(network, "plain"));
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(count_files(), 4);
    nin_network_destroy(network);
}
END_TEST

/* ---- suite ---------------------------------------------------------------------------------- */

#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

Suite *file_suite(void)
{
    Suite *suite = suite_create("file");
    TCase *tests = tcase_create("networks");

    tcase_add_checked_fixture(tests, make_folder, remove_folder);
    tcase_add_checked_fixture(tests, make_context, destroy_context);
    tcase_add_test(tests, network_comes_back);
    tcase_add_test(tests, dense_network_comes_back);
    tcase_add_test(tests, network_without_parameters);
    tcase_add_test(tests, header_is_aligned);
    tcase_add_test(tests, python_weights);
    tcase_add_test(tests, weights_are_read_or_left);
    tcase_add_test(tests, busy_networks);
    tcase_add_test(tests, missing_arguments);
    tcase_add_test(tests, truncated_files);
    tcase_add_test(tests, flipped_files);
    tcase_add_loop_test(tests, crafted_containers, 0, COUNT(containers));
    tcase_add_test(tests, crafted_lengths);
    tcase_add_test(tests, deep_nesting);
    tcase_add_loop_test(tests, crafted_architectures, 0, COUNT(architectures));
    tcase_add_test(tests, promised_memory);
    tcase_add_test(tests, no_files);
    tcase_add_test(tests, long_paths_keep_the_reason);
    tcase_add_test(tests, places_that_cannot_be_written);
    tcase_add_test(tests, full_disk);
    tcase_add_test(tests, modes_and_links);
    suite_add_tcase(suite, tests);
    return suite;
}
