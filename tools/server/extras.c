/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. A keeper holds the control socket too, so that its clients wait in the
 * backlog while the server is started anew. Not systemd, with which the file goes when the server
 * is told to end.
 *
 * Who starts the server sees at once what is wrong with a path or a port. Nobody looks at a
 * restart, and peers are in: they must not suffer for a port that somebody has taken meanwhile. So
 * then it is said once, and tried again until it works.
 */
#include "extras.h"

#include "base/list.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define AGAIN_MS 3000

static void pass_on(struct log *log, enum log_level level, const char *line)
{
	struct extras *extras = container_of(log, struct extras, log);
	if (!extras->quiet || level != LOG_LEVEL_ERROR)
		log_line(extras->target, level, "%s", line);
}

void extras_init(struct extras *extras, struct keep *keep, struct log *log)
{
	*extras = (struct extras){
		.keep = keep,
		.log = {.level = log->level, .sink = pass_on},
		.target = log,
		.listener = LISTENER_INIT,
		.left = -1,
	};
	(void)keep_take(keep, "control", &extras->left, 1);
}

/* ---- the control socket ---- */

bool extras_was_on(const struct extras *extras, char path[SOCKET_PATH_SIZE], gid_t *group)
{
	struct stat st;

	if (extras->left < 0 || !listener_name(extras->left, path))
		return false;
	bool has_group = lstat(path, &st) == 0 && st.st_mode & S_IWGRP;
	*group = has_group ? st.st_gid : (gid_t)-1;
	return true;
}

static mode_t mode_of(const struct extras *extras)
{
	return extras->config.read_group == (gid_t)-1 ? 0600 : 0660;
}

/* Its file is ours to remove only if a keeper has held it: else it is a unit's. */
static bool adopt_left(struct extras *extras)
{
	struct listener *listener = &extras->listener;

	if (extras->left < 0 || !listener_adopt(listener, extras->left, extras->path))
		return false;
	extras->left = -1;
	if (keep_holder(extras->keep) != KEEP_KEEPER)
		listener->device = listener->inode = 0;
	else if (listener_permit(listener, mode_of(extras), (uid_t)-1, extras->config.read_group) <
		0)
		log_warning(extras->target, "control socket %s: cannot set its group and mode",
			extras->path);
	return true;
}

/* It is to be elsewhere now, or nowhere. */
static void drop_left(struct extras *extras)
{
	if (extras->left < 0)
		return;
	if (keep_holder(extras->keep) == KEEP_KEEPER)
		listener_discard(extras->left);
	else
		close(extras->left);
	extras->left = -1;
	keep_drop(extras->keep, "control");
}

static int open_listener(struct extras *extras)
{
	const struct listen_config config = {
		.path = extras->path,
		.mode = mode_of(extras),
		.uid = (uid_t)-1,
		.gid = extras->config.read_group,
		.option = "control socket",
		.owner_option = "control socket",
		.what = "server",
	};

	if (adopt_left(extras))
		return 0;
	drop_left(extras);
	if (listener_open(&extras->listener, &config, &extras->log) < 0)
		return -EADDRNOTAVAIL;
	if (keep_holder(extras->keep) != KEEP_KEEPER)
		return 0;
	return keep_put(extras->keep, "control", &extras->listener.fd, 1);
}

static int open_control(struct extras *extras)
{
	int error = open_listener(extras);
	if (error == 0)
		error = control_start(&extras->control, &extras->config, extras->listener.fd,
			extras->hub, extras->loop, extras->target);
	if (error == 0)
		return 0;
	log_error(&extras->log, "control socket %s: %s", extras->path, uv_strerror(error));
	listener_close(&extras->listener);
	keep_drop(extras->keep, "control");
	return error;
}

int extras_start_control(struct extras *extras, const char *path,
	const struct control_config *config, struct hub *hub, uv_loop_t *loop)
{
	extras->hub = hub;
	extras->loop = loop;
	extras->config = *config;
	snprintf(extras->path, sizeof(extras->path), "%s", path);
	if (path[0] != '\0')
		return open_control(extras);
	drop_left(extras);
	return 0;
}

bool extras_have_control(const struct extras *extras)
{
	return extras->control != NULL;
}

/* ---- metrics ---- */

int extras_start_metrics(struct extras *extras, const struct metrics_config *config,
	struct hub *hub, uv_loop_t *loop)
{
	extras->hub = hub;
	extras->loop = loop;
	extras->wanted = config;
	return metrics_start(&extras->metrics, config, hub, loop, &extras->log);
}

/* ---- again, and the end ---- */

static bool lacks_control(const struct extras *extras)
{
	return extras->path[0] != '\0' && !extras->control;
}

static bool lacks_metrics(const struct extras *extras)
{
	const struct metrics_config *wanted = extras->wanted;
	return wanted && (wanted->address || wanted->file) && !extras->metrics;
}

static void again_event(uv_timer_t *timer)
{
	struct extras *extras = timer->data;

	extras->quiet = true;
	if (lacks_control(extras) && open_control(extras) == 0)
		log_info(extras->target, "control socket %s: it is there now", extras->path);
	if (lacks_metrics(extras))
		(void)extras_start_metrics(extras, extras->wanted, extras->hub, extras->loop);
	extras->quiet = false;
	if (!lacks_control(extras) && !lacks_metrics(extras))
		uv_timer_stop(timer);
}

void extras_retry(struct extras *extras, uv_loop_t *loop)
{
	if (!lacks_control(extras) && !lacks_metrics(extras))
		return;
	if (!extras->has_timer)
		uv_timer_init(loop, &extras->again);
	extras->has_timer = true;
	extras->again.data = extras;
	uv_timer_start(&extras->again, again_event, AGAIN_MS, AGAIN_MS);
}

void extras_stop(struct extras *extras, bool last)
{
	metrics_stop(extras->metrics);
	if (extras->control)
		control_stop(extras->control);
	if (!last && keep_holder(extras->keep) == KEEP_KEEPER)
		extras->listener.device = extras->listener.inode = 0; /* the next one's */
	listener_close(&extras->listener);
	if (extras->left >= 0)
		close(extras->left);
	extras->left = -1;
	if (extras->has_timer)
		uv_close((uv_handle_t *)&extras->again, NULL);
}
