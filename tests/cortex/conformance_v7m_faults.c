/* SPDX-License-Identifier: MIT */
/* Armv7-M: faults with handlers and status of their own, and their escalation. */
#include "conformance.h"

static void no_thumb(void)
{
}

static void set_ccr(uint32_t bit, bool on)
{
	*reg(SCB_CCR) = on ? *reg(SCB_CCR) | bit : *reg(SCB_CCR) & ~bit;
	__asm__ volatile("dsb\n\tisb" : : : "memory");
}

void test_usage_faults(void)
{
	handlers[HARD_FAULT] = handlers[USAGE_FAULT] = note_fault;
	set_priority(USAGE_FAULT, LOW);
	PROVOKE("udf #1", 0);
	show_fault("disabled");
	*reg(SCB_SHCSR) = SHCSR_USGFAULTENA;
	PROVOKE("udf #1", 0);
	show_fault("undefined");
	PROVOKE("udf.w #1", 0);
	show_fault("undefined, 32 bits");
	PROVOKE("bx r0", (uint32_t)no_thumb & ~1u);
	print("at the target %u\n", fault.pc == ((uint32_t)no_thumb & ~1u));
	fault.pc = culprit.at;
	show_fault("not in Thumb state");
	PROVOKE("blx r0", (uint32_t)no_thumb & ~1u);
	fault.pc = culprit.at;
	show_fault("not in Thumb state, by a call");
	PROVOKE("mrc p1, 0, r1, c0, c0, 0", 0);
	show_fault("no coprocessor");

	uint32_t words[2] = {0x11223344, 0x55667788};
	PROVOKE("ldr r1, [r0, #1]\n\tstr r1, [r0, #4]", words);
	print("not aligned: %u faults, 0x%x\n", fault.count, words[1]);
	PROVOKE("ldmia r0, {r1, r2}", (uint32_t)words + 2);
	show_fault("not aligned, two words");
	PROVOKE("ldrex r1, [r0]", (uint32_t)words + 2);
	show_fault("not aligned, exclusive");
	set_ccr(CCR_UNALIGN_TRP, true);
	PROVOKE("ldr r1, [r0]", (uint32_t)words + 1);
	show_fault("not aligned, trapped");
	PROVOKE("ldrh r1, [r0]", (uint32_t)words + 1);
	show_fault("not aligned, half a word, trapped");
	PROVOKE("ldr.w r1, [r0, #8]", (uint32_t)words + 2);
	show_fault("not aligned, offset, trapped");
	PROVOKE("ldr.w r1, [r0, #-3]", (uint32_t)words + 3);
	print("aligned, trapped: %u faults\n", fault.count);
	set_ccr(CCR_UNALIGN_TRP, false);

	set_ccr(CCR_DIV_0_TRP, true);
	PROVOKE("udiv r1, r0, r1", 5);
	show_fault("division by zero, trapped");
	PROVOKE("sdiv r1, r0, r1", 5);
	show_fault("signed");
	set_ccr(CCR_DIV_0_TRP, false);

	*reg(SCB_SHCSR) = 0;
}

void test_bus_faults(void)
{
	handlers[HARD_FAULT] = handlers[BUS_FAULT] = handlers[MEM_FAULT] = note_fault;
	set_priority(MEM_FAULT, LOW);
	set_priority(BUS_FAULT, LOW);
	PROVOKE("bx r0", 0xe0001001);
	show_fault("no code among the private peripherals, disabled");
	*reg(SCB_SHCSR) = SHCSR_MEMFAULTENA | SHCSR_BUSFAULTENA;
	PROVOKE("bx r0", 0xe0001001);
	show_fault("no code among the private peripherals");
	if (parameter("holes", 1) != 0) {
		PROVOKE("ldr r1, [r0]", HOLE);
		show_fault("load");
		PROVOKE("ldrb r1, [r0]", HOLE + 3);
		show_fault("load of a byte");
		PROVOKE("ldmia r0, {r1, r2}", HOLE + 8);
		show_fault("load of two words");
		/* What is left of the block is stacked. */
		PROVOKE("ittt eq\n\tmoveq r1, #1\n\tldreq r1, [r0]\n\tmoveq r1, #2", HOLE);
		print("in an IT block: exception %u, %u bytes on, conditions 0x%x\n",
			fault.exception, fault.pc - culprit.at, fault.xpsr & XPSR_IT);
		PROVOKE("bx r0", HOLE + 1);
		show_fault("jump");
		/* May be imprecise. */
		PROVOKE("str r1, [r0]", HOLE);
		print("store: exception %u\n", fault.exception);
	}
	*reg(SCB_SHCSR) = 0;
}

/* ---- escalation ---- */

static void fault_inside(void)
{
	PROVOKE("udf #2", 0);
}

static void svc_inside(void)
{
	PROVOKE("svc #2", 0);
}

/* One more in the fault's own handler. */
static void fault_in_fault(void)
{
	struct culprit outer = culprit;

	note('+', exception_number());
	PROVOKE("udf #2", 0);
	note('-', exception_number());
	taken->frame->pc = outer.behind;
}

/* The stacked pc of an SVC that is not taken is not compared. */
static void show_svc(const char *what)
{
	fault.pc = culprit.at;
	show_fault(what);
}

void test_escalation(void)
{
	handlers[HARD_FAULT] = handlers[USAGE_FAULT] = note_fault;
	handlers[SVCALL] = noted;
	set_priority(USAGE_FAULT, LOW);
	set_priority(SVCALL, LOW);
	*reg(SCB_SHCSR) = SHCSR_USGFAULTENA;

	lines_on(1, fault_inside, LOWEST);
	pend(FIRST);
	show_fault("preempts a handler");
	set_priority(FIRST, LOW);
	pend(FIRST);
	show_fault("does not preempt its equal");
	handlers[FIRST] = svc_inside;
	pend(FIRST);
	show_svc("svc, neither");
	interrupts_off();
	PROVOKE("udf #1", 0);
	show_fault("primask");
	PROVOKE("svc #1", 0);
	show_svc("svc, primask");
	interrupts_on();
	WRITE_SPECIAL(basepri, LOW);
	PROVOKE("udf #1", 0);
	show_fault("basepri");
	PROVOKE("svc #1", 0);
	show_svc("svc, basepri");
	WRITE_SPECIAL(basepri, LOWEST);
	PROVOKE("udf #1", 0);
	show_fault("lower basepri");
	WRITE_SPECIAL(basepri, 0);
	handlers[USAGE_FAULT] = fault_in_fault;
	PROVOKE("udf #1", 0);
	show_fault("in its own handler");
	show("order");
	*reg(SCB_SHCSR) = 0;
}
