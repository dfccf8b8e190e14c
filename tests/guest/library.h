/* SPDX-License-Identifier: MIT */
/* The conversation's port on the public library: the same for host processes and guests. */
#ifndef LIBRARY_H
#define LIBRARY_H

#include <stddef.h>

#include <ivshmem/peer.h>

#include "talk.h"

struct library {
	struct talk_port port;
	struct ivshmem_peer *peer;
	uint64_t size;                 /* of the region */
	uint64_t rung[TALK_MAX_SEATS]; /* interrupts that port.rung() has not handed out yet */
};

/*
 * Open `uri` and fill in `self`, which the callbacks of `listener` get as their data; `interrupt`
 * is the port's own. 0, or -errno and a line about it in `reason`; -ENOSPC: the region is too small
 * for a conversation. The handle is closed by ivshmem_close() on self->peer.
 */
int library_open(struct library *self, const char *uri, struct ivshmem_listener listener,
	char *reason, size_t size);

#endif
