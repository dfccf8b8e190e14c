/* SPDX-License-Identifier: MIT */
#include "lanes.h"

#include "base/parse.h"
#include "region/guard.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOOKS           4
#define DIRECTORY_WORDS ((64 + 128 * IVSHMEM_CHANNELS_MAX) / 4)

/* ---- copies ---- */

/* Words as they are in the memory; zeros for what is not there. */
static void copy_words(const struct lanes *lanes, uint64_t offset, uint32_t *words, unsigned n)
{
	const unsigned char *from = (const unsigned char *)lanes->memory + offset;

	for (unsigned i = 0; i < n; i++)
		region_guarded_read(from + (size_t)4 * i, &words[i], 4);
}

/* Where the directory is: looked for in a copy of the header. */
static uint32_t find_directory(const struct lanes *lanes)
{
	static uint32_t page[IVSHMEM_HEADER_SIZE / 4];

	if (lanes->size < sizeof(page))
		return IVSHMEM_CHANNELS_OFFSET;
	copy_words(lanes, 0, page, IVSHMEM_HEADER_SIZE / 4);
	return ivshmem_channels_at(page, sizeof(page));
}

/* ---- the directory ---- */

static uint32_t sum_up(const uint32_t *words, unsigned n)
{
	uint32_t crc = UINT32_MAX;

	for (unsigned i = 0; i < n; i++)
		crc = ivshmem_channel_crc(crc, i == 3 ? 0 : ivshmem_channel_le(words[i]));
	return ~crc;
}

/* The number of channels, or -ENODATA. */
static int copy_directory(const struct lanes *lanes, uint32_t words[DIRECTORY_WORDS])
{
	const uint32_t offset = find_directory(lanes);
	uint32_t n;

	if (offset % 4 != 0 || offset > lanes->size || lanes->size - offset < 64)
		return -ENODATA;
	copy_words(lanes, offset, words, 16);
	n = ivshmem_channel_le(words[4]);
	if (ivshmem_channel_le(words[0]) != IVSHMEM_CHANNELS_MAGIC ||
		ivshmem_channel_le(words[1]) != IVSHMEM_CHANNELS_VERSION ||
		n > IVSHMEM_CHANNELS_MAX || ivshmem_channel_le(words[2]) != 64 + 128 * n ||
		lanes->size - offset < 64 + 128 * n)
		return -ENODATA;
	copy_words(lanes, offset + 64, words + 16, 32 * n);
	return sum_up(words, 16 + 32 * n) == ivshmem_channel_le(words[3]) ? (int)n : -ENODATA;
}

static void read_entry(const struct lanes *lanes, const uint32_t *words, uint32_t key,
	struct lanes_channel *channel)
{
	const uint32_t *numbers = words + 16;

	memcpy(channel->name, words, sizeof(channel->name));
	channel->layout = (struct ivshmem_channel){
		.shape = ivshmem_channel_le(numbers[0]),
		.policy = ivshmem_channel_le(numbers[1]),
		.flags = ivshmem_channel_le(numbers[2]),
		.lanes = ivshmem_channel_le(numbers[3]),
		.lines = ivshmem_channel_le(numbers[4]),
		.largest = ivshmem_channel_le(numbers[5]),
		.key = key,
		.offset = (uint64_t)ivshmem_channel_le(numbers[7]) << 32 |
			ivshmem_channel_le(numbers[6]),
	};
	channel->sound = memchr(channel->name, '\0', sizeof(channel->name)) &&
		name_is_valid(channel->name) && channel->layout.lanes <= LANES_MAX &&
		ivshmem_channel_fits(&channel->layout, (size_t)lanes->size);
	if (!memchr(channel->name, '\0', sizeof(channel->name)) || !name_is_valid(channel->name))
		strcpy(channel->name, "?");
}

/* ---- lanes ---- */

static void list_lanes(struct lanes *lanes)
{
	for (unsigned i = 0; i < lanes->n_channels; i++) {
		const struct lanes_channel *channel = &lanes->channels[i];
		for (unsigned number = 0; channel->sound && number < channel->layout.lanes;
			number++) {
			lanes->more = lanes->n == LANES_MAX;
			if (lanes->more)
				return;
			lanes->lanes[lanes->n++] = (struct lane){.channel = i, .number = number};
		}
	}
}

