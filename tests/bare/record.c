/* SPDX-License-Identifier: MIT */
/*
 * Drive the device through everything whose outcome is the same on every ivshmem device, and write
 * down each access. The output is a file for examples/embed-device.c, where a replay must read the
 * same. An interrupt taken is written as a comment, since it is nothing that the guest does to the
 * device; but a replay must send these messages, in this order.
 *
 * Left out is what QEMU's own device does otherwise on purpose: accesses of less than 4 bytes to
 * registers and table, doorbells while MSI-X is off or bus mastering is, bytes of configuration
 * space that mean nothing, and BAR1 between table and pending bits.
 */
#include "cases.h"
#include "device.h"
#include "machine.h"

/* Fixed, so that each recording has the same. */
static const uint32_t addresses[BARS] = {0x50000000, 0x50001000, 0x40000000};

static uint32_t taken[MSIX_USED];

/* Wait for a doorbell of ours to come back as an interrupt, and write it down. */
static void await(uint32_t vector)
{
	wait_count("interrupt", msix_taken(vector), ++taken[vector]);
	print("# took vector %u\n", vector);
}

static void record_header(void)
{
	for (uint32_t offset = 0; offset < PCI_INTERRUPT_LINE; offset += 4)
		config_read(offset, 4);
	config_read(PCI_ID, 2);
	config_read(PCI_ID + 2, 2);
	config_read(PCI_REVISION, 1);
	config_read(PCI_CLASS, 2);
	config_read(PCI_INTERRUPT_PIN, 1);
	config_write(PCI_ID, 4, 0xffffffff);
	config_read(PCI_ID, 4);
	config_write(PCI_INTERRUPT_LINE, 1, 0xa5);
	config_read(PCI_INTERRUPT_LINE, 1);
	for (uint32_t offset = 0; device.msix != 0 && offset < 12; offset += 4)
		config_read(device.msix + offset, 4);
}

/* Sizes as software finds them out, by each BAR and its upper half. */
static void record_sizing(void)
{
	for (uint32_t offset = PCI_BAR; offset < PCI_BAR + 24; offset += 4) {
		config_write(offset, 4, 0xffffffff);
		config_read(offset, 4);
		config_write(offset, 4, 0);
		config_read(offset, 4);
	}
	device_place();
	for (uint32_t offset = PCI_BAR; offset < PCI_BAR + 24; offset += 4)
		config_read(offset, 4);
	device_command(COMMAND_MEMORY | COMMAND_MASTER);
	config_read(PCI_COMMAND, 2);
}

static void record_registers(void)
{
	for (uint32_t reg = 0; reg < IVSHMEM_REGISTERS_SIZE; reg += 4)
		register_read(reg);
	register_write(IVSHMEM_REG_INTRMASK, 0xffffffff);
	register_read(IVSHMEM_REG_INTRMASK);
	register_write(IVSHMEM_REG_INTRMASK, 0);
	register_write(IVSHMEM_REG_INTRSTATUS, 0x12345678);
	register_read(IVSHMEM_REG_INTRSTATUS);
	register_read(IVSHMEM_REG_INTRSTATUS);
	register_write(IVSHMEM_REG_IVPOSITION, 77);
	register_read(IVSHMEM_REG_IVPOSITION);
	ring(60000, 0);
	ring(device.id, device.vectors);
}

static void record_memory(void)
{
	const uint32_t last = (uint32_t)device.size[IVSHMEM_BAR_MEMORY] - 8;

	for (unsigned size = 1; size <= 8; size *= 2) {
		bar_write(IVSHMEM_BAR_MEMORY, 0x100 * size, size, 0x1122334455667788);
		bar_read(IVSHMEM_BAR_MEMORY, 0x100 * size, 8);
	}
	bar_write(IVSHMEM_BAR_MEMORY, last, 8, 0x99aabbccddeeff00);
	for (unsigned size = 1; size <= 8; size *= 2)
		bar_read(IVSHMEM_BAR_MEMORY, last + 8 - size, size);
}

/* The table as reset leaves it, and as we set it up. */
static void record_table(void)
{
	for (uint32_t at = 0; at < device.vectors * ENTRY_SIZE; at += 4)
		bar_read(IVSHMEM_BAR_MSIX, device.table + at, 4);
	msix_start();
	for (uint32_t at = 0; at < device.vectors * ENTRY_SIZE; at += 4)
		bar_read(IVSHMEM_BAR_MSIX, device.table + at, 4);
	config_read(device.msix + MSIX_CONTROL, 2);
}

static void record_doorbells(void)
{
	for (uint32_t vector = 0; vector < device.vectors; vector++) {
		ring(device.id, vector);
		await(vector);
		msix_pending(vector);
	}
}

/* Time passes between doorbell and pending bit, and looking at it is an access that the log would
 * have: so look without the log, then once with it. */
static void await_pending(uint32_t vector)
{
	device.log = false;
	while (!msix_pending(vector))
		doze("pending bit");
	device.log = true;
	msix_pending(vector);
}

static void record_masks(void)
{
	for (uint32_t vector = 0; vector < device.vectors; vector++) {
		msix_mask(vector, true);
		ring(device.id, vector);
		await_pending(vector);
		bar_write(IVSHMEM_BAR_MSIX, device.pending, 4, 0); /* read-only */
		msix_pending(vector);
		msix_mask(vector, false);
		await(vector);
		msix_pending(vector);
	}
	msix_control(MSIX_ENABLE | MSIX_FUNCTION_MASK);
	for (uint32_t vector = 0; vector < device.vectors; vector++) {
		ring(device.id, vector);
		await_pending(vector);
	}
	msix_control(0);
	msix_control(MSIX_ENABLE | MSIX_FUNCTION_MASK);
	msix_pending(0);
	msix_control(MSIX_ENABLE);
	for (uint32_t vector = 0; vector < device.vectors; vector++)
		await(vector);
	msix_pending(0);
}

void case_record(void)
{
	expect("vectors that we can record", device.vectors == msix_used(), true);
	for (unsigned bar = 0; bar < BARS; bar++)
		device.address[bar] = addresses[bar];
	/* From here on the log is complete: it begins with what the firmware has changed. */
	print("device revision=%u vectors=%u size=%u position=%u\n", config_read(PCI_REVISION, 1),
		device.vectors, (uint32_t)device.size[IVSHMEM_BAR_MEMORY], device.id);
	device.log = true;
	device_command(0);
	config_write(PCI_INTERRUPT_LINE, 1, 0);
	record_sizing();
	record_header();
	record_registers();
	record_memory();
	if (device.vectors > 0) {
		record_table();
		record_doorbells();
		record_masks();
		record_doorbells();
	}
}
