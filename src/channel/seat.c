/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Who wants any lane looks for one whose writer is not there, and sits down. Another may do so at
 * the same time, and there is no lock, and no instruction that all processors of a region have that
 * could be one. With loads and stores alone, and any number of parties, nobody can be sure at any
 * speed; with a bound on how long somebody takes from looking to having written, everybody can:
 *
 *   look:  is the seat free?
 *   write: a number that hardly anybody else has, then OPEN
 *   pause: for longer than anybody takes from his look to his number
 *   check: is it still the own number?
 *
 * Whoever looked before the seat was open has written by the time of the check, and of all those
 * the last one finds its number. He sits down again, for what the others have written there; they
 * try the next lane, and write nothing more to this one.
 *
 * The bound holds for who is not stopped for PAUSE_MS just between two lines of code, where it
 * takes some nanoseconds. For who is, nothing holds: then two are writers of one lane. So where
 * this must not be, lanes are assigned.
 *
 * The number goes to BEAT, of which only its changes mean anything.
 */
#include "channel/internal.h"

#include "base/clock.h"

#include <errno.h>
#include <unistd.h>

#define PAUSE_MS 10

static volatile struct ivshmem_channel_slot *slot_of(const struct ivshmem_stream *stream)
{
	return (volatile struct ivshmem_channel_slot *)(stream->lane + IVSHMEM_LANE_WRITER);
}

/* Unlike endpoint_check_slot(), which takes a doubt for leave: is there surely nobody? */
static bool is_free(struct ivshmem_peer *peer, const struct ivshmem_stream *stream)
{
	const volatile struct ivshmem_channel_slot *slot = slot_of(stream);
	const uint32_t id = ivshmem_channel_get(&slot->id);

	if (ivshmem_channel_acquire(&slot->key) != stream->key ||
		ivshmem_channel_get(&slot->state) != IVSHMEM_SLOT_OPEN)
		return true;
	return (ivshmem_capabilities(peer) & IVSHMEM_CAP_PEER_LIST) && id <= IVSHMEM_MAX_ID &&
		!endpoint_is_there(peer, id);
}

static bool take(struct ivshmem_writer *writer, const struct ivshmem_stream *stream, uint32_t id,
	uint32_t vector)
{
	volatile struct ivshmem_channel_slot *slot = slot_of(stream);
	const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
	const uint32_t number =
		(uint32_t)clock_ns() ^ (uint32_t)getpid() << 16 ^ (uint32_t)(uintptr_t)writer;

	ivshmem_channel_set(&slot->beat, number);
	ivshmem_writer_attach(writer, stream, id, vector);
	ivshmem_channel_fence();
	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL) == EINTR)
		;
	if (ivshmem_channel_get(&slot->beat) != number)
		return false;
	/* That the life before has closed cannot be seen any more. */
	const uint32_t begin = writer->begin;
	ivshmem_writer_attach(writer, stream, id, vector);
	writer->begin |= begin;
	return true;
}

int seat_take_any(struct ivshmem_peer *peer, const struct ivshmem_channel *channel,
	struct ivshmem_writer *writer, uint32_t id, struct ivshmem_channel_options *options)
{
	const unsigned step = channel->shape == IVSHMEM_CHANNEL_CALL ? 2 : 1;
	void *region = ivshmem_region(peer, NULL);
	struct ivshmem_stream stream;

	if (channel->lanes > CHANNEL_LANES_MAX)
		return -EPROTO; /* each may take PAUSE_MS */
	for (unsigned lane = 0; ivshmem_channel_lane(channel, region, lane, &stream) == 0;
		lane += step)
		if (is_free(peer, &stream) && take(writer, &stream, id, options->vector)) {
			options->lane = lane;
			return 0;
		}
	return -EBUSY;
}
