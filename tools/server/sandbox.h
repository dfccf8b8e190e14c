/* SPDX-License-Identifier: MIT */
/* What the server may still do: see daemon/sandbox.h. */
#ifndef TOOLS_SERVER_SANDBOX_H
#define TOOLS_SERVER_SANDBOX_H

#include "base/log.h"

#include <stdbool.h>

struct server_sandbox_config {
	const char *user;    /* to become; NULL: stay */
	bool confine;        /* few capabilities, and only the system calls of serving.. */
	bool serves_http;    /* ..and TCP sockets */
	bool resolves_names; /* of users and groups, later on */
};

/* Final, as sandbox_enter(). Call before anything is opened but the log. */
int server_sandbox_enter(const struct server_sandbox_config *config, struct log *log);

#endif
