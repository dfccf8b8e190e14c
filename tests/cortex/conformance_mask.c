/* SPDX-License-Identifier: MIT */
/* PRIMASK, and what it does not mask. */
#include "conformance.h"

static void nmi(void)
{
	noted();
	pend(FIRST);
}

static void mask_inside(void)
{
	note('+', exception_number());
	interrupts_off();
	pend(FIRST + 1);
	note('-', exception_number());
}

void test_primask(void)
{
	lines_on(2, noted, LOW);
	print("primask %u", READ_SPECIAL(primask));
	interrupts_off();
	print(", off %u\n", READ_SPECIAL(primask));
	pend(FIRST + 1);
	pend(FIRST);
	print("pending %u %u\n", is_pending(LINE), is_pending(LINE + 1));
	show("masked");
	interrupts_on();
	show("then");

	interrupts_off();
	pend(FIRST);
	*reg(NVIC_ICPR) = 1u << LINE;
	interrupts_on();
	show("cleared in time");

	set_priority(FIRST, HIGHEST);
	interrupts_off();
	pend(FIRST);
	show("priority 0 is masked, too");
	WRITE_SPECIAL(primask, 0);
	show("then");
	WRITE_SPECIAL(primask, 0xfffffffe);
	print("other bits: %u\n", READ_SPECIAL(primask));

	handlers[NMI] = nmi;
	set_priority(FIRST, LOW);
	interrupts_off();
	pend(NMI);
	show("nmi, masked");
	interrupts_on();
	show("then");

	set_priority(FIRST + 1, HIGH);
	handlers[16 + LINE] = mask_inside;
	pend(FIRST);
	show("masked in a handler");
	print("still in the thread: %u\n", READ_SPECIAL(primask));
	interrupts_on();
	show("then");
}
