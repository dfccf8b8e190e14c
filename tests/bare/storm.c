/* SPDX-License-Identifier: MIT */
/*
 * A guest that has lost its mind, or means harm: random accesses of every kind to everything that
 * the device has, from "seed=N". Afterwards the device must work as ever.
 *
 * Two things are kept from it, for the guest's own sake. The BARs are put back every now and then,
 * or most accesses would go nowhere. And MSI-X messages go to an interrupt controller as ordinary
 * interrupts: any others would write to our memory, or reset the processor.
 */
#include "cases.h"
#include "device.h"
#include "machine.h"

#define BURST 64u /* accesses after which the BARs are put back */

static uint32_t state;

/* A xorshift generator: all numbers but 0, in an order that looks random. */
static uint32_t random(void)
{
	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return state;
}

static uint32_t below(uint32_t limit)
{
	return random() % limit;
}

/* Often the values that mean something. */
static uint64_t random_value(void)
{
	switch (below(4)) {
	case 0:
		return below(4);
	case 1:
		return IVSHMEM_DOORBELL(device.id, below(4));
	case 2:
		return UINT64_MAX;
	default:
		return (uint64_t)random() << 32 | random();
	}
}

static void random_config(bool write)
{
	unsigned size = 1u << below(3);
	uint32_t offset = below(256) & ~(size - 1);

	if (write)
		config_write(offset, size, (uint32_t)random_value());
	else
		config_read(offset, size);
}

static void random_bar(unsigned bar, bool write)
{
	unsigned size = 1u << below(4);
	uint32_t offset = below((uint32_t)device.size[bar] - size + 1);

	if (below(2) != 0)
		offset &= ~(size - 1);
	if (write)
		bar_write(bar, offset, size, random_value());
	else
		bar_read(bar, offset, size);
}

/* A word of the MSI-X table, harmless; or of the rest of the BAR. */
static void random_msix(void)
{
	uint32_t offset = below((uint32_t)device.size[IVSHMEM_BAR_MSIX]) & ~3u;
	uint32_t value = random();

	if (below(2) != 0)
		offset = device.table + below(device.vectors) * ENTRY_SIZE + (offset & 12);
	if (offset % ENTRY_SIZE == ENTRY_ADDRESS)
		value = message_address() | (value & 0xff0);
	else if (offset % ENTRY_SIZE == ENTRY_ADDRESS + 4)
		value = 0;
	else if (offset % ENTRY_SIZE == ENTRY_VALUE)
		value = VECTOR_MSIX + value % MSIX_USED;
	bar_write(IVSHMEM_BAR_MSIX, offset, 4, value);
}

static void random_access(void)
{
	uint32_t kind = below(device.vectors > 0 ? 10 : 8);

	if (kind < 3)
		random_config(kind == 0);
	else if (kind < 6)
		random_bar(IVSHMEM_BAR_REGISTERS, kind > 3);
	else if (kind < 8)
		random_bar(IVSHMEM_BAR_MEMORY, kind == 6);
	else if (kind == 8)
		random_bar(IVSHMEM_BAR_MSIX, false);
	else
		random_msix();
}

static void put_back(void)
{
	device_command(0);
	device_place();
	device_command(COMMAND_MEMORY | COMMAND_MASTER);
}

void case_storm(void)
{
	uint32_t accesses = parameter("accesses", 4000);

	state = parameter("seed", 1);
	expect("a seed that is not 0", state != 0, true);
	for (uint32_t done = 0; done < accesses; done++) {
		if (done % BURST == 0)
			put_back();
		random_access();
		if (done % 16 == 0)
			__asm__ volatile("sti; nop; cli" : : : "memory");
	}
	put_back();
	expect("IVPosition", register_read(IVSHMEM_REG_IVPOSITION), device.id);

	register_write(IVSHMEM_REG_INTRMASK, 0);
	register_write(IVSHMEM_REG_INTRSTATUS, 0);
	if (device.vectors > 0) {
		msix_start();
		settle(); /* what is still pending */
	}
	case_self();
}
