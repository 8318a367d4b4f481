/* SPDX-License-Identifier: MIT */
#ifndef NIN__CUDA_H
#define NIN__CUDA_H

/* The CUDA backend: words that its files share. Activations are NHWC in the device's memory, the
 * whole batch of each op; a run walks the program op by op on one stream, and the host waits at its
 * end. */

#include "core/backend.h"
#include "core/error.h"

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <pthread.h>

/* How cublasLt does products of a shape. */
struct cuda_matmul {
    int64_t p, n, k;
    nin_precision precision;
    bool usable; /* it has an algorithm for them */
    cublasLtMatmulAlgo_t algorithm;
};

enum {
    CUDA_MATMULS = 64 /* that a device keeps */
};

/* A device as a context has it: a stream, cuBLAS on it, and the first error after which CUDA does
 * nothing. */
struct nin__device {
    int32_t index;
    int capability; /* 90: sm_90 */
    int multiprocessors;
    int process;                   /* CUDA cannot be used after a fork */
    void *primary;                 /* the device's primary context ... */
    unsigned long long primary_id; /* ... which is another one after a reset */
    cudaStream_t stream;           /* the caller's, or `own`; while a graph is captured `own` */
    cudaStream_t own;
    cublasHandle_t blas;
    struct cuda_matmul matmuls[CUDA_MATMULS];
    uint32_t matmul_count; /* of all that have been found */
    bool epilogues;        /* cublasLt may be used */
    void *workspace;       /* of cuBLAS */
    size_t workspace_bytes;
    pthread_mutex_t lock; /* recursive: whoever works on the device has it */
    uint64_t residents;   /* data sets that have been loaded so far */
    bool capturing;       /* what goes to the stream becomes part of a graph */
    bool dead, reset;     /* reset: by the application, so that nothing of ours is left */
    char cause[160];
};

/* What differs from run to run. Kernels read it from the device's memory, so that a graph made of
 * one step does for all. */
struct cuda_numbers {
    uint32_t seed, first_position, step[2]; /* low, high */
    float momentum_factor;
    int32_t nesterov;
};

/* What is wrong with a step: the first element of the gradient and the first image's loss that are
 * not finite; all ones for none. While there is something the update does nothing. */
struct cuda_bad {
    unsigned long long gradient, loss;
};

/* Where a batch lies: image n is image index[n], or n itself. All of the device's. */
struct cuda_source {
    const void *images;
    const int32_t *index;
};

/* Pinned memory of the host, from which and to which copies go while the host does something
 * else. */
struct cuda_staging {
    char *images;
    int32_t *labels;
    struct cuda_numbers *numbers;
    struct nin__update_span *spans;
    double *losses;
    uint8_t *marks;
    struct cuda_bad *bad;
};

/* A step as a CUDA graph. It holds addresses and counts, so it serves steps that have the same. */
struct cuda_graph {
    uint64_t resident; /* the data set's number, 0 for batches of the host's */
    const void *parameters, *momentum;
    int32_t images, spans;
    nin_dtype dtype;
    bool seen, failed; /* a step of its kind has run; it cannot be captured */
    cudaGraphExec_t graph;
};

enum {
    CUDA_GRAPHS = 4 /* of a plan: a full batch and the smaller last one, alone and in a stretch */
};

/* How an op is done. `forward` reads call->x and writes call->y; `backward` turns call->dy, which
 * it may change, into call->dx, unless that is NULL, and into parameters' gradients. */
struct cuda_call {
    struct nin__device *device;
    const struct nin__executable *executable;
    const struct cuda_op *cuda;
    const struct nin__op *op;
    const struct nin__run *run;
    struct cuda_source source; /* of the first op */
    const void *x;
    void *y, *dy, *dx;   /* [image][row][column][channel] */
    const void *weights; /* conv: OHWI, [out.c][row], or at points: [point][out.c][in.c] */
    const void *turned;  /* of kernels turned around: IHWO, or at points as above; or NULL */
    int32_t images;
    bool gated; /* dy comes 0 where this op's ReLU gave nothing */
    bool gate;  /* dx is wanted so: 0 where x is not positive, for a ReLU made it */
};

enum cuda_algorithm {
    CUDA_GEMM,
    CUDA_WINOGRAD,
    CUDA_DIRECT
};

/* Of a convolution by minimal filtering: side x side pixels of the input make size x size of the
 * output, in tiles over the output and, for its gradient, over the input. side 0: not so. */
