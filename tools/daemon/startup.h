/* SPDX-License-Identifier: MIT */
/*
 * How a program that serves comes up: descriptors, signals, log, going to the background, and
 * saying when clients can connect. The order of calls in main():
 *
 *   stdfds_open(), the command line, startup_begin(), whatever is to be served, startup_ready(),
 *   the loop, startup_end()
 */
#ifndef TOOLS_DAEMON_STARTUP_H
#define TOOLS_DAEMON_STARTUP_H

#include "base/log.h"

#include <stdbool.h>

/* Exit code of a program that cannot start or go on; see also EXIT_USAGE in common/options.h. */
enum { EXIT_STARTUP = 1 };

struct startup_config {
	const char *program;
	bool foreground; /* else become a daemon */
	enum log_level log_level;
	const char *log_format; /* "plain" or "json" */
	const char *log_target; /* "stderr", "syslog" or NULL: stderr if in the foreground */
	int ready_fd;           /* gets a newline and is closed once ready; -1: none */
};

#define STARTUP_CONFIG_INIT(name)                                                                  \
	{                                                                                          \
		.program = (name), .log_level = LOG_LEVEL_INFO, .log_format = "plain",             \
		.ready_fd = -1                                                                     \
	}

struct startup {
	struct log log; /* the program's log, as long as this lives */

	struct log *starting, *serving, *current; /* where its lines go: see startup.c */
	bool serving_is_stderr;
	int ready_fd; /* our own copy, -1: none */
};

/*
 * Take over --ready-fd, hold the signals back (signals.h), open the log, go to the background.
 * Call before anything else opens a descriptor. 0, or -1 after having said what is wrong; then
 * nothing is left to end.
 */
int startup_begin(struct startup *startup, const struct startup_config *config);

/* Clients can be served: let go of who waits for that, and switch the log over. */
void startup_ready(struct startup *startup);

void startup_end(struct startup *startup);

#endif
