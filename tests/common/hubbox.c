/* SPDX-License-Identifier: MIT */
#include "hubbox.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

char hubbox_logged[4096];

static void note_line(struct log *log, enum log_level level, const char *line)
{
	size_t used = strlen(hubbox_logged);
	(void)log;
	(void)level;
	snprintf(hubbox_logged + used, sizeof(hubbox_logged) - used, "%s\n", line);
}

struct log hubbox_log = {.level = LOG_LEVEL_INFO, .sink = note_line};

/* A region stands for its server, too. */
static struct hubbox_region *region_of(const void *thing)
{
	return (struct hubbox_region *)(uintptr_t)thing;
}

void hubbox_init(struct hub *hub)
{
	hubbox_logged[0] = '\0';
	*hub = (struct hub){.size = 128};
	hub->regions = calloc(hub->size, sizeof(*hub->regions));
	if (!hub->regions)
		abort();
}

struct hubbox_region *hubbox_add(struct hub *hub, const char *name)
{
	struct hubbox_region *region = &hub->regions[hub->n++];
	if (hub->n > hub->size)
		abort();
	*region = (struct hubbox_region){.memory = {.fd = memfd_create(name, MFD_CLOEXEC),
						 .size = 4096,
						 .granule = 4096,
						 .sealed = true}};
	fchmod(region->memory.fd, 0600);
	snprintf(region->spec.name, sizeof(region->spec.name), "%s", name);
	snprintf(region->spec.socket_path, sizeof(region->spec.socket_path), "/x/%s.sock", name);
	region->spec.server.vectors = 2;
	region->spec.server.max_peers = 100;
	return region;
}

static void drop(struct hub *hub, struct hubbox_region *region)
{
	close(region->memory.fd);
	region_spec_fini(&region->spec);
	hub->n--;
	memmove(region, region + 1, (size_t)(hub->regions + hub->n - region) * sizeof(*region));
}

void hubbox_fini(struct hub *hub)
{
	while (hub->n > 0)
		drop(hub, hub->regions);
	free(hub->regions);
}

struct server_peer_info *hubbox_peers(unsigned n)
{
	static const struct identity identity = {
		.uid = 1000, .gid = 1000, .pid = 4711, .executable = "/usr/bin/qemu"};
	struct server_peer_info *peers = calloc(n, sizeof(*peers));
	for (unsigned i = 0; peers && i < n; i++)
		peers[i] = (struct server_peer_info){.id = (int)i,
			.serial = i + 1,
			.vectors = 2,
			.rule = -1,
			.identity = &identity,
			.state = "idle"};
	if (!peers)
		abort();
	return peers;
}

void hubbox_tell(
	struct hub *hub, const char *region, const char *what, const struct server_news *news)
{
	const struct hub_event event = {
		.region = region, .what = what, .news = news, .time_ms = 1234567890123};
	if (hub->watcher)
		hub->watcher(hub->watcher_data, &event);
}

/* ---- hub.h ---- */

void region_spec_init(struct region_spec *spec)
{
	*spec = (struct region_spec){.socket_uid = (uid_t)-1,
		.socket_gid = (gid_t)-1,
		.memory = {.numa_node = REGION_NUMA_ANY},
		.server = {.vectors = 1}};
}

int region_spec_default_rules(struct region_spec *spec)
{
	spec->policy.rules = calloc(2, sizeof(*spec->policy.rules));
	spec->policy.n = 2;
	return spec->policy.rules ? 0 : -ENOMEM;
}

void region_spec_fini(struct region_spec *spec)
{
	free(spec->policy.rules);
	spec->policy.rules = NULL;
}

int hub_add(struct hub *hub, const struct region_spec *spec, char *reason)
{
	if (hub->add_result < 0) {
		snprintf(reason, REASON_SIZE, "because");
		return hub->add_result;
	}
	struct hubbox_region *region = hubbox_add(hub, spec->name);
	region->spec = *spec;
	region->spec.policy.rules = NULL; /* stay the caller's; how many there were is enough */
	return 0;
}

struct hosted *hub_find(struct hub *hub, const char *name)
{
	for (unsigned i = 0; i < hub->n; i++)
		if (strcmp(hub->regions[i].spec.name, name) == 0)
			return (struct hosted *)&hub->regions[i];
	return NULL;
}

void hub_visit(struct hub *hub, bool (*visit)(void *data, struct hosted *hosted), void *data)
{
	for (unsigned i = 0; i < hub->n; i++)
		if (!visit(data, (struct hosted *)&hub->regions[i]))
			return;
}

unsigned hub_count(const struct hub *hub)
{
	return hub->n;
}

int hub_remove(struct hub *hub, struct hosted *hosted, bool force)
{
	struct hubbox_region *region = region_of(hosted);
	if (region->n_peers > 0 && !force)
		return -EBUSY;
	drop(hub, region);
	return 0;
}

void hub_drain(struct hosted *hosted, bool on)
{
	region_of(hosted)->draining = on;
}

const struct region_spec *hosted_spec(const struct hosted *hosted)
{
	return &region_of(hosted)->spec;
}

struct server *hosted_server(struct hosted *hosted)
{
	return (struct server *)hosted;
}

