/* SPDX-License-Identifier: MIT */
/*
 * What a transport - a way of being a peer - looks like to the public functions. A new one is a
 * file that fills in `struct ivshmem_peer` and a row in the table of peer.c.
 */
#ifndef PEER_TRANSPORT_H
#define PEER_TRANSPORT_H

#include <ivshmem/peer.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ivshmem_peer;

/*
 * Functions return what <ivshmem/peer.h> says, but -errno in place of -1. What a transport cannot
 * do is NULL: the caller gets ENOTSUP.
 */
struct peer_ops {
	void (*close)(struct ivshmem_peer *peer); /* frees `peer` */
	int (*dispatch)(struct ivshmem_peer *peer, int timeout_ms);
	int (*peers)(const struct ivshmem_peer *peer, unsigned *ids, size_t n);
	int (*vectors)(const struct ivshmem_peer *peer, unsigned id);
	int (*notify)(struct ivshmem_peer *peer, unsigned id, unsigned vector);
	int (*wait)(struct ivshmem_peer *peer, unsigned vector, int timeout_ms, uint64_t *count);
	int (*vector_fd)(struct ivshmem_peer *peer, unsigned vector);
	int (*doorbell_fd)(const struct ivshmem_peer *peer, unsigned id, unsigned vector);
	bool (*connected)(const struct ivshmem_peer *peer);
	/* How the region is cached. NULL: as any memory of the host. */
	enum ivshmem_cache (*cache)(const struct ivshmem_peer *peer);
};

/* The start of every transport's own struct. All of it is final when the open function returns. */
struct ivshmem_peer {
	const struct peer_ops *ops;
	unsigned capabilities;
	int id;        /* -1: none */
	int loop_fd;   /* for ivshmem_get_fd() */
	int region_fd; /* -1: none; the transport closes both */
	void *region;
	uint64_t size;
};

/* One line for people that says what to do next. */
struct peer_error {
	char text[384];
};

/*
 * Open functions: `rest` is what follows the scheme's colon, not empty; `params` has every default
 * filled in. 0 and *peer, or -errno with error->text filled.
 */
typedef int peer_open_function(struct ivshmem_peer **peer, const char *rest,
	const struct ivshmem_params *params, struct peer_error *error);

peer_open_function peer_open_unix;   /* host.c: a socket's path */
peer_open_function peer_open_region; /* host.c: a region's name */
peer_open_function peer_open_fd;     /* host.c: a descriptor's number */
peer_open_function peer_open_device; /* guest.c: the same; -ENOENT if there are no devices */
peer_open_function peer_open_shm;    /* plain.c: a shared memory object's name */
peer_open_function peer_open_file;   /* plain.c: a file's path */
peer_open_function peer_open_auto;   /* guest.c: "" or a PCI address */
peer_open_function peer_open_uio;    /* guest.c: a PCI address, a UIO device or its name */
peer_open_function peer_open_vfio;   /* guest.c: a PCI address */
peer_open_function peer_open_pci;    /* guest.c: a PCI address */

#endif
