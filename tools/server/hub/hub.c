/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Regions have nothing in common but the loop, so one that is busy costs the others nothing: events
 * only change its state and put it on a list, and a prepare handle, which libuv runs once before it
 * sleeps, runs those on the list. So what one batch of events announces leaves in as few system
 * calls as possible. A timer runs only while something is due: an idle server does not wake up,
 * however many regions it has. Nor does it keep what a storm of joins has needed: queues come and
 * go in small pieces between longer-lived ones, which an allocator does not give back by itself.
 */
#include "hub.h"

#include "bells.h"
#include "hosted.h"
#include "keeping.h"

#include "base/clock.h"
#include "base/parse.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUIET_MS       100
#define WORTH_TRIMMING 500 /* messages */

/* ---- the table ---- */

/* Where a region of that name is, or belongs. */
static unsigned position(const struct hub *hub, const char *name)
{
	unsigned low = 0, high = hub->n;
	while (low < high) {
		unsigned middle = low + (high - low) / 2;
		if (strcmp(hub->hosted[middle]->spec.name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct hosted *hub_find(struct hub *hub, const char *name)
{
	unsigned at = position(hub, name);
	if (at < hub->n && strcmp(hub->hosted[at]->spec.name, name) == 0)
		return hub->hosted[at];
	return NULL;
}

struct hosted *hub_next(struct hub *hub, const char *name)
{
	unsigned at = position(hub, name);
	if (at < hub->n && strcmp(hub->hosted[at]->spec.name, name) == 0)
		at++;
	return at < hub->n ? hub->hosted[at] : NULL;
}

void hub_visit(struct hub *hub, bool (*visit)(void *data, struct hosted *hosted), void *data)
{
	for (unsigned i = 0; i < hub->n; i++) {
		if (!visit(data, hub->hosted[i]))
			return;
	}
}

unsigned hub_count(const struct hub *hub)
{
	return hub->n;
}

int hub_make_room(struct hub *hub)
{
	if (hub->n < hub->room)
		return 0;
	unsigned room = hub->room > 0 ? 2 * hub->room : 16;
	struct hosted **hosted = reallocarray(hub->hosted, room, sizeof(struct hosted *));
	if (!hosted)
		return -ENOMEM;
	hub->hosted = hosted;
	hub->room = room;
	return 0;
}

void hub_insert(struct hub *hub, struct hosted *hosted)
{
	unsigned at = position(hub, hosted->spec.name);
	memmove(&hub->hosted[at + 1], &hub->hosted[at], (hub->n - at) * sizeof(struct hosted *));
	hub->hosted[at] = hosted;
	hub->n++;
}

static void take_out(struct hub *hub, struct hosted *hosted)
{
	unsigned at = position(hub, hosted->spec.name);
	hub->n--;
	memmove(&hub->hosted[at], &hub->hosted[at + 1], (hub->n - at) * sizeof(struct hosted *));
}

/* ---- time ---- */

static void quiet_event(uv_timer_t *timer)
{
	(void)timer;
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}

/* Once nothing has been sent for a moment; an idle server wakes up for this once. */
static void return_memory_later(struct hub *hub)
{
	if (hub->messages - hub->messages_at_quiet < WORTH_TRIMMING)
		return;
	hub->messages_at_quiet = hub->messages;
	uv_timer_start(&hub->quiet, quiet_event, QUIET_MS, 0);
}

static void run_dirty(struct hub *hub)
{
	while (!list_empty(&hub->dirty))
		hosted_run(container_of(hub->dirty.next, struct hosted, dirty_link));
}

/* That there is a turn of the loop is all that it takes. */
static void crowded_event(uv_timer_t *timer)
{
	(void)timer;
}

/* Evicts: then their regions are dirty again. */
static void look_at_users(struct hub *hub)
{
	int wait = users_run(hub->users, uv_now(hub->loop));

	if (wait >= 0)
		uv_timer_start(&hub->crowded, crowded_event, (uint64_t)wait, 0);
	else
		uv_timer_stop(&hub->crowded);
	run_dirty(hub);
}

static void before_sleep(uv_prepare_t *prepare)
{
	struct hub *hub = prepare->data;

	if (!list_empty(&hub->clearing))
		clearing_step(container_of(hub->clearing.next, struct hosted, clear_link));
	run_dirty(hub);
	look_at_users(hub);
	return_memory_later(hub);
	if (hub->ending && list_empty(&hub->removed))
		hub->ended(hub->ended_data);
}

/* ---- the hub itself ---- */

int hub_create(struct hub **out, const struct hub_config *config, uv_loop_t *loop,
	struct keep *keep, struct log *log)
{
	struct hub *hub = calloc(1, sizeof(*hub));
	if (!hub)
		return -ENOMEM;
	hub->users = users_create();
	if (!hub->users) {
		free(hub);
		return -ENOMEM;
	}
	users_set_limits(hub->users, &config->users);
	hub->config = *config;
	hub->loop = loop;
	hub->keep = keep;
	hub->holder = keep_holder(keep);
	hub->log = log;
	descriptors_init(&hub->descriptors, !config->grows);
	list_init(&hub->dirty);
	list_init(&hub->removed);
	list_init(&hub->clearing);
	list_init(&hub->bells);
	uv_prepare_init(loop, &hub->before_sleep);
	uv_idle_init(loop, &hub->busy);
	uv_timer_init(loop, &hub->quiet);
	uv_timer_init(loop, &hub->crowded);
	hub->before_sleep.data = hub->busy.data = hub;
	uv_prepare_start(&hub->before_sleep, before_sleep);
	*out = hub;
	return 0;
}

void hub_set_aside(struct hub *hub, unsigned descriptors)
{
	hub->descriptors.claimed += descriptors;
}

void hub_set_users_limits(struct hub *hub, const struct users_limits *limits)
{
	users_set_limits(hub->users, limits);
}

int hub_resume(struct hub *hub)
{
	int error = keeping_resume(hub);
	return error == 0 ? keeping_listen(hub) : error;
}

void hub_ready(struct hub *hub)
{
	keeping_settle(hub);
	keep_ready(hub->keep);
}

static void free_hub(uv_handle_t *handle)
{
	struct hub *hub = handle->data;
	if (--hub->handles == 0)
		free(hub);
}

static void close_handle(struct hub *hub, void *handle)
{
	((uv_handle_t *)handle)->data = hub;
	hub->handles++;
	uv_close(handle, free_hub);
}

void hub_destroy(struct hub *hub)
{
	if (!hub)
		return;
	bells_stop_all(hub);
	while (!list_empty(&hub->removed))
		hosted_free(container_of(hub->removed.next, struct hosted, removed_link));
	while (hub->n > 0) {
		struct hosted *hosted = hub->hosted[--hub->n];
		if (hosted->state)
			hosted_disown(hosted); /* the next process goes on with it */
		hosted_free(hosted);
	}
	users_destroy(hub->users);
	free(hub->hosted);
	close_handle(hub, &hub->before_sleep);
	close_handle(hub, &hub->busy);
	close_handle(hub, &hub->quiet);
	close_handle(hub, &hub->crowded);
	if (hub->listens_to_keeper)
		close_handle(hub, &hub->from_keeper);
}

void hub_get_totals(const struct hub *hub, struct server_stats *totals)
{
	*totals = hub->totals;
	for (unsigned i = 0; i < hub->n; i++)
		hosted_add_stats(hub->hosted[i], totals);
}

/* ---- regions ---- */

static int refuse(int error, char *reason, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static int refuse(int error, char *reason, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(reason, REASON_SIZE, format, args);
	va_end(args);
	return error;
}

/* Is anything of this region in the way of a new one? */
static int check_conflict(const struct hosted *other, const struct region_spec *spec, char *reason)
{
	if (strcmp(other->spec.name, spec->name) == 0)
		return refuse(-EEXIST, reason, "there is a region %s already%s", spec->name,
			other->ending ? ", it is just being removed" : "");
	if (!other->ending && strcmp(other->spec.socket_path, spec->socket_path) == 0)
		return refuse(-EEXIST, reason, "%s is the socket of region %s", spec->socket_path,
			other->spec.name);
	return 0;
}

static int check_new(struct hub *hub, const struct region_spec *spec, char *reason)
{
	int error = 0;

	if (!name_is_valid(spec->name))
		return refuse(-EINVAL, reason, "a region's name is [a-z0-9._-]{1,63}");
	if (hub->ending)
		return refuse(-EINVAL, reason, "the server is ending");
	if (hub->n >= hub->config.max_regions)
		return refuse(
			-ENOSPC, reason, "there are %u regions already (--max-regions)", hub->n);
	for (unsigned i = 0; i < hub->n && error == 0; i++)
		error = check_conflict(hub->hosted[i], spec, reason);
	list_for_each (node, &hub->removed) {
		if (error == 0)
			error = check_conflict(
				container_of(node, struct hosted, removed_link), spec, reason);
	}
	return error;
}

static void describe(struct hosted *hosted)
{
	const struct region_spec *spec = &hosted->spec;
	const char *warning = region_warning(&hosted->region);
	char size[24];

	log_info(&hosted->log, "%s, up to %u peers of %u vectors, listening on %s",
		format_size(hosted->region.size, size), spec->server.max_peers,
		spec->server.vectors, spec->socket_path);
	if (warning)
		log_warning(&hosted->log, "%s", warning);
}

int hub_add(struct hub *hub, const struct region_spec *spec, char *reason)
{
	int error = check_new(hub, spec, reason);
	if (error == 0 && hub_make_room(hub) < 0)
		error = refuse(-ENOMEM, reason, "out of memory");
	if (error < 0)
		return error;
	struct hosted *hosted = hosted_create(hub, spec, &error, reason);
	/* Memory that was not there, and that somebody else has made meanwhile: now it is. */
	if (!hosted && error == -EEXIST && spec->memory.reuse)
		hosted = hosted_create(hub, spec, &error, reason);
	if (!hosted)
		return error;
	hub_insert(hub, hosted);
	hosted_start(hosted);
	if (!hub->config.single)
		describe(hosted);
	hub_tell(hosted, "created", NULL);
	return 0;
}

int hub_remove(struct hub *hub, struct hosted *hosted, bool force)
{
	struct server_stats stats;

	server_get_stats(hosted->server, &stats);
	if (stats.peers > 0 && !force)
		return -EBUSY;
	hub_tell(hosted, "removed", NULL);
	take_out(hub, hosted);
	hosted_end(hosted);
	hosted_run(hosted); /* it is gone at once if nobody is to be told */
	return 0;
}

void hub_drain(struct hosted *hosted, bool on)
{
	if (hosted->life.draining == on)
		return;
	hosted->life.draining = on;
	server_set_draining(hosted->server, on);
	keeping_save(hosted);
	if (on)
		hub_tell(hosted, "draining", NULL);
}

const struct region_spec *hosted_spec(const struct hosted *hosted)
{
	return &hosted->spec;
}

int hosted_read_only_fd(const struct hosted *hosted)
{
	return hosted->read_only_fd;
}

/* Who asks for it may be about to change something. */
struct server *hosted_server(struct hosted *hosted)
{
	hosted_touch(hosted);
	return hosted->server;
}

const struct region *hosted_region(const struct hosted *hosted)
{
	return &hosted->region;
}

uint64_t hosted_created_ms(const struct hosted *hosted)
{
	return hosted->life.created_ms;
}

uint32_t hosted_generation(const struct hosted *hosted)
{
	return hosted->life.generation;
}

const struct users_limits *hosted_users_limits(const struct hosted *hosted)
{
	return users_limits(hosted->hub->users);
}

/* ---- watchers ---- */

void hub_tell(struct hosted *hosted, const char *what, const struct server_news *news)
{
	struct hub *hub = hosted->hub;
	const struct hub_event event = {
		.region = hosted->spec.name,
		.what = what,
		.news = news,
		.time_ms = clock_wall_ms(),
	};
	/* A watcher may go while it is told. */
	for (unsigned i = 0; i < HUB_MAX_WATCHERS; i++) {
		if (hub->watchers[i].watch)
			hub->watchers[i].watch(hub->watchers[i].data, &event);
	}
}

int hub_watch(struct hub *hub, hub_watcher *watcher, void *data)
{
	for (unsigned i = 0; i < HUB_MAX_WATCHERS; i++) {
		if (hub->watchers[i].watch)
			continue;
		hub->watchers[i] = (struct watcher){.watch = watcher, .data = data};
		return 0;
	}
	return -EUSERS;
}

void hub_unwatch(struct hub *hub, hub_watcher *watcher, void *data)
{
	for (unsigned i = 0; i < HUB_MAX_WATCHERS; i++) {
		if (hub->watchers[i].watch == watcher && hub->watchers[i].data == data)
			hub->watchers[i] = (struct watcher){0};
	}
}

void hub_set_curious(struct hub *hub, bool curious)
{
	if (hub->curious == curious)
		return;
	hub->curious = curious;
	for (unsigned i = 0; i < hub->n; i++)
		server_set_curious(hub->hosted[i]->server, curious);
}

void hub_set_tap(struct hub *hub, hub_tap *tap, void *data)
{
	hub->tap = tap;
	hub->tap_data = data;
	for (unsigned i = 0; i < hub->n; i++)
		hosted_set_tap(hub->hosted[i]);
}

/* ---- the end ---- */

void hub_undo(struct hub *hub)
{
	while (hub->n > 0) {
		struct hosted *hosted = hub->hosted[--hub->n];
		hosted_end(hosted);
	}
}

void hub_end(struct hub *hub, void (*ended)(void *data), void *data)
{
	hub->ending = true;
	hub->ended = ended;
	hub->ended_data = data;
	if (hub->holder == KEEP_SYSTEMD)
		return; /* whether we are to be replaced or to end, it does not say */
	hub_undo(hub);
}
