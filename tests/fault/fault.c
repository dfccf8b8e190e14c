/* SPDX-License-Identifier: MIT */
#include "fault.h"

#include "../common/fdcheck.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#define memory_leaked() (__lsan_do_recoverable_leak_check() != 0)
#else
#define memory_leaked() false
#endif

static __thread unsigned countdown; /* 0: not armed */
static __thread const char *fired;
static __thread int mappings;

void fault_arm(unsigned n)
{
	fired = NULL;
	countdown = n;
}

const char *fault_disarm(void)
{
	countdown = 0;
	return fired;
}

int fault_mappings(void)
{
	return mappings;
}

static bool strike(const char *name, int error)
{
	if (countdown == 0 || --countdown > 0)
		return false;
	fired = name;
	errno = error;
	return true;
}

/*
 * One row a function: what it returns, name, parameters, arguments, the value and errno of its
 * failure. A row that is not in meson.build, or the other way round, does not link.
 */
#define WRAP(type, name, parameters, arguments, failure, error)                                    \
	type __real_##name parameters;                                                             \
	type __wrap_##name parameters;                                                             \
	type __wrap_##name parameters                                                              \
	{                                                                                          \
		return strike(#name, error) ? (failure) : __real_##name arguments;                 \
	}

WRAP(int, socket, (int domain, int type, int protocol), (domain, type, protocol), -1, EMFILE)
WRAP(int, connect, (int fd, const struct sockaddr *to, socklen_t size), (fd, to, size), -1,
	ECONNREFUSED)
WRAP(int, bind, (int fd, const struct sockaddr *to, socklen_t size), (fd, to, size), -1, EADDRINUSE)
WRAP(int, listen, (int fd, int backlog), (fd, backlog), -1, EADDRINUSE)
WRAP(int, accept4, (int fd, struct sockaddr *from, socklen_t *size, int flags),
	(fd, from, size, flags), -1, EMFILE)
WRAP(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t size),
	(fd, level, name, value, size), -1, ENOBUFS)
WRAP(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *size),
	(fd, level, name, value, size), -1, ENOBUFS)
WRAP(ssize_t, recvmsg, (int fd, struct msghdr *msg, int flags), (fd, msg, flags), -1, ENOMEM)
WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *msg, int flags), (fd, msg, flags), -1, ENOBUFS)
WRAP(int, recvmmsg, (int fd, struct mmsghdr *msgs, unsigned n, int flags, struct timespec *timeout),
	(fd, msgs, n, flags, timeout), -1, ENOMEM)
WRAP(int, sendmmsg, (int fd, struct mmsghdr *msgs, unsigned n, int flags), (fd, msgs, n, flags), -1,
	ENOBUFS)
WRAP(ssize_t, read, (int fd, void *bytes, size_t size), (fd, bytes, size), -1, EIO)
WRAP(ssize_t, write, (int fd, const void *bytes, size_t size), (fd, bytes, size), -1, EIO)
WRAP(int, poll, (struct pollfd * fds, nfds_t n, int timeout), (fds, n, timeout), -1, EINTR)
WRAP(int, epoll_create1, (int flags), (flags), -1, EMFILE)
WRAP(int, epoll_ctl, (int epoll, int operation, int fd, struct epoll_event *event),
	(epoll, operation, fd, event), -1, ENOMEM)
WRAP(int, epoll_wait, (int epoll, struct epoll_event *events, int n, int timeout),
	(epoll, events, n, timeout), -1, EINTR)
WRAP(int, eventfd, (unsigned value, int flags), (value, flags), -1, EMFILE)
WRAP(int, memfd_create, (const char *name, unsigned flags), (name, flags), -1, EMFILE)
WRAP(int, fchmod, (int fd, mode_t mode), (fd, mode), -1, EPERM)
WRAP(ssize_t, readlink, (const char *path, char *target, size_t size), (path, target, size), -1,
	ENOMEM)
