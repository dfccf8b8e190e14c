/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A caller has two lanes: the writer of requests is a sender as any other, the reader of replies is
 * here. One call is under way at a time.
 *
 * Which reply is whose? A request's tag is its number in the lane, counted on by all lives of its
 * writer: MESSAGES in the writer's slot, which is stored before the request can be seen. So no two
 * requests that could ever be mixed up have the same tag, whoever died in between, and a reply
 * whose tag is not that of the call is for nobody any more: for a call that was given up, or for a
 * former life.
 *
 * Has the responder died? The server tells of it, or the responder's next life does: it says where
 * it began, and the request lies before that if one of its former lives has taken it. Taken means
 * given back, and a responder does that before it looks at a request; so the next life does not get
 * it, and nobody will answer. A request that nobody has taken waits for the next life, and so do
 * we.
 */
#include "channel/internal.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>

struct ivshmem_caller {
	struct ivshmem_sender *requests;
	struct ivshmem_reader reader; /* of replies */
	struct endpoint endpoint;
	struct ivshmem_channel_counters counters;
};

/* A call that waits for its reply. */
struct attempt {
	struct ivshmem_caller *caller;
	void *bytes;
	uint32_t room, tag;
	uint32_t end;   /* of the request, in lines */
	int32_t result; /* size, or -errno */
};

/* ---- opening and closing ---- */

int calls_find(struct ivshmem_peer *peer, const char *name, struct ivshmem_channel_options *options,
	struct ivshmem_channel *channel)
{
	int err = endpoint_find_lanes(peer, name, options, channel);

	if (err < 0)
		return err;
	if (channel->shape != IVSHMEM_CHANNEL_CALL)
		return -EPROTOTYPE;
	return channel->lanes % 2 == 0 && channel->policy == IVSHMEM_CHANNEL_WAIT ? 0 : -EPROTO;
}

/* What was answered before is for a former life. */
static int open_replies(struct ivshmem_caller *caller, struct ivshmem_peer *peer,
	const struct ivshmem_channel *channel, const struct ivshmem_channel_options *options)
{
	struct ivshmem_stream stream;
	uint32_t id = IVSHMEM_ID_NOBODY;

	if (ivshmem_channel_lane(channel, ivshmem_region(peer, NULL),
		    ivshmem_sender_lane(caller->requests) + 1, &stream) < 0)
		return -EPROTO; /* the directory has just become another */
	int err = endpoint_check_seat(peer, &stream, IVSHMEM_LANE_READER);
	if (err == 0)
		err = endpoint_init(&caller->endpoint, peer, &caller->reader.end, options,
			stream.flags & IVSHMEM_CHANNEL_READER_POLLS, &id);
	if (err < 0)
		return err;
	ivshmem_reader_attach(&caller->reader, &stream, id, options->vector, 1);
	caller->endpoint.silent_ms = 0; /* it is as the reader of requests that it says something */
	sender_endpoint(caller->requests)->next = &caller->endpoint;
	return endpoint_greet(&caller->endpoint);
}

static int open_caller(struct ivshmem_caller *caller, struct ivshmem_peer *peer, const char *name,
	struct ivshmem_channel_options *options)
{
	struct ivshmem_channel channel = {0};
	int err = calls_find(peer, name, options, &channel);

	if (err < 0)
		return err;
	if (options->lane != IVSHMEM_CHANNEL_ANY_LANE) {
		if (options->lane >= channel.lanes / 2)
			return -ENOENT;
		options->lane *= 2;
	}
	caller->requests = ivshmem_sender_open(peer, name, options);
	return caller->requests ? open_replies(caller, peer, &channel, options) : -errno;
}

struct ivshmem_caller *ivshmem_caller_open(
	struct ivshmem_peer *peer, const char *name, const struct ivshmem_channel_options *options)
{
	struct ivshmem_channel_options complete = IVSHMEM_CHANNEL_OPTIONS_INIT;
	struct ivshmem_caller *caller = calloc(1, sizeof(*caller));

	if (!caller)
		return NULL;
	if (options)
		complete = *options;
	int err = open_caller(caller, peer, name, &complete);
	if (err == 0)
		return caller;
	ivshmem_sender_close(caller->requests);
	free(caller);
	errno = -err;
	return NULL;
}

void ivshmem_caller_close(struct ivshmem_caller *caller)
{
	int error = errno;

	if (caller) {
		ivshmem_reader_close(&caller->reader);
		endpoint_ring(&caller->endpoint);
		ivshmem_sender_close(caller->requests);
	}
	free(caller);
	errno = error;
}

/* ---- calling ---- */

/* One message of the lane of replies: 1, it is ours; 0, it is not; or enum ivshmem_stream_result.
 * Where it lies and how long it is has been checked before it is taken. */
