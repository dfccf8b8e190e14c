/* SPDX-License-Identifier: MIT */
#include "vfio-user/function.h"

#include "region/guard.h"
#include "vfio-user/kept_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void on_ring(void *data, unsigned peer, unsigned vector)
{
	struct vfu_function *function = data;
	function->ring(function->data, peer, vector);
}

static void on_message(void *data, unsigned vector, uint64_t address, uint32_t value)
{
	struct vfu_function *function = data;
	(void)address; /* the VMM keeps the table and knows them */
	(void)value;
	vfu_irqs_message(&function->irqs, vector);
}

static void on_line(void *data, int level)
{
	struct vfu_function *function = data;
	vfu_irqs_line(&function->irqs, level);
}

/* What isn't there reads 0: memory that comes late, or that somebody has truncated. */
static void on_memory(void *data, int write, uint64_t offset, void *bytes, size_t size)
{
	const struct vfu_function *function = data;
	const struct vfu_memory *memory = &function->memory;
	bool there = memory->address && offset <= memory->size && size <= memory->size - offset;

	if (write) {
		if (there && !memory->read_only)
			region_guarded_write((uint8_t *)memory->address + offset, bytes, size);
	} else if (there) {
		region_guarded_read((uint8_t *)memory->address + offset, bytes, size);
	} else {
		memset(bytes, 0, size);
	}
}

/* No `place`: the VMM does the guest's addresses. */
static const struct ivshmem_pci_ops ops = {
	.ring = on_ring,
	.message = on_message,
	.line = on_line,
	.memory = on_memory,
};

int vfu_function_init(struct vfu_function *function, const struct vfu_function_config *config)
{
	struct ivshmem_pci_config pci = IVSHMEM_PCI_CONFIG_INIT;
	size_t size = ivshmem_pci_size(config->vectors);

	if (size == 0)
		return -EINVAL;
	void *storage = malloc(size);
	if (!storage)
		return -ENOMEM;

	pci.revision = config->revision;
	pci.vectors = config->vectors;
	pci.memory_size = config->bar_size;
	pci.position = config->position;
	pci.subsystem_id = config->subsystem_id;
	pci.external_table = 1;
	pci.ops = &ops;
	pci.data = function;
	int error = -EINVAL;
	*function = (struct vfu_function){
		.pci = ivshmem_pci_init(storage, &pci),
		.memory = config->memory,
		.ring = config->ring,
		.data = config->data,
	};
	if (!function->pci)
		goto fail;
	error = vfu_irqs_init(&function->irqs, config->vectors);
	if (error < 0)
		goto fail;
	function->irqs.pci = function->pci;
	function->irqs.watch_resample = config->watch_resample;
	function->irqs.data = config->data;
	return 0;

fail:
	free(storage);
	return error;
}

void vfu_function_fini(struct vfu_function *function)
{
	vfu_irqs_fini(&function->irqs);
	free(function->pci);
}

void vfu_function_interrupt(struct vfu_function *function, unsigned vector)
{
	struct vfu_kept_ring ring = {0};

	if (function->kept)
		ring = vfu_kept_ring_begin(function->kept, function->pci, vector);
	ivshmem_pci_interrupt(function->pci, vector);
	if (function->kept)
		vfu_kept_ring_end(function->kept, function->pci, vector, ring);
}

void vfu_function_attach(
	struct vfu_function *function, const struct vfu_memory *memory, uint32_t position)
{
	function->memory = *memory;
	ivshmem_pci_set_position(function->pci, position);
}

void vfu_function_release(struct vfu_function *function)
{
	vfu_irqs_clear(&function->irqs);
	ivshmem_pci_reset(function->pci);
	function->trapped = false;
}

uint64_t vfu_function_region_size(const struct vfu_function *function, unsigned region)
{
	if (region < IVSHMEM_PCI_BARS)
		return ivshmem_pci_bar_size(function->pci, region);
	return region == VFU_REGION_CONFIG ? IVSHMEM_PCI_CONFIG_SIZE : 0;
}

void vfu_function_read(
	struct vfu_function *function, unsigned region, uint64_t offset, void *bytes, size_t size)
{
	if (region < IVSHMEM_PCI_BARS) {
		function->accesses++;
		ivshmem_pci_read(function->pci, region, offset, bytes, size);
	} else if (region == VFU_REGION_CONFIG && offset < IVSHMEM_PCI_CONFIG_SIZE) {
		ivshmem_pci_config_read(function->pci, (uint32_t)offset, bytes, size);
	} else {
		memset(bytes, 0, size);
	}
}

void vfu_function_write(struct vfu_function *function, unsigned region, uint64_t offset,
	const void *bytes, size_t size)
{
	if (region < IVSHMEM_PCI_BARS) {
		function->accesses++;
		ivshmem_pci_write(function->pci, region, offset, bytes, size);
	} else if (region == VFU_REGION_CONFIG && offset < IVSHMEM_PCI_CONFIG_SIZE) {
		ivshmem_pci_config_write(function->pci, (uint32_t)offset, bytes, size);
	}
}
