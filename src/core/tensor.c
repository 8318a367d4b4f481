/* SPDX-License-Identifier: MIT */
#include "core/tensor.h"

#include "core/descriptor.h"
#include "core/error.h"

#include <stdlib.h>
#include <string.h>

/* DLPack's numbers (dlpack.h: DLDataTypeCode, DLDeviceType). */
enum {
    DL_INT = 0,
    DL_UINT = 1,
    DL_FLOAT = 2,
    DL_CPU = 1,
    DL_CUDA = 2
};

static nin_status describe_dtype(nin_tensor_info *info, nin_dtype dtype)
{
    static const uint8_t codes[] = {DL_FLOAT, DL_UINT, DL_INT}, bits[] = {32, 8, 32};

    if ((int)dtype < NIN_F32 || dtype > NIN_I32)
        return nin__fail(NIN_INVALID_ARGUMENT, "tensor: %d is no nin_dtype", (int)dtype);
    info->dtype = dtype;
    info->dtype_code = codes[dtype];
    info->dtype_bits = bits[dtype];
    info->dtype_lanes = 1;
    return NIN_OK;
}

static nin_status describe_shape(nin_tensor_info *info, int32_t rank, const int64_t *shape)
{
    uint64_t elements = 1;

    if (rank > 0 && shape == NULL)
        return nin__fail(NIN_INVALID_ARGUMENT, "tensor: the shape is NULL");
    if (rank < 0 || rank > NIN_MAX_RANK)
        return nin__fail(NIN_INVALID_ARGUMENT, "tensor: rank %d is outside 0 to %d", rank,
                         NIN_MAX_RANK);
    info->rank = rank;
    for (int32_t axis = rank - 1; axis >= 0; axis--) {
        if (shape[axis] < 1 || (uint64_t)shape[axis] > (UINT64_MAX >> 8) / elements)
            return nin__fail(NIN_INVALID_ARGUMENT, "tensor: size %lld of axis %d is out of range",
                             (long long)shape[axis], axis);
        info->shape[axis] = shape[axis];
        info->strides[axis] = (int64_t)elements;
        elements *= (uint64_t)shape[axis];
    }
    info->bytes = elements * (info->dtype_bits / 8u);
    return NIN_OK;
}

static nin_status describe(nin_tensor_info *info, const nin_context *context, nin_dtype dtype,
                           int32_t rank, const int64_t *shape)
{
    memset(info, 0, sizeof *info);
    info->struct_size = sizeof *info;
    info->device_type = nin_context_device(context) == NIN_DEVICE_CUDA ? DL_CUDA : DL_CPU;
    info->device_index = context->device_index;
    NIN__TRY(describe_dtype(info, dtype));
    return describe_shape(info, rank, shape);
}

static nin_status create(nin_tensor **out, nin_context *context, const nin_tensor_info *info)
{
    nin_tensor *tensor = calloc(1, sizeof *tensor);

    if (tensor == NULL)
        return nin__no_memory("a tensor");
    tensor->info = *info;
    tensor->context = nin__context_retain(context);
    *out = tensor;
    return NIN_OK;
}

nin_status nin_tensor_create(nin_tensor **out, nin_context *context, nin_dtype dtype, int32_t rank,
                             const int64_t *shape)
{
    nin_tensor_info info;
    nin_status status;

    NIN__NEED(out);
    NIN__NEED(context);
    NIN__TRY(describe(&info, context, dtype, rank, shape));
    NIN__TRY(nin__context_allocate(&info.data, context, info.bytes, "a tensor"));
    status = create(out, context, &info);
    if (status != NIN_OK)
        nin__context_release(context, info.data);
    else
        (*out)->owns_data = true;
    return status;
}

nin_status nin_tensor_wrap(nin_tensor **out, nin_context *context, void *data, nin_dtype dtype,
                           int32_t rank, const int64_t *shape)
{
    nin_tensor_info info;

    NIN__NEED(out);
    NIN__NEED(context);
    NIN__NEED(data);
    NIN__TRY(describe(&info, context, dtype, rank, shape));
    if ((uintptr_t)data % (info.dtype_bits / 8u) != 0)
        return nin__fail(NIN_INVALID_ARGUMENT, "tensor: the memory is not aligned to its elements");
    info.data = data;
    info.device_type = DL_CPU;
    info.device_index = 0;
    return create(out, context, &info);
}

nin_status nin_tensor_describe(nin_tensor_info *out, const nin_tensor *tensor)
{
    NIN__NEED(tensor);
    return NIN__INFO_WRITE(out, &tensor->info, nin_tensor_info);
}

