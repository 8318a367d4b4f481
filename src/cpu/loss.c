/* SPDX-License-Identifier: MIT */
/* Log-softmax and negative log-likelihood of one image's scores, in double with our own exp and log:
 * libm's differ between processors. */
#include "cpu/cpu.h"

#include "core/math.h"

/* Index of the first largest score. */
static int32_t first_largest(const float *x, int32_t classes)
{
    int32_t best = 0;

    for (int32_t c = 1; c < classes; c++)
        if (x[c] > x[best])
            best = c;
    return best;
}

static double exp_sum(const float *x, int32_t classes, float largest)
{
    double sum = 0.0;

    for (int32_t c = 0; c < classes; c++)
        sum += nin__exp((double)x[c] - (double)largest);
    return sum;
}

static uint8_t mark(const float *x, int32_t classes, int32_t best, int32_t label)
{
    bool flat = true;

    for (int32_t c = 1; c < classes; c++)
        flat = flat && x[c] == x[0];
    return (uint8_t)((best == label ? NIN__CORRECT : 0) | (flat ? NIN__FLAT : 0));
}

/* Each image's loss and marks, for the sum in the order of images that the core makes. */
static void forward(const struct cpu_call *call)
{
    const struct nin__run *run = call->run;
    int32_t classes = call->op->in.c;

    for (int32_t i = 0; run->labels != NULL && i < call->images; i++) {
        const float *x = call->x + (size_t)i * (size_t)classes;
        int32_t n = call->first + i, best = first_largest(x, classes);

        run->losses[n] =
            nin__log(exp_sum(x, classes, x[best])) - ((double)x[run->labels[n]] - (double)x[best]);
        run->marks[n] = mark(x, classes, best, run->labels[n]);
    }
}

static void backward(const struct cpu_call *call)
{
    const struct nin__run *run = call->run;
    int32_t classes = call->op->in.c;

    for (int32_t i = 0; call->dx != NULL && i < call->images; i++) {
        const float *x = call->x + (size_t)i * (size_t)classes;
        float *dx = call->dx + (size_t)i * (size_t)classes;
        float largest = x[first_largest(x, classes)];
        int32_t label = run->labels[call->first + i];
        double sum = exp_sum(x, classes, largest), batch = run->images.count;

        for (int32_t c = 0; c < classes; c++)
            dx[c] =
                (float)((nin__exp((double)x[c] - (double)largest) / sum - (c == label)) / batch);
    }
}

const struct cpu_algorithm nin__cpu_loss = {
    .name = "softmax", .forward = forward, .backward = backward};
