/* SPDX-License-Identifier: MIT */
/*
 * connection - a VMM's socket: bytes and descriptors to messages, replies back. Reads with one
 * recvmsg() whatever is there, answers each request with one sendmsg().
 *
 * A VMM that doesn't read its replies is not read from until it does, so what it can make us hold
 * is one reply.
 *
 * Two ways of use: in a loop, vfu_connection_ready() when the socket is; or in a thread of its own,
 * vfu_connection_await() and vfu_connection_handle() in turns, which saves a system call a request
 * and the detour of the wake-up. Only await() blocks, and it touches nothing but the connection, so
 * it runs without the lock that devices need.
 */
#ifndef VFIO_USER_CONNECTION_H
#define VFIO_USER_CONNECTION_H

#include "vfio-user/session.h"

struct vfu_connection;
struct vfu_why;

/* What the loop should wait for next. */
enum vfu_wait {
	VFU_WAIT_READ,
	VFU_WAIT_WRITE,
	VFU_WAIT_OVER, /* destroy the connection */
};

/*
 * `sock` is taken over on success; it is close-on-exec. `function` NULL: the device is taken, the
 * client is to be refused. If the function is kept (kept.h), the VMM is attached by now. 0 or
 * -ENOMEM.
 */
int vfu_connection_create(struct vfu_connection **connection, int sock,
	struct vfu_function *function, const char *name, struct log *log);

/*
 * Go on with the VMM that an earlier process has served (kept.h), in the middle of a request or a
 * reply. `sock` is the same connection, and taken over on success. `function` is as it was made,
 * and kept. 0, or -errno with why->text: a descriptor is not held any more, no memory; then the
 * function is to be released. To be called in a turn; go on with vfu_connection_await(), or
 * vfu_connection_ready().
 */
int vfu_connection_resume(struct vfu_connection **connection, int sock,
	struct vfu_function *function, const char *name, struct log *log, struct vfu_why *why);

/* Closes the socket. Releases no function: that is for whoever gave it. NULL is allowed. */
void vfu_connection_destroy(struct vfu_connection *connection);

/* The socket is readable or writable (also on errors and hang-up). *requests, if not NULL, receives
 * how many messages were handled. */
enum vfu_wait vfu_connection_ready(struct vfu_connection *connection, unsigned *requests);

/*
 * Wait until there is something to handle, or until a reply that was held up can go on. Looks for
 * `spin_ns` nanoseconds before it sleeps. The socket is a blocking one. VFU_WAIT_OVER, or anything
 * else: call vfu_connection_handle() next. shutdown() of the socket ends the wait.
 */
enum vfu_wait vfu_connection_await(struct vfu_connection *connection, uint64_t spin_ns);

/* Handle one request of those that have been read, and answer it, or go on with a reply that was
 * held up. Never blocks. VFU_WAIT_OVER, or anything else: call vfu_connection_await() next. */
enum vfu_wait vfu_connection_handle(struct vfu_connection *connection);

const struct vfu_session *vfu_connection_session(const struct vfu_connection *connection);

#endif
