/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * connect() to a Unix socket either happens at once, or has to wait while the server's backlog is
 * full: when a hundred peers start together, that is the rule. A non-blocking connect() says EAGAIN
 * then and cannot be polled for, so one would have to sleep and try again. A blocking one with
 * SO_SNDTIMEO set is woken by the kernel as soon as there is room, and gives up in time.
 *
 * A server that is not there is reported, not waited for: only the caller knows whether one is to
 * be expected.
 */
#include "client/client.h"
#include "client/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static int explain_connect(struct client_error *error, const char *path, int err)
{
	struct stat st;

	switch (err) {
	case -ENOENT:
		client_explain(error,
			"no server listens on %s: start one with: ivshmem-server -F -S %s", path,
			path);
		break;
	case -ECONNREFUSED:
		if (stat(path, &st) == 0 && !S_ISSOCK(st.st_mode)) {
			client_explain(
				error, "%s is no socket: give the path of an ivshmem server", path);
			break;
		}
		client_explain(error,
			"nobody listens on %s any more: start a server: ivshmem-server -F -S %s",
			path, path);
		break;
	case -EACCES:
		client_explain(error,
			"no permission to connect to %s: be its owner, or start the server with "
			"--socket-mode or --socket-owner",
			path);
		break;
	case -EPROTOTYPE:
		client_explain(error,
			"%s is another kind of socket: give the path of an ivshmem server", path);
		break;
	case -ETIMEDOUT:
		client_explain(error,
			"the server on %s does not accept connections: is it stopped?", path);
		break;
	default:
		client_explain(error, "cannot connect to %s: %s", path, strerror(-err));
		break;
	}
	return err;
}

static int limit_connect(int sock, int ms)
{
	struct timeval limit = {.tv_sec = ms / 1000};
	limit.tv_usec = (suseconds_t)(ms % 1000) * 1000;
	return setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ? -errno : 0;
}

static int connect_until(int sock, const struct sockaddr_un *address, uint64_t deadline)
{
	for (;;) {
		int left = deadline_left(deadline);
		int err = left == 0 ? -ETIMEDOUT : 0;
		if (left > 0)
			err = limit_connect(sock, left);
		if (err < 0)
			return err;
		if (connect(sock, (const struct sockaddr *)address, sizeof(*address)) == 0)
			return 0;
		if (errno != EINTR && errno != EAGAIN)
			return -errno;
	}
}

int client_connect(const char *path, uint64_t deadline, struct client_error *error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(address.sun_path)) {
		client_explain(error,
			"socket path of %zu bytes: at most %zu are possible, use a shorter one",
			strlen(path), sizeof(address.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	memcpy(address.sun_path, path, strlen(path) + 1);
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int err = sock < 0 ? -errno : connect_until(sock, &address, deadline);
	if (err == 0)
		return sock;
	if (sock >= 0)
		close(sock);
	return explain_connect(error, path, err);
}
