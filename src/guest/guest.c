/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The three ways differ in where registers and memory are mapped from and in how an interrupt
 * reaches a process; each has a file of its own (uio.c, vfio.c, sysfs.c) for that. All the rest is
 * the same: a device is found and its driver checked, the ID is read, a write to the doorbell
 * register rings.
 *
 * A device without interrupts whose ID is 0 is ivshmem-plain: no server, no ID, no doorbell. (The
 * first peer of a server has that ID too, but a device that joins one has interrupts, unless it was
 * configured to have none, and then nothing is missed but the doorbell.)
 */
#include "base/clock.h"
#include "base/parse.h"
#include "guest/internal.h"
#include "region/bandwidth.h"
#include "region/region.h"

#include <ivshmem/abi.h>

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ID_POLL_MS 10

/* ---- opening ---- */

static int check_function(const struct guest *guest, uint64_t map_limit, struct guest_error *error)
{
	const struct pci_function *function = &guest->function;
	char size[24], limit[24];

	if (function->registers_size < IVSHMEM_REG_DOORBELL + 4 || function->region_size == 0)
		return guest_fail(error, -ENODEV,
			"%s has no registers or no memory: the firmware found no room for its BARs",
			function->address);
	if (map_limit != 0 && function->region_size > map_limit)
		return guest_fail(error, -EFBIG,
			"%s: its memory of %s exceeds the limit of %s: raise the limit (map_limit)",
			function->address, format_size(function->region_size, size),
			format_size(map_limit, limit));
	return 0;
}

static int open_way(struct guest *guest, const struct guest_system *system, int vector,
	const struct ivshmem_params *params, struct guest_error *error)
{
	switch (guest->way) {
	case GUEST_UIO:
		return uio_open(guest, system, vector, params, error);
	case GUEST_VFIO:
		return vfio_open(guest, system, params, error);
	case GUEST_PCI:
		return sysfs_open(guest, system, params, error);
	}
	return -EINVAL;
}

static bool has_interrupts(const struct guest *guest)
{
	if (guest->way == GUEST_PCI)
		return guest->function.msix_vectors != 0 || guest->function.intx;
	return !guest->timed;
}

/* A device of revision 0 starts without its server, and has the ID -1 until that comes. */
static int find_id(struct guest *guest, int timeout_ms, struct guest_error *error)
{
	const struct timespec pause = {.tv_nsec = ID_POLL_MS * 1000000L};
	const char *address = guest->function.address;
	uint64_t deadline = deadline_after(timeout_ms);
	uint32_t id;

	while ((id = le32toh(guest->registers[IVSHMEM_REG_IVPOSITION / 4])) == UINT32_MAX) {
		if (deadline_left(deadline) == 0)
			return guest_fail(error, -EAGAIN,
				"%s has no ID yet: start the server that its VMM is to connect to",
				address);
		if (nanosleep(&pause, NULL) < 0)
			return guest_fail(error, -errno, "waiting for the ID of %s: %m", address);
	}
	if (id > IVSHMEM_MAX_ID)
		return guest_fail(error, -EPROTO,
			"%s says that its ID is %#x, more than 65535: its VMM is broken", address,
			id);
	guest->id = id == 0 && !has_interrupts(guest) ? -1 : (int)id;
	return 0;
}

static unsigned find_capabilities(const struct guest *guest, bool read_only)
{
	return (guest->id >= 0 ? IVSHMEM_CAP_NOTIFY | IVSHMEM_CAP_ID : 0u) |
		(guest->timed ? IVSHMEM_CAP_TIMED_WAIT : IVSHMEM_CAP_INTERRUPT) |
		(read_only ? 0u : IVSHMEM_CAP_WRITE) |
		(guest_region_fd(guest) >= 0 ? IVSHMEM_CAP_REGION_FD : 0u) |
		(bandwidth_is_fast(guest->region, (size_t)guest->size) ? IVSHMEM_CAP_FAST_REGION
								       : 0u);
}

