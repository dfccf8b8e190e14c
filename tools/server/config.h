/* SPDX-License-Identifier: MIT */
/* What the command line of ivshmem-server says, checked and with the defaults filled in. */
#ifndef TOOLS_SERVER_CONFIG_H
#define TOOLS_SERVER_CONFIG_H

#include "base/log.h"
#include "region/region.h"
#include "server/server.h"

#include <limits.h>
#include <stdbool.h>

enum { EXIT_STARTUP = 1, EXIT_USAGE = 2 };

struct config {
	bool foreground, pid_file_given;
	const char *pid_file;
	char socket_path[PATH_MAX];
	mode_t socket_mode;
	uid_t socket_uid; /* (uid_t)-1: leave it */
	gid_t socket_gid; /* (gid_t)-1: leave it */
	enum log_level log_level;
	const char *log_format,
		*log_target; /* target NULL: stderr in the foreground, else syslog */
	int ready_fd;        /* -1: none */
	unsigned exit_timeout_ms;
	bool max_peers_given, reserve_given;
	bool file_given, named; /* --file; -M or -m */
	struct region_config region;
	struct server_config server;
};

/* Parse argv into `config`. 0, or -1 after having said on stderr what is wrong. */
int config_parse(struct config *config, int argc, char **argv);

#endif
