/* SPDX-License-Identifier: MIT */
/* Transports shm: and file: - a region without a server: memory and nothing else. */
#include "peer/transport.h"
#include "region/region.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static void plain_close(struct ivshmem_peer *peer)
{
	if (peer->region)
		region_unmap(peer->region, peer->size);
	if (peer->region_fd >= 0)
		close(peer->region_fd);
	if (peer->loop_fd >= 0)
		close(peer->loop_fd);
	free(peer);
}

/* Nothing ever happens here, but callers may rely on the time to pass. Not epoll_wait(): that may
 * return EINTR for a signal that is ignored, as SIGCHLD mostly is. */
static int plain_dispatch(struct ivshmem_peer *peer, int timeout_ms)
{
	struct pollfd event = {.fd = peer->loop_fd, .events = POLLIN};
	return poll(&event, 1, timeout_ms) < 0 ? -errno : 0;
}

static const struct peer_ops plain_ops = {
	.close = plain_close,
	.dispatch = plain_dispatch,
};

static int explain(struct peer_error *error, int err, const char *what, const char *name)
{
	const char *remedy = "";

	switch (err) {
	case -ENOENT:
		remedy = ": whoever shares it must create it first";
		break;
	case -EACCES:
	case -EPERM:
		remedy = ": open it read-only or change its mode";
		break;
	case -EINVAL:
		remedy = ": it must be a file or memory object with a size above 0";
		break;
	case -EFBIG:
		remedy = ": raise the limit (map_limit)";
		break;
	}
	snprintf(error->text, sizeof(error->text), "%s %.200s: %s%s", what, name, strerror(-err),
		remedy);
	return err;
}

/* Takes `region_fd` over; a negative one is the -errno of opening it. */
static int plain_open(struct ivshmem_peer **result, int region_fd, const char *what,
	const char *name, const struct ivshmem_params *params, struct peer_error *error)
{
	bool sealed = false;
	int err;

	if (region_fd < 0)
		return explain(error, region_fd, what, name);
	struct ivshmem_peer *peer = calloc(1, sizeof(*peer));
	if (!peer) {
		close(region_fd);
		return explain(error, -ENOMEM, what, name);
	}
	*peer = (struct ivshmem_peer){
		.ops = &plain_ops, .id = -1, .loop_fd = -1, .region_fd = region_fd};

	err = region_map(region_fd, params->map_limit, params->read_only, &peer->region,
		&peer->size, &sealed);
	if (err < 0)
		goto fail;
	peer->loop_fd = epoll_create1(EPOLL_CLOEXEC);
	if (peer->loop_fd < 0) {
		err = -errno;
		goto fail;
	}
	peer->capabilities = IVSHMEM_CAP_REGION_FD | IVSHMEM_CAP_FAST_REGION |
		(params->read_only ? 0u : IVSHMEM_CAP_WRITE) | (sealed ? IVSHMEM_CAP_SEALED : 0u);
	*result = peer;
	return 0;

fail:
	plain_close(peer);
	return explain(error, err, what, name);
}

int peer_open_shm(struct ivshmem_peer **peer, const char *name, const struct ivshmem_params *params,
	struct peer_error *error)
{
	int fd = region_open_shm(name, params->read_only);
	return plain_open(peer, fd, "shared memory", name, params, error);
}

int peer_open_file(struct ivshmem_peer **peer, const char *path,
	const struct ivshmem_params *params, struct peer_error *error)
{
	int fd = region_open_file(path, params->read_only);
	return plain_open(peer, fd, "file", path, params, error);
}
