/* SPDX-License-Identifier: MIT */
/*
 * device - the ivshmem device of this machine, which has one: configuration space, BARs, MSI-X.
 *
 * Every access to it goes through the four functions that can write a log of what they do: in role
 * "record" that log is the guest's output, and examples/embed-device.c can replay it.
 */
#ifndef BARE_DEVICE_H
#define BARE_DEVICE_H

#include "interrupts.h"

#include "ivshmem/abi.h"

#include <stdbool.h>
#include <stdint.h>

/* Configuration space and MSI-X, from the PCI specification. */
enum {
	PCI_ID = 0x00,
	PCI_COMMAND = 0x04,
	PCI_STATUS = 0x06,
	PCI_REVISION = 0x08,
	PCI_CLASS = 0x0a,
	PCI_BAR = 0x10,
	PCI_CAPABILITIES = 0x34,
	PCI_INTERRUPT_LINE = 0x3c,
	PCI_INTERRUPT_PIN = 0x3d,

	COMMAND_MEMORY = 0x0002,
	COMMAND_MASTER = 0x0004,
	COMMAND_INTX_OFF = 0x0400,
	STATUS_INTX = 0x0008,

	CAPABILITY_MSIX = 0x11,
	MSIX_CONTROL = 2,
	MSIX_TABLE = 4,
	MSIX_PBA = 8,
	MSIX_COUNT_MASK = 0x07ff,
	MSIX_FUNCTION_MASK = 0x4000,
	MSIX_ENABLE = 0x8000,
	ENTRY_SIZE = 16,
	ENTRY_ADDRESS = 0,
	ENTRY_VALUE = 8,
	ENTRY_CONTROL = 12,
	ENTRY_MASKED = 1,
};

#define BARS 3u

struct device {
	uint32_t where;         /* bus 0: device number, as the address port wants it */
	uint32_t address[BARS]; /* where the BARs are */
	uint64_t size[BARS];    /* 0: there is none */
	uint32_t msix;          /* offset of the capability, 0: none */
	uint32_t vectors;
	uint32_t table, pending; /* offsets in BAR1 */
	uint32_t id;             /* what IVPosition has read */
	bool log;
};
extern struct device device;

/* Find it and its BARs, where the firmware has put them; make it answer. Fails the run if there is
 * none. */
void device_find(void);

/* Put the BARs where device.address says, and let it answer and send messages, or only be there. */
void device_place(void);
void device_command(uint32_t command);

/* Accesses of 1, 2, 4, to BARs also of 8 bytes. Those of configuration space may not cross a
 * multiple of 4. */
uint32_t config_read(uint32_t offset, unsigned size);
void config_write(uint32_t offset, unsigned size, uint32_t value);
uint64_t bar_read(unsigned bar, uint32_t offset, unsigned size);
void bar_write(unsigned bar, uint32_t offset, unsigned size, uint64_t value);

/* ---- registers ---- */

uint32_t register_read(uint32_t reg);
void register_write(uint32_t reg, uint32_t value);
void ring(uint32_t peer, uint32_t vector);

/* ---- MSI-X ---- */

void msix_control(uint32_t bits); /* MSIX_ENABLE, MSIX_FUNCTION_MASK */
void msix_program(uint32_t vector);
void msix_mask(uint32_t vector, bool masked);
bool msix_pending(uint32_t vector);

/* Everything programmed, unmasked and enabled. */
void msix_start(void);

/* Number of vectors we use, and how often one was taken. */
unsigned msix_used(void);
static inline const volatile uint32_t *msix_taken(uint32_t vector)
{
	return &interrupts_taken[VECTOR_MSIX + vector];
}

#endif
