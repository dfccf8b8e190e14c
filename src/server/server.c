/* SPDX-License-Identifier: MIT */
#include "server/server.h"

#include "server/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOG_BURST      100 /* lines about joins and leaves before they are held back */
#define RETRY_FIRST_MS 1
#define RETRY_LAST_MS  50

int server_create(struct server **out, const struct server_config *config, int region_fd,
	const struct server_ops *ops, void *data, struct log *log)
{
	struct server *server = calloc(1, sizeof(*server));
	if (!server)
		return -ENOMEM;
	server->config = *config;
	server->ops = ops;
	server->data = data;
	server->log = log;
	server->news_limit = (struct log_limit)LOG_LIMIT_INIT(LOG_BURST);
	server->trouble_limit = (struct log_limit)LOG_LIMIT_INIT(LOG_BURST);
	server->starved_limit = (struct log_limit)LOG_LIMIT_INIT(3);
	server->region_fd = region_fd;
	server->check_at = UINT64_MAX;
	list_init(&server->peers);
	list_init(&server->dead);
	list_init(&server->dirty);
	list_init(&server->blocked);
	list_init(&server->starved);
	list_init(&server->doomed);
	list_init(&server->departed);
	server->batch = fdpass_batch_create();
	if (!server->batch || ids_init(&server->ids) < 0) {
		fdpass_batch_destroy(server->batch);
		free(server);
		return -ENOMEM;
	}
	*out = server;
	return 0;
}

static void bury_dead(struct server *server)
{
	list_for_each_safe (node, &server->dead)
		peer_destroy(container_of(node, struct server_peer, link));
}

void server_destroy(struct server *server)
{
	if (!server)
		return;
	server->leaving = true; /* nobody is told: queues are dropped as their owners go */
	server->log = NULL;
	while (!list_empty(&server->peers))
		peer_drop(server, container_of(server->peers.next, struct server_peer, link),
			LOG_LEVEL_INFO, "server ends");
	server_settle_departures(server);
	bury_dead(server);
	free(server->farewell);
	ids_fini(&server->ids);
	fdpass_batch_destroy(server->batch);
	free(server);
}

/*
 * Admission
 */

/* The client must refuse a version that it does not know; QEMU hangs if we merely close. */
static int refuse(
	struct server *server, int sock, const struct ucred *who, enum wire_refusal why, int error)
{
	if (server->config.format->has_version) {
		uint8_t bytes[WIRE_WIDTH_MAX];
		size_t size = wire_encode(server->config.format, why, bytes);
		(void)fdpass_send(sock, bytes, size, -1);
	}
	close(sock);
	server->stats.refusals++;
	server_say(server, LOG_LEVEL_WARNING, "refused pid %d, uid %u: %s", (int)who->pid,
		(unsigned)who->uid,
		server->leaving                        ? "the server is ending"
			: why == WIRE_REFUSAL_FULL     ? "full (--max-peers)"
			: why == WIRE_REFUSAL_UID_FULL ? "full for this user (--max-peers-per-uid)"
						       : "out of memory or descriptors");
	return error;
}

static unsigned peers_of_uid(const struct server *server, uid_t uid)
{
	unsigned n = 0;
	list_for_each (node, &server->peers)
		n += container_of(node, struct server_peer, link)->uid == uid;
	return n;
}

/* Everything that can fail on the way in; nobody has been told yet. */
static int prepare(struct server *server, struct server_peer *peer)
{
	unsigned vectors = server->config.vectors;
	int id = ids_take(&server->ids);
	if (id < 0)
		return id;
	peer->member = member_create((uint16_t)id, vectors);
	if (!peer->member) {
		int error = -errno;
		ids_untake(&server->ids, (uint16_t)id);
		return error;
	}

	int error = queue_reserve(&peer->queue, server->stats.peers + 2);
	list_for_each (node, &server->peers) {
		struct server_peer *other = container_of(node, struct server_peer, link);
		if (error == 0)
			error = queue_reserve(&other->queue, 1);
	}
	if (error == 0 && !server->ops->joined(server->data, peer, peer->sock))
		error = -ENOMEM;
	return error;
}

