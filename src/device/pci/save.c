/* SPDX-License-Identifier: MIT */
/*
 * The state as bytes, docs/device.md, section 11.
 *
 * Theory of operation
 *
 * What is saved is what the guest can have changed, and of configuration space all of it: its
 * read-only part says which device this is, so that bytes of another one are found by comparing.
 * What follows from the rest (the level of INTx, its bit in the status register, where the BARs
 * are) is not saved, and so cannot contradict it.
 *
 * Everything is looked at before anything is changed. Then the device is as a guest could have made
 * it by accesses of its own, which are checked elsewhere.
 */
#include "device/pci/internal.h"

#include "base/le.h"

#include <string.h>

enum {
	VERSION = 1,

	AT_VERSION = 0,
	AT_VECTORS = 4,
	AT_MEMORY_SIZE = 8,
	AT_MASK = 16,
	AT_STATUS = 20,
	AT_CONFIG = 24,
	AT_TABLE = AT_CONFIG + IVSHMEM_PCI_CONFIG_SIZE, /* the pending bits are behind it */
};

size_t ivshmem_pci_saved_size(unsigned vectors)
{
	if (vectors > IVSHMEM_MAX_VECTORS)
		return 0;
	return AT_TABLE + (size_t)vectors * MSIX_ENTRY_SIZE + msix_bits_size(vectors);
}

void ivshmem_pci_save(const struct ivshmem_pci *pci, void *bytes)
{
	uint8_t *out = bytes;
	size_t table_size = (size_t)pci->vectors * MSIX_ENTRY_SIZE;

	store_le(out + AT_VERSION, 4, VERSION);
	store_le(out + AT_VECTORS, 4, pci->vectors);
	store_le(out + AT_MEMORY_SIZE, 8, pci->memory_size);
	store_le(out + AT_MASK, 4, pci->registers.mask);
	store_le(out + AT_STATUS, 4, pci->registers.status);
	memcpy(out + AT_CONFIG, pci->config, IVSHMEM_PCI_CONFIG_SIZE);
	config_hide_intx(out + AT_CONFIG);
	memcpy(out + AT_TABLE, pci->table, table_size);
	memcpy(out + AT_TABLE + table_size, pci->pending, msix_bits_size(pci->vectors));
}

/* The name of the field that is impossible, or NULL. */
static const char *check(const struct ivshmem_pci *pci, const uint8_t *in, size_t size)
{
	if (size < 4 || load_le(in + AT_VERSION, 4) != VERSION)
		return "version";
	if (size != ivshmem_pci_saved_size(pci->vectors))
		return "size";
	if (load_le(in + AT_VECTORS, 4) != pci->vectors)
		return "vectors";
	if (load_le(in + AT_MEMORY_SIZE, 8) != pci->memory_size)
		return "memory size";
	if (!config_is_possible(pci, in + AT_CONFIG))
		return "configuration space";
	unsigned beyond = pci->vectors % 8;
	if (beyond != 0 && in[size - 1] >> beyond != 0)
		return "pending bits";
	return NULL;
}

const char *ivshmem_pci_load(struct ivshmem_pci *pci, const void *bytes, size_t size)
{
	const uint8_t *in = bytes;
	const char *wrong = check(pci, in, size);
	size_t table_size = (size_t)pci->vectors * MSIX_ENTRY_SIZE;

	if (wrong)
		return wrong;
	pci->registers.mask = (uint32_t)load_le(in + AT_MASK, 4);
	pci->registers.status = (uint32_t)load_le(in + AT_STATUS, 4);
	config_write(pci, 0, in + AT_CONFIG, IVSHMEM_PCI_CONFIG_SIZE);
	memcpy(pci->table, in + AT_TABLE, table_size);
	memcpy(pci->pending, in + AT_TABLE + table_size, msix_bits_size(pci->vectors));
	pci->changes++;
	pci_settle(pci);
	return NULL;
}
