/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The window is the register file of src/device and nothing around it: no configuration space, no
 * bus. What is left is who hears of an interrupt. In the pulse style the device keeps nothing, so
 * mask and status stay 0 whatever is written, as in QEMU's flat device. In the level style they are
 * what they are in the PCI device with INTx, but with a bit for each vector instead of one for all:
 * with one line the handler could not know which vector was rung.
 */
#include <ivshmem/flat.h>

#include "device/registers.h"

#include <string.h>

#define STATUS_BITS 32u

/* The state as src/device has it. */
static struct device_registers registers_of(const struct ivshmem_flat *flat)
{
	return (struct device_registers){
		.mask = flat->mask, .status = flat->status, .position = flat->position};
}

/* Tell of the line what has changed. Only the level style has bits that can be set here. */
static void settle(struct ivshmem_flat *flat)
{
	int raised = (flat->status & flat->mask) != 0;

	if (raised == flat->raised)
		return;
	flat->raised = raised;
	if (flat->ops->line)
		flat->ops->line(flat->data, 0, raised);
}

int ivshmem_flat_init(struct ivshmem_flat *flat, const struct ivshmem_flat_config *config)
{
	if (config->struct_size != sizeof(*config) || config->vectors > IVSHMEM_MAX_VECTORS ||
		!config->ops)
		return -1;
	memset(flat, 0, sizeof(*flat));
	flat->position = config->position;
	flat->vectors = config->vectors;
	flat->level = config->level != 0;
	flat->ops = config->ops;
	flat->data = config->data;
	return 0;
}

void ivshmem_flat_reset(struct ivshmem_flat *flat)
{
	flat->mask = 0;
	flat->status = 0;
	settle(flat);
}

void ivshmem_flat_read(struct ivshmem_flat *flat, uint32_t offset, void *bytes, size_t size)
{
	struct device_registers registers = registers_of(flat);

	device_read(&registers, offset, bytes, size);
	flat->status = registers.status;
	settle(flat);
}

void ivshmem_flat_write(struct ivshmem_flat *flat, uint32_t offset, const void *bytes, size_t size)
{
	struct device_registers registers = registers_of(flat);
	struct device_doorbell doorbell = device_write(&registers, offset, bytes, size);

	if (flat->level) {
		flat->mask = registers.mask;
		flat->status = registers.status;
		settle(flat);
	}
	if (doorbell.rung && flat->ops->ring)
		flat->ops->ring(flat->data, doorbell.peer, doorbell.vector);
}

void ivshmem_flat_interrupt(struct ivshmem_flat *flat, unsigned vector)
{
	if (vector >= flat->vectors)
		return;
	if (flat->level) {
		flat->status |= 1u << (vector < STATUS_BITS ? vector : STATUS_BITS - 1);
		settle(flat);
	} else if (flat->ops->line) {
		flat->ops->line(flat->data, vector, 1);
		flat->ops->line(flat->data, vector, 0);
	}
}
