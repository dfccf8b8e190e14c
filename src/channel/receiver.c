/* SPDX-License-Identifier: MIT */
/* The reading end: <ivshmem/stream.h> with waiting, ringing and counting. */
#include "channel/internal.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>

struct ivshmem_receiver {
	struct ivshmem_reader reader;
	struct endpoint endpoint;
};

/* A place for a message. */
struct attempt {
	struct ivshmem_receiver *receiver;
	void *bytes;
	uint32_t room, *tag;
	int32_t result; /* size, or enum ivshmem_stream_result */
};

static int open_receiver(struct ivshmem_receiver *receiver, struct ivshmem_peer *peer,
	const char *name, struct ivshmem_channel_options *options)
{
	struct ivshmem_stream stream;
	uint32_t id = IVSHMEM_ID_NOBODY;
	int err = endpoint_find(peer, name, options, &stream);

	if (err == 0)
		err = endpoint_check_seat(peer, &stream, IVSHMEM_LANE_READER);
	if (err == 0)
		err = endpoint_init(&receiver->endpoint, peer, &receiver->reader.end, options,
			stream.flags & IVSHMEM_CHANNEL_READER_POLLS, &id);
	if (err < 0)
		return err;
	ivshmem_reader_attach(&receiver->reader, &stream, id, options->vector, options->anew);
	return endpoint_greet(&receiver->endpoint);
}

struct ivshmem_receiver *ivshmem_receiver_open(
	struct ivshmem_peer *peer, const char *name, const struct ivshmem_channel_options *options)
{
	struct ivshmem_channel_options complete = IVSHMEM_CHANNEL_OPTIONS_INIT;
	struct ivshmem_receiver *receiver = calloc(1, sizeof(*receiver));

	if (!receiver)
		return NULL;
	if (options)
		complete = *options;
	int err = open_receiver(receiver, peer, name, &complete);
	if (err == 0)
		return receiver;
	free(receiver);
	errno = -err;
	return NULL;
}

void ivshmem_receiver_close(struct ivshmem_receiver *receiver)
{
	int error = errno;

	if (receiver) {
		ivshmem_reader_close(&receiver->reader);
		endpoint_ring(&receiver->endpoint);
	}
	free(receiver);
	errno = error;
}

/* Not 0: something to tell. */
static int try_to_receive(void *data)
{
	struct attempt *attempt = data;

	attempt->result = ivshmem_stream_read(
		&attempt->receiver->reader, attempt->bytes, attempt->room, attempt->tag);
	return attempt->result != IVSHMEM_STREAM_EMPTY;
}

static void arm_receiver(void *data)
{
	struct attempt *attempt = data;
	ivshmem_reader_arm(&attempt->receiver->reader);
}

/* What to tell. 0: nothing, go on. */
static int outcome(struct attempt *attempt)
{
	struct endpoint *endpoint = &attempt->receiver->endpoint;

	if (attempt->result < 0)
		return endpoint_news(endpoint, (enum ivshmem_stream_result)attempt->result);
	endpoint->midway = true;
	endpoint->counters.messages++;
	return 0;
}

/* A life that begins says nothing by it; but to begin again and again does not put off the end. */
static int receive(struct attempt *attempt, int timeout_ms)
{
	struct ivshmem_receiver *receiver = attempt->receiver;
	const uint64_t deadline = timeout_ms == 0 ? 0 : deadline_after(timeout_ms);
	unsigned begins = 0;
	int told = 0;

	do {
		int found = try_to_receive(attempt);
		if (!found)
			found = endpoint_wait(&receiver->endpoint, deadline, try_to_receive,
				arm_receiver, attempt);
		told = found < 0 ? found : found == 0 ? -ETIMEDOUT : outcome(attempt);
		if (told == 0 && attempt->result < 0 && begins++ > 0 &&
			deadline_left(deadline) == 0)
			told = -ETIMEDOUT;
	} while (told == 0 && attempt->result < 0);
	int rung = endpoint_ring(&receiver->endpoint);
	return told != 0 ? told : rung < 0 ? rung : attempt->result;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): *tag is written. */
int ivshmem_receive(struct ivshmem_receiver *receiver, void *bytes, uint32_t room, uint32_t *tag,
	int timeout_ms)
{
	struct attempt attempt = {.receiver = receiver, .bytes = bytes, .room = room, .tag = tag};
	int result = receive(&attempt, timeout_ms);

	if (result >= 0)
		return result;
	errno = -result;
	return -1;
}

struct ivshmem_reader *ivshmem_receiver_reader(struct ivshmem_receiver *receiver)
{
	return &receiver->reader;
}

int ivshmem_receiver_release(struct ivshmem_receiver *receiver)
{
	ivshmem_stream_release(&receiver->reader);
	int err = endpoint_ring(&receiver->endpoint);
	if (err == 0)
		return 0;
	errno = -err;
	return -1;
}

void ivshmem_receiver_counters(
	const struct ivshmem_receiver *receiver, struct ivshmem_channel_counters *counters)
{
	*counters = receiver->endpoint.counters;
	counters->generation = ivshmem_channel_get(&receiver->reader.end.mine->generation);
}
