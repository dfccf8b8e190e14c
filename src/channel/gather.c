/* SPDX-License-Identifier: MIT */
/*
 * Many writers and one reader: <ivshmem/gather.h> with waiting, ringing and counting.
 *
 * All lanes wait together. They have one vector, so a ring says that some lane has something, and
 * the look that follows finds out which. Of a lane that is broken nobody knows when it heals, and
 * whether that makes its writer ring; so as long as there is one, it is looked at now and then.
 */
#include "channel/internal.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>

#define BROKEN_LOOK_MS 100

struct ivshmem_gatherer {
	struct ivshmem_lanes lanes;
	struct ivshmem_lane *each;
	struct endpoint *endpoints; /* one for each lane */
};

/* A place for a message. */
struct attempt {
	struct ivshmem_gatherer *gatherer;
	void *bytes;
	uint32_t room, lane, *tag;
	int32_t result; /* size, or enum ivshmem_stream_result */
};

/* ---- opening and closing ---- */

static int allocate(struct ivshmem_gatherer *gatherer, unsigned lanes)
{
	if (lanes == 0 || lanes > CHANNEL_LANES_MAX)
		return -EPROTO;
	gatherer->each = calloc(lanes, sizeof(*gatherer->each));
	gatherer->endpoints = calloc(lanes, sizeof(*gatherer->endpoints));
	return gatherer->each && gatherer->endpoints ? 0 : -ENOMEM;
}

/* Be the reader of every `step`th lane, or of none. 0 or -errno. */
static int take_seats(struct ivshmem_gatherer *gatherer, struct ivshmem_peer *peer,
	const struct ivshmem_channel *channel, unsigned step,
	const struct ivshmem_channel_options *options)
{
	const unsigned lanes = channel->lanes / step;
	void *region = ivshmem_region(peer, NULL);
	uint32_t id = IVSHMEM_ID_NOBODY;
	struct ivshmem_stream stream;
	int err = 0;

	for (unsigned i = 0; i < lanes && err == 0; i++) {
		struct endpoint *endpoint = &gatherer->endpoints[i];
		ivshmem_channel_lane(channel, region, i * step, &stream);
		err = endpoint_check_seat(peer, &stream, IVSHMEM_LANE_READER);
		if (err == 0)
			err = endpoint_init(endpoint, peer, &gatherer->each[i].reader.end, options,
				stream.flags & IVSHMEM_CHANNEL_READER_POLLS, &id);
		endpoint->next = i + 1 < lanes ? endpoint + 1 : NULL;
	}
	if (err < 0)
		return err;
	for (unsigned i = 0; i < lanes; i++) {
		ivshmem_channel_lane(channel, region, i * step, &stream);
		ivshmem_reader_attach(
			&gatherer->each[i].reader, &stream, id, options->vector, options->anew);
	}
	ivshmem_lanes_init(&gatherer->lanes, gatherer->each, lanes);
	return 0;
}

/* Ring whoever may wait for a former life. 0 or -errno. */
static int greet_all(struct ivshmem_gatherer *gatherer)
{
	for (uint32_t i = 0; i < gatherer->lanes.count; i++) {
		int err = endpoint_greet(&gatherer->endpoints[i]);
		if (err < 0)
			return err;
	}
	return 0;
}

static int open_gatherer(struct ivshmem_gatherer *gatherer, struct ivshmem_peer *peer,
	const char *name, struct ivshmem_channel_options *options, enum ivshmem_channel_shape shape)
{
	const unsigned step = shape == IVSHMEM_CHANNEL_CALL ? 2 : 1;
	struct ivshmem_channel channel = {0};
	int err = endpoint_find_lanes(peer, name, options, &channel);

	if (err == 0 && channel.shape != (uint32_t)shape)
		err = -EPROTOTYPE;
	if (err == 0)
		err = allocate(gatherer, channel.lanes / step);
	if (err == 0)
		err = take_seats(gatherer, peer, &channel, step, options);
	return err < 0 ? err : greet_all(gatherer);
}

static void free_gatherer(struct ivshmem_gatherer *gatherer)
{
	if (!gatherer)
		return;
	free(gatherer->each);
	free(gatherer->endpoints);
	free(gatherer);
}

struct ivshmem_gatherer *gatherer_open(struct ivshmem_peer *peer, const char *name,
	const struct ivshmem_channel_options *options, enum ivshmem_channel_shape shape)
{
	struct ivshmem_channel_options complete = IVSHMEM_CHANNEL_OPTIONS_INIT;
	struct ivshmem_gatherer *gatherer = calloc(1, sizeof(*gatherer));

	if (!gatherer)
		return NULL;
	if (options)
		complete = *options;
	int err = open_gatherer(gatherer, peer, name, &complete, shape);
	if (err == 0)
		return gatherer;
	free_gatherer(gatherer);
	errno = -err;
	return NULL;
}

struct ivshmem_gatherer *ivshmem_gatherer_open(
	struct ivshmem_peer *peer, const char *name, const struct ivshmem_channel_options *options)
{
	return gatherer_open(peer, name, options, IVSHMEM_CHANNEL_GATHER);
}

/* 0 or -errno. */
static int ring_due(struct ivshmem_gatherer *gatherer)
{
	struct ivshmem_lanes *lanes = &gatherer->lanes;

	while (lanes->due < lanes->count) {
		int err = endpoint_ring(&gatherer->endpoints[lanes->due++]);
		if (err < 0)
			return err;
	}
	return 0;
}

