/* SPDX-License-Identifier: MIT */
#ifndef NIN_LAYER_H
#define NIN_LAYER_H

/* Layers: how each one is described to a builder, and what can be asked of it once it is part of a
 * network. Shapes are channels x height x width, sizes in pixels; tensors at this border are NCHW,
 * weights OIHW (filters x channels x kernel x kernel), as in PyTorch. */

#include <nin/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nin_layer nin_layer; /* part of its network: borrowed, as long as that lives */

typedef enum {
    NIN_LAYER_CONV2D = 1,
    NIN_LAYER_RELU = 2,
    NIN_LAYER_MAX_POOL = 3,
    NIN_LAYER_AVERAGE_POOL = 4,
    NIN_LAYER_GLOBAL_AVERAGE_POOL = 5,
    NIN_LAYER_DROPOUT = 6,
    NIN_LAYER_DENSE = 7,
    NIN_LAYER_SOFTMAX_LOSS = 8,
    NIN_LAYER_INT32 = 0x7fffffff
} nin_layer_kind;

/* How weights and biases start. fan_in is channels x kernel x kernel of one filter. */
typedef enum {
    NIN_INIT_DEFAULT = 0, /* NIN_INIT_HE for weights, NIN_INIT_ZERO for biases */
    NIN_INIT_HE = 1,      /* N(0, sqrt(2 / fan_in)), He et al. 2015 */
    NIN_INIT_NORMAL = 2,  /* N(0, scale) */
    NIN_INIT_UNIFORM = 3, /* U(-scale, scale) */
    NIN_INIT_FAN_IN = 4,  /* U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)): PyTorch's default for biases */
    NIN_INIT_ZERO = 5,
    NIN_INIT_INT32 = 0x7fffffff
} nin_init;

typedef struct {
    size_t struct_size;
    nin_init weights;    /* of the weights */
    nin_init biases;     /* of the biases */
    double weight_scale; /* for NORMAL the standard deviation, for UNIFORM the bound: > 0;
                             else 0 */
    double bias_scale;   /* the same for biases */
} nin_init_desc;

/* y[o][i][j] = b[o] + sum over c, r, s of w[o][c][r][s] * x[c][i * stride + r - pad][j * stride + s
 * - pad], zeros outside: cross-correlation. Output size floor((H + 2 pad - kernel) / stride) + 1; a
 * kernel larger than its padded input is refused. */
typedef struct {
    size_t struct_size;
    int32_t filters;           /* output channels, at least 1 */
    int32_t kernel;            /* at least 1; 0 means 1 */
    int32_t stride;            /* at least 1; 0 means 1 */
    int32_t pad;               /* zeros on each side, 0 to kernel - 1 */
    int32_t no_bias;           /* 1: no bias vector */
    const nin_init_desc *init; /* copied; NULL: He weights, zero biases */
} nin_conv2d_desc;

/* A convolution followed by 1x1 convolutions, each with its ReLU (Lin, Chen, Yan 2013, equation 2):
 * the micro network that slides over the input. An mlpconv called "block1" of three widths adds the
 * layers block1.conv, block1.conv.relu, block1.cccp1, block1.cccp1.relu, block1.cccp2,
 * block1.cccp2.relu. These are its handles; there is no layer called block1. */
typedef struct {
    size_t struct_size;
    const int32_t *widths;     /* filters of each convolution, copied */
    int32_t count;             /* of widths, at least 1 */
    int32_t kernel;            /* of the first convolution; 0 means 1 */
    int32_t stride;            /* of the first convolution; 0 means 1 */
    int32_t pad;               /* of the first convolution */
    int32_t no_last_relu;      /* 1: the last convolution has no ReLU (class maps as logits) */
    const char *const *names;  /* count names, none NULL, in place of NAME.conv, NAME.cccp1, ...;
                                  copied; NULL: those */
    const nin_init_desc *init; /* of each convolution; copied; NULL: He weights, zero biases */
} nin_mlpconv_desc;

/* Max and average pooling. Without round_up the output size is
 * floor((H + 2 pad - kernel) / stride) + 1. With it the division rounds up, windows are clipped at
 * the lower and right edge, and a last window that would start in the padding is dropped (the rule
 * of Caffe and of PyTorch's ceil_mode). Max pooling sees padding as minus infinity; the first maximum in row order gets the
 * whole gradient; NaN wins. */
typedef struct {
    size_t struct_size;
    int32_t kernel;          /* 1 to 255 */
    int32_t stride;          /* 0 means kernel */
    int32_t pad;             /* on each side, at most kernel / 2 */
    int32_t round_up;        /* 1: the size rule that rounds up */
    int32_t exclude_padding; /* average only. 0: divide by the window's area inside the padded
                                input; 1: by the number of its real pixels */
    int32_t reserved;        /* 0 */
} nin_pool_desc;

/* y = W x + b over the whole map: W is units x (channels x height x width). A network with a dense
 * layer runs at the input size that it was made for only. */
typedef struct {
    size_t struct_size;
    int32_t units;             /* at least 1 */
    int32_t no_bias;           /* 1: no bias vector */
    const nin_init_desc *init; /* copied; NULL: He weights, zero biases */
} nin_dense_desc;

typedef enum {
    NIN_WEIGHT = 0,
    NIN_BIAS = 1,
    NIN_PARAMETER_INT32 = 0x7fffffff
} nin_parameter;

typedef struct {
    size_t struct_size;
    const char *name; /* borrowed from the network */
    nin_layer_kind kind;
    int64_t input[3]; /* channels, height, width at the size the network was built for */
    int64_t output[3];
    int64_t weight_shape[4]; /* OIHW; all 0 if it has none */
    int64_t weight_count;
    int64_t bias_count;
} nin_layer_info;

/* Name and kind of a layer. The name is borrowed from the network. Since 0.1. */
NIN_API const char *nin_layer_name(const nin_layer *layer);
NIN_API nin_layer_kind nin_layer_get_kind(const nin_layer *layer);

/* Fills out, up to the struct_size that the caller has set. Fails with NIN_INVALID_ARGUMENT.
 * Since 0.1. */
NIN_CHECKED nin_status nin_layer_describe(nin_layer_info *out, const nin_layer *layer);

/* Copies a layer's weights or biases to or from host memory of the caller's.
 *   which   NIN_WEIGHT (OIHW) or NIN_BIAS
 *   count   number of floats, exactly weight_count or bias_count of the layer
 * Reading shares the network; writing holds it for the call and raises its parameter version, so
 * that plans prepare their weights anew. Fails with NIN_INVALID_ARGUMENT (also: the layer has no
 * such parameter), NIN_BUSY; a failed write has changed nothing. Since 0.1. */
NIN_CHECKED nin_status nin_layer_read(const nin_layer *layer, nin_parameter which, float *target,
                                      size_t count);
NIN_CHECKED nin_status nin_layer_write(nin_layer *layer, nin_parameter which, const float *source,
                                       size_t count);

#ifdef __cplusplus
}
#endif
#endif
