/* SPDX-License-Identifier: MIT */
/* Drives src/server with libuv: accepts, watches, calls server_run(), ends on a signal. */
#ifndef TOOLS_SERVER_LOOP_H
#define TOOLS_SERVER_LOOP_H

#include "config.h"
#include "listen.h"

/*
 * Hold SIGTERM, SIGINT and SIGHUP back until loop_serve() can end the clean way: a server that is
 * killed while it allocates memory would leave its objects behind. Call before anything is created.
 */
void loop_hold_signals(void);

/*
 * Serve until SIGTERM, SIGINT or SIGHUP, then tell every peer and return. Calls `ready` once
 * clients can be served. Takes over the listener: closes it when the end begins. 0, or -1 (said on
 * `log`).
 */
int loop_serve(const struct config *config, int region_fd, struct listener *listener,
	void (*ready)(void *data), void *data, struct log *log);

#endif
