/* SPDX-License-Identifier: MIT */
#include "interrupts.h"

#include "machine.h"

#include <stddef.h>

/* The pair of 8259 controllers. */
#define PIC1        0x20
#define PIC2        0xa0
#define PIC_INIT    0x11
#define PIC_EOI     0x20
#define PIC_IN_WORK 0x0b /* read back which lines are in service */
#define LINES       16u
#define LINE_TICK   0u
#define LINE_PIC2   2u

/* The local APIC, where reset has put it. */
#define APIC            0xfee00000u
#define APIC_ID         0x20u
#define APIC_EOI        0xb0u
#define APIC_SPURIOUS   0xf0u
#define APIC_LINE0      0x350u
#define APIC_ON         0x100u
#define APIC_FROM_PIC   0x700u
#define SPURIOUS_VECTOR 0xffu
#define EXCEPTIONS      32u

#define TIMER_HZ      1193182
#define TICKS_A_SEC   100
#define DEADLINE      60 /* seconds */
#define TIMER_0       0x40
#define TIMER_COMMAND 0x43

#define GATE_INTERRUPT 0x8e00u
#define CODE_SEGMENT   0x08u
#define ENTRY_SIZE     16u

extern const uint8_t interrupt_entries[]; /* start.S */
void interrupt(unsigned vector);          /* called from there */

volatile uint32_t interrupts_taken[256];
static void (*line_handlers[LINES])(void);
static uint32_t deadline; /* in ticks */

static volatile uint32_t *apic(uint32_t reg)
{
	return (volatile uint32_t *)(APIC + reg);
}

/* A line that goes away before the processor asks comes out as the last of its controller. */
static bool is_spurious(unsigned line)
{
	if (line % 8 != 7)
		return false;
	uint16_t port = line < 8 ? PIC1 : PIC2;
	outb(port, PIC_IN_WORK);
	return (inb(port) & 0x80) == 0;
}

static void take_line(unsigned line)
{
	if (is_spurious(line)) {
		interrupts_taken[VECTOR_LINE + line]--;
		if (line > 7)
			outb(PIC1, PIC_EOI);
		return;
	}
	if (line_handlers[line] != NULL)
		line_handlers[line]();
	if (line > 7)
		outb(PIC2, PIC_EOI);
	outb(PIC1, PIC_EOI);
}

void interrupt(unsigned vector)
{
	if (vector < EXCEPTIONS) {
		print("failed=exception %u\n", vector);
		leave(1);
	}
	interrupts_taken[vector]++;
	if (vector >= VECTOR_LINE && vector < VECTOR_LINE + LINES)
		take_line(vector - VECTOR_LINE);
	else if (vector != SPURIOUS_VECTOR)
		*apic(APIC_EOI) = 0;
}

static void load_table(void)
{
	static uint32_t table[256][2];
	struct __attribute__((packed)) {
		uint16_t limit;
		uint32_t base;
	} pointer = {sizeof(table) - 1, (uint32_t)table};

	for (unsigned i = 0; i < 256; i++) {
		uint32_t entry = (uint32_t)&interrupt_entries[i * ENTRY_SIZE];
		table[i][0] = CODE_SEGMENT << 16 | (entry & 0xffff);
		table[i][1] = (entry & 0xffff0000) | GATE_INTERRUPT;
	}
	__asm__ volatile("lidt %0" : : "m"(pointer), "m"(table));
}

/* All lines masked but the second controller's; which lines are levels, the firmware has set. */
static void start_pic(void)
{
	outb(PIC1, PIC_INIT);
	outb(PIC2, PIC_INIT);
	outb(PIC1 + 1, VECTOR_LINE);
	outb(PIC2 + 1, VECTOR_LINE + 8);
	outb(PIC1 + 1, 1 << LINE_PIC2);
	outb(PIC2 + 1, LINE_PIC2);
	outb(PIC1 + 1, 1);
	outb(PIC2 + 1, 1);
	outb(PIC1 + 1, (uint8_t) ~(1 << LINE_PIC2));
	outb(PIC2 + 1, 0xff);
}

void line_enable(unsigned line, void (*handler)(void))
{
	uint16_t port = (uint16_t)((line < 8 ? PIC1 : PIC2) + 1);

	line_handlers[line] = handler;
	outb(port, (uint8_t)(inb(port) & ~(1 << line % 8)));
}

void interrupts_init(void)
{
	load_table();
	start_pic();
	*apic(APIC_SPURIOUS) = APIC_ON | SPURIOUS_VECTOR;
	*apic(APIC_LINE0) = APIC_FROM_PIC;

	outb(TIMER_COMMAND, 0x34); /* timer 0, both bytes, periodic */
	outb(TIMER_0, TIMER_HZ / TICKS_A_SEC & 0xff);
	outb(TIMER_0, TIMER_HZ / TICKS_A_SEC >> 8);
	line_enable(LINE_TICK, NULL);
	deadline = parameter("deadline", DEADLINE) * TICKS_A_SEC;
}

uint32_t message_address(void)
{
	return APIC | *apic(APIC_ID) >> 24 << 12;
}

/* ---- waiting ---- */

static void sleep_once(void)
{
	/* sti holds interrupts off until hlt has begun: none is missed in between. */
	__asm__ volatile("sti; hlt; cli" : : : "memory");
}

static uint32_t ticks(void)
{
	return interrupts_taken[VECTOR_LINE + LINE_TICK];
}

void doze(const char *what)
{
	if (ticks() > deadline) {
		print("failed=out of time, waiting for %s\n", what);
		leave(1);
	}
	sleep_once();
}

void wait_count(const char *what, const volatile uint32_t *counter, uint32_t wanted)
{
	while ((int32_t)(*counter - wanted) < 0)
		doze(what);
	expect(what, *counter, wanted);
}

void settle(void)
{
	for (uint32_t end = ticks() + 3; (int32_t)(ticks() - end) < 0;)
		sleep_once();
}
