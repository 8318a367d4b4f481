/* SPDX-License-Identifier: MIT */
/* From a program to an executable: pick an algorithm for each op, cut the program, place memory,
 * start workers. */
#include "cpu/conv.h"

#include "core/error.h"
#include "cpu/gemm.h"
#include "cpu/lanes.h"
#include "cpu/workers.h"

#include <stdlib.h>
#include <string.h>

/* ---- algorithms --------------------------------------------------------------------------- */

static const struct cpu_algorithm *const algorithms[NIN__OP_KINDS] = {
    [NIN__OP_INPUT] = &nin__cpu_input,
    [NIN__OP_CONV] = &nin__cpu_conv_direct,
    [NIN__OP_RELU] = &nin__cpu_relu,
    [NIN__OP_MAX_POOL] = &nin__cpu_max_pool,
    [NIN__OP_AVERAGE_POOL] = &nin__cpu_average_pool,
    [NIN__OP_DROPOUT] = &nin__cpu_dropout,
    [NIN__OP_LOSS] = &nin__cpu_loss,
};

static int64_t direct_cost(const struct nin__op *op)
{
    return nin__cpu_patch_size(op) * op->out.h * op->out.w * op->out.c;
}

static const struct cpu_algorithm *cheapest(const struct nin__op *op)
{
    const struct cpu_algorithm *best = &nin__cpu_conv_direct;
    int64_t cost = direct_cost(op);

    if (nin__cpu_winograd_fits(op) && nin__cpu_winograd_cost(op) < cost) {
        best = &nin__cpu_conv_winograd;
        cost = nin__cpu_winograd_cost(op);
    }
    return nin__cpu_fft_fits(op) && nin__cpu_fft_cost(op) < cost ? &nin__cpu_conv_fft : best;
}

/* The one place that chooses: a rule of the plan's descriptor and of shapes, never of timing, for
 * the bits follow from it. */
static const struct cpu_algorithm *choose_algorithm(const struct nin__op *op,
                                                    nin_algorithm algorithm,
                                                    nin_precision precision)
{
    if (op->kind != NIN__OP_CONV)
        return algorithms[op->kind];
    if (precision != NIN_FP32 && nin__cpu_is_pointwise(op))
        return &nin__cpu_conv_bf16;
    if (algorithm == NIN_ALGORITHM_AUTO)
        return cheapest(op);
    if (algorithm == NIN_ALGORITHM_GEMM)
        return &nin__cpu_conv_gemm;
    if (algorithm == NIN_ALGORITHM_WINOGRAD && nin__cpu_winograd_fits(op))
        return &nin__cpu_conv_winograd;
    if (algorithm == NIN_ALGORITHM_FFT && nin__cpu_fft_fits(op))
        return &nin__cpu_conv_fft;
    return &nin__cpu_conv_direct;
}

static size_t output_bytes(const struct nin__op *op)
{
    return nin__shape_size(op->out) * sizeof(float);
}

static nin_status copy_program(struct nin__executable *executable,
                               const struct nin__program *program)
{
    size_t count = (size_t)program->count;

    executable->program = *program;
    executable->program.kept = NULL; /* the core's business; ops say which outputs are kept */
    executable->program.ops = malloc(count * sizeof *program->ops);
    executable->ops = calloc(count, sizeof *executable->ops);
    executable->segments = calloc(count, sizeof *executable->segments);
    executable->groups = calloc(count, sizeof *executable->groups);
    executable->forms = calloc(CPU_PASSES * count, sizeof *executable->forms);
    executable->bad = calloc((size_t)executable->options.threads, sizeof *executable->bad);
    if (executable->program.ops == NULL || executable->ops == NULL ||
        executable->segments == NULL || executable->groups == NULL || executable->forms == NULL ||
        executable->bad == NULL)
        return nin__no_memory("a program");
    memcpy(executable->program.ops, program->ops, count * sizeof *program->ops);
    return NIN_OK;
}

/* Nobody needs the gradient of the images unless the plan was asked for it. */
static bool wants_gradient(const struct nin__program *program, int32_t i)
{
    return program->train && (i > 1 || (i == 1 && program->input_gradient));
}

/* Whether an algorithm needs of the input only the rows that it makes of the output. */
static bool is_rowwise(const struct cpu_op *op)
{
    return nin__cpu_is_pointwise(op->op) &&
           (op->algorithm == &nin__cpu_conv_direct || op->algorithm == &nin__cpu_conv_bf16);
}

