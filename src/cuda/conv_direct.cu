/* SPDX-License-Identifier: MIT */
/* Convolution in one product a pass, without windows in memory: a 1x1 convolution, the first layer,
 * whose windows are short, and on tensor cores others whose channels are whole vectors. With
 * K = kernel_h * kernel_w * C and a row for each pixel of the output,
 *
 *     y  = act(x' w' + b)      (pixels x OC), x' the windows, pixels x K
 *     dx = dy w                (pixels x C), 0 where x is not positive, if a ReLU made it; of windows of
 *                              vectors, if dy comes in vectors, too, and the stride is 1, the
 *                              convolution of dy with the kernels turned around; else as conv_gemm.cu
 *                              has it
 *     dw = dy' x'              (OC x K), and db the sums of dy, in parts of some pixels, which are added up
 *
 * On tensor cores, in NIN_TF32 and NIN_BF16, rows of weights, which weights.cu has rounded and
 * filled up with zeros, may be longer than K. */
#include "cuda/conv.h"
#include "cuda/product.h"
#include "cuda/tensor_cores.h"

/* nvcc does not see those of a template. */
#pragma nv_diag_suppress missing_launch_bounds

namespace
{

enum {
    MOST_LANES = 64, /* threads that add up the parts of one element: doubled from 8 on, while */
    FINISH_BLOCKS = 512,  /* all elements make fewer blocks than this, */
    LANE_PARTS = 4,       /* and each thread has more parts than this, */
    UNDER_WAY = 8,        /* of which it asks for so many before it waits for the first */
    MOST_CHANNELS = 4,    /* of windows whose taps are read one by one */
    MOST_DEPTH = 256,     /* channels and filters of a product on tensor cores, */
    READ_BYTES = 16,      /* of which so much is read at once, */
    MOST_TENSOR_TAPS = 96 /* and taps of a window that are read one by one */
};

/* The gradients: of weights in the arena's order, OIHW, and of the bias, unless it is NULL. */
struct gradients {
    float *weights, *bias;
    uint32_t filters, channels, taps;
    bool accumulate;
};

/* Where element e of [filter][tap][channel], and then [filter], goes; NULL: nowhere. */
__device__ float *target_of(const struct gradients &g, uint32_t e)
{
    uint32_t patch = g.taps * g.channels, filter = e / patch, in = e % patch;

    if (filter < g.filters)
        return g.weights + (size_t)filter * patch + in % g.channels * g.taps + in / g.channels;
    return g.bias == NULL ? NULL : g.bias + (e - g.filters * patch);
}

/* `lanes` threads for an element, each of which adds every so-manieth part; a block has the more
 * elements, and so reads the more of a part in one piece, the fewer they are. */
template <uint32_t lanes>
__global__ void __launch_bounds__(BLOCK)
    finish_parts(struct gradients g, const float *sums, uint32_t parts)
{
    const uint32_t elements = BLOCK / lanes;
    __shared__ float lane_sums[lanes][elements];
    uint32_t in = threadIdx.x % elements, lane = threadIdx.x / elements;
    uint32_t count = g.filters * (g.taps * g.channels + 1), e = blockIdx.x * elements + in;
    float sum = 0.0f;

    for (uint32_t first = lane; e < count && first < parts; first += UNDER_WAY * lanes) {
        float part[UNDER_WAY] = {};

#pragma unroll
        for (uint32_t i = 0; i < UNDER_WAY; i++)
            if (first + i * lanes < parts)
                part[i] = sums[(size_t)(first + i * lanes) * count + e];
#pragma unroll
        for (uint32_t i = 0; i < UNDER_WAY; i++)
            sum += part[i];
    }
    lane_sums[lane][in] = sum;
    __syncthreads();
    if (lane == 0 && e < count) {
        float *target = target_of(g, e);

#pragma unroll
        for (uint32_t i = 1; i < lanes; i++)
            sum += lane_sums[i][in];
        if (target != NULL)
            *target = g.accumulate ? *target + sum : sum;
    }
}

/* ---- the passes ----------------------------------------------------------------------------- */

struct cuda_rows rows_of(const struct cuda_call *call, const void *map, struct nin__shape shape)
{
    struct cuda_rows rows = {};

