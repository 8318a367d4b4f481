/* SPDX-License-Identifier: MIT */
#ifndef NIN__ENDIAN_H
#define NIN__ENDIAN_H

/* Numbers as files have them, lowest byte first, on every machine. Where memory has them so too,
 * compilers make each of these a plain move. */

#include <stdint.h>
#include <string.h>

static inline uint32_t nin__load32(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

static inline uint64_t nin__load64(const unsigned char *bytes)
{
    return (uint64_t)nin__load32(bytes) | (uint64_t)nin__load32(bytes + 4) << 32;
}

static inline void nin__store32(unsigned char *bytes, uint32_t value)
{
    bytes[0] = (unsigned char)value;
    bytes[1] = (unsigned char)(value >> 8);
    bytes[2] = (unsigned char)(value >> 16);
    bytes[3] = (unsigned char)(value >> 24);
}

static inline void nin__store64(unsigned char *bytes, uint64_t value)
{
    nin__store32(bytes, (uint32_t)value);
    nin__store32(bytes + 4, (uint32_t)(value >> 32));
}

static inline float nin__load_float(const unsigned char *bytes)
{
    uint32_t bits = nin__load32(bytes);
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline double nin__load_double(const unsigned char *bytes)
{
    uint64_t bits = nin__load64(bytes);
    double value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline void nin__store_float(unsigned char *bytes, float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    nin__store32(bytes, bits);
}

static inline void nin__store_double(unsigned char *bytes, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    nin__store64(bytes, bits);
}

#endif
