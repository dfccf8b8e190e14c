/* SPDX-License-Identifier: MIT */
/*
 * The state of a PCI device, and what its four files do for each other:
 *   config.c  configuration space: contents, write masks, where the BARs are
 *   msix.c    MSI-X table and pending bits, sending messages
 *   pci.c     the public functions, BAR0, BAR2 and INTx
 *   save.c    the state as bytes
 *
 * What the guest can read is kept as the bytes it reads, in its order: no conversion is needed on
 * access, and there is no second copy to keep in step.
 */
#ifndef DEVICE_PCI_INTERNAL_H
#define DEVICE_PCI_INTERNAL_H

#include "device/registers.h"

#include <ivshmem/device.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	MSIX_ENTRY_SIZE = 16,

	COMMAND_MEMORY = 1 << 1,
	COMMAND_MASTER = 1 << 2,
	COMMAND_INTX_DISABLE = 1 << 10,
};

struct ivshmem_pci {
	struct device_registers registers;
	uint64_t memory_size;
	unsigned revision, vectors;
	uint32_t subsystem_id;
	bool external_table;
	const struct ivshmem_pci_ops *ops;
	void *data;

	int line;                          /* what the VMM was last told */
	uint64_t placed[IVSHMEM_PCI_BARS]; /* likewise */
	uint64_t changes;                  /* so far, of what is saved */

	uint8_t config[IVSHMEM_PCI_CONFIG_SIZE];
	uint8_t writable[IVSHMEM_PCI_CONFIG_SIZE]; /* the bits that a guest can change */

	/* Behind each other in `arrays`; a bit for each vector in the last two. */
	uint8_t *table, *pending, *ready;
	uint8_t arrays[];
};

/* Configuration space as after reset, and its write masks. */
void config_reset(struct ivshmem_pci *pci);
uint16_t config_command(const struct ivshmem_pci *pci);
void config_write(struct ivshmem_pci *pci, size_t offset, const uint8_t *bytes, size_t size);
bool config_msix_active(const struct ivshmem_pci *pci); /* enabled, and not masked as a whole */
void config_show_intx(struct ivshmem_pci *pci, bool asserted); /* in the status register */
void config_hide_intx(uint8_t *config);                        /* that bit, in a copy */
/* Can this be a copy of it, but for what a guest can change? */
bool config_is_possible(const struct ivshmem_pci *pci, const uint8_t *config);
uint64_t config_bar_address(const struct ivshmem_pci *pci, unsigned bar);

/* Tell the VMM what has become different from what it was told last. */
void pci_settle(struct ivshmem_pci *pci);

/* Sizes in bytes: of the bit array of that many vectors, and of BAR1; where the PBA is in it. */
size_t msix_bits_size(unsigned vectors);
uint32_t msix_pba_offset(unsigned vectors);
uint32_t msix_bar_size(unsigned vectors);

/* All entries zero and masked, nothing pending. */
void msix_reset(struct ivshmem_pci *pci);

/* Accesses that lie within BAR1. */
void msix_read(const struct ivshmem_pci *pci, uint32_t offset, uint8_t *bytes, size_t size);
void msix_write(struct ivshmem_pci *pci, uint32_t offset, const uint8_t *bytes, size_t size);

/* Note that the VMM can take messages of a vector, or can't. */
void msix_set_ready(struct ivshmem_pci *pci, unsigned vector, bool ready);

/* Send the message of a vector, or make it pending; send what is pending of vectors `first` up to
 * but not including `end`: as far as nothing is in the way. */
void msix_interrupt(struct ivshmem_pci *pci, unsigned vector);
void msix_deliver(struct ivshmem_pci *pci, unsigned first, unsigned end);

#endif
