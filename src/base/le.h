/* SPDX-License-Identifier: MIT */
/* Integers to and from bytes in a stated order, whatever the host's. */
#ifndef BASE_LE_H
#define BASE_LE_H

#include <stdint.h>

static inline void store_le(uint8_t *out, unsigned width, uint64_t value)
{
	for (unsigned i = 0; i < width; i++)
		out[i] = (uint8_t)(value >> (8 * i));
}

static inline void store_be(uint8_t *out, unsigned width, uint64_t value)
{
	for (unsigned i = 0; i < width; i++)
		out[width - 1 - i] = (uint8_t)(value >> (8 * i));
}

static inline uint64_t load_le(const uint8_t *in, unsigned width)
{
	uint64_t value = 0;
	for (unsigned i = 0; i < width; i++)
		value |= (uint64_t)in[i] << (8 * i);
	return value;
}

static inline uint64_t load_be(const uint8_t *in, unsigned width)
{
	uint64_t value = 0;
	for (unsigned i = 0; i < width; i++)
		value = value << 8 | in[i];
	return value;
}

#endif
