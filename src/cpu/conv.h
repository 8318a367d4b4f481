/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_CONV_H
#define NIN__CPU_CONV_H

/* What the algorithms of a convolution share. */

#include "cpu/cpu.h"

/* Elements of the input under one window. */
static inline int64_t nin__cpu_patch_size(const struct nin__op *op)
{
    return (int64_t)op->kernel_h * op->kernel_w * op->in.c;
}

/* A pixel of the output needs the same pixel of the input only. */
static inline bool nin__cpu_is_pointwise(const struct nin__op *op)
{
    return op->kernel_h == 1 && op->kernel_w == 1 && op->stride == 1 && op->pad == 0;
}

/* The input lies as a matrix of windows already: a 1x1 convolution, a dense layer. */
static inline bool nin__cpu_is_flat(const struct nin__op *op)
{
    bool whole_map = op->kernel_h == op->in.h && op->kernel_w == op->in.w && op->pad == 0;

    return whole_map || nin__cpu_is_pointwise(op);
}

/* Kernels that Winograd's tiles and Fourier transforms are there for. */
static inline bool nin__cpu_is_mapped(const struct nin__op *op)
{
    return op->kernel_h == op->kernel_w && (op->kernel_h == 5 || op->kernel_h == 3) &&
           op->stride == 1 && op->pad < op->kernel_h;
}

/* Floats of a row of so many columns in whole vectors. */
static inline int32_t nin__cpu_padded(const struct cpu_op *cpu, int32_t columns)
{
    int32_t width = cpu->kernels->width;

    return (columns + width - 1) / width * width;
}

/* Floats that end where another piece of memory may begin. */
static inline size_t nin__cpu_align_floats(size_t floats)
{
    return nin__align(floats * sizeof(float)) / sizeof(float);
}

static inline const float *nin__cpu_bias(const struct cpu_call *call)
{
    return call->op->bias == NIN__NO_PARAMETER ? NULL : call->run->parameters + call->op->bias;
}

/* Where the output of a convolution goes, or the gradient of its data. */
struct cpu_outputs {
    float *y;                 /* [image][plane] */
    const float *bias, *gate; /* NULL: none; the gate lies as y does */
    bool relu;
    struct nin__shape plane;
};

struct cpu_outputs nin__cpu_outputs(const struct cpu_call *call);
struct cpu_outputs nin__cpu_data_outputs(const struct cpu_call *call);

static inline void nin__cpu_put(float *target, float value, bool accumulate)
{
    *target = accumulate ? *target + value : value;
}

/* Rows of pixels that are long are summed by themselves, for what adds a million pixels up one by
 * one loses two digits. Where they are short that would take time, and images are small. */
static inline bool nin__cpu_long_row(const struct nin__op *op)
{
    enum {
        LONG = 64
    };

    return op->out.w >= LONG;
}

/* A long sum loses digits, so products are summed in blocks of at most so many, all alike but the
 * last one. */
static inline int32_t nin__cpu_even_block(int32_t depth, int32_t most)
{
    int32_t blocks = (depth + most - 1) / most;

    return (depth + blocks - 1) / blocks;
}

/* Weights at points, of tiles or of transforms, lie in blocks of columns (CPU_BLOCK), so that a
 * block's products of all points stay in a cache of the second level. */
static inline int32_t nin__cpu_block_of(int32_t first, int32_t columns)
{
    return columns - first < CPU_BLOCK ? columns - first : CPU_BLOCK;
}

/* Columns first ... first + count - 1, which are some of a block's. */
struct cpu_columns {
    int32_t first, count;
    int32_t block, in_block; /* the block's first one, and how many it has */
};

/* From `first` on as many as are of its block, none behind `end`; of `columns` in all. */
static inline struct cpu_columns nin__cpu_columns_of(int32_t first, int32_t end, int32_t columns)
{
    int32_t block = first / CPU_BLOCK * CPU_BLOCK, in_block = nin__cpu_block_of(block, columns);
    int32_t rest = end - first, in_reach = block + in_block - first;

    return (struct cpu_columns){first, rest < in_reach ? rest : in_reach, block, in_block};
}

static inline size_t nin__cpu_block_floats(const struct cpu_op *cpu, size_t points, int32_t depth,
                                           int32_t columns)
{
    return points * cpu->kernels->packed_size(depth, columns);
}

static inline size_t nin__cpu_blocked_floats(const struct cpu_op *cpu, size_t points, int32_t depth,
                                             int32_t columns)
{
    size_t floats = 0;

    for (int32_t n = 0; n < columns; n += CPU_BLOCK)
        floats += nin__cpu_block_floats(cpu, points, depth, nin__cpu_block_of(n, columns));
    return floats;
}

/* What backward begins with: dy becomes 0 where the ReLU was, unless the op below has seen to it;
 * then its sums over the pixels are added to db. */
void nin__cpu_begin_backward(const struct cpu_call *call, float *db);

/* db (OC) += the sums of dy (pixels x OC), which are whole rows; `fresh` overwrites. */
void nin__cpu_add_bias_gradient(const struct cpu_call *call, float *db, const float *dy,
                                int64_t pixels, bool fresh);

/* Channels whose planes are mapped to points and back, counted in sixteens. */
static inline int64_t nin__cpu_mapped_channels(const struct nin__op *op)
{
    return ((int64_t)op->in.c + 15) / 16 * 16 + ((int64_t)op->out.c + 15) / 16 * 16;
}

/* Whether an algorithm can do an op, and what an image's forward pass costs it: a rule of shapes
 * alone, in multiplications, with what its maps cost beside them. */
bool nin__cpu_winograd_fits(const struct nin__op *op);
int64_t nin__cpu_winograd_cost(const struct nin__op *op);
bool nin__cpu_fft_fits(const struct nin__op *op);
int64_t nin__cpu_fft_cost(const struct nin__op *op);

/* What a flat convolution multiplies, forward and for the gradient of the data: also in bf16. */
struct cpu_product nin__cpu_flat_product(const struct cpu_call *call);
struct cpu_product nin__cpu_flat_gradient(const struct cpu_call *call);

/* A lane of taps: so many floats of dw, [tap][C][OC padded], then db. */
static inline size_t nin__cpu_tap_floats(const struct cpu_op *cpu)
{
    return (size_t)nin__cpu_patch_size(cpu->op) * (size_t)nin__cpu_padded(cpu, cpu->op->out.c);
}

static inline size_t nin__cpu_tap_lane(const struct cpu_op *cpu)
{
    return (nin__cpu_tap_floats(cpu) + (size_t)nin__cpu_padded(cpu, cpu->op->out.c)) *
           sizeof(float);
}

/* How it becomes a gradient. */
void nin__cpu_finish_taps(const struct cpu_op *cpu, const float *lane, float *gradient,
                          bool accumulate, struct cpu_share share);

#endif
