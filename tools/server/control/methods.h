/* SPDX-License-Identifier: MIT */
/* methods - what can be called over the control socket: one call in, its answer out. No I/O. */
#ifndef TOOLS_SERVER_CONTROL_METHODS_H
#define TOOLS_SERVER_CONTROL_METHODS_H

#include "capture.h"
#include "control.h"
#include "listing.h"

#include "hub/bells.h"

#include "varlink/varlink.h"

#include "base/loglimits.h"

/* Who calls, as the kernel knows it; and what it has between its calls. */
struct caller {
	uid_t uid;
	pid_t pid;
	bool may_change; /* else: see */
	struct bells
		*bells; /* the doorbells that it has asked for, or NULL; the control's to stop */
};

struct methods {
	struct hub *hub;
	const struct control_config *config;
	struct log *log;
	struct log_limits denials; /* log lines */
	unsigned n_captures;       /* that are going on */
};

struct answer {
	json_t *message;            /* to be sent first; NULL without memory */
	int descriptor;             /* goes with it; -1: none; the region's */
	struct listing *listing;    /* what comes after it: listing_next(); NULL: nothing */
	struct capture *capture;    /* or after it: all of this; NULL: nothing */
	bool watch;                 /* or after it: what happens, */
	char region[HUB_NAME_SIZE]; /* in this region; "": in all */
};

void methods_call(struct methods *methods, struct caller *caller, const struct varlink_call *call,
	struct answer *answer);

#endif
