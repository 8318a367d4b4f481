/* SPDX-License-Identifier: MIT */
/* Quotients by multiplication are those by division, up to the last number that they are for. Built
 * with the headers of tests/cuda_on_cpu. */
#include "cuda/places.h"

#include <cstdio>
#include <initializer_list>

namespace
{

const uint32_t END = (uint32_t)1 << 31; /* of the numbers that are divided */
const uint32_t SMALL = 4096;            /* divisors that are all tried */

int checks;

bool is_right(uint32_t n, const struct divisor &d)
{
    checks++;
    if (nin__cuda_quotient(n, d) == n / d.value)
        return true;
    printf("places: %u / %u is not %u\n", n, d.value, nin__cuda_quotient(n, d));
    return false;
}

/* Where quotients change, and around it: a factor that is too small or too large is wrong there
 * first. */
bool is_right_around(uint32_t multiple, const struct divisor &d)
{
    for (uint32_t n = multiple < 2 ? 0 : multiple - 2; n < multiple + 2 && n < END; n++)
        if (!is_right(n, d))
            return false;
    return true;
}

bool divides(uint32_t value)
{
    struct divisor d = nin__cuda_divisor(value);
    uint32_t most = (END - 1) / value;

    for (uint32_t quotient : {0u, 1u, 2u, most / 3, most / 2, most - most / 5, most - 1, most})
        if (quotient <= most && !is_right_around(quotient * value, d))
            return false;
    return is_right(END - 1, d);
}

bool all_divide(void)
{
    for (uint32_t value = 1; value <= SMALL; value++)
        if (!divides(value))
            return false;
    for (int shift = 12; shift < 31; shift++)
        for (uint32_t power = (uint32_t)1 << shift, value = power - 3; value <= power + 3; value++)
            if (!divides(value))
                return false;
    for (uint32_t value = SMALL; value < END - SMALL; value += value / 7 + 1)
        if (!divides(value) || !divides(END - value))
            return false;
    return true;
}

} // namespace

int main(void)
{
    if (!all_divide())
        return 1;
    printf("places: %d quotients\n", checks);
    return 0;
}
