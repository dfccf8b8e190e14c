/* SPDX-License-Identifier: MIT */
#include "config.h"

#include "daemon/startup_options.h"

#include "base/parse.h"

#include <grp.h>
#include <stdlib.h>
#include <string.h>

enum {
	OPT_DEVICE = OPTION_FIRST,
	OPT_DEVICES,
	OPT_CHECK,
	OPT_SOCKET_MODE,
	OPT_SOCKET_OWNER,
	OPT_CONTROL,
	OPT_CONTROL_GROUP,
	OPT_USER,
	OPT_NO_SANDBOX,
	OPT_JOIN_TIMEOUT,
	OPT_POLL_US,
};

#define MAX_DEVICES 1024

#define PATH_SIZE_IN_COMPLAINTS 200

static const struct option_def options[] = {
	{OPT_DEVICE, "device", "KEY=VALUE,...",
		"offer a device; once for each. Keys: socket=PATH, type=doorbell|plain|legacy, "
		"server=PATH, memdev=PATH, shm=NAME, size=SIZE, vectors=N, msi=on|off, "
		"late-server=on|off, readonly=on|off, subsystem-id=VVVV:DDDD, id=NAME; see "
		"ivshmem-device(1)",
		"Devices"},
	{OPT_DEVICES, "devices", "FILE",
		"offer the devices of a file: in each line what --device takes, with an id=; empty "
		"lines and such that begin with # do not count",
		NULL},
	{OPT_CHECK, "check", NULL, "say whether the options are right, and exit with 0 or 2", NULL},
	{OPT_JOIN_TIMEOUT, "join-timeout", "SECONDS",
		"how long to wait for a server's answer at start (default: 5)", NULL},
	{OPT_POLL_US, "poll-us", "N",
		"after a request look for the next one for N microseconds before sleeping: "
		"less latency for a busy processor (default: 0, off)",
		NULL},
	{OPT_SOCKET_MODE, "socket-mode", "OCTAL", "permission of the sockets (default: 0600)",
		"Protection"},
	{OPT_SOCKET_OWNER, "socket-owner", "USER[:GROUP]",
		"owner of the sockets (default: whoever starts this)", NULL},
	{OPT_USER, "user", "USER",
		"become this user once sockets, memory and servers are open (default: stay)", NULL},
	{OPT_NO_SANDBOX, "no-sandbox", NULL,
		"for debuggers: leave out the system call filter and keep capabilities", NULL},
	{OPT_CONTROL, "control", "PATH",
		"listen for ivshmctl(1) on this Unix socket (default: none)", "Control"},
	{OPT_CONTROL_GROUP, "control-group", "GROUP",
		"who may use it besides root and the user of this process (default: nobody)", NULL},
	STARTUP_OPTIONS("Process", "log more: peers that come and go, requests with errors",
		"where they go (default: stderr)"),
	{0},
};

static const struct option_table table = {
	.program = "ivshmem-device",
	.synopsis = "--device KEY=VALUE,... [OPTION]...",
	.description = "Offer ivshmem PCI devices to virtual machines over vfio-user.",
	.epilogue =
		"Exit status: 0 after a clean end, 1 if it cannot start or go on, 2 for wrong "
		"usage,\n3 if it cannot go on with what an earlier process has left.\n"
		"Example:\n"
		"  ivshmem-device --device socket=/run/vm1.sock,type=doorbell,server=/run/iv.sock\n"
		"  qemu-system-x86_64 -device '{\"driver\":\"vfio-user-pci\",\"rombar\":0,\n"
		"      \"socket\":{\"type\":\"unix\",\"path\":\"/run/vm1.sock\"}}' ...\n",
	.options = options,
};

/* What holds for all devices; given to each at the end, wherever it stood. */
struct parsing {
	struct config *config;
	struct listen_config listen;
	int join_timeout_ms;
};

static int add_device(struct config *config, const char *where, const char *argument)
{
	if (config->n_devices == MAX_DEVICES)
		return options_complain(&table,
			"%s: %d devices are the most in one process: start another", where,
			MAX_DEVICES);
	struct device_spec *spec = malloc(sizeof(*spec));
	struct device_spec **devices =
		realloc(config->devices, (config->n_devices + 1) * sizeof(struct device_spec *));
	if (devices)
		config->devices = devices;
	if (!spec || !devices) {
		free(spec);
		return options_complain(&table, "no memory");
	}
	config->devices[config->n_devices++] = spec;
	return device_spec_parse(spec, &table, where, argument);
}

/* The names must be given: what is numbered would change its number with each line before it, and
 * for a process that goes on with what is held that is another device. */
static int add_line(struct config *config, const char *path, unsigned number, char *line)
{
	char where[PATH_SIZE_IN_COMPLAINTS + 16];

	line[strcspn(line, "\n")] = '\0';
	if (line[0] == '\0' || line[0] == '#')
		return 0;
	snprintf(where, sizeof(where), "%.*s:%u", PATH_SIZE_IN_COMPLAINTS, path, number);
	if (add_device(config, where, line) < 0)
		return -1;
	if (config->devices[config->n_devices - 1]->name[0])
		return 0;
	return options_complain(&table, "%s: id= is missing: devices of a file need names", where);
}

