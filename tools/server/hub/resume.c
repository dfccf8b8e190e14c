/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. What is held is looked at as a whole first: names sorted, so that all that
 * belongs to a region stands together. Regions with a spec are taken over. Only when that has
 * worked for all of them, what belongs to none is let go; so a program that cannot go on with what
 * another version has left destroys nothing of it.
 */
#include "keeping.h"

#include "base/parse.h"
#include "server/kept.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SPEC_LIMIT ((off_t)16 << 20) /* bytes: far more than any spec has */

/* A name, and what it says. */
struct held {
	char name[KEEP_NAME_SIZE], part[8], region[HUB_NAME_SIZE];
	uint64_t number; /* 0: none */
	size_t n;        /* descriptors */
	bool taken;
};

struct holdings {
	struct held *held;
	size_t n, room;
	bool failed; /* out of memory */
};

/* ---- names ---- */

static bool is_numbered(const char *part)
{
	return strcmp(part, "s") == 0 || strcmp(part, "spec") == 0 || part[0] == 'v';
}

/* PART.REGION or PART.REGION.NUMBER; else it is no name of ours, and belongs to no region. */
static void parse_name(struct held *held)
{
	const char *rest = strchr(held->name, '.');
	const char *end = held->name + strlen(held->name);

	if (!rest || (size_t)(rest - held->name) >= sizeof(held->part))
		return;
	memcpy(held->part, held->name, (size_t)(rest - held->name));
	rest++;
	if (is_numbered(held->part)) {
		const char *dot = strrchr(rest, '.');
		if (!dot || parse_uint(dot + 1, 1, UINT64_MAX, &held->number) < 0)
			return;
		end = dot;
	}
	if ((size_t)(end - rest) < sizeof(held->region))
		memcpy(held->region, rest, (size_t)(end - rest));
}

static bool note_name(void *data, const char *name, size_t n)
{
	struct holdings *all = data;

	if (all->n == all->room) {
		size_t room = all->room > 0 ? 2 * all->room : 64;
		struct held *held = reallocarray(all->held, room, sizeof(*held));
		all->failed = !held;
		if (!held)
			return false;
		all->held = held;
		all->room = room;
	}
	struct held *held = &all->held[all->n++];
	*held = (struct held){.n = n};
	snprintf(held->name, sizeof(held->name), "%s", name);
	parse_name(held);
	return true;
}

static int by_region(const void *a, const void *b)
{
	const struct held *one = a, *other = b;
	int order = strcmp(one->region, other->region);
	if (order == 0)
		order = strcmp(one->part, other->part);
	if (order == 0)
		order = one->number < other->number ? -1 : one->number > other->number;
	return order;
}

/* ---- one region ---- */

/* What is held of one region: a piece of the sorted list. */
struct share {
	struct hub *hub;
	struct held *held;
	size_t n;
	char *reason;
};

static int refuse(const struct share *share, int error, const char *format, const char *what)
{
	snprintf(share->reason, REASON_SIZE, format, what);
	return error;
}

static struct held *find(const struct share *share, const char *part)
{
	for (size_t i = 0; i < share->n; i++) {
		if (strcmp(share->held[i].part, part) == 0)
			return &share->held[i];
	}
	return NULL;
}

/* The one with the highest number: of a spec that was being changed there may be two. */
static struct held *find_last(const struct share *share, const char *part)
{
	struct held *last = NULL;
	for (size_t i = 0; i < share->n; i++) {
		if (strcmp(share->held[i].part, part) == 0)
			last = &share->held[i];
	}
	return last;
}

/* The descriptor of a part that has one: the caller's. */
static int take_one(const struct share *share, struct held *held, const char *part)
{
	int fd;
	int n = held ? keep_take(share->hub->keep, held->name, &fd, 1) : 0;

	if (n == 1) {
		held->taken = true;
		return fd;
	}
	return refuse(share, -EPROTO, "the holder of descriptors has no good %s", part);
}

