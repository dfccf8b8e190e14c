/* SPDX-License-Identifier: MIT */
/* From a connection to a peer: what the server says first, and what is wrong if it says it wrong.
 * The errors of this file are what users meet first, so each says what to do next. */
#include "client/client.h"
#include "client/internal.h"
#include "region/region.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define explain client_explain

/*
 * The two generations of the protocol meet (docs/protocol.md, section 2.7). What each takes the
 * other for can mostly be told from the first two messages, and then the remedy is one option.
 */
static int explain_mixed(struct client_error *error, const char *path, bool current)
{
	explain(error, "the server on %s seems to speak the %s protocol: use --protocol %s", path,
		current ? "pre-2.5" : "current", current ? "pre-2.5" : "current");
	return -EPROTO;
}

int client_explain_event(struct client_error *error, const char *path, bool current,
	enum wire_state state, const struct wire_event *event)
{
	switch (event->error) {
	case WIRE_ERROR_REFUSED:
		explain(error, "the server on %s refused: %s", path,
			wire_refusal_text(event->number));
		return -EUSERS;
	case WIRE_ERROR_BAD_VERSION:
		if (event->number > 0 && event->number <= WIRE_MAX_ID)
			return explain_mixed(error, path, current);
		explain(error,
			"the server on %s speaks protocol version %" PRId64
			" but we need %d; if it is older than QEMU 2.5 use --protocol pre-2.5",
			path, event->number, WIRE_VERSION);
		return -EPROTO;
	case WIRE_ERROR_BAD_ID:
	case WIRE_ERROR_OWN_LEFT:
		/* An old server's ID 0 was taken for a version, and its region for the ID; or a new
		 * server's version 0 for our ID, and its ID for somebody who left. */
		if (!current || (state == WIRE_STATE_ID && event->number == WIRE_REGION))
			return explain_mixed(error, path, current);
		break;
	case WIRE_ERROR_STRAY_FD:
	case WIRE_ERROR_NONE:
	case WIRE_ERROR_NO_REGION_FD:
	case WIRE_ERROR_SECOND_REGION:
	case WIRE_ERROR_AFTER_DEATH:
	case WIRE_ERROR_COUNT:
		break;
	}
	explain(error,
		"the server on %s broke the protocol: %s (%" PRId64 "): is this an ivshmem server?",
		path, wire_error_text(event->error), event->number);
	return -EPROTO;
}

int client_explain_loss(struct client_error *error, const char *path, int err)
{
	switch (err) {
	case CLIENT_EOF:
	case -ECONNRESET:
		explain(error, "the server on %s hung up during the handshake: look at its log",
			path);
		return -ECONNRESET;
	case -ETIMEDOUT:
		explain(error,
			"the server on %s did not finish the handshake in time: is it stopped, "
			"or no ivshmem server?",
			path);
		break;
	case -EPROTO:
		explain(error, "the server on %s broke the protocol: is this an ivshmem server?",
			path);
		break;
	case -EMFILE:
		explain(error,
			"no descriptor free for what the server sends: raise RLIMIT_NOFILE "
			"(ulimit -n)");
		break;
	default:
		explain(error, "handshake with the server on %s: %s", path, strerror(-err));
		break;
	}
	return err;
}

static int explain_region(struct client_error *error, const char *path, int err)
{
	switch (err) {
	case -EFBIG:
		explain(error,
			"the region of the server on %s is larger than we may map: raise the "
			"limit (map_limit)",
			path);
		break;
	case -EINVAL:
		explain(error, "the server on %s sent something that is no shared memory", path);
		return -EPROTO;
	case -EACCES:
	case -EPERM:
		explain(error, "the server on %s lets us only read the region: open it read-only",
			path);
		break;
	default:
		explain(error, "cannot map the region of the server on %s: %s", path,
			strerror(-err));
		break;
	}
	return err;
}

