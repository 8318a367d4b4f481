/* SPDX-License-Identifier: MIT */
/* The same program in C++: descriptors by value initialisation. */
#include <cstdio>
#include <vector>

#include <nin/nin.h>

namespace
{

const int count = 4;
const int side = 8;
const int32_t classes = 2;

template <typename Struct> Struct sized()
{
    Struct value = {};
    value.struct_size = sizeof value;
    return value;
}

/* Even images are bright on the left, odd ones on the right. */
std::vector<float> draw()
{
    std::vector<float> images;
    for (int i = 0; i < count; i++) {
        for (int pixel = 0; pixel < side * side; pixel++)
            images.push_back((pixel % side < side / 2) == (i % 2 == 0) ? 1.0f : 0.0f);
    }
    return images;
}

nin_status make_network(nin_network **out, nin_context *context)
{
    nin_input_desc input = sized<nin_input_desc>();
    input.channels = 1;
    input.height = input.width = side;

    const int32_t widths[] = {6, 4, classes};
    nin_mlpconv_desc block = sized<nin_mlpconv_desc>();
    block.widths = widths;
    block.count = 3;
    block.kernel = 3;
    block.pad = 1;
    block.no_last_relu = 1;

    nin_builder *builder = nullptr;
    nin_status status = nin_builder_create(&builder, context, &input);
    if (status != NIN_OK)
        return status;
    nin_builder_mlpconv(builder, "block", &block);
    nin_builder_global_average_pool(builder, "average");
    nin_builder_softmax_loss(builder, "loss");
    status = nin_builder_finish(out, builder);
    nin_builder_destroy(builder);
    return status;
}

nin_status train_one_step(nin_result *out, nin_plan *plan, nin_optimizer *sgd)
{
    const std::vector<float> images = draw();
    const int32_t labels[count] = {0, 1, 0, 1};
    nin_batch_desc batch = sized<nin_batch_desc>();
    batch.images = images.data();
    batch.dtype = NIN_F32;
    batch.count = count;
    return nin_plan_step(out, plan, sgd, &batch, labels);
}

} // namespace

int main()
{
    nin_context_desc with = sized<nin_context_desc>();
    with.device = NIN_DEVICE_CPU;
    with.threads = 2;
    with.seed = 7;
    nin_plan_desc training = sized<nin_plan_desc>();
    training.mode = NIN_TRAIN;
    training.max_batch = count;
    nin_sgd_desc rule = sized<nin_sgd_desc>();
    rule.rate = 0.1;
    rule.momentum = 0.9;

    nin_context *context = nullptr;
    nin_network *network = nullptr;
    nin_plan *plan = nullptr;
    nin_optimizer *sgd = nullptr;
    nin_result result = sized<nin_result>();
    bool right = nin_context_create(&context, &with) == NIN_OK &&
                 make_network(&network, context) == NIN_OK &&
                 nin_plan_create(&plan, network, &training) == NIN_OK &&
                 nin_optimizer_create_sgd(&sgd, network, &rule) == NIN_OK &&
                 train_one_step(&result, plan, sgd) == NIN_OK;
    if (right) {
        std::printf("libnin %s: loss %.4f, %d of %d right\n", nin_version_text(), result.loss,
                    static_cast<int>(result.correct), static_cast<int>(result.count));
        right = result.count == count && result.loss > 0.0 && result.loss < 10.0;
    } else {
        std::printf("libnin %s: %s\n", nin_version_text(), nin_last_error());
    }

    nin_optimizer_destroy(sgd);
    nin_plan_destroy(plan);
    nin_network_destroy(network);
    nin_context_destroy(context);
    return right ? 0 : 1;
}
