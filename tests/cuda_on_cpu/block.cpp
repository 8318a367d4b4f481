/* SPDX-License-Identifier: MIT */
/* A block of threads. They run one after another, each to its end. But if the first one comes to a
 * barrier all become fibers, with stacks of their own, of which each runs until it is there too;
 * and so from barrier to barrier. That some come to one and others do not is an error of the
 * kernel, which ends the program. Between barriers the threads of a warp meet at calls that it
 * makes as one: when all have met there a warp goes on, to the next barrier if it can, before the
 * next warp does. */
#include "block.h"
#include "queue.h"

#include "cuda_pipeline.h"
#include "watcher.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <sys/mman.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 gridDim;

namespace
{

const size_t STACK = (size_t)256 << 10;

/* Stacks begin this far apart, modulo the size of a mapping: else a cache would have room for those
 * of a few fibers only. */
const size_t APART = 17 * 64, BEGINNINGS = 64;

/* Switching saves no signal mask, so that it needs no call of the system; a context is only how a
 * fiber gets to its stack. */
struct fiber {
    void *place[5]; /* where it goes on */
    char *stack;
    bool over;
    stand_in_call call; /* at which it waits for the rest of its warp; NULL: at none */
    void *brought;
};

/* A copy that a thread of a block has asked for: of `size` bytes the last ones are zeros. */
struct copy {
    char *target;
    const char *source;
    size_t size, zeros;
};

/* Of a thread of a block: all that it has asked for, where groups of them end, and how many have
 * been made. */
struct copies {
    std::vector<copy> all;
    std::vector<size_t> ends;
    size_t made = 0;
};

/* One for all threads of the host: they run blocks in turn. */
struct scheduler {
    std::vector<copies> under_way; /* thread by thread */
    uint32_t random;
    void *place[5];
    std::vector<fiber *> fibers;
    fiber *running; /* NULL: a thread of the block runs on the host's own stack */
    const std::function<void()> *thread;
#if defined(__SANITIZE_ADDRESS__)
    const void *bottom; /* of the host's stack */
    size_t bytes;
#endif

    ~scheduler()
    {
        for (fiber *f : fibers) {
            munmap(f->stack, STACK);
            delete f;
        }
    }
};

scheduler here;

[[noreturn]] void fail(const char *what)
{
    fprintf(stderr, "stand-in: %s\n", what);
    abort();
}

/* ---- switching: sanitizers are told on both sides ------------------------------------------- */

/* Compilers are to know nothing about it: before control comes back others use memory and
 * registers. */
__attribute__((noipa)) void go_on(void **place)
{
    __builtin_longjmp(place, 1);
}

void leave_fiber()
{
    fiber *f = here.running;
#if defined(__SANITIZE_ADDRESS__)
    void *fake = NULL;

    __sanitizer_start_switch_fiber(&fake, here.bottom, here.bytes);
#endif
    if (__builtin_setjmp(f->place) == 0)
        go_on(here.place);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, &here.bottom, &here.bytes);
#endif
}

void run_fiber(fiber *f)
{
#if defined(__SANITIZE_ADDRESS__)
    void *fake = NULL;

    __sanitizer_start_switch_fiber(&fake, f->stack, STACK);
#endif
    here.running = f;
    if (__builtin_setjmp(here.place) == 0)
        go_on(f->place);
    here.running = NULL;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
}

/* A fiber's life: it waits to be run, is a thread of a block, and waits again. */
void live()
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(NULL, &here.bottom, &here.bytes);
#endif
    for (;;) {
        leave_fiber();
        (*here.thread)();
        here.running->over = true;
    }
}

/* ---- fibers of a block ---------------------------------------------------------------------- */

/* Goes to a new fiber's stack, and comes back when it waits. */
void begin(fiber *f, size_t number)
{
    ucontext_t context;

    f->stack =
        (char *)mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (f->stack == MAP_FAILED)
        fail("no memory for a stack");
    getcontext(&context);
    context.uc_stack.ss_sp = f->stack;
    context.uc_stack.ss_size = STACK - number % BEGINNINGS * APART;
    context.uc_link = NULL;
    makecontext(&context, live, 0);
#if defined(__SANITIZE_ADDRESS__)
    void *fake = NULL;

    __sanitizer_start_switch_fiber(&fake, f->stack, STACK);
#endif
    here.running = f;
    if (__builtin_setjmp(here.place) == 0)
        setcontext(&context);
    here.running = NULL;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
}

/* The fibers do not move: they are run by their addresses. */
void make_fibers(size_t count)
{
    while (here.fibers.size() < count) {
        here.fibers.push_back(new fiber());
        begin(here.fibers.back(), here.fibers.size());
    }
}

/* Threads in the order that the seed has it. */
unsigned thread_at(unsigned t, unsigned threads, uint32_t seed)
{
    return (seed / 2 + t * (seed % 3 == 0 ? 1u : 5u)) % threads;
}

/* If the warp of the threads from `first` on waits at a call that is made; all may then go on.
 * Whether it is so. */
