/* SPDX-License-Identifier: MIT */
/*
 * registers - the register file of an ivshmem device (BAR0), pure: state and access in, value and
 * action out. The PCI device and the flat one put it into their address spaces.
 *
 * docs/device.md, section 3.
 */
#ifndef DEVICE_REGISTERS_H
#define DEVICE_REGISTERS_H

#include <ivshmem/abi.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct device_registers {
	uint32_t mask, status;
	uint32_t position; /* what IVPosition reads */
	bool intx;         /* interrupts show in `status`: revision 0 without MSI-X */
};

/* What a write asks for. */
struct device_doorbell {
	bool rung;
	uint16_t peer, vector;
};

/* Mask and status to 0; position and kind stay. */
void device_reset(struct device_registers *registers);

/*
 * Any offset and size. An access is taken apart into the 32-bit registers it touches:
 *   read   gives the right byte lanes; INTRSTATUS is cleared if its lowest byte is among them
 *   write  changes a register only if all four of its bytes are written
 */
void device_read(struct device_registers *registers, uint32_t offset, uint8_t *bytes, size_t size);
struct device_doorbell device_write(
	struct device_registers *registers, uint32_t offset, const uint8_t *bytes, size_t size);

/* A peer has rung. Does nothing unless `intx`. */
void device_interrupt(struct device_registers *registers);

/* Is an interrupt asserted in the registers? (What the bus makes of it is not known here.) */
bool device_asserted(const struct device_registers *registers);

#endif
