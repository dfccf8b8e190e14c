/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A VMM's processor stands still until its request is answered, so what counts are system calls:
 * one recvmsg() takes all that is there, header and payload and often several requests at once; one
 * sendmsg() a reply, as some VMMs can't put one together from two.
 *
 * Which request a descriptor belongs to: VMMs attach descriptors to the first byte of a message.
 * The kernel, in one read, may put bytes without descriptors in front of such a byte, but nothing
 * of a later sendmsg() behind it (docs/vfio-user.md, section 1). So descriptors belong to the last
 * message that begins in the bytes they came with; and if none begins there, to nobody.
 *
 * Requests are handled in order, and none is begun before the reply to the one before is out. While
 * a reply waits for the VMM to read, nothing is read from it.
 *
 * A thread handles one request at a time, so that other devices get their turn in between; in a
 * loop, a call reads once.
 */
#include "vfio-user/connection_internal.h"

#include "base/clock.h"
#include "base/fdpass.h"
#include "vfio-user/kept_internal.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CROWDED_PAUSE_NS 5000000

static_assert(VFU_FDS_MAX == FDPASS_RECV_MAX, "what we announce is what we can receive");

static void close_held(struct held *held)
{
	while (held->n > 0)
		close(held->fds[--held->n]);
}

struct vfu_connection *connection_make(
	int sock, struct vfu_function *function, const char *name, struct log *log)
{
	struct vfu_kept *kept = function ? function->kept : NULL;
	/* Not calloc(): the buffers are large and mostly never touched. */
	struct vfu_connection *c = malloc(sizeof(*c) + (kept ? 0 : (size_t)2 * VFU_MESSAGE_MAX));

	if (!c)
		return NULL;
	memset(c, 0, sizeof(*c));
	c->sock = sock;
	c->kept = kept;
	c->in = kept ? kept->state.in : c->own;
	c->out = kept ? kept->state.out : c->own + VFU_MESSAGE_MAX;
	vfu_session_init(&c->session, function, name, log);
	return c;
}

int vfu_connection_create(struct vfu_connection **connection, int sock,
	struct vfu_function *function, const char *name, struct log *log)
{
	*connection = connection_make(sock, function, name, log);
	if (!*connection)
		return -ENOMEM;
	if ((*connection)->kept)
		vfu_kept_begin_vmm((*connection)->kept);
	return 0;
}

void vfu_connection_destroy(struct vfu_connection *connection)
{
	if (!connection)
		return;
	close_held(&connection->early);
	close_held(&connection->late);
	if (connection->sock >= 0)
		close(connection->sock);
	free(connection);
}

const struct vfu_session *vfu_connection_session(const struct vfu_connection *connection)
{
	return &connection->session;
}

/* The connection is over, for a negative errno; 0: the VMM has hung up. */
static enum vfu_wait over(struct vfu_connection *c, int error)
{
	const char *why = strerror(-error);

	if (error == 0 || error == -EPIPE || error == -ECONNRESET)
		return VFU_WAIT_OVER;
	if (error == -EMFILE)
		why = "this process has no free descriptor for those that came";
	else if (error == -EMSGSIZE)
		why = "too many descriptors came at once";
	else if (error == -EBADMSG)
		why = "what came is no message, or one that is too long";
	log_warning(c->session.log, "%s: connection to the VMM closed: %s", c->session.name, why);
	return VFU_WAIT_OVER;
}

void connection_sent(struct vfu_connection *c, size_t bytes)
{
	c->sent += bytes;
	c->replying = c->sent < c->reply.size;
}

/* Send the reply, or the rest of it. */
static enum vfu_wait send_reply(struct vfu_connection *c)
{
	/* The descriptor has gone with the first byte. */
	int fd = c->sent == 0 ? c->reply.fd : -1;
	ssize_t sent = c->kept
		? kept_send(c, fd)
		: fdpass_send(c->sock, c->out + c->sent, c->reply.size - c->sent, fd);

	c->crowded = sent == -ETOOMANYREFS;
	if (sent < 0 && sent != -EAGAIN && !c->crowded)
		return over(c, (int)sent);
	connection_sent(c, sent > 0 ? (size_t)sent : 0);
	if (c->replying)
		return VFU_WAIT_WRITE;
	return c->closing ? VFU_WAIT_OVER : VFU_WAIT_READ;
}

/* The last message that begins in in[from .. have), or `have` if none does. */
static size_t last_beginning(const struct vfu_connection *c, size_t from)
{
	size_t last = c->have;
	struct vfu_header header;

	for (size_t at = c->at; at < c->have; at += header.size) {
		if (at >= from)
			last = at;
		if (vfu_frame(c->in + at, c->have - at, &header) != VFU_FRAME_WHOLE)
			break;
	}
	return last;
}

/* At most one message is in the buffer then, and incomplete. */
void connection_move(struct vfu_connection *c)
{
	memmove(c->in, c->in + c->at, c->have - c->at);
	c->have -= c->at;
	c->early.owner -= c->at;
	c->late.owner -= c->at;
	c->at = 0;
}

