/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUITES_H
#define TESTS_SUITES_H

/* Every suite of the test program, in the order in which they run. A suite NAME lives in
 * tests/test_NAME.c. */

#define SUITES(X)                                                                                  \
    X(math)                                                                                        \
    X(rng)                                                                                         \
    X(data)                                                                                        \
    X(status)                                                                                      \
    X(context)                                                                                     \
    X(descriptor)                                                                                  \
    X(tensor)                                                                                      \
    X(builder)                                                                                     \
    X(network)                                                                                     \
    X(plan)                                                                                        \
    X(optimizer)                                                                                   \
    X(scheduler)                                                                                   \
    X(trainer)                                                                                     \
    X(file)                                                                                        \
    X(checkpoint)                                                                                  \
    X(ops)                                                                                         \
    X(gradients)                                                                                   \
    X(kernels)                                                                                     \
    X(bf16)                                                                                        \
    X(parity)                                                                                      \
    X(determinism)                                                                                 \
    X(allocation)                                                                                  \
    X(exhaustion)                                                                                  \
    X(sharing)                                                                                     \
    X(blas)                                                                                        \
    X(cuda)                                                                                        \
    X(cuda_bf16)                                                                                   \
    X(stretch)

struct Suite;

#define DECLARE_SUITE(name) struct Suite *name##_suite(void);
SUITES(DECLARE_SUITE)
#undef DECLARE_SUITE

#endif
