/* SPDX-License-Identifier: MIT */
/*
 * conformance - does a processor behave as the Armv6-M and Armv7-M manuals say? The firmware does
 * something, and prints what it has seen as a line; two boards are alike if their transcripts are.
 *
 * A transcript must not depend on time, nor on what the manuals leave to the implementation: two
 * (Armv6-M) or three (Armv7-M) bits of a priority are used, and external interrupts 24..31, which
 * no peripheral of the boards raises. Where QEMU is known to be different from the manual the point
 * is left out, with a comment, or there is a parameter for it:
 *
 *   section=NAME   only that one
 *   holes=0        the board lets accesses to nothing pass: leave out what needs a bus fault
 *   sleeps=1       the processor really sleeps on WFE and SLEEPONEXIT: fail if it does not
 */
#ifndef CORTEX_CONFORMANCE_H
#define CORTEX_CONFORMANCE_H

#include "machine.h"

#define ARMV7M (__ARM_ARCH >= 7)

/* What machine.h has no need of. */
#define SYST_CSR_COUNTFLAG 0x10000u
#define SYST_CSR_CLKSOURCE 4u
#define SYST_CSR_TICKINT   2u
#define SYST_CSR_ENABLE    1u
#define NVIC_IABR          0xe000e300u
#define NVIC_STIR          0xe000ef00u
#define ICSR_NMIPENDSET    0x80000000u
#define ICSR_PENDSVSET     0x10000000u
#define ICSR_PENDSVCLR     0x08000000u
#define ICSR_PENDSTSET     0x04000000u
#define ICSR_PENDSTCLR     0x02000000u
#define AIRCR_VECTKEY      0x05fa0000u
#define SCR_SLEEPONEXIT    2u
#define SCR_SEVONPEND      0x10u
#define CCR_USERSETMPEND   2u
#define CCR_UNALIGN_TRP    8u
#define CCR_DIV_0_TRP      0x10u
#define CCR_STKALIGN       0x200u
#define SCB_SHPR1          0xe000ed18u
#define SCB_SHCSR          0xe000ed24u
#define SCB_CFSR           0xe000ed28u
#define SCB_HFSR           0xe000ed2cu
#define SCB_BFAR           0xe000ed38u
#define SHCSR_MEMFAULTENA  0x10000u
#define SHCSR_BUSFAULTENA  0x20000u
#define SHCSR_USGFAULTENA  0x40000u
#define XPSR_T             0x1000000u
#define XPSR_IT            0x600fc00u /* the conditions that are left of an IT block */

/* Numbers of exceptions. */
enum {
	NMI = 2,
	HARD_FAULT,
	MEM_FAULT,
	BUS_FAULT,
	USAGE_FAULT,
	SVCALL = 11,
	PENDSV = 14,
	SYSTICK,
	FIRST = 16 + 24 /* our first line's */
};

#define LINE 24u /* our first */

/* Priorities that every processor tells apart. */
enum { HIGHEST = 0x00, HIGH = 0x40, LOW = 0x80, LOWEST = 0xc0 };

#define HOLE 0x70000000u /* nothing is there, on any of the boards; code could be */

/* ---- the exception that is being handled ---- */

/* What the processor has pushed; above it there may be registers of the FPU. */
struct frame {
	uint32_t r0, r1, r2, r3, r12, lr, pc, xpsr;
};

/* The remaining registers as they were and as they will be: a handler may exchange them. */
struct context {
	uint32_t r8_r11[4], r4_r7[4], exc_return;
};

struct taken {
	struct frame *frame;
	struct context *context;
};

extern struct taken *volatile taken; /* the innermost one */

/* The comment field of the SVC instruction that has brought us here. */
static inline unsigned svc_number(void)
{
	return ((const uint8_t *)taken->frame->pc)[-2];
}

/* ---- order of events ---- */

/* Append to the line in the making: +NUMBER, -NUMBER, or any other mark. */
void note(char mark, unsigned number);
/* Print it behind `what`, and begin a new one. */
void show(const char *what);
/* A handler that notes when it is entered and left. */
void noted(void);

/* ---- exceptions ---- */

/* Any exception whose priority can be set. */
void set_priority(unsigned exception, uint32_t priority);

/* Call `function` for our lines from LINE to LINE + count - 1, at that priority. */
void lines_on(unsigned count, handler *function, uint32_t priority);
void lines_off(void);

