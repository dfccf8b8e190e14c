/* SPDX-License-Identifier: MIT */
/* The writing end: <ivshmem/stream.h> with waiting, ringing and counting. */
#include "channel/internal.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>

struct ivshmem_sender {
	struct ivshmem_writer writer;
	struct endpoint endpoint;
	unsigned lane;
};

/* A message that waits for room. */
struct attempt {
	struct ivshmem_sender *sender;
	const void *bytes;
	uint32_t size, tag;
	int result; /* enum ivshmem_stream_result */
};

/* Be the writer of the lane that the options say, or of any. 0 or -errno. */
static int take_seat(struct ivshmem_sender *sender, struct ivshmem_peer *peer,
	const struct ivshmem_channel *channel, struct ivshmem_channel_options *options)
{
	struct ivshmem_stream stream;
	uint32_t id = IVSHMEM_ID_NOBODY;
	int err = endpoint_init(&sender->endpoint, peer, &sender->writer.end, options,
		channel->flags & IVSHMEM_CHANNEL_WRITER_POLLS, &id);

	if (err < 0)
		return err;
	if (options->lane == IVSHMEM_CHANNEL_ANY_LANE)
		return seat_take_any(peer, channel, &sender->writer, id, options);
	if (ivshmem_channel_lane(channel, ivshmem_region(peer, NULL), options->lane, &stream) < 0)
		return -ENOENT;
	err = endpoint_check_seat(peer, &stream, IVSHMEM_LANE_WRITER);
	if (err == 0)
		ivshmem_writer_attach(&sender->writer, &stream, id, options->vector);
	return err;
}

static int open_sender(struct ivshmem_sender *sender, struct ivshmem_peer *peer, const char *name,
	struct ivshmem_channel_options *options)
{
	struct ivshmem_channel channel = {0};
	int err = endpoint_find_lanes(peer, name, options, &channel);

	if (err == 0)
		err = take_seat(sender, peer, &channel, options);
	if (err < 0)
		return err;
	sender->lane = options->lane;
	return endpoint_greet(&sender->endpoint);
}

struct ivshmem_sender *ivshmem_sender_open(
	struct ivshmem_peer *peer, const char *name, const struct ivshmem_channel_options *options)
{
	struct ivshmem_channel_options complete = IVSHMEM_CHANNEL_OPTIONS_INIT;
	struct ivshmem_sender *sender = calloc(1, sizeof(*sender));

	if (!sender)
		return NULL;
	if (options)
		complete = *options;
	int err = open_sender(sender, peer, name, &complete);
	if (err == 0)
		return sender;
	free(sender);
	errno = -err;
	return NULL;
}

void ivshmem_sender_close(struct ivshmem_sender *sender)
{
	int error = errno;

	if (sender) {
		ivshmem_writer_close(&sender->writer);
		endpoint_ring(&sender->endpoint);
	}
	free(sender);
	errno = error;
}

/* Not 0: done, one way or the other. */
static int try_to_send(void *data)
{
	struct attempt *attempt = data;

	attempt->result = ivshmem_stream_write(
		&attempt->sender->writer, attempt->bytes, attempt->size, attempt->tag);
	return attempt->result != IVSHMEM_STREAM_FULL;
}

static void arm_sender(void *data)
{
	struct attempt *attempt = data;
	ivshmem_writer_arm(&attempt->sender->writer, attempt->size);
}

static int wait_for_room(struct attempt *attempt, int timeout_ms)
{
	struct ivshmem_sender *sender = attempt->sender;

	if (sender->writer.end.policy != IVSHMEM_CHANNEL_WAIT) {
		volatile uint32_t *lost = &sender->writer.end.mine->lost;
		ivshmem_channel_set(lost, ivshmem_channel_get(lost) + 1);
		sender->endpoint.counters.lost++;
		/* What was added before, or says that a new life begins, is not dropped. */
		ivshmem_stream_publish(&sender->writer);
		return 1;
	}
	int found = endpoint_wait(
		&sender->endpoint, deadline_after(timeout_ms), try_to_send, arm_sender, attempt);
	return found == 0 ? -ETIMEDOUT : found < 0 ? found : 0;
}

static int send_message(struct attempt *attempt, int timeout_ms)
{
	struct ivshmem_sender *sender = attempt->sender;
	int err = 0;

	if (!try_to_send(attempt))
		err = wait_for_room(attempt, timeout_ms);
	if (err == 0 && attempt->result == IVSHMEM_STREAM_TOO_BIG)
		err = -EMSGSIZE;
	if (err == 0 && attempt->result == IVSHMEM_STREAM_BROKEN)
		err = -EPROTO;
	if (err == 0)
		sender->endpoint.counters.messages++;
	int rung = endpoint_ring(&sender->endpoint);
	return err != 0 ? err : rung;
}

int ivshmem_send(struct ivshmem_sender *sender, const void *bytes, uint32_t size, uint32_t tag,
	int timeout_ms)
{
	struct attempt attempt = {.sender = sender, .bytes = bytes, .size = size, .tag = tag};
	int err = send_message(&attempt, timeout_ms);

	if (err >= 0)
		return err;
	errno = -err;
	return -1;
}

unsigned ivshmem_sender_lane(const struct ivshmem_sender *sender)
{
	return sender->lane;
}

struct endpoint *sender_endpoint(struct ivshmem_sender *sender)
{
	return &sender->endpoint;
}

struct ivshmem_writer *ivshmem_sender_writer(struct ivshmem_sender *sender)
{
	return &sender->writer;
}

int ivshmem_sender_publish(struct ivshmem_sender *sender)
{
	ivshmem_stream_publish(&sender->writer);
	int err = endpoint_ring(&sender->endpoint);
	if (err == 0)
		return 0;
	errno = -err;
	return -1;
}

void ivshmem_sender_counters(
	const struct ivshmem_sender *sender, struct ivshmem_channel_counters *counters)
{
	*counters = sender->endpoint.counters;
	counters->generation = sender->writer.generation;
}
