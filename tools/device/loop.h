/* SPDX-License-Identifier: MIT */
/* Serves devices to virtual machines with libuv, until a signal ends it. */
#ifndef TOOLS_DEVICE_LOOP_H
#define TOOLS_DEVICE_LOOP_H

#include "slot.h"

#include "daemon/startup.h"

#include <stddef.h>

struct control;

/*
 * Serve all `n` slots, and `control` besides, until SIGTERM, SIGINT or SIGHUP, then detach the VMMs
 * and return. 0, or -1 (said on `log`). Closes the listeners, and lets go of what is held; where
 * systemd holds it all stays as it is, and this ends the process.
 */
int loop_serve(struct slot *slots, size_t n, struct holding *holding, struct control *control,
	struct startup *startup);

#endif
