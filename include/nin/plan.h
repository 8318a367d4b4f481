/* SPDX-License-Identifier: MIT */
#ifndef NIN_PLAN_H
#define NIN_PLAN_H

/* A plan is one way of running a network: for training or inference, up to a number of images, at
 * an input size, in a precision, by an algorithm. It owns the program, all memory that a run needs
 * and the threads that work beside the calling one; after it is made nothing allocates. A plan
 * serves one thread at a time; another thread that meets it at work gets NIN_BUSY.
 *
 * Activation memory does not grow with the batch: a worker takes a few images through the whole
 * network, forward and backward, before it takes the next ones. Where a network's weights are more
 * than 4 MiB together this holds for stretches of it: between them lie outputs and gradients of the
 * whole batch (nin_plan_describe calls a stretch a segment).
 *
 * Only plans with NIN_ALGORITHM_GEMM use OpenBLAS. It has one table of buffers for the whole
 * process, and prints or crashes when more threads call it at once than it was built for: so the
 * workers of all such plans together are at most 128, and a plan beyond that is refused with
 * NIN_OUT_OF_MEMORY. Nor does it ever return from a matrix product for which it finds no memory: so
 * making such a plan maps a probe per worker, and lets all workers multiply at once; OpenBLAS keeps
 * the buffers that it made for them. With more workers than processors, with several plans at work
 * at the same time, or beside another library of the process that runs OpenBLAS on more threads, a
 * run can still need more. After a fork OpenBLAS starts its own threads again in the next run. It
 * starts them first when a program is loaded, before main, and then waits for ever where the
 * address space is too small for them (ulimit -v below 200 MB on two cores), whether it is used or
 * not; the environment variable OPENBLAS_NUM_THREADS=1 spares them. */

#include <nin/network.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nin_plan nin_plan;
typedef struct nin_optimizer nin_optimizer;

typedef enum {
    NIN_INFER = 0, /* forward only: dropout does nothing */
    NIN_TRAIN = 1, /* forward and backward */
    NIN_MODE_INT32 = 0x7fffffff
} nin_mode;

/* Of the operands of matrix products, in all three of a layer: forward, gradient of the data,
 * gradient of the weights. On a CPU these are the 1x1 convolutions of stride 1, and dense layers
 * whose input is one pixel; on a CUDA device all convolutions and dense layers. Operands are
 * rounded as they are multiplied; sums are fp32, and so are parameters, activations and gradients
 * in memory, biases, and everything else that a network does; but in NIN_BF16 a CUDA device has the
 * outputs of all layers and their gradients as bf16 in memory, rounded to nearest and of two such
 * to even, all but the scores. The root mean square of a product's errors, relative to that of the
 * result, is about 2e-3 for NIN_BF16, 3e-4 for NIN_TF32 and 4e-6 for NIN_BF16X3 (operands around
 * 0). Gradients differ by more: where a value is nearly 0, or two are nearly equal, a ReLU or a
 * maximum decides otherwise, and layer by layer that adds up. That of the first layer of the preset
 * cifar10, with initial weights, is off by 0.15 to 0.2 in NIN_BF16, on a CPU and on a CUDA device,
 * that of all layers by 0.03.
 *
 * A CPU has NIN_BF16 with the instruction sets AVX512_BF16 and AMX, NIN_BF16X3 with AMX, and no
 * NIN_TF32; the context's choice counts, not the processor alone. The two sets add up in different
 * orders, so their bits differ. The instructions round to nearest and take what is subnormal for 0,
 * whatever the caller's floating-point mode is. A CUDA device has NIN_TF32 and NIN_BF16 from sm_80
 * (Ampere) on, by its tensor cores, and no NIN_BF16X3. What is missing is refused. */
typedef enum {
    NIN_FP32 = 0,
    NIN_BF16 = 1,   /* operands with 8 significant bits */
    NIN_BF16X3 = 2, /* with 16, in two such numbers: high * high + high * low + low * high */
    NIN_TF32 = 3,   /* with 11, and the range of fp32 */
    NIN_PRECISION_INT32 = 0x7fffffff
} nin_precision;

