/* SPDX-License-Identifier: MIT */
#include "client.h"

#include "base/fdpass.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static void set_timeout(int sock, int option, int ms)
{
	const struct timeval time = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000L};
	setsockopt(sock, SOL_SOCKET, option, &time, sizeof(time));
}

int client_open(struct client *client, const char *path, int timeout_ms)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = strlen(path);
	if (length >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, length);
	client->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->sock < 0)
		return -errno;
	set_timeout(client->sock, SO_RCVTIMEO, timeout_ms);
	set_timeout(client->sock, SO_SNDTIMEO, timeout_ms); /* holds for connect(), too */
	varlink_reader_init(&client->reader, VARLINK_MAX_REPLY, SIZE_MAX);
	if (connect(client->sock, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return 0;
	int error = errno == EAGAIN ? -ETIMEDOUT : -errno;
	client_close(client);
	return error;
}

void client_close(struct client *client)
{
	const int fd = client_take_descriptor(client);

	if (fd >= 0)
		close(fd);
	if (client->sock >= 0)
		close(client->sock);
	client->sock = -1;
	varlink_reader_fini(&client->reader);
}

void client_be_patient(struct client *client)
{
	set_timeout(client->sock, SO_RCVTIMEO, 0);
}

int client_call(struct client *client, const char *method, json_t *parameters, bool more)
{
	size_t size, sent = 0;
	int error = 0;
	char *bytes = varlink_pack(varlink_make_call(method, parameters, more), &size);
	if (!bytes)
		return -ENOMEM;
	while (sent < size && error == 0) {
		ssize_t n = send(client->sock, bytes + sent, size - sent, MSG_NOSIGNAL);
		if (n > 0)
			sent += (size_t)n;
		else if (errno == EPIPE)
			break; /* turned away: the reason is there to be read */
		else if (errno != EINTR)
			error = errno == EAGAIN ? -ETIMEDOUT : -errno;
	}
	free(bytes);
	return error;
}

int client_next(struct client *client, json_t **answer)
{
	return varlink_reader_next(&client->reader, answer);
}

int client_take_descriptor(struct client *client)
{
	const int fd = client->descriptor;
	client->descriptor = -1;
	return fd;
}

/* Keep the last one. */
static void keep_descriptors(struct client *client, const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (client->descriptor >= 0)
			close(client->descriptor);
		client->descriptor = fds[i];
	}
}

int client_receive(struct client *client)
{
	int fds[FDPASS_RECV_MAX];
	size_t room, n_fds = 0;
	char *to = varlink_reader_room(&client->reader, &room);
	if (!to)
		return -ENOMEM;
	ssize_t n = fdpass_await(client->sock, to, room, fds, &n_fds);
	if (n == 0)
		return -ECONNRESET;
	if (n < 0 && n != -EINTR)
		return n == -EAGAIN ? -ETIMEDOUT : (int)n;
	keep_descriptors(client, fds, n_fds);
	varlink_reader_add(&client->reader, n > 0 ? (size_t)n : 0);
	return 0;
}

int client_answer(struct client *client, json_t **answer)
{
	int result, error = 0;
	while ((result = client_next(client, answer)) == 0 && error == 0)
		error = client_receive(client);
	if (result == 0)
		return error;
	return result < 0 ? result : 0;
}
