/* SPDX-License-Identifier: MIT */
/* Log-softmax and negative log-likelihood of one image's scores, in double with our own exp and
 * log: libm's differ between processors. */
#include "cpu/cpu.h"

#include "core/math.h"

#include <math.h>

static double exp_sum(const float *x, int32_t classes, float largest)
{
    double sum = 0.0;

    for (int32_t c = 0; c < classes; c++)
        sum += nin__exp((double)x[c] - (double)largest);
    return sum;
}

static uint8_t mark(const float *x, int32_t classes, bool correct)
{
    bool flat = true;

    for (int32_t c = 1; c < classes; c++)
        flat = flat && x[c] == x[0];
    return (uint8_t)((correct ? NIN__CORRECT : 0) | (flat ? NIN__FLAT : 0));
}

/* Each image's loss and marks, for the sum in the order of images that the core makes. An image
 * whose loss is NaN is not correct: of its scores none is the largest, whichever is found. */
static void forward(const struct cpu_call *call)
{
    const struct nin__run *run = call->run;
    int32_t classes = call->op->in.c;

    for (int32_t i = 0; run->labels != NULL && i < call->images; i++) {
        const float *x = call->x + (size_t)i * (size_t)classes;
        int32_t n = call->first + i, label = run->labels[n], best = nin__first_largest(x, classes);
        double loss = nin__log(exp_sum(x, classes, x[best])) - ((double)x[label] - (double)x[best]);

        run->losses[n] = loss;
        run->marks[n] = mark(x, classes, best == label && !isnan(loss));
    }
}

static void backward(const struct cpu_call *call)
{
    const struct nin__run *run = call->run;
    int32_t classes = call->op->in.c;

    for (int32_t i = 0; call->dx != NULL && i < call->images; i++) {
        const float *x = call->x + (size_t)i * (size_t)classes;
        float *dx = call->dx + (size_t)i * (size_t)classes;
        float largest = x[nin__first_largest(x, classes)];
        int32_t label = run->labels[call->first + i];
        double sum = exp_sum(x, classes, largest), batch = run->images.count;

        for (int32_t c = 0; c < classes; c++)
            dx[c] =
                (float)((nin__exp((double)x[c] - (double)largest) / sum - (c == label)) / batch);
    }
}

const struct cpu_algorithm nin__cpu_loss = {
    .name = "softmax", .forward = forward, .backward = backward};
