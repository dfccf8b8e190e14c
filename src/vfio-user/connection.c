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
#include "vfio-user/connection.h"

#include "base/clock.h"
#include "base/fdpass.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CROWDED_PAUSE_NS 5000000

static_assert(VFU_FDS_MAX == FDPASS_RECV_MAX, "what we announce is what we can receive");

/* Descriptors that have come with the message at `owner` in the buffer. */
struct held {
	size_t owner, n;
	int fds[VFU_FDS_MAX];
};

struct vfu_connection {
	int sock; /* owned */
	struct vfu_session session;
	size_t at, have;   /* requests that are not handled yet: in[at .. have) */
	struct held early; /* of a message that was incomplete before the last read */
	struct held late;  /* of a message that began in the last read */
	size_t sent;       /* of the reply in `out`; what has gone */
	struct vfu_reply reply;
	bool replying; /* the reply is not out yet */
	bool crowded;  /* because too many descriptors of this user are under way, not only ours */
	bool closing;  /* and it is the last */
	_Alignas(8) uint8_t in[VFU_MESSAGE_MAX];
	_Alignas(8) uint8_t out[VFU_MESSAGE_MAX];
};

static void close_held(struct held *held)
{
	while (held->n > 0)
		close(held->fds[--held->n]);
}

int vfu_connection_create(struct vfu_connection **connection, int sock,
	struct vfu_function *function, const char *name, struct log *log)
{
	/* Not calloc(): the buffers are large and mostly never touched. */
	struct vfu_connection *c = malloc(sizeof(*c));

	if (!c)
		return -ENOMEM;
	memset(c, 0, offsetof(struct vfu_connection, in));
	c->sock = sock;
	vfu_session_init(&c->session, function, name, log);
	*connection = c;
	return 0;
}

void vfu_connection_destroy(struct vfu_connection *connection)
{
	if (!connection)
		return;
	close_held(&connection->early);
	close_held(&connection->late);
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

/* Send the reply, or the rest of it. */
static enum vfu_wait send_reply(struct vfu_connection *c)
{
	/* The descriptor has gone with the first byte. */
	ssize_t sent = fdpass_send(c->sock, c->reply.bytes + c->sent, c->reply.size - c->sent,
		c->sent == 0 ? c->reply.fd : -1);

	c->crowded = sent == -ETOOMANYREFS;
	if (sent < 0 && sent != -EAGAIN && !c->crowded)
		return over(c, (int)sent);
	if (sent > 0)
		c->sent += (size_t)sent;
	c->replying = c->sent < c->reply.size;
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

typedef ssize_t receive_function(
	int sock, void *bytes, size_t size, int fds[FDPASS_RECV_MAX], size_t *n_fds);

/* One read: bytes, 0 at the end, -errno. At most one incomplete message is in the buffer, so there
 * is room. */
static int receive(struct vfu_connection *c, receive_function *from_socket)
{
	memmove(c->in, c->in + c->at, c->have - c->at);
	c->have -= c->at;
	c->at = 0;
	if (c->late.n > 0) { /* its message is the incomplete one, or it would have been handled */
		c->early = c->late;
		c->early.owner = 0;
		c->late.n = 0;
	}

	size_t from = c->have;
	ssize_t got =
		from_socket(c->sock, c->in + from, sizeof(c->in) - from, c->late.fds, &c->late.n);
	if (got > 0) {
		c->have += (size_t)got;
		c->late.owner = last_beginning(c, from);
		if (c->late.owner == c->have)
			close_held(&c->late);
	}
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
	switch (outcome) {
	case VFU_NOTHING:
		return VFU_WAIT_READ;
	case VFU_CLOSE:
		return VFU_WAIT_OVER;
	case VFU_SEND_AND_CLOSE:
		c->closing = true;
		break;
	case VFU_SEND:
		break;
	}
	return send_reply(c);
}

enum vfu_wait vfu_connection_await(struct vfu_connection *c, uint64_t spin_ns)
{
	struct pollfd entry = {.fd = c->sock, .events = POLLOUT};
	const struct timespec pause = {.tv_nsec = CROWDED_PAUSE_NS};

	if (c->replying) {
		if (c->crowded)
			nanosleep(&pause, NULL); /* nothing tells when it is over */
		else
			poll(&entry, 1, -1);
		return VFU_WAIT_WRITE;
	}
	struct vfu_header header;
	if (vfu_frame(c->in + c->at, c->have - c->at, &header) != VFU_FRAME_MORE)
		return VFU_WAIT_READ; /* more has come with the last read */
	int got = -EAGAIN;
	if (spin_ns > 0) {
		uint64_t end = clock_ns() + spin_ns;
		do {
			got = receive(c, fdpass_recv);
		} while (got == -EAGAIN && clock_ns() < end);
	}
	if (got == -EAGAIN)
		got = receive(c, fdpass_await);
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

	if (connection->replying) {
		wait = send_reply(connection);
	} else {
		int got = receive(connection, fdpass_recv);
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
