/* SPDX-License-Identifier: MIT */

/* Lesson 3: a training loop of your own. What a trainer does in one call is forward, backward and
 * update; taken apart, the gradient can be changed in between. Here its length is limited
 * ("gradient clipping"), and biases learn at twice the rate and without weight decay. */

#include <math.h>
#include <nin/nin.h>
#include <stdio.h>

#define BATCH 32
#define SIZE 8

#define TRY(call)                                                                                  \
    do {                                                                                           \
        if ((call) != NIN_OK)                                                                      \
            goto done;                                                                             \
    } while (0)

/* Class 0: stripes from left to right. Class 1: from top to bottom. */
static void draw_batch(float images[BATCH][SIZE * SIZE], int32_t labels[BATCH], int step)
{
    for (int n = 0; n < BATCH; n++) {
        labels[n] = (n * n + step) % 3 % 2;
        for (int i = 0; i < SIZE * SIZE; i++)
            images[n][i] = (float)(((labels[n] == 0 ? i / SIZE : i % SIZE) + n) / 2 % 2);
    }
}

static void clip(float *gradient, int64_t count, double longest)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (double)gradient[i] * (double)gradient[i];
    for (int64_t i = 0; i < count && sum > longest * longest; i++)
        gradient[i] *= (float)(longest / sqrt(sum));
}

int main(void)
{
    float images[BATCH][SIZE * SIZE];
    int32_t labels[BATCH];
    nin_context *context = NULL;
    nin_builder *builder = NULL;
    nin_network *network = NULL;
    nin_plan *plan = NULL;
    nin_optimizer *sgd = NULL;
    nin_tensor *gradient = NULL; /* of all parameters, in host memory of the plan */
    nin_tensor_info info = {.struct_size = sizeof info};
    nin_result result = {.struct_size = sizeof result};
    int failed = 1;

    TRY(nin_context_create(&context, NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CPU)));
    TRY(nin_builder_create(&builder, context,
                           NIN_DESC(nin_input_desc, .channels = 1, .height = SIZE, .width = SIZE)));
    nin_builder_conv2d(builder, "conv", NIN_DESC(nin_conv2d_desc, .filters = 8, .kernel = 3));
    nin_builder_relu(builder, "relu");
    nin_builder_dense(builder, "classes", NIN_DESC(nin_dense_desc, .units = 2));
    nin_builder_softmax_loss(builder, "loss");
    TRY(nin_builder_finish(&network, builder));
    TRY(nin_plan_create(&plan, network, NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN)));
    TRY(nin_plan_gradient(&gradient, plan, NULL, NIN_WEIGHT));
    TRY(nin_tensor_describe(&info, gradient));
    TRY(nin_optimizer_create_sgd(&sgd, network,
                                 NIN_DESC(nin_sgd_desc, .rate = 0.1, .weight_decay = 1e-4)));
    TRY(nin_optimizer_set_multipliers(sgd, nin_network_find(network, "conv"), NIN_BIAS, 2, 0));
    TRY(nin_optimizer_set_multipliers(sgd, nin_network_find(network, "classes"), NIN_BIAS, 2, 0));

    for (int step = 0; step < 50; step++) {
        draw_batch(images, labels, step);
        TRY(nin_plan_forward(plan, NIN_DESC(nin_batch_desc, .images = images, .count = BATCH,
                                            .step = step))); /* the step counts for dropout */
        TRY(nin_plan_backward(&result, plan, NIN_DESC(nin_backward_desc, .labels = labels)));
        clip(info.data, info.shape[0], 0.5);
        TRY(nin_optimizer_update(sgd, plan));
        if (step % 10 == 9)
            printf("step %d: loss %.4f\n", step + 1, result.loss);
    }
    failed = 0;
done:
    if (failed)
        fprintf(stderr, "%s\n", nin_last_error());
    nin_optimizer_destroy(sgd);
    nin_plan_destroy(plan);
    nin_network_destroy(network);
    nin_builder_destroy(builder);
    nin_context_destroy(context);
    return failed;
}