struct cuda_tiles {
    int32_t down, across;
};

struct cuda_tiling {
    int32_t side, size;
    struct cuda_tiles y, dx;
};

struct cuda_op {
    const struct nin__op *op;
    enum cuda_algorithm algorithm; /* conv */
    struct cuda_tiling tiling;     /* CUDA_WINOGRAD */
    bool gates;                    /* backward can gate dx */
    bool tensor_cores;             /* CUDA_DIRECT in NIN_TF32 or NIN_BF16 */
    bool direct_data;              /* CUDA_DIRECT: dx, too, is a product of libnin's own */
    bool narrow_x, narrow_y;       /* x and dx, y and dy are bf16, not float */
    nin_status (*forward)(const struct cuda_call *call);
    nin_status (*backward)(const struct cuda_call *call);
    size_t y, dy, saved; /* places in the executable's memory */
    size_t saved_per_image;
    int32_t form;      /* of weights in another order than the arena's; -1: none */
    int32_t turned;    /* likewise: for the gradient of the data */
    bool finish_later; /* CUDA_GEMM: bias and ReLU are left to the pool behind */
    bool classifies;   /* the loss: where labels are known it does the pool before it, too */
};

/* Memory that ops use one after another. */
struct cuda_scratch {
    void *patches;   /* of some images: [pixel][row]; or x at points: [point][tile][channel] */
    void *points;    /* y at points, likewise; or the gradient of scores in bf16 */
    float *products; /* a weight's gradient in OHWI order, or at points */
    float *sums;     /* parts of gradients, in order to be added up: [part][...] */
};

struct nin__executable {
    struct nin__device *device;
    struct nin__compile_options options;
    struct nin__program program; /* its own copy of the ops */
    struct cuda_op *ops;
    struct nin__form *forms;
    int32_t form_count;
    size_t bytes;      /* of device memory */
    bool keeps_little; /* no windows for the way back: there is no room */
    char *memory;
    struct cuda_scratch scratch;
    unsigned *tickets; /* blocks count themselves, and leave 0: the last one does what comes next */
    float *transposed; /* an output as NCHW */
    void *images;      /* as the caller has them: NCHW, stored pixels or floats */
    int32_t *labels;
    float *score_gradient;
    double *losses;
    uint8_t *marks;
    struct nin__update_span *spans;
    struct cuda_numbers *numbers;
    struct cuda_bad *bad;
    void *pinned; /* all of staging */
    struct cuda_staging staging;
    struct cuda_graph graphs[CUDA_GRAPHS];
};

/* Of a map: bf16 or float. */
static inline size_t nin__cuda_element_bytes(bool narrow)
{
    return narrow ? 2 : sizeof(float);
}

/* Places are dealt out one behind the other, as cuBLAS's products like them to begin. */
static inline size_t nin__cuda_deal(size_t *bytes, size_t part)
{
    size_t at = *bytes;

    *bytes += (part + 255) / 256 * 256;
    return at;
}

/* ---- device.cu ------------------------------------------------------------------------------ */

/* Makes the device the calling thread's for as long as the object lives, and then what was before.
 * Other threads that have the same context wait: what goes to its one stream while a graph is
 * captured would be part of it. A dead device is entered to clean up only: what it still takes
 * back, it does. */
struct cuda_scope {
    explicit cuda_scope(struct nin__device *device, bool clean_up = false);
    ~cuda_scope();
    cuda_scope(const cuda_scope &) = delete;
    cuda_scope &operator=(const cuda_scope &) = delete;
    nin_status status; /* of entering */

  private:
    struct nin__device *device;
    cudaStreamCaptureMode mode; /* the application's */
    bool locked, pushed;
};

nin_status nin__cuda_open(struct nin__device **out, int32_t index, nin_instruction_set instructions,
                          void *stream);
void nin__cuda_close(struct nin__device *device);
int32_t nin__cuda_count(void);
void nin__cuda_describe_device(nin_device_info *info, int32_t index);

/* NIN_OK, or why the device can no longer be used. */
nin_status nin__cuda_alive(struct nin__device *device);

/* Turns what a call of CUDA, or of cuBLAS, gave into a status and a sentence. After an error that
 * CUDA does not recover from the device is dead, and says so from then on. */
