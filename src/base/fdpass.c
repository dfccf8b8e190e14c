/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A join of the thousandth peer is thousands of 8-byte messages with one descriptor each, so the
 * cost of a message is the product's speed. sendmmsg() of 64 saves a third of the processor time of
 * single sendmsg() calls; beyond 64 nothing more is gained. The headers of a batch never change
 * between uses except for the eight bytes and the descriptor, so they are built once.
 *
 * Rejected: several descriptors in one message. It is thirty times cheaper, but the protocol is one
 * descriptor a message, and unmodified clients close all but the first.
 */
#include "base/fdpass.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

union one_fd {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

static void put_fd(union one_fd *control, struct msghdr *msg, int fd)
{
	msg->msg_control = control->space;
	msg->msg_controllen = sizeof(control->space);
	control->header.cmsg_level = SOL_SOCKET;
	control->header.cmsg_type = SCM_RIGHTS;
	control->header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control->header), &fd, sizeof(fd));
}

/* Take every descriptor out of the control data, however it was packed. The buffer that the caller
 * gave has room for FDPASS_RECV_MAX, so there cannot be more. */
static size_t take_fds(struct msghdr *msg, int *fds)
{
	size_t n = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (n < FDPASS_RECV_MAX)
				fds[n++] = fd;
			else
				close(fd);
		}
	}
	return n;
}

static ssize_t receive(
	int sock, void *bytes, size_t size, int fds[FDPASS_RECV_MAX], size_t *n_fds, int flags)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(FDPASS_RECV_MAX * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = bytes, .iov_len = size};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof(control.space),
	};
	ssize_t got;

	*n_fds = 0;
	do {
		got = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | flags);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;

	*n_fds = take_fds(&msg, fds);
	if (!(msg.msg_flags & MSG_CTRUNC))
		return got;

	/* Either we had no free slot (nothing or only a part arrived), or there were too many. */
	int error = *n_fds == FDPASS_RECV_MAX ? -EMSGSIZE : -EMFILE;
	while (*n_fds > 0)
		close(fds[--*n_fds]);
	return error;
}

ssize_t fdpass_recv(int sock, void *bytes, size_t size, int fds[FDPASS_RECV_MAX], size_t *n_fds)
{
	return receive(sock, bytes, size, fds, n_fds, MSG_DONTWAIT);
}

ssize_t fdpass_await(int sock, void *bytes, size_t size, int fds[FDPASS_RECV_MAX], size_t *n_fds)
{
	return receive(sock, bytes, size, fds, n_fds, 0);
}

ssize_t fdpass_look_at_fds(
	int sock, void *bytes, size_t size, int fds[FDPASS_RECV_MAX], size_t *n_fds)
{
	return receive(sock, bytes, size, fds, n_fds, MSG_PEEK | MSG_DONTWAIT);
}

