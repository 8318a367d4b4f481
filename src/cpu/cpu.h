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
 *   group    ops of a segment that are run strip by strip of rows
 *   lane     a partial sum of gradients: unit u adds to lane u mod L, in order
 *
 * Activations are NHWC: [image][row][column][channel]. */

#include "core/backend.h"
#include "core/placement.h"
#include "cpu/kernels.h"

#include <stdatomic.h>

struct cpu_op;

/* A pass over the network, each of which may want weights in a form of its own. */
enum cpu_pass {
    CPU_FORWARD,
    CPU_BACKWARD,
    CPU_PASSES
};

/* Forms of a convolution's weights. Turned: the kernel by half a turn, outputs for inputs. Those of
 * tiles or transforms of another side have other bytes. */
enum cpu_form {
    CPU_FORM_OHWI,
    CPU_FORM_PACKED,          /* taps and channels x filters, in the panels of `multiply` */
    CPU_FORM_PACKED_TURNED,   /* taps and filters x channels, likewise */
    CPU_FORM_PACKED_WINDOWS,  /* filters x taps and channels, likewise */
    CPU_FORM_WINOGRAD,        /* at each point channels x filters, likewise */
    CPU_FORM_WINOGRAD_TURNED, /* at each point filters x channels, likewise */
    CPU_FORM_FOURIER,         /* at each point channels x filters, likewise, re above im */
    CPU_FORM_BF16,            /* channels x filters, rounded; bytes tell bf16x3 apart */
    CPU_FORM_BF16_TURNED,     /* filters x channels, likewise */
};

/* A worker's share of what several do together: part of 0 ... parts - 1. */
struct cpu_share {
    int32_t part, parts;
};

/* One op on a range of a chunk: whole images, or some output rows of one image. What belongs to the
 * output (y, dy, saved) points to the range's first row; what belongs to the input (x, dx) to the
 * first image, or for a rowwise op to the range's first row too. Any split of a pass into ranges
 * gives the same bits; of a matrix product by OpenBLAS, whose bits follow its shapes, and of
 * Winograd's and Fourier's weight gradients, which have an order of their own in a chunk, the same
 * within rounding. */
struct cpu_call {
    const struct cpu_op *cpu;
    const struct nin__op *op; /* of cpu */
    const struct nin__run *run;
    int32_t first;  /* the range's first image in the batch */
    int32_t images; /* 1 if the range is one of rows */
    int32_t row, rows;
    const float *x; /* input,  [image][in.h][in.w][in.c] */
    float *y;       /* output, [image][out.h][out.w][out.c] */
    float *dy;      /* gradient of y; backward may change it */
    float *dx;      /* gradient of x, to be overwritten; NULL: nobody needs it */
    void *saved;    /* what forward leaves for backward */
    float *scratch;
    const float *prepared[CPU_PASSES]; /* weights in the pass's form; NULL: it has none */
    float *lane;                       /* sums of this op's parameter gradients */
    bool fresh;                        /* the lane is to be overwritten, not added to */
    struct cpu_share
        share; /* of a forward pass of whole images, for an algorithm that takes no less:
                               the part of the output's channels that is to be made */
};

/* What an op asks for, in bytes. */
struct cpu_need {
    size_t prepared[CPU_PASSES];    /* weights as prepare makes them for a pass */
    size_t scratch;                 /* of a worker, for a chunk of `unit` images */
    size_t lane;                    /* sums of a lane */
    size_t saved_per_image;         /* from forward to backward */
    enum cpu_form form[CPU_PASSES]; /* that they have, if they have bytes */
};

/* Multiplications that an algorithm takes for an image, each with an addition: without those by the
 * zeros of the padding and without maps, packing and sums over lanes. */
struct cpu_work {
    int64_t forward, weights, data; /* the last two: of backward */
};

/* An algorithm for an op kind. Phases that it does not have are NULL. */
struct cpu_algorithm {
    const char *name;
    bool gates;   /* backward passes no gradient where x, the output of a ReLU, is 0 */
    bool whole;   /* takes whole images only */
    bool forgets; /* backward does not read x, so that nothing keeps it */
    void (*declare)(struct cpu_need *need, const struct cpu_op *op, int32_t unit);
    void (*prepare)(const struct cpu_op *op, enum cpu_pass pass, const float *parameters,
                    float *prepared, struct cpu_share share);
    void (*forward)(const struct cpu_call *call);
    void (*backward)(const struct cpu_call *call);
    void (*finish)(const struct cpu_op *op, const float *lane, float *gradient, bool accumulate,
                   struct cpu_share share);
    struct cpu_work (*work)(
        const struct cpu_op *op); /* NULL: a multiplication for each weight and pixel
                                                         that meet */
};

extern const struct cpu_algorithm nin__cpu_input;
extern const struct cpu_algorithm nin__cpu_conv_gemm;
extern const struct cpu_algorithm nin__cpu_conv_direct;
extern const struct cpu_algorithm nin__cpu_conv_winograd;
extern const struct cpu_algorithm nin__cpu_conv_fft;
extern const struct cpu_algorithm nin__cpu_conv_bf16;
extern const struct cpu_algorithm nin__cpu_relu;
extern const struct cpu_algorithm nin__cpu_max_pool;
extern const struct cpu_algorithm nin__cpu_average_pool;
extern const struct cpu_algorithm nin__cpu_dropout;
extern const struct cpu_algorithm nin__cpu_loss;

