/* SPDX-License-Identifier: MIT */
/*
 * The shared memory: all of BAR2, in accesses of 1, 2, 4 and 8 bytes; alone, or with a second guest
 * that reads what the first has written.
 */
#include "cases.h"
#include "device.h"
#include "machine.h"

#define LINE 64u /* bytes that one side writes in a row */

/* What stands in the 8 bytes at `offset`. */
static uint64_t pattern(uint32_t offset, uint32_t salt)
{
	uint32_t value = (offset + salt) * 2654435761u;

	return (uint64_t)~value << 32 | value;
}

/* The access size that the line at `offset` gets; `turn` moves it on. */
static unsigned size_for(uint32_t offset, unsigned turn)
{
	return 1u << (offset / LINE + turn) % 4;
}

static void fill_line(uint32_t offset, uint32_t salt)
{
	unsigned size = size_for(offset, 0);

	for (uint32_t at = offset; at < offset + LINE; at += size) {
		uint64_t value = pattern(at & ~7u, salt) >> 8 * (at & 7);
		bar_write(IVSHMEM_BAR_MEMORY, at, size, value);
	}
}

/* In accesses of another size than it was written with. */
static void check_line(uint32_t offset, uint32_t salt, unsigned turn)
{
	unsigned size = size_for(offset, turn);
	uint64_t mask = UINT64_MAX >> (64 - 8 * size);

	for (uint32_t at = offset; at < offset + LINE; at += size) {
		uint64_t value = pattern(at & ~7u, salt) >> 8 * (at & 7);
		expect("memory", bar_read(IVSHMEM_BAR_MEMORY, at, size), value & mask);
	}
}

void check_memory(uint32_t size)
{
	for (uint32_t offset = 0; offset < size; offset += LINE)
		fill_line(offset, 0);
	for (unsigned turn = 0; turn < 4; turn++) {
		for (uint32_t offset = 0; offset < size; offset += LINE)
			check_line(offset, 0, turn);
	}
}

/*
 * Each fills every other line and reads those of the other, then the other way round. The first
 * line of both is left out: there they meet.
 */
static void check_together(uint32_t size)
{
	struct partner partner = meet();
	const uint32_t start = 2 * LINE;

	for (uint32_t round = 0; round < 2; round++) {
		uint32_t own = start + (partner.seat ^ round ^ 1) * LINE;
		uint32_t theirs = start + (partner.seat ^ round) * LINE;

		meet_at(&partner, 2 * round + 1);
		for (uint32_t offset = own; offset < size; offset += 2 * LINE)
			fill_line(offset, round);
		meet_at(&partner, 2 * round + 2);
		for (uint32_t offset = theirs; offset < size; offset += 2 * LINE)
			check_line(offset, round, 1);
	}
	meet_at(&partner, 5); /* the other has read what we would leave behind */
}

void case_memory(void)
{
	uint32_t size = (uint32_t)device.size[IVSHMEM_BAR_MEMORY];

	size = parameter("bytes", size);
	if (parameter("seat", UINT32_MAX) != UINT32_MAX)
		check_together(size);
	else
		check_memory(size);
	print("bytes=%u\n", size);
}
