/* SPDX-License-Identifier: MIT */
/* Armv7-M: returns and stacks that fail, and code that must not see exceptions. */
#include "conformance.h"

/* ---- returns ---- */

static void return_to_handler(void)
{
	taken->context->exc_return &= ~8u;
}

/* The frame stays for the fault's handler. */
static void note_return(void)
{
	note_fault();
	taken->context->exc_return |= 8;
}

static void return_without_thumb(void)
{
	taken->frame->xpsr &= ~XPSR_T;
}

void test_returns(void)
{
	handlers[SVCALL] = return_to_handler;
	handlers[USAGE_FAULT] = note_return;
	set_priority(USAGE_FAULT, LOW);
	*reg(SCB_SHCSR) = SHCSR_USGFAULTENA;
	PROVOKE("svc #1", 0);
	fault.pc = culprit.at;
	show_fault("to a handler that does not exist");
	print("lr 0x%x, shcsr 0x%x\n", fault.exc_return, *reg(SCB_SHCSR));
	handlers[SVCALL] = return_without_thumb;
	/* To a multiple of 4: at others QEMU finds the address unaligned before the state. */
	PROVOKE("nop\n\tsvc #1", 0);
	print("to Arm state, %u bytes on\n", fault.pc - culprit.at);
	fault.pc = culprit.at;
	show_fault("to Arm state");
	*reg(SCB_SHCSR) = 0;
}

/* ---- stacks ---- */

/* A thread that has lost its stack goes on by this frame. */
static struct frame refuge __attribute__((aligned(8)));

/* On a stack at `sp`, stores `value` to `address`; `frame` leads behind that. */
__attribute__((naked)) static void store_on_stack(__attribute__((unused)) uint32_t sp,
	__attribute__((unused)) volatile uint32_t *address, __attribute__((unused)) uint32_t value,
	__attribute__((unused)) struct frame *frame)
{
	__asm__ volatile(
		"push	{r4, lr}\n\t"
		"adr	r4, 1f\n\t"
		"str	r4, [r3, %0]\n\t"
		"mov	r4, %1\n\t"
		"str	r4, [r3, %2]\n\t"
		"msr	psp, r0\n\t"
		"mov	r4, #2\n\t"
		"msr	control, r4\n\t"
		"isb\n\t"
		"str	r2, [r1]\n\t"
		"dsb\n\t"
		"isb\n\t"
		".balign 4\n"
		"1:\tmov	r4, #0\n\t"
		"msr	control, r4\n\t"
		"isb\n\t"
		"pop	{r4, pc}"
		:
		: "i"(offsetof(struct frame, pc)), "i"(XPSR_T), "i"(offsetof(struct frame, xpsr)));
}

static void rescue(void)
{
	noted();
	print("in %u: lr 0x%x, cfsr 0x%x, hfsr 0x%x\n", exception_number(),
		taken->context->exc_return, *reg(SCB_CFSR), *reg(SCB_HFSR));
	*reg(SCB_CFSR) = *reg(SCB_CFSR);
	*reg(SCB_HFSR) = *reg(SCB_HFSR);
	WRITE_SPECIAL(psp, &refuge);
}

static void lose_stack(void)
{
	noted();
	WRITE_SPECIAL(psp, HOLE);
}

void test_stacking(void)
{
	if (parameter("holes", 1) == 0)
		return;
	handlers[HARD_FAULT] = handlers[BUS_FAULT] = rescue;
	set_priority(BUS_FAULT, HIGH);
	for (unsigned enabled = 0; enabled < 2; enabled++) {
		*reg(SCB_SHCSR) = enabled * SHCSR_BUSFAULTENA;
		lines_on(1, noted, LOW);
		store_on_stack(HOLE + 0x100, reg(NVIC_ISPR), 1u << LINE, &refuge);
		show("no stack at the entry");
		handlers[FIRST] = lose_stack;
		store_on_stack((uint32_t)(&refuge + 1), reg(NVIC_ISPR), 1u << LINE, &refuge);
		show("no stack at the return");
	}
	*reg(SCB_SHCSR) = 0;
}

