/* SPDX-License-Identifier: MIT */
/* SysTick, and sleeping until it or something else wakes the processor up. */
#include "conformance.h"

static volatile unsigned ticks, last_tick;

/* Stops the timer with the last one; the next may be pending already. */
static void tick(void)
{
	ticks++;
	if (ticks == last_tick) {
		*reg(SYST_CSR) = 0;
		*reg(SCB_ICSR) = ICSR_PENDSTCLR;
		*reg(SCB_SCR) = 0;
	}
}

static void timer_start(unsigned count, uint32_t control)
{
	ticks = 0;
	last_tick = count;
	handlers[SYSTICK] = tick;
	*reg(SYST_CSR) = 0;
	*reg(SYST_RVR) = 1999;
	*reg(SYST_CVR) = 0;
	*reg(SYST_CSR) = control | SYST_CSR_CLKSOURCE | SYST_CSR_ENABLE;
}

static bool tick_pending(void)
{
	return (*reg(SCB_ICSR) & ICSR_PENDSTSET) != 0;
}

static unsigned count_flag(void)
{
	return (*reg(SYST_CSR) & SYST_CSR_COUNTFLAG) != 0;
}

/* With interrupts off: the timer has reached zero once, and stands. */
static void timer_ran_down(void)
{
	timer_start(1, SYST_CSR_TICKINT);
	while (!tick_pending())
		;
	*reg(SYST_CSR) = SYST_CSR_CLKSOURCE;
}

void test_systick(void)
{
	*reg(SYST_RVR) = 0xffffffff;
	print("reload: 0x%x\n", *reg(SYST_RVR));

	timer_start(5, SYST_CSR_TICKINT);
	print("counts down: %u\n", *reg(SYST_CVR) <= 1999);
	while (ticks < 5)
		;
	print("ticks: %u, control 0x%x\n", ticks, *reg(SYST_CSR) & 3);

	interrupts_off();
	timer_ran_down();
	print("flag: %u", count_flag());
	print(", read again: %u\n", count_flag());
	uint32_t value = *reg(SYST_CVR);
	print("stands: %u\n", *reg(SYST_CVR) == value);
	*reg(SCB_ICSR) = ICSR_PENDSTCLR;
	interrupts_on();
	print("withdrawn: ticks %u\n", ticks);

	interrupts_off();
	timer_ran_down();
	*reg(SYST_CVR) = 77;
	print("value written: %u, flag %u\n", *reg(SYST_CVR), count_flag());
	print("still pending: %u\n", tick_pending());
	interrupts_on();
	print("taken: ticks %u\n", ticks);

	timer_start(1, 0);
	while (count_flag() == 0)
		;
	*reg(SYST_CSR) = 0;
	print("without interrupt: pending %u, ticks %u\n", tick_pending(), ticks);
	pend(SYSTICK);
	print("by software: ticks %u\n", ticks);
}

/* ---- sleep ---- */

static inline void wait_for_event(void)
{
	__asm__ volatile("dsb\n\twfe" : : : "memory");
}

/* After this no event is left over. */
static void no_event(void)
{
	__asm__ volatile("sev\n\twfe" : : : "memory");
}

static void test_wfi(void)
{
	interrupts_off();
	pend(FIRST);
	wait_for_interrupt();
	show("wfi, masked, pending before");
	interrupts_on();
	show("then");

	interrupts_off();
	timer_start(1, SYST_CSR_TICKINT);
	while (!tick_pending())
		wait_for_interrupt();
	print("wfi, masked: ticks %u\n", ticks);
	interrupts_on();
	print("then: ticks %u\n", ticks);

	/* The last tick must not come between the look and the sleep. */
	interrupts_off();
	timer_start(3, SYST_CSR_TICKINT);
	while (ticks < 3) {
		wait_for_interrupt();
		interrupts_on();
		interrupts_off();
	}
	interrupts_on();
	print("wfi: ticks %u\n", ticks);
}

static void test_wfe(void)
{
	__asm__ volatile("sev\n\twfe");
	print("wfe: an event from sev\n");
	no_event();
	pend(FIRST);
	wait_for_event();
	show("wfe: an event from a handler's end");
	no_event();
	interrupts_off();
	*reg(SCB_SCR) = SCR_SEVONPEND;
	pend(FIRST);
	wait_for_event();
	show("wfe: an event from what is pending");
	*reg(SCB_SCR) = 0;
	interrupts_on();
	show("then");

	timer_start(3, SYST_CSR_TICKINT);
	while (ticks < 3)
		wait_for_event();
	print("wfe: ticks %u\n", ticks);
}

/* QEMU's WFE does not wait, and its SCR.SLEEPONEXIT has no effect; both are hints. */
static void test_deep_sleep(bool sleeps)
{
	no_event();
	timer_start(1, SYST_CSR_TICKINT);
	wait_for_event();
	if (sleeps)
		expect("ticks until wfe ends", ticks, 1);
	while (ticks < 1)
		;

	*reg(SCB_SCR) = SCR_SLEEPONEXIT;
	interrupts_off();
	timer_start(5, SYST_CSR_TICKINT);
	wait_for_interrupt();
	interrupts_on();
	if (sleeps)
		expect("ticks until the thread goes on", ticks, 5);
	while (ticks < 5)
		;
	print("sleep on exit: ticks %u\n", ticks);
}

void test_sleep(void)
{
	lines_on(1, noted, LOW);
	test_wfi();
	test_wfe();
	test_deep_sleep(parameter("sleeps", 0) != 0);
}
