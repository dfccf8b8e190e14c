/* SPDX-License-Identifier: MIT */
/* ivshmem-server: puts region, listener, limits and loop together. */
#include "config.h"
#include "daemon.h"
#include "descriptors.h"
#include "listen.h"
#include "loop.h"

#include "common/logsink.h"
#include "common/stdfds.h"

#include "base/parse.h"

#include <ivshmem/abi.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/*
 * Until it is ready, a daemon speaks to whoever started it; from then on to where its log goes. So
 * the log that everybody holds is one that passes lines on.
 */
struct switched_log {
	struct log log;
	struct log *target;
};

static void pass_on(struct log *log, enum log_level level, const char *line)
{
	struct log *target = ((struct switched_log *)log)->target;
	target->sink(target, level, line);
}

struct readiness {
	int fd; /* --ready-fd, or -1 */
	bool log_is_stderr;
	struct switched_log *log;
	struct log *target;
};

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

/*
 * Take --ready-fd over before anything else can get or lose its number: the log may be the same
 * descriptor, and a daemon lets go of 0, 1 and 2. Returns our own copy, or -1 if there is none.
 */
static int take_ready_fd(struct config *config)
{
	if (config->ready_fd < 0)
		return 0;
	int copy = fcntl(config->ready_fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (copy < 0) {
		fprintf(stderr, "ivshmem-server: --ready-fd %d: no such descriptor is open\n",
			config->ready_fd);
		return -1;
	}
	/* The reader waits for the end of file too, so ours must be the only one. */
	close(config->ready_fd);
	config->ready_fd = copy;
	return stdfds_open();
}

static void say_ready(void *data)
{
	const struct readiness *readiness = data;

	readiness->log->target = readiness->target;
	if (daemon_ready(readiness->log_is_stderr) < 0)
		raise(SIGTERM); /* whoever started us has given up: end the clean way */
	if (readiness->fd < 0)
		return;
	if (write(readiness->fd, "\n", 1) < 0)
		errno = 0; /* whoever waited is gone; that is no reason not to serve */
	close(readiness->fd);
}

static void warn_of_options(const struct config *config, struct log *log)
{
	if (config->server.vectors > IVSHMEM_MAX_VECTORS_CONTRIB)
		log_warning(log,
			"-n %u: QEMU's contrib client and its flat device take %u vectors at most",
			config->server.vectors, IVSHMEM_MAX_VECTORS_CONTRIB);
	if (config->foreground && config->pid_file_given)
		log_warning(log, "-p is for the daemon: there is no pid file with -F");
}

static int serve(struct config *config, struct readiness *readiness)
{
	struct log *log = &readiness->log->log;
	struct region region = REGION_INIT;
	struct region_error why;
	struct listener listener = LISTENER_INIT;
	struct pid_file pid_file = PID_FILE_INIT;
	int result = -1;

	if (descriptors_settle(config, log) < 0)
		return -1;
	if (!config->foreground && pid_file_open(&pid_file, config->pid_file, log) < 0)
		return -1;
	result = region_create(&region, &config->region, &why);
	if (result < 0) {
		log_error(log, "%s", why.text);
		goto close_pid_file;
	}
	result = -1;
	if (listener_open(&listener, config, log) < 0)
		goto close_region;
	/* Only now: who fails to start says one line, which is what is wrong. */
	log_info(log, "up to %u peers of %u vectors (%s)", config->server.max_peers,
		config->server.vectors,
		config->max_peers_given ? "--max-peers" : "what the limit of descriptors carries");
	describe_region(&region, log);
	warn_of_options(config, log);
	log_info(log, "listening on %s", config->socket_path);
	result = loop_serve(config, region.fd, &listener, say_ready, readiness, log);
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
	struct switched_log log = {.log = {.sink = pass_on}};

	if (stdfds_open() < 0)
		return EXIT_STARTUP;
	if (config_parse(&config, argc, argv) < 0)
		return EXIT_USAGE;
	if (take_ready_fd(&config) < 0)
		return EXIT_STARTUP;
	loop_hold_signals();
	const char *place = config.log_target;
	if (!place)
		place = config.foreground ? "stderr" : "syslog";
	struct log *startup = logsink_open(config.log_format, "stderr", "ivshmem-server");
	struct log *target = logsink_open(config.log_format, place, "ivshmem-server");
	if (!startup || !target)
		return EXIT_STARTUP;
	log.log.level = config.log_level;
	log.target = config.foreground ? target : startup;

	int result = config.foreground ? 0 : daemon_start(&log.log);
	if (result == 0)
		result = serve(&config,
			&(struct readiness){
				.fd = config.ready_fd,
				.log_is_stderr = strcmp(place, "stderr") == 0,
				.log = &log,
				.target = target,
			});
	logsink_close(startup);
	logsink_close(target);
	if (result == -EINVAL)
		return EXIT_USAGE;
	return result == 0 ? 0 : EXIT_STARTUP;
}
