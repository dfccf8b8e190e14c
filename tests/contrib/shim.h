/* SPDX-License-Identifier: MIT */
/*
 * shim.h - what QEMU's contrib server and client take from QEMU's utility library and from glib.
 *
 * Theory of operation
 *
 * Read by the compiler before each of their sources (see fetch); QEMU's headers of the same
 * contents are empty stand-ins then. What shapes the protocol stays QEMU's own code: both programs,
 * the event notifier and the lists. Here is only what surrounds it: option parsing, which does no
 * more than the tests need, and thin names for the C library. Rejected: building QEMU's library and
 * having glib's headers installed, minutes and 50 MB for these few functions.
 */
#ifndef CONTRIB_SHIM_H
#define CONTRIB_SHIM_H

#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_POSIX   1
#define CONFIG_EVENTFD 1

typedef struct EventNotifier EventNotifier;

/* ---- glib ---- */

typedef char gchar;

#define FALSE             0
#define G_MAXUINT16       UINT16_MAX
#define G_N_ELEMENTS(a)   (sizeof(a) / sizeof((a)[0]))
#define GINT64_TO_LE(n)   ((int64_t)htole64((uint64_t)(n)))
#define GINT64_FROM_LE(n) ((int64_t)le64toh((uint64_t)(n)))
#define g_free(p)         free(p)

static inline void *g_malloc0(size_t size)
{
	void *p = calloc(1, size);

	if (!p)
		abort();
	return p;
}

__attribute__((format(printf, 1, 2))) static inline gchar *g_strdup_printf(const char *format, ...)
{
	va_list ap;
	char *text;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		abort();
	va_end(ap);
	return text;
}

/* For kernels without eventfd, which we do not have. */
static inline bool g_unix_open_pipe(int *fds, int flags, void *error)
{
	(void)error;
	return pipe2(fds, flags & FD_CLOEXEC ? O_CLOEXEC : 0) == 0;
}

static inline bool g_unix_set_fd_nonblocking(int fd, bool nonblocking, void *error)
{
	int flags = fcntl(fd, F_GETFL);

	(void)error;
	flags = nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	return fcntl(fd, F_SETFL, flags) == 0;
}

/* ---- QEMU ---- */

typedef struct Error {
	const char *text;
} Error;

static inline void error_report_err(Error *error)
{
	fprintf(stderr, "%s\n", error->text);
}

static inline bool parse_option_size(
	const char *name, const char *text, uint64_t *size, Error **error)
{
	static Error invalid = {"invalid size"};
	static const char suffixes[] = "KMGT";
	const char *suffix;
	char *end;

	(void)name;
	*size = strtoull(text, &end, 0);
	suffix = *end ? strchr(suffixes, *end) : NULL;
	if (suffix) {
		*size <<= 10 * (suffix - suffixes + 1);
		end++;
	}
	if (end == text || *end) {
		*error = &invalid;
		return false;
	}
	return true;
}

static inline int parse_uint_full(const char *text, unsigned long long *number, int base)
{
	char *end;

	*number = strtoull(text, &end, base);
	return end == text || *end ? -EINVAL : 0;
}

static inline uint64_t pow2ceil(uint64_t n)
{
	uint64_t power = 1;

	while (power < n)
		power <<= 1;
	return power;
}

static inline int qemu_accept(int sock, struct sockaddr *address, socklen_t *length)
{
	return accept4(sock, address, length, SOCK_CLOEXEC);
}

static inline void qemu_socket_set_nonblock(int fd)
{
	if (!g_unix_set_fd_nonblocking(fd, true, NULL))
		abort();
}

#define qemu_daemon(keep_directory, keep_output) daemon(keep_directory, keep_output)

#endif
