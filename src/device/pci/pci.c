/* SPDX-License-Identifier: MIT */
/*
 * The PCI device: who comes in, which part it concerns, and what the VMM is told.
 *
 * Theory of operation
 *
 * An access changes state first; then pci_settle() compares what the VMM was told with what is true
 * now and tells it the difference. Nobody needs to know which bit of which register has which
 * effect on INTx, BARs or messages, and a callback that comes back into the device finds it
 * complete.
 *
 * The registers of BAR0, where speed matters, only touch INTx and the doorbell and skip the rest.
 */
#include "device/pci/internal.h"

#include <string.h>

size_t ivshmem_pci_size(unsigned vectors)
{
	if (vectors > IVSHMEM_MAX_VECTORS)
		return 0;
	return sizeof(struct ivshmem_pci) + (size_t)vectors * MSIX_ENTRY_SIZE +
		2 * msix_bits_size(vectors);
}

static bool is_possible(const struct ivshmem_pci_config *config)
{
	uint64_t size = config->memory_size;
	return config->struct_size == sizeof(*config) && config->revision <= 1 &&
		config->vectors <= IVSHMEM_MAX_VECTORS && size >= 4096 &&
		(size & (size - 1)) == 0 && config->ops;
}

struct ivshmem_pci *ivshmem_pci_init(void *storage, const struct ivshmem_pci_config *config)
{
	struct ivshmem_pci *pci = storage;

	if (!is_possible(config))
		return NULL;
	memset(pci, 0, ivshmem_pci_size(config->vectors));
	pci->registers.position = config->position;
	pci->registers.intx = config->revision == 0 && config->vectors == 0;
	pci->revision = config->revision;
	pci->vectors = config->vectors;
	pci->subsystem_id = config->subsystem_id ? config->subsystem_id : IVSHMEM_PCI_SUBSYSTEM_ID;
	pci->memory_size = config->memory_size;
	pci->external_table = config->external_table != 0;
	pci->ops = config->ops;
	pci->data = config->data;
	for (unsigned bar = 0; bar < IVSHMEM_PCI_BARS; bar++)
		pci->placed[bar] = IVSHMEM_BAR_UNMAPPED;
	pci->table = pci->arrays;
	pci->pending = pci->table + (size_t)pci->vectors * MSIX_ENTRY_SIZE;
	pci->ready = pci->pending + msix_bits_size(pci->vectors);
	config_reset(pci);
	msix_reset(pci);
	return pci;
}

static void settle_line(struct ivshmem_pci *pci)
{
	bool asserted = device_asserted(&pci->registers);

	config_show_intx(pci, asserted);
	int line = asserted && !(config_command(pci) & COMMAND_INTX_DISABLE);
	if (line == pci->line)
		return;
	pci->line = line;
	if (pci->ops->line)
		pci->ops->line(pci->data, line);
}

static void settle_bars(struct ivshmem_pci *pci)
{
	for (unsigned bar = 0; bar < IVSHMEM_PCI_BARS; bar++) {
		uint64_t address = config_bar_address(pci, bar);
		if (address == pci->placed[bar])
			continue;
		pci->placed[bar] = address;
		if (pci->ops->place)
			pci->ops->place(pci->data, bar, address);
	}
}

void pci_settle(struct ivshmem_pci *pci)
{
	settle_line(pci);
	settle_bars(pci);
	msix_deliver(pci, 0, pci->vectors);
}

void ivshmem_pci_reset(struct ivshmem_pci *pci)
{
	device_reset(&pci->registers);
	config_reset(pci);
	msix_reset(pci);
	pci->changes++;
	pci_settle(pci);
}

/* How much of an access lies below `limit`. */
static size_t clip(uint64_t offset, size_t size, uint64_t limit)
{
	if (offset >= limit)
		return 0;
	return size <= limit - offset ? size : (size_t)(limit - offset);
}

void ivshmem_pci_config_read(struct ivshmem_pci *pci, uint32_t offset, void *bytes, size_t size)
{
	memset(bytes, 0, size);
	size = clip(offset, size, sizeof(pci->config));
	if (size > 0)
		memcpy(bytes, pci->config + offset, size);
}

void ivshmem_pci_config_write(
	struct ivshmem_pci *pci, uint32_t offset, const void *bytes, size_t size)
{
	size = clip(offset, size, sizeof(pci->config));
	config_write(pci, offset, bytes, size);
	pci->changes++;
	pci_settle(pci);
}

