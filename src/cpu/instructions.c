/* SPDX-License-Identifier: MIT */
/* Which instruction sets this processor and its operating system have (CPUID and XCR0), and which
 * kernels follow from a context's choice. */
#include "cpu/cpu.h"

#include "core/error.h"

#include <stdlib.h>
#include <string.h>

static bool has(nin_instruction_set set)
{
#if defined(__x86_64__)
    switch (set) {
    case NIN_INSTRUCTIONS_BASELINE:
        return true;
    case NIN_INSTRUCTIONS_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case NIN_INSTRUCTIONS_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("fma");
    default:
        return false;
    }
#else
    return set == NIN_INSTRUCTIONS_BASELINE;
#endif
}

static const struct cpu_kernels *table(nin_instruction_set set)
{
#if defined(__x86_64__)
    if (set == NIN_INSTRUCTIONS_AVX512)
        return &nin__cpu_kernels_avx512;
    if (set == NIN_INSTRUCTIONS_AVX2)
        return &nin__cpu_kernels_avx2;
#endif
    (void)set;
    return &nin__cpu_kernels_baseline;
}

static const char *const names[] = {"auto", "baseline", "avx2", "avx512"};

/* What NIN_CPU_ISA names, if it is there: it stands in for a choice that was left open. */
static nin_status read_environment(nin_instruction_set *choice)
{
    const char *name = getenv("NIN_CPU_ISA");

    if (name == NULL || name[0] == '\0')
        return NIN_OK;
    for (int32_t i = 0; i <= NIN_INSTRUCTIONS_AVX512; i++)
        if (strcmp(name, names[i]) == 0) {
            *choice = (nin_instruction_set)i;
            return NIN_OK;
        }
    return nin__fail(NIN_INVALID_ARGUMENT,
                     "NIN_CPU_ISA is '%.32s'; auto, baseline, avx2 or avx512 are known", name);
}

nin_status nin__cpu_choose_kernels(const struct cpu_kernels **out, nin_instruction_set choice)
{
    if (choice == NIN_INSTRUCTIONS_AUTO)
        NIN__TRY(read_environment(&choice));
    if (choice == NIN_INSTRUCTIONS_AUTO) {
        choice = NIN_INSTRUCTIONS_AVX512;
        while (!has(choice))
            choice = (nin_instruction_set)(choice - 1);
    }
    if (!has(choice))
        return nin__fail(NIN_NO_DEVICE,
                         "this processor does not have the instruction set '%s', which the context "
                         "or NIN_CPU_ISA asks for",
                         names[choice]);
    *out = table(choice);
    return NIN_OK;
}
