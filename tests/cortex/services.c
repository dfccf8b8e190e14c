/* SPDX-License-Identifier: MIT */
/*
 * What the board offers besides the processor and the ivshmem device: UART, semihosting, reset.
 * What is tried, "role=NAME" decides.
 */
#include "machine.h"

#define UART       0x4000c000u
#define UART_IRQ   5u
#define UART_DATA  0x00u
#define UART_FLAGS 0x18u
#define UART_EMPTY 0x10u
#define UART_MASK  0x38u
#define UART_RX    0x50u

#define SYSTEM_CONTROL 0x400fe000u
#define WINDOW         0x400ff000u
#define MEMORY         0x40100000u

enum {
	SYS_OPEN = 0x01,
	SYS_CLOSE = 0x02,
	SYS_WRITEC = 0x03,
	SYS_WRITE = 0x05,
	SYS_READ = 0x06,
	SYS_READC = 0x07,
	SYS_ISTTY = 0x09,
	SYS_CLOCK = 0x10,
	SYS_TIME = 0x11,
	SYS_ERRNO = 0x13,
	SYS_GET_CMDLINE = 0x15,
	SYS_HEAPINFO = 0x16,
	SYS_EXIT = 0x18,
	SYS_ELAPSED = 0x30,
	SYS_TICKFREQ = 0x31,
	SYS_UNKNOWN = 0x99,
};

#define FAILED  0xffffffffu
#define NOWHERE ((const void *)0x60000000)

int main(void);

/* ---- the UART ---- */

static volatile bool quit;

static void received(void)
{
	while ((*reg(UART + UART_FLAGS) & UART_EMPTY) == 0) {
		char c = (char)*reg(UART + UART_DATA);
		quit |= c == 'q';
		print("%c", c == '\n' ? '\n' : c + 1);
	}
}

/* Echo each character's successor, by interrupt, until there comes a q. */
static void uart(void)
{
	console_uart(UART);
	print("ready\n");
	*reg(UART + UART_MASK) = UART_RX;
	interrupt_on(UART_IRQ, received);
	while (!quit)
		wait_for_interrupt();
	print("\n");
	leave(5);
}

/* ---- semihosting ---- */

static uint32_t open_file(const char *name, uint32_t mode)
{
	uint32_t block[3] = {(uint32_t)name, mode, 0};

	while (name[block[2]] != '\0')
		block[2]++;
	return semihost(SYS_OPEN, block);
}

static void files(void)
{
	uint32_t in = open_file(":tt", 0), out = open_file(":tt", 4), error = open_file(":tt", 8);
	const uint32_t text[3] = {out, (uint32_t) "out\n", 4},
		       more[3] = {error, (uint32_t) "err\n", 4};
	const uint32_t to_input[3] = {in, (uint32_t) "no", 2};
	const uint32_t far[3] = {out, (uint32_t)NOWHERE, 5}, unknown = 7;

	expect("writing", semihost(SYS_WRITE, text), 0);
	expect("writing", semihost(SYS_WRITE, more), 0);
	expect("writing to the input", semihost(SYS_WRITE, to_input), FAILED);
	expect("writing from nowhere", semihost(SYS_WRITE, far), 5);
	expect("terminal", semihost(SYS_ISTTY, &out), 1);
	expect("terminal", semihost(SYS_ISTTY, &unknown), FAILED);
	expect("errno", semihost(SYS_ERRNO, NULL), 9);
	expect("closing", semihost(SYS_CLOSE, &out), 0);
	expect("a file of the host", open_file("/etc/passwd", 0), FAILED);
	expect("errno", semihost(SYS_ERRNO, NULL), 13);
	expect("no name", semihost(SYS_OPEN, NOWHERE), FAILED);
	semihost(SYS_WRITEC, "!");
	semihost(SYS_WRITEC, "\n");
}

static void input(void)
{
	char text[8];
	const uint32_t line[3] = {open_file(":tt", 0), (uint32_t)text, sizeof(text)};

	expect("a character", semihost(SYS_READC, NULL), 'x');
	expect("a line", semihost(SYS_READ, line), 5); /* bytes that were not filled */
	expect("a line", (uint32_t)text[0] << 16 | (uint32_t)text[1] << 8 | (uint32_t)text[2],
		'y' << 16 | 'z' << 8 | '\n');
	expect("the end", semihost(SYS_READ, line), sizeof(text));
	expect("the end", semihost(SYS_READC, NULL), FAILED);
}

