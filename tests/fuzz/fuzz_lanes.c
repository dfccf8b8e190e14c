/* SPDX-License-Identifier: MIT */
/*
 * What ivshmctl says of channels, looking in from outside while anybody in the region writes what
 * he likes: nothing is read outside the region, names can be printed, a lane is never fuller than
 * its ring, and there are no more lanes than there is room for.
 *
 * Input: first byte: bit 0: the directory adds up; bit 1: the ends are of this directory; bit 2: it
 * stands where the header says. Then the directory's bytes up to its end, and what follows it, as
 * often as there is room.
 */
#include "ctl/lanes.h"

#include "base/le.h"
#include "base/parse.h"

#include "../common/headerpage.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { REGION = 32768, PAGE = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

/* The page behind it is not there: lanes.c reads in a way that no sanitizer looks at. */
static uint8_t *make_region(void)
{
	uint8_t *memory = mmap(
		NULL, REGION + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	check(memory != MAP_FAILED && mprotect(memory + REGION, PAGE, PROT_NONE) == 0);
	return memory;
}

static void store_word(uint8_t *at, uint32_t value)
{
	store_le(at, 4, value);
}

/* With few channels: many are slow, and say nothing new. */
static void seal_directory(uint8_t *directory)
{
	uint32_t n = directory[16] % 8, crc = UINT32_MAX;

	store_word(directory, IVSHMEM_CHANNELS_MAGIC);
	store_word(directory + 4, IVSHMEM_CHANNELS_VERSION);
	store_word(directory + 8, 64 + 128 * n);
	store_word(directory + 16, n);
	for (uint32_t i = 0; i < 16 + 32 * n; i++)
		crc = ivshmem_channel_crc(
			crc, i == 3 ? 0 : (uint32_t)load_le(directory + (size_t)4 * i, 4));
	store_word(directory + 12, ~crc);
}

static uint8_t *fill(uint8_t *memory, uint8_t flags, const uint8_t *data, size_t size)
{
	const size_t at = flags & 4 ? 2 * PAGE : PAGE;
	uint8_t *directory = memory + at;

	memset(memory, 0, REGION);
	for (size_t i = 0; size > 0 && i < REGION - at; i++)
		directory[i] = data[i % size];
	if (flags & 4) {
		header_page(memory, "r", 1);
		store_word(memory + IVSHMEM_HEADER_DIRECTORY, (uint32_t)at);
		header_seal(memory);
	}
	if (flags & 1)
		seal_directory(directory);
	return directory;
}

/* The ends of all lanes say that they are of this directory. */
static void claim_ends(const struct lanes *lanes, uint8_t *memory)
{
	for (unsigned i = 0; i < lanes->n; i++) {
		const struct ivshmem_channel *layout =
			&lanes->channels[lanes->lanes[i].channel].layout;
		uint8_t *lane = memory + ivshmem_channel_place(layout, lanes->lanes[i].number);
		const size_t key = offsetof(struct ivshmem_channel_slot, key);

		store_word(lane + IVSHMEM_LANE_READER + key, layout->key);
		store_word(lane + IVSHMEM_LANE_WRITER + key, layout->key);
	}
}

static void check_lanes(struct lanes *lanes)
{
	lanes_look(lanes);
	check(lanes->n <= LANES_MAX);
	for (unsigned i = 0; i < lanes->n; i++) {
		const struct lane *lane = &lanes->lanes[i];
		const struct lanes_channel *channel = &lanes->channels[lane->channel];
		const int64_t used = lane_fill(channel, lane);

		check(lane->channel < lanes->n_channels && channel->sound);
		check(used >= -1 && used <= channel->layout.lines);
		(void)lane_waits(&lane->reader, &lane->writer);
		(void)lane_waits(&lane->writer, &lane->reader);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t *memory;
	const uint8_t flags = size > 0 ? data[0] : 0;
	struct lanes lanes;

	if (!memory)
		memory = make_region();
	uint8_t *directory = fill(memory, flags, data + (size > 0), size > 0 ? size - 1 : 0);
	if (lanes_init(&lanes, memory, REGION) < 0)
		return 0;
	for (unsigned i = 0; i < lanes.n_channels; i++)
		check(strcmp(lanes.channels[i].name, "?") == 0 ||
			name_is_valid(lanes.channels[i].name));
	if (flags & 2)
		claim_ends(&lanes, memory);
	check_lanes(&lanes);
	memset(directory, 0xff, REGION - (size_t)(directory - memory)); /* and now? */
	check_lanes(&lanes);
	lanes_fini(&lanes);
	return 0;
}
