/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. How a ring is seen, bellset.c says. Here is whose: a session has
 * descriptors of all peers that it asks about, from the moment they join.
 *
 * Watches are made, and at the end taken back, some in each turn of the loop; only those of a
 * newcomer are made at once, so that they are there before anybody can ring it. Storms are looked
 * at LOOKS times in SLOT_MS and then left alone until the slot is over. If the kernel has no more
 * watches for this user, all are given back, since peers need one each to join.
 */
#include "bells.h"

#include "bellset.h"
#include "hosted.h"

#include "daemon/watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PART    32 /* vectors that one turn watches or ceases to */
#define SLOT_MS 10
#define LOOKS   400

/* Who can be rung. */
struct receiver {
	struct list link; /* bells.peers */
	uint64_t number;  /* ascending in that list */
	uint64_t serial;
	int id;
	char region[HUB_NAME_SIZE];
	unsigned n, watched; /* vectors: that it has; the first ones */
	struct bell bells[];
};

struct bells {
	struct list link; /* hub.bells */
	struct hub *hub;
	char region[HUB_NAME_SIZE]; /* "": all */
	bells_watcher *watcher;
	void *data;

	struct bell_set set;
	uv_poll_t unread_poll, taken_poll;
	uv_timer_t pause;
	uv_idle_t turns;  /* while there are watches to be made or taken back */
	unsigned closing; /* handles */
	uint64_t slot;    /* number of the present one */
	unsigned looks;   /* in it */

	struct list peers;
	uint64_t last_number;
	uint64_t vectors;            /* of all in the list */
	struct receiver *unfinished; /* not all of its vectors are watched yet; NULL: none */
	char at[HUB_NAME_SIZE];      /* the region whose peers come next, */
	uint64_t serial;             /* behind this one */
	bool done;                   /* none does */
	bool full, failed, ending;
};

/* ---- looking ---- */

static void bell_was_rung(void *data, struct bell *bell)
{
	struct bells *bells = data;
	const struct receiver *peer = bell->owner;

	if (bells->watcher)
		bells->watcher(bells->data,
			&(struct bell_info){
				.region = peer->region,
				.id = peer->id,
				.serial = peer->serial,
				.vector = bell->vector,
				.seen = bell->seen,
			});
}

static void set_event(uv_poll_t *poll, int status, int events);

/* UV_DISCONNECT is what an epoll set never has. To stop would be to come back, and that may fail
 * (daemon/watch.h). */
static void listen_for(struct bells *bells, int events)
{
	uv_poll_start(&bells->unread_poll, events, set_event);
	uv_poll_start(&bells->taken_poll, events, set_event);
}

static void pause_event(uv_timer_t *timer)
{
	listen_for(timer->data, UV_READABLE);
}

static void set_event(uv_poll_t *poll, int status, int events)
{
	struct bells *bells = poll->data;
	uint64_t now = uv_now(bells->hub->loop);

	(void)status;
	(void)events;
	(void)bell_set_look(&bells->set);
	if (now / SLOT_MS != bells->slot) {
		bells->slot = now / SLOT_MS;
		bells->looks = 0;
	}
	if (++bells->looks < LOOKS)
		return;
	listen_for(bells, UV_DISCONNECT);
	uv_timer_start(&bells->pause, pause_event, SLOT_MS - now % SLOT_MS, 0);
}

/* ---- peers ---- */

/* Watch up to `max` more vectors of a peer. False if the kernel has no room for them. */
static bool watch_some(struct bells *bells, struct receiver *peer, unsigned max)
{
	unsigned left = peer->n - peer->watched, n = left < max ? left : max;
	unsigned watched = bell_set_watch(&bells->set, &peer->bells[peer->watched], n);
	peer->watched += watched;
	return watched == n;
}

static void unwatch_some(struct bells *bells, struct receiver *peer, unsigned max)
{
	unsigned n = peer->watched < max ? peer->watched : max;
	peer->watched -= n;
	bell_set_unwatch(&bells->set, &peer->bells[peer->watched], n);
}

/* NULL without memory, or if it would be too many. */
static struct receiver *add_peer(struct bells *bells, const char *region, uint64_t serial, int id,
	const int *fds, unsigned n)
{
	struct receiver *peer = NULL;

	if (!bells->full && bells->vectors + n <= BELLS_MAX_VECTORS)
		peer = calloc(1, sizeof(*peer) + n * sizeof(peer->bells[0]));
	if (!peer) {
		bells->full = true;
		return NULL;
	}
	snprintf(peer->region, sizeof(peer->region), "%s", region);
	peer->number = ++bells->last_number;
	peer->serial = serial;
	peer->id = id;
	peer->n = n;
	for (unsigned i = 0; i < n; i++)
		peer->bells[i] = (struct bell){.owner = peer, .vector = i, .fd = fds[i]};
	bells->vectors += n;
	list_append(&bells->peers, &peer->link);
	return peer;
}

