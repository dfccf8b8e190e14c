/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. One thread: the processor runs until it has run for a while or sleeps, then
 * the board looks at what comes from outside. A firmware that sleeps has nobody between a doorbell
 * and itself but one poll(): with a second thread, which could look while the processor runs, each
 * interrupt would take another thread's waking up. What it costs is that a doorbell that comes
 * while the processor is busy waits for the end of the while, a tenth of a millisecond.
 */
#include "board.h"

#include "base/clock.h"

#include "image.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LARGEST_FIRMWARE (64u << 20)

/* ---- the address space ---- */

static int map_memory(
	struct board *board, const char *name, const struct place *place, uint8_t **memory)
{
	*memory = aligned_alloc(CORE_PAGE, place->size);
	if (!*memory) {
		log_error(board->log, "no memory for %u bytes of %s", place->size, name);
		return -1;
	}
	memset(*memory, 0, place->size);
	if (core_map_memory(board->core, place->address, place->size, *memory) == 0)
		return 0;
	log_error(board->log, "0x%08x is taken: give the %s another place by --%s", place->address,
		name, name);
	return -1;
}

/* ---- the firmware ---- */

/* The whole file; NULL after having said why not. */
static uint8_t *read_file(struct board *board, size_t *size)
{
	const char *path = board->config->firmware;
	FILE *file = fopen(path, "rbe");
	uint8_t *bytes = malloc(LARGEST_FIRMWARE);

	if (!file || !bytes) {
		log_error(board->log, "%s: %s", path, strerror(errno));
	} else {
		*size = fread(bytes, 1, LARGEST_FIRMWARE, file);
		if (!ferror(file) && *size < LARGEST_FIRMWARE) {
			fclose(file);
			return bytes;
		}
		log_error(board->log, "%s: %s", path,
			ferror(file) ? strerror(errno) : "larger than 64 MiB");
	}
	if (file)
		fclose(file);
	free(bytes);
	return NULL;
}

/* Where `address` is in the host's memory, if `size` bytes from it on are in one of ours. */
static uint8_t *memory_at(struct board *board, uint32_t address, uint32_t size)
{
	const struct place places[] = {board->config->flash, board->config->ram};
	uint8_t *const memories[] = {board->flash, board->ram};

	for (size_t i = 0; i < 2; i++) {
		uint32_t offset = address - places[i].address;
		if (address >= places[i].address && offset <= places[i].size &&
			size <= places[i].size - offset)
			return memories[i] + offset;
	}
	return NULL;
}

static int load_segments(struct board *board, const struct image *image)
{
	struct image_segment segment;

	for (unsigned i = 0; i < image->n_headers; i++) {
		if (!image_segment(image, i, &segment))
			continue;
		uint8_t *to = memory_at(board, segment.address, segment.size);
		if (!to) {
			log_error(board->log,
				"%s: %u bytes at 0x%08x are neither in the flash nor in the RAM: "
				"see --flash, --ram and their sizes",
				board->config->firmware, segment.size, segment.address);
			return -1;
		}
		memcpy(to, segment.bytes, segment.size);
		log_debug(board->log, "loaded %u bytes at 0x%08x", segment.size, segment.address);
	}
	return 0;
}

static int load_firmware(struct board *board)
{
	struct image image;
	size_t size;
	uint8_t *file = read_file(board, &size);
	int result = -1;

	if (!file)
		return -1;
	const char *wrong = image_open(&image, file, size);
	if (wrong)
		log_error(board->log, "%s: %s", board->config->firmware, wrong);
	else
		result = load_segments(board, &image);
	free(file);
	return result;
}

/* ---- open and close ---- */

static int open_core(struct board *board)
{
	const struct core_config core = {
		.kind = board->config->machine->kind,
		.interrupts = board->config->machine->interrupts,
		.clock_hz = board->config->clock_hz,
	};
	int error = core_open(&board->core, &core);

	if (error < 0)
		log_error(board->log, "cannot make a processor: %s", strerror(-error));
	return error;
}

int board_open(struct board *board, const struct config *config, struct log *log)
{
	*board = (struct board){.config = config, .log = log, .input = true};
	board->host =
		(struct semihosting){.command_line = config->command_line, .start = clock_ns()};
	if (open_core(board) < 0 || map_memory(board, "flash", &config->flash, &board->flash) < 0 ||
		map_memory(board, "ram", &config->ram, &board->ram) < 0 ||
		peripherals_map(&board->peripherals, config, board->core, log) < 0 ||
		load_firmware(board) < 0)
		return -1;
	/* Before anybody can ring: a reset forgets what is pending. */
	core_reset(board->core);
	if (config->server && window_open(&board->window, config, board->core, log) < 0)
		return -1;
	return 0;
}

void board_close(struct board *board)
{
	core_close(board->core);
	window_close(&board->window);
	free(board->flash);
	free(board->ram);
}

/* ---- run ---- */

static struct uart *terminal_uart(struct board *board)
{
	return &board->peripherals.uarts[0].uart;
}

static void receive(struct board *board)
{
	uint8_t bytes[UART_FIFO];
	struct uart *uart = terminal_uart(board);
	ssize_t n = read(STDIN_FILENO, bytes, uart_room(uart));

	if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
		board->input = false;
	for (ssize_t i = 0; i < n; i++)
		uart_receive(uart, bytes[i]);
}

/* Take what has come from outside; if nothing has, wait for it until `deadline`, nanoseconds. */
static void look(struct board *board, uint64_t deadline)
{
	bool input = board->input && uart_room(terminal_uart(board)) > 0;
	struct pollfd entries[2] = {
		{.fd = input ? STDIN_FILENO : -1, .events = POLLIN},
		{.fd = board->window.peer ? window_fd(&board->window) : -1, .events = POLLIN},
	};
	uint64_t now = deadline == 0 || deadline == UINT64_MAX ? 0 : clock_ns();
	uint64_t left = deadline > now ? deadline - now : 0;
	const struct timespec timeout = {
		.tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000)};

	fflush(stdout); /* a prompt has no newline */
	if (ppoll(entries, 2, deadline == UINT64_MAX ? NULL : &timeout, NULL) <= 0)
		return;
	if (entries[0].revents)
		receive(board);
	if (entries[1].revents)
		window_dispatch(&board->window);
}

static void reset(struct board *board)
{
	log_debug(board->log, "the firmware resets the board");
	peripherals_reset(&board->peripherals);
	if (board->window.peer)
		window_reset(&board->window);
	core_reset(board->core);
	look(board, 0); /* a firmware may do nothing else for ever */
}

int board_run(struct board *board)
{
	int status;

	for (;;) {
		switch (core_run(board->core)) {
		case CORE_LOOK:
			look(board, 0);
			break;
		case CORE_SLEEPS:
			look(board, core_deadline(board->core));
			break;
		case CORE_SEMIHOSTING:
			if (semihosting_serve(&board->host, board->core, &status))
				return status;
			break;
		case CORE_RESET:
			reset(board);
			break;
		case CORE_LOCKUP:
			log_error(board->log, "the processor has locked up: %s",
				core_reason(board->core));
			return BOARD_LOCKED_UP;
		}
	}
}
