/* SPDX-License-Identifier: MIT */
/* ivshmem-server: puts region, listener, limits and loop together. */
#include "config.h"
#include "descriptors.h"
#include "loop.h"

#include "common/stdfds.h"
#include "daemon/daemon.h"
#include "daemon/listen.h"
#include "daemon/startup.h"

#include "base/parse.h"

#include <ivshmem/abi.h>

#include <errno.h>

static void describe_region(const struct region *region, struct log *log)
{
	char size[24];
	const char *warning = region_warning(region);

	format_size(region->size, size);
	if (region->kind == REGION_MEMFD)
		log_info(log,
			"region: %s in a sealed memfd (QEMU's contrib server would use the POSIX "
			"object "
			"\"ivshmem\"; -M ivshmem does so here)",
			size);
	else
		log_info(log, "region: %s", size);
	if (warning)
		log_warning(log, "%s", warning);
}

static void warn_of_options(const struct config *config, struct log *log)
{
	if (config->server.vectors > IVSHMEM_MAX_VECTORS_CONTRIB)
		log_warning(log,
			"-n %u: QEMU's contrib client and its flat device take %u vectors at most",
			config->server.vectors, IVSHMEM_MAX_VECTORS_CONTRIB);
	if (config->startup.foreground && config->pid_file_given)
		log_warning(log, "-p is for the daemon: there is no pid file with -F");
}

static int serve(struct config *config, struct startup *startup)
{
	struct log *log = &startup->log;
	struct region region = REGION_INIT;
	struct region_error why;
	struct listener listener = LISTENER_INIT;
	struct pid_file pid_file = PID_FILE_INIT;
	int result = -1;

	if (descriptors_settle(config, log) < 0)
		return -1;
	if (!config->startup.foreground && pid_file_open(&pid_file, config->pid_file, log) < 0)
		return -1;
	result = region_create(&region, &config->region, &why);
	if (result < 0) {
		log_error(log, "%s", why.text);
		goto close_pid_file;
	}
	result = -1;
	if (listener_open(&listener, &config->listen, log) < 0)
		goto close_region;
	/* Only now: who fails to start says one line, which is what is wrong. */
	log_info(log, "up to %u peers of %u vectors (%s)", config->server.max_peers,
		config->server.vectors,
		config->max_peers_given ? "--max-peers" : "what the limit of descriptors carries");
	describe_region(&region, log);
	warn_of_options(config, log);
	log_info(log, "listening on %s", config->socket_path);
	result = loop_serve(config, region.fd, &listener, startup);
	listener_close(&listener);

close_region:
	region_fini(&region);
close_pid_file:
	pid_file_close(&pid_file);
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
	if (startup_begin(&startup, &config.startup) < 0)
		return EXIT_STARTUP;
	int result = serve(&config, &startup);
	startup_end(&startup);
	if (result == -EINVAL)
		return EXIT_USAGE;
	return result == 0 ? 0 : EXIT_STARTUP;
}
