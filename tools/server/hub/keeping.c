/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Whoever holds descriptors for us does so under these names, N being a region's:
 *
 *   memory.N  listen.N  state.N   its memory, its listening socket, the kept state of its server
 *   own.N                         in place of memory.N: has a name in /dev/shm that we gave it
 *   bound.N                       in place of listen.N with systemd, where that is the unit's
 *   spec.N.NUMBER                 what it is (saved.h)
 *   s.N.SERIAL                    the connection of a peer
 *   v.N.SERIAL  v1.N.SERIAL ...   its eventfds, as many sets as it takes
 *
 * A region is there if and only if its spec is held, so one operation of the holder is the moment
 * at which it comes or goes:
 *
 *   a new one     its parts, then the spec; only then does it accept
 *   an end        the spec, then the parts
 *   a change      the spec with the next number, then the drop of the old one: of two the next
 *                 process takes the higher one
 *
 * Killed between any two of these we leave either the region, or parts that belong to none, which
 * the next process drops, own.N with its name: it is held before it gets that, and until that is
 * removed. But a listening socket it takes for the region when it makes it anew, and so it takes
 * one that the unit of systemd passes. One that no region wants it drops with its file: the keeper
 * has it open until it has read that, and a file with a listener behind it keeps a new region away.
 * A part is complete when it is put: the state has been begun, the spec is written. What is in the
 * state, and when a peer's descriptors are put and dropped, is src/server's business
 * (server/kept.h).
 *
 * The keeper accepts by itself, so that no connection exists without being held. systemd does not:
 * there a connection that we have accepted and not put yet is lost if we are killed in between. The
 * client sees a server that hangs up in the handshake.
 */
#include "keeping.h"

#include "daemon/watch.h"
#include "server/backlog.h"
#include "server/kept.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BATCH 64   /* connections at a time; then others get their turn */
#define LATE  1024 /* more than the keeper has sent us when it drops a listening socket */

static bool is_kept(const struct hosted *hosted)
{
	return hosted->state != NULL;
}

/* ---- names ---- */

static void name_part(char name[KEEP_NAME_SIZE], const char *part, const struct hosted *hosted)
{
	snprintf(name, KEEP_NAME_SIZE, "%s.%s", part, hosted->spec.name);
}

static void name_numbered(
	char name[KEEP_NAME_SIZE], const char *part, const struct hosted *hosted, uint64_t number)
{
	snprintf(name, KEEP_NAME_SIZE, "%s.%s.%" PRIu64, part, hosted->spec.name, number);
}

void keeping_name_vectors(
	char name[KEEP_NAME_SIZE], const char *region, uint64_t serial, unsigned set)
{
	char part[12] = "v";
	if (set > 0)
		snprintf(part, sizeof(part), "v%u", set);
	snprintf(name, KEEP_NAME_SIZE, "%s.%s.%" PRIu64, part, region, serial);
}

/* ---- to have held ---- */

static int put(struct hosted *hosted, const char *part, int fd)
{
	char name[KEEP_NAME_SIZE];
	name_part(name, part, hosted);
	return keep_put(hosted->hub->keep, name, &fd, 1);
}

static void drop(struct hosted *hosted, const char *part)
{
	char name[KEEP_NAME_SIZE];
	name_part(name, part, hosted);
	keep_drop(hosted->hub->keep, name);
}

/* A small memory object, of a size that it keeps. */
static int make_object(struct region *object, uint64_t size)
{
	const struct region_config config = {
		.kind = REGION_MEMFD,
		.size = size,
		.no_prealloc = true,
		.numa_node = REGION_NUMA_ANY,
	};
	struct region_error why;
	return region_create(object, &config, &why);
}

static int put_spec(struct hosted *hosted, uint64_t number)
{
	char name[KEEP_NAME_SIZE];
	struct region object;
	char *text = saved_write(&hosted->spec, &hosted->life);
	if (!text)
		return -ENOMEM;
	size_t size = strlen(text);

	int error = make_object(&object, size);
	if (error == 0) {
		ssize_t written = pwrite(object.fd, text, size, 0);
		name_numbered(name, "spec", hosted, number);
		error = written == (ssize_t)size ? keep_put(hosted->hub->keep, name, &object.fd, 1)
						 : -ENOSPC;
		region_fini(&object);
	}
	free(text);
	return error;
}

void keeping_save(struct hosted *hosted)
{
	char old[KEEP_NAME_SIZE];

	if (!is_kept(hosted) || hosted->ending || hosted->hub->holder == KEEP_NOBODY)
		return;
	int error = put_spec(hosted, hosted->spec_number + 1);
	if (error < 0) {
		hosted_say(hosted, LOG_LEVEL_WARNING,
			"cannot have the change held: after a restart it is as it was before: %s",
			strerror(-error));
		return;
	}
	name_numbered(old, "spec", hosted, hosted->spec_number);
	keep_drop(hosted->hub->keep, old);
	hosted->spec_number++;
}

