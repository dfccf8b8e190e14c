/* SPDX-License-Identifier: MIT */
/* Pre-emption, tail-chaining and the order among what is pending, as far as Armv6-M has it. */
#include "conformance.h"

/* ---- scenarios ---- */

static unsigned pends[16 + LINE + 8]; /* by number of the exception */

static void pend_all(unsigned mask)
{
	if ((mask & PENDSV_BIT) != 0)
		*reg(SCB_ICSR) = ICSR_PENDSVSET;
	if ((mask & SYSTICK_BIT) != 0)
		*reg(SCB_ICSR) = ICSR_PENDSTSET;
	*reg(NVIC_ISPR) = (mask & 0xff) << LINE;
	__asm__ volatile("dsb\n\tisb" : : : "memory");
}

static void step(void)
{
	unsigned number = exception_number();
	unsigned mask = pends[number];

	note('+', number);
	pends[number] = 0;
	pend_all(mask);
	note('-', number);
}

void play(const struct scenario *scenario)
{
	for (unsigned i = 0; i < 4 && scenario->of[i].number != 0; i++) {
		unsigned number = scenario->of[i].number;

		pends[number] = scenario->of[i].pends;
		set_priority(number, scenario->of[i].priority);
		if (number >= 16)
			interrupt_on(number - 16, step);
		else
			handlers[number] = step;
	}
	interrupts_off();
	pend_all(scenario->start);
	interrupts_on();
	show(scenario->what);
}

#define BIT(n) (1u << (n))

static const struct scenario scenarios[] = {
	{"three levels", 0, BIT(0),
		{{FIRST, LOWEST, BIT(1)}, {FIRST + 1, LOW, BIT(2)}, {FIRST + 2, HIGH, 0}}},
	{"the highest is 0", 0, BIT(0), {{FIRST, HIGH, BIT(1)}, {FIRST + 1, HIGHEST, 0}}},
	{"equal does not preempt", 0, BIT(1), {{FIRST, LOW, 0}, {FIRST + 1, LOW, BIT(0)}}},
	{"lower does not preempt", 0, BIT(0), {{FIRST, HIGH, BIT(1)}, {FIRST + 1, LOW, 0}}},
	{"lowest number among equals", 0, BIT(0) | BIT(1) | BIT(2),
		{{FIRST, LOW, 0}, {FIRST + 1, LOW, 0}, {FIRST + 2, LOW, 0}}},
	{"priority before number", 0, BIT(0) | BIT(1) | BIT(2),
		{{FIRST, LOWEST, 0}, {FIRST + 1, LOW, 0}, {FIRST + 2, HIGH, 0}}},
	{"tail-chained by priority", 0, BIT(0),
		{{FIRST, HIGH, BIT(1) | BIT(2)}, {FIRST + 1, LOWEST, 0}, {FIRST + 2, LOW, 0}}},
	{"tail-chained before the preempted goes on", 0, BIT(0),
		{{FIRST, LOWEST, BIT(1)}, {FIRST + 1, HIGH, BIT(2)}, {FIRST + 2, LOW, 0}}},
	{"the preempted goes on before its equal", 0, BIT(0),
		{{FIRST, LOW, BIT(1)}, {FIRST + 1, HIGH, BIT(2)}, {FIRST + 2, LOW, 0}}},
	{"again while active", 0, BIT(0), {{FIRST, LOW, BIT(0)}}},
	{"again, by a higher one, while active", 0, BIT(0),
		{{FIRST, LOW, BIT(1)}, {FIRST + 1, HIGH, BIT(0)}}},
	{"pendsv, systick and a line, all equal", 0, PENDSV_BIT | SYSTICK_BIT | BIT(0),
		{{PENDSV, LOW, 0}, {SYSTICK, LOW, 0}, {FIRST, LOW, 0}}},
	{"pendsv last", 0, BIT(0),
		{{PENDSV, LOWEST, 0}, {FIRST, LOW, PENDSV_BIT | BIT(1)}, {FIRST + 1, LOW, 0}}},
	{"systick preempts pendsv", 0, PENDSV_BIT,
		{{PENDSV, LOWEST, SYSTICK_BIT}, {SYSTICK, HIGH, PENDSV_BIT}}},
};

