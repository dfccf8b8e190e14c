/* SPDX-License-Identifier: MIT */
/*
 * The other side of calls: a gatherer of the lanes of requests, and a sender for each lane of
 * replies.
 *
 * A request is given back before it is handed out. So a responder's next life does not get it
 * again: each call is carried out once at most, however often anybody dies. That it may not have
 * been carried out at all is the caller's business, who learns of it (caller.c).
 */
#include "channel/internal.h"

#include <errno.h>
#include <stdlib.h>

struct ivshmem_responder {
	struct ivshmem_gatherer *requests;
	struct ivshmem_sender **replies;
	unsigned callers;
};

static int open_responder(struct ivshmem_responder *responder, struct ivshmem_peer *peer,
	const char *name, struct ivshmem_channel_options *options)
{
	struct ivshmem_channel channel = {0};
	int err = calls_find(peer, name, options, &channel);

	if (err < 0)
		return err;
	responder->requests = gatherer_open(peer, name, options, IVSHMEM_CHANNEL_CALL);
	if (!responder->requests)
		return -errno;
	responder->callers = ivshmem_gatherer_lanes(responder->requests);
	responder->replies = calloc(responder->callers, sizeof(struct ivshmem_sender *));
	if (!responder->replies)
		return -ENOMEM;
	for (unsigned i = 0; i < responder->callers; i++) {
		options->lane = 2 * i + 1;
		responder->replies[i] = ivshmem_sender_open(peer, name, options);
		if (!responder->replies[i])
			return -errno;
	}
	return 0;
}

struct ivshmem_responder *ivshmem_responder_open(
	struct ivshmem_peer *peer, const char *name, const struct ivshmem_channel_options *options)
{
	struct ivshmem_channel_options complete = IVSHMEM_CHANNEL_OPTIONS_INIT;
	struct ivshmem_responder *responder = calloc(1, sizeof(*responder));

	if (!responder)
		return NULL;
	if (options)
		complete = *options;
	int err = open_responder(responder, peer, name, &complete);
	if (err == 0)
		return responder;
	ivshmem_responder_close(responder);
	errno = -err;
	return NULL;
}

/* First the requests: it is the end of the replies that wakes a caller, who then finds both. */
void ivshmem_responder_close(struct ivshmem_responder *responder)
{
	int error = errno;

	if (!responder)
		return;
	ivshmem_gatherer_close(responder->requests);
	for (unsigned i = 0; responder->replies && i < responder->callers; i++)
		ivshmem_sender_close(responder->replies[i]);
	free(responder->replies);
	free(responder);
	errno = error;
}

int ivshmem_responder_next(struct ivshmem_responder *responder, void *bytes, uint32_t room,
	struct ivshmem_request *request, int timeout_ms)
{
	*request = (struct ivshmem_request){0};
	int size = ivshmem_gather(
		responder->requests, bytes, room, &request->lane, &request->tag, timeout_ms);
	if (size < 0 && errno != EMSGSIZE)
		return -1;
	if (size < 0)
		gatherer_skip(responder->requests, request->lane);
	request->generation = gatherer_reader(responder->requests, request->lane)->end.life;
	/* That the caller could not be rung does not keep anybody from carrying it out. */
	const int error = errno;
	gatherer_release(responder->requests, request->lane);
	errno = error;
	return size;
}

/* Does he who has asked still wait? */
static bool is_waiting(struct ivshmem_responder *responder, const struct ivshmem_request *request)
{
	const struct ivshmem_end *end = &gatherer_reader(responder->requests, request->lane)->end;

	return ivshmem_channel_acquire(&end->theirs->key) == end->key &&
		ivshmem_channel_get(&end->theirs->generation) == request->generation &&
		ivshmem_channel_get(&end->theirs->state) == IVSHMEM_SLOT_OPEN;
}

int ivshmem_responder_reply(struct ivshmem_responder *responder,
	const struct ivshmem_request *request, const void *bytes, uint32_t size, int timeout_ms)
{
	if (request->lane >= responder->callers) {
		errno = EINVAL;
		return -1;
	}
	if (!is_waiting(responder, request))
		return 1;
	return ivshmem_send(
		responder->replies[request->lane], bytes, size, request->tag, timeout_ms);
}

unsigned ivshmem_responder_lanes(const struct ivshmem_responder *responder)
{
	return responder->callers;
}

int ivshmem_responder_counters(const struct ivshmem_responder *responder, unsigned lane,
	struct ivshmem_channel_counters *counters)
{
	return ivshmem_gatherer_counters(responder->requests, lane, counters);
}
