/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. Until it is ready, a daemon speaks to whoever started it; from then on to
 * where its log goes. So the log that everybody holds is one that passes lines on.
 */
#include "daemon/startup.h"

#include "common/logsink.h"
#include "common/stdfds.h"
#include "daemon/daemon.h"
#include "daemon/signals.h"

#include "base/list.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void pass_on(struct log *log, enum log_level level, const char *line)
{
	struct log *target = container_of(log, struct startup, log)->current;
	target->sink(target, level, line);
}

/*
 * Take --ready-fd over before anything else can get or lose its number: the log may be the same
 * descriptor, and a daemon lets go of 0, 1 and 2. 0 or -1.
 */
static int take_ready_fd(struct startup *startup, const struct startup_config *config)
{
	if (config->ready_fd < 0)
		return 0;
	startup->ready_fd = fcntl(config->ready_fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (startup->ready_fd < 0) {
		fprintf(stderr, "%s: --ready-fd %d: no such descriptor is open\n", config->program,
			config->ready_fd);
		return -1;
	}
	/* The reader waits for the end of file too, so ours must be the only one. */
	close(config->ready_fd);
	return stdfds_open();
}

int startup_begin(struct startup *startup, const struct startup_config *config)
{
	const char *target = config->log_target;
	if (!target)
		target = config->foreground ? "stderr" : "syslog";

	*startup = (struct startup){
		.log = {.level = config->log_level, .sink = pass_on},
		.serving_is_stderr = strcmp(target, "stderr") == 0,
		.ready_fd = -1,
	};
	if (take_ready_fd(startup, config) < 0)
		goto fail;
	signals_hold();
	startup->starting = logsink_open(config->log_format, "stderr", config->program);
	startup->serving = logsink_open(config->log_format, target, config->program);
	if (!startup->starting || !startup->serving)
		goto fail;
	startup->current = config->foreground ? startup->serving : startup->starting;
	if (!config->foreground && daemon_start(&startup->log) < 0)
		goto fail;
	return 0;

fail:
	startup_end(startup);
	return -1;
}

void startup_ready(struct startup *startup)
{
	startup->current = startup->serving;
	if (daemon_ready(startup->serving_is_stderr) < 0)
		raise(SIGTERM); /* whoever started us has given up: end the clean way */
	if (startup->ready_fd < 0)
		return;
	/* Whoever waited may be gone; that is no reason not to serve. */
	ssize_t written = write(startup->ready_fd, "\n", 1);
	(void)written;
	close(startup->ready_fd);
	startup->ready_fd = -1;
}

void startup_end(struct startup *startup)
{
	logsink_close(startup->starting);
	logsink_close(startup->serving);
	if (startup->ready_fd >= 0)
		close(startup->ready_fd);
}
