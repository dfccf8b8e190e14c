/* SPDX-License-Identifier: MIT */
/*
 * extras - what the server offers besides its regions: the control socket and metrics. A server
 * that has peers already goes on without them, and tries again.
 */
#ifndef TOOLS_SERVER_EXTRAS_H
#define TOOLS_SERVER_EXTRAS_H

#include "control/control.h"
#include "metrics/metrics.h"

#include "daemon/keep.h"
#include "daemon/listen.h"

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

struct extras {
	struct hub *hub;
	struct keep *keep;
	uv_loop_t *loop;
	uv_timer_t again; /* while something is missing */
	bool has_timer;

	struct log log, *target; /* ours passes on all but what has been said before */
	bool quiet;

	char path[SOCKET_PATH_SIZE]; /* of the control socket; "": there is to be none */
	struct control_config config;
	struct listener listener;
	struct control *control;
	int left; /* the socket of an earlier process; -1: none */

	const struct metrics_config *wanted; /* NULL: none */
	struct metrics *metrics;
};

#define EXTRAS_CONTROL_CLIENTS 32 /* unless somebody says how many */

/* Takes over what an earlier process has left of it; before the hub lets go of what it does not
 * know. */
void extras_init(struct extras *extras, struct keep *keep, struct log *log);

/* Where is the control socket that an earlier process has left, and which group may read? False:
 * there is none. */
bool extras_was_on(const struct extras *extras, char path[SOCKET_PATH_SIZE], gid_t *group);

/* Listen at `path`, nowhere if it is "". 0 or -errno, having said why. */
int extras_start_control(struct extras *extras, const char *path,
	const struct control_config *config, struct hub *hub, uv_loop_t *loop);
bool extras_have_control(const struct extras *extras);

/* The same for metrics; the configuration is borrowed. */
int extras_start_metrics(struct extras *extras, const struct metrics_config *config,
	struct hub *hub, uv_loop_t *loop);

/* What could not be started is tried again every few seconds, without a word until it works. */
void extras_retry(struct extras *extras, uv_loop_t *loop);

/* `last`: nobody goes on with what a keeper holds. */
void extras_stop(struct extras *extras, bool last);

#endif
