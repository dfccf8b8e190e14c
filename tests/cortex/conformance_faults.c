/* SPDX-License-Identifier: MIT */
/* Faults as Armv6-M has them, and Armv7-M after reset: all of them are HardFaults. */
#include "conformance.h"

static void no_thumb(void)
{
}

static void fault_inside(void)
{
	note('+', exception_number());
	PROVOKE("udf #1", 0);
	note('-', exception_number());
}

static void fault_with_nmi(void)
{
	note('+', exception_number());
	note_fault();
	pend(FIRST + 1);
	pend(NMI);
	note('-', exception_number());
}

static void test_code(void)
{
	PROVOKE("udf #1", 0);
	show_fault("undefined");
	PROVOKE(".inst.w 0xf7f0a001", 0);
	show_fault("undefined, 32 bits");
	PROVOKE("bx r0", (uint32_t)no_thumb & ~1u);
	print("at the target %u\n", fault.pc == ((uint32_t)no_thumb & ~1u));
	fault.pc = culprit.at;
	show_fault("not in Thumb state");
#if !ARMV7M
	static const uint32_t words[2];
	PROVOKE("ldr r1, [r0]", (uint32_t)words + 1);
	show_fault("not aligned");
	PROVOKE("ldrh r1, [r0]", (uint32_t)words + 1);
	show_fault("not aligned, half a word");
	PROVOKE("ldmia r0!, {r1, r2}", (uint32_t)words + 2);
	show_fault("not aligned, two words");
#endif
}

static void test_holes(void)
{
	PROVOKE("ldr r1, [r0]", HOLE);
	show_fault("load");
	PROVOKE("ldrb r1, [r0]", HOLE + 3);
	show_fault("load of a byte");
	PROVOKE("bx r0", HOLE + 1);
	show_fault("jump");
	/* A store may be imprecise. */
	PROVOKE("str r1, [r0]", HOLE);
	print("store: exception %u\n", fault.exception);
}

void test_hard_faults(void)
{
	handlers[HARD_FAULT] = note_fault;
	handlers[NMI] = noted;
	handlers[SVCALL] = noted;
	test_code();
	if (parameter("holes", 1) != 0)
		test_holes();
	interrupts_off();
	PROVOKE("udf #1", 0);
	show_fault("undefined, masked");
	PROVOKE("svc #1", 0);
	interrupts_on();
	print("svc, masked: exception %u\n", fault.exception);

	lines_on(2, fault_inside, HIGH);
	handlers[16 + LINE + 1] = noted;
	pend(FIRST);
	show("in a handler");
	show_fault("undefined");
	print("lr 0x%x\n", fault.exc_return);
	handlers[HARD_FAULT] = fault_with_nmi;
	pend(FIRST);
	show("and while in the fault's");
}
