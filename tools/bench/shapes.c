/* SPDX-License-Identifier: MIT */
/* The channels, and one message of each shape. */
#include "bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MS  100 /* how often to see whether somebody still waits */
#define RING_MIN (UINT32_C(1) << 14)
#define RING_MAX (UINT32_C(1) << 23)
#define RINGS    (6 + LANES) /* in the plan below */
#define SLACK    16384       /* directory and slots */

/* The same on both sides, as it follows from the region's size. */
static uint32_t ring_for(uint64_t region, uint32_t offset)
{
	for (uint32_t ring = RING_MAX; ring >= RING_MIN; ring /= 2)
		if (offset + SLACK + (uint64_t)RINGS * ring <= region)
			return ring;
	return 0;
}

static int format(struct side *side, uint32_t offset)
{
	uint64_t size;

	ivshmem_region(side->peer, &size);
	const uint32_t ring = ring_for(size, offset == 0 ? IVSHMEM_CHANNELS_OFFSET : offset);
	const struct ivshmem_channel_plan plan[] = {
		{.name = "bench.there", .ring = ring},
		{.name = "bench.back", .ring = ring},
		{.name = "bench.gather",
			.ring = ring,
			.shape = IVSHMEM_CHANNEL_GATHER,
			.lanes = LANES},
		{.name = "bench.call", .ring = ring, .shape = IVSHMEM_CHANNEL_CALL, .lanes = 2},
		{.name = "bench.set", .ring = ring, .shape = IVSHMEM_CHANNEL_LATEST},
		{.name = "bench.set-back", .ring = ring, .shape = IVSHMEM_CHANNEL_LATEST},
	};

	if (ring == 0) {
		errno = ENOSPC;
		return -1;
	}
	side->largest = ring / 2 - IVSHMEM_RECORD_HEADER;
	side->bytes = calloc(1, ring);
	if (!side->bytes)
		return -1;
	return ivshmem_channels_format(side->peer, offset, plan, sizeof(plan) / sizeof(plan[0]));
}

static void open_gather(struct side *side, struct ivshmem_channel_options options, bool serves)
{
	if (serves)
		side->gatherer = ivshmem_gatherer_open(side->peer, "bench.gather", &options);
	for (options.lane = 0; options.lane < LANES && !serves; options.lane++)
		side->lanes[options.lane] =
			ivshmem_sender_open(side->peer, "bench.gather", &options);
}

static int open_channels(struct side *side, uint32_t offset, int spin_us, bool serves)
{
	struct ivshmem_channel_options options = IVSHMEM_CHANNEL_OPTIONS_INIT;
	const char *streams[] = {"bench.there", "bench.back"};
	const char *values[] = {"bench.set", "bench.set-back"};

	options.offset = offset;
	options.spin_us = spin_us;
	side->sender = ivshmem_sender_open(side->peer, streams[serves], &options);
	open_gather(side, options, serves);
	if (serves)
		side->responder = ivshmem_responder_open(side->peer, "bench.call", &options);
	else
		side->caller = ivshmem_caller_open(side->peer, "bench.call", &options);
	side->setter = ivshmem_setter_open(side->peer, values[serves], &options);
	side->getter = ivshmem_getter_open(side->peer, values[!serves], &options);
	/* Who serves takes the orders from before it came; answers to others are none of ours. */
	options.anew = !serves;
	side->receiver = ivshmem_receiver_open(side->peer, streams[!serves], &options);
	return side->sender && side->receiver && (side->gatherer || side->lanes[LANES - 1]) &&
			(side->caller || side->responder) && side->setter && side->getter
		? 0
		: -1;
}

int side_open(struct side *side, const char *uri, uint32_t offset, int spin_us, bool serves)
{
	*side = (struct side){.peer = ivshmem_open(uri, NULL)};
	if (side->peer && format(side, offset) == 0 &&
		open_channels(side, offset, spin_us, serves) == 0)
		return 0;
	fprintf(stderr, PROGRAM ": %s: %s%s\n", uri, strerror(errno),
		errno == EEXIST ? ": there are other channels, or data" : "");
	side_close(side);
	return -1;
}

void side_close(struct side *side)
{
	ivshmem_getter_close(side->getter);
	ivshmem_setter_close(side->setter);
	ivshmem_caller_close(side->caller);
	ivshmem_responder_close(side->responder);
	ivshmem_gatherer_close(side->gatherer);
	for (unsigned i = 0; i < LANES; i++)
		ivshmem_sender_close(side->lanes[i]);
	ivshmem_receiver_close(side->receiver);
	ivshmem_sender_close(side->sender);
	ivshmem_close(side->peer);
	free(side->bytes);
}

bool side_is_news(int error)
{
	return error == ECONNRESET || error == ESHUTDOWN || error == EOWNERDEAD;
}

/* ---- stream ---- */

