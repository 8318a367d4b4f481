/* SPDX-License-Identifier: MIT */
#ifndef TEST_PARITY_H
#define TEST_PARITY_H

/* What the parts of the parity suite share. A deviation is relative: the root mean square of the
 * differences over the root mean square of what is wanted. With NIN_PARITY_REPORT set, each one is
 * printed beside its bound. */

#include "golden.h"
#include "test.h"

#include <stdbool.h>

/* Opens tests/golden/NAME.gold; the test fails if that can't be done. */
golden *parity_open(const char *name);

/* The array of that name and type; the test fails if there is none. */
const golden_array *parity_find(const golden *file, uint32_t dtype, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Element i of an array of floats or doubles. */
double parity_value(const golden_array *array, size_t i);

/* A deviation over several tensors is that of all their elements together. */
struct parity_sums {
    double difference, wanted; /* of squares */
};
void parity_add(struct parity_sums *sums, const float *got, const golden_array *want);
double parity_deviation(struct parity_sums sums);

/* The deviation, of what format says, is at most the bound. */
void parity_check(double deviation, double bound, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Memory for so many floats, to be freed. */
float *parity_floats(size_t count);

/* test_parity_layers.c, test_parity_training.c */
TCase *parity_layers_case(void);
TCase *parity_training_case(void);

#endif
