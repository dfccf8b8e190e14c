/* SPDX-License-Identifier: MIT */
/*
 * machine - what test firmware needs of a Cortex-M: vector table, console, parameters, interrupts,
 * and a way out. Nothing in it depends on the board but the PL011 of console_uart(): the rest goes
 * by semihosting, which QEMU's boards and ours have. Runs on anything from a Cortex-M0 with flash
 * at 0 and 16 KiB of memory at 0x20000000 upwards.
 */
#ifndef CORTEX_MACHINE_H
#define CORTEX_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- registers of the processor ---- */

#define SYST_CSR  0xe000e010u
#define SYST_RVR  0xe000e014u
#define SYST_CVR  0xe000e018u
#define NVIC_ISER 0xe000e100u
#define NVIC_ICER 0xe000e180u
#define NVIC_ISPR 0xe000e200u
#define NVIC_ICPR 0xe000e280u
#define NVIC_IPR  0xe000e400u
#define SCB_CPUID 0xe000ed00u
#define SCB_ICSR  0xe000ed04u
#define SCB_VTOR  0xe000ed08u
#define SCB_AIRCR 0xe000ed0cu
#define SCB_SCR   0xe000ed10u
#define SCB_CCR   0xe000ed14u
#define SCB_SHPR2 0xe000ed1cu
#define SCB_SHPR3 0xe000ed20u

static inline volatile uint32_t *reg(uint32_t address)
{
	return (volatile uint32_t *)address;
}

static inline void interrupts_off(void)
{
	__asm__ volatile("cpsid i" : : : "memory");
}

static inline void interrupts_on(void)
{
	__asm__ volatile("cpsie i\n\tisb" : : : "memory");
}

/* Sleep until something is pending, masked or not. */
static inline void wait_for_interrupt(void)
{
	__asm__ volatile("dsb\n\twfi" : : : "memory");
}

/* ---- handlers ---- */

#define INTERRUPTS 64u /* external ones that the vector table has room for */

typedef void handler(void);

/* Who is called for an exception, by its number (1..15, 16 and up the external interrupts); NULL:
 * the run fails. Called with the exception's own stack frame below, as any function is. */
extern handler *volatile handlers[16 + INTERRUPTS];

/* Call `function` for external interrupt `line`, from now on. */
void interrupt_on(unsigned line, handler *function);

/* Number of the exception that is being handled, 0 outside of any. */
static inline uint32_t exception_number(void)
{
	uint32_t number;
	__asm__ volatile("mrs %0, ipsr" : "=r"(number));
	return number;
}

/* ---- the console: semihosting's, or the UART ---- */

/* %s %u %x %c; results are printed as lines of key=value. */
__attribute__((format(printf, 1, 2))) void print(const char *format, ...);

/* From now on to the PL011 at `base`. */
void console_uart(uint32_t base);

/* ---- the command line: the words behind the firmware's name, name=value ---- */

unsigned parameter(const char *name, unsigned otherwise); /* decimal or 0x... */
bool parameter_is(const char *name, const char *value);

/* ---- semihosting ---- */

/* Any operation: its result, as r0 has it. */
uint32_t semihost(uint32_t operation, const void *argument);

/* ---- the end ---- */

/* Ends the run with that status. */
__attribute__((noreturn)) void leave(unsigned status);

/* Fail the run, with status 1, unless `got` is `wanted`. */
#define expect(what, got, wanted) expect_equal(__func__, what, got, wanted)
void expect_equal(const char *function, const char *what, uint32_t got, uint32_t wanted);
__attribute__((noreturn)) void fail(const char *why);

/* ---- time ---- */

/* Call `tick` from SysTick, `hz` times a second by the processor's clock of `clock_hz`; NULL: off.
 */
void tick_start(uint32_t clock_hz, uint32_t hz, handler *tick);

#endif