static void choose_algorithms(struct nin__executable *executable, const struct cpu_kernels *kernels,
                              const struct cpu_bf16_kernels *bf16)
{
    const struct nin__op *ops = executable->program.ops;

    for (int32_t i = 0; i < executable->program.count; i++) {
        struct cpu_op *op = &executable->ops[i];

        op->op = &ops[i];
        op->train = executable->program.train;
        op->kernels = kernels;
        op->bf16 = bf16;
        op->algorithm =
            choose_algorithm(&ops[i], executable->options.algorithm, executable->options.precision);
        op->rowwise = is_rowwise(op);
        op->wants_dx = wants_gradient(&executable->program, i);
        if (i > 0 && op->algorithm->gates && op->wants_dx && ops[i - 1].kind == NIN__OP_CONV &&
            ops[i - 1].relu) {
            op->gate_dx = true;
            executable->ops[i - 1].gated = true;
        }
    }
}

/* ---- memory ------------------------------------------------------------------------------- */

/* A worker's blocks for one op. In a segment of n ops, op i goes forward at time i and, in
 * training, backward at time 2n - 1 - i. */
enum {
    BLOCK_Y,
    BLOCK_DY,
    BLOCK_SAVED,
    BLOCK_SCRATCH, /* of forward */
    BLOCK_BACKWARD_SCRATCH,
    BLOCKS
};

static size_t strip_bytes(const struct cpu_group *group, const struct nin__op *op, int32_t unit)
{
    size_t images = (size_t)(group->images < unit ? group->images : unit);

    return images * (size_t)group->rows * (size_t)op->out.w * (size_t)op->out.c * sizeof(float);
}

/* The ops of a group take turns, strip by strip: what is alive at the time of one of them is alive
 * at the time of all. */
static void widen(struct nin__block *block, const struct cpu_group *group, int32_t first, int32_t n)
{
    int32_t begin = group->first - first, end = group->end - 1 - first;
    const int32_t turns[2][2] = {{begin, end}, {2 * n - 1 - end, 2 * n - 1 - begin}};

    for (int32_t k = 0; k < 2; k++) {
        if (turns[k][0] < block->first && block->first <= turns[k][1])
            block->first = turns[k][0];
        if (turns[k][0] <= block->last && block->last < turns[k][1])
            block->last = turns[k][1];
    }
}

/* The last time that somebody reads what op i of a segment has made. */
static int32_t last_reader(const struct cpu_op *op, int32_t i, int32_t n, bool train)
{
    int32_t back = 2 * n - 1 - i;

    if (!train)
        return i + 1;
    if (i == n - 1 || op->op->kind == NIN__OP_RELU || (op->op->relu && !op->gated))
        return back; /* itself */
    return op[1].algorithm->forgets ? i + 1 : back - 1;
}

static void describe_blocks(struct nin__block blocks[BLOCKS], const struct cpu_op *op,
                            const struct cpu_group *group, int32_t i, int32_t n, int32_t unit,
                            bool train)
{
    size_t y = output_bytes(op->op) * (size_t)unit;
    int32_t back = 2 * n - 1 - i;

    blocks[BLOCK_Y] = (struct nin__block){
        .bytes = op->whole_y != NULL ? 0 : y, .first = i, .last = last_reader(op, i, n, train)};
    blocks[BLOCK_DY] = (struct nin__block){
        .bytes = op->whole_dy != NULL || !train ? 0 : y, .first = back - 1, .last = back};
    if (op->y_strip)
        blocks[BLOCK_Y].bytes = strip_bytes(group, op->op, unit);
    if (op->dy_strip && train)
        blocks[BLOCK_DY].bytes = strip_bytes(group, op->op, unit);
    blocks[BLOCK_SAVED] = (struct nin__block){
        .bytes = op->need.saved_per_image * (size_t)unit, .first = i, .last = train ? back : i};
    blocks[BLOCK_SCRATCH] = (struct nin__block){.bytes = op->need.scratch, .first = i, .last = i};
    blocks[BLOCK_BACKWARD_SCRATCH] =
        (struct nin__block){.bytes = train ? op->need.scratch : 0, .first = back, .last = back};
}

static void add_forms(struct nin__executable *executable, struct cpu_op *op)
{
    for (int32_t pass = 0; pass < CPU_PASSES; pass++) {
        op->form[pass] = op->need.prepared[pass] > 0 ? executable->form_count++ : -1;
        if (op->form[pass] >= 0)
            executable->forms[op->form[pass]] = (struct nin__form){
                op->op->weight, (uint32_t)op->need.form[pass], op->need.prepared[pass]};
    }
}

/* Lays a worker's memory for the segment out, and adds up its lane's sums. */
static nin_status place_segment(struct nin__executable *executable, struct cpu_segment *segment,
                                struct nin__block *blocks, int32_t *order)
{
    int32_t n = segment->end - segment->first, count = 0;
    const struct cpu_group *group = &executable->groups[segment->first_group];

