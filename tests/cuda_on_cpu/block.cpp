/* SPDX-License-Identifier: MIT */
/* A block of threads. They run one after another, each to its end. But if the first one comes to a barrier all
 * become fibers, with stacks of their own, of which each runs until it is there too; and so from barrier to
 * barrier. That some come to one and others do not is an error of the kernel, which ends the program. */
#include "block.h"

#include <cstdio>
#include <cstdlib>
#include <vector>

#include <sys/mman.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

thread_local uint3 threadIdx, blockIdx;
thread_local dim3 gridDim;

namespace
{

const size_t STACK = (size_t)256 << 10;

struct fiber {
    ucontext_t context;
    char *stack;
    bool over;
};

/* Of a thread of the host. */
struct scheduler {
    ucontext_t context;
    std::vector<fiber> fibers;
    fiber *running; /* NULL: a thread of the block runs on the host's own stack */
    const std::function<void()> *thread;
#if defined(__SANITIZE_ADDRESS__)
    const void *bottom; /* of the host's stack */
    size_t bytes;
#endif

    ~scheduler()
    {
        for (fiber &f : fibers)
            munmap(f.stack, STACK);
    }
};

thread_local scheduler here;

void fail(const char *what)
{
    fprintf(stderr, "stand-in: %s\n", what);
    abort();
}

/* ---- switching: sanitizers are told on both sides ------------------------------------------- */

void leave_fiber()
{
    fiber *f = here.running;
#if defined(__SANITIZE_ADDRESS__)
    void *fake = NULL;

    __sanitizer_start_switch_fiber(f->over ? NULL : &fake, here.bottom, here.bytes);
#endif
    swapcontext(&f->context, &here.context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, &here.bottom, &here.bytes);
#endif
}

void run_fiber(fiber *f)
{
    here.running = f;
#if defined(__SANITIZE_ADDRESS__)
    void *fake = NULL;

    __sanitizer_start_switch_fiber(&fake, f->stack, STACK);
#endif
    swapcontext(&here.context, &f->context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
    here.running = NULL;
}

void begin_fiber()
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(NULL, &here.bottom, &here.bytes);
#endif
    (*here.thread)();
    here.running->over = true;
    leave_fiber();
}

/* ---- fibers of a block ---------------------------------------------------------------------- */

void make_fibers(size_t count)
{
    while (here.fibers.size() < count) {
        fiber f = {};

        f.stack =
            (char *)mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (f.stack == MAP_FAILED)
            fail("no memory for a stack");
        here.fibers.push_back(f);
    }
}

void prepare(fiber *f)
{
    f->over = false;
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = NULL;
    makecontext(&f->context, begin_fiber, 0);
}

/* Threads in the order that the seed has it. */
unsigned thread_at(unsigned t, unsigned threads, uint32_t seed)
{
    return (seed / 2 + t * (seed % 3 == 0 ? 1u : 5u)) % threads;
}

/* All threads from number `from` in that order on, until each is at a barrier or over; whether they are over. */
bool run_phase(unsigned from, unsigned threads, uint32_t seed)
{
    unsigned over = 0;

    for (unsigned t = from; t < threads; t++) {
        threadIdx = {thread_at(t, threads, seed), 0, 0};
        run_fiber(&here.fibers[threadIdx.x]);
    }
    for (unsigned t = 0; t < threads; t++)
        over += here.fibers[t].over;
    if (over != 0 && over != threads)
        fail("threads of a block end while others wait at a barrier");
    return over == threads;
}

} // namespace

void __syncthreads(void)
{
    if (here.running == NULL)
        fail("a thread is at a barrier to which another did not come");
    leave_fiber();
}

void stand_in_run_block(unsigned threads, const std::function<void()> &thread, uint32_t seed)
{
    unsigned first = thread_at(0, threads, seed);

    make_fibers(threads);
    here.thread = &thread;
    threadIdx = {first, 0, 0};
    prepare(&here.fibers[first]);
    run_fiber(&here.fibers[first]);
    if (here.fibers[first].over) {
        for (unsigned t = 1; t < threads; t++) {
            threadIdx = {thread_at(t, threads, seed), 0, 0};
            thread();
        }
        return;
    }
    for (unsigned t = 0; t < threads; t++)
        if (t != first)
            prepare(&here.fibers[t]);
    if (run_phase(1, threads, seed))
        fail("a thread is at a barrier to which no other came");
    while (!run_phase(0, threads, seed))
        seed = seed * 1664525u + 1013904223u; /* another order after each barrier */
}
