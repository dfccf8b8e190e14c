/* SPDX-License-Identifier: MIT */
#include "fakehub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct hub *fakehub_create(void)
{
	struct hub *hub = calloc(1, sizeof(*hub));
	hub->regions = calloc(FAKEHUB_REGIONS, sizeof(struct hosted));
	return hub;
}

void fakehub_destroy(struct hub *hub)
{
	for (unsigned i = 0; i < hub->n; i++)
		free(hub->regions[i].loads);
	free(hub->regions);
	free(hub);
}

struct hosted *fakehub_add(struct hub *hub, const char *name)
{
	struct hosted *hosted = &hub->regions[hub->n++];
	snprintf(hosted->spec.name, sizeof(hosted->spec.name), "%s", name);
	return hosted;
}

void fakehub_set_peers(struct hosted *hosted, unsigned n)
{
	hosted->loads = calloc(n, sizeof(*hosted->loads));
	hosted->n_loads = n;
	hosted->stats.peers = n;
	for (unsigned i = 0; i < n; i++)
		hosted->loads[i] = (struct server_load){
			.serial = i + 1, .joined = i + 1, .id = (int)i, .uid = 1000};
}

/* ---- hub.h ---- */

struct hosted *hub_find(struct hub *hub, const char *name)
{
	for (unsigned i = 0; i < hub->n; i++)
		if (!hub->regions[i].gone && strcmp(hub->regions[i].spec.name, name) == 0)
			return &hub->regions[i];
	return NULL;
}

struct hosted *hub_next(struct hub *hub, const char *name)
{
	for (unsigned i = 0; i < hub->n; i++)
		if (!hub->regions[i].gone && strcmp(hub->regions[i].spec.name, name) > 0)
			return &hub->regions[i];
	return NULL;
}

const struct region_spec *hosted_spec(const struct hosted *hosted)
{
	return &hosted->spec;
}

struct server *hosted_server(struct hosted *hosted)
{
	return (struct server *)hosted;
}

const struct region *hosted_region(const struct hosted *hosted)
{
	return &hosted->region;
}

/* ---- server.h and backlog.h ---- */

static const struct hosted *of(const struct server *server)
{
	return (const struct hosted *)server;
}

void server_get_stats(const struct server *server, struct server_stats *stats)
{
	*stats = of(server)->stats;
}

bool server_draining(const struct server *server)
{
	return of(server)->draining;
}

void server_get_backlog(
	const struct server *server, uint64_t now_ms, struct server_backlog *backlog)
{
	(void)now_ms;
	*backlog = of(server)->backlog;
}

unsigned server_get_loads(const struct server *server, uint64_t now_ms, uint64_t joined,
	struct server_load *loads, unsigned max)
{
	unsigned n = 0;
	(void)now_ms;
	for (uint64_t i = joined; i < of(server)->n_loads && n < max; i++)
		loads[n++] = of(server)->loads[i];
	return n;
}
