/* SPDX-License-Identifier: MIT */
/* Transports uio:, vfio:, pci:, auto: and region: - a peer in a virtual machine. All the work is
 * src/guest's. */
#include "guest/guest.h"

#include "guest/cache.h"
#include "peer/transport.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct guest_peer {
	struct ivshmem_peer base;
	struct guest guest;
};

static struct guest *guest_of(const struct ivshmem_peer *peer)
{
	return &((struct guest_peer *)peer)->guest;
}

static void peer_close(struct ivshmem_peer *peer)
{
	guest_close(guest_of(peer));
	free(peer);
}

static int peer_dispatch(struct ivshmem_peer *peer, int timeout_ms)
{
	return guest_dispatch(guest_of(peer), timeout_ms);
}

static int peer_vectors(const struct ivshmem_peer *peer, unsigned id)
{
	return guest_vectors(guest_of(peer), id);
}

static int peer_notify(struct ivshmem_peer *peer, unsigned id, unsigned vector)
{
	return guest_notify(guest_of(peer), id, vector);
}

static int peer_wait(struct ivshmem_peer *peer, unsigned vector, int timeout_ms, uint64_t *count)
{
	return guest_wait(guest_of(peer), vector, timeout_ms, count);
}

static int peer_vector_fd(struct ivshmem_peer *peer, unsigned vector)
{
	return guest_vector_fd(guest_of(peer), vector);
}

static enum ivshmem_cache peer_cache(const struct ivshmem_peer *peer)
{
	const struct guest *guest = guest_of(peer);
	return cache_type(&guest_system, &guest->function, guest->way);
}

static const struct peer_ops guest_ops = {
	.close = peer_close,
	.dispatch = peer_dispatch,
	.vectors = peer_vectors,
	.notify = peer_notify,
	.wait = peer_wait,
	.vector_fd = peer_vector_fd,
	.cache = peer_cache,
};

static int open_way(struct ivshmem_peer **result, enum guest_way way, const char *rest,
	const struct ivshmem_params *params, struct peer_error *error)
{
	struct guest_error why = {""};
	struct guest_peer *peer = calloc(1, sizeof(*peer));
	if (!peer)
		return -ENOMEM;

	struct guest *guest = &peer->guest;
	guest->handle = &peer->base;
	int err = guest_open(guest, &guest_system, way, rest, params, &why);
	if (err < 0) {
		snprintf(error->text, sizeof(error->text), "%s", why.text);
		free(peer);
		return err;
	}
	int region_fd = guest_region_fd(guest);
	peer->base = (struct ivshmem_peer){
		.ops = &guest_ops,
		.capabilities = guest_capabilities(guest),
		.id = guest->id,
		.loop_fd = guest->epoll,
		.region_fd = region_fd < 0 ? -1 : region_fd,
		.region = guest->region,
		.size = guest->size,
	};
	*result = &peer->base;
	return 0;
}

int peer_open_auto(struct ivshmem_peer **peer, const char *rest,
	const struct ivshmem_params *params, struct peer_error *error)
{
	struct guest_error why = {""};
	char address[PCI_ADDRESS_SIZE];
	enum guest_way way;
	int err = guest_choose(&guest_system, rest, &way, address, &why);
	if (err < 0) {
		snprintf(error->text, sizeof(error->text), "%s", why.text);
		return err;
	}
	return open_way(peer, way, address, params, error);
}

int peer_open_device(struct ivshmem_peer **peer, const char *name,
	const struct ivshmem_params *params, struct peer_error *error)
{
	struct guest_error why = {""};
	char address[PCI_ADDRESS_SIZE];
	enum guest_way way;
	int err = guest_choose_region(&guest_system, name, params->timeout_ms, &way, address, &why);
	if (err < 0) {
		snprintf(error->text, sizeof(error->text), "%s", why.text);
		return err;
	}
	err = open_way(peer, way, address, params, error);
	return err == -ENOENT ? -ENODEV : err; /* it has gone since */
}

int peer_open_uio(struct ivshmem_peer **peer, const char *rest, const struct ivshmem_params *params,
	struct peer_error *error)
{
	return open_way(peer, GUEST_UIO, rest, params, error);
}

int peer_open_vfio(struct ivshmem_peer **peer, const char *rest,
	const struct ivshmem_params *params, struct peer_error *error)
{
	return open_way(peer, GUEST_VFIO, rest, params, error);
}

int peer_open_pci(struct ivshmem_peer **peer, const char *rest, const struct ivshmem_params *params,
	struct peer_error *error)
{
	return open_way(peer, GUEST_PCI, rest, params, error);
}
