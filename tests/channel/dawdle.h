/* SPDX-License-Identifier: MIT */
/* What the threads of the stress tests do by chance, and by number. */
#ifndef TESTS_DAWDLE_H
#define TESTS_DAWDLE_H

#include <stdint.h>
#include <time.h>

/* Often nothing, sometimes a moment, rarely enough for the other side to fall asleep. */
static inline void dawdle(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	if (*seed >> 22 == 0)
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	else if (*seed >> 28 == 0)
		for (volatile unsigned i = 0; i < (*seed >> 16 & 0x3ff); i++)
			;
}

/* The size of a message, of 0 to `largest` bytes, that both sides know. */
static inline uint32_t size_up_to(uint32_t largest, uint32_t number)
{
	return number * 2654435761u % (largest + 1);
}

#endif