void ivshmem_gatherer_close(struct ivshmem_gatherer *gatherer)
{
	int error = errno;

	if (gatherer) {
		ivshmem_lanes_close(&gatherer->lanes);
		ring_due(gatherer);
	}
	free_gatherer(gatherer);
	errno = error;
}

/* ---- reading ---- */

/* Not 0: something to tell. */
static int try_to_gather(void *data)
{
	struct attempt *attempt = data;

	attempt->result = ivshmem_lanes_read(&attempt->gatherer->lanes, attempt->bytes,
		attempt->room, &attempt->lane, attempt->tag);
	return attempt->result != IVSHMEM_STREAM_EMPTY;
}

static void arm_lanes(void *data)
{
	struct attempt *attempt = data;
	ivshmem_lanes_arm(&attempt->gatherer->lanes);
}

/* What to tell. 0: nothing, go on. */
static int outcome(struct attempt *attempt)
{
	struct endpoint *endpoint = &attempt->gatherer->endpoints[attempt->lane];

	if (attempt->result < 0)
		return endpoint_news(endpoint, (enum ivshmem_stream_result)attempt->result);
	endpoint->midway = true;
	endpoint->counters.messages++;
	return 0;
}

/* 1, 0: not in time, or -errno. */
static int wait_for_lanes(struct attempt *attempt, uint64_t deadline)
{
	struct ivshmem_gatherer *gatherer = attempt->gatherer;
	struct endpoint *endpoints = gatherer->endpoints;
	int found;

	do {
		const uint64_t again =
			gatherer->lanes.broken != 0 ? clock_ms() + BROKEN_LOOK_MS : deadline;
		found = endpoint_wait(&endpoints[0], again < deadline ? again : deadline,
			try_to_gather, arm_lanes, attempt);
	} while (found == 0 && deadline_left(deadline) != 0);
	if (found == -EOWNERDEAD || found == -EHOSTDOWN)
		attempt->lane = (uint32_t)(endpoints[0].told - endpoints);
	return found;
}

/* Lanes that begin say nothing by it; but to do so again and again does not put off the end. */
static int gather(struct attempt *attempt, int timeout_ms)
{
	const uint64_t deadline = timeout_ms == 0 ? 0 : deadline_after(timeout_ms);
	uint32_t begins = 0;
	int told = 0;

	do {
		int found = try_to_gather(attempt);
		if (!found)
			found = wait_for_lanes(attempt, deadline);
		told = found < 0 ? found : found == 0 ? -ETIMEDOUT : outcome(attempt);
		if (told == 0 && attempt->result < 0 &&
			begins++ >= attempt->gatherer->lanes.count && deadline_left(deadline) == 0)
			told = -ETIMEDOUT;
	} while (told == 0 && attempt->result < 0);
	if (told == -ETIMEDOUT)
		attempt->lane = IVSHMEM_CHANNEL_ANY_LANE;
	/* A message that is here is not lost because somebody could not be rung. */
	ring_due(attempt->gatherer);
	return told != 0 ? told : attempt->result;
}

/* NOLINTBEGIN(readability-non-const-parameter): *tag is written. */
int ivshmem_gather(struct ivshmem_gatherer *gatherer, void *bytes, uint32_t room, unsigned *lane,
	uint32_t *tag, int timeout_ms)
{
	struct attempt attempt = {.gatherer = gatherer,
		.bytes = bytes,
		.room = room,
		.lane = IVSHMEM_CHANNEL_ANY_LANE,
		.tag = tag};
	int result = gather(&attempt, timeout_ms);

	if (lane)
		*lane = attempt.lane;
	if (result >= 0)
		return result;
	errno = -result;
	return -1;
}
/* NOLINTEND(readability-non-const-parameter) */

/* ---- the rest ---- */

struct ivshmem_reader *gatherer_reader(struct ivshmem_gatherer *gatherer, unsigned lane)
{
	return &gatherer->each[lane].reader;
}

void gatherer_skip(struct ivshmem_gatherer *gatherer, unsigned lane)
{
	struct ivshmem_reader *reader = &gatherer->each[lane].reader;
	const volatile uint32_t *record;

	if (ivshmem_stream_next(reader, &record) >= 0)
		ivshmem_stream_step(reader);
}

int gatherer_release(struct ivshmem_gatherer *gatherer, unsigned lane)
{
	ivshmem_stream_release(&gatherer->each[lane].reader);
	return endpoint_ring(&gatherer->endpoints[lane]);
}

unsigned ivshmem_gatherer_lanes(const struct ivshmem_gatherer *gatherer)
{
	return gatherer->lanes.count;
}

int ivshmem_gatherer_counters(const struct ivshmem_gatherer *gatherer, unsigned lane,
	struct ivshmem_channel_counters *counters)
{
	if (lane >= gatherer->lanes.count) {
		errno = ENOENT;
		return -1;
	}
	*counters = gatherer->endpoints[lane].counters;
	counters->sleeps = gatherer->endpoints[0].counters.sleeps;
	counters->looks = gatherer->endpoints[0].counters.looks;
	counters->generation =
		ivshmem_channel_get(&gatherer->each[lane].reader.end.mine->generation);
	return 0;
}