void test_order(void)
{
	for (unsigned i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
		play(&scenarios[i]);
		lines_off();
	}
}

/* ---- what is pending, enabled and active ---- */

static void look(const char *what)
{
	print("%s: enabled 0x%x pending 0x%x", what, *reg(NVIC_ISER) >> LINE,
		*reg(NVIC_ISPR) >> LINE);
#if ARMV7M
	print(" active 0x%x", *reg(NVIC_IABR) >> LINE);
#endif
	print("\n");
}

static void look_inside(void)
{
	look(exception_number() == FIRST ? "in the first" : "in the second");
	if (exception_number() == FIRST) {
		pend(FIRST);
		look("pending again");
		*reg(NVIC_ICPR) = 1u << LINE;
		look("cleared");
		pend(FIRST + 1);
	}
	note('-', exception_number());
}

void test_pending(void)
{
	look("nothing");
	pend(FIRST);
	look("pending");
	*reg(NVIC_ICPR) = 1u << LINE;
	look("cleared");
	pend(FIRST);
	lines_on(2, look_inside, LOW);
	set_priority(FIRST + 1, HIGH);
	look("afterwards");
	show("taken when enabled");
	*reg(NVIC_ICER) = 2u << LINE;
	print("enabled, the other register: 0x%x\n", *reg(NVIC_ICER) >> LINE);
	*reg(NVIC_ISER) = 0;
	*reg(NVIC_ICER) = 0;
	look("zeros change nothing");
	pend(FIRST + 1);
	look("disabled");
	show("not taken");
	*reg(NVIC_ISER) = 2u << LINE;
	__asm__ volatile("dsb\n\tisb");
	show("taken");

	interrupts_off();
	lines_on(2, noted, LOW);
	pend(FIRST);
	pend(FIRST + 1);
	set_priority(FIRST + 1, HIGH);
	interrupts_on();
	show("priority changed while pending");
	*reg(NVIC_IPR + LINE) = 0xffffffff;
	print("priorities: 0x%x\n", *reg(NVIC_IPR + LINE) & (ARMV7M ? 0xe0e0e0e0u : 0xc0c0c0c0u));
	*reg(NVIC_IPR + LINE) = 0x4080c000;
	print("priorities: 0x%x\n", *reg(NVIC_IPR + LINE) & (ARMV7M ? 0xe0e0e0e0u : 0xc0c0c0c0u));
}

/* ---- ICSR ---- */

static void print_icsr(const char *what)
{
	uint32_t icsr = *reg(SCB_ICSR);

	print("%s: active %u pending %u isr %u sv %u st %u nmi %u", what, icsr & 0x1ff,
		icsr >> 12 & 0x1ff, icsr >> 22 & 1, icsr >> 28 & 1, icsr >> 26 & 1, icsr >> 31);
#if ARMV7M
	/* Outside of a handler it is unknown. */
	if ((icsr & 0x1ff) != 0)
		print(" base %u", icsr >> 11 & 1);
#endif
	print("\n");
}

static void print_icsr_nested(void)
{
	if (exception_number() == FIRST) {
		print_icsr("in the first");
		pend(FIRST + 1);
		print_icsr("in the first again");
	} else {
		pend(FIRST + 2);
		pend(PENDSV);
		print_icsr("in the second");
	}
}

void test_icsr(void)
{
	handlers[PENDSV] = handlers[SYSTICK] = noted;
	set_priority(PENDSV, LOWEST);
	set_priority(SYSTICK, LOW);
	lines_on(2, print_icsr_nested, HIGH);
	interrupt_on(LINE + 2, noted);
	set_priority(FIRST, LOW);
	set_priority(FIRST + 2, LOW);
	print_icsr("thread");
	pend(FIRST);
	show("then");

	interrupts_off();
	pend(PENDSV);
	print_icsr("pendsv");
	pend(SYSTICK);
	print_icsr("and systick");
	pend(FIRST + 2);
	print_icsr("and a line");
	*reg(SCB_ICSR) = ICSR_PENDSVCLR;
	print_icsr("no pendsv");
	*reg(SCB_ICSR) = ICSR_PENDSTCLR;
	print_icsr("no systick");
	interrupts_on();
	show("left");
}
