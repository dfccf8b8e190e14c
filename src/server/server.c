/* SPDX-License-Identifier: MIT */
#include "server/server.h"

#include "server/internal.h"
#include "server/kept_record.h"

#include <errno.h>
#include <stdlib.h>

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
	server->starved_limit = (struct log_limit)LOG_LIMIT_EVERY(3, 60000);
	server->region_fd = region_fd;
	server->read_only_fd = -1;
	server->check_at = UINT64_MAX;
	list_init(&server->peers);
	list_init(&server->dead);
	list_init(&server->dirty);
	list_init(&server->blocked);
	list_init(&server->starved);
	list_init(&server->doomed);
	list_init(&server->departed);
	server->batch = fdpass_batch_create();
	server->left_at = calloc(IDS_COUNT, sizeof(*server->left_at));
	server->own_users = !config->users;
	server->users = config->users ? config->users : users_create();
	if (!server->batch || !server->left_at || !server->users || ids_init(&server->ids) < 0) {
		if (server->own_users)
			users_destroy(server->users);
		free(server->left_at);
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
	if (!server->leaving)
		kept_detach(server); /* for the next process: what is kept knows of no end */
	server->leaving = true;      /* nobody is told: queues are dropped as their owners go */
	server->log = NULL;
	server->watcher = NULL;
	while (!list_empty(&server->peers))
		peer_drop(server, container_of(server->peers.next, struct server_peer, link),
			LOG_LEVEL_INFO, "server ends");
	server_settle_departures(server);
	bury_dead(server);
	free(server->farewell);
	kept_detach(server);
	free(server->left_at);
	ids_fini(&server->ids);
	fdpass_batch_destroy(server->batch);
	if (server->own_users)
		users_destroy(server->users);
	free(server);
}

/*
 * Running
 */

static void drop_doomed(struct server *server)
{
	while (!list_empty(&server->doomed)) {
		struct server_peer *peer =
			container_of(server->doomed.next, struct server_peer, out_link);
		peer_evict(server, peer, "no memory for what it must be told");
	}
}

static bool is_stalled(const struct server *server, struct server_peer *peer)
{
	return server->now >= peer_deadline(server, peer) && peer_reads_nothing(peer, server->now);
}

static void evict_stalled(struct server *server, struct server_peer *peer)
{
	peer_evict(server, peer, "it has read nothing for %llu ms, %llu messages wait (%s)",
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

/* Time has gone by without anybody to count it: who has read nothing begins anew. */
static void see_the_clock(struct server *server)
{
	list_for_each (node, &server->peers)
		container_of(node, struct server_peer, link)->blocked_since = server->now;
	server->resumed = false;
}

int server_run(struct server *server, uint64_t now_ms)
{
	server->now = now_ms;
	users_set_time(server->users, now_ms);
	if (server->resumed)
		see_the_clock(server);
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
	kept_ending(server);
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
