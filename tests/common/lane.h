/* SPDX-License-Identifier: MIT */
/* A lane to test with, in memory of one's own, and messages that tell by their bytes which they
 * are. */
#ifndef TESTS_LANE_H
#define TESTS_LANE_H

#include <ivshmem/stream.h>

#include <stdbool.h>
#include <string.h>

#define LANE_LINES   64u
#define LANE_LARGEST (LANE_LINES / 4 * 64 - 8)
#define LANE_BYTES   (IVSHMEM_LANE_RING + LANE_LINES * 64)

struct lane {
	uint32_t memory[LANE_BYTES / 4] __attribute__((aligned(128)));
	struct ivshmem_stream stream;
};

static inline void lane_init(struct lane *lane, enum ivshmem_channel_policy policy)
{
	memset(lane->memory, 0, sizeof(lane->memory));
	lane->stream = (struct ivshmem_stream){
		.lane = (volatile unsigned char *)lane->memory,
		.lines = LANE_LINES,
		.largest = LANE_LARGEST,
		.policy = policy,
		.key = 0x12345678,
	};
}

/* The same lane as that of a channel for the latest value. */
static inline struct ivshmem_channel lane_latest(const struct lane *lane)
{
	return (struct ivshmem_channel){
		.shape = IVSHMEM_CHANNEL_LATEST,
		.lanes = 1,
		.lines = LANE_LINES,
		.largest = LANE_LINES / 4 * 64 - 16,
		.key = lane->stream.key,
	};
}

static inline volatile struct ivshmem_channel_slot *lane_slot(struct lane *lane, uint32_t seat)
{
	return (volatile struct ivshmem_channel_slot *)(volatile void *)(lane->memory + seat / 4);
}

/* Sizes of all kinds: none, part of a line, just one, just over, some lines, a lot. */
static inline uint32_t lane_size(const struct lane *lane, uint32_t number)
{
	static const uint32_t sizes[] = {56, 0, 1, 8, 57, 55, 120, 121, 300, 7, 64, 1000};
	(void)lane;
	return sizes[number % (sizeof(sizes) / sizeof(sizes[0]))];
}

static inline void lane_message(const struct lane *lane, unsigned char *bytes, uint32_t number)
{
	for (uint32_t i = 0; i < lane_size(lane, number); i++)
		bytes[i] = (unsigned char)(number * 31 + i * 7 + (number >> 8));
}

static inline bool lane_is_message(
	const struct lane *lane, const unsigned char *bytes, uint32_t number)
{
	for (uint32_t i = 0; i < lane_size(lane, number); i++)
		if (bytes[i] != (unsigned char)(number * 31 + i * 7 + (number >> 8)))
			return false;
	return true;
}

#endif
