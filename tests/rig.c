/* SPDX-License-Identifier: MIT */
#include "rig.h"

#include "core/optimizer.h"
#include "core/rng.h"
#include "cpu/cpu.h"

#include <stdlib.h>

static void describe_small(nin_builder *builder)
{
    static const int32_t first[] = {8, 6}, second[] = {12, 8};

    nin_builder_mlpconv(
        builder, "one",
        NIN_DESC(nin_mlpconv_desc, .widths = first, .count = 2, .kernel = 5, .pad = 2));
    nin_builder_max_pool(builder, "max",
                         NIN_DESC(nin_pool_desc, .kernel = 3, .stride = 2, .pad = 1));
    nin_builder_dropout(builder, "drop1", 0.5);
    nin_builder_mlpconv(builder, "two",
                        NIN_DESC(nin_mlpconv_desc, .widths = second, .count = 2, .kernel = 3,
                                 .pad = 1, .no_last_relu = 1));
    nin_builder_average_pool(builder, "mean",
                             NIN_DESC(nin_pool_desc, .kernel = 3, .stride = 1, .pad = 1));
    nin_builder_relu(builder, "relu");
    nin_builder_dropout(builder, "drop2", 0.25);
    nin_builder_conv2d(builder, "maps", NIN_DESC(nin_conv2d_desc, .filters = 5, .kernel = 1));
    nin_builder_global_average_pool(builder, "average");
    nin_builder_softmax_loss(builder, "loss");
}

static void describe_dense(nin_builder *builder)
{
    nin_builder_conv2d(builder, "conv",
                       NIN_DESC(nin_conv2d_desc, .filters = 16, .kernel = 3, .pad = 1));
    nin_builder_relu(builder, "relu1");
    nin_builder_dense(builder, "dense1", NIN_DESC(nin_dense_desc, .units = 64)); /* 1 MiB */
    nin_builder_relu(builder, "relu2");
    nin_builder_dropout(builder, "drop", 0.5);
    nin_builder_dense(builder, "dense2", NIN_DESC(nin_dense_desc, .units = 40));
    nin_builder_relu(builder, "relu3");
    nin_builder_dense(builder, "dense3", NIN_DESC(nin_dense_desc, .units = 10));
    nin_builder_softmax_loss(builder, "loss");
}

static void describe_eights(nin_builder *builder)
{
    nin_builder_conv2d(builder, "one",
                       NIN_DESC(nin_conv2d_desc, .filters = 8, .kernel = 5, .stride = 2, .pad = 2));
    nin_builder_relu(builder, "relu1");
    nin_builder_conv2d(builder, "two", NIN_DESC(nin_conv2d_desc, .filters = 16, .kernel = 3));
    nin_builder_relu(builder, "relu2");
    nin_builder_dropout(builder, "drop", 0.5);
    nin_builder_conv2d(builder, "three",
                       NIN_DESC(nin_conv2d_desc, .filters = 24, .kernel = 3, .pad = 1));
    nin_builder_relu(builder, "relu3");
    nin_builder_max_pool(builder, "max", NIN_DESC(nin_pool_desc, .kernel = 2, .stride = 2));
    nin_builder_conv2d(builder, "maps",
                       NIN_DESC(nin_conv2d_desc, .filters = 5, .kernel = 2, .stride = 2, .pad = 1));
    nin_builder_global_average_pool(builder, "average");
    nin_builder_softmax_loss(builder, "loss");
}

static nin_network *build(nin_context *context, const nin_input_desc *input,
                          void (*describe)(nin_builder *builder))
{
    nin_builder *builder = NULL;
    nin_network *network = NULL;

    ASSERT_OK(nin_builder_create(&builder, context, input));
    describe(builder);
    ASSERT_OK(nin_builder_finish(&network, builder));
    nin_builder_destroy(builder);
    return network;
}

nin_network *rig_network(nin_context *context, enum rig_net net)
{
    nin_network *network = NULL;

    if (net == RIG_SMALL || net == RIG_EIGHTS)
        network = build(context, NIN_DESC(nin_input_desc, .channels = 2, .height = 16, .width = 16),
                        net == RIG_SMALL ? describe_small : describe_eights);
    else if (net == RIG_DENSE)
        network = build(context, NIN_DESC(nin_input_desc, .channels = 1, .height = 16, .width = 16),
                        describe_dense);
    else
        ASSERT_OK(nin_network_create_preset(&network, context, "mnist"));
    ASSERT_OK(nin_network_initialise(network, NIN_DESC(nin_init_desc, .weights = NIN_INIT_HE), 7));
    return network;
}

const struct cpu_bf16_kernels *rig_bf16(nin_precision precision)
{
    const struct cpu_bf16_kernels *kernels;
    struct nin__device device;

    ASSERT_OK(nin__cpu_choose_instructions(&device, NIN_INSTRUCTIONS_AUTO));
    return nin__cpu_choose_bf16(&kernels, &device, precision) == NIN_OK ? kernels : NULL;
}

