/* SPDX-License-Identifier: MIT */
/* A program of somebody else, in C: it sees the installed headers and pkg-config, nothing of this
 * tree. It makes a tiny network and trains it for one step. */
#include <stdio.h>

#include <nin/nin.h>

enum {
    IMAGES = 4,
    SIDE = 8,
    CLASSES = 2
};

static float images[IMAGES][SIDE][SIDE];
static int32_t labels[IMAGES];

/* Even images are bright on the left, odd ones on the right. */
static void draw(void)
{
    for (int i = 0; i < IMAGES; i++) {
        labels[i] = i % CLASSES;
        for (int row = 0; row < SIDE; row++) {
            for (int column = 0; column < SIDE; column++)
                images[i][row][column] = (column < SIDE / 2) == (i % 2 == 0) ? 1.0f : 0.0f;
        }
    }
}

static nin_status make_network(nin_network **out, nin_context *context)
{
    static const int32_t widths[] = {6, 4, CLASSES};
    nin_builder *builder = NULL;
    nin_status status = nin_builder_create(
        &builder, context, NIN_DESC(nin_input_desc, .channels = 1, .height = SIDE, .width = SIDE));
    if (status != NIN_OK)
        return status;

    nin_builder_mlpconv(builder, "block",
                        NIN_DESC(nin_mlpconv_desc, .widths = widths, .count = 3, .kernel = 3,
                                 .pad = 1, .no_last_relu = 1));
    nin_builder_global_average_pool(builder, "average");
    nin_builder_softmax_loss(builder, "loss");
    status = nin_builder_finish(out, builder);
    nin_builder_destroy(builder);
    return status;
}

int main(void)
{
    nin_context *context = NULL;
    nin_network *network = NULL;
    nin_plan *plan = NULL;
    nin_optimizer *sgd = NULL;
    nin_result result = {.struct_size = sizeof result};
    int failed = 1;

    draw();
    if (nin_context_create(&context, NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CPU,
                                              .threads = 2, .seed = 7)) == NIN_OK &&
        make_network(&network, context) == NIN_OK &&
        nin_plan_create(&plan, network,
                        NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = IMAGES)) ==
            NIN_OK &&
        nin_optimizer_create_sgd(&sgd, network,
                                 NIN_DESC(nin_sgd_desc, .rate = 0.1, .momentum = 0.9)) == NIN_OK &&
        nin_plan_step(&result, plan, sgd,
                      NIN_DESC(nin_batch_desc, .images = images, .dtype = NIN_F32, .count = IMAGES),
                      labels) == NIN_OK) {
        printf("libnin %s: loss %.4f, %d of %d right\n", nin_version_text(), result.loss,
               (int)result.correct, (int)result.count);
        failed = result.count != IMAGES || !(result.loss > 0.0 && result.loss < 10.0);
    } else {
        printf("libnin %s: %s\n", nin_version_text(), nin_last_error());
    }

    nin_optimizer_destroy(sgd);
    nin_plan_destroy(plan);
    nin_network_destroy(network);
    nin_context_destroy(context);
    return failed;
}
