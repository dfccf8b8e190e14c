/* SPDX-License-Identifier: MIT */
/*
 * Roles that access the registers as no driver does.
 */
#include "firmware.h"

#define WINDOW 16u

static uint32_t load_register(uint32_t offset, unsigned size)
{
	uintptr_t at = REGISTERS + offset;

	if (size == 4)
		return *(volatile uint32_t *)at;
	return size == 2 ? *(volatile uint16_t *)at : *(volatile uint8_t *)at;
}

static void store_register(uint32_t offset, unsigned size, uint32_t value)
{
	uintptr_t at = REGISTERS + offset;

	if (size == 4)
		*(volatile uint32_t *)at = value;
	else if (size == 2)
		*(volatile uint16_t *)at = (uint16_t)value;
	else
		*(volatile uint8_t *)at = (uint8_t)value;
}

/* Call `function` with every offset and size that an access to the window can have. Those that are
 * not aligned a Cortex-M0 does not have, and a real M3 not for a device: only with "misaligned=1".
 */
static void each_access(void (*function)(uint32_t offset, unsigned size))
{
	bool misaligned = parameter("misaligned", 0) != 0;

	for (unsigned size = 1; size <= 4; size *= 2)
		for (uint32_t offset = 0; offset + size <= WINDOW; offset += misaligned ? 1 : size)
			function(offset, size);
}

static uint32_t random_value = 1, mask;

static void read_and_write(uint32_t offset, unsigned size)
{
	random_value ^= random_value << 13;
	random_value ^= random_value >> 17;
	random_value ^= random_value << 5;
	store_register(offset, size, random_value & mask);
	load_register(offset, size);
}

/* Anything to every register; afterwards device and partner still work. "mask" spares a device that
 * does not bear all doorbells. */
void role_garbage(void)
{
	uint32_t id = (uint32_t)ivshmem_mmio_id(&iv);

	mask = parameter("mask", 0xffffffff);
	clock_start();
	for (unsigned i = parameter("times", 10000); i > 0; i--)
		each_access(read_and_write);
	ivshmem_mmio_init(&iv, REGISTERS, MEMORY, iv.size);
	settle();
	expect("id", (uint32_t)ivshmem_mmio_id(&iv), id);
	check_own_doorbells();
	role_talk();
}

static void record_read(uint32_t offset, unsigned size)
{
	print("read %u %u 0x%x\n", size, offset, load_register(offset, size));
}

/* All bits of mask, status and position, and the doorbell as for ourselves. */
static void record_write(uint32_t offset, unsigned size)
{
	uint32_t value = offset < IVSHMEM_REG_DOORBELL
		? 0xffffffff
		: IVSHMEM_DOORBELL((unsigned)ivshmem_mmio_id(&iv), 0);
	uint32_t before = iv.rung[0];

	store_register(offset, size, value);
	if (offset >= IVSHMEM_REG_DOORBELL)
		settle();
	print("write %u %u", size, offset);
	for (uint32_t at = 0; at < WINDOW; at += 4)
		print(" 0x%x", load_register(at, 4));
	print(" %u\n", iv.rung[0] - before);
}

/* What reads give, and what writes do: the registers afterwards, and how often we were rung. */
void role_record(void)
{
	clock_start();
	meet_myself();
	each_access(record_read);
	each_access(record_write);
}
