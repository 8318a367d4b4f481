/* SPDX-License-Identifier: MIT */
#ifndef NIN__CPU_LANES_H
#define NIN__CPU_LANES_H

/* Sums of gradients with an order of additions that no number of workers changes.
 *
 * Unit u of a step adds to lane u mod L, in ascending order; lanes are added up in a fixed binary
 * tree: 0 + 1, 2 + 3, then (0 1) + (2 3), and so on; a node without a right brother moves up as it
 * is. A worker takes a whole lane, lanes in ascending order, and folds it into the tree when it is
 * done. A worker that finds no free buffer waits: a lane in progress has its own, so nothing
 * deadlocks. When no lane is in progress, those that are done and not all occupy at most log2(L)
 * buffers, so that one more suffices. Workers that keep step need workers + log2(L / workers); so
 * many there are, and whoever is lanes ahead waits for the others, as it would at the end of the
 * round. */

#include <nin/status.h>

#include <stddef.h>
#include <stdint.h>

struct cpu_lanes;

enum {
    NIN__CPU_MAX_LANES = 64
};

/* How many buffers so many lanes and workers need. */
int32_t nin__cpu_lanes_buffers(int32_t lanes, int32_t workers);

/* Makes memory of `bytes` for the buffers of any round; workers is how many take lanes at once. */
nin_status nin__cpu_lanes_create(struct cpu_lanes **out, int32_t workers, size_t bytes);
void nin__cpu_lanes_destroy(struct cpu_lanes *lanes);
uint64_t nin__cpu_lanes_bytes(const struct cpu_lanes *lanes);

/* Begins a round of `count` lanes, at most NIN__CPU_MAX_LANES, of `floats` elements each: memory
 * holds nin__cpu_lanes_buffers(count, workers) of them. */
void nin__cpu_lanes_begin(struct cpu_lanes *lanes, int32_t count, size_t floats);

/* Takes the next lane and a buffer for it, to be written before it is added to; -1 if all are
 * taken. */
int32_t nin__cpu_lanes_take(struct cpu_lanes *lanes, float **buffer);

/* The lane is done: folds it as far up as its brothers are done too. */
void nin__cpu_lanes_fold(struct cpu_lanes *lanes, int32_t lane, float *buffer);

/* The sum of all lanes, when all are folded; valid until the next begin. */
const float *nin__cpu_lanes_total(const struct cpu_lanes *lanes);

#endif
