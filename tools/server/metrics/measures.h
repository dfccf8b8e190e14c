/* SPDX-License-Identifier: MIT */
/* measures - which metrics there are, and what they are now. docs/observability.md lists them. */
#ifndef TOOLS_SERVER_METRICS_MEASURES_H
#define TOOLS_SERVER_METRICS_MEASURES_H

#include "hub/hub.h"
#include "openmetrics.h"
#include "process.h"

#include "server/backlog.h"

struct measures {
	const struct openmetrics_family *families;
	unsigned n;
};

/* Of each region, of each peer, of the process; a family is known by its index there. */
extern const struct measures region_measures, peer_measures, process_measures;

uint64_t measure_region(unsigned family, struct hosted *hosted);
uint64_t measure_peer(unsigned family, const struct server_load *load);

/* `descriptors`: so many are open. */
uint64_t measure_process(unsigned family, const struct process *process, unsigned descriptors);

#endif
