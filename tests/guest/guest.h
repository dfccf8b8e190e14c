/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the test guest share. guest.c is its init; how the guest gets at the device is
 * the business of sysfs.c (no driver), vfio.c (vfio-pci) and uio.c (uio_pci_generic).
 *
 * Whatever goes wrong ends the guest by die(): there is nobody to return to.
 */
#ifndef GUEST_H
#define GUEST_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "talk.h"

/* The device. A way of access has a structure of its own that begins with this one. */
struct guest {
	struct talk_port port; /* the device knows its region, ID, ring and rung */
	char path[PATH_MAX];   /* in sysfs */
	volatile uint32_t *registers;
	uint64_t size; /* of the memory */
	unsigned revision, vectors;
	/* After the conversation: do the driver's counts agree? NULL without interrupts. */
	bool (*settled)(struct guest *guest);
};

struct guest *sysfs_open(void);
struct guest *vfio_open(void);
struct guest *uio_open(void);

/* ---- guest.c ---- */

__attribute__((noreturn)) void die(const char *what);

/* Parameter `name` of the kernel's command line, `otherwise` where it is absent. */
unsigned parameter(const char *name, unsigned otherwise);

/* Load /modules/NAME.ko for each of `names`, up to a NULL. */
void load_modules(const char *const *names);

/* How often the interrupts whose line in /proc/interrupts contains `name` came. */
uint64_t interrupt_count(const char *name);

/* ---- sysfs.c ---- */

/* Find the ivshmem device: fills `path`. */
void sysfs_find(struct guest *guest);

/* Write `text` to the file `path`. */
void sysfs_write(const char *path, const char *text);

/* A file of the device, open for reading and writing. */
int sysfs_file(const struct guest *guest, const char *name);

/* The device's registers and memory, and what they say: all fields but vectors and functions. */
void sysfs_map(struct guest *guest);

/* Of the device's configuration space. */
uint32_t config_read(int fd, unsigned offset, unsigned bytes);

/* Ring by a write to the doorbell register. */
int register_ring(struct talk_port *port, unsigned id, unsigned vector);

/* Sleep rather than spin: under emulation a spinning guest takes the time that the others need. */
void short_sleep(void);

#endif
