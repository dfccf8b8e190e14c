/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The three ways differ in where registers and memory are mapped from and in how an interrupt
 * reaches a process; each has a file of its own (uio.c, vfio.c, sysfs.c) for that. All the rest is
 * the same: a device is found and its driver checked, the ID is read, a write to the doorbell
 * register rings.
 *
 * Registers are mapped as one page, whatever their size: it is all that any of the drivers can
 * map. uio_ivshmem and vfio-pci see to it that they are at its start and nothing else is in it;
 * without a driver they are where their address says.
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
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ID_POLL_MS 10
#define LISTED     8 /* devices that a message names */

/* ---- messages ---- */

int guest_fail(struct guest_error *error, int err, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	errno = -err;
	vsnprintf(error->text, sizeof(error->text), format, arguments);
	va_end(arguments);
	return err;
}

static const char *driver_of(const struct pci_function *function)
{
	return function->driver[0] ? function->driver : "no driver";
}

int guest_fail_driver(struct guest_error *error, const struct guest_system *system,
	const struct pci_function *function, const char *driver)
{
	return guest_fail(error, -ENXIO, "%s: %s is bound, not %s: as root, %s", function->address,
		driver_of(function), driver, pci_bind_commands(system, function, driver).text);
}

/* pci_read() with what went wrong. */
static int find_function(const struct guest_system *system, const char *address,
	struct pci_function *function, struct guest_error *error)
{
	int err = pci_read(system, address, function);

	if (err == -EMEDIUMTYPE)
		return guest_fail(error, -ENODEV,
			"%s is not an ivshmem device: lspci -d 1af4:1110 lists those that are",
			address);
	if (err == -ENODEV)
		return guest_fail(error, err,
			"there is no PCI device %s: lspci -d 1af4:1110 lists the ivshmem devices",
			address);
	if (err < 0)
		return guest_fail(error, err, "reading about %s in %s/bus/pci/devices: %m", address,
			system->sys);
	return 0;
}

static int parse_address(
	const char *text, char address[PCI_ADDRESS_SIZE], struct guest_error *error)
{
	if (pci_address(text, address))
		return 0;
	return guest_fail(
		error, -EINVAL, "'%.80s' is no PCI address: write it like 0000:00:04.0", text);
}

/* ---- what the ways have in common ---- */

static int explain_map(struct guest_error *error, int err, const char *name, const char *what)
{
	const char *remedy = "";

	if (err == -EPERM || err == -EACCES)
		remedy = ": be root; a kernel in lockdown (secure boot) allows it to drivers only";
	else if (err == -ENOMEM)
		remedy = ": raise the limit of address space (ulimit -v)";
	else if (err == -EINVAL)
		remedy = ": do registers share a page with another device? Boot with "
			 "pci=resource_alignment=pci:1af4:1110";
	return guest_fail(error, err, "mapping the %s from %s: %m%s", what, name, remedy);
}

int guest_map_registers(
	struct guest *guest, int fd, uint64_t offset, const char *name, struct guest_error *error)
{
	uint64_t size = (uint64_t)sysconf(_SC_PAGESIZE);
	void *address;
	int err = region_map_at(fd, offset, size, false, &address);

	if (err < 0)
		return explain_map(error, err, name, "registers");
	uint64_t in_page = guest->way == GUEST_PCI ? guest->function.registers % size : 0;
	guest->page = address;
	guest->registers = (volatile uint32_t *)((char *)address + in_page);
	return 0;
}

int guest_map_region(struct guest *guest, int fd, uint64_t offset, bool read_only, const char *name,
	struct guest_error *error)
{
	uint64_t size = guest->function.region_size;
	int err = region_map_at(fd, offset, size, read_only, &guest->region);

	if (err < 0)
		return explain_map(error, err, name, "shared memory");
	guest->size = size;
	return 0;
}

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
					  : parse_address(rest, name.address, error);
	if (err == 0)
		err = find_function(system, name.address, &guest->function, error);
	if (err == 0)
		err = check_function(guest, params->map_limit, error);
	if (err == 0)
		err = open_way(guest, system, name.vector, params, error);
	if (err == 0)
		err = find_id(guest, params->timeout_ms, error);
	return err;
}

int guest_open(struct guest *guest, const struct guest_system *system, enum guest_way way,
	const char *rest, const struct ivshmem_params *params, struct guest_error *error)
{
	*guest = (struct guest){
		.handle = guest->handle,
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

/* ---- auto: ---- */

static int fail_none(struct guest_error *error)
{
	return guest_fail(error, -ENODEV,
		"no ivshmem device in this machine: give its QEMU -device "
		"ivshmem-doorbell,vectors=2,chardev=iv -chardev "
		"socket,id=iv,path=/tmp/ivshmem_socket (on a host, use unix:PATH)");
}

static int fail_several(struct guest_error *error, const struct pci_function *list, int count)
{
	size_t room = sizeof(error->text), n;
	char size[24];

	n = (size_t)snprintf(error->text, room,
		"%d ivshmem devices: choose one, as in auto:%s, of:", count, list[0].address);
	for (int i = 0; i < count && i < LISTED && n < room; i++)
		n += (size_t)snprintf(error->text + n, room - n, "%s %s (%s, %s)",
			i == 0 ? "" : ",", list[i].address, format_size(list[i].region_size, size),
			driver_of(&list[i]));
	return -ENOTUNIQ;
}

static int find_only(
	const struct guest_system *system, struct pci_function *function, struct guest_error *error)
{
	struct pci_function list[LISTED];
	int count = pci_list(system, list, LISTED);

	if (count == 0 || count == -ENOENT)
		return fail_none(error);
	if (count < 0)
		return guest_fail(error, count, "listing %s/bus/pci/devices: %m", system->sys);
	if (count > 1)
		return fail_several(error, list, count);
	*function = list[0];
	return 0;
}

int guest_choose(const struct guest_system *system, const char *rest, enum guest_way *way,
	char address[PCI_ADDRESS_SIZE], struct guest_error *error)
{
	struct pci_function function = {0};
	int err = rest[0] ? parse_address(rest, address, error) : 0;
	if (err == 0)
		err = rest[0] ? find_function(system, address, &function, error)
			      : find_only(system, &function, error);
	if (err < 0)
		return err;

	memcpy(address, function.address, PCI_ADDRESS_SIZE);
	if (strcmp(function.driver, "uio_ivshmem") == 0)
		*way = GUEST_UIO;
	else if (strcmp(function.driver, "vfio-pci") == 0)
		*way = GUEST_VFIO;
	else if (function.driver[0] == '\0')
		*way = GUEST_PCI;
	else
		return guest_fail_driver(error, system, &function, "uio_ivshmem");
	return 0;
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
