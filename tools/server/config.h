/* SPDX-License-Identifier: MIT */
/* What the command line of ivshmem-server says, checked and with the defaults filled in. */
#ifndef TOOLS_SERVER_CONFIG_H
#define TOOLS_SERVER_CONFIG_H

#include "hub/hub.h"
#include "metrics/metrics.h"

#include "common/options.h"
#include "daemon/startup.h"

#include <stdbool.h>

struct config {
	struct startup_config startup;
	bool pid_file_given;
	const char *pid_file;
	const char *file;    /* --config; NULL: one region, by these options */
	bool check;          /* only say whether the file is right */
	const char *control; /* path of the control socket; NULL: not given */
	const char *user;    /* to become; NULL: stay */
	bool sandbox;
	struct hub_config hub;
	struct metrics_config metrics;
	struct region_spec region; /* without --config */

	bool users_descriptors_given, users_queues_given; /* of hub.users */

	/* While it is parsed. */
	const char *region_option; /* the first option that is the region's, NULL: none */
	bool reserve_given, interval_given;
	bool file_given, named; /* --file; -M or -m */
};

/* Parse argv into `config`. 0, or -1 after having said on stderr what is wrong. */
int config_parse(struct config *config, int argc, char **argv);

#endif