static int add_devices(struct config *config, const char *path)
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t size = 0;
	int result = 0;

	if (!file)
		return options_complain(&table, "--devices %s: %m", path);
	for (unsigned number = 1; result == 0 && getline(&line, &size, file) >= 0; number++)
		result = add_line(config, path, number, line);
	if (result == 0 && ferror(file))
		result = options_complain(&table, "--devices %s: cannot read it", path);
	free(line);
	fclose(file);
	return result;
}

static int set_group(struct config *config, const char *name)
{
	gid_t *gid = &config->control.read_group;
	const struct group *group = getgrnam(name);
	uint64_t number;

	if (group)
		*gid = group->gr_gid;
	else if (parse_uint(name, 0, UINT32_MAX - 1, &number) == 0)
		*gid = (gid_t)number;
	else
		return options_complain(&table, "--control-group %s: no such group", name);
	return 0;
}

static int set_option(void *data, int key, const char *argument)
{
	struct parsing *parsing = data;
	struct config *config = parsing->config;
	uint64_t value;

	switch (key) {
	case OPT_DEVICE:
		return add_device(config, "--device", argument);
	case OPT_DEVICES:
		return add_devices(config, argument);
	case OPT_CHECK:
		config->check = true;
		return 0;
	case OPT_SOCKET_MODE:
		return option_mode(
			&table, "--socket-mode", argument, 0, 0777, &parsing->listen.mode);
	case OPT_SOCKET_OWNER:
		return option_owner(&table, "--socket-owner", argument, &parsing->listen.uid,
			&parsing->listen.gid);
	case OPT_CONTROL:
		config->control.path = argument;
		if (strlen(argument) < SOCKET_PATH_SIZE && argument[0] != '\0')
			return 0;
		return options_complain(
			&table, "--control %s: a socket's path has 1 to 107 bytes", argument);
	case OPT_CONTROL_GROUP:
		return set_group(config, argument);
	case OPT_USER:
		config->user = argument;
		return 0;
	case OPT_NO_SANDBOX:
		config->sandbox = false;
		return 0;
	case OPT_JOIN_TIMEOUT:
		if (parse_seconds(argument, &parsing->join_timeout_ms) < 0 ||
			parsing->join_timeout_ms == 0)
			return options_complain(
				&table, "--join-timeout %s: give seconds, more than 0", argument);
		return 0;
	case OPT_POLL_US:
		if (option_uint(&table, "--poll-us", argument, 0, 1000000, &value) < 0)
			return -1;
		config->poll_us = (unsigned)value;
		return 0;
	}
	return startup_option(&table, &config->startup, key, argument);
}

/* A name that the user has not given: device0, device1.. */
static void name_device(struct device_spec *spec, size_t number)
{
	if (!spec->name[0])
		snprintf(spec->name, sizeof(spec->name), "device%zu", number);
	spec->device.name = spec->name;
}

static int check_unique(const struct config *config, size_t n)
{
	const struct device_spec *last = config->devices[n];
	for (size_t i = 0; i < n; i++) {
		const struct device_spec *other = config->devices[i];
		if (strcmp(other->socket_path, last->socket_path) == 0)
			return options_complain(&table,
				"--device: two with socket=%s: each device has its own",
				last->socket_path);
		if (strcmp(other->name, last->name) == 0)
			return options_complain(
				&table, "--device: two with id=%s: choose another", last->name);
	}
	return 0;
}

static int complete(struct parsing *parsing)
{
	struct config *config = parsing->config;

	if (config->n_devices == 0)
		return options_complain(
			&table, "give at least one device, with --device or --devices");
	for (size_t i = 0; i < config->n_devices; i++) {
		struct device_spec *spec = config->devices[i];
		name_device(spec, i);
		if (check_unique(config, i) < 0)
			return -1;
		spec->listen = parsing->listen;
		spec->listen.path = spec->socket_path;
		spec->device.timeout_ms = (unsigned)parsing->join_timeout_ms;
	}
	return 0;
}

int config_parse(struct config *config, int argc, char **argv)
{
	*config = (struct config){
		.startup = STARTUP_CONFIG_INIT("ivshmem-device"),
		.sandbox = true,
		.control = {.read_group = (gid_t)-1},
	};
	config->startup.foreground = true;
	struct parsing parsing = {
		.config = config,
		.join_timeout_ms = 5000,
		.listen =
			{
				.mode = 0600,
				.uid = (uid_t)-1,
				.gid = (gid_t)-1,
				.option = "--device socket",
				.owner_option = "--socket-owner",
				.what = "process",
			},
	};
	int next = options_parse(&table, argc, argv, set_option, &parsing);
	int result = next < 0 ? -1 : 0;
	if (result == 0 && next < argc)
		result = options_complain(
			&table, "%s: what is this? It takes options only", argv[next]);
	if (result == 0)
		result = complete(&parsing);
	if (result < 0)
		config_free(config);
	return result;
}

void config_free(struct config *config)
{
	for (size_t i = 0; i < config->n_devices; i++) {
		device_spec_fini(config->devices[i]);
		free(config->devices[i]);
	}
	free(config->devices);
	*config = (struct config){0};
}
