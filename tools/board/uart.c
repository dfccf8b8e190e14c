/* SPDX-License-Identifier: MIT */
#include "uart.h"

#include <string.h>

/* Offsets of registers, and bits of them. */
enum {
	DATA = 0x00,
	FLAGS = 0x18,
	CONTROL = 0x30,
	FIFO_LEVELS = 0x34,
	MASK = 0x38,
	RAW = 0x3c,
	MASKED = 0x40,
	CLEAR = 0x44,
	KEPT_END = 0x4c, /* what lies below and is not listed keeps what is written */
	IDENTITY = 0xfe0,
};

enum {
	RX_EMPTY = 1 << 4,
	RX_FULL = 1 << 6,
	TX_EMPTY = 1 << 7,
	RECEIVED = 1 << 4,
	SENT = 1 << 5,
	TIMED_OUT = 1 << 6,
	ALL_INTERRUPTS = 0x7ff,
	RX_INTERRUPTS = RECEIVED | TIMED_OUT,
};

static void settle(struct uart *uart)
{
	bool level = (uart->raised & uart->registers[MASK / 4]) != 0;

	if (level == uart->level)
		return;
	uart->level = level;
	uart->line(uart->data, level);
}

void uart_reset(struct uart *uart)
{
	memset(uart->registers, 0, sizeof(uart->registers));
	uart->registers[CONTROL / 4] = 0x300; /* sending and receiving, not yet enabled */
	uart->registers[FIFO_LEVELS / 4] = 0x12;
	uart->waiting = 0;
	uart->used = false;
	uart->raised = 0;
	settle(uart);
}

static uint32_t take(struct uart *uart)
{
	uint8_t byte = uart->fifo[uart->first];

	if (uart->waiting == 0)
		return 0;
	uart->first = (uart->first + 1) % UART_FIFO;
	uart->waiting--;
	if (uart->waiting == 0)
		uart->raised &= ~RX_INTERRUPTS;
	settle(uart);
	return byte;
}

static uint32_t flags(const struct uart *uart)
{
	return TX_EMPTY | (uart->waiting == 0 ? RX_EMPTY : 0) |
		(uart->waiting == UART_FIFO ? RX_FULL : 0);
}

uint32_t uart_read(struct uart *uart, uint32_t offset)
{
	/* Who it is, a byte in each word. */
	static const uint8_t identity[] = {0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1};

	switch (offset & ~3u) {
	case DATA:
		uart->used = true;
		return take(uart);
	case FLAGS:
		uart->used = true;
		return flags(uart);
	case RAW:
		return uart->raised;
	case MASKED:
		return uart->raised & uart->registers[MASK / 4];
	default:
		if (offset < KEPT_END)
			return uart->registers[offset / 4];
		return offset < IDENTITY ? 0 : identity[(offset - IDENTITY) / 4 % 8];
	}
}

void uart_write(struct uart *uart, uint32_t offset, uint32_t value)
{
	switch (offset & ~3u) {
	case DATA:
		uart->send(uart->data, (uint8_t)value);
		uart->raised |= SENT;
		break;
	case MASK:
		uart->registers[MASK / 4] = value & ALL_INTERRUPTS;
		uart->used |= (value & RX_INTERRUPTS) != 0;
		break;
	case CLEAR:
		uart->raised &= ~value;
		break;
	default:
		if (offset < KEPT_END)
			uart->registers[offset / 4] = value;
		return;
	}
	settle(uart);
}

unsigned uart_room(const struct uart *uart)
{
	return uart->used ? UART_FIFO - uart->waiting : 0;
}

void uart_receive(struct uart *uart, uint8_t byte)
{
	if (uart->waiting == UART_FIFO)
		return;
	uart->fifo[(uart->first + uart->waiting) % UART_FIFO] = byte;
	uart->waiting++;
	uart->raised |= RX_INTERRUPTS; /* the line is idle right after each byte */
	settle(uart);
}
