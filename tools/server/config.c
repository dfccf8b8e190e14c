/* SPDX-License-Identifier: MIT */
#include "config.h"

#include "common/options.h"
#include "common/region_options.h"
#include "daemon/startup_options.h"

#include "base/parse.h"

#include <ivshmem/abi.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	OPT_SOCKET_MODE = OPTION_FIRST,
	OPT_SOCKET_OWNER,
	OPT_MAX_PEERS,
	OPT_MAX_PEERS_PER_UID,
	OPT_MAX_QUEUE,
	OPT_STALL_TIMEOUT,
	OPT_EXIT_TIMEOUT,
	OPT_PROTOCOL,
	OPT_CHECK,
	OPT_CONTROL,
	OPT_NAME,
	OPT_MAX_REGIONS,
	OPT_METRICS,
	OPT_METRICS_FILE,
	OPT_METRICS_INTERVAL,
	OPT_METRICS_PEERS,
	OPT_MAX_DESCRIPTORS_PER_UID,
	OPT_MAX_QUEUE_BYTES_PER_UID,
	OPT_USER,
	OPT_NO_SANDBOX,
};

static const struct option_def options[] = {
	{'F', "foreground", NULL, "stay in the foreground (default: become a daemon once ready)",
		"Process"},
	{'p', "pid-file", "FILE",
		"write the process ID to FILE, lock it, remove it at the end; daemon only "
		"(default: /var/run/ivshmem-server.pid)",
		NULL},
	STARTUP_OPTIONS(NULL, "log every join and leave, also in a storm of them",
		"where they go (default: stderr in the foreground, syslog as a daemon)"),
	{OPT_EXIT_TIMEOUT, "exit-timeout", "MS",
		"at the end, take at most MS milliseconds to tell the peers (default: 1000)", NULL},

	{'c', "config", "FILE",
		"serve the regions of a configuration file, see ivshmem.conf(5); SIGHUP reads it "
		"again (default: one region, by the options below)",
		"Regions"},
	{OPT_CHECK, "check", NULL,
		"with --config: say whether the file is right, and exit with 0 or 2", NULL},
	{OPT_CONTROL, "control", "PATH",
		"listen for ivshmctl(1) on this Unix socket (default: none, or with --config what "
		"the file says)",
		NULL},
	{OPT_MAX_REGIONS, "max-regions", "N",
		"most regions at a time, with --config (default: 4096)", NULL},
	{OPT_NAME, "name", "NAME", "name of the one region (default: default)", NULL},

	{OPT_METRICS, "metrics", "[ADDRESS:]PORT",
		"serve metrics for Prometheus over HTTP; the address in numbers, in brackets for "
		"IPv6 (default: none; with a PORT alone 127.0.0.1 and [::1])",
		"Metrics"},
	{OPT_METRICS_FILE, "metrics-file", "PATH",
		"write them to PATH, for the textfile collector of node_exporter (default: none)",
		NULL},
	{OPT_METRICS_INTERVAL, "metrics-interval", "SECONDS",
		"write --metrics-file so often (default: 15)", NULL},
	{OPT_METRICS_PEERS, "metrics-peers", NULL,
		"metrics of each peer, too, not only of each region", NULL},

	{'S', "socket", "PATH",
		"listen on this Unix socket; unix:PATH and region:NAME are understood too "
		"(default: /tmp/ivshmem_socket)",
		"Socket"},
	{OPT_SOCKET_MODE, "socket-mode", "OCTAL", "permission of the socket (default: 0600)", NULL},
	{OPT_SOCKET_OWNER, "socket-owner", "USER[:GROUP]",
		"owner of the socket (default: whoever starts the server)", NULL},
	{OPT_PROTOCOL, "protocol", "current|pre-2.5",
		"generation of the protocol; pre-2.5 is for QEMU 2.4 and before (default: current)",
		NULL},

	{'l', "size", "SIZE",
		"size of the region in bytes, suffixes K M G T; rounded up to a power of two, at "
		"least 4K (default: 4M)",
		"Region"},
	{'M', "shm", "NAME",
		"use a POSIX shared memory object; it must not exist yet (default: a sealed memfd, "
		"which nobody can shrink)",
		NULL},
	{'m', "dir", "DIR", "use an unnamed file in DIR, e.g. on hugetlbfs", NULL},
	REGION_OPTIONS,

	{'n', "vectors", "N", "interrupt vectors of each peer, 0 to 2048 (default: 1)", "Limits"},
	{OPT_MAX_PEERS, "max-peers", "N",
		"most peers at a time (default: what the limit of open descriptors carries, half "
		"of it with --control, at most 65536)",
		NULL},
	{OPT_MAX_PEERS_PER_UID, "max-peers-per-uid", "N",
		"most peers of one user (default: no limit)", NULL},
	{OPT_MAX_QUEUE, "max-queue", "MESSAGES",
		"evict a peer that reads nothing for a second while more messages than this wait "
		"for it, its own join not counted (default: 0, no limit but the number of peers)",
		NULL},
	{OPT_STALL_TIMEOUT, "stall-timeout", "SECONDS",
		"evict a peer that has messages waiting and reads none for so long; 0: never "
		"(default: 300)",
		NULL},
	{OPT_MAX_DESCRIPTORS_PER_UID, "max-descriptors-per-uid", "N",
		"most descriptors that the server has for the peers of one user, in all regions "
		"together (default: 0, no limit, or with --config what the file says)",
		NULL},
	{OPT_MAX_QUEUE_BYTES_PER_UID, "max-queue-bytes-per-uid", "SIZE",
		"most memory for what waits for the peers of one user, in all regions together; "
		"beyond it the slowest is evicted once it has read nothing for a second (default: "
		"0, "
		"no limit, or with --config what the file says)",
		NULL},

	{OPT_USER, "user", "USER", "become this user before anything is opened (default: stay)",
		"Protection"},
	{OPT_NO_SANDBOX, "no-sandbox", NULL,
		"for debuggers: leave out the system call filter and keep capabilities", NULL},
	{0},
};

