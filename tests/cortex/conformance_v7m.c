/* SPDX-License-Identifier: MIT */
/* What Armv7-M adds to priorities, masks, privilege and vectors. */
#include "conformance.h"

/* ---- priorities ---- */

#define BIT(n) (1u << (n))

static const struct scenario scenarios[] = {
	{"three bits of priority", 0, BIT(0),
		{{FIRST, 0xe0, BIT(1)}, {FIRST + 1, 0xc0, BIT(2)}, {FIRST + 2, 0xa0, BIT(3)},
			{FIRST + 3, 0x20, 0}}},
	{"one group bit: no preemption", 6, BIT(0), {{FIRST, 0xe0, BIT(1)}, {FIRST + 1, 0x80, 0}}},
	{"one group bit: preemption", 6, BIT(0), {{FIRST, 0xe0, BIT(1)}, {FIRST + 1, 0x60, 0}}},
	{"one group bit: order", 6, BIT(0) | BIT(1) | BIT(2),
		{{FIRST, 0xe0, 0}, {FIRST + 1, 0xa0, 0}, {FIRST + 2, 0x80, 0}}},
	{"one group bit: the group first", 6, BIT(0) | BIT(1) | BIT(2),
		{{FIRST, 0x80, 0}, {FIRST + 1, 0xe0, 0}, {FIRST + 2, 0x60, 0}}},
	{"no group bit: no preemption", 7, BIT(0), {{FIRST, 0xe0, BIT(1)}, {FIRST + 1, 0, 0}}},
	{"two group bits", 5, BIT(0),
		{{FIRST, 0xe0, BIT(1)}, {FIRST + 1, 0xc0, BIT(2)}, {FIRST + 2, 0xa0, 0}}},
	{"two group bits: tail-chained by sub-priority", 5, BIT(3),
		{{FIRST, 0xa0, 0}, {FIRST + 1, 0x80, 0}, {FIRST + 2, 0xa0, 0},
			{FIRST + 3, 0x40, BIT(0) | BIT(1) | BIT(2)}}},
};

static void set_group(unsigned group)
{
	*reg(SCB_AIRCR) = AIRCR_VECTKEY | group << 8;
}

/* Lowers its own priority while active. */
static void lower_itself(void)
{
	note('+', exception_number());
	pend(FIRST + 1);
	note('s', exception_number());
	set_priority(FIRST, LOWEST);
	__asm__ volatile("dsb\n\tisb" : : : "memory");
	note('-', exception_number());
}

static void test_bytes(void)
{
	volatile uint8_t *bytes = (volatile uint8_t *)(NVIC_IPR + LINE);
	volatile uint8_t *system = (volatile uint8_t *)SCB_SHPR1;

	*reg(NVIC_IPR + LINE) = 0;
	bytes[1] = 0x60;
	bytes[3] = 0xff;
	print("bytes: 0x%x, word 0x%x\n", bytes[1], *reg(NVIC_IPR + LINE) & 0xe0e0e0e0);
	*(volatile uint16_t *)&bytes[2] = 0x2040;
	print("half: word 0x%x\n", *reg(NVIC_IPR + LINE));
	system[7] = 0x40;  /* SVCall */
	system[10] = 0x80; /* PendSV */
	system[11] = 0xa0; /* SysTick */
	print("system: 0x%x 0x%x\n", *reg(SCB_SHPR2), *reg(SCB_SHPR3));
}

void test_priorities(void)
{
	test_bytes();
	print("aircr 0x%x", *reg(SCB_AIRCR) & 0xffff0700);
	*reg(SCB_AIRCR) = 0x300; /* without the key */
	print(", ignored 0x%x", *reg(SCB_AIRCR) & 0xffff0700);
	set_group(3);
	print(", then 0x%x\n", *reg(SCB_AIRCR) & 0xffff0700);
	for (unsigned i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
		set_group(scenarios[i].prigroup);
		play(&scenarios[i]);
		lines_off();
	}
	set_group(0);
	lines_on(2, noted, LOW);
	handlers[FIRST] = lower_itself;
	set_priority(FIRST, HIGH);
	pend(FIRST);
	show("lowers itself");
}

/* ---- masks ---- */

static void pend_three(const char *what)
{
	pend(FIRST);
	pend(FIRST + 1);
	pend(FIRST + 2);
	show(what);
}

