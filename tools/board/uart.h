/* SPDX-License-Identifier: MIT */
/*
 * uart - a PL011 UART whose line is infinitely fast: what is sent is gone at once, and what comes
 * in waits in the receive FIFO. Pure: accesses in, characters and an interrupt line out.
 */
#ifndef BOARD_UART_H
#define BOARD_UART_H

#include <stdbool.h>
#include <stdint.h>

#define UART_FIFO 16u

struct uart {
	void (*send)(void *data, uint8_t byte);
	void (*line)(void *data, bool level); /* of its interrupt; called on changes */
	void *data;

	uint8_t fifo[UART_FIFO];
	unsigned first, waiting; /* the oldest byte, and how many there are */
	uint32_t registers[0x60 / 4];
	uint32_t raised; /* raw interrupts */
	bool used; /* the firmware has looked whether something has come, or wants to be told */
	bool level;
};

/* As after reset; `send`, `line` and `data` have been set. */
void uart_reset(struct uart *uart);

/* The registers, 4 KiB of them. */
uint32_t uart_read(struct uart *uart, uint32_t offset);
void uart_write(struct uart *uart, uint32_t offset, uint32_t value);

/* How many bytes can come in, none before the firmware uses it; and one that does. */
unsigned uart_room(const struct uart *uart);
void uart_receive(struct uart *uart, uint8_t byte);

#endif
