/* SPDX-License-Identifier: MIT */
/* Max and average pooling over NHWC maps. Backward asks of each input which windows saw it, so that
 * no two threads add to one value, and the order of additions is that of the windows. */
#include "cuda/philox.h"
#include "cuda/vectors.h"
#include "cuda/windows.h"

namespace
{

enum {
    NOWHERE = 0xffff, /* no place: a window has at most 255 x 255 pixels, */
    NO_WINDOW = -1,   /* nor has any maximum this one */
    PIXELS = 3,       /* of a row that a thread asks for before it waits for the first, */
    VIEWERS = 2       /* and windows that see its own */
};

struct pooling : windows {
    bool exclude_padding, drop;
    bool finish;       /* what is read gets a bias, unless that is NULL, and a ReLU */
    const float *bias; /* of in_c */
};

struct pooling pooling_of(const struct cuda_call *call)
{
    const struct nin__op *op = call->op;
    struct pooling p;

    static_cast<struct windows &>(p) = nin__cuda_windows_of(op);
    p.exclude_padding = op->exclude_padding;
    p.drop = op->drop;
    p.finish = call->cuda[-1].finish_later;
    p.bias =
        p.finish && op[-1].bias != NIN__NO_PARAMETER ? call->run->parameters + op[-1].bias : NULL;
    return p;
}

/* The first of the input that output o sees. */
__device__ int32_t first_seen(int32_t o, const struct pooling &p)
{
    int32_t first = o * p.stride - p.pad;

    return first < 0 ? 0 : first;
}

/* Those of the input that it sees. */
__device__ struct extent window(int32_t o, int32_t kernel, int32_t size, const struct pooling &p)
{
    int32_t end = o * p.stride - p.pad + kernel;
    struct extent extent = {first_seen(o, p), end > size ? size : end};

    return extent;
}

/* The element at a place, of a map that is so wide. */
__device__ uint32_t element_at(int32_t row, int32_t column, int32_t width, int32_t channels,
                               int32_t channel)
{
    return ((uint32_t)row * (uint32_t)width + (uint32_t)column) * (uint32_t)channels +
           (uint32_t)channel;
}

__device__ uint32_t out_size(const struct pooling &p)
{
    return (uint32_t)p.out_h * (uint32_t)p.out_w * (uint32_t)p.in_c;
}

/* Of one channel, or four. */
template <typename V> __device__ V bias_of(int32_t channel, const struct pooling &p)
{
    V bias = {};

    if (p.bias != NULL)
        nin__cuda_load_parameter(&bias, p.bias, (uint32_t)channel);
    return bias;
}

/* ---- max ------------------------------------------------------------------------------------ */

/* The largest so far and its place; NaN wins and stays. */
__device__ void keep_larger(float *largest, uint16_t *found, float v, int32_t place)
{
    if (v > *largest || v != v) {
        *largest = v;
        *found = (uint16_t)place;
    }
}

__device__ void keep_larger(float4 *largest, ushort4 *found, float4 v, int32_t place)
{
    keep_larger(&largest->x, &found->x, v.x, place);
    keep_larger(&largest->y, &found->y, v.y, place);
    keep_larger(&largest->z, &found->z, v.z, place);
    keep_larger(&largest->w, &found->w, v.w, place);
}

/* The maximum of a window, the first of equals, and its place in the window's rows of kernel_w: of
 * one channel or four, which p then counts as one. x: an image; `largest` comes as the least that
 * there is */
template <typename X, typename V, typename Where>
__device__ void find_maximum(V *largest, Where *found, const X *x, struct place at,
                             const struct pooling &p)
{
    struct extent rows = window(at.row, p.kernel_h, p.in_h, p);
    struct extent columns = window(at.column, p.kernel_w, p.in_w, p);
    V bias = bias_of<V>(at.channel, p);

    for (int32_t r = rows.first; r < rows.end; r++)
        for (int32_t s = columns.first; s < columns.end; s += PIXELS) {
            const X *one = x + element_at(r, s, p.in_w, p.in_c, at.channel);
            int32_t place = (r - rows.first) * p.kernel_w + s - columns.first;
            V v[PIXELS] = {};

#pragma unroll
            for (int32_t i = 0; i < PIXELS; i++)
                if (s + i < columns.end)
                    v[i] = nin__cuda_load(one + i * p.in_c);
#pragma unroll
            for (int32_t i = 0; i < PIXELS; i++)
                if (s + i < columns.end)
                    keep_larger(largest, found, nin__cuda_finished(x, v[i], bias, p.finish),
                                place + i);
        }
}

/* What a dropout behind the pool makes of a maximum, and of its place. */
__device__ void drop(float *v, uint16_t *found, uint32_t word, const struct cuda_mask &mask)
{
    bool kept = word >= mask.threshold;

    *v = kept ? *v * mask.scale : 0.0f;
    *found = kept ? *found : (uint16_t)NOWHERE;
}

/* A thread has four elements of an image, as many as a block of random words. where: NULL or one
 * for each element. Of such blocks a multiprocessor may have only 4: with registers for more, some
 * would be spilled. */
template <typename X, typename Y>
__global__ void __launch_bounds__(BLOCK, 4)
    max_pool(Y *y, uint16_t *where, const X *x, struct pooling p, struct map outputs,
             struct cuda_mask mask)
{
    uint32_t size = outputs.size, word[4] = {0, 0, 0, 0};
    struct image_element at = nin__cuda_element(nin__cuda_fours(size));
    const X *image = x + (size_t)at.image * nin__cuda_in_size(p);
    size_t first = (size_t)at.image * size;

