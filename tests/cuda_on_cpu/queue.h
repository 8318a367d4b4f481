/* SPDX-License-Identifier: MIT */
#ifndef TESTS_QUEUE_H
#define TESTS_QUEUE_H

/* What the parts of the stand-in share: see stand_in.cpp. */

#include "cuda_runtime.h"

#include <deque>

/* The n-th call fails, if a test has asked for that. */
bool stand_in_fails(void);

/* Whether all of these bytes lie in one living piece of the current device's memory. */
bool stand_in_owns(const void *memory, size_t bytes);

/* The stream is a living one of the current device. */
bool stand_in_knows(cudaStream_t stream);

/* While a stream is captured much is illegal, for its thread and, unless that has another mode, for
 * the others: then the capture is spoilt, and the answer is true. */
bool stand_in_spoils(void);

/* Who waits for the whole device spoils every capture there, in whatever mode. */
void stand_in_spoil_all(void);

/* Puts work at the end of a stream. */
void stand_in_enqueue(cudaStream_t stream, std::function<void()> work);

/* Of the GPUs that there are: 75 for sm_75. */
int stand_in_capability(void);

/* As tensor cores have operands, but for the first. */
enum stand_in_operands {
    STAND_IN_FP32,
    STAND_IN_TF32, /* floats in memory */
    STAND_IN_BF16
};

/* A column-major product, c = a * b + add * c. */
struct stand_in_product {
    bool a_turned, b_turned;
    int m, n, k;
    const void *a, *b;
    int lda, ldb;
    float add;
    void *c;
    int ldc;
    enum stand_in_operands operands;
    bool narrow; /* c is bf16, not float */
};

/* Multiplies at once: to be called when work is done. */
void stand_in_multiply(const struct stand_in_product &product);

static inline size_t stand_in_operand_bytes(enum stand_in_operands operands)
{
    return operands == STAND_IN_BF16 ? 2 : 4;
}

/* A column-major matrix, of that many stored rows and columns, lies in the device's memory. */
bool stand_in_has_matrix(const void *matrix, size_t element, int64_t rows, int64_t columns,
                         int64_t leading);

/* A number in the environment. */
int stand_in_setting(const char *name, int otherwise);

/* What lives until it is destroyed, or the device is reset. */
void stand_in_keep(const void *thing, std::function<void()> destroy);
void stand_in_destroy(const void *thing);

#endif
