/* SPDX-License-Identifier: MIT */
#include <nin/network.h>

#include "core/error.h"

#include <stddef.h>
#include <string.h>

/* Three mlpconv blocks, max pooling and dropout behind the first two, the average of the class
 * maps: the shape that all networks of the paper have (Lin, Chen, Yan 2013, section 4). */
struct preset {
    const char *name;
    int32_t channels, height, width; /* of the input */
    double scale, shift;             /* of its stored pixels */
    int32_t widths[3][3];            /* filters of each block's three convolutions */
    int32_t kernels[3];              /* of each block's first, padded to keep the map's size */
    int32_t pool_pad, round_up;      /* of the 3x3 max pooling, stride 2 */
    int32_t no_last_relu;            /* on the class maps */
    nin_init biases;
};

static const struct preset presets[] = {
    /* The MNIST experiment as the reference program has it: padded pooling, class maps as logits,
     * PyTorch's biases. */
    {.name = "mnist",
     .channels = 1,
     .height = 28,
     .width = 28,
     .scale = 1.0 / 127.5,
     .shift = -1.0,
     .widths = {{96, 64, 48}, {128, 96, 48}, {128, 96, 10}},
     .kernels = {5, 5, 5},
     .pool_pad = 1,
     .no_last_relu = 1,
     .biases = NIN_INIT_FAN_IN},
    /* CIFAR-10 as the authors' cifar-10_def has it: pooling that rounds up, a ReLU on the class
     * maps too, biases of zero. It was trained on whitened floats. */
    {.name = "cifar10",
     .channels = 3,
     .height = 32,
     .width = 32,
     .scale = 1.0 / 127.5,
     .shift = -1.0,
     .widths = {{192, 160, 96}, {192, 192, 192}, {192, 192, 10}},
     .kernels = {5, 5, 3},
     .round_up = 1,
     .biases = NIN_INIT_ZERO},
};

static void describe(nin_builder *builder, const struct preset *preset)
{
    static const char *const names[3][3] = {
        {"conv1", "cccp1", "cccp2"}, {"conv2", "cccp3", "cccp4"}, {"conv3", "cccp5", "cccp6"}};
    static const char *const blocks[3] = {"block1", "block2", "block3"};
    static const char *const pools[2] = {"pool1", "pool2"}, *const drops[2] = {"drop1", "drop2"};
    const nin_init_desc init = {.struct_size = sizeof init,
                                .weights = NIN_INIT_NORMAL,
                                .weight_scale = 0.05, /* all presets of the authors */
                                .biases = preset->biases};

    for (int i = 0; i < 3; i++) {
        nin_builder_mlpconv(builder, blocks[i],
                            NIN_DESC(nin_mlpconv_desc, .widths = preset->widths[i], .count = 3,
                                     .kernel = preset->kernels[i], .pad = preset->kernels[i] / 2,
                                     .no_last_relu = i == 2 && preset->no_last_relu,
                                     .names = names[i], .init = &init));
        if (i == 2)
            break;
        nin_builder_max_pool(builder, pools[i],
                             NIN_DESC(nin_pool_desc, .kernel = 3, .stride = 2,
                                      .pad = preset->pool_pad, .round_up = preset->round_up));
        nin_builder_dropout(builder, drops[i], 0.5);
    }
    nin_builder_global_average_pool(builder, "average");
    nin_builder_softmax_loss(builder, "loss");
}

enum {
    PRESETS = sizeof presets / sizeof presets[0]
};

const char *nin_preset_name(size_t i)
{
    return i < PRESETS ? presets[i].name : NULL;
}

static nin_status create(nin_network **out, nin_context *context, const struct preset *preset)
{
    nin_builder *builder;
    nin_status status;

    NIN__TRY(nin_builder_create(&builder, context,
                                NIN_DESC(nin_input_desc, .channels = preset->channels,
                                         .height = preset->height, .width = preset->width,
                                         .scale = preset->scale, .shift = preset->shift)));
    describe(builder, preset);
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
            return create(out, context, &presets[i]);
    return nin__fail(NIN_INVALID_ARGUMENT, "there is no preset '%.80s'; nin_preset_name lists them",
                     name);
}