ssize_t fdpass_look(int sock, void *bytes, size_t size, bool wait, bool *with_fds)
{
	struct iovec iov = {.iov_base = bytes, .iov_len = size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t got;

	do {
		got = recvmsg(sock, &msg, MSG_PEEK | (wait ? 0 : MSG_DONTWAIT));
	} while (got < 0 && errno == EINTR);
	*with_fds = got >= 0 && (msg.msg_flags & MSG_CTRUNC); /* no room was given for them */
	return got < 0 ? -errno : got;
}

ssize_t fdpass_send(int sock, const void *bytes, size_t size, int fd)
{
	union one_fd control;
	struct iovec iov = {.iov_base = (void *)bytes, .iov_len = size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t sent;

	if (fd >= 0) {
		memset(&control, 0, sizeof(control));
		put_fd(&control, &msg, fd);
	}
	do {
		sent = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}

#define NOT_NOTED UINT_MAX /* no length that the kernel could note */

struct fdpass_batch {
	unsigned count;
	struct mmsghdr *messages; /* own_messages, or the caller's memory */
	struct mmsghdr own_messages[FDPASS_BATCH];
	struct iovec iovs[FDPASS_BATCH];
	union one_fd controls[FDPASS_BATCH];
	uint8_t bytes[FDPASS_BATCH][8];
};

struct fdpass_batch *fdpass_batch_create(void)
{
	struct fdpass_batch *batch = calloc(1, sizeof(*batch));
	if (!batch)
		return NULL;
	batch->messages = batch->own_messages;
	for (unsigned i = 0; i < FDPASS_BATCH; i++) {
		struct msghdr *msg = &batch->messages[i].msg_hdr;
		batch->iovs[i].iov_base = batch->bytes[i];
		msg->msg_iov = &batch->iovs[i];
		msg->msg_iovlen = 1;
		put_fd(&batch->controls[i], msg, -1);
	}
	return batch;
}

void fdpass_batch_destroy(struct fdpass_batch *batch)
{
	free(batch);
}

unsigned fdpass_batch_count(const struct fdpass_batch *batch)
{
	return batch->count;
}

void fdpass_batch_reset(struct fdpass_batch *batch)
{
	batch->count = 0;
}

void fdpass_batch_add(struct fdpass_batch *batch, const void *bytes, size_t size, int fd)
{
	unsigned i = batch->count++;
	struct msghdr *msg = &batch->messages[i].msg_hdr;

	batch->messages[i].msg_len = NOT_NOTED;
	memcpy(batch->bytes[i], bytes, size);
	batch->iovs[i].iov_len = size;
	if (fd >= 0) {
		msg->msg_control = batch->controls[i].space;
		msg->msg_controllen = sizeof(batch->controls[i].space);
		memcpy(CMSG_DATA(&batch->controls[i].header), &fd, sizeof(fd));
	} else {
		msg->msg_control = NULL;
		msg->msg_controllen = 0;
	}
}

/* By number where the C library makes single calls of it and notes the lengths itself, as musl
 * does: the kernel's note is the one that counts. */
static int send_all(int sock, struct mmsghdr *messages, unsigned count)
{
#ifdef __GLIBC__
	return sendmmsg(sock, messages, count, MSG_NOSIGNAL | MSG_DONTWAIT);
#else
	return (int)syscall(SYS_sendmmsg, sock, messages, count, MSG_NOSIGNAL | MSG_DONTWAIT);
#endif
}

/* For the same reason. */
static int take_one(int sock, struct mmsghdr *message)
{
#ifdef __GLIBC__
	return recvmmsg(sock, message, 1, MSG_DONTWAIT, NULL);
#else
	return (int)syscall(SYS_recvmmsg, sock, message, 1, MSG_DONTWAIT, NULL);
#endif
}

void fdpass_note_clear(struct fdpass_note *note)
{
	note->message.msg_len = NOT_NOTED;
}

bool fdpass_noted(const struct fdpass_note *note, size_t *bytes)
{
	*bytes = note->message.msg_len;
	return note->message.msg_len != NOT_NOTED;
}

bool fdpass_noted_fds(const struct fdpass_note *note)
{
	return note->message.msg_hdr.msg_flags & MSG_CTRUNC; /* there was no room for them */
}

/* The length stays what it is: that may be all that is left of an earlier call. */
static void note_message(struct fdpass_note *note, struct iovec *iov)
{
	note->message.msg_hdr = (struct msghdr){.msg_iov = iov, .msg_iovlen = 1};
}

ssize_t fdpass_send_noted(
	struct fdpass_note *note, int sock, const void *bytes, size_t size, int fd)
{
	union one_fd control;
	struct iovec iov = {.iov_base = (void *)bytes, .iov_len = size};
	int sent;

	note_message(note, &iov);
	if (fd >= 0) {
		memset(&control, 0, sizeof(control));
		put_fd(&control, &note->message.msg_hdr, fd);
	}
	do {
		sent = send_all(sock, &note->message, 1);
	} while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : (ssize_t)note->message.msg_len;
}

ssize_t fdpass_take_noted(struct fdpass_note *note, int sock, void *bytes, size_t size)
{
	struct iovec iov = {.iov_base = bytes, .iov_len = size};
	int taken;

	note_message(note, &iov);
	do {
		taken = take_one(sock, &note->message);
	} while (taken < 0 && errno == EINTR);
	return taken < 0 ? -errno : (ssize_t)note->message.msg_len;
}

int fdpass_batch_send(struct fdpass_batch *batch, int sock, size_t *partial)
{
	int sent;

	*partial = 0;
	do {
		sent = send_all(sock, batch->messages, batch->count);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return -errno;
	if (sent > 0) {
		const struct mmsghdr *last = &batch->messages[sent - 1];
		if (last->msg_len < last->msg_hdr.msg_iov->iov_len) {
			*partial = last->msg_len;
			sent--;
		}
	}
	return sent;
}

size_t fdpass_batch_headers_size(void)
{
	return sizeof(((struct fdpass_batch *)NULL)->own_messages);
}

void fdpass_batch_set_headers(struct fdpass_batch *batch, void *memory)
{
	memcpy(memory, batch->messages, sizeof(batch->own_messages));
	batch->messages = memory;
}

bool fdpass_batch_went_out(const void *headers, unsigned i, size_t *bytes)
{
	const struct mmsghdr *messages = headers;

	*bytes = messages[i].msg_len;
	return messages[i].msg_len != NOT_NOTED;
}
