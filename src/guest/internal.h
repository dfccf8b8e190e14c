/* SPDX-License-Identifier: MIT */
/* What the files of src/guest share among themselves. */
#ifndef GUEST_INTERNAL_H
#define GUEST_INTERNAL_H

#include "guest/guest.h"
#include "region/header.h"

/* Fill error->text (with %m for `err`, a negative errno) and return `err`. */
int guest_fail(struct guest_error *error, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* `function` is not driven by `driver`: how to change that. Returns -ENXIO. */
int guest_fail_driver(struct guest_error *error, const struct guest_system *system,
	const struct pci_function *function, const char *driver);

/* Its driver's name, or "no driver". */
const char *guest_driver_name(const struct pci_function *function);

/* Read about the device at `address`, and an address from text, with error->text filled. */
int guest_find(const struct guest_system *system, const char *address,
	struct pci_function *function, struct guest_error *error);
int guest_parse_address(
	const char *text, char address[PCI_ADDRESS_SIZE], struct guest_error *error);

/* The way for the driver that it has; false if that is not one of ours. */
bool guest_find_way(const struct pci_function *function, enum guest_way *way);

/* Open the device in that way for as long as it takes to read its region's header. A driver that is
 * just being bound is waited for. 0 or -errno: those of opening it, and of region_header_find(). */
int guest_peek(const struct guest_system *system, const struct pci_function *function,
	enum guest_way way, int timeout_ms, struct region_identity *identity);

/* The same in whichever way its driver calls for; -ENXIO if that is not one of ours. */
int guest_identify(const struct guest_system *system, const struct pci_function *function,
	int timeout_ms, struct region_identity *identity);

/* Map the registers, which are at `offset` of `fd`, and the region. `name` is for messages. 0 or
 * -errno with error->text filled. */
int guest_map_registers(
	struct guest *guest, int fd, uint64_t offset, const char *name, struct guest_error *error);
int guest_map_region(struct guest *guest, int fd, uint64_t offset, bool read_only, const char *name,
	struct guest_error *error);

/* What `rest` in uio:REST stands for. */
struct uio_name {
	char address[PCI_ADDRESS_SIZE];
	int vector; /* -1: all of them */
};
int uio_parse(const struct guest_system *system, const char *rest, struct uio_name *name,
	struct guest_error *error);

/*
 * Each way's part of guest_open(): check the driver, map registers and region, find the vectors and
 * say whether there are interrupts (`timed`). What they have filled in when they fail is for
 * guest_close(). 0 or -errno with error->text filled.
 */
int uio_open(struct guest *guest, const struct guest_system *system, int vector,
	const struct ivshmem_params *params, struct guest_error *error);
int vfio_open(struct guest *guest, const struct guest_system *system,
	const struct ivshmem_params *params, struct guest_error *error);
int sysfs_open(struct guest *guest, const struct guest_system *system,
	const struct ivshmem_params *params, struct guest_error *error);

/* Make room for `n` vectors, none of them of this handle yet. 0 or -ENOMEM. */
int vectors_allocate(struct guest *guest, unsigned n);

/* Make the loop, which sees the vectors if the application listens to interrupts. 0 or -errno. */
int vectors_start(struct guest *guest);

#endif