static const struct option_table table = {
	.program = "ivshmem-server",
	.synopsis = "[OPTION]...",
	.description = "Hand out IDs, a shared memory region and doorbells to ivshmem peers.",
	.epilogue = "Exit status: 0 after a clean end, 1 if it cannot start or go on, 2 for wrong "
		    "usage,\n3 if it cannot take over what an earlier process has left with a "
		    "keeper.\n"
		    "Example:\n"
		    "  ivshmem-server -F -S /run/iv.sock -l 16M -n 2\n"
		    "  qemu-system-x86_64 -chardev socket,path=/run/iv.sock,id=iv \\\n"
		    "      -device ivshmem-doorbell,chardev=iv,vectors=2 ...\n",
	.options = options,
};

static int bad(const char *option, const char *argument, const char *wanted)
{
	return options_complain(&table, "%s %s: %s", option, argument, wanted);
}

/* What memory.name points to is the spec's own. */
static int set_memory(
	struct config *config, enum region_kind kind, const char *option, const char *argument)
{
	struct region_spec *spec = &config->region;

	if (snprintf(spec->memory_name, sizeof(spec->memory_name), "%s", argument) >=
		(int)sizeof(spec->memory_name))
		return bad(option, argument, "too long a name");
	spec->memory.kind = kind;
	spec->memory.name = spec->memory_name;
	return 0;
}

static int set_region_option(struct config *config, int key, const char *argument)
{
	struct region_config *memory = &config->region.memory;
	uint64_t value;

	switch (key) {
	case 'l':
		if (option_size(&table, "-l", argument, &memory->size) < 0)
			return -1;
		return memory->size > 0 ? 0 : bad("-l", argument, "a region has at least one byte");
	case 'M':
		config->named = true;
		return set_memory(config, REGION_SHM, "-M", argument);
	case 'm':
		config->named = true;
		return set_memory(config, REGION_DIR, "-m", argument);
	case REGION_OPT_FILE:
		config->file_given = true;
		return set_memory(config, REGION_FILE, "--file", argument);
	case REGION_OPT_REUSE:
		memory->reuse = true;
		return 0;
	case REGION_OPT_NO_PREALLOC:
		memory->no_prealloc = true;
		return 0;
	case REGION_OPT_MEMORY_RESERVE:
		config->reserve_given = true;
		return option_size(&table, "--memory-reserve", argument, &memory->reserve);
	case REGION_OPT_HUGE_PAGES:
		if (parse_size(argument, &value) < 0 || (value != 2u << 20 && value != 1u << 30))
			return bad("--huge-pages", argument, "give 2M or 1G");
		memory->huge_page = value;
		return 0;
	case REGION_OPT_NUMA_NODE:
		if (option_uint(&table, "--numa-node", argument, 0, 1023, &value) < 0)
			return -1;
		memory->numa_node = (int)value;
		return 0;
	case REGION_OPT_MODE:
		return option_mode(&table, "--region-mode", argument, 1, 0666, &memory->mode);
	case OPT_NAME:
		if (!name_is_valid(argument))
			return bad("--name", argument, "a region's name is [a-z0-9._-]{1,63}");
		snprintf(config->region.name, sizeof(config->region.name), "%s", argument);
		return 0;
	}
	return 1;
}