static int take_reply(struct attempt *attempt)
{
	struct ivshmem_caller *caller = attempt->caller;
	struct ivshmem_reader *reader = &caller->reader;
	const volatile uint32_t *record = ivshmem_stream_record(&reader->end, 0);
	const int32_t size = ivshmem_stream_next(reader, &record);

	if (size < 0)
		return size;
	const bool ours = ivshmem_channel_get(record + 1) == attempt->tag;
	attempt->result = (uint32_t)size <= attempt->room ? size : -ENOBUFS;
	if (ours && attempt->result >= 0)
		ivshmem_channel_take(attempt->bytes, record + 2, (uint32_t)size);
	ivshmem_stream_step(reader);
	if (!ours)
		caller->counters.lost++;
	return ours ? 1 : 0;
}

/* Not 0: the reply, or something to tell. What is not ours is thrown away; of an honest responder
 * that is never more than a ring holds, and a few ends and beginnings. */
static int look_for_reply(struct attempt *attempt)
{
	uint32_t left = 2 * attempt->caller->reader.end.lines;
	int got;

	do
		got = left-- > 0 ? take_reply(attempt) : IVSHMEM_STREAM_BROKEN;
	while (got == 0 || got == IVSHMEM_STREAM_BEGIN || got == IVSHMEM_STREAM_END);
	if (got == IVSHMEM_STREAM_BROKEN)
		attempt->result = -EPROTO;
	return got == 1 || got == IVSHMEM_STREAM_BROKEN;
}

/*
 * Will nobody answer? If the responder has begun behind the request, or has left behind it. Nothing
 * is behind it but where it ends: who has begun elsewhere has begun before, however long ago, which
 * no difference of positions tells.
 */
static bool is_orphan(const struct attempt *attempt)
{
	const struct ivshmem_end *end = sender_endpoint(attempt->caller->requests)->end;
	const volatile struct ivshmem_channel_slot *slot = end->theirs;

	if (ivshmem_channel_acquire(&slot->key) != end->key)
		return false;
	if (ivshmem_channel_acquire(&slot->floor) == attempt->end)
		return true;
	return ivshmem_channel_acquire(&slot->state) == IVSHMEM_SLOT_CLOSED &&
		(int32_t)(ivshmem_channel_acquire(&slot->position) - attempt->end) >= 0;
}

/* That nobody will answer counts only if there is no answer *then*. */
static int look(void *data)
{
	struct attempt *attempt = data;

	if (look_for_reply(attempt))
		return 1;
	if (!is_orphan(attempt))
		return 0;
	if (!look_for_reply(attempt))
		attempt->result = -EOWNERDEAD;
	return 1;
}

/* The request's position is said again, should somebody have overwritten it. */
static void arm(void *data)
{
	struct attempt *attempt = data;

	ivshmem_stream_publish(ivshmem_sender_writer(attempt->caller->requests));
	ivshmem_reader_arm(&attempt->caller->reader);
}

/* Size of the reply, or -errno. */
static int call(struct attempt *attempt, const void *request, uint32_t size, uint64_t deadline)
{
	struct ivshmem_caller *caller = attempt->caller;
	struct ivshmem_writer *writer = ivshmem_sender_writer(caller->requests);
	int found;

	/* Replies that are too late leave, so that there is room for the next. */
	attempt->tag = writer->messages;
	if (look_for_reply(attempt))
		return -EPROTO;
	if (ivshmem_send(caller->requests, request, size, attempt->tag, deadline_left(deadline)) <
		0)
		return -errno;
	attempt->end = writer->tail;
	found = endpoint_wait(sender_endpoint(caller->requests), deadline, look, arm, attempt);
	if (found == 0)
		return -ETIMEDOUT;
	return found < 0 ? found : attempt->result;
}

int ivshmem_call(struct ivshmem_caller *caller, const void *request, uint32_t size, void *reply,
	uint32_t room, int timeout_ms)
{
	struct attempt attempt = {.caller = caller, .bytes = reply, .room = room};
	int result = call(&attempt, request, size, deadline_after(timeout_ms));
	endpoint_ring(&caller->endpoint);
	if (result == -EOWNERDEAD) /* two ends, but one partner */
		sender_endpoint(caller->requests)->told_dead = caller->endpoint.told_dead = true;
	if (result >= 0) {
		caller->counters.messages++;
		return result;
	}
	errno = -result;
	return -1;
}

unsigned ivshmem_caller_lane(const struct ivshmem_caller *caller)
{
	return ivshmem_sender_lane(caller->requests) / 2;
}

void ivshmem_caller_counters(
	const struct ivshmem_caller *caller, struct ivshmem_channel_counters *counters)
{
	struct ivshmem_channel_counters requests;

	ivshmem_sender_counters(caller->requests, &requests);
	*counters = requests;
	counters->messages = caller->counters.messages;
	counters->lost = caller->counters.lost;
	counters->rings += caller->endpoint.counters.rings;
}
