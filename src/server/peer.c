/* SPDX-License-Identifier: MIT */
#include "server/internal.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct server_peer *peer_create(struct server *server, int sock)
{
	struct server_peer *peer = calloc(1, sizeof(*peer));
	if (!peer)
		return NULL;
	list_init(&peer->link);
	list_init(&peer->out_link);
	peer->sock = sock;
	peer->blocked_since = server->now;
	return peer;
}

int peer_unread(const struct server_peer *peer)
{
	int bytes = 0;
	return ioctl(peer->sock, SIOCOUTQ, &bytes) < 0 ? 0 : bytes;
}

/* When a peer that reads nothing from now on is stalled. */
uint64_t peer_deadline(const struct server *server, const struct server_peer *peer)
{
	uint64_t timeout = server->config.stall_timeout_ms;
	return timeout > 0 ? peer->blocked_since + timeout : UINT64_MAX;
}

void peer_set_output(struct server *server, struct server_peer *peer, enum output_state output)
{
	if (peer->output == output)
		return;
	bool was_blocked = peer->output == OUTPUT_BLOCKED;
	if (output == OUTPUT_BLOCKED || output == OUTPUT_STARVED)
		peer->unread = peer_unread(peer);
	peer->output = output;
	list_remove(&peer->out_link);
	switch (output) {
	case OUTPUT_IDLE:
		break;
	case OUTPUT_DIRTY:
		list_append(&server->dirty, &peer->out_link);
		break;
	case OUTPUT_BLOCKED:
		list_append(&server->blocked, &peer->out_link);
		if (peer_deadline(server, peer) < server->check_at)
			server->check_at = peer_deadline(server, peer);
		break;
	case OUTPUT_STARVED:
		list_append(&server->starved, &peer->out_link);
		break;
	}
	if (was_blocked || output == OUTPUT_BLOCKED)
		server->ops->want_write(server->data, peer, output == OUTPUT_BLOCKED);
}

static void doom(struct server *server, struct server_peer *peer, const char *why)
{
	peer->doom = why;
	server->doomed_peers = true;
}

void peer_announce(struct server *server, struct server_peer *peer, enum entry_kind kind,
	struct member *member, uint32_t messages)
{
	if (queue_reserve(&peer->queue, 1) < 0) {
		doom(server, peer, "no memory for what it must be told");
		return;
	}
	queue_push(&peer->queue, kind, member, messages);
	if (server->config.max_queue > 0 && !server->leaving &&
		peer->queue.messages > server->config.max_queue + peer->burst)
		doom(server, peer, "it does not read, its queue is over --max-queue");
	if (peer->output == OUTPUT_IDLE) {
		peer->blocked_since = server->now;
		peer->burst_begins = true;
		peer_set_output(server, peer, OUTPUT_DIRTY);
	}
}

static void say_left(struct server *server, const struct server_peer *peer, enum log_level level,
	const char *reason)
{
	unsigned held_back = 0;

	if (level >= LOG_LEVEL_INFO && server->log && server->log->level < LOG_LEVEL_DEBUG &&
		!log_allow(&server->log_limit, server->now, &held_back))
		return;
	if (held_back > 0)
		log_info(server->log, "(%u lines about peers held back)", held_back);
	log_line(server->log, level, "peer %u left: %s (%u peers)", peer->member->id, reason,
		server->stats.peers);
}

/*
 * Everybody else's queue is settled here and now; nothing is sent, so nothing can fail in a way
 * that calls us again. The memory lives until the end of server_run(): callers up the stack may
 * hold it.
 */
void peer_drop(struct server *server, struct server_peer *peer, enum log_level level,
	const char *format, ...)
{
	struct member *member = peer->member;
	char reason[160];
	va_list args;

	if (peer->sock < 0)
		return;
	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);

	server->stats.peers--;
	server->stats.leaves++;
	say_left(server, peer, level, reason);

	peer_set_output(server, peer, OUTPUT_IDLE);
	server->ops->left(server->data, peer);
	close(peer->sock);
	peer->sock = -1;
	list_remove(&peer->link);
	list_append(&server->dead, &peer->link);

	member->gone = true;
	server->stats.quarantined++;
	member->mentions++; /* keep it until we are through */
	queue_clear(&peer->queue, member_release, server);
	if (member->vectors > 0 && !server->leaving) {
		list_for_each (node, &server->peers) {
			struct server_peer *other = container_of(node, struct server_peer, link);
			if (!queue_cancel(&other->queue, member))
				peer_announce(server, other, ENTRY_LEAVE, member, 1);
		}
	}
	member->mentions--;
	member_release(server, member);
	peer->member = NULL;
}

void peer_destroy(struct server_peer *peer)
{
	list_remove(&peer->link);
	free(peer);
}

/* One way only: the protocol has nothing that a client could say. */
void server_peer_readable(struct server *server, struct server_peer *peer)
{
	char byte;
	ssize_t got = recv(peer->sock, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	if (got > 0)
		peer_drop(server, peer, LOG_LEVEL_WARNING,
			"it sent data, which this protocol does not have");
	else if (got == 0 || errno == ECONNRESET)
		peer_drop(server, peer, LOG_LEVEL_INFO, "connection closed");
	else if (errno != EAGAIN && errno != EINTR)
		peer_drop(server, peer, LOG_LEVEL_INFO, "connection broke: %m");
}

void server_peer_writable(struct server *server, struct server_peer *peer)
{
	if (peer->output != OUTPUT_BLOCKED)
		return;
	window_grow(peer);
	peer_set_output(server, peer, OUTPUT_DIRTY);
}

void server_peer_set_data(struct server_peer *peer, void *data)
{
	peer->data = data;
}

void *server_peer_data(const struct server_peer *peer)
{
	return peer->data;
}

unsigned server_peer_id(const struct server_peer *peer)
{
	return peer->member->id;
}