static void unprepare(struct server *server, struct server_peer *peer)
{
	queue_clear(&peer->queue, member_release, server);
	if (peer->member) {
		ids_untake(&server->ids, peer->member->id);
		member_destroy(peer->member);
	}
	free(peer);
}

static void announce(struct server *server, struct server_peer *peer)
{
	struct member *member = peer->member;
	uint32_t vectors = member->vectors;

	queue_push(&peer->queue, ENTRY_HELLO, NULL, server->config.format->has_version ? 3 : 2);
	if (vectors > 0) {
		list_for_each (node, &server->peers) {
			struct server_peer *other = container_of(node, struct server_peer, link);
			peer_announce(server, other, ENTRY_CONNECT, member, vectors);
			queue_push(&peer->queue, ENTRY_CONNECT, other->member, vectors);
		}
		queue_push(&peer->queue, ENTRY_CONNECT, member, vectors);
	}
	peer->burst = peer->queue.messages;
	list_append(&server->peers, &peer->link);
	server->stats.peers++;
	server->stats.joins++;
	peer->burst_begins = true;
	peer_set_output(server, peer, OUTPUT_DIRTY);
}

int server_admit(struct server *server, int sock)
{
	struct ucred cred = {.uid = (uid_t)-1};
	socklen_t size = sizeof(cred);
	const int on = 1;

	server_settle_departures(server); /* before somebody comes whom they do not concern */
	(void)getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &size);
	/* Else a byte sent out of band would make the socket readable with nothing to read. */
	(void)setsockopt(sock, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	if (server->leaving || server->stats.peers >= server->config.max_peers)
		return refuse(server, sock, &cred, WIRE_REFUSAL_FULL, -EUSERS);
	unsigned per_uid = server->config.max_peers_per_uid;
	if (per_uid > 0 && peers_of_uid(server, cred.uid) >= per_uid)
		return refuse(server, sock, &cred, WIRE_REFUSAL_UID_FULL, -EUSERS);

	struct server_peer *peer = peer_create(server, sock);
	if (!peer)
		return refuse(server, sock, &cred, WIRE_REFUSAL_RESOURCES, -ENOMEM);
	peer->uid = cred.uid;
	peer->pid = cred.pid;
	int error = prepare(server, peer);
	if (error < 0) {
		unprepare(server, peer);
		return refuse(server, sock, &cred,
			error == -ENOSPC ? WIRE_REFUSAL_FULL : WIRE_REFUSAL_RESOURCES, error);
	}
	announce(server, peer);

	server_say(server, LOG_LEVEL_INFO, "peer %u joined (pid %d, uid %u, %u peers)",
		peer->member->id, (int)cred.pid, (unsigned)cred.uid, server->stats.peers);
	return 0;
}

/*
 * Running
 */

static void drop_doomed(struct server *server)
{
	while (!list_empty(&server->doomed)) {
		struct server_peer *peer =
			container_of(server->doomed.next, struct server_peer, out_link);
		server->stats.evictions++;
		peer_drop(server, peer, LOG_LEVEL_WARNING,
			"evicted: no memory for what it must be told");
	}
}

/*
 * A peer's time is up; has it read nothing? POLLOUT comes only when three quarters are read, so a
 * slow reader is told from a sleeper by what is left in its socket. And who has nothing to read
 * waits for the kernel, not for itself.
 */
static bool is_stalled(const struct server *server, struct server_peer *peer)
{
	if (server->now < peer_deadline(server, peer))
		return false;
	int unread = peer_unread(peer);
	bool stalled = unread > 0 && unread >= peer->unread;
	peer->unread = unread;
	if (!stalled)
		peer->blocked_since = server->now;
	return stalled;
}

