/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. libivshmem is the peer, src/device/flat the device, the core has the address
 * space; this joins the three. The memory is mapped into the address space as it is, so accesses to
 * it cost what accesses to RAM cost and are not seen here.
 *
 * What a firmware rings need not be there, and need not be there yet: another peer may say its ID
 * in the memory before the server's announcement of it has been looked at. So the server's messages
 * are looked at before a ring is given up.
 */
#include "window.h"

#include "base/clock.h"
#include "base/le.h"
#include "base/parse.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ANNOUNCED_MS 500

/* ---- the trace ---- */

__attribute__((format(printf, 2, 3))) static void trace(
	const struct window *window, const char *format, ...)
{
	va_list args;

	if (!window->config->trace)
		return;
	fprintf(stderr, "%12.6f  ", (double)(clock_ns() - window->start) / 1e9);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

static void trace_access(const struct window *window, const char *what, uint32_t offset,
	unsigned size, uint32_t value)
{
	static const char *const names[] = {"INTRMASK", "INTRSTATUS", "IVPOSITION", "DOORBELL"};

	if (size == 4 && offset % 4 == 0)
		trace(window, "%-5s %-10s 0x%08x", what, names[offset / 4], value);
	else
		trace(window, "%-5s %-10s 0x%0*x (offset %u, %u bytes)", what, names[offset / 4],
			2 * (int)size, value, offset, size);
}

/* ---- from the firmware ---- */

static void ring(void *data, unsigned peer, unsigned vector)
{
	struct window *window = data;
	int result = ivshmem_notify(window->peer, peer, vector);

	if (result < 0 && (errno == ENOENT || errno == EINVAL)) {
		window_dispatch(window);
		result = ivshmem_notify(window->peer, peer, vector);
	}
	trace(window, "rings peer %u, vector %u%s%s", peer, vector, result < 0 ? ": " : "",
		result == 0                                  ? ""
			: errno == ENOENT || errno == EINVAL ? "there is no such"
							     : strerror(errno));
}

static uint32_t read_register(void *data, uint32_t offset, unsigned size)
{
	struct window *window = data;
	uint8_t bytes[4];

	ivshmem_flat_read(&window->flat, offset, bytes, size);
	uint32_t value = (uint32_t)load_le(bytes, size);
	trace_access(window, "read", offset, size, value);
	return value;
}

static void write_register(void *data, uint32_t offset, unsigned size, uint32_t value)
{
	struct window *window = data;
	uint8_t bytes[4];

	store_le(bytes, size, value);
	trace_access(window, "write", offset, size, value);
	ivshmem_flat_write(&window->flat, offset, bytes, size);
}

/* ---- from the other peers ---- */

static void line(void *data, unsigned number, int level)
{
	struct window *window = data;

	core_line(window->core, window->config->first_irq + number, level != 0);
}

static void interrupted(struct ivshmem_peer *peer, void *data, unsigned vector, uint64_t count)
{
	struct window *window = data;
	(void)peer;

	trace(window, "vector %u was rung%s", vector, count > 1 ? ", several times" : "");
	ivshmem_flat_interrupt(&window->flat, vector);
}

static void joined(struct ivshmem_peer *peer, void *data, unsigned id)
{
	(void)peer;
	log_debug(((struct window *)data)->log, "peer %u is there", id);
}

static void left(struct ivshmem_peer *peer, void *data, unsigned id)
{
	(void)peer;
	log_debug(((struct window *)data)->log, "peer %u has left", id);
}

static void server_lost(struct ivshmem_peer *peer, void *data, int error)
{
	(void)peer;
	log_warning(((struct window *)data)->log,
		"the server is gone%s%s: memory and known peers stay, nobody new will be heard of",
		error ? ": " : "", error ? strerror(error) : "");
}

/* ---- open and close ---- */

static int join(struct window *window)
{
	const struct ivshmem_listener listener = {
		.peer_joined = joined,
		.peer_left = left,
		.interrupt = interrupted,
		.server_lost = server_lost,
	};
	char error[256];
	struct ivshmem_params params = IVSHMEM_PARAMS_INIT;

	params.listener = &listener;
	params.data = window;
	params.timeout_ms = window->config->join_timeout_ms;
	params.error_text = error;
	params.error_size = sizeof(error);
	window->peer = ivshmem_open(window->config->server, &params);
	if (window->peer)
		return 0;
	log_error(window->log, "%s", error);
	return -1;
}

static int map_memory(struct window *window)
{
	const struct config *config = window->config;
	char is[24], wanted[24];
	uint64_t size;
	void *memory = ivshmem_region(window->peer, &size);
	uint64_t shown = config->memory_size ? config->memory_size : size;

	if (shown > size) {
		log_error(window->log, "the server's memory has %s only, not the %s of --shm-size",
			format_size(size, is), format_size(shown, wanted));
		return -1;
	}
	/* A mapping has whole pages. */
	shown = (shown + CORE_PAGE - 1) & ~(uint64_t)(CORE_PAGE - 1);
	if (shown > CORE_PRIVATE - config->memory) {
		log_error(window->log,
			"the server's memory, %s, has no room at 0x%08x: try --shm-size or --shm",
			format_size(size, is), config->memory);
		return -1;
	}
	if (core_map_memory(window->core, config->memory, (uint32_t)shown, memory) == 0)
		return 0;
	log_error(window->log, "0x%08x is taken: give the memory another place by --shm",
		config->memory);
	return -1;
}

static int map_registers(struct window *window)
{
	static const struct ivshmem_flat_ops ops = {.ring = ring, .line = line};
	const struct core_device device = {
		.read = read_register, .write = write_register, .data = window};
	const struct config *config = window->config;
	struct ivshmem_flat_config flat = IVSHMEM_FLAT_CONFIG_INIT;

	flat.position = (uint32_t)ivshmem_id(window->peer);
	flat.vectors = config->first_irq == NO_IRQ ? 0 : config->vectors;
	flat.level = config->level;
	flat.ops = &ops;
	flat.data = window;
	if (ivshmem_flat_init(&window->flat, &flat) == 0 &&
		core_map_device(window->core, config->registers, IVSHMEM_FLAT_SIZE, &device) == 0)
		return 0;
	log_error(window->log, "0x%08x is taken: give the registers another place by --mmr",
		config->registers);
	return -1;
}

/*
 * The server's messages about those who were there before come ahead of our own first vector, and a
 * firmware may ring anybody with its first instruction. A server that gives no vectors is not
 * waited for much longer than its messages take.
 */
static void hear_of_others(struct window *window)
{
	uint64_t deadline = deadline_after(ANNOUNCED_MS);
	unsigned own = (unsigned)ivshmem_id(window->peer);

	while (ivshmem_vectors(window->peer, own) < 1 && deadline_left(deadline) > 0 &&
		ivshmem_dispatch(window->peer, deadline_left(deadline)) >= 0)
		;
}

int window_open(
	struct window *window, const struct config *config, struct core *core, struct log *log)
{
	*window = (struct window){.config = config, .core = core, .log = log, .start = clock_ns()};
	if (join(window) < 0 || map_memory(window) < 0 || map_registers(window) < 0)
		return -1;
	hear_of_others(window);
	if (config->first_irq == NO_IRQ)
		log_warning(log,
			"without an interrupt (--irq none) nobody can ring the firmware; "
			"it can ring others");
	log_debug(log, "peer %d of %s", ivshmem_id(window->peer), config->server);
	return 0;
}

void window_close(struct window *window)
{
	ivshmem_close(window->peer);
	window->peer = NULL;
}

int window_fd(const struct window *window)
{
	return ivshmem_get_fd(window->peer);
}

void window_dispatch(struct window *window)
{
	/* Its errors come again as server_lost(), or pass: a signal, no free descriptor. */
	ivshmem_dispatch(window->peer, 0);
}

void window_reset(struct window *window)
{
	ivshmem_flat_reset(&window->flat);
}
