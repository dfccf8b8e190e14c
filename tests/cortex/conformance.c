/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation: every exception comes to dispatch(), which saves the registers that the
 * processor does not, and leaves a description of all of them where handlers find it; what they
 * change in there is in force when they return. So C functions can switch threads, and get out of
 * faults. Events are noted in memory and printed by the thread: semihosting is no part of what is
 * being observed.
 */
#include "conformance.h"

int main(void);
void dispatch(void);
void exception_taken(struct frame *frame, struct context *context);

struct taken *volatile taken;

__attribute__((naked)) void dispatch(void)
{
	__asm__ volatile("push	{r4-r7, lr}\n\t"
			 "mov	r4, r8\n\t"
			 "mov	r5, r9\n\t"
			 "mov	r6, r10\n\t"
			 "mov	r7, r11\n\t"
			 "push	{r3-r7}\n\t" /* r3 for the alignment */
			 "mov	r1, lr\n\t"
			 "movs	r0, #4\n\t"
			 "tst	r0, r1\n\t"
			 "add	r0, sp, #40\n\t"
			 "beq	1f\n\t"
			 "mrs	r0, psp\n"
			 "1:\tadd	r1, sp, #4\n\t"
			 "bl	exception_taken\n\t"
			 "pop	{r3-r7}\n\t"
			 "mov	r8, r4\n\t"
			 "mov	r9, r5\n\t"
			 "mov	r10, r6\n\t"
			 "mov	r11, r7\n\t"
			 "pop	{r4-r7, pc}");
}

__attribute__((used)) void exception_taken(struct frame *frame, struct context *context)
{
	struct taken now = {frame, context};
	struct taken *outer = taken;
	uint32_t number = exception_number();

	if (number >= 16 + INTERRUPTS || handlers[number] == NULL) {
		print("failed=exception %u at 0x%x\n", number, frame->pc);
		leave(1);
	}
	taken = &now;
	handlers[number]();
	taken = outer;
}

/* ---- order of events ---- */

static char events[120];
static volatile unsigned event_count;

static void append(char c)
{
	if (event_count == sizeof(events) - 1)
		fail("too many events");
	events[event_count++] = c;
}

void note(char mark, unsigned number)
{
	append(' ');
	append(mark);
	if (number >= 10)
		append((char)('0' + number / 10));
	append((char)('0' + number % 10));
}

void show(const char *what)
{
	events[event_count] = '\0';
	print("%s:%s\n", what, event_count > 0 ? events : " -");
	event_count = 0;
}

void noted(void)
{
	unsigned number = exception_number();

	note('+', number);
	note('-', number);
}

/* ---- exceptions ---- */

void set_priority(unsigned exception, uint32_t priority)
{
	uint32_t base = exception >= 16 ? NVIC_IPR : SCB_SHPR1;
	unsigned index = exception >= 16 ? exception - 16 : exception - 4;
	volatile uint32_t *word = reg(base + index / 4 * 4);
	unsigned shift = index % 4 * 8;

	*word = (*word & ~(0xffu << shift)) | priority << shift;
}

void lines_on(unsigned count, handler *function, uint32_t priority)
{
	for (unsigned line = LINE; line < LINE + count; line++) {
		set_priority(16 + line, priority);
		interrupt_on(line, function);
	}
}

void lines_off(void)
{
	*reg(NVIC_ICER) = ~0u << LINE;
	*reg(NVIC_ICPR) = ~0u << LINE;
}

void ticks_on(handler *function)
{
	handlers[SYSTICK] = function;
	*reg(SYST_RVR) = 9999;
	*reg(SYST_CVR) = 0;
	*reg(SYST_CSR) = SYST_CSR_CLKSOURCE | SYST_CSR_TICKINT | SYST_CSR_ENABLE;
}

void ticks_off(void)
{
	*reg(SYST_CSR) = 0;
	*reg(SCB_ICSR) = ICSR_PENDSTCLR;
}

/* ---- faults ---- */

struct fault fault;
struct culprit culprit;

void note_fault(void)
{
	struct frame *frame = taken->frame;

	fault.count++;
	fault.exception = exception_number();
	fault.pc = frame->pc;
	fault.xpsr = frame->xpsr;
	fault.exc_return = taken->context->exc_return;
#if ARMV7M
	fault.cfsr = *reg(SCB_CFSR);
	fault.hfsr = *reg(SCB_HFSR);
	fault.bfar = *reg(SCB_BFAR);
	*reg(SCB_CFSR) = fault.cfsr;
	*reg(SCB_HFSR) = fault.hfsr;
#endif
	frame->pc = culprit.behind;
	frame->xpsr = (frame->xpsr & ~XPSR_IT) | XPSR_T;
}

void show_fault(const char *what)
{
	if (fault.count != 1) {
		print("%s: %u faults\n", what, fault.count);
		return;
	}
	print("%s: exception %u, pc ", what, fault.exception);
	if (fault.pc == culprit.at)
		print("there");
	else if (fault.pc == culprit.behind)
		print("behind");
	else
		print("0x%x", fault.pc);
	print(", T %u, from %u", fault.xpsr >> 24 & 1, fault.xpsr & 0x1ff);
#if ARMV7M
	print(", cfsr 0x%x, hfsr 0x%x", fault.cfsr, fault.hfsr);
	if ((fault.cfsr & 0x8000) != 0)
		print(", bfar 0x%x", fault.bfar);
#endif
	print("\n");
}

/* ---- sections ---- */

static const struct {
	const char *name;
	void (*test)(void);
} sections[] = {
	{"svc", test_svc},
	{"frames", test_frames},
	{"stacks", test_stacks},
	{"threads", test_threads},
	{"systick", test_systick},
	{"sleep", test_sleep},
	{"order", test_order},
	{"pending", test_pending},
	{"icsr", test_icsr},
	{"primask", test_primask},
	{"hard_faults", test_hard_faults},
	{"arithmetic", test_arithmetic},
#if ARMV7M
	{"priorities", test_priorities},
	{"basepri", test_basepri},
	{"faultmask", test_faultmask},
	{"unprivileged", test_unprivileged},
	{"vectors", test_vectors},
	{"handlers", test_handlers},
	{"usage_faults", test_usage_faults},
	{"bus_faults", test_bus_faults},
	{"escalation", test_escalation},
	{"returns", test_returns},
	{"stacking", test_stacking},
	{"exclusives", test_exclusives},
	{"it_blocks", test_it_blocks},
#endif
#ifdef __ARM_FP
	{"fpu", test_fpu},
	{"fpu_frames", test_fpu_frames},
	{"fpu_threads", test_fpu_threads},
#endif
};

int main(void)
{
	const unsigned count = sizeof(sections) / sizeof(sections[0]);
	bool all = true;

	print("part=0x%x\n", *reg(SCB_CPUID) & 0xff00fff0);
	for (unsigned i = 0; i < count; i++)
		all &= !parameter_is("section", sections[i].name);
	for (unsigned i = 0; i < count; i++) {
		if (!all && !parameter_is("section", sections[i].name))
			continue;
		print("[%s]\n", sections[i].name);
		sections[i].test();
		lines_off();
	}
	print("done\n");
	return 0;
}
