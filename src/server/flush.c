/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Announcements are queued while events are handled and sent when server_run() comes, so that the
 * joins of one batch of events reach an existing peer in one system call. An entry is expanded to
 * messages as they go into the batch; nothing is copied into a buffer of the peer's own. A message
 * is never dropped: if the socket is full the peer waits for POLLOUT, and if the kernel is short of
 * something else (ENOBUFS, ENOMEM, ETOOMANYREFS: no POLLOUT will come for these) it is retried by
 * the clock. ETOOMANYREFS is kept rare by window.c.
 */
#include "server/internal.h"
#include "server/kept_record.h"

#include <errno.h>

/* The descriptor by which `peer` may ring a vector of `member`, or one that rings nobody: it counts
 * the vectors, so none may be left out. */
static int doorbell_for(
	const struct server_peer *peer, const struct member *member, unsigned vector)
{
	bool may =
		!peer->rings || member == peer->member || policy_vectors_has(peer->rings, vector);
	return may ? member->fds[vector] : peer->dead_fd;
}

/* Number and descriptor of message `i` of an entry. */
static int64_t entry_message(const struct server *server, const struct server_peer *peer,
	const struct entry *entry, uint32_t i, int *fd)
{
	*fd = -1;
	switch (entry->kind) {
	case ENTRY_HELLO:
		/* Counted from the end: the generation before 2.5 has no version message. */
		if (entry->messages - i == 3)
			return WIRE_VERSION;
		if (entry->messages - i == 2)
			return peer->member->id;
		*fd = peer->read_only ? server->read_only_fd : server->region_fd;
		return WIRE_REGION;
	case ENTRY_CONNECT:
		*fd = doorbell_for(peer, entry->member, i);
		return entry->member->id;
	case ENTRY_LEAVE:
		return entry->member->id;
	case ENTRY_FAREWELL:
		return server->farewell[i < peer->position ? i : i + 1];
	case ENTRY_CANCELLED:
		break;
	}
	return 0;
}

static void fill_batch(struct server *server, const struct server_peer *peer)
{
	const struct queue *queue = &peer->queue;
	uint32_t message = queue->done;
	uint32_t offset = queue->offset;

	fdpass_batch_reset(server->batch);
	for (uint32_t i = 0; i < queue->count; i++, message = 0) {
		const struct entry *entry = queue_at(queue, i);
		for (; message < entry->messages; message++) {
			uint8_t bytes[WIRE_WIDTH_MAX];
			int fd;
			int64_t number = entry_message(server, peer, entry, message, &fd);
			size_t size = wire_encode(server->config.format, number, bytes);
			if (server->kept)
				kept_message(server, fdpass_batch_count(server->batch), entry,
					message, offset);
			fdpass_batch_add(
				server->batch, bytes + offset, size - offset, offset > 0 ? -1 : fd);
			offset = 0;
			if (fdpass_batch_count(server->batch) == FDPASS_BATCH)
				return;
		}
	}
}

static void tap_message(const struct server *server, const struct server_peer *peer,
	const struct entry *entry, uint32_t i)
{
	int fd;
	struct server_message message = {
		.kind = SERVER_SENT_LEAVE,
		.fd = SERVER_NO_FD,
		.serial = peer->member->serial,
		.id = peer->member->id,
		.number = entry_message(server, peer, entry, i, &fd),
		.vector = -1,
	};
	if (entry->kind == ENTRY_CONNECT) {
		message.kind = SERVER_SENT_CONNECT;
		message.fd = fd == peer->dead_fd ? SERVER_FD_DEAD_DOORBELL : SERVER_FD_DOORBELL;
		message.vector = (int)i;
	} else if (entry->kind == ENTRY_HELLO && fd >= 0) {
		message.kind = SERVER_SENT_REGION;
		message.fd = peer->read_only ? SERVER_FD_MEMORY_READ_ONLY : SERVER_FD_MEMORY;
	} else if (entry->kind == ENTRY_HELLO) {
		message.kind = entry->messages - i == 3 ? SERVER_SENT_VERSION : SERVER_SENT_ID;
	}
	server->tap(server->tap_data, &message);
}

/* The first `sent` messages of the queue have gone out. */
static void tap(const struct server *server, const struct server_peer *peer, unsigned sent)
{
	const struct queue *queue = &peer->queue;
	uint32_t message = queue->done;

	for (uint32_t i = 0; sent > 0 && i < queue->count; i++, message = 0) {
		const struct entry *entry = queue_at(queue, i);
		for (; sent > 0 && message < entry->messages; message++, sent--)
			tap_message(server, peer, entry, message);
	}
}

static void say_starved(struct server *server, int error)
{
	unsigned held_back = 0;

	if (!log_allow(&server->starved_limit, server->now, &held_back))
		return;
	if (held_back > 0)
		log_info(server->log, "(%u lines about shortage held back)", held_back);
	log_warning(server->log,
		error == -ETOOMANYREFS
			? "peers that do not read hold as many descriptors as RLIMIT_NOFILE allows "
			  "in flight; others wait (raise it, or grant CAP_SYS_RESOURCE)"
			: "the kernel is short of memory for sockets; waiting");
}

static void send_failed(struct server *server, struct server_peer *peer, int error)
{
	switch (error) {
	case -EAGAIN:
		peer_set_output(server, peer, OUTPUT_BLOCKED);
		break;
	case -ETOOMANYREFS:
	case -ENOBUFS:
	case -ENOMEM:
		if (list_empty(&server->starved))
			say_starved(server, error);
		peer_set_output(server, peer, OUTPUT_STARVED);
		break;
	case -EPIPE:
	case -ECONNRESET:
		peer_drop(server, peer, LOG_LEVEL_INFO, "connection closed");
		break;
	default:
		errno = -error;
		peer_drop(server, peer, LOG_LEVEL_WARNING, "sending failed: %m");
	}
}

void peer_flush(struct server *server, struct server_peer *peer)
{
	if (peer->burst_begins) {
		window_start(server, peer);
		peer->blocked_since = server->now; /* the queue began to fill by an older clock */
	}
	peer->burst_begins = false;
	while (peer->queue.messages > 0) {
		size_t partial;
		fill_batch(server, peer);
		kept_sending(server, peer, fdpass_batch_count(server->batch));
		int sent = fdpass_batch_send(server->batch, peer->sock, &partial);
		kept_sent(server, peer);
		if (sent < 0) {
			send_failed(server, peer, sent);
			return;
		}
		server->stats.messages += (unsigned)sent;
		peer->sent += (unsigned)sent;
		peer->burst -= (unsigned)sent < peer->burst ? (unsigned)sent : peer->burst;
		peer->blocked_since = server->now;
		server->retry_delay = 0;
		if (server->tap)
			tap(server, peer, (unsigned)sent);
		queue_advance(
			&peer->queue, (uint32_t)sent, (uint32_t)partial, member_release, server);
	}
	queue_advance(
		&peer->queue, 0, 0, member_release, server); /* what was cancelled at the end */
	peer_set_output(server, peer, OUTPUT_IDLE);
}
