/* SPDX-License-Identifier: MIT */
/* What the command line of ivshmem-server says, checked and with the defaults filled in. */
#ifndef TOOLS_SERVER_CONFIG_H
#define TOOLS_SERVER_CONFIG_H

#include "common/options.h"
#include "daemon/listen.h"
#include "daemon/startup.h"

#include "region/region.h"
#include "server/server.h"

#include <stdbool.h>

struct config {
	struct startup_config startup;
	struct listen_config listen;
	char socket_path[SOCKET_PATH_SIZE]; /* listen.path */
	bool pid_file_given;
	const char *pid_file;
	unsigned exit_timeout_ms;
	bool max_peers_given, reserve_given;
	bool file_given, named; /* --file; -M or -m */
	struct region_config region;
	struct server_config server;
};

/* Parse argv into `config`, which then stays where it is. 0, or -1 after having said on stderr what
 * is wrong. */
int config_parse(struct config *config, int argc, char **argv);

#endif
