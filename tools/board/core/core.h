/* SPDX-License-Identifier: MIT */
/*
 * core - a Cortex-M processor: libunicorn executes its instructions, and this adds what makes a
 * microcontroller of them: exceptions with their priorities and stacks, NVIC, SysTick, and the
 * rest of the private peripherals at 0xe0000000.
 *
 * One thread. Nothing in here waits; the board does that, see core_deadline().
 */
#ifndef CORE_CORE_H
#define CORE_CORE_H

#include <stdbool.h>
#include <stdint.h>

#define CORE_PAGE    4096u
#define CORE_PRIVATE 0xe0000000u /* from here on addresses are the processor's own */

enum core_kind { CORTEX_M0, CORTEX_M3, CORTEX_M4 };

struct core_config {
	enum core_kind kind;
	unsigned interrupts; /* external lines of the NVIC: 1..240, at most 32 on CORTEX_M0 */
	uint32_t clock_hz;   /* what SysTick counts */
};

struct core;

/* A device in the address space. Addresses are offsets from its start, `size` is 1, 2 or 4. */
struct core_device {
	uint32_t (*read)(void *data, uint32_t offset, unsigned size);
	void (*write)(void *data, uint32_t offset, unsigned size, uint32_t value);
	void *data;
};

/* Why core_run() came back. */
enum core_stop {
	CORE_LOOK,        /* it has run for a while: look at the world, then go on */
	CORE_SLEEPS,      /* WFI or WFE, and nothing pending: wait until core_deadline() or an
			     interrupt; going on without either is allowed, too */
	CORE_SEMIHOSTING, /* bkpt 0xab: serve it by core_register() and core_set_register(), go on
			   */
	CORE_RESET,       /* the firmware asked for it (AIRCR.SYSRESETREQ): call core_reset() */
	CORE_LOCKUP,      /* a fault in a fault handler: it will never do anything again;
			     core_reason() says why */
};

/* 0, -ENOMEM, or -EINVAL (configuration). The address space is empty but for the private
 * peripherals, and a page at 0x9ffff000 that the processor needs for itself. */
int core_open(struct core **core, const struct core_config *config);
void core_close(struct core *core);

/*
 * Map `size` bytes of the host's memory, which stay the caller's, or a device. Addresses and sizes
 * are multiples of 4096 (the window of a device may be smaller; it then ends the page with a bus
 * fault). 0, -EINVAL (overlap, alignment) or -ENOMEM.
 */
int core_map_memory(struct core *core, uint32_t address, uint32_t size, void *memory);
int core_map_device(
	struct core *core, uint32_t address, uint32_t size, const struct core_device *device);

/* As after power-on: stack pointer and program counter from the vector table at 0. */
void core_reset(struct core *core);

enum core_stop core_run(struct core *core);

/* Level of an external interrupt line. The NVIC latches a line that rises, and sees one that stays
 * up again after the handler has returned. A line that the NVIC does not have is ignored. */
void core_line(struct core *core, unsigned line, bool level);

/* When SysTick will next have something to say, in nanoseconds of CLOCK_MONOTONIC; UINT64_MAX:
 * never. */
uint64_t core_deadline(const struct core *core);

/* r0..r12, sp, lr, pc (13, 14, 15). */
uint32_t core_register(const struct core *core, unsigned number);
void core_set_register(struct core *core, unsigned number, uint32_t value);

/* Copy to and from the firmware's memory (not devices). 0, or -EFAULT: not all of it is there. */
int core_read(const struct core *core, uint32_t address, void *bytes, uint32_t size);
int core_write(struct core *core, uint32_t address, const void *bytes, uint32_t size);

/* One line about the last lock-up, or about an unserved fault: what, where. Never NULL. */
const char *core_reason(const struct core *core);

#endif