int hosted_read_only_fd(const struct hosted *hosted)
{
	return region_of(hosted)->memory.fd;
}

const struct region *hosted_region(const struct hosted *hosted)
{
	return &region_of(hosted)->memory;
}

uint64_t hosted_created_ms(const struct hosted *hosted)
{
	(void)hosted;
	return 1234567890000;
}

uint32_t hosted_generation(const struct hosted *hosted)
{
	(void)hosted;
	return 1;
}

const struct users_limits *hosted_users_limits(const struct hosted *hosted)
{
	static const struct users_limits limits = {.descriptors = 100, .queue_bytes = 1 << 20};
	(void)hosted;
	return &limits;
}

void hub_set_curious(struct hub *hub, bool curious)
{
	hub->curious = curious;
}

int hub_watch(struct hub *hub, hub_watcher *watcher, void *data)
{
	hub->watcher = watcher;
	hub->watcher_data = data;
	return 0;
}

void hub_unwatch(struct hub *hub, hub_watcher *watcher, void *data)
{
	if (hub->watcher == watcher && hub->watcher_data == data)
		hub->watcher = NULL;
}

void hub_set_tap(struct hub *hub, hub_tap *tap, void *data)
{
	hub->tap = tap;
	hub->tap_data = data;
}

/* ---- bells.h ---- */

#define VECTORS 100

/* A session for peer 0 of one region, with many vectors. */
struct bells {
	struct hub *hub;
	char region[HUB_NAME_SIZE];
	bells_watcher *watcher;
	void *data;
	uint64_t seen[VECTORS];
};

int bells_start(
	struct bells **out, struct hub *hub, const char *region, bells_watcher *watcher, void *data)
{
	if (hub->n_bells == BELLS_SESSIONS)
		return -EUSERS;
	*out = calloc(1, sizeof(**out));
	**out = (struct bells){.hub = hub, .watcher = watcher, .data = data};
	snprintf((*out)->region, HUB_NAME_SIZE, "%s", region ? region : "");
	hub->bells = *out;
	hub->n_bells++;
	return 0;
}

void bells_stop(struct bells *bells)
{
	if (!bells)
		return;
	bells->hub->n_bells--;
	bells->hub->bells = NULL;
	free(bells);
}

static struct bell_info bell_of(const struct bells *bells, unsigned vector)
{
	return (struct bell_info){
		.region = "a", .serial = 1, .vector = vector, .seen = bells->seen[vector]};
}

void hubbox_ring(struct hub *hub, const char *region, unsigned vector)
{
	struct bells *bells = hub->bells;
	bells->seen[vector]++;
	struct bell_info info = bell_of(bells, vector);
	info.region = region;
	if (bells->watcher)
		bells->watcher(bells->data, &info);
}

const char *bells_region(const struct bells *bells)
{
	return bells->region;
}

void bells_visit(const struct bells *bells, struct bells_cursor *cursor,
	bool (*visit)(void *data, const struct bell_info *bell), void *data)
{
	for (unsigned i = cursor->vector; i < VECTORS; i++) {
		const struct bell_info info = bell_of(bells, i);
		cursor->vector = i + 1;
		if (info.seen > 0 && !visit(data, &info))
			return;
	}
}

void bells_count(const struct bells *bells, uint64_t *watched, uint64_t *unwatched)
{
	(void)bells;
	*watched = VECTORS;
	*unwatched = 5;
}

bool bells_full(const struct bells *bells)
{
	return bells->region[0] == '\0'; /* all is too much for it */
}

/* ---- server.h ---- */

void server_visit(struct server *server,
	bool (*visit)(void *data, const struct server_peer_info *info), void *data)
{
	server_visit_after(server, 0, visit, data);
}

void server_visit_after(struct server *server, uint64_t serial,
	bool (*visit)(void *data, const struct server_peer_info *info), void *data)
{
	const struct hubbox_region *region = region_of(server);
	for (unsigned i = 0; i < region->n_peers; i++)
		if (region->peers[i].serial > serial && !visit(data, &region->peers[i]))
			return;
}

void server_visit_vectors(
	const struct server *server, uint64_t serial, server_vectors_visitor *visit, void *data)
{
	const struct hubbox_region *region = region_of(server);
	for (unsigned i = 0; i < region->n_peers; i++)
		if (region->peers[i].serial > serial &&
			!visit(data, region->peers[i].serial, region->peers[i].id, NULL, 0))
			return;
}

int server_evict(struct server *server, uint64_t serial, const char *reason)
{
	struct hubbox_region *region = region_of(server);
	(void)reason;
	for (unsigned i = 0; i < region->n_peers; i++) {
		if (region->peers[i].serial == serial) {
			region->n_peers--;
			memmove(&region->peers[i], &region->peers[i + 1],
				(region->n_peers - i) * sizeof(region->peers[0]));
			return 0;
		}
	}
	return -ENOENT;
}

bool server_draining(const struct server *server)
{
	return region_of(server)->draining;
}

void server_get_stats(const struct server *server, struct server_stats *stats)
{
	*stats = (struct server_stats){.joins = 7, .peers = region_of(server)->n_peers};
}