static int read_spec(
	const struct share *share, int fd, struct region_spec *spec, struct region_life *life)
{
	struct stat st;
	int error = -EPROTO;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > SPEC_LIMIT)
		return refuse(share, error, "%s is no file of a spec", "what was left");
	char *text = calloc(1, (size_t)st.st_size + 1);
	if (!text)
		return refuse(share, -ENOMEM, "%s", "out of memory");
	if (pread(fd, text, (size_t)st.st_size, 0) == st.st_size)
		error = saved_read(text, strlen(text), spec, life, share->reason);
	else
		refuse(share, error, "%s cannot be read", "its spec");
	free(text);
	if (error == 0 && strcmp(spec->name, share->held[0].region) != 0) {
		region_spec_fini(spec);
		return refuse(share, -EPROTO, "its spec is that of %s", spec->name);
	}
	return error;
}

/* A connection; or all eventfds of a peer, one set after the other. */
static int take_peer(const struct share *share, const struct held *first, unsigned room,
	struct kept_descriptors *to)
{
	char name[KEEP_NAME_SIZE];

	to->fds = calloc(room, sizeof(*to->fds));
	if (!to->fds)
		return refuse(share, -ENOMEM, "%s", "out of memory");
	memcpy(name, first->name, sizeof(name));
	for (unsigned set = 1; to->n < room; set++) {
		int n = keep_take(share->hub->keep, name, to->fds + to->n, room - to->n);
		if (n < 0)
			return refuse(share, -EPROTO, "%s has more descriptors than vectors", name);
		if (n == 0)
			break;
		to->n += (unsigned)n;
		keeping_name_vectors(name, first->region, first->number, set);
	}
	return 0;
}

/* Connections and eventfds of peers, in an array of share->n. */
static int take_peers(const struct share *share, const struct hosted *hosted,
	struct kept_descriptors *taken, size_t *n)
{
	int error = 0;

	for (size_t i = 0; i < share->n && error == 0; i++) {
		struct held *held = &share->held[i];
		struct kept_descriptors *to = &taken[*n];
		bool is_socket = strcmp(held->part, "s") == 0;
		if (!is_socket && held->part[0] != 'v')
			continue;
		held->taken = true;
		if (!is_socket && strcmp(held->part, "v") != 0)
			continue; /* it goes with the first set */
		to->serial = held->number;
		to->kind = is_socket ? SERVER_KEPT_SOCKET : SERVER_KEPT_VECTORS;
		(*n)++;
		error = take_peer(share, held, is_socket ? 1 : hosted->spec.server.vectors, to);
	}
	return error;
}

static int resume_state(const struct share *share, struct hosted *hosted)
{
	struct server_config config = hosted->spec.server;
	struct kept_descriptors *taken = calloc(share->n, sizeof(*taken));
	size_t n = 0;
	bool sealed;

	if (!taken)
		return refuse(share, -ENOMEM, "%s", "out of memory");
	config.max_peers = hosted->life.state_peers;
	int fd = take_one(share, find(share, "state"), "state");
	int error = fd < 0 ? fd : take_peers(share, hosted, taken, &n);
	if (error == 0) {
		error = region_map(fd, 0, false, &hosted->state, &hosted->state_size, &sealed);
		if (error < 0)
			refuse(share, error, "its state cannot be mapped: %s", strerror(-error));
	}
	if (fd >= 0)
		close(fd);
	if (error == 0) {
		size_t size = kept_size(&config);
		if (size > hosted->state_size)
			size = hosted->state_size;
		error = kept_resume(hosted->server, hosted->state, size, taken, n, share->reason);
	}
	for (size_t i = 0; i < n; i++) {
		for (unsigned j = 0; error < 0 && j < taken[i].n; j++)
			close(taken[i].fds[j]);
		free(taken[i].fds);
	}
	free(taken);
	return error;
}

static struct hosted *make_hosted(const struct share *share, struct held *spec_held, int *error)
{
	struct region_life life;
	struct region_spec spec;
	struct hosted *hosted = NULL;

