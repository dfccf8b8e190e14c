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

#include "holding.h"
#include "relay.h"

#include "vfio-user/device.h"
#include "vfio-user/kept.h"

#include <stdbool.h>
#include <uv.h>

#define SLOT_DEADLINE_MS 10000 /* for whoever has connected, to say something */

struct device_spec;
struct vmm;
struct resample_watch;

struct slot {
	/* Set by whoever makes it, and what is owned is owned by that one. */
	const char *name;
	const struct device_spec *spec;
	struct vfu_device *device;
	struct listener listener;
	uint64_t spin_ns; /* how long to look for further requests before sleeping */

	/* What outlives the process, if somebody holds; else NULL. */
	struct holding *holding;
	struct holding_of of;
	struct vfu_kept *kept;
	void *state; /* its memory */
	size_t state_size;
	struct relay *relay;  /* NULL also: no server, or not yet */
	uint64_t next_number; /* of a connection */
	bool is_new;          /* not taken over from an earlier process */

	uv_loop_t *loop;
	struct acceptor acceptor;
	struct vmm *attached; /* NULL: none */
	struct vmm *resumed;  /* the same, before it goes on */
	unsigned n_refused;   /* connections that are being told that the device is taken */
	uv_poll_t peer;       /* what peers and server send */
	struct resample_watch *resample;
	uv_async_t resample_changed; /* from any thread */
	int resample_fd;  /* to be watched, or -1 as in the beginning; owned. In a turn */
	uv_timer_t retry; /* the server may come late */
	uv_work_t attempt_work;
	struct vfu_attempt attempt;
	struct relay *attempted; /* its relay, or NULL */
	struct log *log;
	struct log_limit connections; /* that are logged */
	bool ending;
};

/* Begin to serve on `loop`: be ready to, for all slots; then do it. 0 or a libuv error; then end it
 * with slot_stop() all the same. */
int slot_prepare(struct slot *slot, uv_loop_t *loop);
int slot_start(struct slot *slot);

/* Somebody has connected; `number` is that of the connection, as it is held. Takes `sock` over. */
void slot_connected(struct slot *slot, int sock, uint64_t number);

/* A connection has ended: nobody is to hold it any more. */
void slot_let_go(const struct slot *slot, uint64_t number);

/* The keeper, which has accepted so far, has died. */
void slot_accept_itself(struct slot *slot);

/* Stop listening, detach the VMM. The handles are the loop's to close. */
void slot_stop(struct slot *slot);

#endif