    rows.data = (const float *)map;
    rows.count = (uint32_t)call->images * (uint32_t)shape.h * (uint32_t)shape.w;
    rows.depth = rows.row = (uint32_t)shape.c;
    rows.flat = true;
    rows.fours = shape.c % 4 == 0;
    return rows;
}

/* Of a map, the windows: a row for each pixel of the output. */
struct cuda_rows windows_over(const struct cuda_call *call, const void *map,
                              const struct windows &w)
{
    struct cuda_rows rows = {};

    rows.data = (const float *)map;
    rows.windows = w;
    rows.count = (uint32_t)call->images * (uint32_t)w.out_h * (uint32_t)w.out_w;
    rows.depth = (uint32_t)w.kernel_h * (uint32_t)w.kernel_w * (uint32_t)w.in_c;
    return rows;
}

struct cuda_rows windows_of(const struct cuda_call *call)
{
    return nin__cuda_is_pointwise(call->op)
               ? rows_of(call, call->x, call->op->in)
               : windows_over(call, call->x, nin__cuda_windows_of(call->op));
}

/* A rule of the shape alone, for it orders sums. */
uint32_t lanes_of(size_t elements, uint32_t parts)
{
    uint32_t lanes = 8;

    while (lanes < MOST_LANES && lanes * LANE_PARTS < parts &&
           elements * lanes < (size_t)FINISH_BLOCKS * BLOCK)
        lanes *= 2;
    return lanes;
}

template <uint32_t lanes>
nin_status start_finish(const struct cuda_call *call, const struct gradients &g, uint32_t parts)
{
    size_t count = (size_t)g.filters * (nin__cuda_patch(call->op) + 1);

    return nin__cuda_launch_blocks(call->device, nin__cuda_tiles_over(count, BLOCK / lanes),
                                   finish_parts<lanes>, g,
                                   (const float *)call->executable->scratch.sums, parts);
}

/* dy is float and is multiplied as bf16: the bias's gradient, which multiplies nothing, is then the
 * sum of other numbers. */
bool is_bias_apart(const struct cuda_op *cuda)
{
    return cuda->op->bias != NIN__NO_PARAMETER && nin__cuda_rounds_dy(cuda);
}

nin_status finish(const struct cuda_call *call, uint32_t parts)
{
    const struct nin__op *op = call->op;
    struct gradients g = {};

    g.weights = call->run->gradient + op->weight;
    if (op->bias != NIN__NO_PARAMETER && !is_bias_apart(call->cuda))
        g.bias = call->run->gradient + op->bias;
    g.filters = (uint32_t)op->out.c;
    g.channels = (uint32_t)op->in.c;
    g.taps = (uint32_t)op->kernel_h * (uint32_t)op->kernel_w;
    g.accumulate = call->run->accumulate;
    switch (lanes_of((size_t)g.filters * (nin__cuda_patch(op) + 1), parts)) {
    case 8:
        return start_finish<8>(call, g, parts);
    case 16:
        return start_finish<16>(call, g, parts);
    case 32:
        return start_finish<32>(call, g, parts);
    default:
        return start_finish<MOST_LANES>(call, g, parts);
    }
}

nin_status add_weights(const struct cuda_call *call)
{
    struct cuda_parts_product o = {};

    o.dy = rows_of(call, call->dy, call->op->out);
    o.x = windows_of(call);
    o.points = 1;
    o.sums = call->executable->scratch.sums;
    o.bias = true;
    nin__cuda_cut_rows(&o);
    NIN__TRY(nin__cuda_multiply_parts(call->device, &o));
    return finish(call, o.cut.parts);
}

nin_status set_data(const struct cuda_call *call)
{
    struct cuda_rows_product p = {};

    p.a = rows_of(call, call->dy, call->op->out);
    p.points = 1;
    p.b = (const float *)call->weights;
    p.b_depth = (uint32_t)call->op->in.c;
    p.b_column = 1;
    p.c = (float *)call->dx;
    p.columns = (uint32_t)call->op->in.c;
    p.gate = call->gate ? (const float *)call->x : NULL;
    return nin__cuda_multiply_rows(call->device, &p);
}

/* ---- the passes of tensor cores ------------------------------------------------------------- */

/* Channels that are whole vectors of what is read at once. */
bool are_vectors(int32_t channels, bool narrow)
{
    return (size_t)channels * nin__cuda_element_bytes(narrow) % READ_BYTES == 0;
}

enum cuda_layout layout_of(const struct nin__op *op)
{
    return nin__cuda_is_pointwise(op)  ? CUDA_ROWS
           : op->in.c <= MOST_CHANNELS ? CUDA_TAPS
                                       : CUDA_VECTORS;
}

struct cuda_matrix matrix_of(const struct cuda_rows &rows, enum cuda_layout layout, bool narrow)
{
    const struct windows &w = rows.windows;
    struct cuda_matrix matrix = {};

