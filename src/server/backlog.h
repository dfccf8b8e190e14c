/* SPDX-License-Identifier: MIT */
/*
 * backlog - what waits for the peers of a server, in numbers: for whoever looks often and must not
 * hold anybody up. server_visit() tells more, and asks the kernel about each peer for it.
 */
#ifndef SERVER_BACKLOG_H
#define SERVER_BACKLOG_H

#include "server/server.h"

struct server_backlog {
	uint64_t queued;    /* messages that wait, for all peers together */
	unsigned waiting;   /* peers that they wait for */
	uint64_t oldest_ms; /* for so long one of them has taken nothing; 0: none waits */
};

/* Looks only at peers for which something waits. The time is server_run()'s. */
void server_get_backlog(
	const struct server *server, uint64_t now_ms, struct server_backlog *backlog);

/* One peer. */
struct server_load {
	uint64_t serial; /* of its connection */
	uint64_t joined; /* position in the order of joining, to go on from */
	int id;
	uid_t uid;
	uint64_t queued, sent; /* messages */
	uint64_t waiting_ms;   /* as server_backlog.oldest_ms */
	unsigned descriptors;  /* that it costs the server */
};

/* Up to `max` peers that have joined after `joined` (0: from the first on), in that order. Returns
 * how many there are. */
unsigned server_get_loads(const struct server *server, uint64_t now_ms, uint64_t joined,
	struct server_load *loads, unsigned max);

#endif
