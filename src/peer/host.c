/* SPDX-License-Identifier: MIT */
/* Transports unix:, region: and fd: - a host process that joins a server. All the work is
 * src/client's.
 */
#include "base/parse.h"
#include "client/client.h"
#include "peer/transport.h"

#include <ivshmem/abi.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct host_peer {
	struct ivshmem_peer base;
	struct client client;
};

static struct client *client_of(const struct ivshmem_peer *peer)
{
	return &((struct host_peer *)peer)->client;
}

static void host_close(struct ivshmem_peer *peer)
{
	client_close(client_of(peer));
	free(peer);
}

static int host_dispatch(struct ivshmem_peer *peer, int timeout_ms)
{
	return client_dispatch(client_of(peer), timeout_ms);
}

static int host_peers(const struct ivshmem_peer *peer, unsigned *ids, size_t n)
{
	return client_peers(client_of(peer), ids, n);
}

static int host_vectors(const struct ivshmem_peer *peer, unsigned id)
{
	return client_vectors(client_of(peer), id);
}

static int host_notify(struct ivshmem_peer *peer, unsigned id, unsigned vector)
{
	return client_notify(client_of(peer), id, vector);
}

static int host_wait(struct ivshmem_peer *peer, unsigned vector, int timeout_ms, uint64_t *count)
{
	return client_wait(client_of(peer), vector, timeout_ms, count);
}

static int host_vector_fd(struct ivshmem_peer *peer, unsigned vector)
{
	return client_vector_fd(client_of(peer), vector);
}

static int host_doorbell_fd(const struct ivshmem_peer *peer, unsigned id, unsigned vector)
{
	return client_doorbell_fd(client_of(peer), id, vector);
}

static bool host_connected(const struct ivshmem_peer *peer)
{
	return client_of(peer)->sock >= 0;
}

static const struct peer_ops host_ops = {
	.close = host_close,
	.dispatch = host_dispatch,
	.peers = host_peers,
	.vectors = host_vectors,
	.notify = host_notify,
	.wait = host_wait,
	.vector_fd = host_vector_fd,
	.doorbell_fd = host_doorbell_fd,
	.connected = host_connected,
};

/* With `sock` a connection that is there, else (-1) a new one to the server at `path`. */
static int open_host(struct ivshmem_peer **peer, int sock, const char *path,
	const struct ivshmem_params *params, struct peer_error *error)
{
	struct client_error why = {""};
	struct host_peer *host = calloc(1, sizeof(*host));
	if (!host) {
		if (sock >= 0)
			close(sock);
		return -ENOMEM;
	}

	struct client *client = &host->client;
	client->handle = &host->base;
	int err = sock < 0 ? client_open(client, path, params, &why)
			   : client_adopt(client, sock, path, params, &why);
	if (err < 0) {
		snprintf(error->text, sizeof(error->text), "%s", why.text);
		free(host);
		return err;
	}
	host->base = (struct ivshmem_peer){
		.ops = &host_ops,
		.capabilities = IVSHMEM_CAP_NOTIFY | IVSHMEM_CAP_INTERRUPT | IVSHMEM_CAP_PEER_LIST |
			IVSHMEM_CAP_ID | IVSHMEM_CAP_REGION_FD | IVSHMEM_CAP_FAST_REGION |
			(params->read_only ? 0u : IVSHMEM_CAP_WRITE) |
			(client->sealed ? IVSHMEM_CAP_SEALED : 0u),
		.id = client->session.own_id,
		.loop_fd = client->epoll,
		.region_fd = client->region_fd,
		.region = client->region,
		.size = client->size,
	};
	*peer = &host->base;
	return 0;
}

int peer_open_unix(struct ivshmem_peer **peer, const char *path,
	const struct ivshmem_params *params, struct peer_error *error)
{
	return open_host(peer, -1, path, params, error);
}

static bool is_connected(int fd)
{
	struct sockaddr_un address = {0};
	socklen_t size = sizeof(address), type_size = sizeof(int);
	int type = 0;

	return getpeername(fd, (struct sockaddr *)&address, &size) == 0 &&
		address.sun_family == AF_UNIX &&
		getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) == 0 && type == SOCK_STREAM;
}

int peer_open_fd(struct ivshmem_peer **peer, const char *number,
	const struct ivshmem_params *params, struct peer_error *error)
{
	char name[16];
	uint64_t fd;

	if (parse_uint(number, 0, INT_MAX, &fd) < 0 || !is_connected((int)fd) ||
		fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0) {
		snprintf(error->text, sizeof(error->text),
			"fd:%.80s: give the number of an open Unix stream socket that is connected "
			"to a server",
			number);
		return -EINVAL;
	}
	snprintf(name, sizeof(name), "fd:%d", (int)fd);
	return open_host(peer, (int)fd, name, params, error);
}

int peer_open_region(struct ivshmem_peer **peer, const char *name,
	const struct ivshmem_params *params, struct peer_error *error)
{
	char path[sizeof(IVSHMEM_SOCKET_FOLDER "/.sock") + 63];

	int err = socket_of_region(IVSHMEM_SOCKET_FOLDER, name, path, sizeof(path));
	if (err < 0) {
		snprintf(error->text, sizeof(error->text),
			"region name '%.80s': use 1 to 63 of a-z 0-9 . _ -", name);
		return err;
	}
	/* Where no server listens this may be a guest. What is neither gets the host's message. */
	if (access(path, F_OK) < 0 && errno == ENOENT) {
		err = peer_open_device(peer, name, params, error);
		if (err != -ENOENT)
			return err;
	}
	return peer_open_unix(peer, path, params, error);
}
