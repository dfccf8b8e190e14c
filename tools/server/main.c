/* SPDX-License-Identifier: MIT */
/*
 * ivshmem-server: puts together start-up, loop, regions and control socket.
 *
 * Theory of operation. Whatever it serves, one region by command line or those of a file, is what
 * the hub is to be made (apply.h): at the start, after a SIGHUP, and when a new process goes on
 * with what an earlier one has left.
 */
#include "config.h"
#include "control/control.h"
#include "file.h"
#include "hub/apply.h"
#include "metrics/metrics.h"
#include "probes.h"
#include "sandbox.h"

#include "common/stdfds.h"
#include "daemon/daemon.h"
#include "daemon/keep.h"
#include "daemon/signals.h"
#include "daemon/watch.h"

#include "base/parse.h"
#include "region/guard.h"

#include <ivshmem/abi.h>

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* It cannot go on with what an earlier process has left, which stays held. */
enum { EXIT_STATE = 3 };

#define CONTROL_CLIENTS 32 /* without a file that says how many */

struct service {
	const struct config *config;
	struct startup *startup;
	struct log *log;
	uv_loop_t loop;
	struct keep *keep;
	struct hub *hub;
	struct signals signals;
	struct listener control_listener;
	int control_left; /* the one of an earlier process; -1: none */
	char control_path[SOCKET_PATH_SIZE];
	struct control *control;
	bool set_aside; /* descriptors for it */
	struct metrics *metrics;
	bool ending;
};

/* ---- the configuration ---- */

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

/* The one region of the command line. */
static int serve_single(struct service *service)
{
	const struct region_spec *wanted = &service->config->region;
	struct log *log = service->log;
	char reason[REASON_SIZE];

	int error = hub_apply(service->hub, wanted, 1, reason);
	if (error < 0)
		log_error(log, "%s", reason);
	struct hosted *hosted = hub_find(service->hub, wanted->name);
	if (!hosted)
		return error;
	/* Only now: who fails to start says one line, which is what is wrong. Or it is there as an
	 * earlier process has left it, and its peers do not suffer for a wrong option. */
	const struct region_spec *spec = hosted_spec(hosted);
	log_info(log, "up to %u peers of %u vectors (%s)", spec->server.max_peers,
		spec->server.vectors,
		spec->max_peers_given ? "--max-peers" : "what the limit of descriptors carries");
	describe_region(hosted_region(hosted), log);
	if (spec->server.vectors > IVSHMEM_MAX_VECTORS_CONTRIB)
		log_warning(log,
			"-n %u: QEMU's contrib client and its flat device take %u vectors at most",
			spec->server.vectors, IVSHMEM_MAX_VECTORS_CONTRIB);
	if (service->config->startup.foreground && service->config->pid_file_given)
		log_warning(log, "-p is for the daemon: there is no pid file with -F");
	log_info(log, "listening on %s", spec->socket_path);
	return 0;
}

struct complaints {
	struct log *log;
	char *first; /* REASON_SIZE bytes, or NULL */
};

static void complain(void *data, const char *line)
{
	struct complaints *complaints = data;
	log_error(complaints->log, "%s", line);
	if (complaints->first && complaints->first[0] == '\0')
		snprintf(complaints->first, REASON_SIZE, "%s", line);
}

/* What each user may take: the command line before the file. */
static void limit_users(struct service *service, const struct file_config *file)
{
	const struct config *config = service->config;
	struct users_limits limits = file->users;

	if (config->users_descriptors_given)
		limits.descriptors = config->hub.users.descriptors;
	if (config->users_queues_given)
		limits.queue_bytes = config->hub.users.queue_bytes;
	hub_set_users_limits(service->hub, &limits);
}

/* The regions of the file, now or again. */
static int load_file(struct service *service, struct file_config *file, char *reason)
{
	struct complaints complaints = {.log = service->log, .first = reason};

	reason[0] = '\0';
	int error = file_read(file, service->config->file, complain, &complaints);
	if (error == -ENOMEM)
		snprintf(reason, REASON_SIZE, "out of memory");
	if (error == 0)
		limit_users(service, file);
	if (!service->set_aside)
		hub_set_aside(service->hub, file->control_clients + CONTROL_DESCRIPTORS);
	service->set_aside = true;
	if (error == 0)
		error = hub_apply(service->hub, file->regions, file->n, reason);
	return error;
}

