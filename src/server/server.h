/* SPDX-License-Identifier: MIT */
/*
 * server - IDs, peers, output queues, limits, admission, counters. The whole behaviour of an
 * ivshmem server without an event loop, a listening socket or a command line: those are
 * tools/server.
 *
 * Rules: docs/protocol.md, section 2.8. One thread.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "base/log.h"
#include "wire/wire.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct server;
struct server_peer;

struct server_config {
	const struct wire_format *format; /* generation of the protocol */
	unsigned vectors;                 /* per peer, 0..2048 */
	unsigned max_peers;               /* 1..65536 */
	unsigned max_peers_per_uid;       /* 0: no limit */
	uint64_t max_queue;        /* messages for one peer beyond its own join; 0: no limit */
	uint64_t stall_timeout_ms; /* a peer whose queue does not move for so long goes; 0: never */
	uint64_t in_flight_limit;  /* descriptors in flight that the kernel allows this user;
				      UINT64_MAX: it does not limit us */
};

/* How the server asks its loop to watch sockets. None of these may call back into the server. */
struct server_ops {
	/* A peer is in; watch `sock` for reading and hang-up. False: can't, drop it again. */
	bool (*joined)(void *data, struct server_peer *peer, int sock);
	/* Watch for writing too, or no longer. */
	void (*want_write)(void *data, struct server_peer *peer, bool on);
	/* The peer is gone: stop watching. Its socket is closed when this returns. */
	void (*left)(void *data, struct server_peer *peer);
};

struct server_stats {
	uint64_t joins, evictions, refusals, messages;
	unsigned peers, quarantined;
};

/* `region_fd` is borrowed and must outlive the server. 0 or -errno. */
int server_create(struct server **out, const struct server_config *config, int region_fd,
	const struct server_ops *ops, void *data, struct log *log);

/* Close every peer at once. For a clean exit call server_farewell() before. */
void server_destroy(struct server *server);

/*
 * A client has connected. Takes over `sock` (non-blocking, close-on-exec) whatever happens. Joining
 * is atomic: the newcomer is announced to everyone or refused and announced to nobody.
 * 0, or -errno if it was refused; the others are not affected.
 */
int server_admit(struct server *server, int sock);

/* The loop saw this on a peer's socket. The peer may be gone afterwards. */
void server_peer_readable(struct server *server, struct server_peer *peer);
void server_peer_writable(struct server *server, struct server_peer *peer);

/*
 * Do what is due: send what is queued, retry, evict. To be called after each batch of events, so
 * that announcements of one batch leave together. Returns in how many milliseconds it must be
 * called again at the latest, or -1: only after the next event.
 */
int server_run(struct server *server, uint64_t now_ms);

/* Clean exit: queue to every peer that every other has left. */
void server_farewell(struct server *server);

/* Is there nothing left to send to anybody? */
bool server_flushed(const struct server *server);

void server_get_stats(const struct server *server, struct server_stats *stats);

/* A place for the loop to keep its own handle of a peer. */
void server_peer_set_data(struct server_peer *peer, void *data);
void *server_peer_data(const struct server_peer *peer);

#endif
