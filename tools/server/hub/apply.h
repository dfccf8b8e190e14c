/* SPDX-License-Identifier: MIT */
/* Make the hub what a configuration file says. */
#ifndef TOOLS_SERVER_HUB_APPLY_H
#define TOOLS_SERVER_HUB_APPLY_H

#include "hub.h"

/*
 * Create the regions that are missing, update those that are there. Those that were in the file
 * before and are not any more let nobody in, and go when the last peer has left. Regions that were
 * created at run time stay.
 *
 * 0, or -errno with the first mistake in `reason`; all are on the log. -EBUSY: something is to
 * change that cannot while peers are in; then nothing has changed. Any other error is one region's,
 * and the others are what they should be.
 */
int hub_apply(struct hub *hub, const struct region_spec *specs, size_t n, char *reason);

#endif
