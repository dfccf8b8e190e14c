/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. The operation is in r0, r1 points to a block of words or is the argument,
 * and r0 takes the result. All that the firmware says is an address in its own memory, which
 * core_read() and core_write() check; what is not there fails the call, as a missing file would.
 * Handles are 0 for the console's input and 1 and 2 for its outputs.
 *
 * Source: Arm's "Semihosting for AArch32 and AArch64".
 */
#include "semihosting.h"

#include "base/clock.h"
#include "base/le.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum operation {
	SYS_OPEN = 0x01,
	SYS_CLOSE = 0x02,
	SYS_WRITEC = 0x03,
	SYS_WRITE0 = 0x04,
	SYS_WRITE = 0x05,
	SYS_READ = 0x06,
	SYS_READC = 0x07,
	SYS_ISERROR = 0x08,
	SYS_ISTTY = 0x09,
	SYS_FLEN = 0x0c,
	SYS_CLOCK = 0x10,
	SYS_TIME = 0x11,
	SYS_ERRNO = 0x13,
	SYS_GET_CMDLINE = 0x15,
	SYS_HEAPINFO = 0x16,
	SYS_EXIT = 0x18,
	SYS_EXIT_EXTENDED = 0x20,
	SYS_ELAPSED = 0x30,
	SYS_TICKFREQ = 0x31,
};

#define FAILED           UINT32_MAX
#define APPLICATION_EXIT 0x20026u
#define CONSOLE_NAME     ":tt"
#define OPEN_MODES       12u
#define FIRST_WRITE_MODE 4u /* modes from here on write, from 8 on append */
#define FIRST_APPEND     8u
#define LONGEST_TEXT     65536u

enum { IN, OUT, ERR, HANDLES };

struct call {
	struct semihosting *host;
	struct core *core;
	uint32_t argument;
};

static uint32_t refuse(const struct call *call, int error)
{
	call->host->last_error = (uint32_t)error;
	return FAILED;
}

/* Words of the block that the argument points to. */
static bool get_block(const struct call *call, uint32_t *words, uint32_t n)
{
	uint8_t bytes[16];

	if (core_read(call->core, call->argument, bytes, n * 4) < 0)
		return false;
	for (uint32_t i = 0; i < n; i++)
		words[i] = (uint32_t)load_le(bytes + (size_t)i * 4, 4);
	return true;
}

static bool put_words(const struct call *call, uint32_t address, const uint32_t *words, uint32_t n)
{
	uint8_t bytes[16];

	for (uint32_t i = 0; i < n; i++)
		store_le(bytes + (size_t)i * 4, 4, words[i]);
	return core_write(call->core, address, bytes, 4 * n) == 0;
}

/* ---- the console ---- */

static uint32_t write_text(const struct call *call)
{
	uint8_t byte;

	for (uint32_t i = 0; i < LONGEST_TEXT; i++) {
		if (core_read(call->core, call->argument + i, &byte, 1) < 0 || byte == '\0')
			break;
		putchar(byte);
	}
	return 0;
}

static uint32_t write_char(const struct call *call)
{
	uint8_t byte;

	if (core_read(call->core, call->argument, &byte, 1) == 0)
		putchar(byte);
	return 0;
}

/* Returns how many bytes were not written, or read. */
static uint32_t transfer(const struct call *call, bool out)
{
	uint32_t words[3], done = 0;
	uint8_t byte;

	if (!get_block(call, words, 3) || words[0] >= HANDLES || out != (words[0] != IN))
		return refuse(call, EBADF);
	if (!out)
		fflush(stdout);
	for (; done < words[2]; done++) {
		uint32_t address = words[1] + done;
		if (out ? core_read(call->core, address, &byte, 1) < 0
			: read(STDIN_FILENO, &byte, 1) != 1)
			break;
		if (out)
			putc(byte, words[0] == ERR ? stderr : stdout);
		else if (core_write(call->core, address, &byte, 1) < 0)
			break;
		if (!out && byte == '\n')
			return words[2] - done - 1;
	}
	return words[2] - done;
}

