/* SPDX-License-Identifier: MIT */
/* Drives src/server with libuv: accepts, watches, calls server_run(), ends on a signal. */
#ifndef TOOLS_SERVER_LOOP_H
#define TOOLS_SERVER_LOOP_H

#include "config.h"

#include "daemon/listen.h"
#include "daemon/startup.h"

/*
 * Serve until SIGTERM, SIGINT or SIGHUP, then tell every peer and return. Calls startup_ready()
 * once clients can be served. Takes over the listener: closes it when the end begins. 0, or -1
 * (said on the log).
 */
int loop_serve(const struct config *config, int region_fd, struct listener *listener,
	struct startup *startup);

#endif