/* How convolutions are computed on a CPU. A CUDA device has all of them but NIN_ALGORITHM_FFT: with
 * NIN_ALGORITHM_GEMM products by cuBLAS of windows that are gathered, with NIN_ALGORITHM_WINOGRAD
 * products at the points of minimal filtering wherever it fits, with NIN_ALGORITHM_DIRECT kernels
 * of libnin's own wherever one fits, and NIN_ALGORITHM_AUTO picks one of these by a rule of shapes
 * alone; what fits nowhere goes to cuBLAS. NIN_FP32 is fp32 whatever the environment says, and
 * NVIDIA_TF32_OVERRIDE=0 forbids cuBLAS's TF32. In NIN_FP32 kernels of libnin's own are for 1x1
 * windows of stride 1 and for others of at most 4 channels and 512 elements. In NIN_TF32 and
 * NIN_BF16 they are for at most 256 filters, over 1x1 windows of stride 1 of 4, 8, ... 256 channels
 * (in NIN_BF16 8, 16, ... 256), over others of at most 4 channels and 96 elements and, where
 * NIN_ALGORITHM_DIRECT asks for them, over others of 8, 12, 16, ... channels (in NIN_BF16 8, 16,
 * ...) that are not the whole map. NIN_ALGORITHM_FFT, and in NIN_TF32 and NIN_BF16
 * NIN_ALGORITHM_WINOGRAD, are NIN_UNSUPPORTED there, and lanes mean nothing.
 *
 * The root mean square of the errors of one convolution, relative to that of the result, where
 * nothing is near the limits of single precision (1e-30 to 1e35). Behind a ReLU or a maximum an
 * error may decide otherwise between two that are nearly equal, and a few elements of a network's
 * gradient are then those of the other decision. It is not few of them where a window holds nothing
 * but zeros and there is no bias: direct convolution then gives exactly 0, behind which a ReLU
 * passes no gradient, the other two give an error of either sign, and half of these elements pass
 * it. Images whose background is exactly 0 show this until the biases, if they start at 0, have
 * moved: first gradients of biases may differ by a tenth.
 *
 * - direct convolution: 1e-7 to 1.5e-6, most of it in gradients of weights and biases, which are
 *   sums over pixels (but where a sum is nearly 0, as of few biases, it loses digits by any
 *   algorithm);
 * - Winograd's minimal filtering (Lavin and Gray 2015), which serves 5x5 and 3x3 kernels of stride
 *   1, over planes of more than one pixel down and across, as F(4x4, 5x5) and, whichever costs
 *   less, F(4x4, 3x3) or F(6x6, 3x3), forward and for both gradients: at most 5e-6 for outputs and
 *   gradients of the data and 1e-5 for gradients of weights, for any number of channels and pixels
 *   (mostly 1e-6 to 4e-6; a result of a few dozen values may be unlucky with 7e-6);
 * - Fourier transforms of whole planes, which serve the same kernels where a plane and the padding
 *   of one side have no more than 16 pixels down and across: 1e-7 to 1e-6. */
typedef enum {
    NIN_ALGORITHM_AUTO = 0,     /* winograd, fft or direct, by a rule of shapes alone */
    NIN_ALGORITHM_GEMM = 1,     /* im2col and matrix products by OpenBLAS, on a GPU cuBLAS */
    NIN_ALGORITHM_DIRECT = 2,   /* windows summed as they stand */
    NIN_ALGORITHM_WINOGRAD = 3, /* minimal filtering wherever it fits, else direct, on a GPU gemm */
    NIN_ALGORITHM_FFT = 4,      /* Fourier transforms wherever they fit, else direct */
    NIN_ALGORITHM_INT32 = 0x7fffffff
} nin_algorithm;

typedef struct {
    size_t struct_size;
    nin_mode mode;
    int32_t max_batch; /* images of the largest batch, 1 to 2^20; 0 means 128 */
    int32_t height;    /* of the input; 0: as the network was built */
    int32_t width;
    nin_precision precision;
    nin_algorithm algorithm;
    const char *const *keep; /* names of keep_count layers whose output is kept for the whole batch,
                                 for nin_plan_kept; copied */
    int32_t keep_count;
    int32_t input_gradient; /* 1: backward also computes the gradient of the input */
    /* Partial sums that a step's gradient is added up in, 1 to 64; 0: 16. Sets the order of
     * additions, so it is part of the bits; and as a worker has a lane to itself, no more workers
     * than lanes are busy in a training step, nor more than there are chunks of images
     * (nin_plan_describe has their size). */
    int32_t lanes;
    uint64_t lane_bytes; /* fewer lanes where all together would pass this; 0: 1 GiB */
} nin_plan_desc;

