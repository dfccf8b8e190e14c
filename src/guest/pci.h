/* SPDX-License-Identifier: MIT */
/*
 * guest/pci - ivshmem devices as the guest's kernel shows them in sysfs. Reads only; what is read
 * may change at any time, by a driver that is bound, a device that is unplugged.
 */
#ifndef GUEST_PCI_H
#define GUEST_PCI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the kernel's file systems are mounted; tests have trees of their own. */
struct guest_system {
	const char *sys, *dev, *proc;
};
extern const struct guest_system guest_system; /* /sys, /dev, /proc */

#define PCI_ADDRESS_SIZE 13 /* 0000:00:04.0 */

struct pci_function {
	char address[PCI_ADDRESS_SIZE];
	char driver[32]; /* "" if none is bound */
	unsigned revision;
	int msix_vectors; /* from configuration space, which only root can read whole: -1: unknown;
			     0: no MSI-X */
	uint64_t registers, region;           /* physical addresses of BAR0 and BAR2 */
	uint64_t registers_size, region_size; /* bytes; 0: there is no such BAR */
	bool memory_enabled, bus_master;
	bool msix_enabled; /* any user sees it by the driver's list of interrupts */
	bool intx;         /* has an interrupt pin */
};

/* Is `text` a PCI address? Also without the domain (00:04.0), which is then 0000. */
bool pci_address(const char *text, char address[PCI_ADDRESS_SIZE]);

/*
 * The ivshmem devices in the order of their addresses: up to `n` into `list`. Returns how many
 * there are, or -errno (no sysfs).
 */
int pci_list(const struct guest_system *system, struct pci_function *list, size_t n);

/* The one at `address`. 0, -ENODEV (nothing there), -EMEDIUMTYPE (not an ivshmem device), or
 * -errno. */
int pci_read(const struct guest_system *system, const char *address, struct pci_function *function);

/* What root types to give `function` to a driver. */
struct pci_commands {
	char text[256];
};
struct pci_commands pci_bind_commands(
	const struct guest_system *system, const struct pci_function *function, const char *driver);

/* A number (decimal, or 0x...) or a line from a small file PATH... of sysfs, given as by printf().
 * 0 or -errno. */
int sysfs_number(uint64_t *value, const char *format, ...) __attribute__((format(printf, 2, 3)));
int sysfs_line(char *line, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
