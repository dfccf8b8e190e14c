/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The directory is the only thing in the region that belongs to nobody: several may want to write
 * it at once, they have no lock, and there is no instruction that all of them have which could be
 * one. So nobody needs one. The directory follows from the list of channels and nothing else; who
 * have the same list write the same words, in whatever order, as often as they like, and who finds
 * them there is done. Two lists that differ make a directory that does not add up, or one of them
 * sees the other's, and says so.
 *
 * Nothing else is formatted. What is in the lanes from before is not of this directory's key.
 */
#include "channel/internal.h"

#include "base/parse.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define RING_DEFAULT (64u << 10)

/* The directory as it is to be, in the order of the memory. */
struct layout {
	struct ivshmem_channel_directory head;
	struct ivshmem_channel_entry entries[IVSHMEM_CHANNELS_MAX];
};

static uint32_t sum_up(const struct layout *layout)
{
	const uint32_t *words = (const uint32_t *)layout;
	uint32_t crc = UINT32_MAX;

	for (uint32_t i = 0; i < le32toh(layout->head.bytes) / 4; i++)
		crc = ivshmem_channel_crc(crc, i == 3 ? 0 : le32toh(words[i]));
	return ~crc;
}

static int lay_out_channel(
	struct ivshmem_channel_entry *entry, const struct ivshmem_channel_plan *plan, uint64_t *end)
{
	const uint32_t ring = plan->ring ? plan->ring : RING_DEFAULT;
	struct ivshmem_channel channel = {
		.shape = plan->shape ? (uint32_t)plan->shape : IVSHMEM_CHANNEL_STREAM,
		.policy = (uint32_t)plan->policy,
		.flags = plan->flags,
		.lanes = plan->lanes,
		.lines = ring / IVSHMEM_CHANNEL_LINE,
	};

	if (channel.lanes == 0)
		channel.lanes = channel.shape == IVSHMEM_CHANNEL_CALL ? 2 : 1;
	channel.largest = plan->largest
		? plan->largest
		: ivshmem_channel_largest(channel.shape, channel.policy, channel.lines);
	if (!plan->name || !name_is_valid(plan->name) || ring % IVSHMEM_CHANNEL_LINE != 0 ||
		channel.lanes > CHANNEL_LANES_MAX || channel.shape > IVSHMEM_CHANNEL_CALL ||
		(channel.shape == IVSHMEM_CHANNEL_CALL &&
			(channel.lanes % 2 != 0 || channel.policy != IVSHMEM_CHANNEL_WAIT)) ||
		(channel.shape == IVSHMEM_CHANNEL_LATEST && channel.flags != 0) ||
		!ivshmem_channel_fits(&channel, SIZE_MAX))
		return -EINVAL;
	memcpy(entry->name, plan->name, strlen(plan->name));
	entry->shape = htole32(channel.shape);
	entry->policy = htole32(channel.policy);
	entry->flags = htole32(channel.flags);
	entry->lanes = htole32(channel.lanes);
	entry->lines = htole32(channel.lines);
	entry->largest = htole32(channel.largest);
	entry->offset_low = htole32((uint32_t)*end);
	entry->offset_high = htole32((uint32_t)(*end >> 32));
	*end += channel.lanes * (IVSHMEM_LANE_RING + (uint64_t)ring);
	return 0;
}

static bool is_unique(const struct ivshmem_channel_plan *plan, unsigned index)
{
	for (unsigned i = 0; i < index; i++)
		if (strcmp(plan[i].name, plan[index].name) == 0)
			return false;
	return true;
}

static int lay_out(struct layout *layout, uint32_t offset, const struct ivshmem_channel_plan *plan,
	unsigned channels, uint64_t size)
{
	uint32_t bytes = (uint32_t)(sizeof(layout->head) + channels * sizeof(layout->entries[0]));
	uint64_t end = ((uint64_t)offset + bytes + 4095) & ~UINT64_C(4095);

	memset(layout, 0, sizeof(*layout));
	if (channels == 0 || channels > IVSHMEM_CHANNELS_MAX || offset % 128 != 0)
		return -EINVAL;
	for (unsigned i = 0; i < channels; i++) {
		int err = lay_out_channel(&layout->entries[i], &plan[i], &end);
		if (err < 0)
			return err;
		if (!is_unique(plan, i))
			return -EINVAL;
	}
	if (end > size)
		return -ENOSPC;
	layout->head = (struct ivshmem_channel_directory){
		.magic = htole32(IVSHMEM_CHANNELS_MAGIC),
		.version = htole32(IVSHMEM_CHANNELS_VERSION),
		.bytes = htole32(bytes),
		.channels = htole32(channels),
		.end_low = htole32((uint32_t)end),
		.end_high = htole32((uint32_t)(end >> 32)),
	};
	layout->head.check = htole32(sum_up(layout));
	return 0;
}

/* Is there nothing, or what a formatter has left that was killed? */
static bool is_free(const volatile uint32_t *memory, uint32_t words)
{
	if (ivshmem_channel_get(memory) == IVSHMEM_CHANNELS_MAGIC)
		return true;
	for (uint32_t i = 0; i < words; i++)
		if (ivshmem_channel_get(memory + i) != 0)
			return false;
	return true;
}

static bool is_there(const volatile uint32_t *memory, const struct layout *layout)
{
	const uint32_t *words = (const uint32_t *)layout;

	for (uint32_t i = 0; i < le32toh(layout->head.bytes) / 4; i++)
		if (ivshmem_channel_get(memory + i) != le32toh(words[i]))
			return false;
	return true;
}

/* The magic word first, as it says whose this is; the sum when all the rest is there. */
static void store(volatile uint32_t *memory, const struct layout *layout)
{
	const uint32_t *words = (const uint32_t *)layout;

	for (uint32_t i = 0; i < le32toh(layout->head.bytes) / 4; i++)
		if (i != 3)
			ivshmem_channel_set(memory + i, le32toh(words[i]));
	ivshmem_channel_release(memory + 3, le32toh(layout->head.check));
}

static int format(struct ivshmem_peer *peer, uint32_t offset,
	const struct ivshmem_channel_plan *plan, unsigned channels)
{
	struct ivshmem_channel ignored;
	struct layout layout;
	uint64_t size;
	char *region = ivshmem_region(peer, &size);

	if (offset == 0)
		offset = ivshmem_channels_at(region, (size_t)size);
	int err = lay_out(&layout, offset, plan, channels, size);
	if (err < 0)
		return err;
	if (!(ivshmem_capabilities(peer) & IVSHMEM_CAP_WRITE))
		return -EACCES;
	volatile uint32_t *memory = (volatile uint32_t *)(region + offset);
	if (is_there(memory, &layout))
		return 0;
	/* One that adds up is somebody's: there is no name that is none. */
	if (ivshmem_channel_find(region, (size_t)size, offset, "", &ignored) !=
			IVSHMEM_CHANNEL_NO_DIRECTORY ||
		!is_free(memory, le32toh(layout.head.bytes) / 4))
		return -EEXIST;
	store(memory, &layout);
	return is_there(memory, &layout) ? 0 : -EEXIST;
}

int ivshmem_channels_format(struct ivshmem_peer *peer, uint32_t offset,
	const struct ivshmem_channel_plan *plan, unsigned channels)
{
	int err = format(peer, offset, plan, channels);

	if (err == 0)
		return 0;
	errno = -err;
	return -1;
}
