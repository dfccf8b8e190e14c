/* SPDX-License-Identifier: MIT */
/* The worker's side of keeper_protocol.h. */
#include "daemon/keep_internal.h"
#include "daemon/keeper_protocol.h"

#include "base/fdpass.h"
#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int take_over(struct keep *keep)
{
	struct keeper_message m;
	int fd, result;

	while ((result = keeper_receive(keep->sock, true, &m, &fd)) > 0) {
		if (m.op == KEEPER_HELD && fd >= 0) {
			result = keep_received(keep, m.name, fd);
			if (result < 0)
				return result;
			continue;
		}
		if (fd >= 0)
			close(fd);
		if (m.op == KEEPER_END) {
			keep->max = m.number;
			return 0;
		}
	}
	if (result == -EPROTO)
		log_error(keep->log, "ivshmem-keeper is of another version: end it and start it");
	else
		log_error(keep->log, "ivshmem-keeper: %s",
			result ? strerror(-result) : "it has gone");
	return result ? result : -EPIPE;
}

int keeper_open(struct keep *keep, const char *number)
{
	uint64_t sock;

	if (parse_uint(number, 0, INT32_MAX, &sock) < 0 ||
		fcntl((int)sock, F_SETFD, FD_CLOEXEC) < 0) {
		log_error(keep->log, "%s=%s: no such descriptor is open", KEEPER_VARIABLE, number);
		return -EINVAL;
	}
	keep->sock = (int)sock;
	keep->holder = KEEP_KEEPER;
	return take_over(keep);
}

/* The keeper does not wait for us, so to wait for it cannot take long. */
static int send_message(struct keep *keep, const struct keeper_message *m, int fd)
{
	ssize_t sent;

	while ((sent = fdpass_send(keep->sock, m, sizeof(*m), fd)) == -EAGAIN) {
		struct pollfd entry = {.fd = keep->sock, .events = POLLOUT};
		poll(&entry, 1, -1);
	}
	return sent < 0 ? (int)sent : 0;
}

static int send_named(struct keep *keep, enum keeper_op op, const char *name, int fd)
{
	struct keeper_message m = {.op = op, .version = KEEPER_VERSION};
	snprintf(m.name, sizeof(m.name), "%s", name);
	return send_message(keep, &m, fd);
}

int keeper_put(struct keep *keep, const char *held_as, int fd)
{
	return send_named(keep, KEEPER_PUT, held_as, fd);
}

void keeper_drop(struct keep *keep, const char *held_as)
{
	send_named(keep, KEEPER_DROP, held_as, -1);
}

int keeper_accept(struct keep *keep, const struct held *listener, bool on)
{
	struct keeper_message m = {
		.op = KEEPER_ACCEPT,
		.version = KEEPER_VERSION,
		.number = listener->number,
	};
	memcpy(m.name, listener->name, sizeof(m.name));
	if (on)
		memcpy(m.prefix, listener->prefix, sizeof(m.prefix));
	return send_message(keep, &m, -1);
}

void keeper_ready(struct keep *keep)
{
	send_named(keep, KEEPER_READY, "", -1);
}

/* Whose connection is PREFIX.NUMBER? NULL: of a listener that has been dropped. */
static struct held *find_listener(struct keep *keep, const char *name, uint64_t *number)
{
	const char *dot = strrchr(name, '.');
	if (!dot || parse_uint(dot + 1, 0, UINT64_MAX, number) < 0)
		return NULL;
	list_for_each (link, &keep->listeners) {
		struct held *held = container_of(link, struct held, accepting);
		if (strlen(held->prefix) == (size_t)(dot - name) &&
			memcmp(held->prefix, name, (size_t)(dot - name)) == 0)
			return held;
	}
	return NULL;
}

int keeper_accepted(struct keep *keep, char listener[KEEP_NAME_SIZE], uint64_t *number, int *fd)
{
	struct keeper_message m;
	int result;

	while ((result = keeper_receive(keep->sock, false, &m, fd)) > 0) {
		struct held *held = find_listener(keep, m.name, number);
		if (held && *fd >= 0 && held_add(&keep->names, m.name, -1, &keep->names.list)) {
			memcpy(listener, held->name, KEEP_NAME_SIZE);
			return 1;
		}
		keeper_drop(keep, m.name);
		listener[0] = '\0';
		if (!held && *fd >= 0)
			return 1;
		if (*fd >= 0)
			close(*fd);
	}
	if (result == -EAGAIN)
		return 0;
	return result ? result : -EPIPE;
}