    matrix.data = rows.data;
    matrix.count = rows.count;
    matrix.depth = rows.depth;
    matrix.narrow = narrow;
    matrix.layout = layout;
    matrix.windows = w;
    if (layout == CUDA_VECTORS) {
        matrix.by_pixels = nin__cuda_divisor((uint32_t)w.out_h * (uint32_t)w.out_w);
        matrix.by_width = nin__cuda_divisor((uint32_t)w.out_w);
        matrix.by_channels = nin__cuda_divisor((uint32_t)w.in_c);
        matrix.by_kernel_w = nin__cuda_divisor((uint32_t)w.kernel_w);
    }
    return matrix;
}

struct cuda_matrix x_of(const struct cuda_call *call)
{
    return matrix_of(windows_of(call), layout_of(call->op), call->cuda->narrow_x);
}

struct cuda_matrix dy_of(const struct cuda_call *call)
{
    return matrix_of(rows_of(call, call->dy, call->op->out), CUDA_ROWS, call->cuda->narrow_y);
}

/* The windows of dy over which the kernels that are turned around go: one for each pixel of x. */
struct cuda_matrix windows_of_dy(const struct cuda_call *call)
{
    const struct nin__op *op = call->op;
    struct windows w = nin__cuda_windows_of(op);

    w.in_h = op->out.h;
    w.in_w = op->out.w;
    w.in_c = op->out.c;
    w.out_h = op->in.h;
    w.out_w = op->in.w;
    w.pad = op->kernel_h - 1 - op->pad;
    return matrix_of(windows_over(call, call->dy, w), CUDA_VECTORS, call->cuda->narrow_y);
}

struct cuda_matrix weights_matrix(const struct cuda_call *call, const void *weights, int32_t count,
                                  size_t depth)
{
    struct cuda_matrix matrix = {};

    matrix.data = weights;
    matrix.count = (uint32_t)count;
    matrix.depth = (uint32_t)depth;
    matrix.narrow = call->cuda->narrow_x;
    matrix.layout = CUDA_ROWS;
    return matrix;
}

/* [filter][row] */
struct cuda_matrix weights_of(const struct cuda_call *call)
{
    return weights_matrix(call, call->weights, call->op->out.c, nin__cuda_row(call->cuda));
}

/* [channel][taps, the last one first][filter] */
struct cuda_matrix turned_weights_of(const struct cuda_call *call)
{
    const struct nin__op *op = call->op;

    return weights_matrix(call, call->turned, op->in.c,
                          (size_t)op->kernel_h * (size_t)op->kernel_w * (size_t)op->out.c);
}

nin_status set_tensor_output(const struct cuda_call *call)
{
    struct cuda_tensor_product p = {};

    p.a = x_of(call);
    p.b = weights_of(call);
    p.transposed = true;
    p.c = call->y;
    p.narrow = call->cuda->narrow_y;
    p.bias = nin__cuda_bias(call);
    p.relu = call->op->relu;
    return nin__cuda_tensor_product(call->device, &p);
}

nin_status add_tensor_weights(const struct cuda_call *call)
{
    struct cuda_tensor_sums o = {};

    o.dy = dy_of(call);
    o.x = x_of(call);
    o.sums = call->executable->scratch.sums;
    nin__cuda_cut_tensor_sums(&o);
    NIN__TRY(nin__cuda_tensor_sums(call->device, &o));
    NIN__TRY(finish(call, o.cut.parts));
    if (is_bias_apart(call->cuda))
        return nin__cuda_bias_gradient(call, {call->dy, NULL, o.dy.count, false}, o.sums);
    return NIN_OK;
}

nin_status set_tensor_data(const struct cuda_call *call)
{
    struct cuda_tensor_product p = {};

    p.transposed = call->turned != NULL;
    p.a = call->turned == NULL ? dy_of(call) : windows_of_dy(call);
    p.b = call->turned == NULL ? weights_of(call) : turned_weights_of(call);
    p.c = call->dx;
    p.narrow = call->cuda->narrow_x;
    p.gate = call->gate ? call->x : NULL;
    return nin__cuda_tensor_product(call->device, &p);
}

bool tensor_cores_fit(const struct nin__op *op, const struct nin__compile_options *options)
{
    bool narrow = options->precision == NIN_BF16;

    if (op->out.c > MOST_DEPTH)
        return false;
    switch (layout_of(op)) {
    case CUDA_ROWS:
        return are_vectors(op->in.c, narrow) && op->in.c <= MOST_DEPTH;
    case CUDA_TAPS:
        return nin__cuda_patch(op) <= MOST_TENSOR_TAPS;
    default: /* (the whole map lies in memory as its window does) */
        return are_vectors(op->in.c, narrow) && !nin__cuda_is_flat(op) &&
               options->algorithm == NIN_ALGORITHM_DIRECT;
    }
}

} // namespace

