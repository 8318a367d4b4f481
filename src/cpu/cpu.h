/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_H
#define NIN__CPU_H

/* The CPU backend's words.
 *
 *   phases   of an op: prepare (once per parameter version), forward and backward (per chunk of
 *            images), finish (once per step: what lanes summed becomes the parameter's gradient)
 *   unit     of a segment: the images of one chunk in training, and one reduction unit
 *   segment  a stretch of ops that a worker takes a chunk through, depth first; at a boundary
 *            activations and gradients lie in whole-batch buffers and workers meet
 *   lane     a partial sum of gradients: unit u adds to lane u mod L, in order
 *
 * Activations are NHWC: [image][row][column][channel]. */

#include "core/backend.h"
#include "core/placement.h"

/* One op on a range of a chunk's images and of its output rows. Pointers are to the chunk's image 0.
 * Backward takes whole images: row 0, all rows. Any split of a forward pass into ranges gives the same
 * result; of a matrix product by OpenBLAS, whose bits follow its shapes, the same within rounding. */
struct cpu_call {
    const struct nin__op *op;
    const struct nin__run *run;
    int32_t first;         /* the chunk's image 0 is image `first` of the batch */
    int32_t image, images; /* range of images in the chunk */
    int32_t row, rows;     /* range of output rows */
    const float *x;        /* input,  [image][in.h][in.w][in.c] */
    float *y;              /* output, [image][out.h][out.w][out.c] */
    float *dy;             /* gradient of y; backward may change it */
    float *dx;             /* gradient of x, to be overwritten; NULL: nobody needs it */
    void *saved;           /* what forward leaves for backward */
    float *scratch;
    const float *prepared;
    float *lane; /* sums of this op's parameter gradients, to be added to */
};

/* What an op asks for, in bytes. */
struct cpu_need {
    size_t prepared;        /* weights as prepare makes them */
    size_t scratch;         /* of a worker, for a chunk of `unit` images */
    size_t lane;            /* sums of a lane */
    size_t saved_per_image; /* from forward to backward */
};

/* An algorithm for an op kind. Phases that it does not have are NULL. */
struct cpu_kernel {
    const char *name;
    void (*declare)(struct cpu_need *need, const struct nin__op *op, int32_t unit);
    void (*prepare)(const struct nin__op *op, const float *parameters, float *prepared);
    void (*forward)(const struct cpu_call *call);
    void (*backward)(const struct cpu_call *call);
    void (*finish)(const struct nin__op *op, const float *lane, float *gradient, bool accumulate);
};

extern const struct cpu_kernel nin__cpu_input_kernel;
extern const struct cpu_kernel nin__cpu_conv_gemm_kernel;
extern const struct cpu_kernel nin__cpu_relu_kernel;
extern const struct cpu_kernel nin__cpu_max_pool_kernel;
extern const struct cpu_kernel nin__cpu_average_pool_kernel;
extern const struct cpu_kernel nin__cpu_dropout_kernel;
extern const struct cpu_kernel nin__cpu_loss_kernel;

/* An op of an executable: its kernel, and where its memory lies. */
struct cpu_op {
    const struct nin__op *op;
    const struct cpu_kernel *kernel;
    struct cpu_need need;
    size_t y, dy, saved;       /* offsets in a worker's memory */
    size_t prepared, lane;     /* offsets in prepared weights and in a lane */
    float *whole_y, *whole_dy; /* whole-batch buffers in place of the worker's, or NULL */
};

struct cpu_segment {
    int32_t first, end; /* ops first ... end - 1 */
    int32_t unit;       /* images */
    size_t memory;      /* bytes of a worker, for one unit */
    size_t scratch;     /* offset in it */
    size_t lane_bytes;
    int32_t max_lanes; /* of a step; a small batch has fewer units than that */
};

struct nin__executable {
    struct nin__program program; /* its ops are the executable's own copy */
    struct nin__compile_options options;
    struct cpu_op *ops;
    struct cpu_segment *segments;
    int32_t segment_count;
    struct cpu_workers *workers;
    struct cpu_lanes *lanes; /* NULL in an inference program */
    char *worker_memory;     /* of all workers */
    size_t worker_bytes;     /* of one */
    float *whole;            /* all whole-batch buffers */
    size_t prepared_bytes;
    uint64_t bytes; /* of everything above */
};

/* compile.c */
nin_status nin__cpu_compile(struct nin__executable **out, struct nin__device *device,
                            const struct nin__program *program,
                            const struct nin__compile_options *options);
void nin__cpu_discard(struct nin__executable *executable);

/* run.c */
nin_status nin__cpu_run(struct nin__executable *executable, const struct nin__run *run);

/* describe.c */
size_t nin__cpu_describe(const struct nin__executable *executable, char *text, size_t size);

size_t nin__cpu_order_of_sums(const struct nin__executable *executable, int32_t batch, char *text,
                              size_t size);

/* update.c */
nin_status nin__cpu_check_finite(struct nin__device *device, const float *values, size_t count,
                                 size_t *bad);
nin_status nin__cpu_update(struct nin__device *device, const struct nin__update *update);

/* Uninitialised memory, aligned for any kernel; NULL if there is none. Freed by free. */
void *nin__cpu_memory(size_t bytes);

#endif