static uint32_t read_char(void)
{
	uint8_t byte;

	fflush(stdout);
	return read(STDIN_FILENO, &byte, 1) == 1 ? byte : FAILED;
}

static uint32_t open_console(const struct call *call)
{
	uint32_t words[3];
	char name[sizeof(CONSOLE_NAME)] = "";

	if (!get_block(call, words, 3) || words[1] >= OPEN_MODES ||
		words[2] != sizeof(CONSOLE_NAME) - 1 ||
		core_read(call->core, words[0], name, words[2]) < 0 ||
		strcmp(name, CONSOLE_NAME) != 0)
		return refuse(call, EACCES);
	return words[1] < FIRST_WRITE_MODE ? IN : words[1] < FIRST_APPEND ? OUT : ERR;
}

static uint32_t is_console(const struct call *call)
{
	uint32_t handle;

	return get_block(call, &handle, 1) && handle < HANDLES ? 1 : refuse(call, EBADF);
}

/* ---- the rest ---- */

static uint32_t get_command_line(const struct call *call)
{
	uint32_t words[2];
	uint32_t size = (uint32_t)strlen(call->host->command_line) + 1;

	if (!get_block(call, words, 2) || words[1] < size ||
		core_write(call->core, words[0], call->host->command_line, size) < 0)
		return refuse(call, EINVAL);
	words[1] = size - 1;
	return put_words(call, call->argument, words, 2) ? 0 : refuse(call, EFAULT);
}

/* Where heap and stack may be is for the firmware's linker to say: zeros. The start of the RAM,
 * which others answer, is where its data are. */
static uint32_t heap_info(const struct call *call)
{
	static const uint32_t info[4];
	uint32_t address;

	return get_block(call, &address, 1) && put_words(call, address, info, 4)
		? 0
		: refuse(call, EFAULT);
}

static uint64_t elapsed(const struct call *call)
{
	return clock_ns() - call->host->start;
}

static uint32_t get_elapsed(const struct call *call)
{
	uint64_t ns = elapsed(call);
	const uint32_t words[2] = {(uint32_t)ns, (uint32_t)(ns >> 32)};

	return put_words(call, call->argument, words, 2) ? 0 : refuse(call, EFAULT);
}

static int exit_status(const struct call *call, uint32_t operation)
{
	uint32_t words[2] = {call->argument, 0};

	if (operation == SYS_EXIT_EXTENDED && !get_block(call, words, 2))
		return 1;
	return words[0] == APPLICATION_EXIT ? (int)(words[1] & 0xff) : 1;
}

static uint32_t serve(const struct call *call, uint32_t operation)
{
	switch (operation) {
	case SYS_OPEN:
		return open_console(call);
	case SYS_CLOSE:
		return is_console(call) == 1 ? 0 : FAILED;
	case SYS_WRITEC:
		return write_char(call);
	case SYS_WRITE0:
		return write_text(call);
	case SYS_WRITE:
		return transfer(call, true);
	case SYS_READ:
		return transfer(call, false);
	case SYS_READC:
		return read_char();
	case SYS_ISERROR:
		return call->argument == FAILED;
	case SYS_ISTTY:
		return is_console(call);
	case SYS_FLEN:
		return is_console(call) == 1 ? 0 : FAILED;
	case SYS_CLOCK:
		return (uint32_t)(elapsed(call) / 10000000);
	case SYS_TIME:
		return (uint32_t)time(NULL);
	case SYS_ERRNO:
		return call->host->last_error;
	case SYS_GET_CMDLINE:
		return get_command_line(call);
	case SYS_HEAPINFO:
		return heap_info(call);
	case SYS_ELAPSED:
		return get_elapsed(call);
	case SYS_TICKFREQ:
		return 1000000000;
	default:
		return refuse(call, ENOSYS);
	}
}

bool semihosting_serve(struct semihosting *host, struct core *core, int *status)
{
	struct call call = {.host = host, .core = core, .argument = core_register(core, 1)};
	uint32_t operation = core_register(core, 0);

	if (operation == SYS_EXIT || operation == SYS_EXIT_EXTENDED) {
		*status = exit_status(&call, operation);
		return true;
	}
	core_set_register(core, 0, serve(&call, operation));
	return false;
}