static int set_limit_option(struct config *config, int key, const char *argument)
{
	struct server_config *server = &config->region.server;
	uint64_t value = 0;
	int error = 0;

	switch (key) {
	case 'n':
		error = option_uint(&table, "-n", argument, 0, IVSHMEM_MAX_VECTORS, &value);
		server->vectors = (unsigned)value;
		return error;
	case OPT_MAX_PEERS:
		error = option_uint(&table, "--max-peers", argument, 1, IVSHMEM_MAX_ID + 1, &value);
		server->max_peers = (unsigned)value;
		config->region.max_peers_given = true;
		return error;
	case OPT_MAX_PEERS_PER_UID:
		error = option_uint(
			&table, "--max-peers-per-uid", argument, 1, IVSHMEM_MAX_ID + 1, &value);
		server->max_peers_per_uid = (unsigned)value;
		return error;
	case OPT_MAX_QUEUE:
		return option_uint(
			&table, "--max-queue", argument, 0, UINT32_MAX, &server->max_queue);
	case OPT_STALL_TIMEOUT:
		error = option_uint(
			&table, "--stall-timeout", argument, 0, UINT64_C(86400) * 365, &value);
		server->stall_timeout_ms = value * 1000;
		return error;
	}
	return 1;
}

static int set_socket_option(struct config *config, int key, const char *argument)
{
	struct region_spec *spec = &config->region;

	switch (key) {
	case 'S':
		return option_socket(
			&table, "-S", argument, " (for POSIX memory: -M NAME)", spec->socket_path);
	case OPT_SOCKET_MODE:
		return option_mode(&table, "--socket-mode", argument, 0, 0777, &spec->socket_mode);
	case OPT_SOCKET_OWNER:
		return option_owner(
			&table, "--socket-owner", argument, &spec->socket_uid, &spec->socket_gid);
	case OPT_PROTOCOL:
		if (strcmp(argument, "current") == 0)
			spec->server.format = &wire_current;
		else if (strcmp(argument, "pre-2.5") == 0)
			spec->server.format = &wire_pre_2_5;
		else
			return bad("--protocol", argument, "give current or pre-2.5");
		return 0;
	}
	return 1;
}

static int set_process_option(struct config *config, int key, const char *argument)
{
	uint64_t value = 0;
	int error = 0;

	switch (key) {
	case 'F':
		config->startup.foreground = true;
		return 0;
	case 'p':
		config->pid_file = argument;
		config->pid_file_given = true;
		return 0;
	case 'c':
		config->file = argument;
		return 0;
	case OPT_CHECK:
		config->check = true;
		return 0;
	case OPT_CONTROL:
		config->control = argument;
		if (strlen(argument) < SOCKET_PATH_SIZE && argument[0] != '\0')
			return 0;
		return bad("--control", argument, "a socket's path has 1 to 107 bytes");
	case OPT_MAX_REGIONS:
		error = option_uint(&table, "--max-regions", argument, 1, HUB_MAX_REGIONS, &value);
		config->hub.max_regions = (unsigned)value;
		return error;
	case OPT_EXIT_TIMEOUT:
		error = option_uint(&table, "--exit-timeout", argument, 0, 600000, &value);
		config->hub.exit_timeout_ms = (unsigned)value;
		return error;
	case OPT_USER:
		config->user = argument;
		return 0;
	case OPT_NO_SANDBOX:
		config->sandbox = false;
		return 0;
	}
	return 1;
}