nin_status nin__cuda_check(struct nin__device *device, cudaError_t error, const char *what);
nin_status nin__cuda_check_blas(struct nin__device *device, cublasStatus_t error, const char *what);

/* A failure of ours that nobody is told of is not left for the application either, whose own errors
 * stay. */
void nin__cuda_drop(cudaError_t error);

/* The device can no longer be used, for that reason. */
nin_status nin__cuda_kill(struct nin__device *device, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* What is started from now on goes to that stream. */
nin_status nin__cuda_use_stream(struct nin__device *device, cudaStream_t stream);

/* Waits for all that has been started. */
nin_status nin__cuda_wait(struct nin__device *device);

/* An event is a place in a stream: behind what has been started there when it is recorded. */
nin_status nin__cuda_make_event(cudaEvent_t *event, struct nin__device *device);
nin_status nin__cuda_record(cudaEvent_t event, struct nin__device *device, cudaStream_t stream);

/* ---- compile.cu, memory.cu, weights.cu, run.cu, update.cu, step.cu, describe.cu ------------- */

nin_status nin__cuda_compile(struct nin__executable **out, struct nin__device *device,
                             const struct nin__program *program,
                             const struct nin__compile_options *options);
void nin__cuda_discard(struct nin__executable *executable);

/* memory.cu, for compile.cu: all of an executable's, and whether windows of op i's are in it. */
nin_status nin__cuda_make_memory(struct nin__executable *executable);
bool nin__cuda_has_patches(const struct nin__executable *executable, int32_t i);
bool nin__cuda_wants_dx(const struct nin__executable *executable, int32_t i); /* of op i's */

nin_status nin__cuda_prepare(struct nin__executable *executable, const float *parameters,
                             void *const *targets);
nin_status nin__cuda_run(struct nin__executable *executable, const struct nin__run *run);
nin_status nin__cuda_fetch(struct nin__executable *executable, int32_t op, int32_t images,
                           float *target);
nin_status nin__cuda_fetch_input_gradient(struct nin__executable *executable, int32_t images,
                                          float *target);
nin_status nin__cuda_check_finite(struct nin__executable *executable, const float *values,
                                  size_t count, size_t *bad);
nin_status nin__cuda_update(struct nin__executable *executable, const struct nin__update *update);
nin_status nin__cuda_step(struct nin__executable *executable, const struct nin__run *run,
                          const struct nin__update *update, size_t *bad);
nin_status nin__cuda_steps(struct nin__executable *executable, const struct nin__stretch *stretch,
                           int64_t *done);

size_t nin__cuda_describe(struct nin__executable *executable, bool measure, char *text,
                          size_t size);
size_t nin__cuda_order_of_sums(const struct nin__executable *executable, int32_t batch, char *text,
                               size_t size);

/* run.cu, for step.cu: a run in three parts. What the host has goes into the staging, before
 * anything is started; the device does it; what came down is handed out, after a wait. And what is
 * in the middle of the second, for a batch that is on the device. */
void nin__cuda_stage(struct nin__executable *executable, const struct nin__run *run);
void nin__cuda_stage_numbers(struct nin__executable *executable, const struct nin__run *run);
nin_status nin__cuda_start(struct nin__executable *executable, const struct nin__run *run);
void nin__cuda_unstage(const struct nin__executable *executable, const struct nin__run *run);
nin_status nin__cuda_start_ops(struct nin__executable *executable, const struct nin__run *run,
                               struct cuda_source source);
nin_status nin__cuda_upload(struct nin__device *device, void *target, const void *source,
                            size_t bytes, const char *what);
nin_status nin__cuda_download(struct nin__device *device, void *target, const void *source,
                              size_t bytes, const char *what);

/* Images of so many bytes, one behind the other, by the host. */
void nin__cuda_gather(char *target, const struct nin__images *images, size_t bytes);

/* update.cu, likewise: the rates go up; the check of losses and gradient is cleared, done and comes
 * down; and an update, which may heed it. */
void nin__cuda_stage_update(struct nin__executable *executable, const struct nin__update *update);
nin_status nin__cuda_upload_spans(struct nin__executable *executable,
                                  const struct nin__update *update);
nin_status nin__cuda_clear_check(struct nin__executable *executable);
nin_status nin__cuda_start_check(struct nin__executable *executable, const float *gradient,
                                 size_t count, int32_t losses);
nin_status nin__cuda_download_check(struct nin__executable *executable);
nin_status nin__cuda_start_update(struct nin__executable *executable,
                                  const struct nin__update *update, bool heed);

/* ---- feed.cu: batches that come from the host's memory during a stretch ---------------------- */

struct cuda_feed;

enum {
    CUDA_SLOTS = 4 /* for batches; two would do for a host that is never late */
};

/* `images` is the device's memory for CUDA_SLOTS batches. there: what a reset has not taken
 * away. */
nin_status nin__cuda_make_feed(struct cuda_feed **out, struct nin__device *device, char *images,
                               size_t image_bytes, int32_t batch);
void nin__cuda_free_feed(struct cuda_feed *feed, bool there);

/* The batch of a stretch's step, counted from 0, goes to slot step % CUDA_SLOTS; what is then
 * started on the device's stream finds it there. To be called before each step, in order. */
nin_status nin__cuda_feed(struct cuda_feed *feed, struct nin__device *device,
                          const struct nin__images *images, int64_t step);

/* ---- results.cu: losses and marks of a stretch's images come down --------------------------- */

struct cuda_results;

/* In the order of the stretch. The first `good` images are those of steps with which nothing was
 * wrong. */
struct cuda_outcome {
    double *losses;
    uint8_t *marks;
    uint32_t *good;
};

/* `outcome` is the device's memory, for so many images. there: what a reset has not taken away;
 * nothing is under way any more. */
nin_status nin__cuda_make_results(struct cuda_results **out, struct nin__device *device,
                                  struct cuda_outcome outcome, size_t images);
void nin__cuda_free_results(struct cuda_results *results, bool there);

/* A new stretch: nothing has come down of it. */
void nin__cuda_begin_results(struct cuda_results *results);

/* What is new of the first so many images starts to come down. A look also finds out what has
 * arrived, of earlier looks; the end says, after a wait, that all has, or that nobody knows. */
nin_status nin__cuda_fetch_results(struct cuda_results *results, struct nin__device *device,
                                   size_t images);
nin_status nin__cuda_look_for_results(struct cuda_results *results, struct nin__device *device,
                                      size_t images);
void nin__cuda_end_results(struct cuda_results *results, bool there);

/* The stretch is given what has arrived since the last time. Gives how many of its steps it has
 * been given so far. */
int64_t nin__cuda_hand_out(struct cuda_results *results, const struct nin__stretch *stretch);

/* ---- resident.cu: data sets in the device's memory ------------------------------------------ */

nin_status nin__cuda_load(struct nin__resident **out, struct nin__device *device,
                          const struct nin__samples *samples);
void nin__cuda_unload(struct nin__device *device, struct nin__resident *resident);

/* No two of a device have had the same. */
uint64_t nin__cuda_resident_number(const struct nin__resident *resident);

/* A stretch's order of images and rates go up, and its place is the first step. Does not wait. */
nin_status nin__cuda_begin_stretch(const struct nin__stretch *stretch, struct nin__device *device);
struct cuda_results *nin__cuda_results_of(const struct nin__resident *resident);

/* Where the images are the host's, those of a step go up, as above; else nothing is done. */
nin_status nin__cuda_feed_batch(const struct nin__resident *resident, struct nin__device *device,
                                const struct nin__images *images, int64_t step);

/* The batch of the stretch's next step, and at its end the step is over, unless something is wrong
 * with it: then the stretch stays where it is. */
nin_status nin__cuda_take_batch(struct nin__executable *executable,
                                const struct nin__resident *resident, int32_t images,
                                int32_t spans);
struct cuda_source nin__cuda_source_of(const struct nin__resident *resident);
nin_status nin__cuda_close_step(struct nin__executable *executable,
                                const struct nin__resident *resident, int32_t images);

/* ---- ops ------------------------------------------------------------------------------------ */

nin_status nin__cuda_input(const struct cuda_call *call);
nin_status nin__cuda_conv(const struct cuda_call *call);
nin_status nin__cuda_conv_backward(const struct cuda_call *call);
nin_status nin__cuda_relu(const struct cuda_call *call);
nin_status nin__cuda_relu_backward(const struct cuda_call *call);
nin_status nin__cuda_gate(const struct cuda_call *call); /* dy is 0 where y is not positive */
nin_status nin__cuda_max_pool(const struct cuda_call *call);
nin_status nin__cuda_max_pool_backward(const struct cuda_call *call);
nin_status nin__cuda_average_pool(const struct cuda_call *call);
nin_status nin__cuda_average_pool_backward(const struct cuda_call *call);
nin_status nin__cuda_dropout(const struct cuda_call *call);
nin_status nin__cuda_dropout_backward(const struct cuda_call *call);
nin_status nin__cuda_loss(const struct cuda_call *call);
nin_status nin__cuda_loss_backward(const struct cuda_call *call);

/* The products of convolutions, row-major and dense: y (p x n) = x (p x k) * w (n x k)' + bias; dx
 * (p x k) = dy (p x n) * w (n x k); dw (n x k) = dy (p x n)' * x (p x k), added to what is there or
 * not. In NIN_BF16 x, w, dy, dx and, if it is narrow, y are bf16; all else is float. */
struct cuda_product {
    int64_t p, n, k;
    const void *x, *w, *dy;
    void *y, *dx;
    float *dw;
    const float *bias; /* that is added to y, or NULL */
    bool add, narrow_y;
    nin_precision precision; /* of operands: NIN_FP32, NIN_TF32 or NIN_BF16 */
};

cublasComputeType_t nin__cuda_compute_type(nin_precision precision);
cudaDataType nin__cuda_operand_type(nin_precision precision);
nin_status nin__cuda_gemm_forward(struct nin__device *device, const struct cuda_product *product);
nin_status nin__cuda_gemm_data(struct nin__device *device, const struct cuda_product *product);
nin_status nin__cuda_gemm_weights(struct nin__device *device, const struct cuda_product *product);

/* conv*.cu and tiles.cu, for compile.cu, run.cu and describe.cu */
size_t nin__cuda_patch(const struct nin__op *op);     /* elements of a window, */
size_t nin__cuda_row(const struct cuda_op *cuda);     /* and of a row of patches and weights */
bool nin__cuda_is_flat(const struct nin__op *op);     /* a window is a pixel, or the whole map */
bool nin__cuda_is_permuted(const struct nin__op *op); /* OHWI is not OIHW */
int32_t nin__cuda_patch_images(const struct cuda_op *cuda, int32_t batch); /* that go together */
void nin__cuda_choose_algorithm(struct cuda_op *cuda, const struct nin__compile_options *options);
struct cuda_tiling nin__cuda_choose_tiling(const struct nin__op *op, nin_algorithm algorithm);
size_t nin__cuda_direct_sums(const struct cuda_op *cuda,
                             int32_t batch); /* floats of scratch.sums */
int32_t nin__cuda_tile_images(const struct cuda_op *cuda, int32_t batch); /* that go together */

/* Floats that minimal filtering needs, for values at points and for sums. */
struct cuda_point_needs {
    size_t weights, x, y, dx, products, sums;
};

struct cuda_point_needs nin__cuda_point_needs(const struct cuda_op *cuda, int32_t batch);

/* dy is of scores, float, and rounded to bf16 where it is multiplied. */
static inline bool nin__cuda_rounds_dy(const struct cuda_op *cuda)
{
    return cuda->narrow_x && !cuda->narrow_y;
}

/* Whoever makes the gradient of its output may leave out what its ReLU did. */
static inline bool nin__cuda_wants_gate(const struct cuda_op *cuda)
{
    return cuda->op->kind == NIN__OP_CONV && cuda->op->relu;
}

/* classifier.cu: the loss with that pool before it, and the gradient of both in a run that goes
 * backward */
bool nin__cuda_can_classify(const struct nin__op *pool);
static inline bool nin__cuda_classifies(const struct cuda_op *cuda, const struct nin__run *run)
{
    return cuda->classifies && run->labels != NULL && run->score_gradient == NULL;
}
nin_status nin__cuda_classify(const struct cuda_call *call);

/* bias.cu, likewise: parts in which a bias's gradient over so many rows is added up */
size_t nin__cuda_sum_parts(size_t rows, size_t channels);
size_t nin__cuda_tickets(const struct nin__op *op); /* that it takes for them */

/* input.cu: NCHW, as callers have it, and NHWC, which may be bf16 */
nin_status nin__cuda_to_nhwc(struct nin__device *device, struct nin__shape shape, int32_t images,
                             const float *source, float *target);
nin_status nin__cuda_to_nchw(struct nin__device *device, struct nin__shape shape, int32_t images,
                             const void *source, bool narrow, float *target);

#endif
