/* SPDX-License-Identifier: MIT */
/*
 * A hub for tests of what looks into one: regions without memory, sockets and servers, whose
 * numbers the test sets. Defines the functions of hub.h, server.h and backlog.h that metrics call.
 */
#ifndef TESTS_FAKEHUB_H
#define TESTS_FAKEHUB_H

#include "../../tools/server/hub/hub.h"

#include "server/backlog.h"

#define FAKEHUB_REGIONS 4096

struct hosted {
	bool gone;
	struct region_spec spec;
	struct region region;
	struct server_stats stats;
	struct server_backlog backlog;
	struct server_load *loads;
	unsigned n_loads;
	bool draining;
};

struct hub {
	struct hosted *regions;
	unsigned n;
};

struct hub *fakehub_create(void);
void fakehub_destroy(struct hub *hub);

/* In alphabetical order, please. */
struct hosted *fakehub_add(struct hub *hub, const char *name);

/* With IDs from 0 on. */
void fakehub_set_peers(struct hosted *hosted, unsigned n);

#endif
