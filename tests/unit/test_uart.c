/* SPDX-License-Identifier: MIT */
/* The board's UART, as a driver for a PL011 uses it. */
#include "../common/fdcheck.h"

#include "../../tools/board/uart.h"

#include <string.h>

enum {
	DATA = 0,
	FLAGS = 0x18,
	CONTROL = 0x30,
	MASK = 0x38,
	RAW = 0x3c,
	MASKED = 0x40,
	CLEAR = 0x44
};
enum { RX_EMPTY = 0x10, RX_FULL = 0x40, RX = 0x10, TX = 0x20, RX_TIMEOUT = 0x40 };

static struct uart uart;
static char sent[16];
static bool level;

static void send(void *data, uint8_t byte)
{
	assert_ptr_equal(data, &uart);
	sent[strlen(sent)] = (char)byte;
}

static void line(void *data, bool now)
{
	assert_ptr_equal(data, &uart);
	assert_true(now != level); /* on changes only */
	level = now;
}

static int set_up(void **state)
{
	(void)state;
	memset(sent, 0, sizeof(sent));
	level = false;
	uart = (struct uart){.send = send, .line = line, .data = &uart};
	uart_reset(&uart);
	return 0;
}

static void test_send(void **state)
{
	(void)state;
	uart_write(&uart, DATA, 'h');
	uart_write(&uart, DATA, 0x100 | 'i');
	assert_string_equal(sent, "hi");
	assert_int_equal(uart_read(&uart, FLAGS), 0x90); /* nothing left to send, nothing come */
	assert_int_equal(uart_read(&uart, RAW), TX);
	assert_false(level);
	uart_write(&uart, MASK, TX);
	assert_true(level);
	assert_int_equal(uart_read(&uart, MASKED), TX);
	uart_write(&uart, CLEAR, TX);
	assert_false(level);
	assert_int_equal(uart_read(&uart, RAW), 0);
}

static void test_receive(void **state)
{
	(void)state;
	assert_int_equal(uart_room(&uart), 0); /* who does not look leaves it to others */
	uart_write(&uart, MASK, RX);
	assert_int_equal(uart_room(&uart), UART_FIFO);
	for (unsigned i = 0; i < UART_FIFO; i++)
		uart_receive(&uart, (uint8_t)('a' + i));
	assert_true(level);
	assert_int_equal(uart_room(&uart), 0);
	assert_true(uart_read(&uart, FLAGS) & RX_FULL);
	uart_receive(&uart, 'z'); /* no room: as on the wire, it is lost */
	for (unsigned i = 0; i < UART_FIFO; i++) {
		assert_true(level);
		assert_int_equal(uart_read(&uart, DATA), 'a' + i);
	}
	assert_false(level);
	assert_true(uart_read(&uart, FLAGS) & RX_EMPTY);
	assert_int_equal(uart_read(&uart, DATA), 0);
	uart_receive(&uart, 'y'); /* round the corner */
	assert_int_equal(uart_read(&uart, RAW), RX | RX_TIMEOUT);
	assert_int_equal(uart_read(&uart, DATA), 'y');
}

static void test_registers(void **state)
{
	(void)state;
	assert_int_equal(uart_read(&uart, CONTROL), 0x300);
	uart_write(&uart, CONTROL, 0x301);
	assert_int_equal(uart_read(&uart, CONTROL), 0x301);
	assert_int_equal(uart_read(&uart, 0xfe0), 0x11);
	assert_int_equal(uart_read(&uart, 0xffc), 0xb1);
	for (uint32_t offset = 0; offset < 4096; offset++) { /* all 4 KiB are harmless */
		uart_write(&uart, offset, UINT32_MAX);
		uart_read(&uart, offset);
		memset(sent, 0, sizeof(sent));
	}
	assert_int_equal(uart_read(&uart, 0x800), 0);
	uart_reset(&uart);
	assert_false(level);
	assert_int_equal(uart_read(&uart, CONTROL), 0x300);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_send, set_up),
		cmocka_unit_test_setup(test_receive, set_up),
		cmocka_unit_test_setup(test_registers, set_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
