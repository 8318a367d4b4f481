/* SPDX-License-Identifier: MIT */
/* What each node of a training step's graph reads, writes and multiplies, for 'make cuda-report'.
 * The module is the stand-in's, with kernels of which the compiler tells each load and store, as it
 * does for the sanitizer that looks for races; but what is told is counted here. After the first
 * graph the program is over.
 *
 * Bytes are those of sectors of 32 that a node touches, each once: what it would move if a cache of
 * its own kept everything and nothing were there before. FLOP are two for each multiply-add of a
 * kernel, padded tiles and all, be it a thread's own or a tensor core's, and 2 m n k for a product
 * of cuBLAS; the few additions of other kernels are not counted. */
#include "watcher.h"

#include <cstdio>
#include <cstdlib>
#include <vector>

#include <dlfcn.h>
#include <unistd.h>

uint64_t stand_in_fmas;

namespace
{

const uintptr_t SECTOR = 32;

enum : uint8_t {
    READ = 1,
    WRITTEN = 2
};

/* Of a device's memory. */
struct piece {
    uintptr_t start;
    size_t bytes;
    std::vector<uint8_t> sectors; /* what has happened to each */
};

/* What a node is. */
struct node {
    const void *kernel;
    unsigned blocks, threads;
    struct stand_in_product product; /* k = 0: it is none */
    bool in_warps;                   /* a kernel that multiplies by tensor cores, */
    stand_in_operands operands;      /* which have these */
};

class traffic : public stand_in_watcher
{
  public:
    traffic()
    {
        stand_in_watched_by = this;
    }

    void has_piece(const void *start, size_t bytes) override
    {
        pieces.push_back({(uintptr_t)start, bytes, std::vector<uint8_t>(bytes / SECTOR + 1)});
        last = &pieces[0];
    }

    void begins_node(void) override
    {
        for (piece &p : pieces)
            p.sectors.assign(p.sectors.size(), 0);
        now = node();
        stand_in_fmas = 0;
        watching = true;
    }

    void ends_node(void) override
    {
        watching = false;
        print();
    }

    [[noreturn]] void ends_graph(void) override
    {
        fflush(stdout);
        _exit(0);
    }

    void runs(const void *kernel, unsigned blocks, unsigned threads) override
    {
        now.kernel = kernel;
        now.blocks = blocks;
        now.threads = threads;
    }

    void multiplies(const stand_in_product &p) override
    {
        size_t operand = stand_in_operand_bytes(p.operands);

        now.product = p;
        stand_in_fmas += (uint64_t)p.m * (uint64_t)p.n * (uint64_t)p.k;
        moves_matrix(p.a, operand, p.a_turned ? p.k : p.m, p.a_turned ? p.m : p.k, p.lda, READ);
        moves_matrix(p.b, operand, p.b_turned ? p.n : p.k, p.b_turned ? p.k : p.n, p.ldb, READ);
        moves_matrix(p.c, p.narrow ? 2 : 4, p.m, p.n, p.ldc, WRITTEN | (p.add != 0.0f ? READ : 0));
    }

    void multiplies_in_warp(stand_in_operands operands, size_t count) override
    {
        now.in_warps = true;
        now.operands = operands;
        stand_in_fmas += count;
    }

    void moves(const void *memory, size_t bytes, bool writes) override
    {
        for (size_t i = 0; i < bytes; i += SECTOR)
            mark((uintptr_t)memory + i, bytes - i < SECTOR ? bytes - i : SECTOR,
                 writes ? WRITTEN : READ);
    }

    /* No more than a sector. */
    void mark(uintptr_t at, size_t bytes, uint8_t how)
    {
        if (!watching || (at - last->start >= last->bytes && !find(at)))
            return;
        last->sectors[(at - last->start) / SECTOR] |= how;
        last->sectors[(at - last->start + bytes - 1) / SECTOR] |= how;
    }

  private:
    std::vector<piece> pieces;
    piece *last = NULL; /* the piece that was touched last */
    bool watching = false;
    node now = node();

    /* Shared memory and the stack are in none. */
    bool find(uintptr_t at)
    {
        for (piece &p : pieces)
            if (at - p.start < p.bytes) {
                last = &p;
                return true;
            }
        return false;
    }

    void moves_matrix(const void *matrix, size_t element, int rows, int columns, int leading,
                      uint8_t how)
    {
        for (int j = 0; j < columns; j++) {
            const char *column = (const char *)matrix + (size_t)j * (size_t)leading * element;

            if ((how & READ) != 0)
                moves(column, (size_t)rows * element, false);
            if ((how & WRITTEN) != 0)
                moves(column, (size_t)rows * element, true);
        }
    }

    uint64_t bytes_that_are(uint8_t how) const
    {
        uint64_t count = 0;

        for (const piece &p : pieces)
            for (uint8_t sector : p.sectors)
                count += (sector & how) != 0;
        return count * SECTOR;
    }

    /* kind ("kernel in bf16": by tensor cores), what, blocks, threads, FLOP, bytes read, bytes
     * written; a kernel is told by where it is in the module. */
    void print() const
    {
        static const char *const names[] = {"fp32", "tf32", "bf16"};
        const stand_in_product &p = now.product;
        Dl_info module = Dl_info();

        if (now.kernel != NULL && dladdr(now.kernel, &module) != 0)
            printf("kernel%s%s\t0x%zx", now.in_warps ? " in " : "",
                   now.in_warps ? names[now.operands] : "",
                   (size_t)((const char *)now.kernel - (char *)module.dli_fbase));
        else if (p.k > 0)
            printf("%s\t%c%c %d x %d x %d", names[p.operands], p.a_turned ? 'T' : 'N',
                   p.b_turned ? 'T' : 'N', p.m, p.n, p.k);
        else
            printf("copy\t-");
        printf("\t%u\t%u\t%llu\t%llu\t%llu\n", now.blocks, now.threads,
               2 * (unsigned long long)stand_in_fmas, (unsigned long long)bytes_that_are(READ),
               (unsigned long long)bytes_that_are(WRITTEN));
    }
};

traffic *the_traffic = new traffic; /* never destroyed, as the machine that it watches */

} // namespace

/* ---- what the compiler calls ---------------------------------------------------------------- */

extern "C" {

void __tsan_init(void)
{
}

void __tsan_read1(uintptr_t at)
{
    the_traffic->mark(at, 1, READ);
}

void __tsan_read2(uintptr_t at)
{
    the_traffic->mark(at, 2, READ);
}

void __tsan_read4(uintptr_t at)
{
    the_traffic->mark(at, 4, READ);
}

void __tsan_read8(uintptr_t at)
{
    the_traffic->mark(at, 8, READ);
}

void __tsan_read16(uintptr_t at)
{
    the_traffic->mark(at, 16, READ);
}

void __tsan_read_range(const void *memory, size_t bytes)
{
    the_traffic->moves(memory, bytes, false);
}

void __tsan_write1(uintptr_t at)
{
    the_traffic->mark(at, 1, WRITTEN);
}

void __tsan_write2(uintptr_t at)
{
    the_traffic->mark(at, 2, WRITTEN);
}

void __tsan_write4(uintptr_t at)
{
    the_traffic->mark(at, 4, WRITTEN);
}

void __tsan_write8(uintptr_t at)
{
    the_traffic->mark(at, 8, WRITTEN);
}

void __tsan_write16(uintptr_t at)
{
    the_traffic->mark(at, 16, WRITTEN);
}

void __tsan_write_range(const void *memory, size_t bytes)
{
    the_traffic->moves(memory, bytes, true);
}
}