void rig_make(struct rig *out, const struct rig_desc *desc)
{
    struct rig rig = {.batch = desc->batch};
    nin_device device = desc->device == NIN_DEVICE_AUTO ? NIN_DEVICE_CPU : desc->device;
    size_t image;

    ASSERT_OK(nin_context_create(&rig.context, NIN_DESC(nin_context_desc, .device = device,
                                                        .device_index = desc->device_index,
                                                        .threads = desc->threads, .seed = 3,
                                                        .cuda_stream = desc->cuda_stream,
                                                        .instructions = desc->instructions)));
    rig.network = rig_network(rig.context, desc->net);
    ASSERT_OK(nin__plan_create(&rig.plan, rig.network,
                               NIN_DESC(nin_plan_desc, .mode = desc->mode, .max_batch = desc->batch,
                                        .lanes = desc->lanes, .lane_bytes = desc->lane_bytes,
                                        .input_gradient = desc->input_gradient,
                                        .precision = desc->precision, .algorithm = desc->algorithm),
                               &desc->hidden));
    ASSERT_OK(nin_optimizer_create_sgd(
        &rig.optimizer, rig.network,
        NIN_DESC(nin_sgd_desc, .rate = 0.05, .momentum = 0.9, .weight_decay = 5e-4)));
    image = nin__shape_size(rig.plan->input);
    rig.images = calloc((size_t)desc->batch * image, sizeof *rig.images);
    rig.labels = calloc((size_t)desc->batch, sizeof *rig.labels);
    ck_assert(rig.images != NULL && rig.labels != NULL);
    *out = rig;
}

void rig_free(struct rig *rig)
{
    nin_optimizer_destroy(rig->optimizer);
    nin_plan_destroy(rig->plan);
    nin_network_destroy(rig->network);
    nin_context_destroy(rig->context);
    free(rig->images);
    free(rig->labels);
}

nin_batch_desc rig_batch(struct rig *rig, int64_t step, int32_t count)
{
    size_t image = nin__shape_size(rig->plan->input);

    nin__rng_uniform(rig->images, (size_t)count * image, 1.0, 11, (uint32_t)step);
    for (int32_t n = 0; n < count; n++)
        rig->labels[n] = (int32_t)((n * 7 + step * 3) % rig->plan->scores.c);
    return (nin_batch_desc){.struct_size = sizeof(nin_batch_desc),
                            .images = rig->images,
                            .dtype = NIN_F32,
                            .count = count,
                            .step = step};
}

nin_result rig_step(struct rig *rig, int64_t step, int32_t count)
{
    nin_batch_desc batch = rig_batch(rig, step, count);
    nin_result result = {.struct_size = sizeof result};

    ASSERT_OK(nin_plan_step(&result, rig->plan, rig->optimizer, &batch, rig->labels));
    return result;
}

nin_result rig_backward(struct rig *rig, int64_t step, int32_t count)
{
    nin_batch_desc batch = rig_batch(rig, step, count);
    nin_result result = {.struct_size = sizeof result};

    ASSERT_OK(nin_plan_forward(rig->plan, &batch));
    ASSERT_OK(
        nin_plan_backward(&result, rig->plan, NIN_DESC(nin_backward_desc, .labels = rig->labels)));
    return result;
}

static float *new_floats(size_t count)
{
    float *floats = malloc(count * sizeof *floats);

    ck_assert_ptr_nonnull(floats);
    return floats;
}

float *rig_gradient(const struct rig *rig)
{
    size_t count = nin_network_parameter_count(rig->network);
    float *copy = new_floats(count);
    nin_tensor *gradient = NULL;

    ASSERT_OK(nin_plan_gradient(&gradient, rig->plan, NULL, NIN_WEIGHT));
    ASSERT_OK(nin_tensor_read(gradient, copy, count * sizeof *copy));
    return copy;
}

float *rig_scores(const nin_plan *plan, int32_t count, size_t *values)
{
    float *copy;

    *values = nin__shape_size(plan->scores) * (size_t)count;
    copy = new_floats(*values);
    ASSERT_OK(nin_plan_scores(plan, copy, *values));
    return copy;
}

float *rig_parameters(const nin_network *network)
{
    float *copy = new_floats(nin_network_parameter_count(network));

    ASSERT_OK(nin__network_download(network, copy));
    return copy;
}

uint64_t rig_hash(uint64_t hash, const void *memory, size_t bytes)
{
    const char *next = memory;
    uint32_t word;

    for (size_t i = 0; i + sizeof word <= bytes; i += sizeof word) {
        memcpy(&word, next + i, sizeof word);
        hash = (hash ^ word) * UINT64_C(0x100000001b3);
        hash ^= hash >> 29;
    }
    return hash;
}

uint64_t rig_state(const struct rig *rig, const nin_result *result)
{
    size_t bytes = nin_network_parameter_count(rig->network) * sizeof(float);
    uint64_t hash = rig_hash(RIG_HASH, rig->network->parameters, bytes);

    hash = rig_hash(hash, rig->optimizer->momentum, bytes);
    hash = rig_hash(hash, rig->plan->losses, (size_t)result->count * sizeof *rig->plan->losses);
    return rig_hash(hash, &result->loss, sizeof result->loss);
}