static int begin_state(struct hosted *hosted, int *fd)
{
	struct region object;
	bool sealed;
	size_t size = kept_size(&hosted->spec.server);

	int error = make_object(&object, size);
	if (error < 0)
		return error;
	error = region_map(object.fd, 0, false, &hosted->state, &hosted->state_size, &sealed);
	if (error == 0)
		error = kept_begin(hosted->server, hosted->state, size);
	if (error < 0) {
		region_fini(&object);
		return error;
	}
	hosted->life.state_peers = hosted->spec.server.max_peers;
	*fd = object.fd;
	return 0;
}

static bool listens_on(const struct hub *hub, const char *path)
{
	for (unsigned i = 0; i < hub->n; i++) {
		if (strcmp(hub->hosted[i]->spec.socket_path, path) == 0)
			return true;
	}
	return false;
}

void keeping_end_listener(struct hub *hub, int fd)
{
	char path[LISTENER_PATH_SIZE];

	/* It may have lost its file in an earlier try, and another region be there now. */
	if (listener_name(fd, path) && listens_on(hub, path))
		close(fd);
	else
		listener_discard(fd);
}

/* The holder's to let go of, or the unit's, which stays? */
static bool is_ours(const struct hub *hub, const char *part)
{
	return hub->holder == KEEP_KEEPER || strcmp(part, KEEPING_BOUND) == 0;
}

static bool take_listener(struct hosted *hosted, const char *part)
{
	const char *path = hosted->spec.socket_path;
	struct keep *keep = hosted->hub->keep;
	bool ours = is_ours(hosted->hub, part);
	char name[KEEP_NAME_SIZE];
	struct listener taken;
	int fd;

	name_part(name, part, hosted);
	if (keep_take(keep, name, &fd, 1) != 1)
		return false;
	bool fits = listener_adopt(&taken, fd, path);
	if (!fits)
		log_warning(&hosted->log, "a socket that was passed does not listen on %s", path);
	/* That of a process that was killed before the region was there is ours to remove, if its
	 * file is there still; that of a unit is not. */
	if (!fits || (ours && taken.inode == 0)) {
		keep_drop(keep, name);
		if (ours)
			keeping_end_listener(hosted->hub, fd);
		else
			close(fd);
		return false;
	}
	if (!ours)
		taken.device = taken.inode = 0;
	hosted->listener = taken;
	hosted->listener_held = true;
	return true;
}

bool keeping_take_listener(struct hosted *hosted)
{
	return take_listener(hosted, "listen") || take_listener(hosted, KEEPING_BOUND);
}

void keeping_give_listener_back(struct hosted *hosted, int fd)
{
	char name[KEEP_NAME_SIZE];

	name_part(name, "listen", hosted);
	keep_give_back(hosted->hub->keep, name, fd);
}

static int held(int error, char *reason)
{
	if (error < 0)
		snprintf(reason, REASON_SIZE, "cannot have its descriptors held: %s",
			strerror(-error));
	return error;
}

static const char *memory_part(const struct hosted *hosted)
{
	return hosted->life.region_created ? KEEPING_OWN : "memory";
}

int keeping_begin(struct hosted *hosted, char *reason)
{
	int state_fd = -1;

	if (hosted->hub->holder == KEEP_NOBODY)
		return 0;
	server_set_last_serial(hosted->server, hosted->hub->serials);
	int error = begin_state(hosted, &state_fd);
	if (error == 0)
		error = put(hosted, "state", state_fd);
	if (state_fd >= 0)
		close(state_fd);
	if (error == 0)
		error = put(hosted, memory_part(hosted), hosted->region.fd);
	return held(error, reason);
}

int keeping_complete(struct hosted *hosted, char *reason)
{
	int error = 0;

	if (hosted->hub->holder == KEEP_NOBODY)
		return 0;
	if (!hosted->listener_held)
		error = put(hosted, hosted->hub->holder == KEEP_SYSTEMD ? KEEPING_BOUND : "listen",
			hosted->listener.fd);
	hosted->spec_number = 1;
	if (error == 0)
		error = put_spec(hosted, hosted->spec_number);
	return held(error, reason);
}

/* server_visit() would look every one of them up in /proc. */
static void drop_peers(struct hosted *hosted)
{
	struct server_load loads[BATCH];
	uint64_t joined = 0;
	unsigned n;

	do {
		n = server_get_loads(hosted->server, 0, joined, loads, BATCH);
		for (unsigned i = 0; i < n; i++) {
			keeping_drop_peer(hosted, SERVER_KEPT_VECTORS, loads[i].serial);
			keeping_drop_peer(hosted, SERVER_KEPT_SOCKET, loads[i].serial);
			joined = loads[i].joined;
		}
	} while (n == BATCH);
}

