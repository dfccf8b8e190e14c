/* SPDX-License-Identifier: MIT */
/* The public functions: URIs and parameters are checked here, the rest is the transport's. */
#include "peer/transport.h"

#include <ivshmem/abi.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static const struct scheme {
	const char *name;
	peer_open_function *open;
	const char *rest; /* for messages */
} schemes[] = {
	{"unix", peer_open_unix, "PATH"},
	{"region", peer_open_region, "NAME"},
	{"fd", peer_open_fd, "NUMBER"},
	{"shm", peer_open_shm, "NAME"},
	{"file", peer_open_file, "PATH"},
	{"auto", peer_open_auto, ""},
	{"uio", peer_open_uio, "NAME"},
	{"vfio", peer_open_vfio, "BDF"},
	{"pci", peer_open_pci, "BDF"},
};
#define N_SCHEMES (sizeof(schemes) / sizeof(schemes[0]))

static int explain_uri(struct peer_error *error, int err, const char *uri)
{
	size_t n = (size_t)snprintf(
		error->text, sizeof(error->text), "cannot open '%.100s': use", uri);
	for (size_t i = 0; i < N_SCHEMES; i++)
		n += (size_t)snprintf(error->text + n, sizeof(error->text) - n, "%s %s:%s",
			i == 0 ? "" : (i + 1 < N_SCHEMES ? "," : " or"), schemes[i].name,
			schemes[i].rest);
	return err;
}

static int open_uri(struct ivshmem_peer **peer, const char *uri,
	const struct ivshmem_params *params, struct peer_error *error)
{
	size_t n = strspn(uri, "abcdefghijklmnopqrstuvwxyz0123456789");

	if (uri[n] != ':' || n == 0) {
		if (!strchr(uri, '/'))
			return explain_uri(error, -EINVAL, uri);
		return peer_open_unix(peer, uri, params, error);
	}
	for (size_t i = 0; i < N_SCHEMES; i++) {
		if (strlen(schemes[i].name) != n || memcmp(uri, schemes[i].name, n) != 0)
			continue;
		if (uri[n + 1] == '\0' && schemes[i].rest[0] != '\0')
			return explain_uri(error, -EINVAL, uri);
		return schemes[i].open(peer, uri + n + 1, params, error);
	}
	return explain_uri(error, -ENOTSUP, uri);
}

/*
 * Parameters from a caller who may have been compiled against another version: a shorter struct
 * means defaults for the rest; a longer one is fine as long as it asks for nothing that we do not
 * know.
 */
static int copy_params(struct ivshmem_params *params, const struct ivshmem_params *from)
{
	const size_t oldest =
		offsetof(struct ivshmem_params, error_size) + sizeof(params->error_size);

	memset(params, 0, sizeof(*params));
	if (from && from->struct_size >= oldest) {
		params->error_text = from->error_text;
		params->error_size = from->error_size;
	}
	if (from && from->struct_size < oldest)
		return -EINVAL;
	for (size_t i = sizeof(*params); from && i < from->struct_size; i++)
		if (((const char *)from)[i] != 0)
			return -EINVAL;
	if (from)
		memcpy(params, from,
			from->struct_size < sizeof(*params) ? from->struct_size : sizeof(*params));

	if (params->timeout_ms == 0)
		params->timeout_ms = 5000;
	if (params->max_peers == 0)
		params->max_peers = IVSHMEM_MAX_ID + 1;
	if (params->max_vectors == 0)
		params->max_vectors = IVSHMEM_MAX_VECTORS;
	if (params->max_vectors > 65536)
		params->max_vectors = 65536;
	if (params->poll_us == 0)
		params->poll_us = 1000;
	if (params->max_fds == 0)
		params->max_fds = UINT_MAX;
	if (params->protocol != IVSHMEM_PROTOCOL_CURRENT &&
		params->protocol != IVSHMEM_PROTOCOL_PRE_2_5)
		return -EINVAL;
	return 0;
}

struct ivshmem_peer *ivshmem_open(const char *uri, const struct ivshmem_params *params)
{
	struct ivshmem_peer *peer = NULL;
	struct ivshmem_params ours;
	struct peer_error error = {""};
	int err = copy_params(&ours, params);

	if (err < 0)
		snprintf(error.text, sizeof(error.text),
			"parameters of ivshmem_open(): start from "
			"IVSHMEM_PARAMS_INIT");
	else
		err = open_uri(&peer, uri, &ours, &error);
	if (err == 0)
		return peer;

	if (ours.error_text && ours.error_size > 0)
		snprintf(ours.error_text, ours.error_size, "%s",
			error.text[0] ? error.text : strerror(-err));
	errno = -err;
	return NULL;
}

/* -errno of a transport to the -1 and errno of the interface. */
static int result(int value)
{
	if (value >= 0)
		return value;
	errno = -value;
	return -1;
}

void ivshmem_close(struct ivshmem_peer *peer)
{
	int saved = errno;
	if (peer)
		peer->ops->close(peer);
	errno = saved;
}

unsigned ivshmem_capabilities(const struct ivshmem_peer *peer)
{
	return peer->capabilities;
}

int ivshmem_id(const struct ivshmem_peer *peer)
{
	return peer->id >= 0 ? peer->id : result(-ENOTSUP);
}

void *ivshmem_region(const struct ivshmem_peer *peer, uint64_t *size)
{
	if (size)
		*size = peer->size;
	return peer->region;
}

int ivshmem_region_fd(const struct ivshmem_peer *peer)
{
	return peer->region_fd >= 0 ? peer->region_fd : result(-ENOTSUP);
}

int ivshmem_get_fd(const struct ivshmem_peer *peer)
{
	return peer->loop_fd;
}

int ivshmem_dispatch(struct ivshmem_peer *peer, int timeout_ms)
{
	return result(peer->ops->dispatch(peer, timeout_ms));
}

int ivshmem_peers(const struct ivshmem_peer *peer, unsigned *ids, size_t n)
{
	return result(peer->ops->peers ? peer->ops->peers(peer, ids, n) : -ENOTSUP);
}

int ivshmem_vectors(const struct ivshmem_peer *peer, unsigned id)
{
	return result(peer->ops->vectors ? peer->ops->vectors(peer, id) : -ENOTSUP);
}

int ivshmem_notify(struct ivshmem_peer *peer, unsigned id, unsigned vector)
{
	return result(peer->ops->notify ? peer->ops->notify(peer, id, vector) : -ENOTSUP);
}

int ivshmem_wait(struct ivshmem_peer *peer, unsigned vector, int timeout_ms, uint64_t *count)
{
	return result(
		peer->ops->wait ? peer->ops->wait(peer, vector, timeout_ms, count) : -ENOTSUP);
}

int ivshmem_vector_fd(struct ivshmem_peer *peer, unsigned vector)
{
	return result(peer->ops->vector_fd ? peer->ops->vector_fd(peer, vector) : -ENOTSUP);
}

int ivshmem_doorbell_fd(const struct ivshmem_peer *peer, unsigned id, unsigned vector)
{
	return result(peer->ops->doorbell_fd ? peer->ops->doorbell_fd(peer, id, vector) : -ENOTSUP);
}

int ivshmem_connected(const struct ivshmem_peer *peer)
{
	return peer->ops->connected && peer->ops->connected(peer);
}

const char *ivshmem_version(void)
{
	return IVSHMEM_VERSION;
}