int lanes_init(struct lanes *lanes, const void *memory, uint64_t size)
{
	static uint32_t words[DIRECTORY_WORDS];
	int n;

	*lanes = (struct lanes){.memory = memory, .size = size};
	n = copy_directory(lanes, words);
	if (n < 0)
		return n;
	lanes->n_channels = (unsigned)n;
	lanes->channels = calloc((size_t)n + 1, sizeof(*lanes->channels));
	lanes->lanes = calloc(LANES_MAX, sizeof(*lanes->lanes));
	if (!lanes->channels || !lanes->lanes) {
		lanes_fini(lanes);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < lanes->n_channels; i++)
		read_entry(lanes, words + 16 + (size_t)32 * i, ivshmem_channel_le(words[3]),
			&lanes->channels[i]);
	list_lanes(lanes);
	return 0;
}

void lanes_fini(struct lanes *lanes)
{
	free(lanes->channels);
	free(lanes->lanes);
	*lanes = (struct lanes){0};
}

/* As its partner does: without the key it is at 0, whatever stands there. */
static void look_at_end(
	const struct lanes *lanes, uint64_t offset, uint32_t key, struct lane_end *end)
{
	uint32_t words[sizeof(struct ivshmem_channel_slot) / 4];
	struct ivshmem_channel_slot slot;

	copy_words(lanes, offset, words, sizeof(words) / sizeof(words[0]));
	memcpy(&slot, words, sizeof(slot));
	*end = (struct lane_end){.id = IVSHMEM_ID_NOBODY};
	if (ivshmem_channel_le(slot.key) != key)
		return;
	*end = (struct lane_end){
		.position = ivshmem_channel_le(slot.position),
		.messages = ivshmem_channel_le(slot.messages),
		.lost = ivshmem_channel_le(slot.lost),
		.generation = ivshmem_channel_le(slot.generation),
		.id = ivshmem_channel_le(slot.id),
		.vector = ivshmem_channel_le(slot.vector),
		.want = ivshmem_channel_le(slot.want),
	};
	switch (ivshmem_channel_le(slot.state)) {
	case IVSHMEM_SLOT_OPEN:
		end->state = IVSHMEM_SLOT_OPEN;
		break;
	case IVSHMEM_SLOT_CLOSED:
		end->state = IVSHMEM_SLOT_CLOSED;
		break;
	}
}

int64_t lane_fill(const struct lanes_channel *channel, const struct lane *lane)
{
	const uint32_t fill = lane->writer.position - lane->reader.position;

	if (fill <= channel->layout.lines)
		return fill;
	/* A reader that is overtaken finds out when it reads. */
	if (channel->layout.policy == IVSHMEM_CHANNEL_OVERWRITE && (int32_t)fill > 0)
		return channel->layout.lines;
	return -1;
}

static void look_at_lane(const struct lanes *lanes, struct lane *lane)
{
	const struct ivshmem_channel *layout = &lanes->channels[lane->channel].layout;
	const uint64_t offset = ivshmem_channel_place(layout, lane->number);

	/* The reader first: it never is ahead of a writer who is looked at later. But both may have
	 * gone on in between. */
	for (unsigned tries = 0; tries < LOOKS; tries++) {
		look_at_end(lanes, offset + IVSHMEM_LANE_READER, layout->key, &lane->reader);
		look_at_end(lanes, offset + IVSHMEM_LANE_WRITER, layout->key, &lane->writer);
		if (lane_fill(&lanes->channels[lane->channel], lane) >= 0)
			return;
	}
}

void lanes_look(struct lanes *lanes)
{
	for (unsigned i = 0; i < lanes->n; i++)
		look_at_lane(lanes, &lanes->lanes[i]);
}

bool lane_waits(const struct lane_end *end, const struct lane_end *partner)
{
	return end->state == IVSHMEM_SLOT_OPEN && (int32_t)(end->want - partner->position) >= 0;
}
