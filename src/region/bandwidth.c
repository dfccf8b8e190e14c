/* SPDX-License-Identifier: MIT */
#include "region/bandwidth.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

#define LINE        64u
#define PASSES      8
#define SAMPLE_SIZE 16384u /* for a quick look */
#define SAMPLE_MS   5
#define FAST_RATIO  4
/* Between two looks at the clock: 4 KiB of memory without cache take some 50 us. */
#define CHUNK 4096u

typedef void pass_function(void *chunk, size_t size);

static void read_chunk(void *chunk, size_t size)
{
	const volatile uint64_t *word = chunk;

	for (size_t i = 0; i < size / sizeof(*word); i++)
		(void)word[i];
}

static void write_chunk(void *chunk, size_t size)
{
	for (size_t at = 0; at + sizeof(uint32_t) <= size; at += LINE)
		__atomic_fetch_add((uint32_t *)((char *)chunk + at), 0, __ATOMIC_RELAXED);
}

/* Nanoseconds of a pass, or of as much of it as fits into the time; *done is how much. */
static uint64_t pass(
	pass_function *function, void *address, size_t size, uint64_t deadline, size_t *done)
{
	uint64_t start = clock_ns(), now = start;

	for (*done = 0; *done < size && now < deadline; now = clock_ns()) {
		size_t chunk = size - *done < CHUNK ? size - *done : CHUNK;
		function((char *)address + *done, chunk);
		*done += chunk;
	}
	return now - start;
}

static uint64_t bandwidth(pass_function *function, void *address, size_t size, unsigned limit_ms)
{
	uint64_t deadline = clock_ns() + (uint64_t)limit_ms * 1000000, best = 0;
	size_t done;

	/* The first pass fills caches and page tables; it counts only if there is no other. */
	for (int i = 0; i <= PASSES && (i < 2 || clock_ns() < deadline); i++) {
		uint64_t ns = pass(function, address, size, deadline, &done);
		if (ns == 0 || done == 0)
			break;
		uint64_t speed = (uint64_t)((double)done * 1e9 / (double)ns);
		if (speed > best || i == 1)
			best = speed;
	}
	return best;
}

uint64_t bandwidth_of_reading(const void *address, size_t size, unsigned limit_ms)
{
	return bandwidth(read_chunk, (void *)address, size, limit_ms);
}

uint64_t bandwidth_of_writing(void *address, size_t size, unsigned limit_ms)
{
	return bandwidth(write_chunk, address, size, limit_ms);
}

bool bandwidth_is_fast(const void *address, size_t size)
{
	size = size < SAMPLE_SIZE ? size : SAMPLE_SIZE;
	void *ordinary = malloc(size);
	if (!ordinary)
		return true;
	memset(ordinary, 1, size);
	uint64_t expected = bandwidth_of_reading(ordinary, size, SAMPLE_MS);
	uint64_t found = bandwidth_of_reading(address, size, SAMPLE_MS);
	free(ordinary);
	return found >= expected / FAST_RATIO;
}
