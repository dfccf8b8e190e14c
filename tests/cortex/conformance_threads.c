/* SPDX-License-Identifier: MIT */
/* Threads that PendSV switches, and the two stack pointers. */
#include "conformance.h"

struct thread {
	uint32_t sp; /* none for MAIN, whose frame stays on the main stack below the handlers' */
	struct context context;
#ifdef __ARM_FP
	uint32_t s16_s31[16];
#endif
};

static uint64_t stacks[2][160];
static struct thread threads[3];
static unsigned running;
volatile unsigned switches;

static void switch_to(unsigned next)
{
	struct thread *from = &threads[running];
	struct thread *to = &threads[next];

	from->context = *taken->context;
	from->sp = READ_SPECIAL(psp);
#ifdef __ARM_FP
	if ((from->context.exc_return & 0x10) == 0)
		__asm__ volatile("vstmia %0, {s16-s31}" : : "r"(from->s16_s31) : "memory");
	if ((to->context.exc_return & 0x10) == 0)
		__asm__ volatile("vldmia %0, {s16-s31}" : : "r"(to->s16_s31) : "memory");
#endif
	WRITE_SPECIAL(psp, to->sp);
	*taken->context = to->context;
	running = next;
	switches++;
}

/* A tick may still want it after the end. */
static void switch_threads(void)
{
	if (running == MAIN)
		return;
	switch_to(running == THREAD_A ? THREAD_B : THREAD_A);
}

static void start_or_end(void)
{
	switch_to(running == MAIN ? THREAD_A : MAIN);
}

void threads_end(void)
{
	__asm__ volatile("svc 0" : : : "memory");
}

static void prepare(unsigned thread, handler *function)
{
	uint64_t *top = stacks[thread - THREAD_A] + sizeof(stacks[0]) / sizeof(stacks[0][0]);
	struct frame *frame = (struct frame *)top - 1;

	frame->lr = (uint32_t)threads_end;
	frame->pc = (uint32_t)function & ~1u;
	frame->xpsr = XPSR_T;
	threads[thread].sp = (uint32_t)frame;
	threads[thread].context.exc_return = 0xfffffffd;
}

void threads_run(handler *a, handler *b)
{
	prepare(THREAD_A, a);
	prepare(THREAD_B, b);
	handlers[SVCALL] = start_or_end;
	handlers[PENDSV] = switch_threads;
	set_priority(SVCALL, LOWEST);
	set_priority(PENDSV, LOWEST);
	switches = 0;
	__asm__ volatile("svc 0" : : : "memory");
}

__attribute__((naked)) unsigned keep_registers(__attribute__((unused)) uint32_t pattern,
	__attribute__((unused)) volatile uint32_t *address, __attribute__((unused)) uint32_t value)
{
	__asm__ volatile("push	{r4-r7, lr}\n\t"
			 "mov	r4, r8\n\t"
			 "mov	r5, r9\n\t"
			 "mov	r6, r10\n\t"
			 "mov	r7, r11\n\t"
			 "push	{r4-r7}\n\t"
			 "mov	r3, r0\n\t"
			 ".irp	register, r4, r5, r6, r7, r8, r9, r10, r11\n\t"
			 "mov	\\register, r3\n\t"
			 "adds	r3, #1\n\t"
			 ".endr\n\t"
			 "str	r2, [r1]\n\t"
			 "dsb\n\t"
			 "isb\n\t"
			 "movs	r3, #0\n\t"
			 ".irp	register, r4, r5, r6, r7, r8, r9, r10, r11\n\t"
			 "cmp	r0, \\register\n\t"
			 "beq	.+4\n\t"
			 "adds	r3, #1\n\t"
			 "adds	r0, #1\n\t"
			 ".endr\n\t"
			 "mov	r0, r3\n\t"
			 "pop	{r4-r7}\n\t"
			 "mov	r8, r4\n\t"
			 "mov	r9, r5\n\t"
			 "mov	r10, r6\n\t"
			 "mov	r11, r7\n\t"
			 "pop	{r4-r7, pc}");
}

static volatile unsigned damaged, progress[2];

static void yielding(char name, uint32_t pattern)
{
	for (unsigned i = 0; i < 5; i++) {
		note(name, i);
		damaged += keep_registers(pattern + i * 16, reg(SCB_ICSR), ICSR_PENDSVSET);
	}
}

static void yielding_a(void)
{
	yielding('a', 0xa0a0a000);
}

static void yielding_b(void)
{
	yielding('b', 0xb0b0b000);
}

/* Until there have been twenty switches, and both have seen some. */
static void preempted(unsigned self, uint32_t pattern)
{
	uint32_t nowhere;

	while (switches < 20 || progress[0] == 0 || progress[1] == 0) {
		damaged += keep_registers(pattern + progress[self] * 16, &nowhere, 0);
		progress[self]++;
	}
}

static void preempted_a(void)
{
	preempted(0, 0xa0a0a000);
}

static void preempted_b(void)
{
	preempted(1, 0xb0b0b000);
}

static void switch_later(void)
{
	*reg(SCB_ICSR) = ICSR_PENDSVSET;
}

void test_threads(void)
{
	damaged = 0;
	threads_run(yielding_a, yielding_b);
	show("order");
	print("yielding: %u switches, %u registers damaged\n", switches, damaged);

	set_priority(SYSTICK, LOW);
	ticks_on(switch_later);
	threads_run(preempted_a, preempted_b);
	ticks_off();
	print("preempted: %u registers damaged\n", damaged);
}

/* ---- stacks ---- */

static uint32_t main_sp;

static void interrupted(void)
{
	print("lr 0x%x, control 0x%x, frame on %s\n", taken->context->exc_return,
		READ_SPECIAL(control),
		(uint32_t)taken->frame - (uint32_t)stacks < sizeof(stacks) ? "a thread's stack"
									   : "the main stack");
	WRITE_SPECIAL(control, READ_SPECIAL(control) | 2); /* no effect in a handler */
	print("control 0x%x\n", READ_SPECIAL(control));
	if (exception_number() == FIRST)
		pend(FIRST + 1);
}

static void on_own_stack(void)
{
	uint32_t sp;
	__asm__ volatile("mov %0, sp" : "=r"(sp));
	print("thread: control 0x%x, psp is sp %u, msp is not %u\n", READ_SPECIAL(control),
		READ_SPECIAL(psp) == sp, READ_SPECIAL(msp) != sp);
	pend(FIRST);
}

void test_stacks(void)
{
	lines_on(1, interrupted, LOW);
	set_priority(FIRST + 1, HIGH);
	interrupt_on(LINE + 1, interrupted);
	main_sp = READ_SPECIAL(msp);
#if !ARMV7M
	WRITE_SPECIAL(control, 1); /* a Cortex-M0 has no unprivileged code */
#endif
	print("main: control 0x%x\n", READ_SPECIAL(control));
	pend(FIRST);
	threads_run(on_own_stack, on_own_stack);
	print("main: control 0x%x, same stack %u\n", READ_SPECIAL(control),
		READ_SPECIAL(msp) == main_sp);
}
