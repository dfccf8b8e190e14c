/* SPDX-License-Identifier: MIT */
/*
 * A hostile partner, and any third one: both ends of a lane at work while somebody writes whatever
 * he likes wherever he likes. Nothing is read or written outside the lane and the message buffer,
 * no call takes for ever, and what is handed out as a message has a possible size. Once the
 * scribbling stops, new lives of both can talk. The same for writer and reader of a latest value.
 *
 * Input: a byte of policy, or with its highest bit the latest value; then records of a byte of what
 * is done (low bits) and one of how much; a scribble is followed by the place and the value of a
 * word (2 and 4 bytes).
 * A directory of the same input is looked for channels.
 */
#include <ivshmem/latest.h>
#include <ivshmem/stream.h>
#include <ivshmem/view.h>

#include "base/le.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum what {
	WRITE,
	ADD,
	PUBLISH,
	READ,
	VIEW,
	ARM,
	SCRIBBLE,
	SCRIBBLE_SLOT,
	AGAIN,
	LEAVE,
	N_ACTIONS
};

enum what_latest { SET, RESERVE, COMMIT, GET, NEXT, N_ACTIONS_LATEST = N_ACTIONS };

enum { LINES = 16, LARGEST = LINES / 4 * 64 - 8, GUARD = 64, CANARY = 0xcb };
enum { LARGEST_LATEST = LINES / 4 * 64 - 16 };
enum { LANE = IVSHMEM_LANE_RING + LINES * 64 };

