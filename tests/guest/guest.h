/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the test guest share. guest.c is its init. How it gets at the device is the
 * business of driver.c (the library over uio_ivshmem or vfio-pci) or, where the device itself is
 * put to the test, of sysfs.c (no driver) and uio.c (uio_pci_generic).
 *
 * Whatever goes wrong ends the guest by die(): there is nobody to return to.
 */
#ifndef GUEST_H
#define GUEST_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "talk.h"

/* The device. */
struct guest {
	char path[PATH_MAX]; /* in sysfs */
	unsigned revision, vectors;
	uint64_t size;                /* of the memory */
	volatile uint32_t *registers; /* NULL: the library has them */
	struct talk_port *port;
	/* What its lines in /proc/interrupts contain. NULL: no driver takes interrupts. */
	const char *interrupts;
};

void driver_access(struct guest *guest, const char *driver);
void sysfs_access(struct guest *guest);
void intx_access(struct guest *guest);

/* ---- guest.c ---- */

__attribute__((noreturn)) void die(const char *what);

/* Parameter `name` of the kernel's command line, `otherwise` where it is absent. */
unsigned parameter(const char *name, unsigned otherwise);

/* Load /modules/NAME.ko for each of `names`, up to a NULL. */
void load_modules(const char *const *names);

/* ---- sysfs.c ---- */

/* A port without the library. A way of access has a structure of its own that begins with this. */
struct raw {
	struct talk_port port;
	struct guest *guest;
};

/* Find the ivshmem device: fills `path` and `revision`. */
void raw_find(struct guest *guest);

/* Write `text` to the file `path`. */
void write_file(const char *path, const char *text);

/* A file of the device, open for reading and writing. */
int raw_file(const struct guest *guest, const char *name);

/* Map registers and memory: fills `registers` and `size`, and of the port all but rung and idle. */
void raw_map(struct guest *guest, struct raw *raw);

/* Of the device's configuration space. */
uint32_t config_read(int fd, unsigned offset, unsigned bytes);

/* Sleep rather than spin: under emulation a spinning guest takes the time that the others need. */
void short_sleep(void);

#endif
