/* SPDX-License-Identifier: MIT */
/* Which instruction sets this processor and its operating system have (CPUID and XCR0), and which
 * kernels follow from a context's choice and a plan's precision. */
#define _DEFAULT_SOURCE /* syscall */
#include "cpu/cpu.h"

#include "core/error.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("fma");
}

static bool has_avx512_bf16(void)
{
    unsigned a, b, c, d;

    return has_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 5 & 1) != 0;
}

/* TILE and BF16 of the processor; of the operating system that it saves tiles. */
static bool has_amx(void)
{
    const unsigned wanted = 1u << 24 | 1u << 22, saved = 1u << 17 | 1u << 18;
    unsigned a, b, c, d, low, high;

    if (!has_avx512_bf16() || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 ||
        (d & wanted) != wanted)
        return false;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & saved) == saved;
}

static bool has(nin_instruction_set set)
{
    switch (set) {
    case NIN_INSTRUCTIONS_BASELINE:
        return true;
    case NIN_INSTRUCTIONS_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case NIN_INSTRUCTIONS_AVX512:
        return has_avx512();
    case NIN_INSTRUCTIONS_AVX512_BF16:
        return has_avx512_bf16();
    case NIN_INSTRUCTIONS_AMX:
        return has_amx();
    default:
        return false;
    }
}
#else
static bool has(nin_instruction_set set)
{
    return set == NIN_INSTRUCTIONS_BASELINE;
}
#endif

static const struct cpu_kernels *table(nin_instruction_set set)
{
#if defined(__x86_64__)
    if (set >= NIN_INSTRUCTIONS_AVX512)
        return &nin__cpu_kernels_avx512;
    if (set == NIN_INSTRUCTIONS_AVX2)
        return &nin__cpu_kernels_avx2;
#endif
    (void)set;
    return &nin__cpu_kernels_baseline;
}

static const char *const names[] = {"auto", "baseline", "avx2", "avx512", "avx512_bf16", "amx"};

/* What NIN_CPU_ISA names, if it is there: it stands in for a choice that was left open. */
static nin_status read_environment(nin_instruction_set *choice)
{
    const char *name = getenv("NIN_CPU_ISA");

    if (name == NULL || name[0] == '\0')
        return NIN_OK;
    for (int32_t i = 0; i <= NIN_INSTRUCTIONS_AMX; i++)
        if (strcmp(name, names[i]) == 0) {
            *choice = (nin_instruction_set)i;
            return NIN_OK;
        }
    return nin__fail(NIN_INVALID_ARGUMENT,
                     "NIN_CPU_ISA is '%.32s'; auto, baseline, avx2, avx512, avx512_bf16 or amx are "
                     "known",
                     name);
}

nin_status nin__cpu_choose_instructions(struct nin__device *out, nin_instruction_set choice)
{
    if (choice == NIN_INSTRUCTIONS_AUTO)
        NIN__TRY(read_environment(&choice));
    out->named = choice != NIN_INSTRUCTIONS_AUTO;
    if (choice == NIN_INSTRUCTIONS_AUTO) {
        choice = NIN_INSTRUCTIONS_AMX;
        while (!has(choice))
            choice = (nin_instruction_set)(choice - 1);
    }
    if (!has(choice))
        return nin__fail(NIN_NO_DEVICE,
                         "this processor does not have the instruction set '%s', which the context "
                         "or NIN_CPU_ISA asks for",
                         names[choice]);
    out->instructions = choice;
    return NIN_OK;
}

nin_status nin__cpu_choose_kernels(const struct cpu_kernels **out, nin_instruction_set choice)
{
    struct nin__device device;

    NIN__TRY(nin__cpu_choose_instructions(&device, choice));
    *out = table(device.instructions);
    return NIN_OK;
}

/* ---- bf16 --------------------------------------------------------------------------------- */

static pthread_once_t asked = PTHREAD_ONCE_INIT;
static int answer;

/* Linux lets a process use tiles only after it has asked for them, for they make signal frames
 * larger. */
static void ask(void)
{
#if defined(__x86_64__) && defined(__linux__)
    enum {
        ARCH_REQ_XCOMP_PERM = 0x1023,
        XFEATURE_XTILEDATA = 18
    };

    answer = syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 ? 0 : errno;
#else
    answer = ENOSYS;
#endif
}

int nin__cpu_ask_for_tiles(void)
{
    pthread_once(&asked, ask);
    return answer;
}

#if defined(__x86_64__)
static nin_status choose_amx(const struct cpu_bf16_kernels **out, const struct nin__device *device,
                             nin_precision precision)
{
    int error = nin__cpu_ask_for_tiles();

    if (error == 0) {
        *out = precision == NIN_BF16 ? &nin__cpu_bf16_amx : &nin__cpu_bf16x3_amx;
        return NIN_OK;
    }
    if (precision == NIN_BF16 && !device->named) { /* the next best, as if AMX were not there */
        *out = &nin__cpu_bf16_avx512;
        return NIN_OK;
    }
    return nin__fail(
        NIN_UNSUPPORTED,
        "plan: the operating system does not give this process the tiles of AMX, which "
        "precision %s needs: error %d",
        precision == NIN_BF16 ? "NIN_BF16" : "NIN_BF16X3", error);
}
#endif

nin_status nin__cpu_choose_bf16(const struct cpu_bf16_kernels **out,
                                const struct nin__device *device, nin_precision precision)
{
    *out = NULL;
    if (precision == NIN_FP32)
        return NIN_OK;
    if (precision == NIN_TF32)
        return nin__fail(NIN_UNSUPPORTED,
                         "plan: precision NIN_TF32 needs a CUDA device; the context's is a CPU");
#if defined(__x86_64__)
    if (device->instructions == NIN_INSTRUCTIONS_AMX)
        return choose_amx(out, device, precision);
    if (precision == NIN_BF16 && device->instructions == NIN_INSTRUCTIONS_AVX512_BF16) {
        *out = &nin__cpu_bf16_avx512;
        return NIN_OK;
    }
#endif
    return nin__fail(
        NIN_UNSUPPORTED, "plan: precision %s needs the instruction set %s; the context has '%s'",
        precision == NIN_BF16 ? "NIN_BF16" : "NIN_BF16X3",
        precision == NIN_BF16 ? "avx512_bf16 or amx" : "amx", names[device->instructions]);
}
