/* SPDX-License-Identifier: MIT */
/* Chance that a seed repeats, on every machine, which rand() does not promise: xorshift64*. */
#ifndef TESTS_CHANCE_H
#define TESTS_CHANCE_H

#include <stdbool.h>
#include <stdint.h>

struct chance {
	uint64_t state;
};

static inline void chance_seed(struct chance *chance, uint64_t seed)
{
	chance->state = seed * 2 + 1;
}

/* 0 to n - 1. */
static inline unsigned chance_below(struct chance *chance, unsigned n)
{
	chance->state ^= chance->state >> 12;
	chance->state ^= chance->state << 25;
	chance->state ^= chance->state >> 27;
	return (unsigned)((chance->state * UINT64_C(2685821657736338717)) >> 33) % n;
}

/* Once in n times. */
static inline bool chance_one_in(struct chance *chance, unsigned n)
{
	return chance_below(chance, n) == 0;
}

#endif
