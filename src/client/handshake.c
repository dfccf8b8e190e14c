/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * connect() to a Unix socket either happens at once, or has to wait while the server's backlog is
 * full: when a hundred peers start together, that is the rule. A non-blocking connect() says EAGAIN
 * then and cannot be polled for, so one would have to sleep and try again. A blocking one with
 * SO_SNDTIMEO set is woken by the kernel as soon as there is room, and gives up in time.
 *
 * A server that is not there is reported, not waited for: only the caller knows whether one is to
 * be expected. The errors of this file are what users meet first, so each says what to do next.
 */
#include "client/client.h"
#include "client/internal.h"
#include "region/region.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define explain(error, ...) snprintf((error)->text, sizeof((error)->text), __VA_ARGS__)

static int explain_connect(struct client_error *error, const char *path, int err)
{
	struct stat st;

	switch (err) {
	case -ENOENT:
		explain(error, "no server listens on %s: start one with: ivshmem-server -F -S %s",
			path, path);
		break;
	case -ECONNREFUSED:
		if (stat(path, &st) == 0 && !S_ISSOCK(st.st_mode)) {
			explain(error, "%s is no socket: give the path of an ivshmem server", path);
			break;
		}
		explain(error,
			"nobody listens on %s any more: start a server: ivshmem-server -F -S %s",
			path, path);
		break;
	case -EACCES:
		explain(error,
			"no permission to connect to %s: be its owner, or start the server with "
			"--socket-mode or --socket-owner",
			path);
		break;
	case -EPROTOTYPE:
		explain(error, "%s is another kind of socket: give the path of an ivshmem server",
			path);
		break;
	case -ETIMEDOUT:
		explain(error, "the server on %s does not accept connections: is it stopped?",
			path);
		break;
	default:
		explain(error, "cannot connect to %s: %s", path, strerror(-err));
		break;
	}
	return err;
}

static int connect_to(struct client *client, const char *path, uint64_t deadline)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	memcpy(address.sun_path, path, strlen(path) + 1);

	client->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->sock < 0)
		return -errno;
	for (;;) {
		int left = deadline_left(deadline);
		if (left == 0)
			return -ETIMEDOUT;
		if (left > 0) {
			struct timeval limit = {.tv_sec = left / 1000};
			limit.tv_usec = (suseconds_t)(left % 1000) * 1000;
			if (setsockopt(client->sock, SOL_SOCKET, SO_SNDTIMEO, &limit,
				    sizeof(limit)) < 0)
				return -errno;
		}
		if (connect(client->sock, (struct sockaddr *)&address, sizeof(address)) == 0)
			return 0;
		if (errno != EINTR && errno != EAGAIN)
			return -errno;
	}
}

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

static int explain_event(struct client_error *error, const char *path, bool current,
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

static int explain_loss(struct client_error *error, const char *path, int err)
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
		return explain_event(error, path, current, before, event);
	}
	/* An old server has no reason to say this before the region; a new one has just told us its
	 * version and our ID. */
	if (event->type == WIRE_EVENT_PEER_LEFT && !current)
		return explain_mixed(error, path, current);
	err = client_handle(client, event);
	if (err == 0)
		return 0;
	return event->type == WIRE_EVENT_REGION ? explain_region(error, path, err)
						: explain_loss(error, path, err);
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
			return explain_loss(error, path, got);
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

int client_open(struct client *client, const char *path, const struct ivshmem_params *params,
	struct client_error *error)
{
	const struct wire_format *format =
		params->protocol == IVSHMEM_PROTOCOL_PRE_2_5 ? &wire_pre_2_5 : &wire_current;
	uint64_t deadline = deadline_after(params->timeout_ms);
	int err;

	client->sock = client->epoll = client->region_fd = -1;
	take_params(client, params);
	wire_decoder_init(&client->decoder, format);
	wire_session_init(&client->session, format);

	if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
		explain(error,
			"socket path of %zu bytes: at most %zu are possible, use a shorter one",
			strlen(path), sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
		return -ENAMETOOLONG;
	}
	err = set_up_loop(client);
	if (err < 0) {
		explain_loss(error, path, err);
		goto fail;
	}
	err = connect_to(client, path, deadline);
	if (err < 0) {
		explain_connect(error, path, err);
		goto fail;
	}
	err = handshake(client, path, deadline, error);
	if (err < 0)
		goto fail;
	err = watch_server(client);
	if (err < 0) {
		explain_loss(error, path, err);
		goto fail;
	}
	return 0;

fail:
	client_close(client);
	return err;
}