static int reload(void *data, char *reason)
{
	struct service *service = data;
	struct file_config file;

	if (!service->config->file) {
		snprintf(reason, REASON_SIZE,
			"there is no configuration file: the server was started without --config");
		return -EINVAL;
	}
	int error = load_file(service, &file, reason);
	file_config_fini(&file);
	if (error == 0)
		log_info(service->log, "%s read again: %u regions", service->config->file,
			hub_count(service->hub));
	else
		log_error(service->log, "%s: not all is as it says: %s", service->config->file,
			reason);
	return error;
}

/* ---- the control socket ---- */

/*
 * A keeper holds the control socket too, so that its clients wait in the backlog while the server
 * is started anew. Not systemd, with which the file goes when the server is told to end.
 */
static int open_control(struct service *service, const struct listen_config *config)
{
	struct listener *listener = &service->control_listener;

	if (service->control_left >= 0) {
		if (listener_adopt(listener, service->control_left, config->path))
			return 0;
		keep_drop(service->keep, "control"); /* is to be elsewhere now */
		close(service->control_left);
	}
	if (listener_open(listener, config, service->log) < 0)
		return -EADDRNOTAVAIL;
	if (keep_holder(service->keep) != KEEP_KEEPER)
		return 0;
	return keep_put(service->keep, "control", &listener->fd, 1);
}

static int start_control(
	struct service *service, const char *path, gid_t group, unsigned max_clients)
{
	const struct listen_config listen = {
		.path = service->control_path,
		.mode = group == (gid_t)-1 ? 0600 : 0660,
		.uid = (uid_t)-1,
		.gid = group,
		.option = "control socket",
		.owner_option = "control socket",
		.what = "server",
	};
	const struct control_config config = {
		.read_group = group,
		.max_clients = max_clients,
		.reload = reload,
		.data = service,
	};

	if (path[0] == '\0')
		return 0;
	snprintf(service->control_path, sizeof(service->control_path), "%s", path);
	int error = open_control(service, &listen);
	if (error == 0)
		error = control_start(&service->control, &config, service->control_listener.fd,
			service->hub, &service->loop, service->log);
	if (error < 0)
		log_error(service->log, "control socket %s: %s", path, uv_strerror(error));
	return error;
}

static int serve_file(struct service *service)
{
	const char *path = service->config->control;
	char reason[REASON_SIZE];
	struct file_config file;

	int error = load_file(service, &file, reason);
	/* One region that cannot be must not keep the others away. */
	if (error < 0 && hub_count(service->hub) > 0)
		error = 0;
	if (error == 0) {
		log_info(service->log, "%s: %u regions", service->config->file,
			hub_count(service->hub));
		error = start_control(service, path ? path : file.control_path, file.control_group,
			file.control_clients);
	}
	file_config_fini(&file);
	return error;
}

/* ---- life ---- */

static void ended(void *data)
{
	struct service *service = data;
	uv_stop(&service->loop);
}

static void signal_event(void *data, int number)
{
	struct service *service = data;
	char reason[REASON_SIZE];

	if (service->ending)
		return;
	if (number == SIGHUP && service->config->file) {
		(void)reload(service, reason);
		return;
	}
	service->ending = true;
	log_info(service->log, "signal %d: %s, ending", number,
		keep_holder(service->keep) == KEEP_SYSTEMD
			? "leaving all to systemd for the next process"
			: "telling the peers");
	hub_end(service->hub, ended, service);
}

static void serve(struct service *service)
{
	struct server_stats stats;

	hub_ready(service->hub);
	startup_ready(service->startup);
	uv_run(&service->loop, UV_RUN_DEFAULT);
	hub_get_totals(service->hub, &stats);
	log_info(service->log,
		"ended: %llu peers joined, %llu evicted, %llu refused, %llu messages sent",
		(unsigned long long)stats.joins, (unsigned long long)stats.evictions,
		(unsigned long long)stats.refusals, (unsigned long long)stats.messages);
}

/* Who has peers already goes on without. */
static int start_metrics(struct service *service, bool resumed)
{
	int error = metrics_start(&service->metrics, &service->config->metrics, service->hub,
		&service->loop, service->log);
	return resumed ? 0 : error;
}

