/* SPDX-License-Identifier: MIT */
/* ivshmem-device: puts devices, their sockets, the sandbox and the loop together. */
#include "config.h"
#include "loop.h"
#include "sandbox.h"
#include "turn.h"

#include "common/descriptors.h"
#include "common/stdfds.h"
#include "daemon/startup.h"

#include "base/parse.h"
#include "region/guard.h"
#include "region/region.h"

#include <stdlib.h>
#include <string.h>

/* For the log, the loop and what comes with one message. */
#define DESCRIPTORS_OF_OUR_OWN 64
/* Of a device, besides eventfds: listener, VMM, server, region and so on. */
#define DESCRIPTORS_EACH 20

struct process {
	const struct config *config;
	struct vfu_board board;
	struct slot *slots;
	size_t n;         /* slots that are open */
	unsigned max_fds; /* of each device */
	struct log *log;
};

/* Every device gets the same part, so that no server and no VMM can use up the others'. */
static int share_descriptors(struct process *process)
{
	uint64_t limit = descriptors_raise();
	uint64_t n = process->config->n_devices;
	uint64_t part = limit > DESCRIPTORS_OF_OUR_OWN ? (limit - DESCRIPTORS_OF_OUR_OWN) / n : 0;

	process->max_fds = part > UINT32_MAX ? UINT32_MAX : (unsigned)part;
	for (size_t i = 0; i < n; i++) {
		const struct vfu_device_config *device = &process->config->devices[i]->device;
		uint64_t need = 4 * ((uint64_t)device->vectors + DESCRIPTORS_EACH);
		if (need <= part)
			continue;
		log_error(process->log,
			"%s: %llu descriptors are its part of the limit, with %u vectors it needs "
			"%llu: raise the limit (ulimit -n, LimitNOFILE=) or start fewer devices in "
			"one process",
			device->name, (unsigned long long)part, device->vectors,
			(unsigned long long)need);
		return -1;
	}
	return 0;
}

/* The reason without the option of ivshmem-server that it names first: ours is another. */
static const char *without_option(const char *text)
{
	const char *rest = text[0] == '-' ? strstr(text, ": ") : NULL;
	return rest ? rest + 2 : text;
}

/* Created once and left there: the memory outlives its devices. */
static int create_shm(const struct device_spec *spec, struct log *log)
{
	const struct region_config config = {
		.kind = REGION_SHM,
		.name = spec->create_shm,
		.size = spec->device.size,
		.reuse = true,
		.reserve = REGION_DEFAULT_RESERVE,
		.numa_node = REGION_NUMA_ANY,
	};
	struct region region;
	struct region_error why;

	int error = region_create(&region, &config, &why);
	if (error < 0) {
		log_error(log, "%s: shm=%s: %s", spec->name, spec->create_shm,
			without_option(why.text));
		return error;
	}
	free(region.name); /* nothing is left that region_fini() would remove */
	region.name = NULL;
	region_fini(&region);
	return 0;
}

static void describe(const struct device_spec *spec, const struct slot *slot, struct log *log)
{
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

static int open_slot(struct process *process, struct device_spec *spec)
{
	struct slot *slot = &process->slots[process->n];

	*slot = (struct slot){
		.name = spec->name,
		.listener = LISTENER_INIT,
		.spin_ns = (uint64_t)process->config->poll_us * 1000,
		.resample_fd = -1,
	};
	spec->device.max_fds = process->max_fds;
	if (spec->create_shm && create_shm(spec, process->log) < 0)
		return -1;
	if (vfu_device_create(&slot->device, &process->board, &spec->device, process->log) < 0)
		return -1;
	if (listener_open(&slot->listener, &spec->listen, process->log) < 0) {
		vfu_device_destroy(slot->device);
		return -1;
	}
	process->n++;
	return 0;
}

static void close_slots(struct process *process)
{
	while (process->n > 0) {
		struct slot *slot = &process->slots[--process->n];
		listener_close(&slot->listener);
		vfu_device_destroy(slot->device);
	}
	free(process->slots);
}

static bool needs_to_connect(const struct config *config)
{
	for (size_t i = 0; i < config->n_devices; i++)
		if (config->devices[i]->device.late)
			return true;
	return config->startup.log_target && strcmp(config->startup.log_target, "syslog") == 0;
}

static int serve(const struct config *config, struct startup *startup)
{
	struct process process = {
		.config = config,
		.slots = calloc(config->n_devices, sizeof(struct slot)),
		.log = &startup->log,
	};
	const struct device_sandbox_config sandbox = {
		.user = config->user,
		.confine = config->sandbox,
		.connects = needs_to_connect(config),
	};
	int result = -1;

	vfu_board_init(&process.board);
	if (!process.slots) {
		log_error(process.log, "no memory");
		return -1;
	}
	if (share_descriptors(&process) < 0)
		goto close_slots;
	for (size_t i = 0; i < config->n_devices; i++)
		if (open_slot(&process, config->devices[i]) < 0)
			goto close_slots;
	int error = region_guard_install();
	if (error == 0)
		error = turn_init();
	if (error < 0) {
		log_error(process.log, "cannot prepare signals and timers: %s", strerror(-error));
		goto close_slots;
	}
	result = device_sandbox_enter(&sandbox, process.log);
	if (result == 0) {
		/* Only now: who fails to start says one line, which is what is wrong. */
		for (size_t i = 0; i < process.n; i++)
			describe(config->devices[i], &process.slots[i], process.log);
		result = loop_serve(process.slots, process.n, startup);
	}
	turn_fini();

close_slots:
	close_slots(&process);
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
	if (startup_begin(&startup, &config.startup) < 0) {
		config_free(&config);
		return EXIT_STARTUP;
	}
	int result = serve(&config, &startup);
	startup_end(&startup);
	config_free(&config);
	return result == 0 ? 0 : EXIT_STARTUP;
}
