/* SPDX-License-Identifier: MIT */

/* Lesson 1: build a network, look at its layers, ask it for a prediction; a guess, as nothing is
 * trained here. To compile it: cc 01_first_network.c $(pkg-config --cflags --libs nin) */

#include <nin/nin.h>

#include <stdio.h>

/* Network In Network in small. An mlpconv is a convolution followed by 1x1 convolutions: a tiny
 * network of its own that slides over the image. The last one has a map for each class, and the
 * mean of each map is that class's score: there is no fully connected layer. */
static nin_status build(nin_network **out, nin_context *context)
{
    static const int32_t first[] = {16, 12, 8}; /* filters of conv, cccp1, cccp2 */
    static const int32_t second[] = {16, 4};    /* the last width is the number of classes */
    nin_builder *builder = NULL;

    nin_status status = nin_builder_create(
        &builder, context, NIN_DESC(nin_input_desc, .channels = 1, .height = 12, .width = 12));
    if (status != NIN_OK)
        return status;

    /* A builder keeps its first failure: it is enough to look at nin_builder_finish. */
    nin_builder_mlpconv(
        builder, "block1",
        NIN_DESC(nin_mlpconv_desc, .widths = first, .count = 3, .kernel = 5, .pad = 2));
    nin_builder_max_pool(builder, "pool1", NIN_DESC(nin_pool_desc, .kernel = 2));
    nin_builder_dropout(builder, "drop1", 0.5);
    nin_builder_mlpconv(builder, "block2",
                        NIN_DESC(nin_mlpconv_desc, .widths = second, .count = 2, .kernel = 3,
                                 .pad = 1, .no_last_relu = 1));
    nin_builder_global_average_pool(builder, "average");
    nin_builder_softmax_loss(builder, "loss");
    status = nin_builder_finish(out, builder);
    nin_builder_destroy(builder); /* the network stays */
    return status;
}

static void print_layers(nin_network *network)
{
    for (size_t i = 0; i < nin_network_layer_count(network); i++) {
        nin_layer_info l = {.struct_size = sizeof l};
        if (nin_layer_describe(&l, nin_network_layer(network, i)) == NIN_OK)
            printf("%-18s %3lldx%2lldx%2lld -> %3lldx%2lldx%2lld %6lld parameters\n", l.name,
                   (long long)l.input[0], (long long)l.input[1], (long long)l.input[2],
                   (long long)l.output[0], (long long)l.output[1], (long long)l.output[2],
                   (long long)(l.weight_count + l.bias_count));
    }
    printf("%zu parameters in all\n\n", nin_network_parameter_count(network));
}

/* A plan runs a network. This one is for inference, up to one image at a time. */
static nin_status predict(nin_network *network)
{
    float image[12 * 12], scores[4];
    nin_plan *plan = NULL;

    for (int i = 0; i < 12 * 12; i++)
        image[i] = i / 12 == 5 ? 1 : 0; /* a bright line from left to right */

    nin_status status =
        nin_plan_create(&plan, network, NIN_DESC(nin_plan_desc, .mode = NIN_INFER, .max_batch = 1));
    if (status == NIN_OK)
        status = nin_plan_forward(plan, NIN_DESC(nin_batch_desc, .images = image, .count = 1));
    if (status == NIN_OK)
        status = nin_plan_scores(plan, scores, 4);
    for (int i = 0; status == NIN_OK && i < 4; i++)
        printf("class %d has the score %8.4f\n", i, scores[i]);
    nin_plan_destroy(plan);
    return status;
}

int main(void)
{
    nin_context *context = NULL; /* device, threads and seed; here all defaults */
    nin_network *network = NULL;
    int failed = 1;

    if (nin_context_create(&context, NULL) == NIN_OK && build(&network, context) == NIN_OK) {
        print_layers(network);
        failed = predict(network) != NIN_OK;
    }
    if (failed)
        fprintf(stderr, "%s\n", nin_last_error()); /* one sentence: what was wrong, and where */
    nin_network_destroy(network);
    nin_context_destroy(context);
    return failed;
}
