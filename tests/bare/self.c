/* SPDX-License-Identifier: MIT */
/*
 * What one guest can find out alone: the device as it shows itself, registers, and MSI-X with
 * doorbells to itself.
 *
 * Devices differ in what becomes of a doorbell while its interrupt can't be sent. Parameters say
 * what to expect: "pba=1" a masked vector's pending bit can be seen, "latch=1" a doorbell while
 * MSI-X is off arrives once it is on.
 */
#include "cases.h"
#include "device.h"
#include "machine.h"

#define NOBODY 60000u /* an ID that no peer has */

void case_probe(void)
{
	for (uint32_t offset = 0; offset < 0x40; offset += 4)
		print("config_%x=0x%x\n", offset, config_read(offset, 4));
	for (unsigned bar = 0; bar < BARS; bar++)
		print("bar%u=0x%llx\n", bar, device.size[bar]);
	print("id=%u\nvectors=%u\n", device.id, device.vectors);
	if (device.msix != 0)
		print("msix=0x%x\ntable=0x%x\npba=0x%x\n", device.msix, device.table,
			device.pending);
}

static void check_registers(void)
{
	expect("mask at start", register_read(IVSHMEM_REG_INTRMASK), 0);
	expect("status at start", register_read(IVSHMEM_REG_INTRSTATUS), 0);
	register_write(IVSHMEM_REG_INTRMASK, 0xffffffff);
	expect("mask", register_read(IVSHMEM_REG_INTRMASK), 0xffffffff);
	register_write(IVSHMEM_REG_INTRMASK, 0);
	register_write(IVSHMEM_REG_INTRSTATUS, 0x80000001);
	expect("status", register_read(IVSHMEM_REG_INTRSTATUS), 0x80000001);
	expect("status, once read", register_read(IVSHMEM_REG_INTRSTATUS), 0);
	register_write(IVSHMEM_REG_IVPOSITION, ~device.id);
	expect("IVPosition, once written", register_read(IVSHMEM_REG_IVPOSITION), device.id);
	expect("doorbell", register_read(IVSHMEM_REG_DOORBELL), 0);
	ring(NOBODY, 0);
	ring(device.id, device.vectors);
	ring(device.id, 0xffff);
	expect("behind the registers", register_read(IVSHMEM_REG_DOORBELL + 4), 0);
}

/* Ring ourselves and take the interrupt: exactly one. */
static void ring_and_take(uint32_t vector)
{
	uint32_t before = *msix_taken(vector);

	ring(device.id, vector);
	wait_count("own doorbell", msix_taken(vector), before + 1);
}

void check_own_doorbells(void)
{
	uint32_t before[MSIX_USED];

	for (uint32_t vector = 0; vector < msix_used(); vector++)
		before[vector] = *msix_taken(vector);
	for (unsigned turn = 0; turn < 3; turn++) {
		for (uint32_t vector = 0; vector < msix_used(); vector++)
			ring_and_take(vector);
	}
	settle();
	for (uint32_t vector = 0; vector < msix_used(); vector++)
		expect("each doorbell once", *msix_taken(vector), before[vector] + 3);
}

/* A doorbell has gone to `vector`, which is masked one way or another. (One only: of several, the
 * last may still be on its way to the device when the mask goes, and come as an interrupt more.) */
static void check_held_back(uint32_t vector, uint32_t before)
{
	while (parameter("pba", 0) != 0 && !msix_pending(vector))
		doze("pending bit");
	settle();
	expect("masked", *msix_taken(vector), before);
}

/* Nothing is in its way any more. */
static void check_delivered_once(uint32_t vector, uint32_t before)
{
	wait_count("unmasked", msix_taken(vector), before + 1);
	settle();
	expect("delivered once", *msix_taken(vector), before + 1);
	expect("pending bit afterwards", msix_pending(vector), false);
}

static void check_vector_mask(void)
{
	uint32_t before = *msix_taken(0);

	msix_mask(0, true);
	ring(device.id, 0);
	ring_and_take(1); /* the other vector is not disturbed */
	check_held_back(0, before);
	msix_mask(0, false);
	check_delivered_once(0, before);
}

static void check_function_mask(void)
{
	uint32_t before[2] = {*msix_taken(0), *msix_taken(1)};

	msix_control(MSIX_ENABLE | MSIX_FUNCTION_MASK);
	for (uint32_t vector = 0; vector < 2; vector++)
		ring(device.id, vector);
	for (uint32_t vector = 0; vector < 2; vector++)
		check_held_back(vector, before[vector]);
	msix_control(MSIX_ENABLE);
	for (uint32_t vector = 0; vector < 2; vector++)
		check_delivered_once(vector, before[vector]);
}

/* A vector that has been masked ever since MSI-X was enabled. */
static void check_late_unmask(void)
{
	uint32_t before = *msix_taken(1);

	msix_control(0);
	msix_mask(1, true);
	msix_control(MSIX_ENABLE);
	ring(device.id, 1);
	check_held_back(1, before);
	msix_mask(1, false);
	check_delivered_once(1, before);
}

static void check_disabled(void)
{
	uint32_t before = *msix_taken(0);

	msix_control(0);
	ring(device.id, 0);
	settle();
	expect("disabled", *msix_taken(0), before);
	msix_control(MSIX_ENABLE);
	if (parameter("latch", 0) != 0)
		check_delivered_once(0, before);
	else
		settle();
	print("while_disabled=%u\n", *msix_taken(0) - before);
}

static void check_table(void)
{
	for (uint32_t vector = 0; vector < msix_used(); vector++) {
		uint32_t at = device.table + vector * ENTRY_SIZE;
		expect("table: address", bar_read(IVSHMEM_BAR_MSIX, at + ENTRY_ADDRESS, 4),
			message_address());
		expect("table: value", bar_read(IVSHMEM_BAR_MSIX, at + ENTRY_VALUE, 4),
			VECTOR_MSIX + vector);
		expect("table: mask", bar_read(IVSHMEM_BAR_MSIX, at + ENTRY_CONTROL, 4), 0);
	}
	expect("control", config_read(device.msix + MSIX_CONTROL, 2),
		MSIX_ENABLE | (device.vectors - 1));
}

void case_self(void)
{
	check_registers();
	if (device.vectors == 0)
		return;
	expect("at least two vectors", device.vectors >= 2, true);
	msix_start();
	check_own_doorbells();
	check_vector_mask();
	check_function_mask();
	check_late_unmask();
	check_disabled();
	check_own_doorbells();
	check_table();
	print("interrupts=%u\n", *msix_taken(0) + *msix_taken(1));
}

/* A device whose server comes late: there is nothing yet, and then everything. */
void case_late(void)
{
	expect("no ID yet", device.id, UINT32_MAX);
	bar_write(IVSHMEM_BAR_MEMORY, 0, 4, 1);
	expect("no memory yet", bar_read(IVSHMEM_BAR_MEMORY, 0, 8), 0);
	print("waiting=1\n");
	while (device.id == UINT32_MAX) {
		doze("the server");
		device.id = register_read(IVSHMEM_REG_IVPOSITION);
	}
	print("id=%u\n", device.id);
	check_memory(4096);
	msix_start();
	check_own_doorbells();
}
