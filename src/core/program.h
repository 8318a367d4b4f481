/* SPDX-License-Identifier: MIT */
#ifndef NIN__PROGRAM_H
#define NIN__PROGRAM_H

/* A program is what the core hands to a backend: a flat list of fused ops, each reading the output
 * of the one before it, with shapes and with what is kept. Layers lower themselves to ops; fusing
 * happens here, once, when the program is made. */

#include <nin/plan.h>

#include <stdbool.h>

struct nin__shape {
    int32_t c, h, w;
};

static inline size_t nin__shape_size(struct nin__shape shape)
{
    return (size_t)shape.c * (size_t)shape.h * (size_t)shape.w;
}

enum nin__op_kind {
    NIN__OP_INPUT, /* gathers images, scales stored pixels, turns NCHW into NHWC */
    NIN__OP_CONV,  /* also 1x1 and dense; bias and ReLU folded in */
    NIN__OP_RELU,
    NIN__OP_MAX_POOL,     /* also with a dropout behind it folded in */
    NIN__OP_AVERAGE_POOL, /* also global */
    NIN__OP_DROPOUT,      /* in training programs only */
    NIN__OP_LOSS,         /* log-softmax and negative log-likelihood */
    NIN__OP_KINDS
};

#define NIN__NO_PARAMETER SIZE_MAX

struct nin__op {
    enum nin__op_kind kind;
    int32_t first_layer, last_layer; /* of the network, that this op computes; -1 for the input */
    const char *name;                /* of the first layer; borrowed from the network */
    struct nin__shape in, out;
    int32_t kernel_h, kernel_w, stride, pad; /* conv and pools */
    bool relu;                               /* conv: max(0, .) at the end */
    bool exclude_padding;                    /* average pool */
    bool drop;                               /* max pool: dropout at the end */
    bool keep;                               /* whole-batch output for nin_plan_kept or scores */
    size_t weight, bias; /* conv: where they start in the arena; bias may be NIN__NO_PARAMETER */
    uint32_t
        threshold;    /* dropout, alone or folded in: dropped where the random word is below this */
    float keep_scale; /* likewise: 1 / (1 - drop) */
    uint32_t stream;  /* likewise: of the random numbers */
    float scale, shift; /* input: of stored pixels */
};

struct nin__program {
    struct nin__op *ops;
    int32_t count;
    int32_t scores; /* the op whose output the scores are */
    bool loss;      /* the last op is NIN__OP_LOSS */
    bool train;
    bool input_gradient;
    size_t parameters; /* floats in the arena */
    bool *kept;        /* of each layer: nin_plan_kept may ask for its output */
};

/* What a layer adds to while it lowers itself: the program so far, and whether the layer's
 * predecessor must stay readable. */
struct nin__lowering {
    struct nin__program *program;
    const nin_network *network;
    int32_t layer;    /* that is being lowered */
    int32_t dropouts; /* so far: numbers the streams */
    bool keep_before; /* the last op's output is kept for a layer before this one */
};

/* Makes the program of a network for a plan. The keep list of desc must have been checked. */
nin_status nin__program_create(struct nin__program **out, const nin_network *network,
                               const nin_plan_desc *desc);
void nin__program_destroy(struct nin__program *program);

/* The last op so far, and a new one below it that reads its output and belongs to the layer that is
 * being lowered. The array has room for one op a layer. */
struct nin__op *nin__program_last(const struct nin__lowering *lowering);
struct nin__op *nin__program_append(struct nin__lowering *lowering, enum nin__op_kind kind,
                                    struct nin__shape out);

/* The op that computes a layer's output. */
int32_t nin__program_find(const struct nin__program *program, int32_t layer);

const char *nin__op_name(enum nin__op_kind kind);

#endif