/* One event of the handshake. Takes event->fd over. */
static int shake(struct client *client, const char *path, enum wire_state before,
	const struct wire_event *event, struct client_error *error)
{
	bool current = client->decoder.format.has_version;
	int err;

	if (event->type == WIRE_EVENT_ERROR) {
		if (event->fd >= 0)
			close(event->fd);
		return client_explain_event(error, path, current, before, event);
	}
	/* An old server has no reason to say this before the region; a new one has just told us its
	 * version and our ID. */
	if (event->type == WIRE_EVENT_PEER_LEFT && !current)
		return explain_mixed(error, path, current);
	err = client_handle(client, event);
	if (err == 0)
		return 0;
	return event->type == WIRE_EVENT_REGION ? explain_region(error, path, err)
						: client_explain_loss(error, path, err);
}

static int handshake(
	struct client *client, const char *path, uint64_t deadline, struct client_error *error)
{
	while (client->session.state != WIRE_STATE_RUN) {
		enum wire_state before = client->session.state;
		struct wire_event event;
		int got = client_next(client, &event);
		int err = 0;

		if (got > 0) {
			err = shake(client, path, before, &event, error);
			if (err < 0)
				return err;
			continue;
		}
		if (got == 0) {
			got = client_poll(client->sock, deadline);
			if (got == 0)
				got = -ETIMEDOUT;
		}
		if (got < 0 && got != -EINTR)
			return client_explain_loss(error, path, got);
	}
	return 0;
}

static void take_params(struct client *client, const struct ivshmem_params *params)
{
	if (params->listener)
		client->listener = *params->listener;
	client->data = params->data;
	client->max_peers = params->max_peers;
	client->max_vectors = params->max_vectors;
	client->max_fds = params->max_fds;
	client->map_limit = params->map_limit;
	client->read_only = params->read_only;
}

static int set_up_loop(struct client *client)
{
	client->max_events = 4;
	client->events = calloc(client->max_events, sizeof(*client->events));
	if (!client->events)
		return -ENOMEM;
	client->epoll = epoll_create1(EPOLL_CLOEXEC);
	return client->epoll < 0 ? -errno : 0;
}

static int watch_server(struct client *client)
{
	/* A socket is always writable. If there are peers to announce already, this makes the loop
	 * come to client_dispatch(), which then drops EPOLLOUT. */
	struct epoll_event event = {
		.events = EPOLLIN | (client->backlog ? EPOLLOUT : 0u), .data.u32 = SERVER_EVENT};
	return epoll_ctl(client->epoll, EPOLL_CTL_ADD, client->sock, &event) < 0 ? -errno : 0;
}

/* `sock`, which is ours, is the connection to the server that is called `name`. */
static int join(
	struct client *client, const char *name, uint64_t deadline, struct client_error *error)
{
	int err = set_up_loop(client);
	if (err < 0)
		return client_explain_loss(error, name, err);
	err = handshake(client, name, deadline, error);
	if (err < 0)
		return err;
	err = watch_server(client);
	return err < 0 ? client_explain_loss(error, name, err) : 0;
}

static int open_client(struct client *client, int sock, const char *name, uint64_t deadline,
	const struct ivshmem_params *params, struct client_error *error)
{
	const struct wire_format *format =
		params->protocol == IVSHMEM_PROTOCOL_PRE_2_5 ? &wire_pre_2_5 : &wire_current;

	client->sock = sock;
	client->epoll = client->region_fd = -1;
	take_params(client, params);
	wire_decoder_init(&client->decoder, format);
	wire_session_init(&client->session, format);
	int err = join(client, name, deadline, error);
	if (err < 0)
		client_close(client);
	return err;
}

int client_open(struct client *client, const char *path, const struct ivshmem_params *params,
	struct client_error *error)
{
	uint64_t deadline = deadline_after(params->timeout_ms);
	int sock = client_connect(path, deadline, error);
	return sock < 0 ? sock : open_client(client, sock, path, deadline, params, error);
}

int client_adopt(struct client *client, int sock, const char *name,
	const struct ivshmem_params *params, struct client_error *error)
{
	return open_client(client, sock, name, deadline_after(params->timeout_ms), params, error);
}
