/* SPDX-License-Identifier: MIT */
#include "core/program.h"

#include "core/error.h"
#include "core/network.h"

#include <stdlib.h>
#include <string.h>

struct nin__op *nin__program_last(const struct nin__lowering *lowering)
{
    return &lowering->program->ops[lowering->program->count - 1];
}

struct nin__op *nin__program_append(struct nin__lowering *lowering, enum nin__op_kind kind,
                                    struct nin__shape out)
{
    struct nin__program *program = lowering->program;
    struct nin__op *op = &program->ops[program->count];

    *op = (struct nin__op){
        .kind = kind,
        .name = lowering->network->layers[lowering->layer].name,
        .first_layer = lowering->layer,
        .last_layer = lowering->layer,
        .in = program->ops[program->count - 1].out,
        .out = out,
        .weight = NIN__NO_PARAMETER,
        .bias = NIN__NO_PARAMETER,
    };
    program->count++;
    return op;
}

int32_t nin__program_find(const struct nin__program *program, int32_t layer)
{
    for (int32_t i = 0; i < program->count; i++)
        if (program->ops[i].first_layer <= layer && layer <= program->ops[i].last_layer)
            return i;
    return 0; /* a layer that vanished at the top of an inference program: its output is the input */
}

const char *nin__op_name(enum nin__op_kind kind)
{
    static const char *const names[NIN__OP_KINDS] = {"input",        "conv",    "relu", "max_pool",
                                                     "average_pool", "dropout", "loss"};

    return names[kind];
}

static bool is_named(const nin_network *network, const nin_plan_desc *desc, int32_t layer)
{
    for (int32_t k = 0; k < desc->keep_count; k++)
        if (strcmp(desc->keep[k], network->layers[layer].name) == 0)
            return true;
    return false;
}

/* Whether somebody wants to see what the op computes as it is now. */
static bool is_kept(const struct nin__program *program, const struct nin__op *op)
{
    for (int32_t layer = op->first_layer; layer >= 0 && layer <= op->last_layer; layer++)
        if (program->kept[layer])
            return true;
    return false;
}

static void append_input(struct nin__program *program, const nin_network *network,
                         const nin_plan_desc *desc)
{
    struct nin__shape shape = {network->input.channels, desc->height, desc->width};

    program->ops[0] = (struct nin__op){
        .kind = NIN__OP_INPUT,
        .name = "images",
        .first_layer = -1,
        .last_layer = -1,
        .in = shape,
        .out = shape,
        .scale = (float)network->input.scale,
        .shift = (float)network->input.shift,
        .weight = NIN__NO_PARAMETER,
        .bias = NIN__NO_PARAMETER,
    };
    program->count = 1;
}

/* As the builder has it for the network's own input size: elements of an image can be numbered in
 * 31 bits, so that no product of sizes overflows further down. */
static nin_status check_size(const struct nin_layer *layer, struct nin__shape out)
{
    if ((int64_t)out.c * out.h >= INT32_MAX || (int64_t)out.c * out.h * out.w >= INT32_MAX)
        return nin__fail(NIN_INVALID_ARGUMENT,
                         "%s '%s': its output of %dx%dx%d has 2^31 elements "
                         "or more",
                         layer->class->name, layer->name, out.c, out.h, out.w);
    return NIN_OK;
}

static nin_status lower(struct nin__program *program, const nin_network *network,
                        const nin_plan_desc *desc)
{
    struct nin__lowering lowering = {.program = program, .network = network};

    append_input(program, network, desc);
    for (int32_t i = 0; i < network->layer_count; i++)
        program->kept[i] = is_named(network, desc, i);
    for (int32_t i = 0; i < network->layer_count; i++) {
        const struct nin_layer *layer = &network->layers[i];

        lowering.layer = i;
        lowering.keep_before = is_kept(program, nin__program_last(&lowering));
        NIN__TRY(layer->class->lower(layer, &lowering));
        NIN__TRY(check_size(layer, nin__program_last(&lowering)->out));
    }
    program->scores = program->count - 1 - (program->loss ? 1 : 0);
    program->ops[program->scores].keep = true;
    for (int32_t i = 0; i < network->layer_count; i++)
        if (program->kept[i])
            program->ops[nin__program_find(program, i)].keep = true;
    return NIN_OK;
}

nin_status nin__program_create(struct nin__program **out, const nin_network *network,
                               const nin_plan_desc *desc)
{
    struct nin__program *program = calloc(1, sizeof *program);
    nin_status status;

    if (program == NULL)
        return nin__no_memory("a program");
    program->train = desc->mode == NIN_TRAIN;
    program->input_gradient = desc->input_gradient != 0;
    program->parameters = network->parameter_count;
    program->ops = calloc((size_t)network->layer_count + 1, sizeof *program->ops);
    program->kept = calloc((size_t)network->layer_count, sizeof *program->kept);
    status = program->ops == NULL || program->kept == NULL ? nin__no_memory("a program")
                                                           : lower(program, network, desc);
    if (status != NIN_OK) {
        nin__program_destroy(program);
        return status;
    }
    *out = program;
    return NIN_OK;
}

void nin__program_destroy(struct nin__program *program)
{
    if (program == NULL)
        return;
    free(program->ops);
    free(program->kept);
    free(program);
}