bool make_call(unsigned first, unsigned threads)
{
    fiber **lanes = here.fibers.data() + first;
    void *brought[STAND_IN_WARP];
    unsigned waiting = 0;

    for (unsigned lane = 0; lane < STAND_IN_WARP && first + lane < threads; lane++)
        waiting += lanes[lane]->call != NULL;
    if (waiting == 0)
        return false;
    if (waiting < STAND_IN_WARP)
        fail("threads of a warp do not come to what the warp does as one");
    for (unsigned lane = 0; lane < STAND_IN_WARP; lane++) {
        if (lanes[lane]->call != lanes[0]->call)
            fail("threads of a warp do not come to the same call");
        brought[lane] = lanes[lane]->brought;
    }
    lanes[0]->call(brought);
    for (unsigned lane = 0; lane < STAND_IN_WARP; lane++)
        lanes[lane]->call = NULL;
    return true;
}

/* A warp, from call to call. */
void run_warp(unsigned warp, unsigned threads, uint32_t seed)
{
    while (make_call(STAND_IN_WARP * warp, threads))
        for (unsigned t = 0; t < STAND_IN_WARP; t++) {
            threadIdx = {STAND_IN_WARP * warp + (seed % 2 == 0 ? t : STAND_IN_WARP - 1 - t), 0, 0};
            run_fiber(here.fibers[threadIdx.x]);
        }
}

/* All threads from number `from` in that order on, until each is at a barrier or over; whether they
 * are over. */
bool run_phase(unsigned from, unsigned threads, uint32_t seed)
{
    unsigned over = 0, warps = (threads + STAND_IN_WARP - 1) / STAND_IN_WARP;

    for (unsigned t = from; t < threads; t++) {
        threadIdx = {thread_at(t, threads, seed), 0, 0};
        run_fiber(here.fibers[threadIdx.x]);
    }
    for (unsigned w = 0; w < warps; w++)
        run_warp(thread_at(w, warps, seed), threads, seed);
    for (unsigned t = 0; t < threads; t++)
        over += here.fibers[t]->over;
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

void stand_in_meet(stand_in_call call, void *mine)
{
    if (here.running == NULL)
        fail("a thread is at a call to which others of its warp did not come");
    here.running->call = call;
    here.running->brought = mine;
    leave_fiber();
}

void stand_in_fail(const char *what)
{
    fail(what);
}

bool stand_in_random_bit(void)
{
    here.random = here.random * 1664525u + 1013904223u;
    return here.random >> 31 != 0;
}

/* Looked up for one copy in 32 or so: that takes long. */
static void check(const copy &c)
{
    bool reads = c.zeros < c.size;

    if (here.random >> 27 == 0 &&
        (stand_in_owns(c.target, 1) || (reads && !stand_in_owns(c.source, c.size - c.zeros))))
        fail("a copy into shared memory that is not from the device's memory");
}

static void make(const copy &c)
{
    check(c);
    stand_in_watched_by->moves(c.source, c.size - c.zeros, false);
    memcpy(c.target, c.source, c.size - c.zeros);
    memset(c.target + c.size - c.zeros, 0, c.zeros);
}

void __pipeline_memcpy_async(void *target, const void *source, size_t size, size_t zeros)
{
    if ((size != 4 && size != 8 && size != 16) || zeros > size || (uintptr_t)target % size != 0 ||
        (uintptr_t)source % size != 0)
        fail("a copy into shared memory that is not of 4, 8 or 16 aligned bytes");
    copy asked = {(char *)target, (const char *)source, size, zeros};

    if (stand_in_random_bit()) /* some at once, so that what is overwritten too early shows, too */
        make(asked);
    else
        here.under_way[threadIdx.x].all.push_back(asked);
}

void __pipeline_commit(void)
{
    here.under_way[threadIdx.x].ends.push_back(here.under_way[threadIdx.x].all.size());
}

/* The group that is not closed is none of those that are counted. */
void __pipeline_wait_prior(size_t groups)
{
    copies &mine = here.under_way[threadIdx.x];
    size_t end = mine.ends.size() > groups ? mine.ends[mine.ends.size() - 1 - groups] : 0;

    for (; mine.made < end; mine.made++)
        make(mine.all[mine.made]);
}

static void forget_copies(size_t threads)
{
    here.under_way.resize(threads);
    for (copies &mine : here.under_way) {
        mine.all.clear();
        mine.ends.clear();
        mine.made = 0;
    }
}

void stand_in_run_block(unsigned threads, const std::function<void()> &thread, uint32_t seed)
{
    unsigned first = thread_at(0, threads, seed);

    make_fibers(threads);
    forget_copies(threads);
    here.random = seed;
    for (fiber *f : here.fibers)
        f->over = false;
    here.thread = &thread;
    threadIdx = {first, 0, 0};
    run_fiber(here.fibers[first]);
    if (here.fibers[first]->over) {
        for (unsigned t = 1; t < threads; t++) {
            threadIdx = {thread_at(t, threads, seed), 0, 0};
            thread();
        }
        return;
    }
    if (run_phase(1, threads, seed))
        return; /* there were calls of warps, and no barrier */
    do {
        seed = seed * 1664525u + 1013904223u; /* another order after each barrier */
        for (unsigned t = 0; t < threads; t++)
            here.fibers[t]->over = false;
    } while (!run_phase(0, threads, seed));
}
