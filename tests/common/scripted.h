/* SPDX-License-Identifier: MIT */
/*
 * A server that says what a test tells it to, right or wrong, over a real socket. A thread accepts
 * one client and plays the opening; then the test itself goes on talking through `conn`.
 *
 *     struct scripted server = {.lines = hello, .n_lines = 3};
 *     scripted_start(&server);
 *     peer = ivshmem_open(server.uri, NULL);
 *     scripted_join(&server);
 *     scripted_say(&server, 5, eventfd);
 */
#ifndef TESTS_SCRIPTED_H
#define TESTS_SCRIPTED_H

#include "fdcheck.h"
#include "wire/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* One message: a number and a descriptor (-1: none), which stays the test's. */
struct line {
	int64_t number;
	int fd;
};

struct scripted {
	/* Filled in by the test. */
	const struct line *lines;
	size_t n_lines;
	bool pre_2_5;
	bool bytewise; /* send every byte alone */
	bool hang_up;  /* close after `cut` bytes */
	size_t cut;
	/* Filled in by scripted_start(). */
	char path[64], uri[72];
	int listener;
	int conn;
	pthread_t thread;
};

/* Send bytes with any number of descriptors. */
static inline ssize_t scripted_raw(
	int sock, const void *bytes, size_t size, const int *fds, size_t n_fds)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(32 * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = (void *)bytes, .iov_len = size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	memset(&control, 0, sizeof(control));
	if (n_fds > 0) {
		msg.msg_control = control.space;
		msg.msg_controllen = (unsigned)CMSG_SPACE(n_fds * sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = (unsigned)CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof(int));
	}
	return sendmsg(sock, &msg, MSG_NOSIGNAL);
}

static inline const struct wire_format *scripted_format(const struct scripted *server)
{
	return server->pre_2_5 ? &wire_pre_2_5 : &wire_current;
}

/* Send up to `limit` bytes of a message; the descriptor goes with the first. */
static inline size_t scripted_part(
	const struct scripted *server, int sock, struct line line, size_t limit)
{
	uint8_t bytes[WIRE_WIDTH_MAX];
	size_t size = wire_encode(scripted_format(server), line.number, bytes);
	size_t step = server->bytewise ? 1 : size;

	if (size > limit)
		size = limit;
	for (size_t i = 0; i < size; i += step)
		scripted_raw(sock, bytes + i, size - i < step ? size - i : step, &line.fd,
			i == 0 && line.fd >= 0);
	return size;
}

static inline void scripted_say(struct scripted *server, int64_t number, int fd)
{
	scripted_part(server, server->conn, (struct line){number, fd}, SIZE_MAX);
}

static inline void *scripted_play(void *arg)
{
	struct scripted *server = arg;
	size_t left = server->hang_up ? server->cut : SIZE_MAX;

	server->conn = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
	for (size_t i = 0; i < server->n_lines; i++)
		left -= scripted_part(server, server->conn, server->lines[i], left);
	if (server->hang_up) {
		close(server->conn);
		server->conn = -1;
	}
	return NULL;
}

static unsigned scripted_counter; /* listeners so far */

/* A test that fails stops nothing. */
static inline void scripted_remove_leftovers(void)
{
	char path[64];
	for (unsigned i = 0; i < scripted_counter; i++) {
		snprintf(path, sizeof(path), "/tmp/ivshmem-test-%d-%u.sock", (int)getpid(), i);
		unlink(path);
	}
}

static inline void scripted_listen(struct scripted *server, int backlog)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(server->path, sizeof(server->path), "/tmp/ivshmem-test-%d-%u.sock", (int)getpid(),
		scripted_counter++);
	snprintf(server->uri, sizeof(server->uri), "unix:%s", server->path);
	memcpy(address.sun_path, server->path, sizeof(server->path));
	server->conn = -1;
	if (scripted_counter == 1)
		atexit(scripted_remove_leftovers);
	server->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(server->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(server->listener, backlog), 0);
}

static inline void scripted_start(struct scripted *server)
{
	scripted_listen(server, 8);
	assert_int_equal(pthread_create(&server->thread, NULL, scripted_play, server), 0);
}

/* Wait until the opening is said. */
static inline void scripted_join(struct scripted *server)
{
	pthread_join(server->thread, NULL);
}

static inline void scripted_hang_up(struct scripted *server)
{
	if (server->conn >= 0)
		close(server->conn);
	server->conn = -1;
}

static inline void scripted_stop(struct scripted *server)
{
	scripted_hang_up(server);
	close(server->listener);
	unlink(server->path);
}

/* A sealed region of `size` bytes, as our server makes it. */
static inline int scripted_region(size_t size)
{
	int fd = (int)syscall(SYS_memfd_create, "region", 3u /* CLOEXEC, ALLOW_SEALING */);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
	return fd;
}

static inline int scripted_bell(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

/* Are we under an emulator of another processor (qemu-user)? It does not know this call. */
static inline bool scripted_emulated(void)
{
	return syscall(SYS_preadv2, -1, NULL, 0L, -1L, -1L, 0) < 0 && errno == ENOSYS;
}

/* Was this doorbell rung since the last look? */
static inline bool scripted_rung(int bell)
{
	uint64_t count;
	return read(bell, &count, sizeof(count)) == sizeof(count);
}

#endif
