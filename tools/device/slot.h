/* SPDX-License-Identifier: MIT */
/*
 * slot - a device in its place: the socket where VMMs connect, the one that is attached, and the
 * descriptors of the device that must be watched. Functions and members belong to the loop's thread
 * unless stated; the device itself to whoever has the turn (turn.h).
 */
#ifndef TOOLS_DEVICE_SLOT_H
#define TOOLS_DEVICE_SLOT_H

#include "daemon/acceptor.h"
#include "daemon/listen.h"

#include "vfio-user/device.h"

#include <stdbool.h>
#include <uv.h>

#define SLOT_DEADLINE_MS 10000 /* for whoever has connected, to say something */

struct vmm;
struct resample_watch;

struct slot {
	/* Set by whoever makes it, and what is owned is owned by that one. */
	const char *name;
	struct vfu_device *device;
	struct listener listener;
	uint64_t spin_ns; /* how long to look for further requests before sleeping */

	uv_loop_t *loop;
	struct acceptor acceptor;
	struct vmm *attached; /* NULL: none */
	unsigned n_refused;   /* connections that are being told that the device is taken */
	uv_poll_t peer;       /* what peers and server send */
	struct resample_watch *resample;
	uv_async_t resample_changed; /* from any thread */
	int resample_fd;  /* to be watched, or -1 as in the beginning; owned. In a turn */
	uv_timer_t retry; /* the server may come late */
	uv_work_t attempt_work;
	struct vfu_attempt attempt;
	struct log *log;
	struct log_limit connections; /* that are logged */
	bool ending;
};

/* Begin to serve on `loop`. 0 or a libuv error; then end it with slot_stop() all the same. */
int slot_start(struct slot *slot, uv_loop_t *loop, struct log *log);

/* Stop listening, detach the VMM. The handles are the loop's to close. */
void slot_stop(struct slot *slot);

#endif