static int send_all(struct ivshmem_sender *sender, const void *bytes, uint32_t size, uint32_t tag)
{
	int result;

	do
		result = ivshmem_send(sender, bytes, size, tag, -1);
	while (result < 0 && side_is_news(errno));
	return result;
}

int side_send(struct side *side, const void *bytes, uint32_t size)
{
	return send_all(side->sender, bytes, size, 0);
}

/* While an order is carried out, news is that nobody waits for the rest. */
int side_receive(struct side *side, void *bytes, uint32_t room)
{
	int result;

	do
		result = ivshmem_receive(side->receiver, bytes, room, NULL, -1);
	while (result < 0 && side_is_news(errno) && !side->obeys);
	return result;
}

/*
 * After -1 of a shape without a stream: whether to wait on. Its own news may be old, of a `run`
 * before the order; whoever gave that is known by the stream of orders, where nothing else comes.
 */
static bool shall_wait(struct side *side)
{
	struct order order;

	if (side_is_news(errno))
		return true;
	if (errno != ETIMEDOUT)
		return false;
	return !side->obeys ||
		(ivshmem_receive(side->receiver, &order, sizeof(order), NULL, 0) < 0 &&
			errno == ETIMEDOUT);
}

static int stream_pour(struct side *side, uint32_t size)
{
	return side_send(side, side->bytes, size);
}

static int stream_absorb(struct side *side)
{
	return side_receive(side, side->bytes, side->largest) < 0 ? -1 : 0;
}

static int stream_trip(struct side *side, uint32_t size)
{
	return stream_pour(side, size) < 0 ? -1 : stream_absorb(side);
}

static int stream_answer(struct side *side, uint32_t size)
{
	return stream_absorb(side) < 0 ? -1 : stream_pour(side, size);
}

static uint32_t stream_largest(const struct side *side)
{
	return side->largest;
}

/* ---- gather ---- */

/* Of all lanes in turns, as if each were of another writer; the answer comes as a stream. */
static int gather_pour(struct side *side, uint32_t size)
{
	struct ivshmem_sender *sender = side->lanes[side->next_lane++ % LANES];
	return send_all(sender, side->bytes, size, side->turn);
}

/* What another `run` has left there is not for us. */
static int gather_absorb(struct side *side)
{
	uint32_t tag = 0;
	int result;

	do
		result = ivshmem_gather(
			side->gatherer, side->bytes, side->largest, NULL, &tag, LOOK_MS);
	while (result < 0 ? shall_wait(side) : tag != side->turn);
	return result < 0 ? -1 : 0;
}

static int gather_trip(struct side *side, uint32_t size)
{
	return gather_pour(side, size) < 0 ? -1 : stream_absorb(side);
}

static int gather_answer(struct side *side, uint32_t size)
{
	return gather_absorb(side) < 0 ? -1 : stream_pour(side, size);
}

/* ---- request and reply ---- */

static int call_trip(struct side *side, uint32_t size)
{
	return ivshmem_call(side->caller, side->bytes, size, side->bytes, side->largest, -1) < 0
		? -1
		: 0;
}

static int call_answer(struct side *side, uint32_t size)
{
	struct ivshmem_request request;
	int result;

	do
		result = ivshmem_responder_next(
			side->responder, side->bytes, side->largest, &request, LOOK_MS);
	while (result < 0 && shall_wait(side));
	if (result < 0)
		return -1;
	return ivshmem_responder_reply(side->responder, &request, side->bytes, size, 0) < 0 ? -1
											    : 0;
}

/* ---- latest value ---- */

/* The value of this turn: what is there from before is not for us. */
static int latest_await(struct side *side)
{
	uint32_t tag = 0;
	int result;

	do
		result = ivshmem_await(side->getter, side->bytes, side->largest, &tag, LOOK_MS);
	while (result < 0 ? shall_wait(side) : tag != side->turn);
	return result < 0 ? -1 : 0;
}

static int latest_trip(struct side *side, uint32_t size)
{
	side->turn++;
	return ivshmem_set(side->setter, side->bytes, size, side->turn) < 0 ? -1
									    : latest_await(side);
}

static int latest_answer(struct side *side, uint32_t size)
{
	side->turn++;
	return latest_await(side) < 0 ? -1
				      : ivshmem_set(side->setter, side->bytes, size, side->turn);
}

static uint32_t latest_largest(const struct side *side)
{
	return (side->largest + IVSHMEM_RECORD_HEADER) / 2 - IVSHMEM_CELL_HEADER;
}

const struct shape shapes[] = {
	{"stream", stream_trip, stream_answer, stream_pour, stream_absorb, stream_largest},
	{"gather", gather_trip, gather_answer, gather_pour, gather_absorb, stream_largest},
	{"call", call_trip, call_answer, NULL, NULL, stream_largest},
	{"latest", latest_trip, latest_answer, NULL, NULL, latest_largest},
};

const size_t n_shapes = sizeof(shapes) / sizeof(shapes[0]);
