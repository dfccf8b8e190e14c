/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A doorbell is an eventfd whose open file description all peers share, and with it O_NONBLOCK:
 * anybody can clear the flag for everybody, and read what was meant for us. So a reader that polls
 * first and reads then could still sleep for ever. preadv2() has a flag of its own, RWF_NOWAIT,
 * that nobody else can take away; it costs the same as read(). It is called by number because
 * older C libraries do not wrap it; an emulator without it gets a plain read().
 *
 * There is no such flag for the write: eventfd refuses it. A write blocks only where a hostile peer
 * has filled the counter (it takes one write of 2^64 - 2) and cleared O_NONBLOCK. Polling first
 * would cost every honest ring a system call and still leave a window, so we do not; the kernel
 * lets the process be killed while it hangs there, and any reader of the vector frees it. A signal
 * frees it too, and the ring counts as made: a counter that is full is an interrupt that is
 * pending. A program that must not hang sets a timer that sends one (tools/device/turn.c).
 *
 * Whoever owns one such eventfd may own thousands, and have each of them rung again and again; then
 * even milliseconds for each add up. A write of ours ends with EINTR only if it has blocked, and it
 * blocks only if somebody wants it to: so after the first time we do poll before, which leaves the
 * window and no more.
 */
#include "base/doorbell.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef RWF_NOWAIT /* nor define this */
#define RWF_NOWAIT 0x8
#endif

int doorbell_prepare(int fd)
{
	/* An eventfd has no file type. Anything else is a trap: writing to a pipe that nobody reads
	 * would raise SIGPIPE in the application. */
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_mode & S_IFMT)
		return -EPROTO;

	/* Shared with everybody: written only if it has to be. */
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0)
		return -errno;
	if (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

int doorbell_ring(int fd)
{
	bool wary = false;
	return doorbell_ring_wary(fd, &wary);
}

static bool is_full(int fd)
{
	struct pollfd entry = {.fd = fd, .events = POLLOUT};
	return poll(&entry, 1, 0) == 0;
}

int doorbell_ring_wary(int fd, bool *wary)
{
	const uint64_t one = 1;

	if (*wary && is_full(fd))
		return 0;
	if (write(fd, &one, sizeof(one)) >= 0 || errno == EAGAIN)
		return 0;
	if (errno != EINTR)
		return -errno;
	*wary = true;
	return 0;
}

int doorbell_take(int fd, uint64_t *count)
{
	struct iovec iov = {.iov_base = count, .iov_len = sizeof(*count)};
	/* Offset -1: the current position. It is passed in halves, low one first. */
	ssize_t got = syscall(SYS_preadv2, fd, &iov, 1L, -1L, -1L, RWF_NOWAIT);
	if (got < 0 && (errno == ENOSYS || errno == EOPNOTSUPP))
		got = read(fd, count, sizeof(*count));
	if (got == (ssize_t)sizeof(*count))
		return 1;
	if (got >= 0)
		return -EPROTO;
	return errno == EAGAIN || errno == EINTR ? 0 : -EPROTO;
}
