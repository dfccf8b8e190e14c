/* SPDX-License-Identifier: MIT */
#include "server/backlog.h"

#include "server/internal.h"

/* For so long it has taken nothing although something waits. */
static uint64_t waiting_ms(const struct server_peer *peer, uint64_t now_ms)
{
	bool waits = peer->output == OUTPUT_BLOCKED || peer->output == OUTPUT_STARVED;
	return waits && now_ms > peer->blocked_since ? now_ms - peer->blocked_since : 0;
}

static void add_list(const struct list *peers, uint64_t now_ms, struct server_backlog *backlog)
{
	list_for_each (node, peers) {
		const struct server_peer *peer = container_of(node, struct server_peer, out_link);
		uint64_t waiting = waiting_ms(peer, now_ms);
		backlog->queued += peer->queue.messages;
		backlog->waiting++;
		if (waiting > backlog->oldest_ms)
			backlog->oldest_ms = waiting;
	}
}

void server_get_backlog(
	const struct server *server, uint64_t now_ms, struct server_backlog *backlog)
{
	*backlog = (struct server_backlog){0};
	add_list(&server->dirty, now_ms, backlog);
	add_list(&server->blocked, now_ms, backlog);
	add_list(&server->starved, now_ms, backlog);
}

unsigned server_get_loads(const struct server *server, uint64_t now_ms, uint64_t joined,
	struct server_load *loads, unsigned max)
{
	unsigned n = 0;

	list_for_each (node, &server->peers) {
		const struct server_peer *peer = container_of(node, struct server_peer, link);
		if (peer->joined_at <= joined)
			continue;
		if (n == max)
			break;
		loads[n++] = (struct server_load){
			.serial = peer->member->serial,
			.joined = peer->joined_at,
			.id = peer->member->id,
			.uid = peer->who.uid,
			.queued = peer->queue.messages,
			.sent = peer->sent,
			.waiting_ms = waiting_ms(peer, now_ms),
			.descriptors = peer_descriptors(peer),
		};
	}
	return n;
}
