/* SPDX-License-Identifier: MIT */
/* probes - the events of a hub as probes (base/probe.h). */
#ifndef TOOLS_SERVER_PROBES_H
#define TOOLS_SERVER_PROBES_H

#include "hub/hub.h"

#ifdef IVSHMEM_PROBES
/* For as long as the hub lives. */
void probes_attach(struct hub *hub);
#else
static inline void probes_attach(struct hub *hub)
{
	(void)hub;
}
#endif

#endif