/* Of each user, over all regions: they are no region's. */
static int set_users_option(struct config *config, int key, const char *argument)
{
	struct users_limits *users = &config->hub.users;

	switch (key) {
	case OPT_MAX_DESCRIPTORS_PER_UID:
		config->users_descriptors_given = true;
		return option_uint(&table, "--max-descriptors-per-uid", argument, 0, UINT32_MAX,
			&users->descriptors);
	case OPT_MAX_QUEUE_BYTES_PER_UID:
		config->users_queues_given = true;
		return option_size(
			&table, "--max-queue-bytes-per-uid", argument, &users->queue_bytes);
	}
	return 1;
}

static int set_metrics_option(struct config *config, int key, const char *argument)
{
	struct sockaddr_storage addresses[METRICS_MAX_ADDRESSES];
	uint64_t value = 0;
	int error = 0;

	switch (key) {
	case OPT_METRICS:
		config->metrics.address = argument;
		if (metrics_parse_address(argument, addresses) > 0)
			return 0;
		return bad("--metrics", argument,
			"give PORT, ADDRESS:PORT or [ADDRESS]:PORT, with the address in numbers");
	case OPT_METRICS_FILE:
		config->metrics.file = argument;
		return argument[0] ? 0 : bad("--metrics-file", "''", "give a path");
	case OPT_METRICS_INTERVAL:
		error = option_uint(&table, "--metrics-interval", argument, 1, 86400, &value);
		config->metrics.interval_ms = (unsigned)value * 1000;
		config->interval_given = true;
		return error;
	case OPT_METRICS_PEERS:
		config->metrics.peers = true;
		return 0;
	}
	return 1;
}

static const char *name_of(int key)
{
	const struct option_def *option = options;
	while (option->name && option->key != key)
		option++;
	return option->name;
}

static int set_option(void *data, int key, const char *argument)
{
	struct config *config = data;
	int result = startup_option(&table, &config->startup, key, argument);
	if (result > 0)
		result = set_process_option(config, key, argument);
	if (result > 0)
		result = set_metrics_option(config, key, argument);
	if (result > 0)
		result = set_users_option(config, key, argument);
	if (result <= 0)
		return result;
	if (!config->region_option)
		config->region_option = name_of(key);
	result = set_socket_option(config, key, argument);
	if (result > 0)
		result = set_region_option(config, key, argument);
	if (result > 0)
		result = set_limit_option(config, key, argument);
	return result;
}

/* Options that do not go together. */
static int check_options(struct config *config)
{
	struct region_config *memory = &config->region.memory;

	if (config->file && config->region_option)
		return options_complain(&table,
			"--config and --%s: what a region is stands in the file",
			config->region_option);
	if (config->check && !config->file)
		return options_complain(&table, "--check: give the file with --config");
	if (config->interval_given && !config->metrics.file)
		return options_complain(&table, "--metrics-interval: of which --metrics-file?");
	if (config->metrics.peers && !config->metrics.file && !config->metrics.address)
		return options_complain(
			&table, "--metrics-peers: to where, --metrics or --metrics-file?");
	/* Of -M and -m the last one counts, as in contrib; what is ours is strict. */
	if (config->file_given && config->named)
		return options_complain(&table, "--file and -M or -m: a region has one place");
	if (memory->no_prealloc && config->reserve_given)
		return options_complain(&table,
			"--memory-reserve and --no-prealloc: nothing is compared with the reserve "
			"if nothing is allocated");
	/* 0 stays for --file: the file's own size. */
	if (memory->size == 0 && memory->kind != REGION_FILE)
		memory->size = UINT64_C(4) << 20;
	return 0;
}

int config_parse(struct config *config, int argc, char **argv)
{
	*config = (struct config){
		.pid_file = "/var/run/ivshmem-server.pid",
		.startup = STARTUP_CONFIG_INIT("ivshmem-server"),
		.hub = {.max_regions = HUB_MAX_REGIONS, .exit_timeout_ms = 1000},
		.metrics = METRICS_CONFIG_INIT,
		.sandbox = true,
	};
	region_spec_init(&config->region);
	config->region.memory.size = 0;
	config->region.from_file = true;
	strcpy(config->region.name, "default");
	strcpy(config->region.socket_path, IVSHMEM_DEFAULT_SOCKET);
	int next = options_parse(&table, argc, argv, set_option, config);
	if (next < 0)
		return -1;
	if (next < argc)
		return options_complain(
			&table, "%s: what is this? It takes options only", argv[next]);
	config->hub.single = config->file == NULL;
	config->hub.grows = config->file != NULL || config->control != NULL;
	return check_options(config);
}
