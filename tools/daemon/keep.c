/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. A holder holds one descriptor for each name. A set of several goes into a
 * box (base/fdset.h) and is held as NAME+N, so it is there whole and in order or not at all. The
 * names of all that is held stand in a table here, so that neither a name that is taken nor the
 * holder's limit needs an answer of the holder.
 */
#include "daemon/keep.h"

#include "daemon/keep_internal.h"
#include "daemon/keeper_protocol.h"

#include "base/fdset.h"
#include "base/parse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The name that the holder knows it by: a box says how many descriptors are in it. */
static void held_name_of(char out[HELD_NAME_SIZE], const struct held *held)
{
	size_t used = (size_t)snprintf(out, HELD_NAME_SIZE, "%s", held->name);
	if (held->n > 1)
		snprintf(out + used, HELD_NAME_SIZE - used, "+%u", held->n);
}

static bool is_valid(const char *name)
{
	size_t length =
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
	return length > 0 && length < KEEP_NAME_SIZE && name[length] == '\0';
}

int keep_received(struct keep *keep, const char *held_as, int fd)
{
	char name[HELD_NAME_SIZE];
	uint64_t n = 1;

	snprintf(name, sizeof(name), "%s", held_as);
	char *plus = strrchr(name, '+');
	if (plus && parse_uint(plus + 1, 2, KEEP_MAX_FDS, &n) == 0)
		*plus = '\0';
	struct held *held = held_add(&keep->names, name, fd, &keep->names.list);
	if (held) {
		held->n = (unsigned)n;
		return 0;
	}
	close(fd);
	bool twice = held_find(&keep->names, name) != NULL;
	log_error(keep->log, "descriptor %s: %s", name, twice ? "there are two" : "no memory");
	return twice ? -EEXIST : -ENOMEM;
}

int keep_open(struct keep **out, struct log *log)
{
	struct keep *keep = calloc(1, sizeof(*keep));
	if (!keep)
		return -ENOMEM;
	*keep = (struct keep){.log = log, .sock = -1, .drops = LOG_LIMIT_INIT(10)};
	held_init(&keep->names);
	list_init(&keep->listeners);

	const char *number = getenv(KEEPER_VARIABLE);
	int result = number ? keeper_open(keep, number) : 0;
	unsetenv(KEEPER_VARIABLE);
	if (result == 0)
		result = systemd_open(keep);
	if (result < 0) {
		keep_close(keep);
		return result;
	}
	*out = keep;
	return 0;
}

void keep_close(struct keep *keep)
{
	if (!keep)
		return;
	held_fini(&keep->names);
	if (keep->sock >= 0)
		close(keep->sock);
	free(keep);
}

enum keep_holder keep_holder(const struct keep *keep)
{
	return keep->holder;
}

uint64_t keep_room(const struct keep *keep)
{
	return keep->holder == KEEP_NOBODY ? 0 : keep->max;
}

int keep_take(struct keep *keep, const char *name, int *fds, size_t max)
{
	struct held *held = held_find(&keep->names, name);
	if (!held || held->fd < 0)
		return 0;
	if (held->n > max)
		return -E2BIG;
	if (held->n == 1) {
		fds[0] = held->fd;
		held->fd = -1;
		return 1;
	}
	int n = fdset_unpack(held->fd, fds, max);
	if (n > 0) {
		close(held->fd);
		held->fd = -1;
	}
	return n;
}

void keep_give_back(struct keep *keep, const char *name, int fd)
{
	struct held *held = held_find(&keep->names, name);

	if (held && held->fd < 0)
		held->fd = fd;
	else if (fd >= 0)
		close(fd);
}

void keep_visit(
	struct keep *keep, bool (*visit)(void *data, const char *name, size_t n), void *data)
{
	list_for_each (link, &keep->names.list) {
		const struct held *held = container_of(link, struct held, link);
		if (held->fd >= 0 && !visit(data, held->name, held->n))
			return;
	}
}

int keep_put(struct keep *keep, const char *name, const int *fds, size_t n)
{
	char held_as[HELD_NAME_SIZE];

	if (keep->holder == KEEP_NOBODY)
		return -ENOTSUP;
	if (!is_valid(name) || n == 0 || n > KEEP_MAX_FDS)
		return -EINVAL;
	if (held_find(&keep->names, name))
		return -EEXIST;
	if (keep->names.count >= keep->max)
		return -ENOSPC;
	struct held *held = held_add(&keep->names, name, -1, &keep->names.list);
	if (!held)
		return -ENOMEM;
	held->n = (unsigned)n;
	held_name_of(held_as, held);
	int fd = n == 1 ? fds[0] : fdset_pack(fds, n);
	int result = fd;
	if (fd >= 0)
		result = keep->holder == KEEP_KEEPER ? keeper_put(keep, held_as, fd)
						     : systemd_put(keep, held_as, fd);
	if (n > 1 && fd >= 0)
		close(fd);
	if (result < 0)
		held_drop(&keep->names, held);
	return result == -ETOOMANYREFS ? -ENOSPC : result;
}

size_t keep_in_flight(const struct keep *keep, size_t n)
{
	return keep->holder == KEEP_NOBODY || n == 1 ? 0 : n; /* what is in a box */
}

void keep_drop(struct keep *keep, const char *name)
{
	char held_as[HELD_NAME_SIZE];
	struct held *held = held_find(&keep->names, name);

	if (!held)
		return;
	held_name_of(held_as, held);
	switch (keep->holder) {
	case KEEP_NOBODY:
		break;
	case KEEP_KEEPER:
		keeper_drop(keep, held_as);
		break;
	case KEEP_SYSTEMD:
		systemd_drop(keep, held_as);
		break;
	}
	held_drop(&keep->names, held);
}

int keep_accept(struct keep *keep, const char *listener, const char *prefix, uint64_t first)
{
	struct held *held = held_find(&keep->names, listener);

	if (keep->holder != KEEP_KEEPER)
		return -ENOTSUP;
	if (!is_valid(prefix) || strlen(prefix) >= sizeof(held->prefix))
		return -EINVAL;
	if (!held || held->n != 1)
		return -ENOENT;
	snprintf(held->prefix, sizeof(held->prefix), "%s", prefix);
	held->number = first;
	list_remove(&held->accepting);
	list_append(&keep->listeners, &held->accepting);
	return keeper_accept(keep, held, true);
}

void keep_stop_accepting(struct keep *keep, const char *listener)
{
	struct held *held = held_find(&keep->names, listener);

	/* It stays in the list: there may be connections on their way. */
	if (held && !list_empty(&held->accepting))
		keeper_accept(keep, held, false);
}

int keep_get_fd(const struct keep *keep)
{
	return keep->sock;
}

int keep_accepted(struct keep *keep, char listener[KEEP_NAME_SIZE], uint64_t *number, int *fd)
{
	return keep->holder == KEEP_KEEPER ? keeper_accepted(keep, listener, number, fd) : 0;
}

void keep_ready(struct keep *keep)
{
	if (keep->holder == KEEP_KEEPER)
		keeper_ready(keep);
	systemd_ready(keep);
}
