/* SPDX-License-Identifier: MIT */
/*
 * guest - a peer in a virtual machine: the machine's ivshmem device, its registers, memory and
 * interrupts, by way of one of three drivers.
 *
 * Functions return 0 or -errno unless stated. What they promise to the application is written in
 * <ivshmem/peer.h>; here stands only what differs.
 */
#ifndef GUEST_GUEST_H
#define GUEST_GUEST_H

#include "guest/pci.h"

#include <ivshmem/peer.h>

#include <stdbool.h>
#include <stdint.h>

struct epoll_event;

enum guest_way {
	GUEST_UIO,  /* uio_ivshmem */
	GUEST_VFIO, /* vfio-pci */
	GUEST_PCI,  /* no driver: sysfs */
};

/* One line for people that says what to do next. */
struct guest_error {
	char text[384];
};

/* An own vector. */
struct guest_vector {
	int fd;           /* a UIO device or a non-blocking eventfd; -1: not of this handle */
	uint32_t counted; /* GUEST_UIO: the driver's counter, as far as it has been reported */
	uint32_t early;   /* GUEST_UIO: rings from before guest_open(), not reported yet */
	bool handed_out;  /* by guest_vector_fd() */
};

struct guest;

/* Take the rings of a vector: 1 and *count, 0 if there are none, -ENODEV. Waits for one if it
 * `may_block` and the way is able to, which no ring from before the opening ends: -EINTR. */
typedef int guest_take_function(
	struct guest *guest, struct guest_vector *vector, bool may_block, uint64_t *count);

struct guest {
	/* What the callbacks get. */
	struct ivshmem_listener listener;
	struct ivshmem_peer *handle;
	void *data;

	enum guest_way way;
	struct pci_function function; /* as it was found */
	int files[3];                 /* what the way keeps open: its own business; -1: none */
	unsigned max_vectors, poll_us;
	unsigned capabilities;

	void *page; /* that the registers are in */
	volatile uint32_t *registers;
	void *region;
	uint64_t size;
	int id;     /* -1: none */
	bool timed; /* no interrupts: waits are timed */
	bool intx;  /* GUEST_VFIO: the only vector is INTx, to be unmasked after each interrupt */

	guest_take_function *take;
	struct guest_vector *vectors;
	unsigned n_vectors; /* of the device, as far as the driver uses them */
	int gone; /* GUEST_VFIO: readable once the driver wants the device back; -1: none */

	/* The loop. */
	bool lost; /* it has said that the device is gone */
	int epoll;
	int early;                  /* readable while early rings are to be dispatched; -1: none */
	struct epoll_event *events; /* room for all that is watched */
};

/*
 * Open the device that `rest` names (the part of the URI after the scheme). `params` has no zeros
 * left that stand for defaults. `guest` is all zero before; after a failure it is for nothing.
 */
int guest_open(struct guest *guest, const struct guest_system *system, enum guest_way way,
	const char *rest, const struct ivshmem_params *params, struct guest_error *error);

/* The way and the device for auto: (`rest` is "" or an address). */
int guest_choose(const struct guest_system *system, const char *rest, enum guest_way *way,
	char address[PCI_ADDRESS_SIZE], struct guest_error *error);

/*
 * The same for region: the device whose region says that it is `name`. Looks at each for a moment.
 * -ENOENT if there is no device, -ENODEV if none is the one, -ENOTUNIQ if several are.
 */
int guest_choose_region(const struct guest_system *system, const char *name, int timeout_ms,
	enum guest_way *way, char address[PCI_ADDRESS_SIZE], struct guest_error *error);

void guest_close(struct guest *guest);

/* IVSHMEM_CAP_... of an open guest. */
unsigned guest_capabilities(const struct guest *guest);

/* -ENOTSUP: it does not start at the file's beginning. */
int guest_region_fd(const struct guest *guest);

int guest_dispatch(struct guest *guest, int timeout_ms);
int guest_vectors(const struct guest *guest, unsigned id);
int guest_notify(const struct guest *guest, unsigned id, unsigned vector);
int guest_wait(struct guest *guest, unsigned vector, int timeout_ms, uint64_t *count);
int guest_vector_fd(struct guest *guest, unsigned vector);

#endif
