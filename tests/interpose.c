/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* RTLD_NEXT, dl_iterate_phdr */
#include "interpose.h"

#include "sanitized.h"

#include <stdlib.h>

#if defined(__GLIBC__) && !SANITIZED

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

/* glibc's own functions under the names that nobody replaces. */
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *block, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);
extern void __libc_free(void *block);

static atomic_int_fast64_t calls, blocks, bytes_now;

struct interpose_counts interpose_counts(void)
{
    return (struct interpose_counts){atomic_load(&calls), atomic_load(&blocks),
                                     atomic_load(&bytes_now)};
}

/* ---- which calls fail ---------------------------------------------------------------------- */

/* Of this thread. */
static _Thread_local struct {
    bool armed, onwards;
    int64_t left; /* calls until the one that fails */
    int64_t failed;
} plan;

/* Where the code of these libraries lies. */
static struct exempt {
    const char *name;
    uintptr_t start, end;
} exempt[] = {{"libopenblas", 0, 0}, {"libjansson", 0, 0}};

enum {
    EXEMPT = sizeof exempt / sizeof exempt[0]
};

static int find_code(struct dl_phdr_info *info, size_t size, void *user)
{
    (void)size;
    (void)user;
    for (int e = 0; e < EXEMPT; e++)
        for (int i = 0; strstr(info->dlpi_name, exempt[e].name) && i < info->dlpi_phnum; i++) {
            const ElfW(Phdr) *part = &info->dlpi_phdr[i];

            if (part->p_type != PT_LOAD || (part->p_flags & PF_X) == 0)
                continue;
            exempt[e].start = info->dlpi_addr + part->p_vaddr;
            exempt[e].end = exempt[e].start + part->p_memsz;
        }
    return 0;
}

void interpose_fail(int64_t n, bool onwards)
{
    if (exempt[0].start == 0)
        dl_iterate_phdr(find_code, NULL);
    plan.failed = 0;
    plan.left = n;
    plan.onwards = onwards;
    plan.armed = true;
}

int64_t interpose_stop(void)
{
    plan.armed = false;
    return plan.failed;
}

static bool is_exempt(const void *caller)
{
    for (int e = 0; e < EXEMPT; e++)
        if ((uintptr_t)caller >= exempt[e].start && (uintptr_t)caller < exempt[e].end)
            return true;
    return false;
}

/* Whether a call from there is one that has to fail. */
static bool fails(const void *caller)
{
    if (!plan.armed || is_exempt(caller))
        return false;
    if (plan.left > 0) {
        plan.left--;
        return false;
    }
    if (plan.failed > 0 && !plan.onwards)
        return false;
    plan.failed++;
    return true;
}

#define CALLER __builtin_return_address(0)

/* The other libraries' calls come here too. */
#define EXPORTED __attribute__((visibility("default")))

/* ---- the malloc family --------------------------------------------------------------------- */

static void *added(void *block)
{
    atomic_fetch_add(&calls, 1);
    if (block != NULL) {
        atomic_fetch_add(&blocks, 1);
        atomic_fetch_add(&bytes_now, (int64_t)malloc_usable_size(block));
    }
    return block;
}

static void *refused(void)
{
    atomic_fetch_add(&calls, 1);
    errno = ENOMEM;
    return NULL;
}

EXPORTED void *malloc(size_t bytes)
{
    return fails(CALLER) ? refused() : added(__libc_malloc(bytes));
}

EXPORTED void *calloc(size_t count, size_t bytes)
{
    return fails(CALLER) ? refused() : added(__libc_calloc(count, bytes));
}

EXPORTED void *realloc(void *block, size_t bytes)
{
    int64_t before = block == NULL ? 0 : (int64_t)malloc_usable_size(block);
    void *grown;

    if (fails(CALLER))
        return refused();
    grown = __libc_realloc(block, bytes);
    atomic_fetch_add(&calls, 1);
    if (grown == NULL && bytes > 0)
        return NULL;
    atomic_fetch_add(&blocks, (grown != NULL) - (block != NULL));
    atomic_fetch_add(&bytes_now, (grown == NULL ? 0 : (int64_t)malloc_usable_size(grown)) - before);
    return grown;
}

EXPORTED void *memalign(size_t alignment, size_t bytes)
{
    return fails(CALLER) ? refused() : added(__libc_memalign(alignment, bytes));
}

EXPORTED void *aligned_alloc(size_t alignment, size_t bytes)
{
    return fails(CALLER) ? refused() : added(__libc_memalign(alignment, bytes));
}

EXPORTED int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    void *block = fails(CALLER) ? refused() : added(__libc_memalign(alignment, bytes));

    if (block == NULL)
        return ENOMEM;
    *out = block;
    return 0;
}

EXPORTED void free(void *block)
{
    int saved = errno;

    atomic_fetch_add(&calls, 1);
    if (block == NULL)
        return;
    atomic_fetch_sub(&blocks, 1);
    atomic_fetch_sub(&bytes_now, (int64_t)malloc_usable_size(block));
    __libc_free(block);
    errno = saved;
}

/* ---- the system ---------------------------------------------------------------------------- */

/* The function of that name in the next library; *place caches it. */
static void *next(_Atomic(void *) *place, const char *name)
{
    void *symbol = atomic_load(place);

    if (symbol == NULL) {
        symbol = dlsym(RTLD_NEXT, name);
        atomic_store(place, symbol);
    }
    return symbol;
}

EXPORTED void *mmap(void *address, size_t bytes, int protection, int flags, int file, off_t offset)
{
    static _Atomic(void *) place;
    void *(*real)(void *, size_t, int, int, int, off_t);
    void *symbol;

    if (fails(CALLER)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    symbol = next(&place, "mmap");
    memcpy(&real, &symbol, sizeof real);
    return real(address, bytes, protection, flags, file, offset);
}

EXPORTED int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                            void *(*start)(void *), void *argument)
{
    static _Atomic(void *) place;
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    bool armed = plan.armed;
    void *symbol;
    int error;

    if (fails(CALLER))
        return EAGAIN;
    symbol = next(&place, "pthread_create");
    memcpy(&real, &symbol, sizeof real);
    plan.armed =
        armed && !is_exempt(CALLER); /* what the C library allocates for a thread of theirs */
    error = real(thread, attributes, start, argument);
    plan.armed = armed;
    return error;
}

bool interpose_works(void)
{
    int64_t before = atomic_load(&calls);
    void *volatile block = malloc(1);
    bool works = block != NULL && atomic_load(&calls) > before;

    free(block);
    return works;
}

#else

struct interpose_counts interpose_counts(void)
{
    return (struct interpose_counts){0, 0, 0};
}

void interpose_fail(int64_t n, bool onwards)
{
    (void)n;
    (void)onwards;
}

int64_t interpose_stop(void)
{
    return 0;
}

bool interpose_works(void)
{
    return false;
}

#endif
