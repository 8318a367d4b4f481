/* SPDX-License-Identifier: MIT */
/* Max and average pooling over NHWC maps. Backward asks of each input which windows saw it, so that no two
 * threads add to one value, and the order of additions is that of the windows. */
#include "cuda/philox.h"
#include "cuda/vectors.h"
#include "cuda/windows.h"

namespace
{

enum {
    NOWHERE = 0xffff /* no place: a window has at most 255 x 255 pixels */
};

struct pooling : windows {
    bool exclude_padding, drop;
    bool relu; /* of what is read; a NaN stays one */
};

struct pooling pooling_of(const struct cuda_call *call)
{
    const struct nin__op *op = call->op;
    struct pooling p;

    static_cast<struct windows &>(p) = nin__cuda_windows_of(op);
    p.exclude_padding = op->exclude_padding;
    p.drop = op->drop;
    p.relu = call->cuda[-1].relu_later;
    return p;
}

/* Those of the input that output o sees. */
__device__ struct extent window(int32_t o, int32_t kernel, int32_t size, const struct pooling &p)
{
    int32_t first = o * p.stride - p.pad, end = first + kernel;
    struct extent extent = {first < 0 ? 0 : first, end > size ? size : end};

    return extent;
}

/* An element's place in its image's map. */
struct place {
    int32_t row, column, channel;
};

/* An image has fewer than 2^31 elements, and numbers of 32 bits are divided faster. */
__device__ struct place place_of(uint32_t element, int32_t width, int32_t channels)
{
    uint32_t pixel = element / (uint32_t)channels;
    struct place place = {(int32_t)(pixel / (uint32_t)width), (int32_t)(pixel % (uint32_t)width),
                          (int32_t)(element % (uint32_t)channels)};

    return place;
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

__device__ float rectified(float v, const struct pooling &p)
{
    return p.relu && v < 0.0f ? 0.0f : v;
}

/* ---- max ------------------------------------------------------------------------------------ */

/* The maximum of a window, the first of equals, and its place in the window's rows of kernel_w; NaN wins and
 * stays. x: an image */
__device__ float maximum(const float *x, struct place at, const struct pooling &p, int32_t *found)
{
    struct extent rows = window(at.row, p.kernel_h, p.in_h, p);
    struct extent columns = window(at.column, p.kernel_w, p.in_w, p);
    float largest = -INFINITY;

    *found = 0;
    for (int32_t r = rows.first; r < rows.end; r++)
        for (int32_t s = columns.first; s < columns.end; s++) {
            float v = x[element_at(r, s, p.in_w, p.in_c, at.channel)];

            if (v > largest || v != v) {
                largest = v;
                *found = (r - rows.first) * p.kernel_w + s - columns.first;
            }
        }
    return largest;
}

/* A thread has four elements of an image, as many as a block of random words. where: NULL or one for each
 * element */
__global__ void __launch_bounds__(BLOCK)
    max_pool(float *y, uint16_t *where, const float *x, struct pooling p, struct cuda_mask mask)
{
    uint32_t size = out_size(p), word[4] = {0, 0, 0, 0};
    struct image_element at = nin__cuda_element(nin__cuda_fours(size));
    const float *image = x + (size_t)at.image * nin__cuda_in_size(p);
    size_t first = (size_t)at.image * size;

    if (at.element >= nin__cuda_fours(size))
        return;
    if (p.drop)
        nin__cuda_philox(word, mask, at.element, at.image);
    for (uint32_t i = 0, e = 4 * at.element; i < 4 && e < size; i++, e++) {
        bool kept = !p.drop || word[i] >= mask.threshold;
        int32_t found;
        float v = maximum(image, place_of(e, p.out_w, p.in_c), p, &found);

        v = rectified(v, p); /* of the maximum is the maximum of the rectified */
        if (where != NULL)
            where[first + e] = kept ? (uint16_t)found : (uint16_t)NOWHERE;
        y[first + e] = !p.drop ? v : kept ? v * mask.scale : 0.0f;
    }
}

/* The place of input `at` among those that the window of output (oy, ox) sees. */
__device__ int32_t place_in_window(struct place at, int32_t oy, int32_t ox, const struct pooling &p)
{
    return (at.row - window(oy, p.kernel_h, p.in_h, p).first) * p.kernel_w + at.column -
           window(ox, p.kernel_w, p.in_w, p).first;
}

/* A gradient is 0 where x, which a ReLU made, is not positive; x: NULL for no ReLU. */
__device__ float gated(float gradient, const float *x, size_t i)
{
    return x == NULL || x[i] > 0.0f ? gradient : 0.0f;
}

/* Each input gets the gradients of the windows whose maximum it was. */
__global__ void __launch_bounds__(BLOCK)
    max_unpool(float *dx, const float *dy, const uint16_t *where, const float *x, struct pooling p,
               float scale)
{
    struct image_element e = nin__cuda_element(nin__cuda_in_size(p));
    size_t out = (size_t)e.image * out_size(p);
    struct place at = place_of(e.element, p.in_w, p.in_c);
    struct extent rows = nin__cuda_viewers(at.row, p.kernel_h, p.out_h, p);
    struct extent columns = nin__cuda_viewers(at.column, p.kernel_w, p.out_w, p);
    float sum = 0.0f;
    size_t in;

    if (e.element >= nin__cuda_in_size(p))
        return;
    for (int32_t oy = rows.first; oy < rows.end; oy++)
        for (int32_t ox = columns.first; ox < columns.end; ox++) {
            size_t o = out + element_at(oy, ox, p.out_w, p.in_c, at.channel);

            if (where[o] == place_in_window(at, oy, ox, p))
                sum += dy[o] * scale;
        }
    in = (size_t)e.image * nin__cuda_in_size(p) + e.element;
    dx[in] = gated(sum, x, in);
}

/* The same for four channels at a time; p counts these as one. */
__global__ void __launch_bounds__(BLOCK)
    max_unpool_fours(float4 *dx, const float4 *dy, const ushort4 *where, const float4 *x,
                     struct pooling p, float scale)
{
    struct image_element e = nin__cuda_element(nin__cuda_in_size(p));
    size_t out = (size_t)e.image * out_size(p);
    struct place at = place_of(e.element, p.in_w, p.in_c);
    struct extent rows = nin__cuda_viewers(at.row, p.kernel_h, p.out_h, p);
    struct extent columns = nin__cuda_viewers(at.column, p.kernel_w, p.out_w, p);
    float4 sum = {0.0f, 0.0f, 0.0f, 0.0f}, one = {1.0f, 1.0f, 1.0f, 1.0f}, open;
    size_t in = (size_t)e.image * nin__cuda_in_size(p) + e.element;

    if (e.element >= nin__cuda_in_size(p))
        return;
    open = x == NULL ? one : x[in];
    for (int32_t oy = rows.first; oy < rows.end; oy++)
        for (int32_t ox = columns.first; ox < columns.end; ox++) {
            size_t o = out + element_at(oy, ox, p.out_w, p.in_c, at.channel);
            int32_t place = place_in_window(at, oy, ox, p);
            ushort4 found = where[o];
            float4 g = dy[o];

            sum.x += found.x == place ? g.x * scale : 0.0f;
            sum.y += found.y == place ? g.y * scale : 0.0f;
            sum.z += found.z == place ? g.z * scale : 0.0f;
            sum.w += found.w == place ? g.w * scale : 0.0f;
        }
    dx[in] = nin__cuda_gated(sum, open);
}

/* ---- average -------------------------------------------------------------------------------- */

/* What a window's sum is divided by: its area inside the map, or inside the padded map. */
__device__ float divisor(int32_t oy, int32_t ox, const struct pooling &p)
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

__global__ void __launch_bounds__(BLOCK) average_pool(float *y, const float *x, struct pooling p)
{
    struct image_element e = nin__cuda_element(out_size(p));
    const float *image = x + (size_t)e.image * nin__cuda_in_size(p);
    struct place at = place_of(e.element, p.out_w, p.in_c);
    struct extent rows = window(at.row, p.kernel_h, p.in_h, p);
    struct extent columns = window(at.column, p.kernel_w, p.in_w, p);
    float sum = 0.0f;

    if (e.element >= out_size(p))
        return;
    for (int32_t r = rows.first; r < rows.end; r++)
        for (int32_t s = columns.first; s < columns.end; s++)
            sum += rectified(image[element_at(r, s, p.in_w, p.in_c, at.channel)], p);
    y[(size_t)e.image * out_size(p) + e.element] = sum / divisor(at.row, at.column, p);
}

__global__ void __launch_bounds__(BLOCK)
    average_unpool(float *dx, const float *dy, const float *x, struct pooling p)
{
    struct image_element e = nin__cuda_element(nin__cuda_in_size(p));
    const float *image = dy + (size_t)e.image * out_size(p);
    struct place at = place_of(e.element, p.in_w, p.in_c);
    struct extent rows = nin__cuda_viewers(at.row, p.kernel_h, p.out_h, p);
    struct extent columns = nin__cuda_viewers(at.column, p.kernel_w, p.out_w, p);
    float sum = 0.0f;
    size_t in = (size_t)e.image * nin__cuda_in_size(p) + e.element;

    if (e.element >= nin__cuda_in_size(p))
        return;
    for (int32_t oy = rows.first; oy < rows.end; oy++)
        for (int32_t ox = columns.first; ox < columns.end; ox++)
            sum += image[element_at(oy, ox, p.out_w, p.in_c, at.channel)] / divisor(oy, ox, p);
    dx[in] = gated(sum, x, in);
}

uint16_t *saved(const struct cuda_call *call)
{
    if (call->cuda->saved_per_image == 0)
        return NULL;
    return (uint16_t *)(void *)(call->executable->memory + call->cuda->saved);
}

} // namespace

nin_status nin__cuda_max_pool(const struct cuda_call *call)
{
    uint32_t size = (uint32_t)nin__shape_size(call->op->out);

    return nin__cuda_launch_images(call->device, call->images, nin__cuda_fours(size), max_pool,
                                   call->y, saved(call), call->x, pooling_of(call),
                                   nin__cuda_mask_of(call));
}

nin_status nin__cuda_max_pool_backward(const struct cuda_call *call)
{
    const struct nin__op *op = call->op;
    size_t size = nin__shape_size(op->in);
    float scale = op->drop ? op->keep_scale : 1.0f;
    struct pooling pooling = pooling_of(call);
    const float *x = call->gate ? call->x : NULL;

    if (call->dx == NULL)
        return NIN_OK;
    if (pooling.in_c % 4 != 0)
        return nin__cuda_launch_images(call->device, call->images, size, max_unpool, call->dx,
                                       (const float *)call->dy, (const uint16_t *)saved(call), x,
                                       pooling, scale);
    pooling.in_c /= 4; /* whole maps of them begin where vectors may */
    return nin__cuda_launch_images(call->device, call->images, size / 4, max_unpool_fours,
                                   (float4 *)(void *)call->dx, (const float4 *)(void *)call->dy,
                                   (const ushort4 *)(void *)saved(call),
                                   (const float4 *)(const void *)x, pooling, scale);
}

nin_status nin__cuda_average_pool(const struct cuda_call *call)
{
    return nin__cuda_launch_images(call->device, call->images, nin__shape_size(call->op->out),
                                   average_pool, call->y, call->x, pooling_of(call));
}

nin_status nin__cuda_average_pool_backward(const struct cuda_call *call)
{
    if (call->dx == NULL)
        return NIN_OK;
    return nin__cuda_launch_images(call->device, call->images, nin__shape_size(call->op->in),
                                   average_unpool, call->dx, (const float *)call->dy,
                                   call->gate ? call->x : (const float *)NULL, pooling_of(call));
}
