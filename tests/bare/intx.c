/* SPDX-License-Identifier: MIT */
/*
 * Revision 0 without MSI-X: one interrupt line, a mask and a status register.
 *
 * The line is a level: it stays up until the status register has been read. The firmware has routed
 * it to a line of the interrupt controllers, whose number it has left in configuration space.
 *
 * On a device behind vfio-user the VMM takes the level away at the guest's next access to a BAR and
 * puts it back if it still holds, so the handler here always makes one.
 */
#include "cases.h"
#include "device.h"
#include "machine.h"

static volatile uint32_t hits;
static uint32_t ignored;  /* so many interrupts the handler leaves asserted */
static uint32_t statuses; /* all that the handler has read, by or */

static void on_line(void)
{
	hits++;
	if (ignored > 0) {
		ignored--;
		register_read(IVSHMEM_REG_INTRMASK);
		return;
	}
	statuses |= register_read(IVSHMEM_REG_INTRSTATUS);
}

static bool status_bit(void)
{
	return (config_read(PCI_STATUS, 2) & STATUS_INTX) != 0;
}

/* Since `before`, `n` interrupts and no more; the last has quieted the device. */
static void expect_hits(const char *what, uint32_t before, uint32_t n)
{
	wait_count(what, &hits, before + n);
	settle();
	expect(what, hits, before + n);
	expect("status bit afterwards", status_bit(), false);
	expect("status afterwards", register_read(IVSHMEM_REG_INTRSTATUS), 0);
}

static void check_line_masked(void)
{
	register_write(IVSHMEM_REG_INTRMASK, 0);
	ring(device.id, 0);
	settle();
	expect("masked", hits, 0);
	expect("status bit, masked", status_bit(), false);
	expect("status, masked", register_read(IVSHMEM_REG_INTRSTATUS), 1);
	expect("status, once read", register_read(IVSHMEM_REG_INTRSTATUS), 0);

	ring(device.id, 0);
	settle();
	register_write(IVSHMEM_REG_INTRMASK, 1);
	expect_hits("unmasked", 0, 1);
}

static void check_each_ring(void)
{
	uint32_t before = hits;

	for (uint32_t n = 1; n <= 20; n++) {
		ring(device.id, 0);
		expect_hits("ring", before + n - 1, 1);
	}
	expect("what the handler has read", statuses, 1);
}

/* The guest's own writes count as well. */
static void check_status_written(void)
{
	uint32_t before = hits;

	register_write(IVSHMEM_REG_INTRSTATUS, 1);
	expect_hits("status written", before, 1);
}

static void check_command_bit(void)
{
	uint32_t before = hits;

	device_command(COMMAND_MEMORY | COMMAND_INTX_OFF);
	ring(device.id, 0);
	settle();
	expect("switched off", hits, before);
	expect("status bit, switched off", status_bit(), true);
	device_command(COMMAND_MEMORY);
	expect_hits("switched on again", before, 1);
}

static void check_level(void)
{
	uint32_t before = hits;

	ignored = 3;
	ring(device.id, 0);
	expect_hits("level", before, 4);
}

void case_intx(void)
{
	expect("revision", config_read(PCI_REVISION, 1), 0);
	expect("vectors", device.vectors, 0);
	expect("pin", config_read(PCI_INTERRUPT_PIN, 1), 1);
	uint32_t line = config_read(PCI_INTERRUPT_LINE, 1);
	expect("line is one of 16", line < 16, true);
	line_enable(line, on_line);

	check_line_masked();
	check_each_ring();
	check_status_written();
	check_command_bit();
	check_level();
	check_memory(4096);
	print("line=%u\ninterrupts=%u\n", line, hits);
}
