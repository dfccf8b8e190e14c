/* SPDX-License-Identifier: MIT */
/* Going to the background, the pid file, and saying when we are ready. */
#ifndef TOOLS_DAEMON_DAEMON_H
#define TOOLS_DAEMON_DAEMON_H

#include "base/log.h"

#include <stdbool.h>
#include <sys/types.h>

/*
 * Fork. The parent stays until the child has called daemon_ready() and exits with 0, or with the
 * child's exit status if it ends before that; so whoever started it can rely on either a server
 * that takes clients or an error message. In the child: 0, a new session; -1 if it cannot fork.
 */
int daemon_start(struct log *log);

/* Let the parent go and leave the terminal (standard error only if it is not the log). -1 if the
 * parent was killed while it waited: nobody wants this daemon any more. Does nothing without
 * daemon_start(). */
int daemon_ready(bool keep_stderr);

struct pid_file {
	int fd; /* -1: none */
	const char *path;
};

#define PID_FILE_INIT                                                                              \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/* Create or take over `path`, lock it for our life, write our process ID. 0 or -1 (said on `log`).
 */
int pid_file_open(struct pid_file *file, const char *path, struct log *log);
void pid_file_close(struct pid_file *file);

#endif
