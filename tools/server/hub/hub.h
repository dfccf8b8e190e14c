/* SPDX-License-Identifier: MIT */
/*
 * hub - the regions of one server process: create, find, drain, remove. Each has a name, memory, a
 * listening socket, rules and a struct server; the hub gives them the loop and the keeper. One
 * thread.
 */
#ifndef TOOLS_SERVER_HUB_HUB_H
#define TOOLS_SERVER_HUB_HUB_H

#include "common/options.h"
#include "daemon/keep.h"
#include "daemon/listen.h"

#include "region/region.h"
#include "server/policy.h"
#include "server/server.h"
#include "server/users.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define HUB_NAME_SIZE   64 /* of a region: [a-z0-9._-]{1,63} and the zero */
#define HUB_MAX_REGIONS 4096
#define REASON_SIZE     512 /* of the one line that says why something did not work */

/* What a region is to be; all of it is copied. region_spec_init() fills the defaults in. */
struct region_spec {
	char name[HUB_NAME_SIZE];
	uint8_t uuid[16]; /* all zero: a random one is made */
	bool header;      /* write the region header (ivshmem/abi.h) at offset 0 */
	char socket_path[SOCKET_PATH_SIZE];
	mode_t socket_mode;
	uid_t socket_uid;
	gid_t socket_gid;
	struct region_config memory;
	char memory_name[256];   /* what memory.name points to */
	bool zero_on_last_leave; /* clear the memory when the last peer has left */
	struct server_config server;
	bool max_peers_given;
	struct policy policy; /* rules are malloc'ed; region_spec_fini() */
	bool from_file;       /* stands in the configuration file: a reload may remove it */
};

void region_spec_init(struct region_spec *spec);

/* The rule for who has said none: the server's own user and root. 0 or -ENOMEM. */
int region_spec_default_rules(struct region_spec *spec);
int region_spec_copy(struct region_spec *to, const struct region_spec *from); /* 0 or -ENOMEM */
void region_spec_fini(struct region_spec *spec);

struct hub;
struct hosted; /* one region */

struct hub_config {
	unsigned max_regions;
	unsigned exit_timeout_ms;
	bool single; /* one region, by command line: messages name its options, not the region */
	bool grows;  /* further regions can come: none may claim all descriptors */
	struct users_limits users; /* of each user, over all regions */
};

int hub_create(struct hub **out, const struct hub_config *config, uv_loop_t *loop,
	struct keep *keep, struct log *log);

/* So many descriptors are for something else, and no region's: before regions are added. */
void hub_set_aside(struct hub *hub, unsigned descriptors);

/* Other limits of each user, from now on. */
void hub_set_users_limits(struct hub *hub, const struct users_limits *limits);

/* Take over what an earlier process has left with the keeper. 0 or -errno, having said why. */
int hub_resume(struct hub *hub);

/* All regions that are wanted have been added: let go of the rest, and tell the keeper that we
 * serve. */
void hub_ready(struct hub *hub);

/*
 * Create a region and listen. 0, or -errno with one line in `reason` (REASON_SIZE bytes):
 *   -EEXIST  name or socket is taken   -EINVAL  impossible   -ENOMEM, -ENOSPC  does not fit
 */
int hub_add(struct hub *hub, const struct region_spec *spec, char *reason);

struct hosted *hub_find(struct hub *hub, const char *name); /* NULL: no such region */

/* The first region behind `name` in alphabetical order, be there one of that name or not; NULL:
 * none. "" is before all. */
struct hosted *hub_next(struct hub *hub, const char *name);

/* In the order of their names, until `visit` returns false; it may not add or remove any. */
void hub_visit(struct hub *hub, bool (*visit)(void *data, struct hosted *hosted), void *data);
unsigned hub_count(const struct hub *hub);

/* Stop listening, tell the peers, let them go, free the memory. `force` false: only if nobody is in
 * (-EBUSY). `hosted` is not valid afterwards. 0 or -EBUSY. */
int hub_remove(struct hub *hub, struct hosted *hosted, bool force);

/* Nobody joins any more, or again; drained once nobody is left. */
void hub_drain(struct hosted *hosted, bool on);

/* Replace rules, limits and socket permission by those of a new spec of the same name. -EBUSY with
 * `reason` for what cannot change in a region that is there (size, vectors, memory, socket);
 * others: -ENOSPC (descriptors), -ENOMEM, and from changing the permission. Then nothing has
 * changed. */
int hub_update(struct hosted *hosted, const struct region_spec *spec, char *reason);

const struct region_spec *hosted_spec(const struct hosted *hosted);
struct server *hosted_server(struct hosted *hosted);

/* A descriptor of the memory that cannot be written through, or -1; the region's. */
int hosted_read_only_fd(const struct hosted *hosted);
const struct region *hosted_region(const struct hosted *hosted);
uint64_t hosted_created_ms(const struct hosted *hosted); /* wall clock */
uint32_t hosted_generation(const struct hosted *hosted);
const struct users_limits *hosted_users_limits(const struct hosted *hosted); /* all regions' */

/* What happens in any region, for `watch`: at most HUB_MAX_WATCHERS at a time. */
struct hub_event {
	const char *region;
	const char *what; /* "joined", "left", "refused", "created", "removed", "draining" */
	const struct server_news *news; /* NULL for what is not about a peer */
	uint64_t time_ms;               /* wall clock */
};
typedef void hub_watcher(void *data, const struct hub_event *event);
#define HUB_MAX_WATCHERS 64
int hub_watch(struct hub *hub, hub_watcher *watcher, void *data); /* 0 or -EUSERS */
void hub_unwatch(struct hub *hub, hub_watcher *watcher, void *data);

/* Whether watchers want all of the identity of those who join: a few file reads each. */
void hub_set_curious(struct hub *hub, bool curious);

/* Every message that a peer of any region gets, for `capture`: one watcher at a time; NULL: none.
 */
typedef void hub_tap(void *data, const char *region, const struct server_message *message);
void hub_set_tap(struct hub *hub, hub_tap *tap, void *data);

/*
 * End: tell all peers, wait for exit_timeout_ms at most, then `ended` is called. systemd says
 * SIGTERM before a restart, too: so if it holds the descriptors, all is left as it is for the next
 * process. A keeper passes it on when it ends itself: then it is the end of all.
 */
void hub_end(struct hub *hub, void (*ended)(void *data), void *data);

/* End all regions, also held ones: for a start that fails, as no next process goes on with them. */
void hub_undo(struct hub *hub);

/* What all regions together have seen, those that are no more included. */
void hub_get_totals(const struct hub *hub, struct server_stats *totals);

void hub_destroy(struct hub *hub);

#endif
