/* SPDX-License-Identifier: MIT */
/*
 * ivshmem-server: puts together start-up, loop, regions and control socket.
 *
 * Theory of operation. Whatever it serves, one region by command line or those of a file, is what
 * the hub is to be made (apply.h): at the start, after a SIGHUP, and when a new process goes on
 * with what an earlier one has left.
 */
#include "config.h"
#include "extras.h"
#include "file.h"
#include "hub/apply.h"
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

struct service {
	const struct config *config;
	struct startup *startup;
	struct log *log;
	uv_loop_t loop;
	struct keep *keep;
	struct hub *hub;
	struct signals signals;
	struct extras extras;
	bool resumed;   /* peers may be in who know nothing of a restart: so go on whatever is wrong
			 */
	bool file_read; /* it was right once; from then on its control section counts no more */
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

static int reload(void *data, char *reason);

/*
 * By the file if there is one. If it is wrong, nothing but the command line and what an earlier
 * process has left can say where; it must not come to be at the default's path.
 */
static int start_control(struct service *service, const struct file_config *file)
{
	char path[SOCKET_PATH_SIZE] = "";
	struct control_config config = {
		.read_group = (gid_t)-1,
		.max_clients = EXTRAS_CONTROL_CLIENTS,
		.reload = reload,
		.data = service,
	};

	if (file) {
		memcpy(path, file->control_path, sizeof(path));
		config.read_group = file->control_group;
		config.max_clients = file->control_clients;
	} else if (service->config->file) {
		(void)extras_was_on(&service->extras, path, &config.read_group);
	}
	if (service->config->control)
		snprintf(path, sizeof(path), "%s", service->config->control);
	return extras_start_control(&service->extras, path, &config, service->hub, &service->loop);
}

/* The file, before anything is made of it: 0 or -errno with `reason`, having said why. */
static int read_file(struct service *service, struct file_config *file, char *reason)
{
	struct complaints complaints = {.log = service->log, .first = reason};

	reason[0] = '\0';
	int error = file_read(file, service->config->file, complain, &complaints);
	if (error == -ENOMEM)
		snprintf(reason, REASON_SIZE, "out of memory");
	if (error < 0)
		return error;
	limit_users(service, file);
	if (!service->file_read)
		hub_set_aside(service->hub, file->control_clients + CONTROL_DESCRIPTORS);
	return 0;
}

/* The regions of the file, now or again. */
static int apply_file(struct service *service, const struct file_config *file, char *reason)
{
	int error = hub_apply(service->hub, file->regions, file->n, reason);

	/* After a restart with a wrong file this may be what was waited for. */
	if (!service->file_read && !extras_have_control(&service->extras) &&
		start_control(service, file) < 0)
		extras_retry(&service->extras, &service->loop);
	service->file_read = true;
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
	int error = read_file(service, &file, reason);
	if (error == 0)
		error = apply_file(service, &file, reason);
	file_config_fini(&file);
	if (error == 0)
		log_info(service->log, "%s read again: %u regions", service->config->file,
			hub_count(service->hub));
	else
		log_error(service->log, "%s: not all is as it says: %s", service->config->file,
			reason);
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
	signals_hold(); /* another one changes nothing */
	hub_get_totals(service->hub, &stats);
	log_info(service->log,
		"ended: %llu peers joined, %llu evicted, %llu refused, %llu messages sent",
		(unsigned long long)stats.joins, (unsigned long long)stats.evictions,
		(unsigned long long)stats.refusals, (unsigned long long)stats.messages);
}

/* Nobody looks at a restart as at a start: what cannot be now is tried again later. */
static int start_extras(struct service *service, const struct file_config *file)
{
	int error = start_control(service, file);
	if (error == 0 || service->resumed) {
		int second = extras_start_metrics(
			&service->extras, &service->config->metrics, service->hub, &service->loop);
		error = error < 0 ? error : second;
	}
	if (error == 0 || !service->resumed)
		return error;
	extras_retry(&service->extras, &service->loop);
	return 0;
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
		return service->resumed ? start_extras(service, NULL) : error;
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
	return start_extras(service, NULL);
}

/* `error`: of reading the file; then it is not looked at any more. */
static int serve_file(struct service *service, const struct file_config *file, int error)
{
	const char *path = service->config->file;
	char reason[REASON_SIZE];

	if (error < 0 && !service->resumed)
		return error;
	if (error < 0) {
		log_error(service->log,
			"%s: not used: going on with the %u regions of before until it is right "
			"and "
			"read again (SIGHUP)",
			path, hub_count(service->hub));
		return start_extras(service, NULL);
	}
	error = hub_apply(service->hub, file->regions, file->n, reason);
	service->file_read = true;
	/* One region that cannot be must not keep the others away. */
	if (error < 0 && hub_count(service->hub) == 0)
		return error;
	if (error < 0)
		log_error(service->log, "%s: not all is as it says: %s", path, reason);
	log_info(service->log, "%s: %u regions", path, hub_count(service->hub));
	return start_extras(service, file);
}

static int make_everything(struct service *service)
{
	const struct config *config = service->config;
	char reason[REASON_SIZE];
	struct file_config file;
	int file_error = 0;

	if (config->metrics.address || config->metrics.file)
		hub_set_aside(service->hub, METRICS_DESCRIPTORS);
	if (config->file) /* before peers come back for whom its limits hold */
		file_error = read_file(service, &file, reason);
	else if (config->control)
		hub_set_aside(service->hub, EXTRAS_CONTROL_CLIENTS + CONTROL_DESCRIPTORS);
	int error = hub_resume(service->hub);
	service->resumed = hub_count(service->hub) > 0;
	if (error < 0)
		error = -ESTALE;
	else if (config->file)
		error = serve_file(service, &file, file_error);
	else
		error = serve_single(service);
	if (config->file)
		file_config_fini(&file);
	return error;
}

/* All that it takes to serve; EXIT_SUCCESS once that is over. */
static int start_and_serve(struct service *service)
{
	int error = make_everything(service);
	/* What came during the start ends us the clean way, now. */
	if (error == 0)
		error = signals_start(&service->signals, &service->loop, signal_event, service);
	if (error == 0)
		serve(service);
	if (error == -ESTALE)
		return EXIT_STATE;
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
	};
	int result = EXIT_STARTUP;

	/* First, as long as the descriptors that we are passed are all that there is. */
	if (keep_open(&service.keep, service.log) < 0)
		return EXIT_STARTUP;
	extras_init(&service.extras, service.keep, service.log);
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
	/* A keeper ends after this: what has a file or a name would be in the way of the next. */
	if (result != EXIT_SUCCESS && !service.resumed)
		hub_undo(service.hub);
	extras_stop(&service.extras, result == EXIT_SUCCESS);
	hub_destroy(service.hub);
close_loop:
	watch_end(&service.loop);
close_keep:
	keep_close(service.keep);
	return result;
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
