/* SPDX-License-Identifier: MIT */
/* The command-line options that fill a struct startup_config, alike in all programs that serve. */
#ifndef TOOLS_DAEMON_STARTUP_OPTIONS_H
#define TOOLS_DAEMON_STARTUP_OPTIONS_H

#include "common/options.h"
#include "daemon/startup.h"

enum { STARTUP_LOG_FORMAT = OPTION_SHARED, STARTUP_LOG_TARGET, STARTUP_READY_FD };

/* Rows of an option table. `group` heads them or is NULL; `verbose` and `target` are help texts. */
#define STARTUP_OPTIONS(group, verbose, target)                                                    \
	{'v', "verbose", NULL, verbose, group},                                                    \
		{STARTUP_LOG_FORMAT, "log-format", "plain|json",                                   \
			"form of the log lines (default: plain)", NULL},                           \
		{STARTUP_LOG_TARGET, "log-target", "stderr|syslog", target, NULL},                 \
	{                                                                                          \
		STARTUP_READY_FD, "ready-fd", "FD",                                                \
			"write a newline to descriptor FD and close it when clients can connect",  \
			NULL                                                                       \
	}

/* Take one of them: 0, -1 after having said what is wrong, or 1 if the key is not one of these. */
int startup_option(const struct option_table *table, struct startup_config *config, int key,
	const char *argument);

#endif
