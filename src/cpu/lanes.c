/* SPDX-License-Identifier: MIT */
#include "cpu/lanes.h"

#include "core/error.h"
#include "cpu/cpu.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_LANES = 64,
    MAX_LEVELS = 7
};

struct cpu_lanes {
    pthread_mutex_t lock;
    pthread_cond_t returned; /* a buffer has come back */
    float *memory;
    size_t buffer_floats; /* of a whole buffer */
    int32_t buffers;
    float **idle; /* a stack of idle buffers */
    int32_t idle_count;
    int32_t count;                         /* of this round's lanes */
    int32_t next;                          /* lane to be taken */
    size_t floats;                         /* in use */
    float *waiting[MAX_LEVELS][MAX_LANES]; /* [level][node]: sums whose brother is not done */
};

static int32_t log2_ceil(int32_t value)
{
    int32_t log = 0;

    while (((int32_t)1 << log) < value)
        log++;
    return log;
}

nin_status nin__cpu_lanes_create(struct cpu_lanes **out, int32_t lane_count, int32_t workers,
                                 size_t bytes)
{
    struct cpu_lanes *lanes = calloc(1, sizeof *lanes);
    int32_t enough = workers + log2_ceil(lane_count) + 1;

    if (lanes == NULL)
        return nin__no_memory("lanes");
    pthread_mutex_init(&lanes->lock, NULL);
    pthread_cond_init(&lanes->returned, NULL);
    lanes->buffers = lane_count < enough ? lane_count : enough;
    lanes->buffer_floats =
        (bytes + NIN__ALIGNMENT - 1) / NIN__ALIGNMENT * NIN__ALIGNMENT / sizeof(float);
    lanes->memory = nin__cpu_memory((size_t)lanes->buffers * lanes->buffer_floats * sizeof(float));
    lanes->idle = calloc((size_t)lanes->buffers, sizeof *lanes->idle);
    if (lanes->memory == NULL || lanes->idle == NULL) {
        nin__cpu_lanes_destroy(lanes);
        return nin__no_memory("lanes");
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
    free(lanes->idle);
    free(lanes);
}

uint64_t nin__cpu_lanes_bytes(const struct cpu_lanes *lanes)
{
    return (uint64_t)lanes->buffers * lanes->buffer_floats * sizeof(float);
}

void nin__cpu_lanes_begin(struct cpu_lanes *lanes, int32_t count, size_t floats)
{
    lanes->count = count;
    lanes->floats = floats;
    lanes->next = 0;
    lanes->idle_count = lanes->buffers;
    for (int32_t i = 0; i < lanes->buffers; i++)
        lanes->idle[i] = lanes->memory + (size_t)i * lanes->buffer_floats;
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
    if (lane >= 0)
        memset(*buffer, 0, lanes->floats * sizeof **buffer);
    return lane;
}

static void add(float *restrict sum, const float *restrict other, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sum[i] += other[i];
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
            add(buffer, brother, lanes->floats);
            give_back(lanes, brother);
        } else {
            add(brother, buffer, lanes->floats);
            give_back(lanes, buffer);
            buffer = brother;
        }
    }
    pthread_mutex_lock(&lanes->lock);
    lanes->waiting[MAX_LEVELS - 1][0] = buffer;
    pthread_mutex_unlock(&lanes->lock);
}

const float *nin__cpu_lanes_total(const struct cpu_lanes *lanes)
{
    return lanes->waiting[MAX_LEVELS - 1][0];
}
