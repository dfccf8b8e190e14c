/* SPDX-License-Identifier: MIT */
#include "machine.h"

#include "../common/words.h"

#include <stdarg.h>
#include <stddef.h>

#define SERIAL             0x3f8
#define SERIAL_STATUS      (SERIAL + 5)
#define SERIAL_STATUS_IDLE 0x20

#define DEBUG_EXIT 0xf4 /* iobase of isa-debug-exit */

#define RESET_CONTROL    0xcf9
#define KEYBOARD_COMMAND 0x64

#define TIMER_HZ       1193182
#define TIMER_2        0x42
#define TIMER_COMMAND  0x43
#define TIMER_2_GATE   0x61
#define GATE_ON        0x01
#define GATE_OUTPUT    0x20
#define MEASURED_TICKS (TIMER_HZ / 100)
#define MEASURED_NS    10000000

/* Without a C library the compiler still calls these. */
void *memset(void *to, int byte, size_t size);
void *memcpy(void *to, const void *from, size_t size);

void *memset(void *to, int byte, size_t size)
{
	void *at = to;
	__asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(byte) : "memory");
	return to;
}

void *memcpy(void *to, const void *from, size_t size)
{
	void *at = to;
	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size) : : "memory");
	return to;
}

/* ---- the console ---- */

static void print_char(char c)
{
	while ((inb(SERIAL_STATUS) & SERIAL_STATUS_IDLE) == 0)
		;
	outb(SERIAL, (uint8_t)c);
}

static void print_text(const char *text)
{
	while (*text != '\0')
		print_char(*text++);
}

static void print_hex(uint64_t value)
{
	unsigned shift = 60;

	while (shift > 0 && value >> shift == 0)
		shift -= 4;
	for (;; shift -= 4) {
		print_char("0123456789abcdef"[value >> shift & 0xf]);
		if (shift == 0)
			break;
	}
}

static void print_decimal(uint32_t value)
{
	char text[11];
	char *at = &text[sizeof(text) - 1];

	*at = '\0';
	do {
		*--at = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	print_text(at);
}

void print(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	for (; *format != '\0'; format++) {
		if (*format != '%') {
			print_char(*format);
			continue;
		}
		switch (*++format) {
		case 's':
			print_text(va_arg(list, const char *));
			break;
		case 'u':
			print_decimal(va_arg(list, unsigned));
			break;
		case 'x':
			print_hex(va_arg(list, unsigned));
			break;
		case 'l': /* llx */
			format += 2;
			print_hex(va_arg(list, unsigned long long));
			break;
		}
	}
	va_end(list);
}

/* ---- the command line ---- */

static const char *command_line;

void parameters_init(const void *information)
{
	/* struct hvm_start_info: the command line's address is a 64-bit number at offset 24. */
	command_line = (const char *)*(const uint32_t *)((const char *)information + 24);
}

unsigned parameter(const char *name, unsigned otherwise)
{
	return words_number(command_line, name, otherwise);
}

bool parameter_is(const char *name, const char *value)
{
	return words_are(command_line, name, value);
}

/* ---- the end ---- */

static __attribute__((noreturn)) void stop(void)
{
	for (;;)
		__asm__ volatile("cli; hlt");
}

void leave(unsigned code)
{
	outl(DEBUG_EXIT, code);
	stop();
}

void reset_machine(bool keyboard)
{
	if (keyboard)
		outb(KEYBOARD_COMMAND, 0xfe);
	else
		outb(RESET_CONTROL, 0x06);
	stop();
}

void expect_equal(const char *function, const char *what, uint64_t got, uint64_t wanted)
{
	if (got == wanted)
		return;
	print("failed=%s: %s: 0x%llx, not 0x%llx\n", function, what, got, wanted);
	leave(1);
}

/* ---- time ---- */

/* 64 bits through 32: there is no library to divide for us. The quotient must fit. */
static uint32_t multiply_divide(uint32_t a, uint32_t b, uint32_t divisor)
{
	__asm__("mull %1; divl %2" : "+&a"(a) : "r"(b), "r"(divisor) : "edx", "cc");
	return a;
}

/* Cycles in MEASURED_NS. */
static uint32_t measure_cycles(void)
{
	outb(TIMER_2_GATE, (uint8_t)((inb(TIMER_2_GATE) & ~3) | GATE_ON));
	outb(TIMER_COMMAND, 0xb0); /* timer 2, both bytes, count down once */
	outb(TIMER_2, MEASURED_TICKS & 0xff);
	outb(TIMER_2, MEASURED_TICKS >> 8);
	uint64_t start = cycles();
	while ((inb(TIMER_2_GATE) & GATE_OUTPUT) == 0)
		;
	return (uint32_t)(cycles() - start);
}

uint32_t nanoseconds(uint32_t n)
{
	static uint32_t measured;

	if (measured == 0) {
		/* The shortest of a few: the host may have been elsewhere in between. */
		measured = UINT32_MAX;
		for (unsigned i = 0; i < 5; i++) {
			uint32_t once = measure_cycles();
			if (once < measured)
				measured = once;
		}
	}
	return multiply_divide(n, MEASURED_NS, measured);
}

uint32_t median(uint32_t *values, unsigned count)
{
	for (unsigned gap = count / 2; gap > 0; gap /= 2) {
		for (unsigned i = gap; i < count; i++) {
			uint32_t value = values[i];
			unsigned at = i;
			for (; at >= gap && values[at - gap] > value; at -= gap)
				values[at] = values[at - gap];
			values[at] = value;
		}
	}
	return values[count / 2];
}
