/* SPDX-License-Identifier: MIT */
/*
 * Reset the machine again and again. The shared memory outlives that and counts; the device keeps
 * its ID and loses everything else.
 */
#include "cases.h"
#include "device.h"
#include "machine.h"

/* Where in the shared memory: away from the seats of pairs. */
enum { COUNT = 0x400, FIRST_ID = 0x404 };

static uint32_t memory_word(uint32_t at)
{
	return (uint32_t)bar_read(IVSHMEM_BAR_MEMORY, at, 4);
}

static void check_fresh(void)
{
	expect("mask", register_read(IVSHMEM_REG_INTRMASK), 0);
	expect("status", register_read(IVSHMEM_REG_INTRSTATUS), 0);
	expect("control", config_read(device.msix + MSIX_CONTROL, 2), device.vectors - 1);
	for (uint32_t vector = 0; vector < msix_used(); vector++) {
		uint32_t at = device.table + vector * ENTRY_SIZE;
		expect("entry", bar_read(IVSHMEM_BAR_MSIX, at + ENTRY_CONTROL, 4), ENTRY_MASKED);
	}
}

/* What the reset has to clear: registers, and interrupts that wait for their vector's mask to go,
 * and for MSI-X to be enabled. */
static void leave_traces(void)
{
	register_write(IVSHMEM_REG_INTRMASK, 0xffffffff);
	register_write(IVSHMEM_REG_INTRSTATUS, 0xffffffff);
	msix_mask(0, true);
	ring(device.id, 0);
	settle();
	msix_control(0);
	ring(device.id, 1);
	settle();
}

void case_reboot(void)
{
	uint32_t boots = memory_word(COUNT) + 1;

	bar_write(IVSHMEM_BAR_MEMORY, COUNT, 4, boots);
	if (boots == 1)
		bar_write(IVSHMEM_BAR_MEMORY, FIRST_ID, 4, device.id);
	print("boot=%u\nid=%u\n", boots, device.id);
	expect("same ID", device.id, memory_word(FIRST_ID));
	check_fresh();
	msix_start();
	settle();
	expect("vector 0 from before", *msix_taken(0), 0);
	expect("vector 1 from before", *msix_taken(1), 0);
	check_own_doorbells();
	if (boots <= parameter("resets", 10)) {
		leave_traces();
		reset_machine(parameter_is("by", "keyboard"));
	}
}
