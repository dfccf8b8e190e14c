/* SPDX-License-Identifier: MIT */
/* A connection, and what is done differently if it outlives the process (connection_kept.c). */
#ifndef VFIO_USER_CONNECTION_INTERNAL_H
#define VFIO_USER_CONNECTION_INTERNAL_H

#include "vfio-user/connection.h"

#include <sys/types.h>

/* Descriptors that have come with the message that begins at in[owner]. */
struct held {
	size_t owner, n;
	uint64_t first; /* if they are kept: the number of the first */
	int fds[VFU_FDS_MAX];
};

struct vfu_connection {
	int sock; /* owned */
	struct vfu_session session;
	struct vfu_kept *kept; /* NULL: it ends with the process */
	size_t at, have;       /* requests that are not handled yet: in[at .. have) */
	struct held early;     /* of a message that was incomplete before the last read */
	struct held late;      /* of a message that began in the last read */
	size_t sent;           /* of the reply in `out`; what has gone */
	struct vfu_reply reply;
	bool replying; /* the reply is not out yet */
	bool crowded;  /* because too many descriptors of this user are under way, not only ours */
	bool closing;  /* and it is the last */
	uint8_t *in, *out; /* `own`, or kept memory */
	_Alignas(8) uint8_t own[];
};

/* One that has said nothing yet; NULL: no memory. */
struct vfu_connection *connection_make(
	int sock, struct vfu_function *function, const char *name, struct log *log);

/* Move what is in the buffer to its beginning. */
void connection_move(struct vfu_connection *c);

/* A read is about to begin; or it has brought `bytes`, and the descriptors in `late`. */
void connection_begin_read(struct vfu_connection *c);
void connection_end_read(struct vfu_connection *c, size_t bytes);

/* So many bytes more of the reply are out. */
void connection_sent(struct vfu_connection *c, size_t bytes);

/*
 * If it is kept. A read as fdpass_await() or fdpass_recv(): bytes, 0 at the end, -errno.
 */
int kept_receive(struct vfu_connection *c, bool wait);

/* Send what is left of the reply; as fdpass_send(). In a turn. */
ssize_t kept_send(struct vfu_connection *c, int fd);

/* A request is done, to which descriptors came, the first of them as `first`. In the same turn. */
void kept_handled(struct vfu_connection *c, const struct vfu_request *request, uint64_t first);

/* These belong to nobody. */
void kept_loosen(struct vfu_connection *c, const struct held *held);

#endif