static void mask_and_return(void)
{
	note('+', exception_number());
	WRITE_SPECIAL(basepri, HIGH);
	pend(FIRST + 1);
	note('-', exception_number());
}

void test_basepri(void)
{
	static const uint32_t steps[] = {0, LOW, HIGH, LOWEST, 0, 0x60, 0x20};

	lines_on(3, noted, LOW);
	set_priority(FIRST + 1, HIGH);
	set_priority(FIRST + 2, LOWEST);
	pend_three("0");
	WRITE_SPECIAL(basepri, LOW);
	print("basepri 0x%x\n", READ_SPECIAL(basepri));
	pend_three("0x80");
	WRITE_SPECIAL(basepri, HIGH);
	pend_three("0x40");
	WRITE_SPECIAL(basepri, LOWEST);
	show("0xc0");
	WRITE_SPECIAL(basepri, 0);
	show("0 again");

	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		WRITE_SPECIAL(basepri_max, steps[i]);
		print("max 0x%x: 0x%x\n", steps[i], READ_SPECIAL(basepri));
	}
	pend_three("masked");
	WRITE_SPECIAL(basepri, 0);
	show("then");

	set_group(6); /* the upper bit counts */
	WRITE_SPECIAL(basepri, 0xa0);
	pend_three("0xa0 with one group bit");
	WRITE_SPECIAL(basepri, 0);
	show("then");
	set_group(0);

	handlers[FIRST] = mask_and_return;
	pend(FIRST);
	show("in a handler");
	print("still in the thread: 0x%x\n", READ_SPECIAL(basepri));
	WRITE_SPECIAL(basepri, 0);
	show("then");
}

static void fault_mask_inside(void)
{
	note('+', exception_number());
	WRITE_SPECIAL(faultmask, 1);
	note('m', READ_SPECIAL(faultmask));
	pend(FIRST + 1);
	note('-', exception_number());
}

void test_faultmask(void)
{
	handlers[NMI] = noted;
	lines_on(2, noted, LOW);
	set_priority(FIRST + 1, HIGHEST);
	__asm__ volatile("cpsid f" : : : "memory");
	print("faultmask %u\n", READ_SPECIAL(faultmask));
	pend(FIRST);
	pend(FIRST + 1);
	show("masked");
	pend(NMI);
	show("nmi");
	print("afterwards: %u\n", READ_SPECIAL(faultmask)); /* no other return leaves it */
	show("masked");
	__asm__ volatile("cpsie f\n\tisb" : : : "memory");
	print("off: %u\n", READ_SPECIAL(faultmask));
	show("then");

	handlers[FIRST] = fault_mask_inside;
	pend(FIRST);
	print("back: %u\n", READ_SPECIAL(faultmask));
	show("in a handler");
}

/* ---- privilege ---- */

/* What a handler writes is the thread's privilege. */
static void privilege(void)
{
	WRITE_SPECIAL(control, READ_SPECIAL(control) & ~1u);
}

static void note_privilege(void)
{
	note('c', READ_SPECIAL(control) & 3);
	note('+', exception_number());
}

static void fault_and_privilege(void)
{
	note_fault();
	note('c', READ_SPECIAL(control) & 3);
}

static void drop_privilege(void)
{
	WRITE_SPECIAL(control, 1);
}

static void get_privilege(void)
{
	__asm__ volatile("svc 0" : : : "memory");
}

/* None of it has an effect, and there is no fault. */
static void try_special_registers(void)
{
	drop_privilege();
	note('c', READ_SPECIAL(control) & 3);
	WRITE_SPECIAL(control, 0);
	note('c', READ_SPECIAL(control) & 3);
	interrupts_off();
	WRITE_SPECIAL(primask, 1);
	WRITE_SPECIAL(basepri, HIGH);
	WRITE_SPECIAL(faultmask, 1);
	uint32_t sp = READ_SPECIAL(msp);
	get_privilege();
	note('c', READ_SPECIAL(control) & 3);
	show("control");
	print("primask %u basepri 0x%x faultmask %u, msp read as %u\n", READ_SPECIAL(primask),
		READ_SPECIAL(basepri), READ_SPECIAL(faultmask), sp);
}