static void remove_peer(struct bells *bells, struct receiver *peer)
{
	unwatch_some(bells, peer, peer->n);
	if (bells->unfinished == peer)
		bells->unfinished = NULL;
	bells->vectors -= peer->n;
	list_remove(&peer->link);
	free(peer);
}

static struct receiver *find_peer(const struct bells *bells, const char *region, uint64_t serial)
{
	list_for_each (node, &bells->peers) {
		struct receiver *peer = container_of(node, struct receiver, link);
		if (peer->serial == serial && strcmp(peer->region, region) == 0)
			return peer;
	}
	return NULL;
}

static void remove_region(struct bells *bells, const char *region)
{
	list_for_each_safe (node, &bells->peers) {
		struct receiver *peer = container_of(node, struct receiver, link);
		if (strcmp(peer->region, region) == 0)
			remove_peer(bells, peer);
	}
}

/* ---- turns ---- */

static void turn_event(uv_idle_t *idle);

static void give_back(struct bells *bells)
{
	bells->full = bells->failed = bells->done = true;
	uv_idle_start(&bells->turns, turn_event);
}

static bool begin_peer(void *data, uint64_t serial, int id, const int *fds, unsigned vectors)
{
	struct bells *bells = data;

	bells->serial = serial;
	bells->unfinished = add_peer(bells, bells->at, serial, id, fds, vectors);
	return false;
}

/* The next peer of those who were in before; there may be none. */
static void walk(struct bells *bells)
{
	struct hosted *hosted = hub_find(bells->hub, bells->at);
	uint64_t before = bells->serial;

	bells->done = bells->full;
	if (bells->done)
		return;
	if (hosted)
		server_visit_vectors(hosted->server, before, begin_peer, bells);
	if (bells->serial != before)
		return;
	hosted = bells->region[0] == '\0' ? hub_next(bells->hub, bells->at) : NULL;
	bells->serial = 0;
	if (hosted)
		memcpy(bells->at, hosted->spec.name, sizeof(bells->at));
	bells->done = !hosted;
}

static void close_all(struct bells *bells);

static void take_back_some(struct bells *bells)
{
	if (list_empty(&bells->peers)) {
		uv_idle_stop(&bells->turns);
		if (bells->ending)
			close_all(bells);
		return;
	}
	struct receiver *peer = container_of(bells->peers.prev, struct receiver, link);
	unwatch_some(bells, peer, PART);
	if (peer->watched == 0)
		remove_peer(bells, peer);
}

static void turn_event(uv_idle_t *idle)
{
	struct bells *bells = idle->data;
	struct receiver *peer;

	if (bells->failed || bells->ending) {
		take_back_some(bells);
		return;
	}
	if (!bells->unfinished && !bells->done)
		walk(bells);
	peer = bells->unfinished;
	if (peer && !watch_some(bells, peer, PART))
		give_back(bells);
	else if (peer && peer->watched == peer->n)
		bells->unfinished = NULL;
	if (bells->done && !bells->unfinished && !bells->failed)
		uv_idle_stop(&bells->turns);
}

/* ---- who comes and goes ---- */

/* Will the walk come by there? */
static bool is_ahead(const struct bells *bells, const char *region)
{
	return !bells->done && strcmp(region, bells->at) >= 0;
}

static void newcomer(struct bells *bells, const char *region, const struct server_news *news)
{
	struct receiver *peer =
		add_peer(bells, region, news->serial, news->id, news->fds, news->vectors);
	if (peer && !watch_some(bells, peer, peer->n))
		give_back(bells);
}

static void hub_news(void *data, const struct hub_event *event)
{
	struct bells *bells = data;
	const struct server_news *news = event->news;
	const char *region = event->region;

	if (bells->region[0] != '\0' && strcmp(bells->region, region) != 0)
		return;
	if (!news) {
		if (strcmp(event->what, "removed") == 0)
			remove_region(bells, region);
		return;
	}
	switch (news->event) {
	case SERVER_JOINED:
		if (!is_ahead(bells, region))
			newcomer(bells, region, news);
		break;
	case SERVER_LEFT: {
		struct receiver *peer = find_peer(bells, region, news->serial);
		if (peer)
			remove_peer(bells, peer);
		break;
	}
	case SERVER_REFUSED:
		break;
	}
}

/* ---- sessions ---- */

static void free_bells(uv_handle_t *handle)
{
	struct bells *bells = handle->data;
	if (--bells->closing == 0)
		free(bells);
}

static void close_handle(struct bells *bells, void *handle)
{
	bells->closing++;
	uv_close(handle, free_bells);
}

/* Nothing is watched any more. */
static void close_all(struct bells *bells)
{
	list_remove(&bells->link);
	bells->hub->n_bells--;
	close_handle(bells, &bells->unread_poll);
	close_handle(bells, &bells->taken_poll);
	close_handle(bells, &bells->pause);
	close_handle(bells, &bells->turns);
	bell_set_close(&bells->set);
}