	int fd = take_one(share, spec_held, "spec");
	*error = fd < 0 ? fd : read_spec(share, fd, &spec, &life);
	if (fd >= 0)
		close(fd);
	if (*error < 0)
		return NULL;
	struct held *own = find(share, KEEPING_OWN), *bound = find(share, KEEPING_BOUND);
	int memory = take_one(share, own ? own : find(share, "memory"), "memory");
	int listener = memory < 0
		? memory
		: take_one(share, bound ? bound : find(share, "listen"), "listener");
	if (listener >= 0) {
		hosted = hosted_adopt(
			share->hub, &spec, &life, memory, listener, error, share->reason);
	} else {
		*error = listener;
		if (memory >= 0)
			close(memory);
	}
	region_spec_fini(&spec);
	return hosted;
}

static int resume_region(const struct share *share)
{
	struct held *spec = find_last(share, "spec");
	struct server_stats stats;
	int error;

	struct hosted *hosted = make_hosted(share, spec, &error);
	if (!hosted)
		return error;
	hosted->spec_number = spec->number;
	error = resume_state(share, hosted);
	if (error == 0 && hub_make_room(share->hub) < 0)
		error = refuse(share, -ENOMEM, "%s", "out of memory");
	if (error < 0) {
		hosted_disown(hosted);
		hosted_free(hosted);
		return error;
	}
	server_get_stats(hosted->server, &stats);
	hosted->used = stats.joins > 0; /* whether it has been cleared since, nobody knows */
	clearing_after_resume(hosted);
	server_set_limits(hosted->server, &hosted->spec.server);
	hub_insert(share->hub, hosted);
	hosted_start(hosted);
	return 0;
}

/* ---- all ---- */

static bool is_listener(const struct held *held)
{
	return strcmp(held->part, "listen") == 0 || strcmp(held->part, KEEPING_BOUND) == 0;
}

/* What belongs to no region: one that was just coming or going. */
static void let_go(struct hub *hub, const struct held *held)
{
	int *fds = calloc(held->n, sizeof(*fds));
	int n = fds ? keep_take(hub->keep, held->name, fds, held->n) : 0;
	for (int i = 0; i < n; i++) {
		if (is_listener(held))
			keeping_end_listener(hub, fds[i]);
		else if (strcmp(held->part, KEEPING_OWN) == 0)
			region_discard(fds[i]);
		else
			close(fds[i]);
	}
	free(fds);
	keep_drop(hub->keep, held->name);
}

static int resume_all(struct hub *hub, struct holdings *all)
{
	char reason[REASON_SIZE] = "";
	size_t next;

	for (size_t i = 0; i < all->n; i = next) {
		struct share share = {.hub = hub, .held = &all->held[i], .reason = reason};
		for (next = i; next < all->n; next++) {
			if (strcmp(all->held[next].region, all->held[i].region) != 0)
				break;
		}
		share.n = next - i;
		if (share.held[0].region[0] == '\0' || !find(&share, "spec"))
			continue;
		int error = resume_region(&share);
		if (error == 0)
			continue;
		log_error(hub->log,
			"cannot go on with what an earlier process has left of region %s: %s; it "
			"stays held",
			share.held[0].region, reason);
		return error;
	}
	for (size_t i = 0; i < all->n; i++) {
		if (!all->held[i].taken && !is_listener(&all->held[i])) /* that may be wanted yet */
			let_go(hub, &all->held[i]);
	}
	return 0;
}

/* With systemd listen.N is the unit's, and not ours to judge. */
size_t keeping_settle(struct hub *hub)
{
	struct holdings all = {0};
	size_t n = 0;

	if (hub->holder == KEEP_NOBODY)
		return 0;
	keep_visit(hub->keep, note_name, &all);
	for (size_t i = 0; i < all.n; i++) {
		if (hub->holder != KEEP_KEEPER && strcmp(all.held[i].part, KEEPING_BOUND) != 0)
			continue;
		let_go(hub, &all.held[i]);
		n++;
	}
	free(all.held);
	return n;
}

int keeping_resume(struct hub *hub)
{
	struct holdings all = {0};
	int error = -ENOMEM;

	if (hub->holder == KEEP_NOBODY)
		return 0;
	keep_visit(hub->keep, note_name, &all);
	if (all.n == 0 && !all.failed) {
		error = 0;
	} else if (!all.failed) {
		qsort(all.held, all.n, sizeof(*all.held), by_region);
		error = resume_all(hub, &all);
	} else {
		log_error(hub->log, "out of memory");
	}
	free(all.held);
	return error;
}
