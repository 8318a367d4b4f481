/* SPDX-License-Identifier: MIT */
/* Convolution as matrix products. In NHWC a window is kernel_h runs of kernel_w * C floats;
 * gathered, the windows of some output rows are a matrix `patches` of pixels x K,
 * K = kernel_h * kernel_w * C, and
 *
 *     y  (pixels x OC) = patches * w'      dw (OC x K) += dy' * patches      dpatches = dy * w
 *
 * with weights OHWI (OC x K). A 1x1 convolution and a dense layer need no gathering: their input is
 * the patches matrix. Output rows of a chunk are numbered through its images, and products are made
 * for strips of them, so small that patches stay in the cache, and following from the shape
 * alone. */
#include "cpu/conv.h"
#include "cpu/gemm.h"

#include <string.h>

/* Elements of patches in a strip: 1 MiB. */
enum {
    STRIP_FLOATS = 1 << 18
};

/* Rows first ... first + count - 1, counted through the chunk's images. */
struct strip {
    int64_t first, count;
};

/* In OHWI order a 1x1 kernel's weights are those of OIHW. */
static bool is_permuted(const struct nin__op *op)
{
    return op->kernel_h * op->kernel_w > 1 && op->in.c > 1;
}

static size_t weight_count(const struct nin__op *op)
{
    return (size_t)op->out.c * (size_t)nin__cpu_patch_size(op);
}

static int64_t strip_rows(const struct nin__op *op)
{
    int64_t row = nin__cpu_patch_size(op) * op->out.w;

    return row >= STRIP_FLOATS ? 1 : STRIP_FLOATS / row;
}

/* ---- patches ------------------------------------------------------------------------------ */

/* The part of a window's columns that lies in the map: `count` from input column `column` on, the
 * first of them being the window's column `skip`. */
struct columns {
    int32_t column, skip, count;
};

static struct columns visible_columns(const struct nin__op *op, int32_t ox)
{
    int32_t first = ox * op->stride - op->pad, end = first + op->kernel_w;
    struct columns run = {first, 0, 0};

    if (first < 0) {
        run.column = 0;
        run.skip = -first;
    }
    if (end > op->in.w)
        end = op->in.w;
    run.count = end > run.column ? end - run.column : 0;
    return run;
}

/* x: [row][column][C] of an image or NULL for a row of padding; patch: one window's run of
 * kernel_w * C */
static void gather_run(float *patch, const float *x_row, struct columns run,
                       const struct nin__op *op)
{
    size_t c = (size_t)op->in.c, width = (size_t)op->kernel_w * c;
    size_t skip = (size_t)run.skip * c, count = (size_t)run.count * c;

    if (x_row == NULL || count == 0) {
        memset(patch, 0, width * sizeof *patch);
        return;
    }
    if (skip > 0)
        memset(patch, 0, skip * sizeof *patch);
    memcpy(patch + skip, x_row + (size_t)run.column * c, count * sizeof *patch);
    if (skip + count < width)
        memset(patch + skip + count, 0, (width - skip - count) * sizeof *patch);
}

/* The input row that window row r of output row oy sees: its offset in x, or -1 for padding. */
static int64_t input_row(const struct nin__op *op, int64_t flat_row, int32_t r)
{
    int64_t image = flat_row / op->out.h;
    int32_t row = (int32_t)(flat_row % op->out.h) * op->stride - op->pad + r;

    if (row < 0 || row >= op->in.h)
        return -1;
    return (image * op->in.h + row) * op->in.w * op->in.c;
}

/* patches: [row of the strip][ox][r][s * C] */
static void gather(const struct nin__op *op, const float *x, struct strip strip, float *patches)
{
    size_t width = (size_t)op->kernel_w * (size_t)op->in.c;

    for (int64_t flat = strip.first; flat < strip.first + strip.count; flat++)
        for (int32_t ox = 0; ox < op->out.w; ox++) {
            struct columns run = visible_columns(op, ox);

            for (int32_t r = 0; r < op->kernel_h; r++, patches += width) {
                int64_t at = input_row(op, flat, r);

                gather_run(patches, at < 0 ? NULL : x + at, run, op);
            }
        }
}