WRAP(DIR *, opendir, (const char *path), (path), NULL, EMFILE)
WRAP(void *, malloc, (size_t size), (size), NULL, ENOMEM)
WRAP(void *, calloc, (size_t n, size_t size), (n, size), NULL, ENOMEM)
WRAP(void *, realloc, (void *old, size_t size), (old, size), NULL, ENOMEM)
WRAP(char *, strdup, (const char *text), (text), NULL, ENOMEM)

/* With 64-bit file offsets glibc's headers call these by other names; so they do here. */
#ifdef __GLIBC__
#define LARGE(name) name##64
#else
#define LARGE(name) name
#endif
/* One more step, so that the name is expanded before it is used. */
#define WRAP_LARGE(type, name, parameters, arguments, failure, error)                              \
	WRAP(type, name, parameters, arguments, failure, error)

WRAP_LARGE(int, LARGE(fstat), (int fd, struct stat *st), (fd, st), -1, EIO)
WRAP_LARGE(int, LARGE(ftruncate), (int fd, off_t size), (fd, size), -1, ENOSPC)
WRAP_LARGE(int, LARGE(fallocate), (int fd, int mode, off_t from, off_t size),
	(fd, mode, from, size), -1, ENOSPC)

WRAP_LARGE(FILE *, LARGE(fopen), (const char *path, const char *mode), (path, mode), NULL, EMFILE)

/* The optional argument of these is a number or a pointer: a long carries both. */
WRAP_LARGE(
	int, LARGE(open), (const char *path, int flags, long mode), (path, flags, mode), -1, EMFILE)
WRAP_LARGE(int, LARGE(fcntl), (int fd, int command, long argument), (fd, command, argument), -1,
	ENOMEM)
/* What src/base/fdpass.c sends by number, in musl, is to have its name in both. */
long __real_syscall(long number, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	bool sends = number == SYS_sendmmsg;

	if (strike(sends ? "sendmmsg" : "syscall", sends ? ENOBUFS : ENOMEM))
		return -1;
	return __real_syscall(number, a, b, c, d, e, f);
}

static void *count_mapping(void *mapped)
{
	mappings += mapped != MAP_FAILED;
	return mapped;
}

#define WRAP_MMAP(name, parameters, arguments)                                                     \
	void *__real_##name parameters;                                                            \
	void *__wrap_##name parameters;                                                            \
	void *__wrap_##name parameters                                                             \
	{                                                                                          \
		return strike("mmap", ENOMEM) ? MAP_FAILED                                         \
					      : count_mapping(__real_##name arguments);            \
	}
#define WRAP_MMAP_LARGE(name, parameters, arguments) WRAP_MMAP(name, parameters, arguments)
WRAP_MMAP_LARGE(LARGE(mmap), (void *at, size_t size, int how, int flags, int fd, off_t from),
	(at, size, how, flags, fd, from))

int __real_munmap(void *at, size_t size);
int __wrap_munmap(void *at, size_t size);
int __wrap_munmap(void *at, size_t size)
{
	mappings--;
	return __real_munmap(at, size);
}

unsigned fault_sweep(int (*scenario)(void *data), void *data)
{
	for (unsigned n = 1;; n++) {
		int fds = fdcheck_count(), maps = fault_mappings();
		fault_arm(n);
		int result = scenario(data);
		const char *name = fault_disarm();
		const char *what = name ? name : "nothing";

		if (!name && result != 0)
			fail_msg("call %u: the scenario fails without a fault", n);
		if (fdcheck_count() != fds)
			fail_msg("call %u (%s) failing: %d descriptors before, %d after", n, what,
				fds, fdcheck_count());
		if (fault_mappings() != maps)
			fail_msg("call %u (%s) failing: a mapping is left", n, what);
		if (memory_leaked())
			fail_msg("call %u (%s) failing: memory is left", n, what);
		if (!name)
			return n - 1;
		if (scenario(data) != 0)
			fail_msg("after call %u (%s) failed nothing works any more", n, what);
	}
}
