/* SPDX-License-Identifier: MIT */
/* ivshmem-device: puts devices, their sockets, the sandbox and the loop together. */
#include "config.h"
#include "control.h"
#include "loop.h"
#include "opening.h"
#include "sandbox.h"
#include "turn.h"

#include "common/descriptors.h"
#include "common/stdfds.h"
#include "daemon/startup.h"

#include "base/parse.h"
#include "region/guard.h"

#include <stdlib.h>
#include <string.h>

/* For the log, the loop and what comes with one message. */
#define DESCRIPTORS_OF_OUR_OWN 64
/* Of a device, besides eventfds: listener, VMM, server, region and so on. */
#define DESCRIPTORS_EACH 20

struct process {
	const struct config *config;
	struct vfu_board board;
	struct holding *holding;
	struct slot *slots;
	size_t n; /* slots that are open */
	struct control control;
	unsigned max_fds; /* of each device */
	struct log *log;
};

/* Every device gets the same part, so that no server and no VMM can use up the others'. */
static int share_descriptors(struct process *process)
{
	uint64_t limit = descriptors_raise();
	uint64_t n = process->config->n_devices;
	uint64_t room = holding_room(process->holding);

	/* Almost all that we have, somebody holds. */
	if (room > 0 && room < limit)
		limit = room;
	uint64_t part = limit > DESCRIPTORS_OF_OUR_OWN ? (limit - DESCRIPTORS_OF_OUR_OWN) / n : 0;

	process->max_fds = part > UINT32_MAX ? UINT32_MAX : (unsigned)part;
	for (size_t i = 0; i < n; i++) {
		const struct vfu_device_config *device = &process->config->devices[i]->device;
		uint64_t need = 4 * ((uint64_t)device->vectors + DESCRIPTORS_EACH);
		if (need <= part)
			continue;
		log_error(process->log,
			"%s: %llu descriptors are its part of the limit, with %u vectors it needs "
			"%llu: raise the limit (ulimit -n, LimitNOFILE=%s) or start fewer devices "
			"in one process",
			device->name, (unsigned long long)part, device->vectors,
			(unsigned long long)need, room > 0 ? ", FileDescriptorStoreMax=" : "");
		return -1;
	}
	return 0;
}

static void describe(const struct slot *slot, struct log *log)
{
	const struct device_spec *spec = slot->spec;
	struct vfu_function *function = vfu_device_function(slot->device);
	int id = vfu_device_id(slot->device);
	char size[24], who[24] = "no server";

	if (vfu_device_is_waiting(slot->device))
		snprintf(who, sizeof(who), "no server yet");
	else if (id >= 0)
		snprintf(who, sizeof(who), "ID %d", id);
	format_size(vfu_function_region_size(function, IVSHMEM_BAR_MEMORY), size);
	log_info(log, "%s: listening on %s: %s, %s, %u vectors%s", spec->name, spec->socket_path,
		who, size, function->irqs.vectors,
		ivshmem_pci_has_intx(function->pci) ? ", INTx" : "");
}

static bool is_configured(const void *data, const char *device)
{
	const struct config *config = data;

	for (size_t i = 0; i < config->n_devices; i++)
		if (strcmp(config->devices[i]->name, device) == 0)
			return true;
	return false;
}

/*
 * Who starts us sees what is wrong with a device. At a restart guests are in, with others: those go
 * on without the new one.
 */
static int open_slots(struct process *process)
{
	const bool is_restart = holding_has_devices(process->holding);
	const struct config *config = process->config;
	const struct opening opening = {
		.board = &process->board,
		.holding = process->holding,
		.max_fds = process->max_fds,
		.spin_ns = (uint64_t)config->poll_us * 1000,
		.log = process->log,
	};
	int result = 0;

	holding_discard_listeners(process->holding, is_configured, config);
	for (size_t i = 0; i < config->n_devices && result == 0; i++) {
		struct device_spec *spec = config->devices[i];
		result = slot_open(&process->slots[process->n], spec, &opening);
		process->n += result == 0;
		if (result == EXIT_STARTUP && is_restart) {
			log_error(process->log, "%s: the others go on without it", spec->name);
			result = 0;
		}
	}
	return process->n == 0 && result == 0 ? EXIT_STARTUP : result;
}

static void close_slots(struct process *process)
{
	while (process->n > 0)
		slot_close(&process->slots[--process->n]);
}

static bool needs_to_connect(const struct process *process)
{
	const struct config *config = process->config;

	for (size_t i = 0; i < config->n_devices; i++)
		if (config->devices[i]->device.late)
			return true;
	/* systemd's: what is to be held, and that we serve */
	return getenv("NOTIFY_SOCKET") ||
		(config->startup.log_target && strcmp(config->startup.log_target, "syslog") == 0);
}

static int prepare(struct process *process)
{
	const struct device_sandbox_config sandbox = {
		.user = process->config->user,
		.confine = process->config->sandbox,
		.connects = needs_to_connect(process),
		.holds = holding_holder(process->holding) != KEEP_NOBODY,
		.controlled = process->control.listener.fd >= 0,
	};

	int error = region_guard_install();
	if (error == 0)
		error = turn_init();
	if (error < 0) {
		log_error(process->log, "cannot prepare signals and timers: %s", strerror(-error));
		return error;
	}
	error = device_sandbox_enter(&sandbox, process->log);
	if (error < 0)
		turn_fini();
	return error;
}

/* Who starts us sees what is wrong with the path. At a restart guests are in: they go on without.
 */
static int open_control(struct process *process)
{
	const struct control_config *config = &process->config->control;

	if (control_open(&process->control, process->holding, config, process->log) == 0)
		return 0;
	for (size_t i = 0; i < process->n; i++)
		if (!process->slots[i].is_new)
			return 0;
	return -1;
}

/* All that it takes to serve; an exit code. */
static int serve(struct process *process, struct startup *startup)
{
	if (share_descriptors(process) < 0)
		return EXIT_STARTUP;
	int result = open_slots(process);
	if (result != 0)
		return result;
	if (open_control(process) < 0 || prepare(process) < 0)
		return EXIT_STARTUP;
	/* Only now: who fails to start says one line, which is what is wrong. */
	for (size_t i = 0; i < process->n; i++)
		describe(&process->slots[i], process->log);
	int error = loop_serve(
		process->slots, process->n, process->holding, &process->control, startup);
	turn_fini();
	return error < 0 ? EXIT_STARTUP : EXIT_SUCCESS;
}

static int run(const struct config *config, struct startup *startup)
{
	struct process process = {
		.config = config,
		.slots = calloc(config->n_devices, sizeof(struct slot)),
		.control = {.listener = LISTENER_INIT},
		.log = &startup->log,
	};
	int result = EXIT_STARTUP;

	vfu_board_init(&process.board);
	if (!process.slots)
		log_error(process.log, "no memory");
	else if (holding_open(&process.holding, process.log) == 0)
		result = serve(&process, startup);
	control_close(&process.control);
	close_slots(&process);
	holding_close(process.holding);
	free(process.slots);
	return result;
}

int main(int argc, char **argv)
{
	struct config config;
	struct startup startup;

	if (stdfds_open() < 0)
		return EXIT_STARTUP;
	if (config_parse(&config, argc, argv) < 0)
		return EXIT_USAGE;
	int result = config.check ? EXIT_SUCCESS : EXIT_STARTUP;
	if (!config.check && startup_begin(&startup, &config.startup) == 0) {
		result = run(&config, &startup);
		startup_end(&startup);
	}
	config_free(&config);
	return result;
}