void keeping_end(struct hosted *hosted)
{
	char name[KEEP_NAME_SIZE];
	struct hub *hub = hosted->hub;

	if (!is_kept(hosted))
		return;
	uint64_t serials = server_last_serial(hosted->server) + LATE;
	if (hub->holder == KEEP_KEEPER && hub->serials < serials)
		hub->serials = serials;
	name_numbered(name, "spec", hosted, hosted->spec_number);
	keep_drop(hosted->hub->keep, name);
	if (hosted->listener.inode != 0) { /* else it is the unit's */
		listener_unlink(&hosted->listener);
		drop(hosted, KEEPING_BOUND);
		drop(hosted, "listen"); /* which ends accepting */
	}
	region_unpublish(&hosted->region);
	drop(hosted, KEEPING_OWN);
	drop(hosted, "memory");
	drop(hosted, "state");
	drop_peers(hosted);
}

void keeping_fini(struct hosted *hosted)
{
	region_unmap(hosted->state, hosted->state_size);
	hosted->state = NULL;
}

/* ---- peers ---- */

int keeping_put_peer(void *data, enum server_kept kind, uint64_t serial, const int *fds, unsigned n)
{
	struct hosted *hosted = data;
	struct keep *keep = hosted->hub->keep;
	char name[KEEP_NAME_SIZE];
	int error = 0;

	if (hosted->hub->holder == KEEP_NOBODY)
		return 0; /* the keeper has died */
	switch (kind) {
	case SERVER_KEPT_SOCKET:
		name_numbered(name, "s", hosted, serial);
		return keep_put(keep, name, fds, n);
	case SERVER_KEPT_VECTORS:
		break;
	}
	for (unsigned set = 0; error == 0 && n > 0; set++) {
		unsigned some = n < KEEP_MAX_FDS ? n : KEEP_MAX_FDS;
		keeping_name_vectors(name, hosted->spec.name, serial, set);
		error = keep_put(keep, name, fds, some);
		fds += some;
		n -= some;
	}
	if (error < 0)
		keeping_drop_peer(data, kind, serial);
	return error;
}

void keeping_drop_peer(void *data, enum server_kept kind, uint64_t serial)
{
	struct hosted *hosted = data;
	unsigned sets = (hosted->spec.server.vectors + KEEP_MAX_FDS - 1) / KEEP_MAX_FDS;
	char name[KEEP_NAME_SIZE];

	switch (kind) {
	case SERVER_KEPT_SOCKET:
		name_numbered(name, "s", hosted, serial);
		keep_drop(hosted->hub->keep, name);
		return;
	case SERVER_KEPT_VECTORS:
		break;
	}
	/* The first one last: where it is, nothing of the others is missing or forgotten. */
	while (sets-- > 0) {
		keeping_name_vectors(name, hosted->spec.name, serial, sets);
		keep_drop(hosted->hub->keep, name);
	}
}

/* ---- the keeper accepts ---- */

static void accept_by_ourselves(struct hub *hub)
{
	log_error(hub->log,
		"the keeper is gone: nobody holds the connections any more, the next "
		"end is one for all");
	hub->holder = KEEP_NOBODY;
	uv_poll_stop(&hub->from_keeper);
	for (unsigned i = 0; i < hub->n; i++)
		hosted_accept_itself(hub->hosted[i]);
}

void keeping_accept(struct hosted *hosted)
{
	char listener[KEEP_NAME_SIZE], prefix[KEEP_NAME_SIZE];
	struct hub *hub = hosted->hub;

	if (hub->holder != KEEP_KEEPER) {
		hosted_accept_itself(hosted);
		return;
	}
	name_part(listener, "listen", hosted);
	name_part(prefix, "s", hosted);
	int error =
		keep_accept(hub->keep, listener, prefix, server_last_serial(hosted->server) + 1);
	if (error < 0)
		log_error(&hosted->log, "the keeper does not accept: %s", strerror(-error));
}

static void take_connection(struct hub *hub, const char *listener, uint64_t number, int sock)
{
	struct hosted *hosted = *listener ? hub_find(hub, strchr(listener, '.') + 1) : NULL;

	if (hosted)
		hosted_admit(hosted, sock, number);
	else
		server_turn_away(sock); /* the region has been removed meanwhile */
}

static void keeper_event(uv_poll_t *poll, int status, int events)
{
	struct hub *hub = poll->data;
	char listener[KEEP_NAME_SIZE];
	uint64_t number;
	int sock;
	(void)status; /* an error shows on reading, too */
	(void)events;

	for (int i = 0; i < BATCH; i++) {
		int result = keep_accepted(hub->keep, listener, &number, &sock);
		if (result < 0)
			accept_by_ourselves(hub);
		if (result <= 0)
			return;
		take_connection(hub, listener, number, sock);
	}
}

int keeping_listen(struct hub *hub)
{
	if (hub->holder != KEEP_KEEPER)
		return 0;
	int error = uv_poll_init(hub->loop, &hub->from_keeper, keep_get_fd(hub->keep));
	if (error == 0) {
		hub->from_keeper.data = hub;
		hub->listens_to_keeper = true;
		error = watch_start(&hub->from_keeper, UV_READABLE, keeper_event);
	}
	if (error < 0)
		log_error(hub->log, "cannot listen to the keeper: %s", uv_strerror(error));
	return error;
}