    if (at.element >= nin__cuda_fours(size))
        return;
    if (p.drop)
        nin__cuda_philox(word, mask, at.element, at.image);
    for (uint32_t i = 0, e = 4 * at.element; i < 4 && e < size; i++, e++) {
        float largest = -INFINITY;
        uint16_t found = 0;

        find_maximum(&largest, &found, image, nin__cuda_place(e, outputs), p);
        if (p.drop)
            drop(&largest, &found, word[i], mask);
        nin__cuda_store(y + first + e, largest);
        if (where != NULL)
            where[first + e] = found;
    }
}

/* The same where these are four channels of a pixel. */
template <typename X, typename Y>
__global__ void __launch_bounds__(BLOCK, 4)
    max_pool_fours(Y *y, ushort4 *where, const X *x, struct pooling p, struct map outputs,
                   struct cuda_mask mask)
{
    struct image_element at = nin__cuda_element(outputs);
    size_t to = (size_t)at.image * outputs.size + at.element;
    float4 largest = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    ushort4 found = {0, 0, 0, 0};
    uint32_t word[4];

    if (at.element >= outputs.size)
        return;
    find_maximum(&largest, &found, x + (size_t)at.image * nin__cuda_in_size(p),
                 nin__cuda_place(at.element, outputs), p);
    if (p.drop) {
        nin__cuda_philox(word, mask, at.element, at.image);
        drop(&largest.x, &found.x, word[0], mask);
        drop(&largest.y, &found.y, word[1], mask);
        drop(&largest.z, &found.z, word[2], mask);
        drop(&largest.w, &found.w, word[3], mask);
    }
    nin__cuda_store(y + to, largest);
    if (where != NULL)
        where[to] = found;
}

/* The gradient of one channel or four of an input whose place in the window is `place`, if that is
 * where the maximum was. */
__device__ void add_found(float *sum, float dy, uint16_t found, int32_t place, float scale)
{
    if (found == place)
        *sum += dy * scale;
}

__device__ void add_found(float4 *sum, float4 dy, ushort4 found, int32_t place, float scale)
{
    add_found(&sum->x, dy.x, found.x, place, scale);
    add_found(&sum->y, dy.y, found.y, place, scale);
    add_found(&sum->z, dy.z, found.z, place, scale);
    add_found(&sum->w, dy.w, found.w, place, scale);
}

/* What gates the gradient of element i of x, which a ReLU makes: as it is in memory; x: NULL for no
 * ReLU. */
template <typename X> __device__ typename cuda_wide<X>::type gate_of(const X *x, size_t i)
{
    typename cuda_wide<X>::type gate = {};

    return x == NULL ? gate : nin__cuda_load(x + i);
}

/* A gradient is 0 where x, finished, is not positive. */
template <typename X, typename V>
__device__ V gated(V gradient, const X *x, V gate, V bias, const struct pooling &p)
{
    return x == NULL ? gradient
                     : nin__cuda_gated(gradient, nin__cuda_finished(x, gate, bias, p.finish));
}

/* Of the windows in row oy of the output that see input `at`. */
template <typename V, typename Y, typename Where>
__device__ void add_viewers(V *sum, const Y *dy, const Where *where, int32_t oy, struct place at,
                            const struct pooling &p, float scale)
{
    struct extent columns = nin__cuda_viewers(at.column, p.kernel_w, p.out_w, p);
    int32_t before = (at.row - first_seen(oy, p)) * p.kernel_w + at.column;
    uint32_t row = (uint32_t)oy * (uint32_t)p.out_w;

#pragma unroll 1
    for (int32_t ox = columns.first; ox < columns.end; ox += VIEWERS) {
        int32_t place[VIEWERS];
        V v[VIEWERS];
        Where found[VIEWERS];

#pragma unroll
        for (int32_t i = 0; i < VIEWERS; i++) {
            bool there = ox + i < columns.end;
            uint32_t o = (row + (uint32_t)(there ? ox + i : ox)) * (uint32_t)p.in_c;

            place[i] = there ? before - first_seen(ox + i, p) : NO_WINDOW;
            v[i] = nin__cuda_load(dy + o);
            found[i] = where[o];
        }
#pragma unroll
        for (int32_t i = 0; i < VIEWERS; i++)
            add_found(sum, v[i], found[i], place[i], scale);
    }
}

/* Each input gets the gradients of the windows whose maximum it was. A thread has one channel, or
 * four, which p counts as one. */
template <typename X, typename Y, typename Where>
__global__ void __launch_bounds__(BLOCK)
    max_unpool(X *dx, const Y *dy, const Where *where, const X *x, struct pooling p,
               struct map inputs, float scale)
{
    typedef typename cuda_wide<X>::type V;
    struct image_element e = nin__cuda_element(inputs);
    struct place at = nin__cuda_place(e.element, inputs);
    struct extent rows = nin__cuda_viewers(at.row, p.kernel_h, p.out_h, p);
    size_t in = (size_t)e.image * inputs.size + e.element;
    size_t out = (size_t)e.image * out_size(p) + (uint32_t)at.channel;
    V sum = {}, gate, bias;