/* The adjoint of gather: dx += what the patches hold of it. */
static void scatter(const struct nin__op *op, float *dx, struct strip strip, const float *patches)
{
    size_t c = (size_t)op->in.c, width = (size_t)op->kernel_w * c;

    for (int64_t flat = strip.first; flat < strip.first + strip.count; flat++)
        for (int32_t ox = 0; ox < op->out.w; ox++) {
            struct columns run = visible_columns(op, ox);

            for (int32_t r = 0; r < op->kernel_h; r++, patches += width) {
                int64_t at = input_row(op, flat, r);

                if (at >= 0)
                    nin__cpu_add(dx + at + (int64_t)run.column * op->in.c,
                                 patches + (size_t)run.skip * c, (size_t)run.count * c);
            }
        }
}

/* The patches of a strip: gathered into scratch, or the input as it lies. */
static const float *patches_of(const struct cpu_call *call, struct strip strip)
{
    const struct nin__op *op = call->op;

    if (nin__cpu_is_flat(op)) /* out.w pixels of K floats a row */
        return call->x + strip.first * op->out.w * nin__cpu_patch_size(op);
    gather(op, call->x, strip, call->scratch);
    return call->scratch;
}

/* ---- forward ------------------------------------------------------------------------------ */

/* dw OHWI, db */
static size_t lane_floats(const struct nin__op *op)
{
    return weight_count(op) + (size_t)op->out.c;
}

static void declare(struct cpu_need *need, const struct cpu_op *cpu, int32_t unit)
{
    const struct nin__op *op = cpu->op;
    int64_t rows = strip_rows(op), all = (int64_t)unit * op->out.h;

    if (rows > all)
        rows = all;
    need->form[CPU_FORWARD] = CPU_FORM_OHWI; /* backward takes it too */
    if (is_permuted(op))
        need->prepared[CPU_FORWARD] = weight_count(op) * sizeof(float);
    if (!nin__cpu_is_flat(op))
        need->scratch = (size_t)(rows * op->out.w * nin__cpu_patch_size(op)) * sizeof(float);
    need->lane = lane_floats(op) * sizeof(float);
}

static const float *weights_of(const struct cpu_call *call)
{
    return is_permuted(call->op) ? call->prepared[CPU_FORWARD]
                                 : call->run->parameters + call->op->weight;
}

/* y: pixels x OC */
static void add_bias(float *y, const float *bias, int64_t pixels, int32_t channels)
{
    for (int64_t p = 0; p < pixels; p++)
        for (int32_t c = 0; c < channels; c++)
            y[p * channels + c] += bias[c];
}

static void add_bias_relu(float *y, const float *bias, int64_t pixels, int32_t channels)
{
    for (int64_t p = 0; p < pixels; p++)
        for (int32_t c = 0; c < channels; c++) {
            float v = y[p * channels + c] + bias[c];

            y[p * channels + c] = v < 0.0f ? 0.0f : v; /* NaN stays NaN */
        }
}

static void relu(float *y, int64_t count)
{
    for (int64_t k = 0; k < count; k++)
        y[k] = y[k] < 0.0f ? 0.0f : y[k];
}

static void forward_strip(const struct cpu_call *call, struct strip strip, float *y)
{
    const struct nin__op *op = call->op;
    int64_t pixels = strip.count * op->out.w;

    nin__cpu_gemm_nt(pixels, op->out.c, nin__cpu_patch_size(op), patches_of(call, strip),
                     weights_of(call), y);
    if (op->bias == NIN__NO_PARAMETER) {
        if (op->relu)
            relu(y, pixels * op->out.c);
    } else if (op->relu) {
        add_bias_relu(y, call->run->parameters + op->bias, pixels, op->out.c);
    } else {
        add_bias(y, call->run->parameters + op->bias, pixels, op->out.c);
    }
}

static void forward(const struct cpu_call *call)
{
    const struct nin__op *op = call->op;
    int64_t first = call->row, rows = strip_rows(op);
    int64_t end = first + (int64_t)call->images * call->rows;

    for (int64_t at = first; at < end; at += rows)
        forward_strip(call, (struct strip){at, end - at < rows ? end - at : rows},
                      call->y + (at - first) * op->out.w * op->out.c);
}

