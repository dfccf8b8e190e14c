/* SPDX-License-Identifier: MIT */
/* exposition - what the server measures, as text for a monitoring system: docs/observability.md. */
#ifndef TOOLS_SERVER_METRICS_EXPOSITION_H
#define TOOLS_SERVER_METRICS_EXPOSITION_H

#include "hub/hub.h"
#include "openmetrics.h"
#include "process.h"

struct exposition {
	struct hub *hub;
	bool peers; /* of each peer too, not only of each region */
	struct process process;
};

void exposition_init(struct exposition *exposition, struct hub *hub, bool peers);
void exposition_fini(struct exposition *exposition);

/* One reading of all of it. NULL without memory. */
struct exposition_reader;
struct exposition_reader *exposition_open(
	const struct exposition *exposition, enum openmetrics_dialect dialect);
void exposition_close(struct exposition_reader *reader);

/* The next bytes, as many as fit; 0: that was all. */
size_t exposition_read(struct exposition_reader *reader, char *bytes, size_t size);

#endif