    for (int32_t i = 0; i < n; i++, count += BLOCKS) {
        struct cpu_op *op = &executable->ops[segment->first + i];

        if (op->algorithm->declare != NULL)
            op->algorithm->declare(&op->need, op, segment->unit);
        if (!op->train)
            op->need.lane = 0;
        while (group->end <= segment->first + i)
            group++;
        describe_blocks(blocks + count, op, group, i, n, segment->unit, executable->program.train);
        add_forms(executable, op);
        op->lane = segment->lane_bytes;
        segment->lane_bytes += nin__align(op->need.lane);
    }
    for (int32_t g = segment->first_group; g < segment->end_group; g++)
        for (int32_t k = 0; k < count; k++)
            widen(&blocks[k], &executable->groups[g], segment->first, n);
    segment->memory = nin__place(blocks, count, order);
    if (segment->memory == SIZE_MAX)
        return nin__fail(NIN_OUT_OF_MEMORY, "a chunk of %d images does not fit into memory",
                         segment->unit);
    for (int32_t i = 0; i < n; i++) {
        struct cpu_op *op = &executable->ops[segment->first + i];

        op->y = blocks[BLOCKS * i + BLOCK_Y].offset;
        op->dy = blocks[BLOCKS * i + BLOCK_DY].offset;
        op->saved = blocks[BLOCKS * i + BLOCK_SAVED].offset;
        op->scratch[CPU_FORWARD] = blocks[BLOCKS * i + BLOCK_SCRATCH].offset;
        op->scratch[CPU_BACKWARD] = blocks[BLOCKS * i + BLOCK_BACKWARD_SCRATCH].offset;
    }
    return NIN_OK;
}

static nin_status place_segments(struct nin__executable *executable)
{
    size_t count = BLOCKS * (size_t)executable->program.count;
    struct nin__block *blocks = malloc(count * sizeof *blocks);
    int32_t *order = malloc(2 * count * sizeof *order);
    nin_status status = NIN_OK;

    if (blocks == NULL || order == NULL)
        status = nin__no_memory("a plan of memory");
    for (int32_t s = 0; status == NIN_OK && s < executable->segment_count; s++) {
        struct cpu_segment *segment = &executable->segments[s];

        status = place_segment(executable, segment, blocks, order);
        if (status == NIN_OK && segment->memory > executable->worker_bytes)
            executable->worker_bytes = segment->memory;
    }
    free(blocks);
    free(order);
    return status;
}

/* Gives every output and gradient that is kept for the whole batch its place behind base; none with
 * base NULL. Returns the bytes of all together, or SIZE_MAX if that overflows. */
static size_t lay_whole(struct nin__executable *executable, float *base)
{
    size_t batch = (size_t)executable->options.max_batch, next = 0;
    bool train = executable->program.train;

    for (int32_t s = 0; s < executable->segment_count; s++)
        for (int32_t i = executable->segments[s].first; i < executable->segments[s].end; i++) {
            struct cpu_op *op = &executable->ops[i];
            bool last = i == executable->segments[s].end - 1;
            bool boundary = last && i != executable->program.count - 1;
            size_t floats = nin__align(output_bytes(op->op) * batch) / sizeof(float);

            if (next > SIZE_MAX / 2 / sizeof(float)) /* each output is far below this */
                return SIZE_MAX;
            if (boundary || op->op->keep) {
                op->whole_y = base == NULL ? NULL : base + next;
                next += floats;
            }
            if ((boundary && train) || (i == 0 && executable->program.input_gradient)) {
                op->whole_dy = base == NULL ? NULL : base + next;
                next += floats;
            }
        }
    return next * sizeof(float);
}

static nin_status allocate_whole(struct nin__executable *executable)
{
    size_t bytes = lay_whole(executable, NULL);

    executable->whole = nin__cpu_memory(bytes);
    if (executable->whole == NULL)
        return nin__fail(NIN_OUT_OF_MEMORY, "no memory for %zu bytes of whole-batch outputs",
                         bytes);
    lay_whole(executable, executable->whole);
    executable->bytes += bytes;
    return NIN_OK;
}

static nin_status allocate_workers(struct nin__executable *executable)
{
    int32_t workers = executable->options.threads;

    executable->worker_bytes = nin__align(executable->worker_bytes);
    if (executable->worker_bytes > SIZE_MAX / 2 / (size_t)workers)
        return nin__no_memory("workers");
    executable->worker_memory = nin__cpu_memory(executable->worker_bytes * (size_t)workers);
    if (executable->worker_memory == NULL)
        return nin__fail(NIN_OUT_OF_MEMORY, "no memory for %d workers of %zu bytes", workers,
                         executable->worker_bytes);
    executable->bytes += executable->worker_bytes * (uint64_t)workers;
    return nin__cpu_workers_create(&executable->workers, workers);
}