/* ---- backward ----------------------------------------------------------------------------- */

/* dy becomes 0 where the ReLU was: y holds max(0, .) */
static void gate(float *restrict dy, const float *restrict y, int64_t count)
{
    for (int64_t k = 0; k < count; k++)
        dy[k] = y[k] > 0.0f ? dy[k] : 0.0f;
}

static void backward_strip(const struct cpu_call *call, struct strip strip)
{
    const struct nin__op *op = call->op;
    int64_t pixels = strip.count * op->out.w, k = nin__cpu_patch_size(op),
            at = strip.first * op->out.w;
    float *dy = call->dy + at * op->out.c, *dw = call->lane, *db = dw + weight_count(op);

    if (op->relu && !call->cpu->gated)
        gate(dy, call->y + at * op->out.c, pixels * op->out.c);
    if (op->bias != NIN__NO_PARAMETER)
        nin__cpu_add_bias_gradient(call, db, dy, pixels, false);
    nin__cpu_gemm_tn_add(op->out.c, k, pixels, dy, patches_of(call, strip), dw);
    if (call->dx == NULL)
        return;
    if (nin__cpu_is_flat(op)) {
        nin__cpu_gemm_nn(pixels, k, op->out.c, dy, weights_of(call), call->dx + at * k);
        return;
    }
    nin__cpu_gemm_nn(pixels, k, op->out.c, dy, weights_of(call), call->scratch);
    scatter(op, call->dx, strip, call->scratch);
}

static void backward(const struct cpu_call *call)
{
    const struct nin__op *op = call->op;
    int64_t rows = strip_rows(op), end = (int64_t)call->images * call->rows;

    if (call->fresh)
        memset(call->lane, 0, lane_floats(op) * sizeof *call->lane);
    if (call->dx != NULL && !nin__cpu_is_flat(op)) /* scatter adds */
        memset(call->dx, 0, (size_t)call->images * nin__shape_size(op->in) * sizeof *call->dx);
    for (int64_t at = 0; at < end; at += rows)
        backward_strip(call, (struct strip){at, end - at < rows ? end - at : rows});
}

/* ---- prepare and finish ------------------------------------------------------------------- */

/* OHWI (target) from OIHW, filter by filter. */
static void prepare(const struct cpu_op *cpu, enum cpu_pass pass, const float *parameters,
                    float *prepared, struct cpu_share share)
{
    const struct nin__op *op = cpu->op;
    const float *oihw = parameters + op->weight;
    size_t area = (size_t)op->kernel_h * (size_t)op->kernel_w, channels = (size_t)op->in.c;
    size_t first, end;

    (void)pass;
    nin__cpu_share_range(share, (size_t)op->out.c, 1, &first, &end);
    for (size_t o = first; o < end; o++)
        for (size_t c = 0; c < channels; c++)
            for (size_t k = 0; k < area; k++)
                prepared[(o * area + k) * channels + c] = oihw[(o * channels + c) * area + k];
}

static void finish(const struct cpu_op *cpu, const float *lane, float *gradient, bool accumulate,
                   struct cpu_share share)
{
    const struct nin__op *op = cpu->op;
    size_t area = (size_t)op->kernel_h * (size_t)op->kernel_w, channels = (size_t)op->in.c;
    float *oihw = gradient + op->weight;
    const float *db = lane + weight_count(op);
    size_t first, end;

    nin__cpu_share_range(share, (size_t)op->out.c, 1, &first, &end);
    for (size_t o = first; o < end; o++) {
        for (size_t c = 0; c < channels; c++)
            for (size_t k = 0; k < area; k++)
                nin__cpu_put(&oihw[(o * channels + c) * area + k],
                             lane[(o * area + k) * channels + c], accumulate);
        if (op->bias != NIN__NO_PARAMETER)
            nin__cpu_put(&gradient[op->bias + o], db[o], accumulate);
    }
}

const struct cpu_algorithm nin__cpu_conv_gemm = {.name = "gemm",
                                                 .declare = declare,
                                                 .prepare = prepare,
                                                 .forward = forward,
                                                 .backward = backward,
                                                 .finish = finish};
