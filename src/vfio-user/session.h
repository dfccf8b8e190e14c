/* SPDX-License-Identifier: MIT */
/*
 * session - what each vfio-user request does and answers. Requests in, replies out; no socket.
 *
 * Rules: docs/vfio-user.md. A region access is never answered with an error, since one VMM logs
 * each and another hangs; errors are for VERSION, unknown commands and malformed requests.
 */
#ifndef VFIO_USER_SESSION_H
#define VFIO_USER_SESSION_H

#include "base/log.h"
#include "vfio-user/function.h"
#include "vfio-user/message.h"

struct vfu_session {
	struct vfu_function *function; /* NULL: the device is taken, VERSION is refused (EBUSY) */
	struct log *log;               /* may be NULL */
	struct log_limit limit;
	const char *name;  /* of the device, for the log */
	unsigned restarts; /* resets of a device that a guest had enabled */
	bool agreed;       /* VERSION was accepted */
	bool configured;   /* the guest has enabled the device since the last reset */
};

void vfu_session_init(struct vfu_session *session, struct vfu_function *function, const char *name,
	struct log *log);

/* One whole message. */
struct vfu_request {
	struct vfu_header header;
	const uint8_t *payload; /* header.size - VFU_HEADER_SIZE bytes */
	const int *fds;         /* came with it; the session takes them over */
	size_t n_fds;
};

enum vfu_outcome {
	VFU_SEND,           /* send the reply */
	VFU_NOTHING,        /* there is none to send */
	VFU_SEND_AND_CLOSE, /* send the reply, then close the connection */
	VFU_CLOSE,          /* close the connection */
};

/* `reply` is initialised and its buffer has VFU_MESSAGE_MAX bytes. */
enum vfu_outcome vfu_session_handle(
	struct vfu_session *session, const struct vfu_request *request, struct vfu_reply *reply);

#endif
