/* SPDX-License-Identifier: MIT */
#ifndef TESTS_WATCHER_H
#define TESTS_WATCHER_H

/* Who is told what the nodes of graphs do. This one does not care; the one of 'make cuda-report'
 * counts (tests/cuda/traffic.cpp). */

#include "queue.h"

struct stand_in_watcher {
    /* There is a piece of a device's memory. */
    virtual void has_piece(const void *, size_t)
    {
    }

    virtual void begins_node(void)
    {
    }

    virtual void ends_node(void)
    {
    }

    virtual void ends_graph(void)
    {
    }

    /* What the node is: a kernel, run by so many blocks of so many threads, a product of cuBLAS, or
     * neither. */
    virtual void runs(const void *, unsigned, unsigned)
    {
    }

    virtual void multiplies(const stand_in_product &)
    {
    }

    /* So many multiply-adds by the tensor cores, of a kernel's warp. */
    virtual void multiplies_in_warp(stand_in_operands, size_t)
    {
    }

    /* These bytes are read, or written, otherwise than by a kernel's own loads and stores. */
    virtual void moves(const void *, size_t, bool)
    {
    }
};

extern stand_in_watcher *stand_in_watched_by;

#endif
