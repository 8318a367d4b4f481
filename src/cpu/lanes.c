/* SPDX-License-Identifier: MIT */
#include "cpu/lanes.h"

#include "core/error.h"
#include "cpu/cpu.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    LEVELS = 7 /* of a tree over 64 lanes, its root included */
};

struct cpu_lanes {
    pthread_mutex_t lock;
    pthread_cond_t returned; /* a buffer has come back */
    float *memory;
    size_t bytes;
    int32_t workers;
    float *idle[NIN__CPU_MAX_LANES]; /* a stack of idle buffers */
    int32_t idle_count;
    int32_t count;                              /* of this round's lanes */
    int32_t next;                               /* lane to be taken */
    size_t floats;                              /* of a buffer */
    float *waiting[LEVELS][NIN__CPU_MAX_LANES]; /* [level][node]: sums whose brother is not done */
};

static int32_t log2_ceil(int32_t value)
{
    int32_t log = 0;

    while (((int32_t)1 << log) < value)
        log++;
    return log;
}

int32_t nin__cpu_lanes_buffers(int32_t lanes, int32_t workers)
{
    int32_t enough = workers + log2_ceil((lanes + workers - 1) / workers);

    return lanes < enough ? lanes : enough;
}

nin_status nin__cpu_lanes_create(struct cpu_lanes **out, int32_t workers, size_t bytes)
{
    struct cpu_lanes *lanes = calloc(1, sizeof *lanes);

    if (lanes == NULL)
        return nin__no_memory("lanes");
    pthread_mutex_init(&lanes->lock, NULL);
    pthread_cond_init(&lanes->returned, NULL);
    lanes->workers = workers;
    lanes->bytes = bytes;
    lanes->memory = nin__cpu_memory(bytes);
    if (lanes->memory == NULL) {
        nin__cpu_lanes_destroy(lanes);
        return nin__fail(NIN_OUT_OF_MEMORY, "no memory for lanes of %zu bytes", bytes);
    }
    *out = lanes;
    return NIN_OK;
}

void nin__cpu_lanes_destroy(struct cpu_lanes *lanes)
{
    if (lanes == NULL)
        return;
    pthread_cond_destroy(&lanes->returned);
    pthread_mutex_destroy(&lanes->lock);
    free(lanes->memory);
    free(lanes);
}

uint64_t nin__cpu_lanes_bytes(const struct cpu_lanes *lanes)
{
    return lanes->bytes;
}

void nin__cpu_lanes_begin(struct cpu_lanes *lanes, int32_t count, size_t floats)
{
    lanes->count = count;
    lanes->floats = floats;
    lanes->next = 0;
    lanes->idle_count = nin__cpu_lanes_buffers(count, lanes->workers);
    for (int32_t i = 0; i < lanes->idle_count; i++)
        lanes->idle[i] = lanes->memory + (size_t)i * floats;
    memset(lanes->waiting, 0, sizeof lanes->waiting);
}

int32_t nin__cpu_lanes_take(struct cpu_lanes *lanes, float **buffer)
{
    int32_t lane = -1;

    pthread_mutex_lock(&lanes->lock);
    while (lanes->next < lanes->count && lanes->idle_count == 0)
        pthread_cond_wait(&lanes->returned, &lanes->lock);
    if (lanes->next < lanes->count) {
        lane = lanes->next++;
        *buffer = lanes->idle[--lanes->idle_count];
    }
    pthread_mutex_unlock(&lanes->lock);
    return lane;
}

/* Leaves the node's sum for its brother, or takes the brother's: NULL if it is not there yet. */
static float *meet_brother(struct cpu_lanes *lanes, int32_t level, int32_t node, float *buffer)
{
    float *brother;

    pthread_mutex_lock(&lanes->lock);
    brother = lanes->waiting[level][node ^ 1];
    if (brother == NULL)
        lanes->waiting[level][node] = buffer;
    pthread_mutex_unlock(&lanes->lock);
    return brother;
}

static void give_back(struct cpu_lanes *lanes, float *buffer)
{
    pthread_mutex_lock(&lanes->lock);
    lanes->idle[lanes->idle_count++] = buffer;
    pthread_cond_broadcast(&lanes->returned);
    pthread_mutex_unlock(&lanes->lock);
}

void nin__cpu_lanes_fold(struct cpu_lanes *lanes, int32_t lane, float *buffer)
{
    int32_t nodes = lanes->count, node = lane;

    for (int32_t level = 0; nodes > 1; level++, node /= 2, nodes = (nodes + 1) / 2) {
        float *brother;

        if (node == nodes - 1 && node % 2 == 0)
            continue; /* no brother: up as it is */
        brother = meet_brother(lanes, level, node, buffer);
        if (brother == NULL)
            return; /* whoever finishes the brother goes on with both */
        if (node % 2 == 0) {
            nin__cpu_add(buffer, brother, lanes->floats);
            give_back(lanes, brother);
        } else {
            nin__cpu_add(brother, buffer, lanes->floats);
            give_back(lanes, buffer);
            buffer = brother;
        }
    }
    pthread_mutex_lock(&lanes->lock);
    lanes->waiting[LEVELS - 1][0] = buffer;
    pthread_mutex_unlock(&lanes->lock);
}

const float *nin__cpu_lanes_total(const struct cpu_lanes *lanes)
{
    return lanes->waiting[LEVELS - 1][0];
}
