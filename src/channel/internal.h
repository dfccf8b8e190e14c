/* SPDX-License-Identifier: MIT */
/* What both ends of a hosted channel have in common: finding the lane, ringing, waiting. */
#ifndef CHANNEL_INTERNAL_H
#define CHANNEL_INTERNAL_H

#include "channel/fence.h"

#include <ivshmem/channels.h>

#include <stdbool.h>

struct endpoint {
	struct endpoint
		*next; /* of those that wait together: they have peer and vector in common */
	struct ivshmem_peer *peer;
	struct ivshmem_end *end; /* of the writer or reader around it */
	unsigned vector;
	int bell;        /* its descriptor, the peer's; -1: none, look now and then */
	unsigned nap_us; /* and then is after this; 0: as the peer does it */
	bool polls;      /* so the channel says: the partner does not ring it */
	bool owes_ring;  /* the partner is to be rung, and could not be */

	uint64_t spin_ns;
	unsigned spin_skip, spin_backoff; /* as in src/client/wait.c */

	/* What is known of the partner. */
	uint32_t life;    /* its generation */
	unsigned seen_id; /* it is, or was, connected by this; UINT_MAX: not that we know */
	bool told_dead;   /* and that it has gone has been told */
	bool midway;      /* reader: there were messages of a life whose end has not been told */
	unsigned silent_ms;
	uint64_t silent_since; /* ms; 0: not waited for yet */
	uint32_t last_sign;
	bool asked;

	struct endpoint *told; /* the end that an error of endpoint_wait() is about */
	struct ivshmem_channel_counters counters;
};

/* What a wait looks for: has it come? Not 0 ends the wait. */
typedef int (*endpoint_look)(void *data);

#define CHANNEL_LANES_MAX 1024u

/* Find the channel, as the options say, which become complete. 0 or -errno. */
int endpoint_find_channel(struct ivshmem_peer *peer, const char *name,
	struct ivshmem_channel_options *options, struct ivshmem_channel *channel);

/* One whose lanes are for messages. 0 or -errno. */
int endpoint_find_lanes(struct ivshmem_peer *peer, const char *name,
	struct ivshmem_channel_options *options, struct ivshmem_channel *channel);

/* And the lane in it. 0 or -errno. */
int endpoint_find(struct ivshmem_peer *peer, const char *name,
	struct ivshmem_channel_options *options, struct ivshmem_stream *stream);

/* Be the writer of any lane that surely nobody has, which options->lane is then. 0 or -errno:
 * -EBUSY if there is none. */
int seat_take_any(struct ivshmem_peer *peer, const struct ivshmem_channel *channel,
	struct ivshmem_writer *writer, uint32_t id, struct ivshmem_channel_options *options);

/* Is the seat another's who is there? 0 or -EBUSY. */
int endpoint_check_seat(
	struct ivshmem_peer *peer, const struct ivshmem_stream *stream, uint32_t seat);

/* The same, by the slot of the seat. */
int endpoint_check_slot(
	struct ivshmem_peer *peer, const volatile struct ivshmem_channel_slot *slot, uint32_t key);

/* An endpoint that nobody rings: without `nap_us` it looks as the peer does it. */
void endpoint_prepare(struct endpoint *endpoint, struct ivshmem_peer *peer, struct ivshmem_end *end,
	const struct ivshmem_channel_options *options);

/* Everything but the attaching, which needs `id`: whom the partner is to ring. `polls`: the flag of
 * the channel that stands for this side. 0 or -errno. */
int endpoint_init(struct endpoint *endpoint, struct ivshmem_peer *peer, struct ivshmem_end *end,
	const struct ivshmem_channel_options *options, uint32_t polls, uint32_t *id);

/* Right after attaching: ring whoever may wait for a former life. 0 or -errno. */
int endpoint_greet(struct endpoint *endpoint);

/* Ring the partner if that is due. 0 or -errno; that it is not there is no error. */
int endpoint_ring(struct endpoint *endpoint);

/*
 * Wait until look(data) is not 0, which is returned: first by looking, then asleep, each time after
 * arm(data). Or 0 when the time has passed, -EOWNERDEAD or -EHOSTDOWN once for a partner that has
 * gone or does not answer, whose end endpoint->told is then, or another -errno.
 */
int endpoint_wait(struct endpoint *endpoint, uint64_t deadline, endpoint_look look,
	void (*arm)(void *data), void *data);

/* What to tell of what was read and is no message: -errno, or 0: nothing. */
int endpoint_news(struct endpoint *endpoint, enum ivshmem_stream_result result);

/* Can it be told that this ID is there, by what the server's messages that were handled say? */
bool endpoint_is_connected(const struct ivshmem_peer *peer, uint32_t id);

/* The same by all that it has said up to now, which is handled first. */
bool endpoint_is_there(struct ivshmem_peer *peer, uint32_t id);

struct endpoint *sender_endpoint(struct ivshmem_sender *sender);

/* Find a channel of calls. 0 or -errno. */
int calls_find(struct ivshmem_peer *peer, const char *name, struct ivshmem_channel_options *options,
	struct ivshmem_channel *channel);

/* The reader of all lanes of a gather, or of all lanes of requests of a channel of calls. NULL
 * with errno. */
struct ivshmem_gatherer *gatherer_open(struct ivshmem_peer *peer, const char *name,
	const struct ivshmem_channel_options *options, enum ivshmem_channel_shape shape);
struct ivshmem_reader *gatherer_reader(struct ivshmem_gatherer *gatherer, unsigned lane);

/* Pass by the message that is next in this lane. */
void gatherer_skip(struct ivshmem_gatherer *gatherer, unsigned lane);

/* Give back what has been read of this lane, and ring its writer if that is due. 0 or -errno. */
int gatherer_release(struct ivshmem_gatherer *gatherer, unsigned lane);

#endif
