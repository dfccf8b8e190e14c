/* SPDX-License-Identifier: MIT */
/* What a process that only serves virtual machines may still do: see daemon/sandbox.h. */
#ifndef TOOLS_DEVICE_SANDBOX_H
#define TOOLS_DEVICE_SANDBOX_H

#include "base/log.h"

#include <stdbool.h>

struct device_sandbox_config {
	const char *user; /* to become; NULL: stay */
	bool confine;     /* no capabilities, and only the system calls of serving.. */
	bool connects;    /* ..and of connecting from another thread.. */
	bool holds;       /* ..and of being held (holding.h).. */
	bool controlled;  /* ..and of having a control socket */
};

/* Final, as sandbox_enter(). Call once everything is open. */
int device_sandbox_enter(const struct device_sandbox_config *config, struct log *log);

#endif