/* A batch of images, and what the random numbers of its training step are counted by. */
typedef struct {
    size_t struct_size;
    const void *images; /* host memory, count x channels x height x width, row-major; borrowed
                                 until backward or the next forward has returned; floats aligned as
                                 floats are */
    nin_dtype dtype;    /* of images: NIN_F32 (taken as they are) or NIN_U8 (scaled and shifted
                                 as the network's input says) */
    int32_t count;      /* images, 1 to the plan's max_batch */
    const nin_tensor *tensor; /* in place of images, dtype, count: of that shape, in host memory */
    int64_t step;             /* number of the training step, from 0: another step, other dropout */
    int64_t first_position;   /* position of the first image in the whole batch: for a batch that is
                                 split over machines or into parts; 0 to 2^32 - 1 - count */
} nin_batch_desc;

/* What a forward and backward pass, an epoch or an evaluation found. */
typedef struct {
    size_t struct_size;
    double loss;     /* mean negative log-likelihood per image */
    int64_t correct; /* images whose largest score is their label's (the first one of equals); none
                        whose loss is NaN */
    int64_t count;   /* images */
    int64_t flat;    /* images whose scores are all equal: a sign of dead class maps */
} nin_result;

/* The gradient to start backward from: exactly one of labels and score_gradient. */
typedef struct {
    size_t struct_size;
    const int32_t *labels;       /* count class numbers from 0, borrowed for the call; needs a
                                    softmax loss. The gradient is that of the mean over the batch */
    const float *score_gradient; /* count x scores: the gradient of the scores; borrowed for the
                                    call */
    int32_t accumulate;          /* 1: add to the plan's gradient, which a backward must have made;
                                    0: overwrite it */
    int32_t reserved;            /* 0 */
} nin_backward_desc;

/* Makes a plan.
 *   out      receives the plan, owned by the caller
 *   network  kept alive by the plan
 *   desc     copied; NULL for all defaults
 * Fails with NIN_INVALID_ARGUMENT (a layer that does not fit the input size, a kept name that does
 * not exist), NIN_UNSUPPORTED (precision, algorithm, or the two together: on a CPU
 * NIN_ALGORITHM_GEMM is fp32 only), NIN_OUT_OF_MEMORY. Since 0.1. */
NIN_CHECKED nin_status nin_plan_create(nin_plan **out, nin_network *network,
                                       const nin_plan_desc *desc);

/* Runs the network on a batch. In a training plan dropout is active, and the batch is borrowed
 * until backward or the next forward. Fails with NIN_INVALID_ARGUMENT (count above max_batch, shape
 * or dtype of the tensor), NIN_UNSUPPORTED (its memory is not the host's), NIN_BUSY. Scores and
 * kept outputs of an earlier run are then gone if the run had begun. Since 0.1. */
NIN_CHECKED nin_status nin_plan_forward(nin_plan *plan, const nin_batch_desc *batch);

/* Results of the last forward, step or backward.
 *   target  host memory for `values` floats (classes: `values` integers) of the caller's
 *   values  scores: images x scores of an image (nin_plan_shape); log-probabilities the same;
 *           classes: images
 * Scores are what the layer before the loss gives (for Network In Network the averaged class maps),
 * NCHW. Log-probabilities are scores - log(sum(exp(scores))). The class is the first largest score.
 * Fail with NIN_INVALID_STATE (nothing has run), NIN_INVALID_ARGUMENT (values), NIN_BUSY. Since
 * 0.1. */
NIN_CHECKED nin_status nin_plan_scores(const nin_plan *plan, float *target, size_t values);
NIN_CHECKED nin_status nin_plan_log_probabilities(const nin_plan *plan, float *target,
                                                  size_t values);
NIN_CHECKED nin_status nin_plan_classes(const nin_plan *plan, int32_t *target, size_t values);

/* The kept output of a layer for the last batch, NCHW: the plan's descriptor must have named the
 * layer. Arguments and failures as above; NIN_INVALID_ARGUMENT also when it was not kept. Since
 * 0.1. */
NIN_CHECKED nin_status nin_plan_kept(const nin_plan *plan, const char *layer, float *target,
                                     size_t values);

/* The shape of one image's output of a layer at the plan's input size: the product is what an image
 * takes of the values of nin_plan_scores and nin_plan_kept. The layer need not be kept, nor the
 * plan have run.
 *   shape  receives channels, height, width
 *   layer  its name; NULL: the scores
 * Fails with NIN_INVALID_ARGUMENT (no such layer); shape is then untouched. Since 0.1. */