static void evict_stalled(struct server *server, struct server_peer *peer)
{
	server->stats.evictions++;
	peer_drop(server, peer, LOG_LEVEL_WARNING,
		"evicted: it has read nothing for %llu ms, %llu messages wait (%s)",
		(unsigned long long)(server->now - peer->blocked_since),
		(unsigned long long)peer->queue.messages,
		peer_over_limit(server, peer) ? "--max-queue" : "--stall-timeout");
}

static void check_blocked(struct server *server)
{
	if (server->now < server->check_at)
		return;
	server->check_at = UINT64_MAX;
	list_for_each_safe (node, &server->blocked) {
		struct server_peer *peer = container_of(node, struct server_peer, out_link);
		if (is_stalled(server, peer))
			evict_stalled(server, peer);
		else if (peer_deadline(server, peer) < server->check_at)
			server->check_at = peer_deadline(server, peer);
	}
}

static void retry_starved(struct server *server)
{
	if (list_empty(&server->starved) || server->now < server->retry_at)
		return;
	list_for_each_safe (node, &server->starved) {
		struct server_peer *peer = container_of(node, struct server_peer, out_link);
		if (is_stalled(server, peer))
			evict_stalled(server, peer);
		else
			peer_set_output(server, peer, OUTPUT_DIRTY);
	}
}

static void flush_dirty(struct server *server)
{
	while (!list_empty(&server->dirty))
		peer_flush(server, container_of(server->dirty.next, struct server_peer, out_link));
}

static void plan_retry(struct server *server)
{
	if (list_empty(&server->starved) || server->retry_at > server->now)
		return;
	server->retry_delay = server->retry_delay == 0 ? RETRY_FIRST_MS : server->retry_delay * 2;
	if (server->retry_delay > RETRY_LAST_MS)
		server->retry_delay = RETRY_LAST_MS;
	server->retry_at = server->now + server->retry_delay;
}

static uint64_t next_due(const struct server *server)
{
	uint64_t next = list_empty(&server->blocked) ? UINT64_MAX : server->check_at;
	if (!list_empty(&server->starved) && server->retry_at < next)
		next = server->retry_at;
	return next;
}

int server_run(struct server *server, uint64_t now_ms)
{
	server->now = now_ms;
	retry_starved(server);
	do {
		server_settle_departures(server);
		flush_dirty(server);
		drop_doomed(server);
		check_blocked(server);
	} while (!list_empty(&server->dirty) || !list_empty(&server->departed));
	bury_dead(server);
	plan_retry(server);

	uint64_t next = next_due(server);
	if (next == UINT64_MAX)
		return -1;
	uint64_t wait = next > now_ms ? next - now_ms : 0;
	return wait > INT32_MAX ? INT32_MAX : (int)wait;
}

/*
 * The end
 */

void server_farewell(struct server *server)
{
	uint32_t n = server->stats.peers;

	server->leaving = true;
	if (server->farewell || server->config.vectors == 0 || n < 2)
		return;
	server->farewell = calloc(n, sizeof(*server->farewell));
	if (!server->farewell)
		return; /* they will see the end of the stream, as after a crash */
	uint32_t i = 0;
	list_for_each (node, &server->peers) {
		struct server_peer *peer = container_of(node, struct server_peer, link);
		peer->position = i;
		server->farewell[i++] = peer->member->id;
	}
	list_for_each (node, &server->peers)
		peer_announce(server, container_of(node, struct server_peer, link), ENTRY_FAREWELL,
			NULL, n - 1);
}

bool server_flushed(const struct server *server)
{
	return list_empty(&server->dirty) && list_empty(&server->blocked) &&
		list_empty(&server->starved) && list_empty(&server->departed);
}

void server_get_stats(const struct server *server, struct server_stats *stats)
{
	*stats = server->stats;
}
