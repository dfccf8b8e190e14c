/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A guest may access registers with any width at any offset; drivers only use aligned 32-bit
 * accesses. The rest must be harmless and easy to say, and both follow from treating BAR0 as 16
 * bytes of registers and zeros behind: a read takes bytes out of them, a write counts where it
 * brings a whole register. An 8-byte access is then two 4-byte ones, and a byte written into the
 * doorbell register rings nobody. (QEMU's device takes the byte for the whole register, so that a 1
 * written to its third byte rings vector 1 of peer 0: docs/device.md, section 8.)
 */
#include "device/registers.h"

#include "base/le.h"

#include <string.h>

enum { END = IVSHMEM_REG_DOORBELL + 4 };

void device_reset(struct device_registers *registers)
{
	registers->mask = 0;
	registers->status = 0;
}

/* Does an access touch all `length` bytes from `first` on? */
static bool covers(uint32_t offset, size_t size, uint32_t first, uint32_t length)
{
	return offset <= first && size >= length && first - offset <= size - length;
}

void device_read(struct device_registers *registers, uint32_t offset, uint8_t *bytes, size_t size)
{
	uint8_t image[END] = {0};

	store_le(image + IVSHMEM_REG_INTRMASK, 4, registers->mask);
	store_le(image + IVSHMEM_REG_INTRSTATUS, 4, registers->status);
	store_le(image + IVSHMEM_REG_IVPOSITION, 4, registers->position);

	memset(bytes, 0, size);
	if (offset < END)
		memcpy(bytes, image + offset, size < END - offset ? size : END - offset);
	if (covers(offset, size, IVSHMEM_REG_INTRSTATUS, 1))
		registers->status = 0;
}

struct device_doorbell device_write(
	struct device_registers *registers, uint32_t offset, const uint8_t *bytes, size_t size)
{
	struct device_doorbell doorbell = {.rung = false};

	if (covers(offset, size, IVSHMEM_REG_INTRMASK, 4))
		registers->mask = (uint32_t)load_le(bytes + (IVSHMEM_REG_INTRMASK - offset), 4);
	if (covers(offset, size, IVSHMEM_REG_INTRSTATUS, 4))
		registers->status = (uint32_t)load_le(bytes + (IVSHMEM_REG_INTRSTATUS - offset), 4);
	if (covers(offset, size, IVSHMEM_REG_DOORBELL, 4)) {
		uint32_t value = (uint32_t)load_le(bytes + (IVSHMEM_REG_DOORBELL - offset), 4);
		doorbell.rung = true;
		doorbell.peer = (uint16_t)(value >> 16);
		doorbell.vector = (uint16_t)value;
	}
	return doorbell;
}

void device_interrupt(struct device_registers *registers)
{
	if (registers->intx)
		registers->status = 1;
}

bool device_asserted(const struct device_registers *registers)
{
	return registers->intx && (registers->status & registers->mask) != 0;
}