static nin_status check_bytes(const nin_tensor *tensor, size_t bytes)
{
    if (bytes != tensor->info.bytes)
        return nin__fail(NIN_INVALID_ARGUMENT, "tensor: it has %llu bytes, not %zu",
                         (unsigned long long)tensor->info.bytes, bytes);
    return NIN_OK;
}

/* Wrapped memory is the host's, whatever the context's device. */
static bool on_device(const nin_tensor *tensor)
{
    return tensor->info.device_type != DL_CPU;
}

nin_status nin_tensor_write(nin_tensor *tensor, const void *source, size_t bytes)
{
    NIN__NEED(tensor);
    NIN__NEED(source);
    NIN__TRY(check_bytes(tensor, bytes));
    if (on_device(tensor))
        return tensor->context->backend->upload(tensor->context->device, tensor->info.data, source,
                                                bytes);
    memcpy(tensor->info.data, source, bytes);
    return NIN_OK;
}

nin_status nin_tensor_read(const nin_tensor *tensor, void *target, size_t bytes)
{
    NIN__NEED(tensor);
    NIN__NEED(target);
    NIN__TRY(check_bytes(tensor, bytes));
    if (on_device(tensor))
        return tensor->context->backend->download(tensor->context->device, target,
                                                  tensor->info.data, bytes);
    memcpy(target, tensor->info.data, bytes);
    return NIN_OK;
}

void nin_tensor_destroy(nin_tensor *tensor)
{
    if (tensor == NULL || tensor->is_view)
        return;
    if (tensor->owns_data)
        nin__context_release(tensor->context, tensor->info.data);
    nin_context_destroy(tensor->context);
    free(tensor);
}

/* ---- views of an arena -------------------------------------------------------------------- */

struct nin__views {
    const nin_network *network;
    nin_tensor whole;
    nin_tensor parts[]; /* weights and biases of each layer: [2 * layer + which] */
};

static nin_status view(nin_tensor *tensor, const nin_network *network, float *data, int32_t rank,
                       const int64_t *shape)
{
    tensor->context = network->context;
    tensor->is_view = true;
    NIN__TRY(describe(&tensor->info, network->context, NIN_F32, rank, shape));
    tensor->info.data = data;
    return NIN_OK;
}

static nin_status view_layer(nin_tensor *parts, const struct nin_layer *layer, float *arena)
{
    const int64_t bias_shape = (int64_t)layer->bias_count;
    int64_t oihw[4];

    if (layer->weight_count > 0) {
        layer->class->weight_shape(layer, oihw);
        NIN__TRY(view(&parts[NIN_WEIGHT], layer->network, arena + layer->weight, 4, oihw));
    }
    if (layer->bias_count > 0)
        NIN__TRY(view(&parts[NIN_BIAS], layer->network, arena + layer->bias, 1, &bias_shape));
    return NIN_OK;
}

nin_status nin__views_create(struct nin__views **out, nin_network *network, float *arena)
{
    const int64_t count = (int64_t)network->parameter_count;
    size_t parts = 2 * (size_t)network->layer_count;
    struct nin__views *views = calloc(1, sizeof *views + parts * sizeof views->parts[0]);
    nin_status status = NIN_OK;

    if (views == NULL)
        return nin__no_memory("tensors");
    views->network = network;
    if (count > 0)
        status = view(&views->whole, network, arena, 1, &count);
    for (int32_t i = 0; status == NIN_OK && i < network->layer_count; i++)
        status = view_layer(&views->parts[2 * i], &network->layers[i], arena);
    if (status != NIN_OK) {
        free(views);
        return status;
    }
    *out = views;
    return NIN_OK;
}

nin_status nin__views_find(nin_tensor **out, struct nin__views *views, const nin_layer *layer,
                           nin_parameter which)
{
    size_t first, count;

    if (layer == NULL) {
        if (views->network->parameter_count == 0)
            return nin__fail(NIN_INVALID_ARGUMENT, "the network has no parameters");
        *out = &views->whole;
        return NIN_OK;
    }
    if (layer->network != views->network)
        return nin__fail(NIN_INVALID_ARGUMENT, "layer '%s' belongs to another network",
                         layer->name);
    NIN__TRY(nin__layer_span(layer, which, &first, &count));
    *out = &views->parts[2 * layer->index + (int32_t)which];
    return NIN_OK;
}

void nin__views_destroy(struct nin__views *views)
{
    free(views);
}