/* As many lanes as asked for, or fewer where all together would pass the limit of bytes: a rule of
 * shapes and of the plan's descriptor alone, for it sets the order of additions. */
static int32_t count_lanes(const struct nin__executable *executable,
                           const struct cpu_segment *segment)
{
    int32_t lanes = executable->options.lanes;

    while (lanes > 1 && segment->lane_bytes > executable->options.lane_bytes / (uint64_t)lanes)
        lanes--;
    return lanes;
}

static nin_status allocate_lanes(struct nin__executable *executable)
{
    int32_t workers = executable->options.threads;
    size_t largest = 0;

    if (!executable->program.train)
        return NIN_OK;
    for (int32_t s = 0; s < executable->segment_count; s++) {
        struct cpu_segment *segment = &executable->segments[s];
        int32_t units = (executable->options.max_batch + segment->unit - 1) / segment->unit;
        int32_t lanes = count_lanes(executable, segment), used = units < lanes ? units : lanes;
        size_t bytes = segment->lane_bytes * (size_t)nin__cpu_lanes_buffers(used, workers);

        segment->max_lanes = lanes;
        if (bytes > largest)
            largest = bytes;
    }
    NIN__TRY(nin__cpu_lanes_create(&executable->lanes, workers, largest));
    executable->bytes += nin__cpu_lanes_bytes(executable->lanes);
    return NIN_OK;
}

/* Workers that stay have reserved: so discard knows what to release. */
static nin_status reserve_blas(struct nin__executable *executable)
{
    nin_status status = nin__cpu_gemm_reserve(executable->workers);

    if (status != NIN_OK) {
        nin__cpu_workers_destroy(executable->workers);
        executable->workers = NULL;
    }
    return status;
}

/* Asked first: whatever instructions there are, none would help. */
static nin_status check_gemm(const struct nin__compile_options *options)
{
    bool bf16 = options->precision == NIN_BF16 || options->precision == NIN_BF16X3;

    if (bf16 && options->algorithm == NIN_ALGORITHM_GEMM)
        return nin__fail(NIN_UNSUPPORTED,
                         "plan: on a CPU NIN_ALGORITHM_GEMM is there in NIN_FP32 only");
    return NIN_OK;
}

static nin_status build(struct nin__executable *executable, const struct nin__program *program,
                        const struct nin__device *device)
{
    const struct cpu_kernels *kernels;
    const struct cpu_bf16_kernels *bf16;

    NIN__TRY(nin__cpu_choose_kernels(&kernels, device->instructions));
    NIN__TRY(check_gemm(&executable->options));
    NIN__TRY(nin__cpu_choose_bf16(&bf16, device, executable->options.precision));
    NIN__TRY(copy_program(executable, program));
    choose_algorithms(executable, kernels, bf16);
    nin__cpu_cut_segments(executable);
    NIN__TRY(allocate_whole(executable));
    nin__cpu_cut_groups(executable);
    NIN__TRY(place_segments(executable));
    NIN__TRY(allocate_lanes(executable));
    NIN__TRY(allocate_workers(executable));
    return executable->options.algorithm == NIN_ALGORITHM_GEMM ? reserve_blas(executable) : NIN_OK;
}

nin_status nin__cpu_compile(struct nin__executable **out, struct nin__device *device,
                            const struct nin__program *program,
                            const struct nin__compile_options *options)
{
    struct nin__executable *executable = calloc(1, sizeof *executable);
    nin_status status;

    if (executable == NULL)
        return nin__no_memory("an executable");
    executable->options = *options;
    status = build(executable, program, device);
    if (status != NIN_OK) {
        nin__cpu_discard(executable);
        return status;
    }
    *out = executable;
    return NIN_OK;
}

void nin__cpu_discard(struct nin__executable *executable)
{
    if (executable == NULL)
        return;
    if (executable->options.algorithm == NIN_ALGORITHM_GEMM && executable->workers != NULL)
        nin__cpu_gemm_release(executable->workers);
    nin__cpu_workers_destroy(executable->workers);
    nin__cpu_lanes_destroy(executable->lanes);
    free(executable->worker_memory);
    free(executable->whole);
    free(executable->program.ops);
    free(executable->ops);
    free(executable->segments);
    free(executable->groups);
    free(executable->forms);
    free(executable->bad);
    free(executable);
}