    if (e.element >= inputs.size)
        return;
    gate = gate_of(x, in);
    bias = bias_of<V>(at.channel, p);
    for (int32_t oy = rows.first; oy < rows.end; oy++)
        add_viewers(&sum, dy + out, where + out, oy, at, p, scale);
    nin__cuda_store(dx + in, gated(sum, x, gate, bias, p));
}

/* ---- average -------------------------------------------------------------------------------- */

/* What a window's sum is divided by: its area inside the map, or inside the padded map. */
__device__ float area_of(int32_t oy, int32_t ox, const struct pooling &p)
{
    struct extent rows = window(oy, p.kernel_h, p.in_h, p);
    struct extent columns = window(ox, p.kernel_w, p.in_w, p);
    int32_t bottom = oy * p.stride - p.pad + p.kernel_h, height = p.kernel_h;
    int32_t right = ox * p.stride - p.pad + p.kernel_w, width = p.kernel_w;

    if (p.exclude_padding)
        return (float)((rows.end - rows.first) * (columns.end - columns.first));
    if (bottom > p.in_h + p.pad)
        height -= bottom - p.in_h - p.pad;
    if (right > p.in_w + p.pad)
        width -= right - p.in_w - p.pad;
    return (float)(height * width);
}

template <typename X, typename Y>
__global__ void __launch_bounds__(BLOCK)
    average_pool(Y *y, const X *x, struct pooling p, struct map outputs)
{
    struct image_element e = nin__cuda_element(outputs);
    const X *image = x + (size_t)e.image * nin__cuda_in_size(p);
    struct place at = nin__cuda_place(e.element, outputs);
    struct extent rows = window(at.row, p.kernel_h, p.in_h, p);
    struct extent columns = window(at.column, p.kernel_w, p.in_w, p);
    float sum = 0.0f, bias = bias_of<float>(at.channel, p);

    if (e.element >= outputs.size)
        return;
    for (int32_t r = rows.first; r < rows.end; r++)
        for (int32_t s = columns.first; s < columns.end; s++)
            sum += nin__cuda_finished(
                x, nin__cuda_load(image + element_at(r, s, p.in_w, p.in_c, at.channel)), bias,
                p.finish);
    nin__cuda_store(y + (size_t)e.image * outputs.size + e.element,
                    sum / area_of(at.row, at.column, p));
}

template <typename X, typename Y>
__global__ void __launch_bounds__(BLOCK, 4)
    average_unpool(X *dx, const Y *dy, const X *x, struct pooling p, struct map inputs)
{
    struct image_element e = nin__cuda_element(inputs);
    const Y *image = dy + (size_t)e.image * out_size(p);
    struct place at = nin__cuda_place(e.element, inputs);
    struct extent rows = nin__cuda_viewers(at.row, p.kernel_h, p.out_h, p);
    struct extent columns = nin__cuda_viewers(at.column, p.kernel_w, p.out_w, p);
    float sum = 0.0f;
    size_t in = (size_t)e.image * inputs.size + e.element;

    if (e.element >= inputs.size)
        return;
    for (int32_t oy = rows.first; oy < rows.end; oy++)
        for (int32_t ox = columns.first; ox < columns.end; ox++)
            sum += nin__cuda_load(image + element_at(oy, ox, p.out_w, p.in_c, at.channel)) /
                   area_of(oy, ox, p);
    nin__cuda_store(dx + in, gated(sum, x, gate_of(x, in), bias_of<float>(at.channel, p), p));
}

/* ---- the passes ----------------------------------------------------------------------------- */

uint16_t *saved(const struct cuda_call *call)
{
    if (call->cuda->saved_per_image == 0)
        return NULL;
    return (uint16_t *)(void *)(call->executable->memory + call->cuda->saved);
}

struct map inputs_of(const struct pooling &p)
{
    return nin__cuda_map(p.in_h, p.in_w, p.in_c);
}

struct map outputs_of(const struct pooling &p)
{
    return nin__cuda_map(p.out_h, p.out_w, p.in_c);
}

template <typename X, typename Y> nin_status go_max(const struct cuda_call *call)
{
    typedef typename cuda_four<X>::type X4;
    typedef typename cuda_four<Y>::type Y4;
    uint32_t threads = nin__cuda_fours((uint32_t)nin__shape_size(call->op->out));
    struct pooling pooling = pooling_of(call);
    struct cuda_mask mask = nin__cuda_mask_of(call);

    if (pooling.in_c % 4 != 0)
        return nin__cuda_launch_images(call->device, call->images, threads, max_pool<X, Y>,
                                       (Y *)call->y, saved(call), (const X *)call->x, pooling,
                                       outputs_of(pooling), mask);
    pooling.in_c /= 4; /* whole maps of them begin where vectors may */
    return nin__cuda_launch_images(call->device, call->images, threads, max_pool_fours<X4, Y4>,
                                   (Y4 *)call->y, (ushort4 *)(void *)saved(call),
                                   (const X4 *)call->x, pooling, outputs_of(pooling), mask);
}

template <typename X, typename Y> nin_status go_max_back(const struct cuda_call *call)
{
    typedef typename cuda_four<X>::type X4;
    typedef typename cuda_four<Y>::type Y4;
    const struct nin__op *op = call->op;
    size_t size = nin__shape_size(op->in);
    float scale = op->drop ? op->keep_scale : 1.0f;
    struct pooling pooling = pooling_of(call);
    const void *x = call->gate ? call->x : NULL;

    if (pooling.in_c % 4 != 0)
        return nin__cuda_launch_images(call->device, call->images, size, max_unpool<X, Y, uint16_t>,
                                       (X *)call->dx, (const Y *)call->dy,
                                       (const uint16_t *)saved(call), (const X *)x, pooling,
                                       inputs_of(pooling), scale);
    pooling.in_c /= 4; /* whole maps of them begin where vectors may */
    return nin__cuda_launch_images(call->device, call->images, size / 4,
                                   max_unpool<X4, Y4, ushort4>, (X4 *)call->dx,
                                   (const Y4 *)call->dy, (const ushort4 *)(void *)saved(call),
                                   (const X4 *)x, pooling, inputs_of(pooling), scale);
}

template <typename X, typename Y> nin_status go_average(const struct cuda_call *call)
{
    struct pooling pooling = pooling_of(call);

    return nin__cuda_launch_images(call->device, call->images, nin__shape_size(call->op->out),
                                   average_pool<X, Y>, (Y *)call->y, (const X *)call->x, pooling,
                                   outputs_of(pooling));
}

template <typename X, typename Y> nin_status go_average_back(const struct cuda_call *call)
{
    struct pooling pooling = pooling_of(call);

    return nin__cuda_launch_images(call->device, call->images, nin__shape_size(call->op->in),
                                   average_unpool<X, Y>, (X *)call->dx, (const Y *)call->dy,
                                   (const X *)(call->gate ? call->x : NULL), pooling,
                                   inputs_of(pooling));
}

} // namespace

nin_status nin__cuda_max_pool(const struct cuda_call *call)
{
    return nin__cuda_by_type(call, go_max<float, float>, go_max<cuda_bf16, cuda_bf16>,
                             go_max<cuda_bf16, float>);
}

nin_status nin__cuda_max_pool_backward(const struct cuda_call *call)
{
    if (call->dx == NULL)
        return NIN_OK;
    return nin__cuda_by_type(call, go_max_back<float, float>, go_max_back<cuda_bf16, cuda_bf16>,
                             go_max_back<cuda_bf16, float>);
}

nin_status nin__cuda_average_pool(const struct cuda_call *call)
{
    return nin__cuda_by_type(call, go_average<float, float>, go_average<cuda_bf16, cuda_bf16>,
                             go_average<cuda_bf16, float>);
}

nin_status nin__cuda_average_pool_backward(const struct cuda_call *call)
{
    if (call->dx == NULL)
        return NIN_OK;
    return nin__cuda_by_type(call, go_average_back<float, float>,
                             go_average_back<cuda_bf16, cuda_bf16>,
                             go_average_back<cuda_bf16, float>);
}
