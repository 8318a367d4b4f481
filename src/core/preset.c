/* SPDX-License-Identifier: MIT */
#include <nin/network.h>

#include "core/error.h"

#include <stddef.h>
#include <string.h>

/* The network of the MNIST experiment (Lin, Chen, Yan 2013, section 4.6 and the authors' mnist_def) as
 * the reference program has it: max pooling with padding 1 and no ReLU on the class maps. */
static void describe_mnist(nin_builder *builder)
{
    static const int32_t widths[3][3] = {{96, 64, 48}, {128, 96, 48}, {128, 96, 10}};
    static const char *const names[3][3] = {
        {"conv1", "cccp1", "cccp2"}, {"conv2", "cccp3", "cccp4"}, {"conv3", "cccp5", "cccp6"}};
    static const char *const blocks[3] = {"block1", "block2", "block3"};
    static const char *const pools[2] = {"pool1", "pool2"}, *const drops[2] = {"drop1", "drop2"};
    const nin_init_desc init = {.struct_size = sizeof init,
                                .weights = NIN_INIT_NORMAL,
                                .weight_scale = 0.05,
                                .biases = NIN_INIT_FAN_IN};

    for (int i = 0; i < 3; i++) {
        nin_builder_mlpconv(builder, blocks[i],
                            NIN_DESC(nin_mlpconv_desc, .widths = widths[i], .count = 3, .kernel = 5,
                                     .pad = 2, .no_last_relu = i == 2, .names = names[i],
                                     .init = &init));
        if (i == 2)
            break;
        nin_builder_max_pool(builder, pools[i],
                             NIN_DESC(nin_pool_desc, .kernel = 3, .stride = 2, .pad = 1));
        nin_builder_dropout(builder, drops[i], 0.5);
    }
    nin_builder_global_average_pool(builder, "average");
    nin_builder_softmax_loss(builder, "loss");
}

static const struct {
    const char *name;
    int32_t channels, height, width;
    double scale, shift;
    void (*describe)(nin_builder *builder);
} presets[] = {
    {"mnist", 1, 28, 28, 1.0 / 127.5, -1.0, describe_mnist},
};

enum {
    PRESETS = sizeof presets / sizeof presets[0]
};

const char *nin_preset_name(size_t i)
{
    return i < PRESETS ? presets[i].name : NULL;
}

static nin_status create(nin_network **out, nin_context *context, size_t i)
{
    nin_builder *builder;
    nin_status status;

    NIN__TRY(nin_builder_create(&builder, context,
                                NIN_DESC(nin_input_desc, .channels = presets[i].channels,
                                         .height = presets[i].height, .width = presets[i].width,
                                         .scale = presets[i].scale, .shift = presets[i].shift)));
    presets[i].describe(builder);
    status = nin_builder_finish(out, builder);
    nin_builder_destroy(builder);
    return status;
}

nin_status nin_network_create_preset(nin_network **out, nin_context *context, const char *name)
{
    NIN__NEED(out);
    NIN__NEED(context);
    NIN__NEED(name);
    for (size_t i = 0; i < PRESETS; i++)
        if (strcmp(presets[i].name, name) == 0)
            return create(out, context, i);
    return nin__fail(NIN_INVALID_ARGUMENT, "there is no preset '%.80s'; nin_preset_name lists them",
                     name);
}
