/* SPDX-License-Identifier: MIT */
/*
 * The driver for firmware, <ivshmem/mmio.h>, on the PCI device: registers in BAR0, memory in BAR2,
 * a message-signalled interrupt for each vector, once somebody has set these up.
 */
#include "cases.h"
#include "device.h"
#include "machine.h"

#include "ivshmem/mmio.h"

static struct ivshmem_mmio iv;

/* What the interrupt controllers' code has counted is what a handler would have told. */
static void hand_over(uint32_t vector)
{
	while (iv.rung[vector] != *msix_taken(vector))
		ivshmem_mmio_interrupt(&iv, vector);
}

void case_mmio(void)
{
	uint32_t own;

	msix_start();
	ivshmem_mmio_init(&iv, device.address[IVSHMEM_BAR_REGISTERS],
		device.address[IVSHMEM_BAR_MEMORY], (uint32_t)device.size[IVSHMEM_BAR_MEMORY]);
	own = (uint32_t)ivshmem_mmio_id(&iv);
	expect("ID", own, device.id);
	ivshmem_mmio_store(&iv, iv.size - 4, 0x12345678);
	expect("memory", bar_read(IVSHMEM_BAR_MEMORY, iv.size - 4, 4), 0x12345678);
	for (uint32_t vector = 0; vector < IVSHMEM_MMIO_VECTORS && vector < msix_used(); vector++) {
		ivshmem_mmio_ring(&iv, own, vector);
		wait_count("own doorbell", msix_taken(vector), 1);
		hand_over(vector);
		expect("rings", ivshmem_mmio_take(&iv, vector), 1);
		expect("rings", ivshmem_mmio_take(&iv, vector), 0);
	}
	expect("status", ivshmem_mmio_acknowledge(&iv), 0);
}
