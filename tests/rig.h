/* SPDX-License-Identifier: MIT */
#ifndef TESTS_RIG_H
#define TESTS_RIG_H

/* A whole set-up for tests of how networks are run: context, network, plan, optimizer, and batches
 * whose images and labels follow from the number of the step. */

#include "test.h"

#include "core/plan.h"

#include <stdbool.h>
#include <stdint.h>

enum rig_net {
    RIG_SMALL, /* 2x16x16, every kind of op but dense; one segment */
    RIG_DENSE, /* 1x16x16, dense layers of which one stands alone; several segments */
    RIG_MNIST, /* the preset */
    RIG_EIGHTS /* 2x16x16, convolutions of channels in eights, one of stride 2 */
};

struct rig_desc {
    enum rig_net net;
    nin_mode mode;
    nin_device device; /* the CPU by default */
    int32_t device_index;
    void *cuda_stream;
    int32_t threads;
    int32_t batch; /* the plan's max_batch */
    int32_t lanes;
    uint64_t lane_bytes;
    int32_t input_gradient;
    nin_algorithm algorithm;
    nin_precision precision;
    nin_instruction_set instructions;
    struct nin__compile_options hidden; /* unit, boundaries, jitter */
};

struct rig {
    nin_context *context;
    nin_network *network;
    nin_plan *plan;
    nin_optimizer *optimizer;
    int32_t batch;
    float *images;
    int32_t *labels;
};

/* A network of the context with He weights; owned by the caller. */
nin_network *rig_network(nin_context *context, enum rig_net net);

/* The kernels of a precision that a context has by default; NULL: not on this processor, or
 * NIN_CPU_ISA names another instruction set. */
const struct cpu_bf16_kernels *rig_bf16(nin_precision precision);

/* Makes everything, or fails the test. */
void rig_make(struct rig *out, const struct rig_desc *desc);
void rig_free(struct rig *rig);

/* Fills images and labels for a step; the batch's descriptor borrows from the rig. */
nin_batch_desc rig_batch(struct rig *rig, int64_t step, int32_t count);

/* One training step on the batch of that number. */
nin_result rig_step(struct rig *rig, int64_t step, int32_t count);

/* Forward and backward without an update. */
nin_result rig_backward(struct rig *rig, int64_t step, int32_t count);

/* Copies, owned by the caller: the gradient arena, the scores of the last run, all parameters. */
float *rig_gradient(const struct rig *rig);
float *rig_scores(const nin_plan *plan, int32_t count, size_t *values);
float *rig_parameters(const nin_network *network);

/* Adds the bits of `bytes` bytes, a multiple of 4, to a hash that starts at RIG_HASH. */
#define RIG_HASH UINT64_C(0xcbf29ce484222325)
uint64_t rig_hash(uint64_t hash, const void *memory, size_t bytes);

/* The bits of all parameters, all momentum, and the losses of the last step. */
uint64_t rig_state(const struct rig *rig, const nin_result *result);

#endif
