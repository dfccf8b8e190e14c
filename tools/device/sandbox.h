/* SPDX-License-Identifier: MIT */
/* Giving up what a process that only serves does not need. */
#ifndef TOOLS_DEVICE_SANDBOX_H
#define TOOLS_DEVICE_SANDBOX_H

#include "base/log.h"

#include <stdbool.h>

struct sandbox_config {
	const char *user; /* to become; NULL: stay */
	bool confine;     /* drop all capabilities, and allow only the system calls of serving.. */
	bool connects;    /* ..and of connecting from another thread */
};

/*
 * Final. Call once everything is open, before the loop is made and while there is one thread. 0, or
 * -1 after having said on `log` what is wrong.
 */
int sandbox_enter(const struct sandbox_config *config, struct log *log);

#endif