/* The private peripherals answer with bus faults, but the one that is allowed to. */
static void try_peripherals(void)
{
	drop_privilege();
	PROVOKE("ldr r1, [r0]", SCB_CPUID);
	get_privilege();
	show_fault("load");
	drop_privilege();
	PROVOKE("str r1, [r0]", NVIC_STIR);
	get_privilege();
	print("store: exception %u\n", fault.exception);
	show("in the handlers");
}

void test_unprivileged(void)
{
	handlers[SVCALL] = privilege;
	handlers[HARD_FAULT] = note_fault;
	handlers[BUS_FAULT] = fault_and_privilege;
	set_priority(SVCALL, LOW);
	set_priority(BUS_FAULT, LOW);
	lines_on(1, note_privilege, LOW);
	*reg(SCB_SHCSR) = SHCSR_BUSFAULTENA;
	try_special_registers();

	*reg(SCB_CCR) |= CCR_USERSETMPEND;
	drop_privilege();
	*reg(NVIC_STIR) = LINE;
	__asm__ volatile("dsb\n\tisb" : : : "memory");
	get_privilege();
	show("stir");
	*reg(SCB_CCR) &= ~CCR_USERSETMPEND;
	if (parameter("holes", 1) != 0)
		try_peripherals();
	*reg(SCB_SHCSR) = 0;
}

/* ---- vectors ---- */

static handler *own_vectors[16 + 32] __attribute__((aligned(256)));

/* Entered by the processor itself, a C function returns to what it finds in lr. */
static void direct(void)
{
	note('d', exception_number());
}

void test_vectors(void)
{
	handler *const *old = (handler *const *)*reg(SCB_VTOR);

	for (unsigned i = 0; i < sizeof(own_vectors) / sizeof(own_vectors[0]); i++)
		own_vectors[i] = old[i];
	lines_on(2, noted, LOW);
	own_vectors[FIRST] = own_vectors[PENDSV] = direct;
	pend(FIRST);
	*reg(SCB_VTOR) = (uint32_t)own_vectors;
	__asm__ volatile("dsb\n\tisb" : : : "memory");
	print("old 0x%x, new one reads back %u\n", (uint32_t)old,
		*reg(SCB_VTOR) == (uint32_t)own_vectors);
	pend(FIRST);
	pend(FIRST + 1);
	pend(PENDSV);
	own_vectors[FIRST + 1] = direct;
	__asm__ volatile("dsb" : : : "memory");
	pend(FIRST + 1);
	*reg(SCB_VTOR) = (uint32_t)old;
	__asm__ volatile("dsb\n\tisb" : : : "memory");
	pend(FIRST);
	show("taken");
}

/* ---- SHCSR and STIR ---- */

static void note_active(void)
{
	print("in %u: shcsr 0x%x, base %u\n", exception_number(), *reg(SCB_SHCSR),
		*reg(SCB_ICSR) >> 11 & 1);
	if (exception_number() == PENDSV)
		pend(SYSTICK);
	if (exception_number() == SYSTICK)
		__asm__ volatile("svc 0" : : : "memory");
}

void test_handlers(void)
{
	lines_on(2, noted, LOW);
	interrupts_off();
	*reg(NVIC_STIR) = LINE + 1;
	__asm__ volatile("dsb\n\tisb" : : : "memory");
	print("stir: pending 0x%x\n", *reg(NVIC_ISPR) >> LINE);
	interrupts_on();
	show("then");

	handlers[PENDSV] = handlers[SYSTICK] = handlers[SVCALL] = note_active;
	set_priority(PENDSV, LOWEST);
	set_priority(SYSTICK, LOW);
	set_priority(SVCALL, HIGH);
	pend(PENDSV);
	print("afterwards: shcsr 0x%x\n", *reg(SCB_SHCSR));

	handlers[SVCALL] = handlers[USAGE_FAULT] = noted;
	*reg(SCB_SHCSR) = SHCSR_USGFAULTENA | 0x8000; /* SVCALLPENDED */
	__asm__ volatile("dsb\n\tisb" : : : "memory");
	*reg(SCB_SHCSR) = SHCSR_USGFAULTENA | 0x1000; /* USGFAULTPENDED */
	__asm__ volatile("dsb\n\tisb" : : : "memory");
	*reg(SCB_SHCSR) = 0;
	show("pending by software");
}
