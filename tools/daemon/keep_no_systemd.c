/* SPDX-License-Identifier: MIT */
/* In place of keep_systemd.c where there is no libsystemd. */
#include "daemon/keep_internal.h"

#include <errno.h>
#include <stdlib.h>

int systemd_open(struct keep *keep)
{
	if (getenv("NOTIFY_SOCKET"))
		log_warning(keep->log, "NOTIFY_SOCKET: this program was built without libsystemd");
	return 0;
}

int systemd_put(struct keep *keep, const char *held_as, int fd)
{
	(void)keep;
	(void)held_as;
	(void)fd;
	return -ENOTSUP;
}

void systemd_drop(struct keep *keep, const char *held_as)
{
	(void)keep;
	(void)held_as;
}

void systemd_ready(struct keep *keep)
{
	(void)keep;
}
