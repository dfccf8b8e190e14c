/* SPDX-License-Identifier: MIT */
/*
 * ivshmem/gather.h - read several lanes in turns: messages of many writers for one reader.
 * Freestanding, and never waits; <ivshmem/channels.h> adds the waiting for hosted programs. The
 * writers are those of <ivshmem/stream.h>, each with a lane of its own.
 *
 *     struct ivshmem_lane lane[WRITERS];
 *     struct ivshmem_lanes lanes;
 *
 *     for (i = 0; i < WRITERS; i++) {
 *             ivshmem_channel_lane(&channel, memory, i, &stream);
 *             ivshmem_reader_attach(&lane[i].reader, &stream, id, 0, 0);
 *     }
 *     ivshmem_lanes_init(&lanes, lane, WRITERS);
 *
 *     size = ivshmem_lanes_read(&lanes, buffer, sizeof(buffer), &from, &tag);
 *     if (size >= 0) ...                              // a message of writer `from`
 *     while (ivshmem_lanes_due(&lanes, &from))
 *             ...ring what the slot of that lane's writer says
 *
 * Fair. A lane has its turn until it has given IVSHMEM_GATHER_BATCH lines or is empty; then it is
 * behind all the others, whatever it has to say. So a lane that has something waits for one turn of
 * each other one at most, and a turn is a batch and one message. Several messages at once, because
 * to pass by the lanes that are empty costs about as much as to take one.
 *
 * Trust. Each lane is as <ivshmem/stream.h> has it: what its writer says wrong costs that lane, is
 * told once, and the others do not notice.
 *
 * Threads: all lanes are one thread's at a time.
 * Source: docs/channel.md, sections 2 and 6.
 */
#ifndef IVSHMEM_GATHER_H
#define IVSHMEM_GATHER_H

#include <ivshmem/stream.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IVSHMEM_GATHER_BATCH 16u /* lines */

struct ivshmem_lane {
	struct ivshmem_reader reader;
	uint32_t broken; /* that it is has been told */
};

struct ivshmem_lanes {
	struct ivshmem_lane *each; /* the caller's */
	uint32_t count;
	uint32_t turn;   /* whose it is */
	uint32_t left;   /* lines of it */
	uint32_t due;    /* in no lane before this one the writer is to be rung */
	uint32_t broken; /* lanes that are */
};

/* The lanes whose readers have been attached. */
static inline void ivshmem_lanes_init(
	struct ivshmem_lanes *lanes, struct ivshmem_lane *each, uint32_t count)
{
	uint32_t i;

	lanes->each = each;
	lanes->count = count;
	lanes->turn = 0;
	lanes->left = IVSHMEM_GATHER_BATCH;
	lanes->due = 0;
	lanes->broken = 0;
	for (i = 0; i < count; i++)
		each[i].broken = 0;
}

/* Is it news what a lane says? That it is broken is so once, until something else comes of it. */
static inline int ivshmem_lanes_news(
	struct ivshmem_lanes *lanes, struct ivshmem_lane *lane, int32_t result)
{
	const uint32_t before = lane->broken;

	lane->broken = result == IVSHMEM_STREAM_BROKEN;
	lanes->broken += lane->broken - before;
	return result != IVSHMEM_STREAM_EMPTY && (lane->broken == 0 || before == 0);
}

/*
 * Take the next message of any lane: its size, and which *lane, and the writer's *tag if `tag` is
 * not NULL; or what one lane has to tell, as ivshmem_stream_read() does; or IVSHMEM_STREAM_EMPTY:
 * none of them has anything. After _TOO_BIG the message is there again when it is the lane's turn.
 * Then ask ivshmem_lanes_due().
 */
static inline int32_t ivshmem_lanes_read(
	struct ivshmem_lanes *lanes, void *bytes, uint32_t room, uint32_t *lane, uint32_t *tag)
{
	uint32_t looked;

	for (looked = 0; looked < lanes->count; looked++) {
		const uint32_t turn = lanes->turn;
		struct ivshmem_lane *one = &lanes->each[turn];
		const int32_t result = ivshmem_stream_read(&one->reader, bytes, room, tag);

		if (one->reader.end.due != 0 && turn < lanes->due)
			lanes->due = turn;
		if (result >= 0 && one->reader.lines < lanes->left) {
			lanes->left -= one->reader.lines;
		} else {
			lanes->turn = turn + 1 < lanes->count ? turn + 1 : 0;
			lanes->left = IVSHMEM_GATHER_BATCH;
		}
		if (ivshmem_lanes_news(lanes, one, result)) {
			*lane = turn;
			return result;
		}
	}
	return IVSHMEM_STREAM_EMPTY;
}

/* Has a writer to be rung? 1, and *lane is its lane, whose end ivshmem_stream_whom() takes; or 0:
 * no more of them. Asking settles it. */
static inline int ivshmem_lanes_due(struct ivshmem_lanes *lanes, uint32_t *lane)
{
	while (lanes->due < lanes->count) {
		*lane = lanes->due++;
		if (ivshmem_stream_due(&lanes->each[*lane].reader.end))
			return 1;
	}
	return 0;
}

/* Before sleeping until there is something to read: ask all writers to ring, then read again, and
 * sleep only if that says IVSHMEM_STREAM_EMPTY. One that never comes costs nothing more. */
static inline void ivshmem_lanes_arm(struct ivshmem_lanes *lanes)
{
	uint32_t i;

	for (i = 0; i < lanes->count; i++)
		ivshmem_reader_arm(&lanes->each[i].reader);
	lanes->due = 0;
}

/* Leave: what has not been read is for the next life. */
static inline void ivshmem_lanes_close(struct ivshmem_lanes *lanes)
{
	uint32_t i;

	for (i = 0; i < lanes->count; i++)
		ivshmem_reader_close(&lanes->each[i].reader);
	lanes->due = 0;
}

#ifdef __cplusplus
}
#endif

#endif