/* ---- exclusive accesses ---- */

static volatile uint32_t counter;
static volatile unsigned ticks;

#define EXCLUSIVE(what, between)                                                                   \
	do {                                                                                       \
		uint32_t old, failed;                                                              \
		counter = 0;                                                                       \
		__asm__ volatile("ldrex %0, [%2]\n\tadds %0, #1\n\t" between                       \
				 "\n\tstrex %1, %0, [%2]"                                          \
				 : "=&r"(old), "=&r"(failed)                                       \
				 : "r"(&counter)                                                   \
				 : "memory", "cc");                                                \
		print("%s: failed %u, now %u\n", what, failed, counter);                           \
	} while (0)

static void increment(void)
{
	uint32_t value, failed;

	do
		__asm__ volatile("ldrex %0, [%2]\n\tadds %0, #1\n\tstrex %1, %0, [%2]"
				 : "=&r"(value), "=&r"(failed)
				 : "r"(&counter)
				 : "memory", "cc");
	while (failed != 0);
}

static void tick(void)
{
	increment();
	ticks++;
}

static void nothing(void)
{
}

/* The thread's LDREX is not the handler's. */
static void store_exclusive(void)
{
	uint32_t failed;

	__asm__ volatile("strex %0, %1, [%1]" : "=&r"(failed) : "r"(&counter) : "memory");
	print("in a handler: failed %u\n", failed);
}

void test_exclusives(void)
{
	uint32_t never;
	unsigned own = 0;

	handlers[SVCALL] = nothing;
	EXCLUSIVE("alone", "");
	EXCLUSIVE("broken by an exception", "svc 0");
	handlers[SVCALL] = store_exclusive;
	EXCLUSIVE("and there", "svc 0");
	EXCLUSIVE("broken by clrex", "clrex");
	counter = 0;
	__asm__ volatile("clrex\n\tstrex %0, %1, [%1]" : "=&r"(never) : "r"(&counter) : "memory");
	print("never begun: failed %u, now %u\n", never, counter);

	counter = 0;
	set_priority(SYSTICK, LOW);
	ticks_on(tick);
	for (; ticks < 50; own++)
		increment();
	ticks_off();
	print("interrupted: %u lost\n", own + ticks - counter);
}

/* ---- IT blocks ---- */

static uint32_t conditions;

static void note_conditions(void)
{
	conditions = taken->frame->xpsr & XPSR_IT;
}

/* One of eight instructions for each combination of three flags; `broken` wrong ones. */
static unsigned count_broken(void)
{
	unsigned broken = 0;

	for (uint32_t flags = 0; flags < 8; flags++) {
		uint32_t got;
		__asm__ volatile("msr	apsr_nzcvq, %1\n\t"
				 "mov	%0, #0\n\t"
				 "itete	mi\n\t"
				 "addmi	%0, #4\n\t"
				 "addpl	%0, #0\n\t"
				 "addmi	%0, #0\n\t"
				 "addpl	%0, #0\n\t"
				 "itt	eq\n\t"
				 "addeq	%0, #1\n\t"
				 "addeq	%0, #1\n\t"
				 "it	cs\n\t"
				 "addcs	%0, #1"
				 : "=&l"(got)
				 : "r"(flags << 29)
				 : "cc");
		if (got != flags)
			broken++;
	}
	return broken;
}

static void tick_only(void)
{
	ticks++;
}

void test_it_blocks(void)
{
	uint32_t result = 0;
	unsigned broken = 0;

	handlers[SVCALL] = note_conditions;
	__asm__ volatile("cmp	%0, #0\n\t"
			 "ittte	eq\n\t"
			 "addeq	%0, #1\n\t"
			 "svceq	0\n\t"
			 "addeq	%0, #2\n\t"
			 "addne	%0, #4"
			 : "+l"(result)
			 :
			 : "cc", "memory");
	print("svc in a block: %u, conditions 0x%x\n", result, conditions);
	ticks = 0;
	ticks_on(tick_only);
	while (ticks < 50)
		broken += count_broken();
	ticks_off();
	print("interrupted: %u broken\n", broken);
}
