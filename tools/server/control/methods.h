/* SPDX-License-Identifier: MIT */
/* methods - what can be called over the control socket: one call in, its answer out. No I/O. */
#ifndef TOOLS_SERVER_CONTROL_METHODS_H
#define TOOLS_SERVER_CONTROL_METHODS_H

#include "control.h"
#include "listing.h"

#include "varlink/varlink.h"

#include "base/loglimits.h"

/* Who calls, as the kernel knows it. */
struct caller {
	uid_t uid;
	pid_t pid;
	bool may_change; /* else: see */
};

struct methods {
	struct hub *hub;
	const struct control_config *config;
	struct log *log;
	struct log_limits denials; /* log lines */
};

struct answer {
	json_t *message;            /* to be sent first; NULL without memory */
	struct listing *listing;    /* what comes after it: listing_next(); NULL: nothing */
	bool watch;                 /* or after it: what happens, */
	char region[HUB_NAME_SIZE]; /* in this region; "": in all */
};

void methods_call(struct methods *methods, struct caller *caller, const struct varlink_call *call,
	struct answer *answer);

#endif
