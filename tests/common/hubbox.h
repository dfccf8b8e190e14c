/* SPDX-License-Identifier: MIT */
/*
 * A hub that serves nobody, for tests of what is built on one: regions are rows of a table, peers
 * are what the test says. It remembers what it was asked to do.
 */
#ifndef TESTS_HUBBOX_H
#define TESTS_HUBBOX_H

#include "../../tools/server/hub/bells.h"
#include "../../tools/server/hub/hub.h"

struct hubbox_region {
	struct region_spec spec;
	struct region memory;
	struct server_peer_info *peers; /* borrowed, in the order of serial numbers */
	unsigned n_peers;
	bool draining;
};

struct hub {
	struct hubbox_region *regions;
	unsigned n, size;
	hub_watcher *watcher;
	void *watcher_data;
	bool curious;
	hub_tap *tap;
	void *tap_data;
	unsigned n_bells;
	struct bells *bells; /* the last one that was started and not stopped */
	int add_result;      /* what hub_add() says; 0: it does it */
};

/* A log for tests to look into: all lines, until hubbox_init(). */
extern struct log hubbox_log;
extern char hubbox_logged[4096];

/* Without regions; then one more, without peers. */
void hubbox_init(struct hub *hub);
struct hubbox_region *hubbox_add(struct hub *hub, const char *name);
void hubbox_fini(struct hub *hub);

/* So many peers with the serial numbers 1, 2, ... of user 1000; malloc'ed. */
struct server_peer_info *hubbox_peers(unsigned n);

/* Somebody rings, as far as a session of bells hears it. */
void hubbox_ring(struct hub *hub, const char *region, unsigned vector);

void hubbox_tell(struct hub *hub, const char *region, const char *what, const struct server_news *);

#endif