static void access_memory(
	struct ivshmem_pci *pci, int write, uint64_t offset, void *bytes, size_t size)
{
	if (pci->ops->memory)
		pci->ops->memory(pci->data, write, offset, bytes, size);
}

/* Behind an access or a ring, which may have changed registers. */
static void settle_registers(struct ivshmem_pci *pci, const struct device_registers *before)
{
	pci->changes +=
		pci->registers.status != before->status || pci->registers.mask != before->mask;
	settle_line(pci);
}

static void read_registers(struct ivshmem_pci *pci, uint32_t offset, uint8_t *bytes, size_t size)
{
	const struct device_registers before = pci->registers;

	device_read(&pci->registers, offset, bytes, size);
	settle_registers(pci, &before);
}

void ivshmem_pci_read(
	struct ivshmem_pci *pci, unsigned bar, uint64_t offset, void *bytes, size_t size)
{
	memset(bytes, 0, size);
	size = clip(offset, size, ivshmem_pci_bar_size(pci, bar));
	if (size == 0)
		return;
	switch (bar) {
	case IVSHMEM_BAR_REGISTERS:
		read_registers(pci, (uint32_t)offset, bytes, size);
		break;
	case IVSHMEM_BAR_MSIX:
		msix_read(pci, (uint32_t)offset, bytes, size);
		break;
	case IVSHMEM_BAR_MEMORY:
		access_memory(pci, 0, offset, bytes, size);
		break;
	}
}

static void write_registers(
	struct ivshmem_pci *pci, uint32_t offset, const uint8_t *bytes, size_t size)
{
	const struct device_registers before = pci->registers;
	struct device_doorbell doorbell = device_write(&pci->registers, offset, bytes, size);

	settle_registers(pci, &before);
	if (doorbell.rung && pci->ops->ring)
		pci->ops->ring(pci->data, doorbell.peer, doorbell.vector);
}

void ivshmem_pci_write(
	struct ivshmem_pci *pci, unsigned bar, uint64_t offset, const void *bytes, size_t size)
{
	size = clip(offset, size, ivshmem_pci_bar_size(pci, bar));
	if (size == 0)
		return;
	switch (bar) {
	case IVSHMEM_BAR_REGISTERS:
		write_registers(pci, (uint32_t)offset, bytes, size);
		break;
	case IVSHMEM_BAR_MSIX:
		msix_write(pci, (uint32_t)offset, bytes, size);
		break;
	case IVSHMEM_BAR_MEMORY:
		access_memory(pci, 1, offset, (void *)bytes, size);
		break;
	}
}

void ivshmem_pci_interrupt(struct ivshmem_pci *pci, unsigned vector)
{
	const struct device_registers before = pci->registers;

	device_interrupt(&pci->registers);
	settle_registers(pci, &before);
	if (vector < pci->vectors)
		msix_interrupt(pci, vector);
}

void ivshmem_pci_vector_ready(struct ivshmem_pci *pci, unsigned vector, int ready)
{
	if (vector >= pci->vectors)
		return;
	msix_set_ready(pci, vector, ready);
	msix_deliver(pci, vector, vector + 1);
}

void ivshmem_pci_set_position(struct ivshmem_pci *pci, uint32_t position)
{
	pci->registers.position = position;
}

uint64_t ivshmem_pci_changes(const struct ivshmem_pci *pci)
{
	return pci->changes;
}

uint64_t ivshmem_pci_bar_size(const struct ivshmem_pci *pci, unsigned bar)
{
	switch (bar) {
	case IVSHMEM_BAR_REGISTERS:
		return IVSHMEM_REGISTERS_SIZE;
	case IVSHMEM_BAR_MSIX:
		return pci->vectors > 0 ? msix_bar_size(pci->vectors) : 0;
	case IVSHMEM_BAR_MEMORY:
		return pci->memory_size;
	}
	return 0;
}

unsigned ivshmem_pci_vectors(const struct ivshmem_pci *pci)
{
	return pci->vectors;
}

int ivshmem_pci_has_intx(const struct ivshmem_pci *pci)
{
	return pci->registers.intx;
}

int ivshmem_pci_line(const struct ivshmem_pci *pci)
{
	return pci->line;
}
