/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. Firmware for the lm3s6965 starts with things that it does not need here: it
 * switches clocks on, sets up all three UARTs, configures pins. QEMU's board lets it, and so does
 * this: where QEMU has a device that no firmware for ivshmem needs, or nothing at all, reading
 * gives 0 and writing does nothing. It is told once for each page, to whoever asks for it
 * (--verbose), because a device that is missing can be why a firmware does not work.
 */
#include "peripherals.h"

#include <stdio.h>
#include <string.h>

#define SYSTEM_CONTROL 0x400fe000u
#define MOST_PAGES     128u
#define UART1          0x4000d000u
#define UART2          0x4000e000u
#define RAW_INTERRUPTS 0x50u /* of the system control... */
#define PLL_LOCKED     0x40u /* ...and what firmware waits for there */

/* ---- UARTs ---- */

static uint32_t read_uart(void *data, uint32_t offset, unsigned size)
{
	(void)size;
	return uart_read(data, offset);
}

static void write_uart(void *data, uint32_t offset, unsigned size, uint32_t value)
{
	(void)size;
	uart_write(data, offset, value);
}

static void to_terminal(void *data, uint8_t byte)
{
	(void)data;
	putchar(byte);
}

static void to_nowhere(void *data, uint8_t byte)
{
	(void)data;
	(void)byte;
}

static void uart_line(void *data, bool level)
{
	const struct uart_at *at = data;

	core_line(at->core, at->irq, level);
}

static int map_uart(struct peripherals *peripherals, unsigned number, uint32_t address)
{
	static const unsigned irqs[] = {5, 6, 33};
	struct uart_at *at = &peripherals->uarts[number];
	const struct core_device device = {
		.read = read_uart, .write = write_uart, .data = &at->uart};

	at->core = peripherals->core;
	at->irq = irqs[number];
	at->uart.send = number == 0 ? to_terminal : to_nowhere;
	at->uart.line = uart_line;
	at->uart.data = at;
	return core_map_device(peripherals->core, address, CORE_PAGE, &device);
}

/* ---- system control ---- */

/* There are no clocks to set: it keeps what is written, and the one thing that firmware waits for
 * has always happened. */
static uint32_t read_system_control(void *data, uint32_t offset, unsigned size)
{
	(void)size;
	return offset == RAW_INTERRUPTS ? PLL_LOCKED : ((uint32_t *)data)[offset / 4];
}

static void write_system_control(void *data, uint32_t offset, unsigned size, uint32_t value)
{
	(void)size;
	((uint32_t *)data)[offset / 4] = value;
}

/* ---- nothing ---- */

/* Told once for each page. */
static void tell(const struct vacancy *vacancy, uint32_t offset)
{
	uint32_t address = vacancy->address + offset;
	bool *told = &vacancy->peripherals->told[(address - PERIPHERALS) / CORE_PAGE];

	if (!*told)
		log_debug(vacancy->peripherals->log,
			"the firmware looks for a device at 0x%08x: there is none", address);
	*told = true;
}

static uint32_t read_nothing(void *data, uint32_t offset, unsigned size)
{
	(void)size;
	tell(data, offset);
	return 0;
}

static void write_nothing(void *data, uint32_t offset, unsigned size, uint32_t value)
{
	(void)size;
	(void)value;
	tell(data, offset);
}

/* Make nothing of these pages, if all of them are free. */
static bool vacate(struct peripherals *peripherals, uint32_t page, uint32_t pages)
{
	struct vacancy *vacancy = &peripherals->vacancies[peripherals->n_vacancies];
	const struct core_device device = {
		.read = read_nothing, .write = write_nothing, .data = vacancy};

	*vacancy = (struct vacancy){peripherals, PERIPHERALS + page * CORE_PAGE};
	if (page + pages > PERIPHERAL_PAGES ||
		core_map_device(peripherals->core, vacancy->address, pages * CORE_PAGE, &device) <
			0)
		return false;
	peripherals->n_vacancies++;
	return true;
}

/* Whatever is not taken. What the user has put there makes holes, and a mapping is of one piece. */
static void map_nothing(struct peripherals *peripherals)
{
	uint32_t page = 0;

	while (page < PERIPHERAL_PAGES && peripherals->n_vacancies < VACANCIES) {
		uint32_t pages = MOST_PAGES;
		while (pages > 0 && !vacate(peripherals, page, pages))
			pages /= 2;
		page += pages > 0 ? pages : 1;
	}
}

/* ---- all of it ---- */

int peripherals_map(struct peripherals *peripherals, const struct config *config, struct core *core,
	struct log *log)
{
	const struct core_device control = {.read = read_system_control,
		.write = write_system_control,
		.data = peripherals->system_control};

	*peripherals = (struct peripherals){.core = core, .log = log};
	if (map_uart(peripherals, 0, config->uart) < 0) {
		log_error(log, "0x%08x is taken: give the UART another place by --uart",
			config->uart);
		return -1;
	}
	/* Where the user has put something else, these are not. */
	map_uart(peripherals, 1, UART1);
	map_uart(peripherals, 2, UART2);
	core_map_device(core, SYSTEM_CONTROL, CORE_PAGE, &control);
	map_nothing(peripherals);
	peripherals_reset(peripherals);
	return 0;
}

void peripherals_reset(struct peripherals *peripherals)
{
	memset(peripherals->system_control, 0, sizeof(peripherals->system_control));
	for (unsigned i = 0; i < 3; i++)
		uart_reset(&peripherals->uarts[i].uart);
}
