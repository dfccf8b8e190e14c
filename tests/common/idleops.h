/* SPDX-License-Identifier: MIT */
/* A loop that watches nothing and a keeper that holds nothing, for a server that is only looked at.
 */
#ifndef TESTS_IDLEOPS_H
#define TESTS_IDLEOPS_H

#include "server/server.h"

static bool idle_joined(void *data, struct server_peer *peer, int sock)
{
	(void)data, (void)peer;
	return sock >= 0;
}

static void idle_want_write(void *data, struct server_peer *peer, bool on)
{
	(void)data, (void)peer, (void)on;
}

static void idle_left(void *data, struct server_peer *peer)
{
	(void)data, (void)peer;
}

static int idle_keep(void *data, enum server_kept kind, uint64_t serial, const int *fds, unsigned n)
{
	(void)data, (void)kind, (void)serial, (void)fds, (void)n;
	return 0;
}

static void idle_forget(void *data, enum server_kept kind, uint64_t serial)
{
	(void)data, (void)kind, (void)serial;
}

static const struct server_ops idle_ops = {.joined = idle_joined,
	.want_write = idle_want_write,
	.left = idle_left,
	.keep = idle_keep,
	.forget = idle_forget};

#endif
