/* SPDX-License-Identifier: MIT */
#include "machine.h"

#include "../common/words.h"

#include <stdarg.h>

/* Semihosting: operations, and the reason for an exit that carries a status. */
enum { SYS_WRITE0 = 0x04, SYS_GET_CMDLINE = 0x15, SYS_EXIT = 0x18, SYS_EXIT_EXTENDED = 0x20 };
#define APPLICATION_EXIT 0x20026u

#define UART_DATA    0x00
#define UART_FLAGS   0x18
#define UART_TX_FULL 0x20u

int main(void); /* the firmware */
void start(void);
void dispatch(void);

extern uint32_t stack_top[], bss_start[], bss_end[], data_start[], data_end[], data_load[];

/* ---- start ---- */

handler *volatile handlers[16 + INTERRUPTS];

/* All exceptions come here; a firmware may have a dispatch() of its own. */
__attribute__((weak)) void dispatch(void)
{
	uint32_t number = exception_number();

	if (number >= 16 + INTERRUPTS || handlers[number] == NULL) {
		print("failed=exception %u\n", number);
		leave(1);
	}
	handlers[number]();
}

__attribute__((section(".vectors"), used)) static const struct {
	uint32_t *stack;
	handler *reset, *others[14 + INTERRUPTS];
} vectors = {stack_top, start, {[0 ... 13 + INTERRUPTS] = dispatch}};

void start(void)
{
	const uint32_t *from = data_load;

	for (uint32_t *to = data_start; to < data_end; to++)
		*to = *from++;
	for (uint32_t *to = bss_start; to < bss_end; to++)
		*to = 0;
	leave((unsigned)main());
}

void interrupt_on(unsigned line, handler *function)
{
	handlers[16 + line] = function;
	*reg(NVIC_ISER + line / 32 * 4) = 1u << line % 32;
}

void tick_start(uint32_t clock_hz, uint32_t hz, handler *tick)
{
	*reg(SYST_CSR) = 0;
	handlers[15] = tick;
	if (tick == NULL)
		return;
	*reg(SYST_RVR) = clock_hz / hz - 1;
	*reg(SYST_CVR) = 0;
	*reg(SYST_CSR) = 7; /* the processor's clock, with interrupt */
}

/* ---- semihosting ---- */

uint32_t semihost(uint32_t operation, const void *argument)
{
	register uint32_t r0 __asm__("r0") = operation;
	register const void *r1 __asm__("r1") = argument;

	__asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
	return r0;
}

void leave(unsigned status)
{
	const uint32_t block[2] = {APPLICATION_EXIT, status};

	semihost(SYS_EXIT_EXTENDED, block);
	for (;;)
		;
}

void fail(const char *why)
{
	print("failed=%s\n", why);
	leave(1);
}

void expect_equal(const char *function, const char *what, uint32_t got, uint32_t wanted)
{
	if (got == wanted)
		return;
	print("failed=%s: %s: 0x%x, not 0x%x\n", function, what, got, wanted);
	leave(1);
}

/* ---- the console ---- */

static uint32_t uart;
static char line[128]; /* what semihosting has not printed yet */
static unsigned used;

void console_uart(uint32_t base)
{
	uart = base;
}

static void print_char(char c)
{
	if (uart != 0) {
		while ((*reg(uart + UART_FLAGS) & UART_TX_FULL) != 0)
			;
		*reg(uart + UART_DATA) = (uint8_t)c;
		return;
	}
	line[used++] = c;
	if (c == '\n' || used == sizeof(line) - 1) {
		line[used] = '\0';
		used = 0;
		semihost(SYS_WRITE0, line);
	}
}

static void print_text(const char *text)
{
	while (*text != '\0')
		print_char(*text++);
}

static void print_number(uint32_t value, uint32_t base)
{
	char text[11];
	char *at = &text[sizeof(text) - 1];

	*at = '\0';
	do {
		*--at = "0123456789abcdef"[value % base];
		value /= base;
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
			print_number(va_arg(list, uint32_t), 10);
			break;
		case 'x':
			print_number(va_arg(list, uint32_t), 16);
			break;
		case 'c':
			print_char((char)va_arg(list, int));
			break;
		}
	}
	va_end(list);
}

/* ---- the command line ---- */

/* Fetched once: the text, empty if there is none. */
static const char *command_line(void)
{
	static char text[256];
	static bool fetched;
	uint32_t block[2] = {(uint32_t)text, sizeof(text)};

	if (!fetched && semihost(SYS_GET_CMDLINE, block) != 0)
		text[0] = '\0';
	fetched = true;
	return text;
}

unsigned parameter(const char *name, unsigned otherwise)
{
	return words_number(command_line(), name, otherwise);
}

bool parameter_is(const char *name, const char *value)
{
	return words_are(command_line(), name, value);
}
