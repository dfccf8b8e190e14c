/* SPDX-License-Identifier: MIT */
#include "server/internal.h"
#include "server/kept_record.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
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
	list_init(&peer->waiting_link);
	peer->server = server;
	peer->sock = sock;
	peer->rule = -1;
	peer->dead_fd = -1;
	peer->blocked_since = server->now;
	return peer;
}

int peer_restrict(struct server_peer *peer, const struct policy_vectors *rings)
{
	peer->rings = malloc(sizeof(*peer->rings));
	if (!peer->rings)
		return -ENOMEM;
	*peer->rings = *rings;
	peer->dead_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return peer->dead_fd < 0 ? -errno : 0;
}

int peer_unread(const struct server_peer *peer)
{
	int bytes = 0;
	return ioctl(peer->sock, SIOCOUTQ, &bytes) < 0 ? 0 : bytes;
}

bool peer_reads_nothing(struct server_peer *peer, uint64_t now_ms)
{
	int unread = peer_unread(peer);
	bool nothing = unread > 0 && unread >= peer->unread;

	peer->unread = unread;
	if (!nothing)
		peer->blocked_since = now_ms;
	return nothing;
}

uint64_t peer_deadline(const struct server *server, const struct server_peer *peer)
{
	uint64_t timeout = server->config.stall_timeout_ms;
	if (peer_over_limit(server, peer) && (timeout == 0 || timeout > OVER_LIMIT_MS))
		timeout = OVER_LIMIT_MS;
	return timeout > 0 ? peer->blocked_since + timeout : UINT64_MAX;
}

void peer_set_output(struct server *server, struct server_peer *peer, enum output_state output)
{
	if (peer->output == output)
		return;
	bool was_blocked = peer->output == OUTPUT_BLOCKED;
	bool waits = output == OUTPUT_BLOCKED || output == OUTPUT_STARVED;
	if (waits)
		peer->unread = peer_unread(peer);
	user_waits(server->users, peer, waits);
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
	case OUTPUT_DOOMED:
		list_append(&server->doomed, &peer->out_link);
		break;
	}
	if (was_blocked || output == OUTPUT_BLOCKED)
		server->ops->want_write(server->data, peer, output == OUTPUT_BLOCKED);
}

bool peer_over_limit(const struct server *server, const struct server_peer *peer)
{
	return server->config.max_queue > 0 && !server->leaving &&
		peer->queue.messages > server->config.max_queue + peer->burst;
}

void peer_announce(struct server *server, struct server_peer *peer, enum entry_kind kind,
	struct member *member, uint32_t messages)
{
	if (peer->output == OUTPUT_DOOMED)
		return;
	if (queue_reserve(&peer->queue, 1) < 0) {
		peer_set_output(server, peer, OUTPUT_DOOMED);
		return;
	}
	queue_push(&peer->queue, kind, member, messages);
	if (peer->output == OUTPUT_IDLE) {
		peer->blocked_since = server->now;
		peer->burst_begins = true;
		peer_set_output(server, peer, OUTPUT_DIRTY);
	} else if (peer_deadline(server, peer) < server->check_at) {
		server->check_at = peer_deadline(server, peer); /* over --max-queue now */
	}
}

void server_say(struct server *server, uid_t uid, enum log_level level, const char *format, ...)
{
	struct users_log *log = users_log(server->users);
	struct log_limits *limits = level <= LOG_LEVEL_WARNING ? &log->trouble : &log->news;
	unsigned held_back = 0;
	char line[512];
	va_list args;

	if (server->log && server->log->level < LOG_LEVEL_DEBUG &&
		!log_allow_user(limits, uid, log->now, &held_back))
		return;
	if (held_back > 0)
		log_info(server->log, "(%u lines about peers held back)", held_back);
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	log_line(server->log, level, "%s", line);
}

void server_tell(struct server *server, enum server_event event, const struct server_peer *peer,
	const char *reason)
{
	if (!server->watcher)
		return;
	server->watcher(server->watcher_data,
		&(struct server_news){.event = event,
			.serial = peer ? peer->member->serial : 0,
			.id = peer ? peer->member->id : -1,
			.identity = &server->identity,
			.reason = reason,
			.fds = peer ? peer->member->fds : NULL,
			.vectors = peer ? peer->member->vectors : 0});
}

/*
 * A peer leaves. Nothing is sent and nobody else is touched here, so this can be called from
 * anywhere; the memory lives until the end of server_run(), because callers may hold it.
 */
static void drop(
	struct server *server, struct server_peer *peer, enum log_level level, const char *reason)
{
	struct member *member = peer->member;

	server->stats.peers--;
	server_say(server, peer->who.uid, level, "peer %u left: %s (%u peers)", member->id, reason,
		server->stats.peers);
	if (server->watcher)
		who_get(&peer->who, &server->identity);
	server_tell(server, SERVER_LEFT, peer, reason);

	peer_set_output(server, peer, OUTPUT_IDLE);
	if (peer->watched)
		server->ops->left(server->data, peer);
	server->stats.leaves++;
	member->left_at = server_sequence(server);
	kept_left(server, peer); /* before anything is let go that it was still to be told */
	close(peer->sock);
	peer->sock = -1;
	list_remove(&peer->link);
	list_append(&server->dead, &peer->link);

	member->gone = true;
	server->stats.quarantined++;
	member->mentions++; /* released by server_settle_departures() */
	list_append(&server->departed, &member->link);
	queue_clear(&peer->queue, member_release, server);
	user_leave(peer);
	peer->member = NULL;
}

void peer_drop(struct server *server, struct server_peer *peer, enum log_level level,
	const char *format, ...)
{
	char reason[160];
	va_list args;

	if (peer->sock < 0)
		return;
	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	drop(server, peer, level, reason);
}

void peer_evict(struct server *server, struct server_peer *peer, const char *format, ...)
{
	char reason[160] = "evicted: ";
	size_t used = strlen(reason);
	va_list args;

	if (peer->sock < 0)
		return;
	va_start(args, format);
	vsnprintf(reason + used, sizeof(reason) - used, format, args);
	va_end(args);
	server->stats.evictions++;
	drop(server, peer, LOG_LEVEL_WARNING, reason);
}

/*
 * Those who left together are settled together: one pass over each queue, not one for each of them,
 * or the end of a process with thousands of connections would hold everybody up.
 */
void server_settle_departures(struct server *server)
{
	bool tell = !server->leaving && server->config.vectors > 0;
	bool queued = false;

	list_for_each (node, &server->departed)
		queued |= container_of(node, struct member, link)->connects > 0;
	if (tell && !list_empty(&server->departed)) {
		list_for_each (node, &server->peers) {
			struct server_peer *peer = container_of(node, struct server_peer, link);
			server->pass++;
			if (queued)
				queue_cancel_gone(&peer->queue, server->pass);
			list_for_each (at, &server->departed) {
				struct member *member = container_of(at, struct member, link);
				if (member->pass != server->pass)
					peer_announce(server, peer, ENTRY_LEAVE, member, 1);
			}
		}
	}
	list_for_each_safe (node, &server->departed) {
		struct member *member = container_of(node, struct member, link);
		list_remove(&member->link);
		member->mentions--;
		member_release(server, member);
	}
}

void peer_destroy(struct server_peer *peer)
{
	list_remove(&peer->link);
	user_leave(peer);
	if (peer->dead_fd >= 0)
		close(peer->dead_fd);
	who_fini(&peer->who);
	free(peer->rings);
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