static int open_device(struct guest *guest, const struct guest_system *system, const char *rest,
	const struct ivshmem_params *params, struct guest_error *error)
{
	struct uio_name name = {.vector = -1};
	int err = guest->way == GUEST_UIO ? uio_parse(system, rest, &name, error)
					  : guest_parse_address(rest, name.address, error);
	if (err == 0)
		err = guest_find(system, name.address, &guest->function, error);
	if (err == 0)
		err = check_function(guest, params->map_limit, error);
	if (err == 0)
		err = open_way(guest, system, name.vector, params, error);
	if (err == 0)
		err = find_id(guest, params->timeout_ms, error);
	return err;
}

/* With nothing in it that guest_close() would have to close. */
static struct guest closed_guest(enum guest_way way, const struct ivshmem_params *params)
{
	return (struct guest){
		.data = params->data,
		.way = way,
		.files = {-1, -1, -1},
		.max_vectors = params->max_vectors,
		.poll_us = params->poll_us,
		.id = -1,
		.gone = -1,
		.epoll = -1,
		.early = -1,
	};
}

int guest_open(struct guest *guest, const struct guest_system *system, enum guest_way way,
	const char *rest, const struct ivshmem_params *params, struct guest_error *error)
{
	struct ivshmem_peer *handle = guest->handle;

	*guest = closed_guest(way, params);
	guest->handle = handle;
	if (params->listener)
		guest->listener = *params->listener;

	int err = open_device(guest, system, rest, params, error);
	if (err == 0) {
		err = vectors_start(guest);
		if (err < 0)
			guest_fail(
				error, err, "making the loop for %s: %m", guest->function.address);
	}
	if (err < 0) {
		guest_close(guest);
		return err;
	}
	guest->capabilities = find_capabilities(guest, params->read_only);
	return 0;
}

int guest_peek(const struct guest_system *system, const struct pci_function *function,
	enum guest_way way, int timeout_ms, struct region_identity *identity)
{
	const struct ivshmem_params params = {
		.timeout_ms = timeout_ms,
		.max_vectors = 1,
		.read_only = 1,
	};
	struct guest guest = closed_guest(way, &params);
	struct guest_error error;

	guest.function = *function;
	int err = open_way(&guest, system, -1, &params, &error);
	if (err == 0)
		err = region_header_find(guest.region, guest.size, identity);
	guest_close(&guest);
	return err;
}

static void close_files(const int *files, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (files[i] >= 0)
			close(files[i]);
}

void guest_close(struct guest *guest)
{
	for (unsigned i = 0; i < guest->n_vectors; i++)
		close_files(&guest->vectors[i].fd, 1);
	free(guest->vectors);
	free(guest->events);
	close_files((const int[]){guest->epoll, guest->early, guest->gone}, 3);
	region_unmap(guest->page, (uint64_t)sysconf(_SC_PAGESIZE));
	region_unmap(guest->region, guest->size);
	close_files(guest->files, sizeof(guest->files) / sizeof(guest->files[0]));
}

/* ---- what an open guest can do ---- */

unsigned guest_capabilities(const struct guest *guest)
{
	return guest->capabilities;
}

int guest_region_fd(const struct guest *guest)
{
	return guest->way == GUEST_PCI ? guest->files[0] : -ENOTSUP;
}

int guest_vectors(const struct guest *guest, unsigned id)
{
	return guest->id >= 0 && id == (unsigned)guest->id ? (int)guest->n_vectors : -ENOTSUP;
}

int guest_notify(const struct guest *guest, unsigned id, unsigned vector)
{
	if (guest->id < 0)
		return -ENOTSUP;
	if (id > IVSHMEM_MAX_ID || vector > 0xffff)
		return -EINVAL;
	/* What has been written to the memory comes before the doorbell; the other processors see
	 * it in that order only if they are told. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	guest->registers[IVSHMEM_REG_DOORBELL / 4] = htole32(IVSHMEM_DOORBELL(id, vector));
	return 0;
}