/* Rows are counted in 32 bits, and so are elements from a window's first to its last. No GPU has
 * been asked yet how windows of vectors compare with cuBLAS: whoever wants them says so. */
bool nin__cuda_direct_fits(const struct nin__op *op, const struct nin__compile_options *options)
{
    int64_t rows = (int64_t)options->max_batch * op->out.h * op->out.w;
    int64_t under_a_window = (int64_t)op->kernel_h * op->in.w * op->in.c;

    if (rows > INT32_MAX || under_a_window > INT32_MAX)
        return false;
    if (options->precision != NIN_FP32)
        return tensor_cores_fit(op, options);
    return nin__cuda_is_pointwise(op) ||
           (op->in.c <= MOST_CHANNELS && nin__cuda_patch(op) <= CUDA_MOST_TAPS);
}

/* Rows of dx are counted likewise. */
bool nin__cuda_direct_data_fits(const struct cuda_op *cuda, int32_t batch)
{
    const struct nin__op *op = cuda->op;
    int64_t rows = (int64_t)batch * op->in.h * op->in.w;
    int64_t under_a_window = (int64_t)op->kernel_h * op->out.w * op->out.c;

    if (cuda->algorithm != CUDA_DIRECT || nin__cuda_is_pointwise(op))
        return cuda->algorithm == CUDA_DIRECT;
    return cuda->tensor_cores && layout_of(op) == CUDA_VECTORS && op->stride == 1 &&
           op->kernel_h == op->kernel_w && cuda->narrow_x == cuda->narrow_y &&
           are_vectors(op->out.c, cuda->narrow_y) && rows <= INT32_MAX &&
           under_a_window <= INT32_MAX;
}

size_t nin__cuda_direct_sums(const struct cuda_op *cuda, int32_t batch)
{
    const struct nin__op *op = cuda->op;
    uint32_t rows = (uint32_t)batch * (uint32_t)op->out.h * (uint32_t)op->out.w;
    uint32_t filters = (uint32_t)op->out.c, patch = (uint32_t)nin__cuda_patch(op);
    uint32_t parts = cuda->tensor_cores
                         ? nin__cuda_most_tensor_parts(filters, patch, layout_of(op), rows)
                         : nin__cuda_most_parts(filters, patch, nin__cuda_is_pointwise(op), rows);

    size_t sums = (size_t)parts * filters * (patch + 1);
    size_t of_bias = is_bias_apart(cuda) ? nin__cuda_sum_parts(rows, filters) * filters : 0;

    return sums > of_bias ? sums : of_bias;
}

nin_status nin__cuda_direct_conv(const struct cuda_call *call)
{
    struct cuda_rows_product p = {};

    if (call->cuda->tensor_cores)
        return set_tensor_output(call);
    p.a = windows_of(call);
    p.points = 1;
    p.b = (const float *)call->weights;
    p.b_depth = 1;
    p.b_column = p.a.depth;
    p.c = (float *)call->y;
    p.columns = (uint32_t)call->op->out.c;
    p.bias = nin__cuda_bias(call);
    p.relu = call->op->relu;
    return nin__cuda_multiply_rows(call->device, &p);
}

nin_status nin__cuda_direct_conv_backward(const struct cuda_call *call)
{
    bool tensor_cores = call->cuda->tensor_cores;

    NIN__TRY(nin__cuda_heed_relu(call));
    NIN__TRY(tensor_cores ? add_tensor_weights(call) : add_weights(call));
    if (call->dx == NULL)
        return NIN_OK;
    if (call->cuda->direct_data)
        return tensor_cores ? set_tensor_data(call) : set_data(call);
    NIN__TRY(nin__cuda_gemm_round(call));
    return nin__cuda_gemm_data_of(call);
}