struct hostile {
	unsigned char *lane; /* no byte more, so that the sanitizer sees what is read beyond */
	unsigned char buffer[LARGEST + GUARD];
	struct ivshmem_stream stream;
	struct ivshmem_writer writer;
	struct ivshmem_reader reader;
	struct ivshmem_viewer viewer;
	bool viewing;
	struct ivshmem_latest_writer setter;
	struct ivshmem_latest_reader getter;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

static void check_guards(const struct hostile *hostile)
{
	for (unsigned i = 0; i < GUARD; i++)
		check(hostile->buffer[LARGEST + i] == CANARY);
}

static void attach(struct hostile *hostile, unsigned how)
{
	if (how % 4 != 1)
		ivshmem_writer_attach(&hostile->writer, &hostile->stream, 1, 0);
	if (how % 4 != 2)
		ivshmem_reader_attach(&hostile->reader, &hostile->stream, 2, 0, (how & 8) != 0);
	hostile->viewing = (how & 4) &&
		ivshmem_viewer_attach(&hostile->viewer, &hostile->stream, 2, 0, (how & 8) != 0) ==
			0;
}

static void check_result(int32_t result)
{
	check(result >= IVSHMEM_STREAM_BROKEN && result <= LINES * 64);
}

/* As many as there are, but there are not more than the ring has room for, and some news. */
static void read_all(struct hostile *hostile, unsigned room)
{
	unsigned calls = 0;
	uint32_t tag;
	int32_t result;

	do {
		result = ivshmem_stream_read(&hostile->reader, hostile->buffer, room, &tag);
		check_result(result);
		check(result < 0 || (uint32_t)result <= room);
		check(++calls <= 4 * LINES);
	} while (result >= 0 || result == IVSHMEM_STREAM_BEGIN || result == IVSHMEM_STREAM_LOST ||
		result == IVSHMEM_STREAM_END);
}

static void view(struct hostile *hostile)
{
	const volatile void *place;
	uint32_t tag;

	if (!hostile->viewing)
		return;
	int32_t result = ivshmem_viewer_peek(&hostile->viewer, &place, &tag);
	check_result(result);
	if (result < 0)
		return;
	const volatile unsigned char *bytes = place;
	check(bytes >= hostile->lane + IVSHMEM_LANE_RING && bytes + result <= hostile->lane + LANE);
	ivshmem_viewer_done(&hostile->viewer);
}

static size_t scribble(struct hostile *hostile, size_t limit, const uint8_t *data, size_t left)
{
	if (left < 6)
		return left;
	size_t at = (size_t)load_le(data, 2) % (limit / 4) * 4;
	memcpy(hostile->lane + at, data + 2, 4);
	return 6;
}

static size_t step(struct hostile *hostile, const uint8_t *data, size_t left)
{
	const unsigned how = left > 1 ? data[1] : 0;
	const enum what what = (enum what)(data[0] % N_ACTIONS);
	size_t used = left > 1 ? 2 : 1;

	switch (what) {
	case WRITE:
		check_result(ivshmem_stream_write(&hostile->writer, hostile->buffer, how * 3, how));
		break;
	case ADD:
		check_result(ivshmem_stream_add(&hostile->writer, hostile->buffer, how, how));
		break;
	case PUBLISH:
		ivshmem_stream_publish(&hostile->writer);
		ivshmem_stream_due(&hostile->writer.end);
		break;
	case READ:
		read_all(hostile, how < LARGEST ? how : LARGEST);
		break;
	case VIEW:
		view(hostile);
		break;
	case ARM:
		ivshmem_writer_arm(&hostile->writer, how);
		ivshmem_reader_arm(&hostile->reader);
		break;
	case SCRIBBLE:
		used += scribble(hostile, LANE, data + used, left - used);
		break;
	case SCRIBBLE_SLOT:
		used += scribble(hostile, IVSHMEM_LANE_RING, data + used, left - used);
		break;
	case AGAIN:
		attach(hostile, how);
		break;
	case LEAVE:
		ivshmem_writer_close(&hostile->writer);
		ivshmem_reader_close(&hostile->reader);
		break;
	case N_ACTIONS:
		break;
	}
	return used;
}

/* All is well again. */
static void recover(struct hostile *hostile)
{
	int32_t result;

	ivshmem_reader_attach(&hostile->reader, &hostile->stream, 2, 0, 1);
	ivshmem_writer_attach(&hostile->writer, &hostile->stream, 1, 0);
	read_all(hostile, LARGEST); /* notices the new life, if what is there makes no sense */
	check(ivshmem_stream_write(&hostile->writer, "well", 4, 7) == IVSHMEM_STREAM_OK);
	do
		result = ivshmem_stream_read(&hostile->reader, hostile->buffer, LARGEST, NULL);
	while (result == IVSHMEM_STREAM_BEGIN || result == IVSHMEM_STREAM_END);
	check(result == 4 && memcmp(hostile->buffer, "well", 4) == 0);
}

/* ---- the latest value ---- */

static void attach_latest(struct hostile *hostile, unsigned how)
{
	const struct ivshmem_channel channel = {
		.shape = IVSHMEM_CHANNEL_LATEST,
		.lanes = 1,
		.lines = LINES,
		.largest = LARGEST_LATEST,
		.key = hostile->stream.key,
	};

	if (how % 4 != 1)
		check(ivshmem_latest_writer_attach(
			      &hostile->setter, &channel, hostile->lane, 0, 1) == 0);
	if (how % 4 != 2)
		check(ivshmem_latest_reader_attach(
			      &hostile->getter, &channel, hostile->lane, 0, (how & 8) != 0) == 0);
}

/* Nothing behind the room that there is changes. */
static void get_value(struct hostile *hostile, unsigned room, bool newer)
{
	unsigned char *const bytes = hostile->buffer;

	memset(bytes, CANARY, LARGEST);
	int32_t result = newer ? ivshmem_latest_next(&hostile->getter, bytes, room, NULL)
			       : ivshmem_latest_read(&hostile->getter, bytes, room, NULL);
	check(result >= IVSHMEM_LATEST_BROKEN && result <= LARGEST_LATEST);
	check(result < 0 || (unsigned)result <= room);
	for (unsigned i = room; i < LARGEST; i++)
		check(bytes[i] == CANARY);
}

static size_t step_latest(struct hostile *hostile, const uint8_t *data, size_t left)
{
	const unsigned how = left > 1 ? data[1] : 0;
	const unsigned room = how < LARGEST ? how : LARGEST;
	volatile void *place = NULL;

	switch (data[0] % N_ACTIONS_LATEST) {
	case SET:
		check(ivshmem_latest_write(&hostile->setter, hostile->buffer, room, how) ==
			(room > LARGEST_LATEST ? IVSHMEM_LATEST_TOO_BIG : IVSHMEM_LATEST_OK));
		break;
	case RESERVE:
		if (ivshmem_latest_reserve(&hostile->setter, how, &place) == IVSHMEM_LATEST_OK)
			ivshmem_channel_put(place, hostile->buffer, how);
		break;
	case COMMIT:
		ivshmem_latest_commit(
			&hostile->setter, how < LARGEST_LATEST ? how : LARGEST_LATEST, how);
		break;
	case GET:
		get_value(hostile, room, false);
		break;
	case NEXT:
		get_value(hostile, room, true);
		break;
	case SCRIBBLE:
		return left < 2 ? 1 : 2 + scribble(hostile, LANE, data + 2, left - 2);
	case SCRIBBLE_SLOT:
		return left < 2 ? 1
				: 2 + scribble(hostile, IVSHMEM_LANE_READER, data + 2, left - 2);
	case AGAIN:
		attach_latest(hostile, how);
		break;
	case LEAVE:
		ivshmem_latest_writer_close(&hostile->setter);
		break;
	}
	return left > 1 ? 2 : 1;
}

/* A new life of the writer is enough. */
static void recover_latest(struct hostile *hostile)
{
	attach_latest(hostile, 2);
	check(ivshmem_latest_write(&hostile->setter, "well", 4, 7) == IVSHMEM_LATEST_OK);
	check(ivshmem_latest_read(&hostile->getter, hostile->buffer, LARGEST, NULL) == 4);
	check(memcmp(hostile->buffer, "well", 4) == 0);
}

/* ---- the directory ---- */

static void look_at(const struct ivshmem_channel *channel, void *memory, const void *end)
{
	struct ivshmem_latest_reader reader;
	struct ivshmem_stream stream;
	unsigned char bytes[LARGEST];

	if (ivshmem_channel_lane(channel, memory, channel->lanes - 1, &stream) == 0)
		check(stream.lane >= (unsigned char *)memory &&
			stream.lane + IVSHMEM_LANE_RING + (size_t)stream.lines * 64 <=
				(const unsigned char *)end);
	else if (ivshmem_latest_reader_attach(&reader, channel, memory, channel->lanes - 1, 0) == 0)
		ivshmem_latest_read(&reader, bytes, sizeof(bytes), NULL);
}

static void look_up(const uint8_t *data, size_t size)
{
	struct ivshmem_channel channel;
	const size_t whole = size & ~(size_t)3;
	uint32_t *memory = malloc(whole + 1);

	check(memory != NULL);
	memcpy(memory, data, whole);
	if (whole >= 64) { /* else hardly any would add up */
		memory[0] = ivshmem_channel_le(IVSHMEM_CHANNELS_MAGIC);
		memory[1] = ivshmem_channel_le(IVSHMEM_CHANNELS_VERSION);
		memory[2] = ivshmem_channel_le(64 + 128);
		memory[4] = ivshmem_channel_le(1);
		if (whole >= 192) {
			uint32_t crc = UINT32_MAX;
			for (unsigned i = 0; i < 48; i++)
				crc = ivshmem_channel_crc(
					crc, i == 3 ? 0 : ivshmem_channel_le(memory[i]));
			memory[3] = ivshmem_channel_le(~crc);
		}
	}
	if (ivshmem_channel_find(memory, whole, 0, "c", &channel) == 0)
		look_at(&channel, memory, (char *)memory + whole);
	free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct hostile hostile;

	look_up(data, size);
	if (size < 1)
		return 0;
	memset(&hostile, 0, sizeof(hostile));
	hostile.lane = aligned_alloc(128, LANE);
	check(hostile.lane != NULL);
	memset(hostile.lane, 0, LANE);
	memset(hostile.buffer, CANARY, sizeof(hostile.buffer));
	hostile.stream = (struct ivshmem_stream){
		.lane = hostile.lane,
		.lines = LINES,
		.largest = LARGEST,
		.policy = data[0] % 3,
		.flags = data[0] >> 2 & 3,
		.key = 7,
	};
	const bool latest = data[0] & 0x80;
	(latest ? attach_latest : attach)(&hostile, 4);
	for (size_t at = 1; at < size;) {
		at += (latest ? step_latest : step)(&hostile, data + at, size - at);
		check_guards(&hostile);
	}
	(latest ? recover_latest : recover)(&hostile);
	check_guards(&hostile);
	free(hostile.lane);
	return 0;
}
