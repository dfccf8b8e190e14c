/* SPDX-License-Identifier: MIT */
#include "config.h"

#include "common/options.h"
#include "daemon/startup_options.h"

#include "base/parse.h"

#include <ivshmem/abi.h>

#include <errno.h>
#include <string.h>

enum {
	OPT_FILE = OPTION_FIRST,
	OPT_REUSE,
	OPT_NO_PREALLOC,
	OPT_MEMORY_RESERVE,
	OPT_HUGE_PAGES,
	OPT_NUMA_NODE,
	OPT_REGION_MODE,
	OPT_SOCKET_MODE,
	OPT_SOCKET_OWNER,
	OPT_MAX_PEERS,
	OPT_MAX_PEERS_PER_UID,
	OPT_MAX_QUEUE,
	OPT_STALL_TIMEOUT,
	OPT_EXIT_TIMEOUT,
	OPT_PROTOCOL,
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
	{OPT_FILE, "file", "PATH", "use an existing file, in its size unless --size is given",
		NULL},
	{OPT_REUSE, "reuse", NULL, "with --shm: adopt an object that exists", NULL},
	{OPT_NO_PREALLOC, "no-prealloc", NULL,
		"do not allocate the memory at start; peers die by SIGBUS if it runs out later",
		NULL},
	{OPT_MEMORY_RESERVE, "memory-reserve", "SIZE",
		"refuse a region that would leave less memory than this (default: 256M)", NULL},
	{OPT_HUGE_PAGES, "huge-pages", "2M|1G", "memfd of huge pages (default: ordinary pages)",
		NULL},
	{OPT_NUMA_NODE, "numa-node", "NODE", "allocate on this NUMA node (default: any)", NULL},
	{OPT_REGION_MODE, "region-mode", "OCTAL", "permission of the memory object (default: 0600)",
		NULL},

	{'n', "vectors", "N", "interrupt vectors of each peer, 0 to 2048 (default: 1)", "Limits"},
	{OPT_MAX_PEERS, "max-peers", "N",
		"most peers at a time (default: what the limit of open descriptors carries, at "
		"most "
		"65536)",
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
	{0},
};

static const struct option_table table = {
	.program = "ivshmem-server",
	.synopsis = "[OPTION]...",
	.description = "Hand out IDs, a shared memory region and doorbells to ivshmem peers.",
	.epilogue = "Exit status: 0 after a clean end, 1 if it cannot start or go on, 2 for wrong "
		    "usage.\n"
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

static int set_region_option(struct config *config, int key, const char *argument)
{
	struct region_config *region = &config->region;
	uint64_t value;

	switch (key) {
	case 'l':
		if (option_size(&table, "-l", argument, &region->size) < 0)
			return -1;
		return region->size > 0 ? 0 : bad("-l", argument, "a region has at least one byte");
	case 'M':
		config->named = true;
		region->kind = REGION_SHM;
		region->name = argument;
		return 0;
	case 'm':
		config->named = true;
		region->kind = REGION_DIR;
		region->name = argument;
		return 0;
	case OPT_FILE:
		config->file_given = true;
		region->kind = REGION_FILE;
		region->name = argument;
		return 0;
	case OPT_REUSE:
		region->reuse = true;
		return 0;
	case OPT_NO_PREALLOC:
		region->no_prealloc = true;
		return 0;
	case OPT_MEMORY_RESERVE:
		config->reserve_given = true;
		return option_size(&table, "--memory-reserve", argument, &region->reserve);
	case OPT_HUGE_PAGES:
		if (parse_size(argument, &value) < 0 || (value != 2u << 20 && value != 1u << 30))
			return bad("--huge-pages", argument, "give 2M or 1G");
		region->huge_page = value;
		return 0;
	case OPT_NUMA_NODE:
		if (option_uint(&table, "--numa-node", argument, 0, 1023, &value) < 0)
			return -1;
		region->numa_node = (int)value;
		return 0;
	case OPT_REGION_MODE:
		return option_mode(&table, "--region-mode", argument, 1, 0666, &region->mode);
	}
	return 1;
}

static int set_limit_option(struct config *config, int key, const char *argument)
{
	struct server_config *server = &config->server;
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
		config->max_peers_given = true;
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
	case 'S':
		return option_socket(&table, "-S", argument, " (for POSIX memory: -M NAME)",
			config->socket_path);
	case OPT_SOCKET_MODE:
		return option_mode(
			&table, "--socket-mode", argument, 0, 0777, &config->listen.mode);
	case OPT_SOCKET_OWNER:
		return option_owner(&table, "--socket-owner", argument, &config->listen.uid,
			&config->listen.gid);
	case OPT_PROTOCOL:
		if (strcmp(argument, "current") == 0)
			config->server.format = &wire_current;
		else if (strcmp(argument, "pre-2.5") == 0)
			config->server.format = &wire_pre_2_5;
		else
			return bad("--protocol", argument, "give current or pre-2.5");
		return 0;
	case OPT_EXIT_TIMEOUT:
		error = option_uint(&table, "--exit-timeout", argument, 0, 600000, &value);
		config->exit_timeout_ms = (unsigned)value;
		return error;
	}
	return 1;
}

static int set_option(void *data, int key, const char *argument)
{
	struct config *config = data;
	int result = startup_option(&table, &config->startup, key, argument);
	if (result > 0)
		result = set_process_option(config, key, argument);
	if (result > 0)
		result = set_region_option(config, key, argument);
	if (result > 0)
		result = set_limit_option(config, key, argument);
	return result;
}

int config_parse(struct config *config, int argc, char **argv)
{
	*config = (struct config){
		.pid_file = "/var/run/ivshmem-server.pid",
		.socket_path = IVSHMEM_DEFAULT_SOCKET,
		.startup = STARTUP_CONFIG_INIT("ivshmem-server"),
		.listen = {.path = config->socket_path,
			.mode = 0600,
			.uid = (uid_t)-1,
			.gid = (gid_t)-1,
			.option = "-S",
			.owner_option = "--socket-owner",
			.what = "server"},
		.exit_timeout_ms = 1000,
		.region = {.reserve = REGION_DEFAULT_RESERVE, .numa_node = REGION_NUMA_ANY},
		.server = {.format = &wire_current, .vectors = 1, .stall_timeout_ms = 300000},
	};
	int next = options_parse(&table, argc, argv, set_option, config);
	if (next < 0)
		return -1;
	if (next < argc)
		return options_complain(
			&table, "%s: what is this? It takes options only", argv[next]);
	/* Of -M and -m the last one counts, as in contrib; what is ours is strict. */
	if (config->file_given && config->named)
		return options_complain(&table, "--file and -M or -m: a region has one place");
	if (config->region.no_prealloc && config->reserve_given)
		return options_complain(&table,
			"--memory-reserve and --no-prealloc: nothing is compared with the reserve "
			"if nothing is allocated");
	/* 0 stays for --file: the file's own size. */
	if (config->region.size == 0 && config->region.kind != REGION_FILE)
		config->region.size = UINT64_C(4) << 20;
	return 0;
}
