/* SPDX-License-Identifier: MIT */

/* Lesson 2: train a network with arrays of your own, test it, save it.
 * The task: does a line run from left to right (class 0) or from top to bottom (class 1)? */

#include <nin/nin.h>
#include <stdio.h>
#include <stdlib.h>

#define SIZE 12
#define TRAIN 512
#define TEST 128

#define TRY(call)                                                                                  \
    do {                                                                                           \
        if ((call) != NIN_OK)                                                                      \
            goto done;                                                                             \
    } while (0)

/* A data set borrows such arrays: they must live as long as it does. */
static uint8_t images[TRAIN + TEST][SIZE * SIZE];
static int32_t labels[TRAIN + TEST];

static void draw_images(void)
{
    for (int n = 0; n < TRAIN + TEST; n++) {
        int line = rand() % SIZE;
        labels[n] = rand() % 2;
        for (int i = 0; i < SIZE * SIZE; i++)
            images[n][i] =
                (uint8_t)(rand() % 100 + 150 * (line == (labels[n] ? i % SIZE : i / SIZE)));
    }
}

int main(void)
{
    static const int32_t widths[] = {16, 8, 2}; /* the last width is the number of classes */
    nin_context *context = NULL;
    nin_builder *builder = NULL;
    nin_network *network = NULL;
    nin_plan *train = NULL, *test = NULL;
    nin_dataset *dataset = NULL;
    nin_optimizer *sgd = NULL;
    nin_trainer *trainer = NULL;
    nin_result result = {.struct_size = sizeof result};
    int failed = 1;

    draw_images();
    TRY(nin_context_create(&context, NIN_DESC(nin_context_desc, .seed = 1)));
    TRY(nin_builder_create(&builder, context,
                           NIN_DESC(nin_input_desc, .channels = 1, .height = SIZE, .width = SIZE)));
    nin_builder_mlpconv(builder, "block1",
                        NIN_DESC(nin_mlpconv_desc, .widths = widths, .count = 3, .kernel = 5,
                                 .pad = 2, .no_last_relu = 1));
    nin_builder_global_average_pool(builder, "average");
    nin_builder_softmax_loss(builder, "loss");
    TRY(nin_builder_finish(&network, builder));

    /* a plan for training, an optimizer and a data set make a trainer */
    TRY(nin_plan_create(&train, network, NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN)));
    TRY(nin_optimizer_create_sgd(&sgd, network,
                                 NIN_DESC(nin_sgd_desc, .rate = 0.05, .momentum = 0.9)));
    TRY(nin_dataset_create_arrays(
        &dataset, NIN_DESC(nin_arrays_desc, .images = images, .labels = labels, .dtype = NIN_U8,
                           .count = TRAIN, .channels = 1, .height = SIZE, .width = SIZE)));
    TRY(nin_trainer_create(&trainer, train, sgd, NULL, dataset, NULL));
    TRY(nin_trainer_fit(NULL, trainer, NIN_DESC(nin_fit_desc, .epochs = 20)));
    /* a plan for inference runs the images that were kept apart */
    TRY(nin_plan_create(&test, network, NIN_DESC(nin_plan_desc, .mode = NIN_INFER)));
    TRY(nin_plan_evaluate(
        &result, test,
        NIN_DESC(nin_batch_desc, .images = images[TRAIN], .dtype = NIN_U8, .count = TEST),
        labels + TRAIN));
    TRY(nin_network_save(network, "lines.safetensors"));
    printf("%d of %d test images right; saved as lines.safetensors\n", (int)result.correct, TEST);
    failed = 0;
done:
    if (failed)
        fprintf(stderr, "%s\n", nin_last_error());
    nin_trainer_destroy(trainer);
    nin_dataset_destroy(dataset);
    nin_optimizer_destroy(sgd);
    nin_plan_destroy(test);
    nin_plan_destroy(train);
    nin_network_destroy(network);
    nin_builder_destroy(builder);
    nin_context_destroy(context);
    return failed;
}
