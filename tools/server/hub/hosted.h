/* SPDX-License-Identifier: MIT */
/* hosted - one region of the hub. For the files of the hub only; everybody else has hub.h. */
#ifndef TOOLS_SERVER_HUB_HOSTED_H
#define TOOLS_SERVER_HUB_HOSTED_H

#include "descriptors.h"
#include "hub.h"
#include "saved.h"

#include "base/list.h"
#include "daemon/acceptor.h"

struct watcher {
	hub_watcher *watch; /* NULL: free */
	void *data;
};

struct hub {
	struct hub_config config;
	uv_loop_t *loop;
	struct keep *keep;
	enum keep_holder holder;
	struct log *log;
	struct descriptors descriptors;
	struct users *users; /* what each user takes, over all regions */
	unsigned sharers;    /* regions that are about to come and share what is left */

	struct hosted **hosted; /* by name */
	unsigned n, room;
	struct list dirty;    /* regions where something has happened */
	struct list removed;  /* regions whose peers are being told that it is over */
	struct list clearing; /* regions whose memory is being cleared */

	uv_prepare_t before_sleep;
	uv_idle_t busy;            /* while memory is being cleared */
	uv_timer_t quiet, crowded; /* crowded: a user takes too much, see users_run() */
	uv_poll_t from_keeper;
	unsigned handles; /* of these that are being closed */
	bool listens_to_keeper;
	uint64_t serials; /* the keeper may yet bring us connections with up to this one of regions
			   * that are no more */
	struct server_stats totals; /* of regions that are no more */
	uint64_t messages, messages_at_quiet;

	struct watcher watchers[HUB_MAX_WATCHERS];
	bool curious; /* one of them is */
	hub_tap *tap; /* NULL: nobody captures */
	void *tap_data;
	struct list bells; /* bells.h: who looks at doorbells, */
	unsigned n_bells;  /* and how many those are */
	bool ending;
	void (*ended)(void *data);
	void *ended_data;
};

struct hosted {
	struct hub *hub;
	struct list dirty_link;   /* hub.dirty */
	struct list removed_link; /* hub.removed */
	struct list clear_link;   /* hub.clearing */
	struct region_spec spec;
	struct region_life life;

	struct region region;
	int read_only_fd; /* of the region; -1: none */
	struct listener listener;
	bool listener_held; /* by somebody else, who has passed it */
	struct server *server;
	struct log log;             /* says which region it is */
	struct log_limit log_limit; /* see hosted_say() */

	struct list watches; /* of its peers' sockets */
	struct acceptor acceptor;
	uv_timer_t due, deadline;
	bool has_handles; /* the four above are the loop's, too */
	unsigned handles; /* of them that are being closed */

	void *state; /* kept state, mapped; NULL: none */
	uint64_t state_size;
	uint64_t spec_number; /* of the spec that is held: see keeping.h */

	uint64_t messages; /* as of the last run */
	uint64_t cleared;  /* so many bytes of it, while it is being cleared */
	bool used;         /* somebody has been in since it was cleared */
	bool claimed;      /* its descriptors are */
	bool remove_when_empty;
	bool ending; /* out of the table; its peers are being told */
};

/* hosted.c: the life of a region. */

/* A region by `spec`, which listens but does not accept yet; NULL with *error and `reason`. */
struct hosted *hosted_create(
	struct hub *hub, const struct region_spec *spec, int *error, char *reason);

/* One around what an earlier process has left: takes over both descriptors if it succeeds. */
struct hosted *hosted_adopt(struct hub *hub, const struct region_spec *spec,
	const struct region_life *life, int region_fd, int listen_fd, int *error, char *reason);

/* From now on peers can join. */
void hosted_start(struct hosted *hosted);

/* Accept here and not by a keeper. */
void hosted_accept_itself(struct hosted *hosted);

/* Stop listening, and tell the peers; hosted_run() frees it when they know, or after the timeout.
 */
void hosted_end(struct hosted *hosted);
void hosted_free(struct hosted *hosted);

/* Add what it has seen. */
void hosted_add_stats(const struct hosted *hosted, struct server_stats *totals);

/* Let go of what outlives us, before hosted_free(): socket and memory object are not removed. */
void hosted_disown(struct hosted *hosted);

/* A log line that those cause who come and go: limited. */
void hosted_say(struct hosted *hosted, enum log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Something has happened there: run it before the loop sleeps. */
void hosted_touch(struct hosted *hosted);
void hosted_run(struct hosted *hosted);

/* The region header, the one after generation `last`; fills UUID and generation in. */
int hosted_write_header(struct hosted *hosted, uint32_t last, struct region_error *error);

/* Serial number: 0 if the server is to count. */
void hosted_admit(struct hosted *hosted, int sock, uint64_t serial);

/* update.c: can it be this by hub_update()? Else *fixed is what cannot change. */
bool hosted_can_become(
	const struct hosted *hosted, const struct region_spec *spec, const char **fixed);

/* clearing.c: zeros into the memory after the last peer has left. */

/* Nobody is in: begin, unless there is nothing to clear. */
void clearing_begin(struct hosted *hosted);

/* Some of it. */
void clearing_step(struct hosted *hosted);

/* Somebody wants to join: if nobody is in, all that is left of it. */
void clearing_before_join(struct hosted *hosted);

/* The same for those whom an earlier process has let in and told nothing yet. */
void clearing_after_resume(struct hosted *hosted);

/* peers.c: what a struct server asks of us. `data` is the struct hosted. */
extern const struct server_ops peer_ops;

void peers_notice_departures(struct hosted *hosted);

/* The server's messages go to the hub's tap, if it has one. */
void hosted_set_tap(struct hosted *hosted);

/* hub.c */
int hub_make_room(struct hub *hub);
void hub_insert(struct hub *hub, struct hosted *hosted);
void hub_tell(struct hosted *hosted, const char *what, const struct server_news *news);

#endif