/* What came late is of the incomplete message, or it would have been handled. */
void connection_begin_read(struct vfu_connection *c)
{
	if (c->late.n == 0)
		return;
	c->early = c->late;
	c->late.n = 0;
}

void connection_end_read(struct vfu_connection *c, size_t bytes)
{
	size_t from = c->have;

	c->have += bytes;
	c->late.owner = last_beginning(c, from);
	if (c->late.owner < c->have)
		return;
	if (c->kept)
		kept_loosen(c, &c->late);
	close_held(&c->late);
}

/* One read: bytes, 0 at the end, -errno. */
static int receive(struct vfu_connection *c, bool wait)
{
	if (c->kept)
		return kept_receive(c, wait);
	connection_move(c);
	connection_begin_read(c);
	ssize_t got = (wait ? fdpass_await : fdpass_recv)(
		c->sock, c->in + c->have, VFU_MESSAGE_MAX - c->have, c->late.fds, &c->late.n);
	if (got > 0)
		connection_end_read(c, (size_t)got);
	return (int)got;
}

/* The descriptors of the message at `at`. */
static struct held *held_by(struct vfu_connection *c, size_t at)
{
	return c->early.n > 0 && c->early.owner == at ? &c->early : &c->late;
}

static enum vfu_wait handle(struct vfu_connection *c, const struct vfu_header *header)
{
	struct held *held = held_by(c, c->at);
	const struct vfu_request request = {
		.header = *header,
		.payload = c->in + c->at + VFU_HEADER_SIZE,
		.fds = held->fds,
		.n_fds = held->owner == c->at ? held->n : 0,
	};

	vfu_reply_init(&c->reply, c->out);
	c->sent = 0;
	enum vfu_outcome outcome = vfu_session_handle(&c->session, &request, &c->reply);
	held->n -= request.n_fds;
	c->at += header->size;
	c->replying = outcome == VFU_SEND || outcome == VFU_SEND_AND_CLOSE;
	c->closing = outcome == VFU_SEND_AND_CLOSE;
	if (c->kept)
		kept_handled(c, &request, held->first);
	switch (outcome) {
	case VFU_NOTHING:
		return VFU_WAIT_READ;
	case VFU_CLOSE:
		return VFU_WAIT_OVER;
	case VFU_SEND_AND_CLOSE:
	case VFU_SEND:
		break;
	}
	return send_reply(c);
}

/* Has a message more come with the last read? (Or what is none.) */
static bool has_message(const struct vfu_connection *c)
{
	struct vfu_header header;
	return vfu_frame(c->in + c->at, c->have - c->at, &header) != VFU_FRAME_MORE;
}

/* An earlier process has sent the last reply. */
static bool is_over(const struct vfu_connection *c)
{
	return c->closing && !c->replying;
}

enum vfu_wait vfu_connection_await(struct vfu_connection *c, uint64_t spin_ns)
{
	struct pollfd entry = {.fd = c->sock, .events = POLLOUT};
	const struct timespec pause = {.tv_nsec = CROWDED_PAUSE_NS};

	if (is_over(c))
		return VFU_WAIT_OVER;
	if (c->replying) {
		if (c->crowded)
			nanosleep(&pause, NULL); /* nothing tells when it is over */
		else
			poll(&entry, 1, -1);
		return VFU_WAIT_WRITE;
	}
	if (has_message(c))
		return VFU_WAIT_READ;
	int got = -EAGAIN;
	if (spin_ns > 0) {
		uint64_t end = clock_ns() + spin_ns;
		do {
			got = receive(c, false);
		} while (got == -EAGAIN && clock_ns() < end);
	}
	if (got == -EAGAIN)
		got = receive(c, true);
	return got > 0 ? VFU_WAIT_READ : over(c, got);
}

/* One request, if there is a whole one; *handled says so. Or the rest of the reply to the last. */
static enum vfu_wait handle_next(struct vfu_connection *c, bool *handled)
{
	struct vfu_header header;

	*handled = false;
	if (c->replying)
		return send_reply(c);
	switch (vfu_frame(c->in + c->at, c->have - c->at, &header)) {
	case VFU_FRAME_MORE:
		break;
	case VFU_FRAME_BAD:
		return over(c, -EBADMSG);
	case VFU_FRAME_WHOLE:
		*handled = true;
		return handle(c, &header);
	}
	return VFU_WAIT_READ;
}

enum vfu_wait vfu_connection_handle(struct vfu_connection *connection)
{
	bool handled;
	return handle_next(connection, &handled);
}

enum vfu_wait vfu_connection_ready(struct vfu_connection *connection, unsigned *requests)
{
	enum vfu_wait wait = VFU_WAIT_READ;
	bool handled = true;
	unsigned count = 0;

	if (is_over(connection))
		return VFU_WAIT_OVER;
	if (connection->replying) {
		wait = send_reply(connection);
	} else if (!has_message(connection)) {
		int got = receive(connection, false);
		if (got <= 0 && got != -EAGAIN)
			return over(connection, got);
	}
	while (wait == VFU_WAIT_READ && handled) {
		wait = handle_next(connection, &handled);
		count += handled;
	}
	if (requests)
		*requests = count;
	return wait;
}
