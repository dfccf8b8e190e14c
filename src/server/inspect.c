/* SPDX-License-Identifier: MIT */
/* For who wants to see inside, or to take somebody out. */
#include "server/internal.h"
#include "server/kept_record.h"

#include <errno.h>

static struct server_peer *find(const struct server *server, uint64_t serial)
{
	list_for_each (node, &server->peers) {
		struct server_peer *peer = container_of(node, struct server_peer, link);
		if (peer->member->serial == serial)
			return peer;
	}
	return NULL;
}

int server_evict(struct server *server, uint64_t serial, const char *reason)
{
	struct server_peer *peer = find(server, serial);
	if (!peer)
		return -ENOENT;
	peer_evict(server, peer, "%s", reason);
	return 0;
}

void server_visit_vectors(
	const struct server *server, uint64_t serial, server_vectors_visitor *visit, void *data)
{
	list_for_each (node, &server->peers) {
		const struct member *member = container_of(node, struct server_peer, link)->member;
		if (member->serial > serial &&
			!visit(data, member->serial, member->id, member->fds, member->vectors))
			return;
	}
}

void server_get_stats(const struct server *server, struct server_stats *stats)
{
	*stats = server->stats;
}

void server_set_watcher(struct server *server, server_watcher *watcher, void *data)
{
	server->watcher = watcher;
	server->watcher_data = data;
}

void server_set_tap(struct server *server, server_tap *tap, void *data)
{
	server->tap = tap;
	server->tap_data = data;
}

void server_set_curious(struct server *server, bool curious)
{
	server->curious = curious;
}

static const char *state_of(const struct server_peer *peer)
{
	switch (peer->output) {
	case OUTPUT_IDLE:
		return "idle";
	case OUTPUT_DIRTY:
	case OUTPUT_DOOMED: /* for this moment only */
		return "sending";
	case OUTPUT_BLOCKED:
		return "blocked";
	case OUTPUT_STARVED:
		break;
	}
	return "starved";
}

static void remember(struct server *server, struct server_peer *peer)
{
	if (who_set(&peer->who, &server->identity) == 0)
		kept_identity(server, peer);
}

/* Who came while nobody asked is looked at now, and only once. */
static const struct identity *identify(struct server *server, struct server_peer *peer)
{
	if (!peer->who.texts && identity_of_socket(peer->sock, "/proc", &server->identity) == 0)
		remember(server, peer);
	who_get(&peer->who, &server->identity);
	return &server->identity;
}

void server_visit(struct server *server,
	bool (*visit)(void *data, const struct server_peer_info *info), void *data)
{
	server_visit_after(server, 0, visit, data);
}

void server_visit_after(struct server *server, uint64_t serial,
	bool (*visit)(void *data, const struct server_peer_info *info), void *data)
{
	list_for_each (node, &server->peers) {
		struct server_peer *peer = container_of(node, struct server_peer, link);
		if (peer->member->serial <= serial)
			continue;
		bool waits = peer->output == OUTPUT_BLOCKED || peer->output == OUTPUT_STARVED;
		const struct server_peer_info info = {
			.id = peer->member->id,
			.serial = peer->member->serial,
			.joined_ms = peer->joined_ms,
			.vectors = peer->member->vectors,
			.read_only = peer->read_only,
			.rule = peer->rule,
			.identity = identify(server, peer),
			.queued = peer->queue.messages,
			.sent = peer->sent,
			.unread = (unsigned)peer_unread(peer),
			.idle_ms = waits ? server->now - peer->blocked_since : 0,
			.descriptors = peer_descriptors(peer),
			.state = state_of(peer),
		};
		if (!visit(data, &info))
			return;
	}
}