/* All that it takes to serve; EXIT_SUCCESS once that is over. */
static int start_and_serve(struct service *service)
{
	const struct config *config = service->config;

	if (hub_resume(service->hub) < 0)
		return EXIT_STATE;
	bool resumed = hub_count(service->hub) > 0;
	if (!config->file && config->control)
		hub_set_aside(service->hub, CONTROL_CLIENTS + CONTROL_DESCRIPTORS);
	if (config->metrics.address || config->metrics.file)
		hub_set_aside(service->hub, METRICS_DESCRIPTORS);
	int error = config->file ? serve_file(service) : serve_single(service);
	if (error == 0 && !config->file && config->control)
		error = start_control(service, config->control, (gid_t)-1, CONTROL_CLIENTS);
	if (error == 0)
		error = start_metrics(service, resumed);
	/* What came during the start ends us the clean way, now. */
	if (error == 0)
		error = signals_start(&service->signals, &service->loop, signal_event, service);
	if (error == 0)
		serve(service);
	if (error == -EINVAL)
		return EXIT_USAGE;
	return error == 0 ? EXIT_SUCCESS : EXIT_STARTUP;
}

static int run(const struct config *config, struct startup *startup)
{
	struct service service = {
		.config = config,
		.startup = startup,
		.log = &startup->log,
		.control_listener = LISTENER_INIT,
		.control_left = -1,
	};
	int result = EXIT_STARTUP;

	/* First, as long as the descriptors that we are passed are all that there is. */
	if (keep_open(&service.keep, service.log) < 0)
		return EXIT_STARTUP;
	/* The hub lets go of what it does not know. */
	(void)keep_take(service.keep, "control", &service.control_left, 1);
	int error = uv_loop_init(&service.loop);
	if (error < 0) {
		log_error(service.log, "cannot start the event loop: %s", uv_strerror(error));
		goto close_keep;
	}
	error = hub_create(&service.hub, &config->hub, &service.loop, service.keep, service.log);
	if (error < 0) {
		log_error(service.log, "cannot start serving: %s", uv_strerror(error));
		goto close_loop;
	}
	probes_attach(service.hub);
	result = start_and_serve(&service);
	metrics_stop(service.metrics);
	if (service.control)
		control_stop(service.control);
	listener_close(&service.control_listener);
	hub_destroy(service.hub);
close_loop:
	watch_end(&service.loop);
close_keep:
	keep_close(service.keep);
	return result;
}

static int check(const struct config *config, struct log *log)
{
	struct complaints complaints = {.log = log};
	struct file_config file;

	int error = file_read(&file, config->file, complain, &complaints);
	if (error == 0)
		log_info(log, "%s: right, %zu regions", config->file, file.n);
	file_config_fini(&file);
	return error == 0 ? EXIT_SUCCESS : EXIT_USAGE;
}

static int confine_and_run(const struct config *config, struct startup *startup)
{
	const struct server_sandbox_config sandbox = {
		.user = config->user,
		.confine = config->sandbox,
		.serves_http = config->metrics.address != NULL,
		.resolves_names = config->file != NULL,
	};

	if (server_sandbox_enter(&sandbox, &startup->log) < 0)
		return EXIT_STARTUP;
	return run(config, startup);
}

int main(int argc, char **argv)
{
	struct pid_file pid_file = PID_FILE_INIT;
	struct config config;
	struct startup startup;
	int result = EXIT_STARTUP;

	if (stdfds_open() < 0)
		return EXIT_STARTUP;
#ifdef __GLIBC__
	/* Each region has tables of which hardly anything is ever touched. From the heap they would
	 * be cleared, and so be there. */
	mallopt(M_MMAP_THRESHOLD, 64 << 10);
#endif
	if (config_parse(&config, argc, argv) < 0)
		return EXIT_USAGE;
	if (config.check)
		config.startup.foreground = true;
	if (startup_begin(&startup, &config.startup) < 0)
		return EXIT_STARTUP;
	if (region_guard_install() < 0)
		log_warning(&startup.log, "cannot catch SIGBUS: %m");
	if (config.check) {
		result = check(&config, &startup.log);
	} else if (config.startup.foreground ||
		pid_file_open(&pid_file, config.pid_file, &startup.log) == 0) {
		result = confine_and_run(&config, &startup);
	}
	pid_file_close(&pid_file);
	startup_end(&startup);
	return result;
}
