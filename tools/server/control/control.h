/* SPDX-License-Identifier: MIT */
/*
 * control - the control socket of ivshmem-server: who wants to see or change something. The
 * protocol is Varlink, interface ivshmem.Control (docs/control.md). A client that does not read, or
 * sends what does not end, costs itself its connection and nobody else anything.
 */
#ifndef TOOLS_SERVER_CONTROL_CONTROL_H
#define TOOLS_SERVER_CONTROL_CONTROL_H

#include "hub/bells.h"
#include "hub/hub.h"

#include <sys/types.h>
#include <uv.h>

/* That it needs besides one for each client. */
#define CONTROL_DESCRIPTORS (1 + BELLS_SESSIONS * BELLS_DESCRIPTORS)

struct control;

struct control_config {
	gid_t read_group; /* members may read; (gid_t)-1: only root and the server's own user */
	unsigned max_clients;
	/* Read the configuration file again; 0, or -errno and one line in `reason` (512 bytes). */
	int (*reload)(void *data, char *reason);
	void *data;
};

/* Serve on a listening socket (borrowed). 0 or -errno. */
int control_start(struct control **out, const struct control_config *config, int listen_fd,
	struct hub *hub, uv_loop_t *loop, struct log *log);
void control_stop(struct control *control);

#endif
