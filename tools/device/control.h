/* SPDX-License-Identifier: MIT */
/*
 * control - the control socket of ivshmem-device, where who may connect sees what its devices do.
 * The protocol is Varlink, interface ivshmem.Device (docs/control.md). Of the loop's thread.
 */
#ifndef TOOLS_DEVICE_CONTROL_H
#define TOOLS_DEVICE_CONTROL_H

#include "slot.h"

#include "daemon/listen.h"

#include <stddef.h>
#include <sys/types.h>
#include <uv.h>

struct service;

struct control_config {
	const char *path; /* NULL: no control socket */
	gid_t read_group; /* members may see; (gid_t)-1: only root and the process's own user */
};

struct control {
	struct listener listener;
	struct holding *holding;
	struct service *service; /* NULL: it has not started */
	const struct slot *slots;
	size_t n;
	gid_t read_group;
};

/* Listen; nobody is answered yet. 0, or -1 having said why. Then too control_close() is fine. */
int control_open(struct control *control, struct holding *holding,
	const struct control_config *config, struct log *log);

/* Serve on `loop`, if it listens; then end with control_stop(), before the slots do. 0 or -errno.
 */
int control_start(struct control *control, const struct slot *slots, size_t n, uv_loop_t *loop,
	struct log *log);
void control_stop(struct control *control);
void control_close(struct control *control);

#endif