/* A session that watches nothing yet, for which close_all() works. 0 or -errno. */
static int make(struct bells **out, struct hub *hub)
{
	struct bells *bells = calloc(1, sizeof(*bells));
	if (!bells)
		return -ENOMEM;
	int error = bell_set_open(&bells->set, bell_was_rung, bells);
	if (error < 0) {
		free(bells);
		return error;
	}
	bells->hub = hub;
	error = uv_poll_init(hub->loop, &bells->unread_poll, bells->set.unread);
	if (error < 0) {
		bell_set_close(&bells->set);
		free(bells);
		return error;
	}
	bells->unread_poll.data = bells->taken_poll.data = bells;
	error = uv_poll_init(hub->loop, &bells->taken_poll, bells->set.taken);
	if (error < 0) {
		close_handle(bells, &bells->unread_poll);
		bell_set_close(&bells->set);
		return error;
	}
	uv_timer_init(hub->loop, &bells->pause);
	uv_idle_init(hub->loop, &bells->turns);
	bells->pause.data = bells->turns.data = bells;
	list_init(&bells->peers);
	list_append(&hub->bells, &bells->link);
	hub->n_bells++;
	*out = bells;
	return 0;
}

static int begin(struct bells *bells)
{
	int error = watch_start(&bells->unread_poll, UV_READABLE, set_event);
	if (error == 0)
		error = watch_start(&bells->taken_poll, UV_READABLE, set_event);
	if (error == 0)
		error = hub_watch(bells->hub, hub_news, bells);
	if (error == 0)
		uv_idle_start(&bells->turns, turn_event);
	return error;
}

int bells_start(
	struct bells **out, struct hub *hub, const char *region, bells_watcher *watcher, void *data)
{
	struct bells *bells;

	if (hub->n_bells >= BELLS_SESSIONS)
		return -EUSERS;
	int error = make(&bells, hub);
	if (error < 0)
		return error;
	bells->watcher = watcher;
	bells->data = data;
	if (region)
		snprintf(bells->region, sizeof(bells->region), "%s", region);
	memcpy(bells->at, bells->region, sizeof(bells->at));
	error = begin(bells);
	if (error < 0)
		close_all(bells);
	else
		*out = bells;
	return error;
}

static void end(struct bells *bells)
{
	hub_unwatch(bells->hub, hub_news, bells);
	bells->watcher = NULL;
	bells->ending = true;
	listen_for(bells, UV_DISCONNECT);
	uv_timer_stop(&bells->pause);
}

void bells_stop(struct bells *bells)
{
	if (!bells)
		return;
	end(bells);
	uv_idle_start(&bells->turns, turn_event);
}

void bells_stop_all(struct hub *hub)
{
	list_for_each_safe (node, &hub->bells) {
		struct bells *bells = container_of(node, struct bells, link);
		end(bells);
		while (!list_empty(&bells->peers))
			remove_peer(bells, container_of(bells->peers.next, struct receiver, link));
		close_all(bells);
	}
}

/* ---- what was seen ---- */

const char *bells_region(const struct bells *bells)
{
	return bells->region;
}

bool bells_full(const struct bells *bells)
{
	return bells->full;
}

void bells_visit(const struct bells *bells, struct bells_cursor *cursor,
	bool (*visit)(void *data, const struct bell_info *bell), void *data)
{
	list_for_each (node, &bells->peers) {
		const struct receiver *peer = container_of(node, struct receiver, link);
		if (peer->number < cursor->number)
			continue;
		unsigned i = peer->number == cursor->number ? cursor->vector : 0;
		for (; i < peer->n; i++) {
			const struct bell_info info = {
				.region = peer->region,
				.id = peer->id,
				.serial = peer->serial,
				.vector = i,
				.seen = peer->bells[i].seen,
			};
			*cursor = (struct bells_cursor){.number = peer->number, .vector = i + 1};
			if (info.seen > 0 && !visit(data, &info))
				return;
		}
	}
}

struct sum {
	const struct bells *bells;
	uint64_t vectors;
};

static bool add_vectors(void *data, struct hosted *hosted)
{
	struct sum *sum = data;
	struct server_stats stats;

	if (sum->bells->region[0] == '\0' || strcmp(sum->bells->region, hosted->spec.name) == 0) {
		server_get_stats(hosted->server, &stats);
		sum->vectors += (uint64_t)stats.peers * hosted->spec.server.vectors;
	}
	return true;
}

void bells_count(const struct bells *bells, uint64_t *watched, uint64_t *unwatched)
{
	struct sum sum = {.bells = bells};

	hub_visit(bells->hub, add_vectors, &sum);
	*watched = bells->failed ? 0 : bells->vectors;
	*unwatched = sum.vectors > *watched ? sum.vectors - *watched : 0;
}
