/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_LAUNCH_H
#define NIN__CUDA_LAUNCH_H

/* How kernels are written and started: one dimension, blocks of BLOCK threads. A kernel goes over
 * elements that are all alike, in strides of the whole grid, or has a thread for each element of
 * each image: then blocks belong to an image, and no number that has to be divided is longer than
 * 32 bits. */

#include "cuda/cuda.h"

enum {
    BLOCK = 256
};
static const size_t MAX_BLOCKS = (size_t)1 << 20;

/* `element` takes each value below `count` that is this thread's. */
#define FOR_EACH_ELEMENT(element, count)                                                           \
    for (size_t element = (size_t)blockIdx.x * BLOCK + threadIdx.x; element < (count);             \
         element += (size_t)gridDim.x * BLOCK)

static inline __host__ __device__ uint32_t nin__cuda_blocks_of(uint32_t size)
{
    return (size + BLOCK - 1) / BLOCK;
}

static inline uint32_t nin__cuda_tiles_over(size_t size, size_t tile)
{
    return (uint32_t)((size + tile - 1) / tile);
}

/* How rows are cut into parts of whole steps, of which there are `most` at most: all but the last
 * are as long. */
struct cuda_cut {
    uint32_t parts, part_rows;
};

static inline struct cuda_cut nin__cuda_cut(uint32_t rows, uint32_t most, uint32_t step)
{
    uint32_t part_rows = nin__cuda_tiles_over(nin__cuda_tiles_over(rows, most), step) * step;
    struct cuda_cut cut = {nin__cuda_tiles_over(rows, part_rows), part_rows};

    return cut;
}

/* This thread's image of so many elements, and its element, which may lie behind the last. */
struct image_element {
    uint32_t image, element;
};

static __device__ inline struct image_element nin__cuda_element(uint32_t size)
{
    uint32_t blocks = nin__cuda_blocks_of(size);
    struct image_element at = {blockIdx.x / blocks, blockIdx.x % blocks * BLOCK + threadIdx.x};

    return at;
}

template <typename... Parameters, typename... Arguments>
nin_status nin__cuda_launch_threads(struct nin__device *device, size_t blocks, unsigned threads,
                                    void (*kernel)(Parameters...), Arguments... arguments)
{
    cudaLaunchConfig_t config = {};

    if (blocks == 0)
        return NIN_OK;
    if (blocks > INT32_MAX)
        return nin__fail(NIN_UNSUPPORTED, "cuda: the batch is too large");
    config.gridDim = dim3((unsigned)blocks);
    config.blockDim = dim3(threads);
    config.stream = device->stream;
    return nin__cuda_check(device, cudaLaunchKernelEx(&config, kernel, arguments...),
                           "the launch of a kernel");
}

template <typename... Parameters, typename... Arguments>
nin_status nin__cuda_launch_blocks(struct nin__device *device, size_t blocks,
                                   void (*kernel)(Parameters...), Arguments... arguments)
{
    return nin__cuda_launch_threads(device, blocks, BLOCK, kernel, arguments...);
}

/* Starts kernel(arguments...) for so many elements; for none, nothing. */
template <typename... Parameters, typename... Arguments>
nin_status nin__cuda_launch(struct nin__device *device, size_t count, void (*kernel)(Parameters...),
                            Arguments... arguments)
{
    size_t blocks = (count + BLOCK - 1) / BLOCK;

    return nin__cuda_launch_blocks(device, blocks < MAX_BLOCKS ? blocks : MAX_BLOCKS, kernel,
                                   arguments...);
}

/* The same for so many images of `size` elements. */
template <typename... Parameters, typename... Arguments>
nin_status nin__cuda_launch_images(struct nin__device *device, int32_t images, size_t size,
                                   void (*kernel)(Parameters...), Arguments... arguments)
{
    if (size > INT32_MAX)
        return nin__fail(NIN_UNSUPPORTED, "cuda: %zu elements of an image are too many", size);
    return nin__cuda_launch_blocks(device, (size_t)images * nin__cuda_blocks_of((uint32_t)size),
                                   kernel, arguments...);
}

#endif