/* An op of an executable: its algorithm, and where its memory lies. */
struct cpu_op {
    const struct nin__op *op;
    const struct cpu_algorithm *algorithm;
    const struct cpu_kernels *kernels;
    const struct cpu_bf16_kernels *bf16; /* of the plan's precision; NULL: it is fp32 */
    bool train;                          /* the program goes backward too */
    bool rowwise;                        /* an output row needs the same row of the input only */
    bool wants_dx;                       /* the op above needs a gradient */
    bool
        gate_dx; /* backward gates dx by x: the op above is rectified and leaves that to this one */
    bool gated;  /* so dy comes gated */
    bool strips; /* backward takes rows too, in its group's strips */
    bool again;  /* nothing keeps y: backward makes each strip of it again */
    struct cpu_need need;
    size_t y, dy, saved;        /* offsets in a worker's memory */
    size_t scratch[CPU_PASSES]; /* likewise */
    bool y_strip, dy_strip;     /* which hold one strip of its group, not a chunk */
    size_t lane;                /* offset in a lane */
    int32_t form[CPU_PASSES];   /* index among the executable's forms; -1: none */
    float *whole_y, *whole_dy;  /* whole-batch buffers in place of the worker's, or NULL */
};

/* Ops that a chunk goes through strip by strip, so that nothing between them leaves the cache: the
 * first one, and rowwise ones after it. */
struct cpu_group {
    int32_t first, end;
    int32_t rows;   /* of a strip; 0: the group is one op that takes whole images */
    int32_t images; /* of a strip of all rows, else 1 */
};

struct cpu_segment {
    int32_t first, end;             /* ops first ... end - 1 */
    int32_t first_group, end_group; /* its groups likewise */
    int32_t unit;                   /* images */
    size_t memory;                  /* bytes of a worker, for one unit */
    size_t lane_bytes;
    int32_t max_lanes; /* of a step; a small batch has fewer units than that */
};

/* What a context has of this backend. */
struct nin__device {
    nin_instruction_set instructions; /* never NIN_INSTRUCTIONS_AUTO */
    bool named;                       /* by the context or NIN_CPU_ISA: no other will do */
};

struct nin__executable {
    struct nin__program program; /* its ops are the executable's own copy */
    struct nin__compile_options options;
    struct cpu_op *ops;
    struct cpu_group *groups;
    int32_t group_count;
    struct cpu_segment *segments;
    int32_t segment_count;
    struct cpu_workers *workers;
    int64_t shared_chunks;   /* so far: chunks that all workers took together */
    size_t *bad;             /* of each worker, see check_finite */
    struct cpu_lanes *lanes; /* NULL in an inference program */
    char *worker_memory;     /* of all workers */
    size_t worker_bytes;     /* of one */
    float *whole;            /* all whole-batch buffers */
    atomic_llong peak;       /* multiply-adds a second of all workers; 0: not measured */
    struct nin__form *forms; /* of prepared weights */
    int32_t form_count;
    uint64_t bytes; /* of everything above */
};

/* instructions.c: what a context's choice comes to; the kernels of a choice; those of a device for
 * a precision, NULL for fp32. */
nin_status nin__cpu_choose_instructions(struct nin__device *out, nin_instruction_set choice);
nin_status nin__cpu_choose_kernels(const struct cpu_kernels **out, nin_instruction_set choice);
int nin__cpu_ask_for_tiles(void); /* the kernel, once for the process; 0 or its errno */
nin_status nin__cpu_choose_bf16(const struct cpu_bf16_kernels **out,
                                const struct nin__device *device, nin_precision precision);

/* segments.c: segments and their units; then, when whole-batch buffers are known, groups. */
void nin__cpu_cut_segments(struct nin__executable *executable);
void nin__cpu_cut_groups(struct nin__executable *executable);

/* compile.c */
nin_status nin__cpu_compile(struct nin__executable **out, struct nin__device *device,
                            const struct nin__program *program,
                            const struct nin__compile_options *options);
void nin__cpu_discard(struct nin__executable *executable);

/* run.c */
nin_status nin__cpu_prepare(struct nin__executable *executable, const float *parameters,
                            void *const *targets);
nin_status nin__cpu_run(struct nin__executable *executable, const struct nin__run *run);

/* describe.c */
size_t nin__cpu_describe(struct nin__executable *executable, bool measure, char *text, size_t size);

size_t nin__cpu_order_of_sums(const struct nin__executable *executable, int32_t batch, char *text,
                              size_t size);

/* dropout.c: one byte for each element of the range's image i, 1 where it stays; NIN__OP_DROPOUT,
 * or a pool with one. */
void nin__cpu_draw_mask(unsigned char *keep, const struct cpu_call *call, int32_t i);

/* update.c */
nin_status nin__cpu_check_finite(struct nin__executable *executable, const float *values,
                                 size_t count, size_t *bad);
nin_status nin__cpu_update(struct nin__executable *executable, const struct nin__update *update);

static inline void nin__cpu_add(float *restrict sum, const float *restrict other, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sum[i] += other[i];
}

/* The instruction set whose kernels an executable with this op uses. */
static inline const char *nin__cpu_kernels_name(const struct cpu_op *op)
{
    return op->bf16 != NULL ? op->bf16->name : op->kernels->name;
}

/* Items first ... end - 1 of so many that fall to a share, in blocks of `block` items. */
static inline void nin__cpu_share_range(struct cpu_share share, size_t count, size_t block,
                                        size_t *first, size_t *end)
{
    size_t blocks = (count + block - 1) / block;

    *first = blocks * (size_t)share.part / (size_t)share.parts * block;
    *end = blocks * ((size_t)share.part + 1) / (size_t)share.parts * block;
    if (*first > count)
        *first = count;
    if (*end > count)
        *end = count;
}

/* Uninitialised memory, aligned for any kernel; NULL if there is none. Freed by free. */
void *nin__cpu_memory(size_t bytes);

#endif
