/* SPDX-License-Identifier: MIT */
/*
 * Configuration space, docs/device.md, section 2.
 *
 * Theory of operation
 *
 * Two arrays of 256 bytes say it all: what is read, and which bits a write changes. Sizing a BAR
 * needs no code: its low bits are not writable, so all-ones read back as the size's complement.
 *
 * A BAR answers at an address if memory decoding is on and the address makes sense. Address 0 is
 * what BARs have after reset, and an address at the very end of its range is what they show while
 * they are sized; a driver that leaves decoding on meanwhile must not make the VMM move the BAR
 * there, least of all a memory BAR over the guest's own memory.
 */
#include "device/pci/internal.h"

#include "base/le.h"

#include <string.h>

enum {
	VENDOR = 0x00,
	DEVICE = 0x02,
	COMMAND = 0x04,
	STATUS = 0x06,
	REVISION = 0x08,
	CLASS = 0x0a,
	CACHE_LINE = 0x0c,
	BAR0 = 0x10,
	SUBSYSTEM_VENDOR = 0x2c,
	SUBSYSTEM = 0x2e,
	CAPABILITIES = 0x34,
	INTERRUPT_LINE = 0x3c,
	INTERRUPT_PIN = 0x3d,
	MSIX = 0x40,
	MSIX_CONTROL = MSIX + 2,
	MSIX_TABLE = MSIX + 4,
	MSIX_PBA = MSIX + 8,

	COMMAND_WRITABLE = 0x0507, /* I/O, memory, master, SERR, INTx disable */
	STATUS_INTX = 1 << 3,
	STATUS_CAPABILITIES = 1 << 4,
	CLASS_RAM = 0x0500,
	BAR_64_BIT_PREFETCHABLE = 0xc,
	CAPABILITY_MSIX = 0x11,
	MSIX_ENABLE = 1 << 15,
	MSIX_MASK = 1 << 14,
};

static void put(uint8_t *bytes, unsigned offset, unsigned width, uint64_t value)
{
	store_le(bytes + offset, width, value);
}

static void reset_bars(struct ivshmem_pci *pci)
{
	uint8_t *config = pci->config, *writable = pci->writable;

	put(writable, BAR0, 4, ~(uint64_t)(IVSHMEM_REGISTERS_SIZE - 1));
	if (pci->vectors > 0)
		put(writable, BAR0 + 4, 4, ~(uint64_t)(msix_bar_size(pci->vectors) - 1));
	put(config, BAR0 + 8, 8, BAR_64_BIT_PREFETCHABLE);
	put(writable, BAR0 + 8, 8, ~(pci->memory_size - 1));
}

static void reset_msix(struct ivshmem_pci *pci)
{
	uint8_t *config = pci->config, *writable = pci->writable;

	put(config, STATUS, 2, STATUS_CAPABILITIES);
	put(config, CAPABILITIES, 1, MSIX);
	put(config, MSIX, 2, CAPABILITY_MSIX); /* and there is no next one */
	put(config, MSIX_CONTROL, 2, pci->vectors - 1);
	put(writable, MSIX_CONTROL, 2, MSIX_ENABLE | MSIX_MASK);
	put(config, MSIX_TABLE, 4, IVSHMEM_BAR_MSIX);
	put(config, MSIX_PBA, 4, msix_pba_offset(pci->vectors) | IVSHMEM_BAR_MSIX);
}

void config_reset(struct ivshmem_pci *pci)
{
	uint8_t *config = pci->config, *writable = pci->writable;

	memset(config, 0, IVSHMEM_PCI_CONFIG_SIZE);
	memset(writable, 0, IVSHMEM_PCI_CONFIG_SIZE);

	put(config, VENDOR, 2, IVSHMEM_PCI_VENDOR_ID);
	put(config, DEVICE, 2, IVSHMEM_PCI_DEVICE_ID);
	put(writable, COMMAND, 2, COMMAND_WRITABLE);
	put(config, REVISION, 1, pci->revision);
	put(config, CLASS, 2, CLASS_RAM);
	put(writable, CACHE_LINE, 1, 0xff);
	put(config, SUBSYSTEM_VENDOR, 2, pci->subsystem_id >> 16);
	put(config, SUBSYSTEM, 2, pci->subsystem_id);
	put(writable, INTERRUPT_LINE, 1, 0xff);
	put(config, INTERRUPT_PIN, 1, pci->revision == 0 ? 1 : 0); /* INTA#, with MSI-X too */
	reset_bars(pci);
	if (pci->vectors > 0)
		reset_msix(pci);
}

/* Within the configuration space. */
void config_write(struct ivshmem_pci *pci, size_t offset, const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		uint8_t *byte = &pci->config[offset + i], writable = pci->writable[offset + i];
		*byte = (uint8_t)((*byte & ~writable) | (bytes[i] & writable));
	}
}

uint16_t config_command(const struct ivshmem_pci *pci)
{
	return (uint16_t)load_le(pci->config + COMMAND, 2);
}

bool config_msix_active(const struct ivshmem_pci *pci)
{
	return (load_le(pci->config + MSIX_CONTROL, 2) & (MSIX_ENABLE | MSIX_MASK)) == MSIX_ENABLE;
}

void config_show_intx(struct ivshmem_pci *pci, bool asserted)
{
	uint8_t *status = pci->config + STATUS;
	*status = (uint8_t)((*status & ~STATUS_INTX) | (asserted ? STATUS_INTX : 0));
}

void config_hide_intx(uint8_t *config)
{
	config[STATUS] = (uint8_t)(config[STATUS] & ~STATUS_INTX);
}

bool config_is_possible(const struct ivshmem_pci *pci, const uint8_t *config)
{
	for (unsigned i = 0; i < IVSHMEM_PCI_CONFIG_SIZE; i++) {
		uint8_t fixed = (uint8_t)~pci->writable[i], mine = pci->config[i];
		if (i == STATUS)
			mine = (uint8_t)(mine & ~STATUS_INTX);
		if ((config[i] ^ mine) & fixed)
			return false;
	}
	return true;
}

uint64_t config_bar_address(const struct ivshmem_pci *pci, unsigned bar)
{
	uint64_t size = ivshmem_pci_bar_size(pci, bar);
	unsigned width = bar == IVSHMEM_BAR_MEMORY ? 8 : 4;
	uint64_t end_of_range = bar == IVSHMEM_BAR_MEMORY ? UINT64_MAX : UINT32_MAX;

	if (size == 0 || !(config_command(pci) & COMMAND_MEMORY))
		return IVSHMEM_BAR_UNMAPPED;
	uint64_t address = load_le(pci->config + BAR0 + (size_t)4 * bar, width) & ~(size - 1);
	if (address == 0 || address + (size - 1) == end_of_range)
		return IVSHMEM_BAR_UNMAPPED;
	return address;
}