static void times(void)
{
	uint32_t first[2], later[2], heap[4], address = (uint32_t)heap;

	expect("frequency", semihost(SYS_TICKFREQ, NULL), 1000000000);
	expect("elapsed", semihost(SYS_ELAPSED, first), 0);
	expect("clock", semihost(SYS_CLOCK, NULL) < 6000,
		true); /* less than a minute, in 1/100 s */
	expect("elapsed", semihost(SYS_ELAPSED, later), 0);
	expect("time goes on", later[1] > first[1] || later[0] > first[0], true);
	expect("years since 1970", semihost(SYS_TIME, NULL) / (365 * 86400) > 50, true);
	expect("heap", semihost(SYS_HEAPINFO, &address), 0);
	expect("heap's base", heap[0], 0); /* the linker knows better */
}

static void semihosting(void)
{
	char small[4];
	const uint32_t block[2] = {(uint32_t)small, sizeof(small)};

	files();
	input();
	times();
	expect("command line", semihost(SYS_GET_CMDLINE, block), FAILED);
	expect("command line", semihost(SYS_GET_CMDLINE, NOWHERE), FAILED);
	expect("unknown", semihost(SYS_UNKNOWN, NULL), FAILED);
	expect("errno", semihost(SYS_ERRNO, NULL), 38);
	print("word=%u\n", parameter("word", 0));
}

/* ---- reset, and how it can end ---- */

/* RAM keeps what it had, but for what the start-up code clears: so behind that. */
static void reset(void)
{
	volatile uint32_t *resets = reg(0x20008000);

	print("start %u\n", ++*resets);
	if (*resets == 3)
		return;
	*reg(SCB_AIRCR) = 0x05fa0004;
	for (;;)
		;
}

static void plain_exit(void)
{
	semihost(SYS_EXIT, (const void *)parameter("reason", 0));
}

static void lock_up(void)
{
	handlers[3] = (handler *)0x60000001;
	*reg(0x60000000) = 1;
}

static void system_control(void)
{
	*reg(SYSTEM_CONTROL + 0x60) = 0x12345678;
	expect("what was written", *reg(SYSTEM_CONTROL + 0x60), 0x12345678);
	expect("the PLL has locked", *reg(SYSTEM_CONTROL + 0x50), 0x40);
}

static void passed(void)
{
	leave(0);
}

/* The page goes on behind the window's 16 bytes, the device does not. */
static void beyond(void)
{
	handlers[3] = passed;
	(void)*reg(WINDOW + 12);
	(void)*reg(WINDOW + 16);
	fail("no fault behind the window");
}

/* The server has more memory than the board shows. */
static void memory(void)
{
	uint32_t end = MEMORY + parameter("size", 0);

	*reg(end - 4) = 1;
	expect("the last word", *reg(end - 4), 1);
	handlers[3] = passed;
	(void)*reg(end);
	fail("no fault behind the memory");
}

/* Rung while it asks the board for something all the time, as a loop that prints does. */
static void busy(void)
{
	uint32_t start = semihost(SYS_CLOCK, NULL);

	interrupt_on(40, passed);
	*reg(WINDOW + 12) = *reg(WINDOW + 8) << 16; /* our own doorbell */
	while (semihost(SYS_CLOCK, NULL) - start < 1000)
		;
	fail("not rung in 10 s");
}

/* Rung by somebody as soon as there is anybody to ring. */
static void first(void)
{
	uint32_t start = semihost(SYS_CLOCK, NULL);

	interrupt_on(40, passed);
	while (semihost(SYS_CLOCK, NULL) - start < 500)
		;
	fail("not rung in 5 s");
}

static void resets(void)
{
	*reg(SCB_AIRCR) = 0x05fa0004;
	for (;;)
		;
}

/* What is not there is no fault, as on QEMU's board. */
static void vacant(void)
{
	*reg(0x40030000) = 1;
	expect("nothing", *reg(0x40030000), 0);
	*reg(0x4000d000) = 'x'; /* a UART that leads nowhere */
	expect("another UART", *reg(0x4000d018), 0x90);
}

static void prompt(void)
{
	console_uart(UART);
	print("prompt> ");
	for (;;)
		;
}

static void spin(void)
{
	print("spinning\n");
	for (;;)
		;
}

static const struct {
	const char *name;
	handler *run;
} roles[] = {
	{"uart", uart},
	{"semihosting", semihosting},
	{"reset", reset},
	{"exit", plain_exit},
	{"lockup", lock_up},
	{"control", system_control},
	{"beyond", beyond},
	{"memory", memory},
	{"busy", busy},
	{"first", first},
	{"resets", resets},
	{"vacant", vacant},
	{"prompt", prompt},
	{"spin", spin},
};

int main(void)
{
	for (unsigned i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
		if (parameter_is("role", roles[i].name)) {
			roles[i].run();
			return 0;
		}
	}
	fail("no such role");
}