NIN_CHECKED nin_status nin_plan_shape(int64_t shape[3], const nin_plan *plan, const char *layer);

/* The gradient of the input for the last backward, NCHW, images x channels x height x width: the
 * plan's descriptor must have asked for it. It is that of the floats that stored pixels have
 * become; it is overwritten, whatever `accumulate` says. Since 0.1. */
NIN_CHECKED nin_status nin_plan_input_gradient(const nin_plan *plan, float *target, size_t values);

/* Computes the gradient of all parameters for the last forward's batch. It goes forward again,
 * chunk by chunk, with the same random numbers, so that its memory stays that of a step; its bits
 * are those of nin_plan_step.
 *   out   result for labels, all zero for a score gradient; may be NULL
 *   desc  copied
 * Fails with NIN_INVALID_ARGUMENT (label out of range), NIN_INVALID_STATE (an inference plan, no
 * forward before it, parameters changed since forward, labels without a softmax loss, accumulate
 * without a gradient), NIN_NOT_FINITE (the loss: the sentence names the step), NIN_BUSY. After
 * NIN_NOT_FINITE the gradient is unusable. Since 0.1. */
NIN_CHECKED nin_status nin_plan_backward(nin_result *out, nin_plan *plan,
                                         const nin_backward_desc *desc);

/* One training step: forward, backward and update. Holds the network for the call.
 *   out        result of the batch before the update; may be NULL
 *   optimizer  of the same network
 *   batch      borrowed for the call
 *   labels     count class numbers, borrowed for the call
 * Fails as forward, backward and nin_optimizer_update; parameters and momentum are then those
 * before the step. Since 0.1. */
NIN_CHECKED nin_status nin_plan_step(nin_result *out, nin_plan *plan, nin_optimizer *optimizer,
                                     const nin_batch_desc *batch, const int32_t *labels);

/* Runs the network on a batch and compares its scores with labels, without a gradient. For
 * inference plans of networks with a softmax loss. Arguments and failures as nin_plan_step; but a
 * loss that is not finite is the result, not a failure, and a training plan, or a network without a
 * softmax loss, is NIN_INVALID_STATE. Since 0.1. */
NIN_CHECKED nin_status nin_plan_evaluate(nin_result *out, nin_plan *plan,
                                         const nin_batch_desc *batch, const int32_t *labels);

/* The gradient, to read and to change (clipping, accumulation, sums over machines).
 *   out    receives a tensor borrowed from the plan, host memory on a CPU plan
 *   layer  NULL for the whole arena (one dimension, nin_network_parameter_count elements), or a
 *          layer
 *   which  weights or biases of that layer
 * Fails with NIN_INVALID_STATE (an inference plan), NIN_INVALID_ARGUMENT (no such parameter).
 * Since 0.1. */
NIN_CHECKED nin_status nin_plan_gradient(nin_tensor **out, nin_plan *plan, const nin_layer *layer,
                                         nin_parameter which);

/* The program as text, a line an op: its kind, layers, shapes, algorithm, segment, bytes; and for
 * each op and all together the multiply-adds that the algorithm takes for an image, forward and
 * backward, and the time that they take at the peak of the processor's units for single precision.
 * Not counted are zeros of the padding in direct convolution and the maps of minimal filtering and
 * of Fourier transforms; backward counts what has to go forward again. The first call for a plan
 * measures that peak on its workers and has the plan for about ten milliseconds: another thread's
 * call on it gets NIN_BUSY meanwhile. If that first call finds the plan in use its text has no
 * times, and the next one measures. Nothing that is computed follows from the peak.
 *   text  receives up to size bytes with a final zero; may be NULL if size is 0
 * Returns the length that the whole text has. Since 0.1. */
NIN_API size_t nin_plan_describe(const nin_plan *plan, char *text, size_t size);

/* Bytes that the plan holds: workspace, whole-batch buffers, gradient. Prepared weights, shared
 * with other plans of the network, are not counted. Since 0.1. */
NIN_API uint64_t nin_plan_bytes(const nin_plan *plan);

/* Stops the threads and frees the plan. NULL is fine. Since 0.1. */
NIN_API void nin_plan_destroy(nin_plan *plan);

#ifdef __cplusplus
}
#endif
#endif