/* Make it pending, and let it happen. */
static inline void pend(unsigned exception)
{
	if (exception >= 16)
		*reg(NVIC_ISPR + (exception - 16) / 32 * 4) = 1u << (exception - 16) % 32;
	else
		*reg(SCB_ICSR) = exception == NMI ? ICSR_NMIPENDSET
			: exception == PENDSV     ? ICSR_PENDSVSET
						  : ICSR_PENDSTSET;
	__asm__ volatile("dsb\n\tisb" : : : "memory");
}

/* SysTick, of a period that leaves time for much between two. */
void ticks_on(handler *function);
void ticks_off(void);

static inline bool is_pending(unsigned line)
{
	return (*reg(NVIC_ISPR) >> line & 1) != 0;
}

#define READ_SPECIAL(name)                                                                         \
	({                                                                                         \
		uint32_t special;                                                                  \
		__asm__ volatile("mrs %0, " #name : "=r"(special));                                \
		special;                                                                           \
	})

#define WRITE_SPECIAL(name, value)                                                                 \
	__asm__ volatile("msr " #name ", %0\n\tisb" : : "r"((uint32_t)(value)) : "memory", "cc")

/*
 * Who preempts whom: `start` is pending at once, then each of `of` is entered and makes pending
 * what it `pends`, the first time. Masks of exceptions: bit 0..7 our lines, PENDSV_BIT,
 * SYSTICK_BIT.
 */
struct scenario {
	const char *what;
	unsigned prigroup; /* Armv7-M */
	unsigned start;
	struct {
		unsigned number, priority, pends;
	} of[4];
};

#define PENDSV_BIT  0x100u
#define SYSTICK_BIT 0x200u

void play(const struct scenario *scenario);

/* ---- faults ---- */

/* The last one; its handler has gone on behind the instruction. */
struct fault {
	unsigned count, exception;
	uint32_t pc, xpsr, exc_return;
	uint32_t cfsr, hfsr, bfar; /* Armv7-M */
};

extern struct fault fault;
extern struct culprit {
	uint32_t at, behind;
} culprit; /* where the instruction is that is about to fail */

/* A handler for whatever fault it is. */
void note_fault(void);
/* Print the last one. */
void show_fault(const char *what);

/* Executes `instruction`, which finds `value` in r0 and 0 in r1 and may change r0 to r3, r12 and
 * lr; a fault of its is noted in `fault`, if note_fault() is its handler. */
#define PROVOKE(instruction, value)                                                                \
	do {                                                                                       \
		register uint32_t in_r0 __asm__("r0") = (uint32_t)(value);                         \
		register struct culprit *in_r3 __asm__("r3") = &culprit;                           \
		fault.count = fault.exception = 0;                                                 \
		__asm__ volatile("adr r2, 1f\n\tstr r2, [r3]\n\t"                                  \
				 "adr r2, 2f\n\tstr r2, [r3, #4]\n\tmovs r1, #0\n\t"               \
				 ".balign 4\n1:\t" instruction "\n\t.balign 4\n2:\n\t"             \
				 "dsb\n\tisb"                                                      \
				 : "+r"(in_r0), "+r"(in_r3)                                        \
				 :                                                                 \
				 : "r1", "r2", "r12", "lr", "memory", "cc");                       \
	} while (0)

/* ---- threads ---- */

enum { MAIN, THREAD_A, THREAD_B };

/* Run both as threads on stacks of their own until one of them has called threads_end(); SVC and
 * PendSV are taken for that. PendSV, when pending, switches between them. */
void threads_run(handler *a, handler *b);
void threads_end(void);
extern volatile unsigned switches;

/* Fills r4..r11 with pattern..pattern + 7, stores `value` to `address`, and returns how many of
 * the registers have changed. */
unsigned keep_registers(uint32_t pattern, volatile uint32_t *address, uint32_t value);

/* ---- sections ---- */

void test_svc(void);
void test_frames(void);
void test_stacks(void);
void test_threads(void);
void test_systick(void);
void test_sleep(void);
void test_order(void);
void test_pending(void);
void test_icsr(void);
void test_primask(void);
void test_hard_faults(void);
void test_arithmetic(void);

/* Armv7-M */
void test_priorities(void);
void test_basepri(void);
void test_faultmask(void);
void test_unprivileged(void);
void test_vectors(void);
void test_handlers(void);
void test_usage_faults(void);
void test_bus_faults(void);
void test_escalation(void);
void test_returns(void);
void test_stacking(void);
void test_exclusives(void);
void test_it_blocks(void);

/* with an FPU */
void test_fpu(void);
void test_fpu_frames(void);
void test_fpu_threads(void);

#endif
